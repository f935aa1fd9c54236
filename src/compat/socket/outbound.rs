//! Frames on their way to one SDK client, in one order.
//!
//! **The barrier.** The SDK listens for what follows an answer only after it has handled the answer, and its library hands
//! out all frames of one read at once. So after such an answer a ping is sent, and the client's notifications wait until
//! its pong shows that the answer was read. Answers never wait.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A client that answers no ping for this long gets its notifications all the same.
pub(super) const HELD_FOR: Duration = Duration::from_secs(2);
/// Notifications that may wait for one client; one more ends it: it comes back and asks for everything anew.
pub(super) const MAX_WAITING: usize = 8_192;
/// The same in bytes.
pub(super) const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;
/// Past this who can wait should (see [`Outbound::room`]): output of shells is in their buffers still.
const CROWDED_BYTES: usize = 1024 * 1024;

/// One thing to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Message(Bytes),
    /// With its number.
    Ping(u64),
    /// The answer to a heartbeat.
    Alive,
}

/// What the socket's writer finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Frames(Vec<Frame>),
    /// Everything before it was given; end the socket with this code and reason.
    Close(u16, &'static str),
}

#[derive(Debug, Default)]
struct Waiting {
    ready: VecDeque<Frame>,
    /// Notifications behind a barrier, each with the ping that must be answered first.
    held: VecDeque<(u64, Bytes)>,
    /// Numbers of pings, from 1.
    last_ping: u64,
    /// Pings that are not answered yet, and until when they are waited for.
    pings: VecDeque<(u64, Instant)>,
    notified: usize,
    notified_bytes: usize,
    /// Of answers too, which are bounded by what a client may have under way.
    bytes: usize,
    close: Option<(u16, &'static str)>,
}

impl Waiting {
    /// Lets go what waited for pings up to this one.
    fn answered(&mut self, ping: u64) {
        while self.pings.front().is_some_and(|(number, _)| *number <= ping) {
            self.pings.pop_front();
        }
        while let Some((_, frame)) = self.held.pop_front_if(|(behind, _)| *behind <= ping) {
            self.ready.push_back(Frame::Message(frame));
        }
    }
}

/// See the module's docs.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    waiting: Mutex<Waiting>,
    something: Notify,
    taken: Notify,
}

impl Outbound {
    /// An answer. `holds`: what is notified from here on waits until the client has read it.
    pub(super) fn answer(&self, frame: Vec<u8>, holds: bool) {
        {
            let mut waiting = self.waiting.lock();
            waiting.bytes += frame.len();
            waiting.ready.push_back(Frame::Message(frame.into()));
            if holds {
                waiting.last_ping += 1;
                let ping = waiting.last_ping;
                waiting.ready.push_back(Frame::Ping(ping));
                waiting.pings.push_back((ping, Instant::now() + HELD_FOR));
            }
        }
        self.something.notify_one();
    }

    /// An answer that stays behind the notifications before it.
    pub(super) fn in_line(&self, frame: Bytes) {
        {
            let mut waiting = self.waiting.lock();
            waiting.bytes += frame.len();
            match waiting.held.back().map(|(ping, _)| *ping) {
                Some(ping) => waiting.held.push_back((ping, frame)),
                None => waiting.ready.push_back(Frame::Message(frame)),
            }
        }
        self.something.notify_one();
    }

    /// A notification.
    pub(super) fn notify(&self, frame: Bytes) {
        {
            let mut waiting = self.waiting.lock();
            if waiting.close.is_some() {
                return;
            }
            waiting.bytes += frame.len();
            waiting.notified += 1;
            waiting.notified_bytes += frame.len();
            let is_crowded = waiting.notified_bytes > MAX_WAITING_BYTES && waiting.notified > 1;
            if waiting.notified > MAX_WAITING || is_crowded {
                waiting.close = Some((1013, "it does not take what it is sent; come back"));
            } else if let Some((ping, _)) = waiting.pings.back().copied() {
                waiting.held.push_back((ping, frame));
            } else {
                waiting.ready.push_back(Frame::Message(frame));
            }
        }
        self.something.notify_one();
    }

    /// The answer to a heartbeat.
    pub(super) fn alive(&self) {
        let mut waiting = self.waiting.lock();
        // One says as much as many.
        if !waiting.ready.contains(&Frame::Alive) {
            waiting.ready.push_back(Frame::Alive);
        }
        drop(waiting);
        self.something.notify_one();
    }

    /// The client has answered a ping.
    pub(super) fn pong(&self, payload: &[u8]) {
        if let Ok(number) = payload.try_into() {
            self.waiting.lock().answered(u64::from_be_bytes(number));
            self.something.notify_one();
        }
    }

    /// Ends the socket once all that waits is written, what is held back too. The first call decides.
    pub(super) fn close(&self, code: u16, reason: &'static str) {
        self.waiting.lock().close.get_or_insert((code, reason));
        self.something.notify_one();
    }

    /// Waits while much waits for the client.
    pub(super) async fn room(&self) {
        self.below(CROWDED_BYTES).await;
    }

    /// Waits while so much waits that the client should not ask for more: this bounds answers.
    pub(super) async fn room_to_read(&self) {
        self.below(MAX_WAITING_BYTES).await;
    }

    async fn below(&self, bytes: usize) {
        loop {
            let taken = self.taken.notified();
            tokio::pin!(taken);
            // Before the look, or what is taken between the two would be missed.
            taken.as_mut().enable();
            {
                let waiting = self.waiting.lock();
                if waiting.close.is_some() || waiting.bytes < bytes {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Waits until there is something to write. Cancel-safe.
    pub(super) async fn next(&self) -> Next {
        loop {
            let until = {
                let mut waiting = self.waiting.lock();
                if waiting.close.is_some() {
                    waiting.answered(u64::MAX);
                }
                let now = Instant::now();
                while let Some((ping, _)) = waiting.pings.front().copied().filter(|(_, until)| *until <= now)
                {
                    waiting.answered(ping);
                }
                if !waiting.ready.is_empty() {
                    waiting.notified = waiting.held.len();
                    waiting.bytes = waiting.held.iter().map(|(_, frame)| frame.len()).sum();
                    waiting.notified_bytes = waiting.bytes;
                    let frames = waiting.ready.drain(..).collect();
                    drop(waiting);
                    self.taken.notify_waiters();
                    return Next::Frames(frames);
                }
                if let Some((code, reason)) = waiting.close {
                    drop(waiting);
                    self.taken.notify_waiters();
                    return Next::Close(code, reason);
                }
                // Only what is held back needs waking.
                waiting.pings.front().map(|(_, until)| *until).filter(|_| !waiting.held.is_empty())
            };
            match until {
                Some(until) => drop(tokio::time::timeout_at(until, self.something.notified()).await),
                None => self.something.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &'static str) -> Frame {
        Frame::Message(Bytes::from_static(text.as_bytes()))
    }

    fn say(out: &Outbound, text: &'static str) {
        out.notify(Bytes::from_static(text.as_bytes()));
    }

    async fn frames(out: &Outbound) -> Vec<Frame> {
        match out.next().await {
            Next::Frames(frames) => frames,
            Next::Close(..) => Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_follows_an_answer_waits_until_the_answer_was_read() {
        let out = Outbound::default();
        say(&out, "before");
        out.answer(b"answer".to_vec(), true);
        say(&out, "out");
        out.answer(b"other".to_vec(), false);
        assert_eq!(
            frames(&out).await,
            [message("before"), message("answer"), Frame::Ping(1), message("other")]
        );
        out.answer(b"second".to_vec(), true);
        say(&out, "exit");
        assert_eq!(frames(&out).await, [message("second"), Frame::Ping(2)]);
        out.pong(&7_u32.to_be_bytes());
        out.pong(&1_u64.to_be_bytes());
        assert_eq!(frames(&out).await, [message("out")]);
        out.pong(&2_u64.to_be_bytes());
        assert_eq!(frames(&out).await, [message("exit")]);
        // An answer that counts what was told before it does not overtake it.
        out.answer(b"watching".to_vec(), true);
        say(&out, "operation");
        out.in_line(Bytes::from_static(b"applied"));
        assert_eq!(frames(&out).await, [message("watching"), Frame::Ping(3)]);
        out.pong(&3_u64.to_be_bytes());
        assert_eq!(frames(&out).await, [message("operation"), message("applied")]);
        // Nobody waits for ever for a client that answers no ping.
        out.answer(b"third".to_vec(), true);
        say(&out, "late");
        frames(&out).await;
        let before = Instant::now();
        assert_eq!(frames(&out).await, [message("late")]);
        assert!(before.elapsed() >= HELD_FOR);
    }

    #[tokio::test]
    async fn a_socket_ends_after_what_was_said() {
        let out = Outbound::default();
        out.answer(b"answer".to_vec(), true);
        say(&out, "system/hibernate");
        out.close(1000, "bye");
        say(&out, "too late");
        let (said, ping) = (frames(&out).await, Frame::Ping(1));
        assert_eq!(said, [message("answer"), ping, message("system/hibernate")]);
        assert_eq!(out.next().await, Next::Close(1000, "bye"));
    }

    #[tokio::test]
    async fn who_takes_nothing_is_ended_and_who_can_wait_waits() {
        let out = Outbound::default();
        for _ in 0..MAX_WAITING {
            say(&out, "x");
        }
        assert_eq!(frames(&out).await.len(), MAX_WAITING);
        out.notify(vec![0; CROWDED_BYTES].into());
        let room = out.room();
        tokio::pin!(room);
        assert!(futures_util::poll!(&mut room).is_pending());
        frames(&out).await;
        room.await;
        for _ in 0..=MAX_WAITING {
            say(&out, "x");
        }
        assert_eq!(frames(&out).await.len(), MAX_WAITING);
        assert!(matches!(out.next().await, Next::Close(1013, _)));
    }
}
