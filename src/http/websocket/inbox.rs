//! The half of a socket that is read.

use super::UNIT;
use super::budget::{Budgets, Share};
use super::pieces::Flow;
use super::upgrade::WebSocket;
use crate::base::BranchId;
use futures_util::stream::SplitStream;
use futures_util::{Stream, StreamExt};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::{self, Message};
use tracing::info;

/// A socket that answers no ping for this long is dropped.
pub(crate) const SILENT_FOR: Duration = Duration::from_secs(60);

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For its next message, and for one that holds room to be whole.
    silent: Duration,
    /// For the next 64 KiB of a message whose room others wait for.
    stalled: Duration,
}

const PATIENCE: Patience = Patience { silent: SILENT_FOR, stalled: Duration::from_secs(15) };

/// Bytes that a message takes beside its payload, more or less.
const OVERHEAD: usize = 8;

/// Why there is no further message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other end is gone, said nothing for too long, or stopped amid a message.
    Gone,
    /// It brought more than 64 KiB before it was admitted.
    TooMuch,
}

/// Messages as they come in, as far as there is room for them; the module's docs have the rules. Dropped, it gives back what
/// it holds, so it should be dropped after the half that is written to: the two have one buffer.
#[derive(Debug)]
pub(crate) struct Inbox<S = SplitStream<WebSocket>> {
    stream: S,
    flow: Arc<Flow>,
    budgets: Budgets,
    /// There once it was admitted.
    share: Option<Share>,
    /// Bytes of the messages before.
    early: usize,
    /// The last message is whole and may not have been handed on yet.
    is_whole: bool,
    half: Option<Half>,
    patience: Patience,
}

/// A message that holds room.
#[derive(Debug)]
struct Half {
    /// It must be whole by then.
    until: Instant,
    /// And have brought what there is room for by then, if others wait.
    look_at: Instant,
}

impl<S> Inbox<S>
where
    S: Stream<Item = tungstenite::Result<Message>> + Unpin,
{
    pub(super) fn new(stream: S, flow: Arc<Flow>, budgets: Budgets) -> Self {
        Self { stream, flow, budgets, share: None, early: 0, is_whole: false, half: None, patience: PATIENCE }
    }

    /// The client has shown that it may come in: from now on its messages are bounded by the branch's budget. Before, all of
    /// them together have 64 KiB.
    pub(crate) fn admit(&mut self, branch: &BranchId) {
        self.share.get_or_insert_with(|| self.budgets.share(branch));
    }

    /// The next message, pings and pongs included. Asking for it tells that the one before was handed on. Cancel-safe.
    ///
    /// # Errors
    /// [`Ended`]; nothing comes after it.
    pub(crate) async fn next(&mut self) -> Result<Message, Ended> {
        self.handed_on();
        let silent = Instant::now() + self.patience.silent;
        loop {
            let until = self.half.as_ref().map_or(silent, |half| half.until.min(half.look_at));
            let read = poll_fn(|context| match self.stream.poll_next_unpin(context) {
                Poll::Pending if self.flow.is_used_up() => Poll::Ready(None),
                polled => polled.map(Some),
            });
            match timeout_at(until, read).await {
                Ok(Some(Some(Ok(message)))) => return self.came(message),
                Ok(Some(_)) => return Err(Ended::Gone),
                Ok(None) => self.make_room().await?,
                Err(_) => self.wait_on()?,
            }
        }
    }

    /// Gives back what the last message held; for who will not ask for the next one at once.
    pub(crate) fn handed_on(&mut self) {
        if std::mem::take(&mut self.is_whole) {
            self.flow.set(UNIT);
            if let (Some(_), Some(share)) = (self.half.take(), &mut self.share) {
                share.give_back();
            }
        }
    }

    fn came(&mut self, message: Message) -> Result<Message, Ended> {
        // These may come amid a message.
        self.is_whole = !matches!(message, Message::Ping(_) | Message::Pong(_));
        if self.share.is_none() {
            self.early += message.len() + OVERHEAD;
            if self.early > UNIT {
                return Err(Ended::TooMuch);
            }
        }
        Ok(message)
    }

    /// Room for another unit of the message that comes in.
    async fn make_room(&mut self) -> Result<(), Ended> {
        let share = self.share.as_mut().ok_or(Ended::TooMuch)?;
        let began = Instant::now();
        share.draw().await;
        let now = Instant::now();
        let half = self.half.get_or_insert(Half { until: began + self.patience.silent, look_at: now });
        // Not its sender's fault.
        half.until += now - began;
        half.look_at = now + self.patience.stalled;
        self.flow.set(UNIT);
        Ok(())
    }

    /// Nothing whole came for a while: goes on waiting, unless it has been too long.
    fn wait_on(&mut self) -> Result<(), Ended> {
        let (Some(half), Some(share)) = (&mut self.half, &self.share) else { return Err(Ended::Gone) };
        let now = Instant::now();
        if now >= half.until || share.is_wanted() {
            info!("a message was not whole in time");
            return Err(Ended::Gone);
        }
        half.look_at = now + self.patience.stalled;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::pieces::Pieces;
    use super::*;
    use bytes::Bytes;
    use futures_util::{FutureExt, SinkExt};
    use proptest::prelude::*;
    use std::pin::pin;
    use tokio::io::{AsyncWriteExt, DuplexStream};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

    const MAX_FRAME: usize = 1024 * 1024;

    const NEVER: Duration = Duration::from_secs(3_600);

    type Client = WebSocketStream<DuplexStream>;

    fn budgets(branch_units: usize, units: usize) -> Budgets {
        Budgets::new((branch_units * UNIT) as u64, (units * UNIT) as u64)
    }

    /// A client, and what perch reads of it.
    async fn pair(budgets: &Budgets) -> (Client, Inbox<WebSocketStream<Pieces<DuplexStream>>>) {
        let (near, far) = tokio::io::duplex(4 * 1024);
        let flow = Flow::new();
        let pieces = Pieces::new(far, Arc::clone(&flow), MAX_FRAME);
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
        let stream = WebSocketStream::from_raw_socket(pieces, Role::Server, Some(config)).await;
        let client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        (client, Inbox::new(stream, flow, budgets.clone()))
    }

    fn message(len: usize) -> Message {
        // Not of a period that a piece is a multiple of.
        Message::Binary((0..len).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>().into())
    }

    /// A part of a message; the first one, or the last one.
    fn part(len: usize, is_first: bool, is_last: bool) -> Message {
        let kind = if is_first { Data::Binary } else { Data::Continue };
        Message::Frame(Frame::message(Bytes::from(vec![7; len]), OpCode::Data(kind), is_last))
    }

    /// Sends what makes no whole message, while it is read.
    async fn half(client: &mut Client, inbox: &mut Inbox<impl SocketStream>, parts: Vec<Message>) {
        let send = async {
            for part in parts {
                client.send(part).await.unwrap();
            }
        };
        let mut next = pin!(inbox.next());
        tokio::select! {
            biased;
            message = &mut next => panic!("{message:?}"),
            () = send => {}
        }
        // What lies in the duplex.
        assert!(next.now_or_never().is_none());
    }

    trait SocketStream: Stream<Item = tungstenite::Result<Message>> + Unpin {}
    impl<S: Stream<Item = tungstenite::Result<Message>> + Unpin> SocketStream for S {}

    #[tokio::test]
    async fn what_people_type_waits_for_nobody() {
        let budgets = budgets(1, 1);
        let branch = BranchId::generate();
        let mut all = [budgets.share(&branch), budgets.share(&branch)];
        for share in &mut all {
            share.draw().await;
        }
        let (mut client, mut inbox) = pair(&budgets).await;
        inbox.admit(&branch);
        for len in [0, 1, 125, 126, 4_096, UNIT - 1, UNIT] {
            let (sent, came) = tokio::join!(client.send(message(len)), inbox.next());
            sent.unwrap();
            assert_eq!(came, Ok(message(len)));
        }
        assert_eq!(budgets.held_bytes(), 2 * UNIT, "nothing was drawn");
        // The control: one byte more.
        let mut next = pin!(inbox.next());
        tokio::select! {
            biased;
            came = &mut next => panic!("{came:?}"),
            sent = client.send(message(UNIT + 1)) => sent.unwrap(),
        }
        assert!(next.as_mut().now_or_never().is_none());
        assert!(all[0].is_wanted());
    }

    #[tokio::test]
    async fn a_message_holds_its_room_until_it_was_handed_on() {
        let budgets = budgets(100, 100);
        let (mut client, mut inbox) = pair(&budgets).await;
        inbox.admit(&BranchId::generate());
        let (sent, came) = tokio::join!(client.send(message(10 * UNIT)), inbox.next());
        sent.unwrap();
        assert_eq!(came, Ok(message(10 * UNIT)));
        assert_eq!(budgets.held_bytes(), 9 * UNIT);
        inbox.handed_on();
        assert_eq!(budgets.held_bytes(), 0);
        half(&mut client, &mut inbox, vec![part(3 * UNIT - 1, true, false)]).await;
        assert_eq!(budgets.held_bytes(), 2 * UNIT);
        drop(inbox);
        assert_eq!(budgets.held_bytes(), 0, "given back by one that is dropped amid a message");
    }

    /// Their senders' last bytes come only once others could go on.
    #[tokio::test]
    async fn half_messages_that_hold_all_room_do_not_wait_for_each_other_for_ever() {
        let budgets = budgets(2, 3);
        let (one, other) = (BranchId::generate(), BranchId::generate());
        let mut all = Vec::new();
        for branch in [&one, &one, &one, &other, &other] {
            let (mut client, mut inbox) = pair(&budgets).await;
            inbox.admit(branch);
            all.push(async move {
                let send = async {
                    client.send(part(5 * UNIT, true, false)).await.unwrap();
                    client.send(part(5 * UNIT, false, true)).await.unwrap();
                    client
                };
                let (client, came) = tokio::join!(send, inbox.next());
                drop(client);
                came.map(|message| message.len())
            });
        }
        let came = futures_util::future::join_all(all).await;
        assert!(came.iter().all(|came| *came == Ok(10 * UNIT)), "{came:?}");
        assert_eq!(budgets.held_bytes(), 0);
    }

    #[tokio::test]
    async fn senders_that_stop_amid_a_message_hold_up_nobody_for_long() {
        let budgets = budgets(2, 2);
        let branch = BranchId::generate();
        let mut stopped = Vec::new();
        for _ in 0..4 {
            let (mut client, mut inbox) = pair(&budgets).await;
            inbox.admit(&branch);
            inbox.patience = Patience { silent: NEVER, stalled: Duration::from_millis(50) };
            stopped.push(async move {
                let send = async {
                    let _ = client.send(part(4 * UNIT, true, false)).await;
                    client
                };
                let (_open, ended) = tokio::join!(send, inbox.next());
                ended
            });
        }
        let (mut client, mut inbox) = pair(&budgets).await;
        inbox.admit(&branch);
        let honest = async {
            let (sent, came) = tokio::join!(client.send(message(8 * UNIT)), inbox.next());
            sent.unwrap();
            assert_eq!(came, Ok(message(8 * UNIT)));
            inbox.handed_on();
        };
        // Those that nobody waits for any more may stay.
        tokio::select! {
            () = futures_util::future::join_all(stopped).then(|_| std::future::pending::<()>()) => {}
            () = honest => {}
        }
        assert_eq!(budgets.held_bytes(), 0);
    }

    #[tokio::test]
    async fn a_message_has_a_minute_where_nobody_waits_whatever_comes_between() {
        let budgets = budgets(100, 100);
        let (mut client, mut inbox) = pair(&budgets).await;
        inbox.admit(&BranchId::generate());
        let silent = Duration::from_millis(500);
        inbox.patience = Patience { silent, stalled: silent / 10 };
        let began = Instant::now();
        half(&mut client, &mut inbox, vec![part(2 * UNIT - 100, true, false)]).await;
        let drip = async {
            // Each comes in time by itself, and the pings are messages of their own.
            loop {
                tokio::time::sleep(silent / 10).await;
                let _ = client.send(Message::Ping(Bytes::new())).await;
                let _ = client.send(part(1, false, false)).await;
            }
        };
        let read = async {
            loop {
                match inbox.next().await {
                    Ok(Message::Ping(_)) => assert_eq!(budgets.held_bytes(), UNIT),
                    ended => return ended,
                }
            }
        };
        let ended = tokio::select! {
            never = drip => never,
            ended = read => ended,
        };
        assert_eq!(ended, Err(Ended::Gone));
        assert!(began.elapsed() >= silent, "others would have had to wait for it");
    }

    #[tokio::test]
    async fn before_it_is_admitted_a_socket_has_64_kib_in_all() {
        let ways: [Vec<Message>; 3] = [
            vec![message(UNIT + 1)],
            (0..1_000).map(|_| message(100)).collect(),
            (0..1_000).map(|n| part(100, n == 0, false)).collect(),
        ];
        for way in ways {
            let (mut client, mut inbox) = pair(&budgets(100, 100)).await;
            let send = async {
                for message in way {
                    if client.send(message).await.is_err() {
                        return;
                    }
                }
            };
            let read = async {
                loop {
                    if let Err(ended) = inbox.next().await {
                        drop(inbox);
                        return ended;
                    }
                }
            };
            assert_eq!(tokio::join!(read, send).0, Ended::TooMuch);
        }
    }

    #[tokio::test]
    async fn frames_that_are_too_long_are_refused_by_their_header() {
        let budgets = budgets(100, 100);
        let (mut client, mut inbox) = pair(&budgets).await;
        inbox.admit(&BranchId::generate());
        client.send(message(MAX_FRAME + 1)).now_or_never();
        assert_eq!(inbox.next().await, Err(Ended::Gone));
        assert_eq!(budgets.held_bytes(), 0);
    }

    /// tungstenite looks at most of these only once it has the whole frame.
    #[tokio::test]
    async fn large_frames_that_no_client_may_send_end_at_their_first_piece() {
        let length = [0, 0, 0, 0, 0, 8, 0, 0];
        for head in [[0x82, 127], [0x89, 0xff], [0x83, 0xff], [0xc2, 0xff], [0x80, 0xff]] {
            let (mut client, mut inbox) = pair(&budgets(100, 100)).await;
            inbox.admit(&BranchId::generate());
            let raw = client.get_mut();
            let send = async {
                let frame = [&head[..], &length, &vec![0; 20 * 1024]].concat();
                let _ = raw.write_all(&frame).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                ended = inbox.next() => assert_eq!(ended, Err(Ended::Gone), "{head:?}"),
                () = send => {}
            }
        }
    }

    /// Whoever sends what, in frames of whatever size: all of it arrives as it was sent, and never more is held than the
    /// budget and one message.
    async fn all_arrives(plan: Vec<(bool, Vec<Vec<usize>>)>) {
        const UNITS: usize = 3;
        let budgets = budgets(2, UNITS);
        let branches = [BranchId::generate(), BranchId::generate()];
        let most =
            plan.iter().flat_map(|(_, messages)| messages).map(|parts| parts.iter().sum::<usize>()).max();
        let bound = (UNITS + most.unwrap_or(0) / UNIT + 1) * UNIT;
        let mut all = Vec::new();
        for (which, messages) in plan {
            let (mut client, mut inbox) = pair(&budgets).await;
            inbox.admit(&branches[usize::from(which)]);
            let (wanted, budgets) = (messages.clone(), &budgets);
            all.push(async move {
                let send = async {
                    for parts in messages {
                        let last = parts.len() - 1;
                        for (n, len) in parts.into_iter().enumerate() {
                            client.send(part(len, n == 0, n == last)).await.unwrap();
                            client.send(Message::Ping(Bytes::from_static(b"between"))).await.unwrap();
                        }
                    }
                };
                let read = async {
                    for parts in wanted {
                        let whole = loop {
                            let mut next = pin!(inbox.next());
                            let watched = poll_fn(|context| {
                                let polled = next.as_mut().poll(context);
                                assert!(budgets.held_bytes() <= bound, "{} of {bound}", budgets.held_bytes());
                                polled
                            });
                            match watched.await.unwrap() {
                                Message::Ping(_) => {}
                                whole => break whole,
                            }
                        };
                        let expected = vec![7; parts.iter().sum()];
                        assert!(whole.into_data() == expected, "{} bytes", expected.len());
                    }
                    inbox.handed_on();
                };
                tokio::join!(send, read);
            });
        }
        futures_util::future::join_all(all).await;
        assert_eq!(budgets.held_bytes(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn whatever_is_sent_arrives_within_the_budget(
            plan in prop::collection::vec(
                (any::<bool>(), prop::collection::vec(prop::collection::vec(0..150_000_usize, 1..4), 1..4)),
                1..7,
            )
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(all_arrives(plan));
        }
    }
}
