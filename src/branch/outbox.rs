//! Frames on their way to one socket, bounded.
//!
//! Documents push, the socket's task takes all that waits and writes it at once. A full outbox never blocks a
//! document and never loses an edit: the frames of the document that overflowed are dropped and it is marked stale;
//! once the socket has drained, its task asks the document for one diff (see `documents.md`, slow readers).

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::OnceLock;
use tokio::sync::Notify;

/// Frames that may wait on one socket.
pub const MAX_FRAMES: usize = 256;
/// Bytes that may wait on one socket before a document is marked stale; a single diff may be larger.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Names one document on one socket.
pub type Channel = u32;

/// Why a socket is closed, as WebSocket close code and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// 1013 and 45xx: come back; 44xx: final.
    pub code: u16,
    /// Short text for people; at most 123 bytes go on the wire.
    pub reason: String,
}

/// How a push went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It will be written; `was_empty`: everything pushed before has been taken by the socket.
    Queued {
        /// See above.
        was_empty: bool,
    },
    /// It was written, behind everything pushed before.
    Written,
    /// The outbox was full: this channel's frames are gone, it is now stale.
    Stale,
}

/// What a socket's task finds.
#[derive(Debug, Default)]
pub struct Taken {
    /// To be written in this order, then flushed once; may be none, when there is only something to flush.
    pub frames: Vec<Bytes>,
    /// Channels that need a diff after these frames are written.
    pub stale: Vec<Channel>,
    /// Set once: write the frames, then close.
    pub close: Option<Close>,
}

/// How a frame was written past the socket's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// All of it.
    All,
    /// A part; the task's next flush writes the rest.
    Part,
    /// Nothing.
    Nothing,
}

/// Writes frames to a socket whose task has nothing to do.
pub trait AtOnce: std::fmt::Debug + Send + Sync {
    /// Writes a frame [with its header](framed), if that can be begun without waiting.
    fn write(&self, framed: &Bytes) -> Wrote;
}

/// Bytes of the largest frame that is written at once.
pub const MAX_AT_ONCE: usize = 16 * 1024;

/// A binary frame of at most [`MAX_AT_ONCE`] bytes with the header that a server's has on the wire (RFC 6455, 5.2).
#[must_use]
pub fn framed(payload: &[u8]) -> Bytes {
    const WHOLE_BINARY: u8 = 0x82;
    let mut framed = Vec::with_capacity(4 + payload.len());
    framed.push(WHOLE_BINARY);
    match u8::try_from(payload.len()) {
        Ok(len) if len < 126 => framed.push(len),
        _ => {
            framed.push(126);
            framed.extend(u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    framed.extend(payload);
    framed.into()
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(Channel, Bytes)>,
    bytes: usize,
    /// Those among the frames that are answers, and their bytes.
    answers: usize,
    answer_bytes: usize,
    stale: Vec<Channel>,
    /// Taken as stale, their diff not made yet: what is pushed until then is part of it.
    owed: Vec<Channel>,
    close: Option<Close>,
    /// The task has written all that it took.
    is_written: bool,
    /// A frame was begun that the task's flush is to end.
    is_begun: bool,
}

impl Waiting {
    fn needs_diff(&self, channel: Channel) -> bool {
        self.stale.contains(&channel) || self.owed.contains(&channel)
    }
}

/// See the module's docs.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    something: Notify,
    /// The socket has taken what waited.
    taken: Notify,
    at_once: OnceLock<Box<dyn AtOnce>>,
}

impl Outbox {
    /// Hands over a frame that a later diff can replace.
    pub fn push(&self, channel: Channel, frame: Bytes) -> Pushed {
        let pushed = {
            let mut waiting = self.waiting.lock();
            if waiting.needs_diff(channel) {
                return Pushed::Stale;
            }
            let full = waiting.frames.len() >= MAX_FRAMES || waiting.bytes + frame.len() > MAX_BYTES;
            if full && !waiting.frames.is_empty() {
                waiting.frames.retain(|(of, _)| *of != channel);
                waiting.bytes = waiting.frames.iter().map(|(_, frame)| frame.len()).sum();
                waiting.stale.push(channel);
                Pushed::Stale
            } else {
                let was_empty = waiting.frames.is_empty();
                waiting.bytes += frame.len();
                waiting.frames.push_back((channel, frame));
                Pushed::Queued { was_empty }
            }
        };
        self.something.notify_one();
        pushed
    }

    /// As [`Outbox::push`], and writes the frame at once where nothing waits: the caller's system call, in place of waking
    /// the task that would make it. `framed`: the frame with its header.
    pub fn push_at_once(&self, channel: Channel, frame: &Bytes, framed: &Bytes) -> Pushed {
        if let Some(at_once) = self.at_once.get() {
            let mut waiting = self.waiting.lock();
            let is_free = waiting.is_written && waiting.frames.is_empty() && waiting.close.is_none();
            let wrote =
                if is_free && !waiting.needs_diff(channel) { at_once.write(framed) } else { Wrote::Nothing };
            if wrote == Wrote::Part {
                waiting.is_begun = true;
                drop(waiting);
                self.something.notify_one();
            }
            if wrote != Wrote::Nothing {
                return Pushed::Written;
            }
        }
        self.push(channel, frame.clone())
    }

    /// The task has written, and flushed, all that it took; it can be spared from now on.
    pub fn written(&self, at_once: impl FnOnce() -> Option<Box<dyn AtOnce>>) {
        if self.at_once.get().is_none() {
            let Some(at_once) = at_once() else { return };
            let _ = self.at_once.set(at_once);
        }
        self.waiting.lock().is_written = true;
    }

    /// Hands over a frame that must arrive: an answer to something the socket sent. They are bounded by not reading a
    /// socket that does not take its answers, see [`Outbox::room`].
    pub fn answer(&self, frame: Bytes) {
        {
            let mut waiting = self.waiting.lock();
            waiting.bytes += frame.len();
            waiting.answers += 1;
            waiting.answer_bytes += frame.len();
            waiting.frames.push_back((Channel::MAX, frame));
        }
        self.something.notify_one();
    }

    /// Closes the socket after what waits was written. The first call decides.
    pub fn close(&self, code: u16, reason: impl Into<String>) {
        self.waiting.lock().close.get_or_insert(Close { code, reason: reason.into() });
        self.something.notify_one();
    }

    /// Whether so many answers wait that the socket should not be read for now.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.answers >= MAX_FRAMES || waiting.answer_bytes > MAX_BYTES
    }

    /// Waits while it is crowded. One task may wait.
    pub async fn room(&self) {
        while self.is_crowded() {
            self.taken.notified().await;
        }
    }

    /// Marks a channel as in need of a diff.
    pub fn mark_stale(&self, channel: Channel) {
        {
            let mut waiting = self.waiting.lock();
            if !waiting.needs_diff(channel) {
                waiting.stale.push(channel);
            }
        }
        self.something.notify_one();
    }

    /// Drops what waits for a channel that left the socket, or whose diff holds all of it.
    pub fn forget(&self, channel: Channel) {
        let mut waiting = self.waiting.lock();
        waiting.frames.retain(|(of, _)| *of != channel);
        waiting.bytes = waiting.frames.iter().map(|(_, frame)| frame.len()).sum();
        waiting.stale.retain(|of| *of != channel);
        waiting.owed.retain(|of| *of != channel);
    }

    /// Waits until there is something, then takes all of it. Cancel-safe: nothing is taken before it returns.
    pub async fn take(&self) -> Taken {
        loop {
            {
                let mut waiting = self.waiting.lock();
                let is_begun = std::mem::take(&mut waiting.is_begun);
                if is_begun
                    || !waiting.frames.is_empty()
                    || !waiting.stale.is_empty()
                    || waiting.close.is_some()
                {
                    waiting.is_written = false;
                    waiting.bytes = 0;
                    let stale = std::mem::take(&mut waiting.stale);
                    waiting.owed.extend_from_slice(&stale);
                    waiting.answers = 0;
                    waiting.answer_bytes = 0;
                    self.taken.notify_one();
                    return Taken {
                        frames: waiting.frames.drain(..).map(|(_, frame)| frame).collect(),
                        stale,
                        close: waiting.close.take(),
                    };
                }
            }
            self.something.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_overflowing_channel_is_dropped_and_marked_the_other_stays() {
        let outbox = Outbox::default();
        outbox.push(2, Bytes::from_static(b"other"));
        for _ in 0..MAX_FRAMES {
            outbox.push(1, Bytes::from_static(b"x"));
        }
        assert_eq!(outbox.push(1, Bytes::from_static(b"x")), Pushed::Stale);
        outbox.answer(Bytes::from_static(b"ack"));
        let taken = outbox.take().await;
        assert_eq!(taken.frames, ["other", "ack"]);
        assert_eq!(taken.stale, [1]);
        // Had this been queued, its connection would have counted as up to date before the diff was made, and the diff
        // would have lacked what was dropped.
        assert_eq!(outbox.push(1, Bytes::from_static(b"y")), Pushed::Stale);
        outbox.forget(1);
        assert_eq!(outbox.push(1, Bytes::from_static(b"y")), Pushed::Queued { was_empty: true });
    }

    /// Writes as told, and keeps what it was given.
    #[derive(Debug)]
    struct Written(Mutex<Vec<Wrote>>, std::sync::Arc<Mutex<Vec<Bytes>>>);

    impl AtOnce for Written {
        fn write(&self, frame: &Bytes) -> Wrote {
            let wrote = self.0.lock().pop().unwrap();
            if wrote != Wrote::Nothing {
                self.1.lock().push(frame.clone());
            }
            wrote
        }
    }

    #[tokio::test]
    async fn frames_are_written_at_once_only_where_nothing_else_is_on_its_way() {
        let outbox = Outbox::default();
        let push = |text: &'static str| {
            let frame = Bytes::from_static(text.as_bytes());
            outbox.push_at_once(1, &frame, &frame)
        };
        let went = std::sync::Arc::<Mutex<Vec<Bytes>>>::default();
        push("before the socket said that it can");
        assert_eq!(outbox.take().await.frames.len(), 1);
        let answers = vec![Wrote::Part, Wrote::Nothing, Wrote::All];
        outbox.written(|| Some(Box::new(Written(Mutex::new(answers), went.clone()))));
        push("a");
        assert_eq!(*went.lock(), ["a"]);
        // Not ready: the task brings it, and what comes behind it too.
        push("b");
        push("c");
        assert_eq!(outbox.take().await.frames, ["b", "c"]);
        // Taken, and not yet written.
        push("d");
        assert_eq!(outbox.take().await.frames, ["d"]);
        outbox.written(|| None);
        // Begun: the task is woken to end it, and until then nothing is written past it.
        assert_eq!(push("e"), Pushed::Written);
        assert_eq!(*went.lock(), ["a", "e"]);
        assert!(outbox.take().await.frames.is_empty());
        push("f");
        assert_eq!(outbox.take().await.frames, ["f"]);
        // Answers, what is owed and the end go before.
        outbox.written(|| None);
        outbox.mark_stale(1);
        assert_eq!(push("in the diff"), Pushed::Stale);
        outbox.take().await;
        outbox.forget(1);
        outbox.written(|| None);
        outbox.close(1000, "");
        push("behind the end");
        assert_eq!(went.lock().len(), 2);
    }

    #[tokio::test]
    async fn a_socket_that_takes_no_answers_is_not_read() {
        let outbox = Outbox::default();
        outbox.room().await;
        for _ in 0..MAX_FRAMES {
            outbox.answer(Bytes::from_static(b"x"));
        }
        let room = outbox.room();
        tokio::pin!(room);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), &mut room).await.is_err());
        outbox.take().await;
        room.await;
        for _ in 0..MAX_FRAMES {
            outbox.push(1, Bytes::from_static(b"x"));
        }
        outbox.room().await;
    }

    #[test]
    fn one_frame_larger_than_the_bound_passes_when_nothing_waits() {
        let outbox = Outbox::default();
        let big = Bytes::from(vec![0; MAX_BYTES + 1]);
        assert_eq!(outbox.push(1, big.clone()), Pushed::Queued { was_empty: true });
        assert_eq!(outbox.push(1, big), Pushed::Stale);
    }
}
