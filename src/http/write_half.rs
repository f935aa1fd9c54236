//! The half of a connection that is written.
//!
//! A WebSocket is written by a task of its own, and a frame that goes that way to 200 readers wakes 200 tasks, each to make
//! one system call. So whoever has a frame for a socket on which nothing waits may write it [at once](WriteHalf::write_frame).
//! Both write whole frames: tungstenite hands over its whole buffer each time, which ends with a frame, so a frame is half
//! out exactly when less than that was taken.

use crate::branch::Wrote;
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedWriteHalf;

/// See the module's docs. Cheap to clone; the connection is over once its reader [has gone](WriteHalf::end).
#[derive(Clone, Debug)]
pub struct WriteHalf(Arc<Mutex<Out>>);

#[derive(Debug)]
struct Out {
    half: Option<OwnedWriteHalf>,
    /// Whether frames may be written past the socket's task.
    is_shared: bool,
    /// A frame of the socket's task is half out.
    is_within: bool,
    /// What is still to be written of a frame that was not the task's.
    rest: Bytes,
}

impl WriteHalf {
    /// The half of a connection on which HTTP is spoken, for now.
    #[must_use]
    pub fn new(half: OwnedWriteHalf) -> Self {
        let out = Out { half: Some(half), is_shared: false, is_within: false, rest: Bytes::new() };
        Self(Arc::new(Mutex::new(out)))
    }

    /// From now on only WebSocket frames are written.
    pub(super) fn share(&self) {
        self.0.lock().is_shared = true;
    }

    /// Closes the half, whoever else has it.
    pub fn end(&self) {
        self.0.lock().half = None;
    }

    /// Writes a frame with its header, if that can be begun without waiting.
    pub(super) fn write_frame(&self, framed: &Bytes) -> Wrote {
        let mut out = self.0.lock();
        let Out { half: Some(half), is_shared: true, is_within: false, rest } = &mut *out else {
            return Wrote::Nothing;
        };
        if !rest.is_empty() {
            return Wrote::Nothing;
        }
        match half.try_write(framed) {
            Ok(written) if written == framed.len() => Wrote::All,
            Ok(written) => {
                *rest = framed.slice(written..);
                Wrote::Part
            }
            // The socket's task meets the error too, where it is one.
            Err(_) => Wrote::Nothing,
        }
    }

    /// Writes by the socket's task, after what is left of a frame that was not its own.
    fn poll(
        &self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut OwnedWriteHalf>, &mut Context<'_>) -> Poll<io::Result<usize>>,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let mut out = self.0.lock();
        ready!(out.poll_rest(context))?;
        let written = ready!(write(out.half()?, context))?;
        out.is_within = written < len;
        Poll::Ready(Ok(written))
    }
}

impl Out {
    fn half(&mut self) -> io::Result<Pin<&mut OwnedWriteHalf>> {
        self.half.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let Self { half: Some(half), rest, .. } = self else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let written = ready!(Pin::new(half).poll_write(context, rest))?;
            rest.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(context, |half, context| half.poll_write(context, bytes), bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = parts.iter().map(|part| part.len()).sum();
        self.poll(context, |half, context| half.poll_write_vectored(context, parts), len)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.0.lock();
        ready!(out.poll_rest(context))?;
        out.half()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().half()?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::branch::{MAX_AT_ONCE, framed};
    use futures_util::{SinkExt, StreamExt};
    use proptest::prelude::*;
    use std::time::Duration;
    use tokio::io::AsyncRead;
    use tokio::net::tcp::OwnedReadHalf;
    use tokio::net::{TcpSocket, TcpStream};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    struct Both(OwnedReadHalf, WriteHalf);

    impl AsyncRead for Both {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Both {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.1).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.1).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.1).poll_shutdown(context)
        }
    }

    /// A socket whose kernel buffers hold little, as a server has it, and its client.
    async fn socket() -> (WebSocketStream<Both>, WriteHalf, WebSocketStream<TcpStream>) {
        let listening = TcpSocket::new_v4().unwrap();
        listening.set_send_buffer_size(4_096).unwrap();
        listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listening.listen(1).unwrap();
        let coming = TcpSocket::new_v4().unwrap();
        coming.set_recv_buffer_size(4_096).unwrap();
        let (came, taken) = tokio::join!(coming.connect(listener.local_addr().unwrap()), listener.accept());
        let (read, write) = taken.unwrap().0.into_split();
        let half = WriteHalf::new(write);
        let server = WebSocketStream::from_raw_socket(Both(read, half.clone()), Role::Server, None).await;
        let client = WebSocketStream::from_raw_socket(came.unwrap(), Role::Client, None).await;
        (server, half, client)
    }

    #[tokio::test]
    async fn nothing_is_written_before_it_is_shared_or_after_its_end() {
        let (server, half, mut client) = socket().await;
        let frame = Bytes::from_static(b"at once");
        let framed = framed(&frame);
        assert_eq!(half.write_frame(&framed), Wrote::Nothing);
        half.share();
        while half.write_frame(&framed) == Wrote::Nothing {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary(frame.clone()));
        half.end();
        assert_eq!(half.write_frame(&framed), Wrote::Nothing);
        assert!(!matches!(client.next().await, Some(Ok(_))), "the other end sees it");
        drop(server);
    }

    #[derive(Clone, Debug)]
    enum Step {
        AtOnce(usize),
        ByTask(usize),
        Ping,
        Read(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let len = || prop_oneof![0_usize..200, 100_usize..140, 1_000_usize..MAX_AT_ONCE];
        let step = prop_oneof![
            3 => len().prop_map(Step::AtOnce),
            2 => len().prop_map(Step::ByTask),
            1 => Just(Step::Ping),
            2 => (1_usize..4).prop_map(Step::Read),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whoever writes, and however little the other end takes: each frame arrives whole and once, those of either way
        /// in their order.
        #[test]
        fn frames_of_both_ways_arrive_whole(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut server, half, mut client) = socket().await;
                server.send(Message::Ping(Bytes::new())).await.unwrap();
                half.share();
                let (mut sent, mut came): ([Vec<Bytes>; 2], [Vec<Bytes>; 2]) = Default::default();
                let payload = |way: u8, number: usize, len: usize| {
                    let mut bytes = vec![way];
                    bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
                    bytes.resize(len.max(5), way);
                    Bytes::from(bytes)
                };
                let mut take = |message: Message| if let Message::Binary(bytes) = message {
                    came[usize::from(bytes[0])].push(bytes);
                };
                for step in steps {
                    match step {
                        Step::AtOnce(len) => {
                            let frame = payload(0, sent[0].len(), len);
                            if half.write_frame(&framed(&frame)) != Wrote::Nothing {
                                sent[0].push(frame);
                            }
                        }
                        Step::ByTask(len) => {
                            let frame = payload(1, sent[1].len(), len);
                            // Given up half way, as often as not.
                            let fed = server.feed(Message::Binary(frame.clone()));
                            if tokio::time::timeout(Duration::ZERO, fed).await.is_ok() {
                                sent[1].push(frame);
                                let _ = tokio::time::timeout(Duration::ZERO, server.flush()).await;
                            }
                        }
                        Step::Ping => {
                            let sent = server.send(Message::Ping(Bytes::new()));
                            let _ = tokio::time::timeout(Duration::ZERO, sent).await;
                        }
                        Step::Read(count) => for _ in 0..count {
                            let next = tokio::time::timeout(Duration::from_millis(1), client.next()).await;
                            if let Ok(Some(message)) = next { take(message.unwrap()) }
                        },
                    }
                }
                let end = async {
                    server.flush().await.unwrap();
                    half.end();
                };
                let rest = async {
                    while let Some(Ok(message)) = client.next().await { take(message) }
                };
                tokio::join!(end, rest);
                assert_eq!(came, sent);
            });
        }
    }
}
