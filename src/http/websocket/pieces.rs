//! What comes in on a socket, large frames cut into pieces, as far as there is room for it.
//!
//! tungstenite reads a frame into a buffer that it then keeps as long as the socket lives: one that once brought a frame of
//! 32 MiB would hold as much to its end. A message of several frames it gathers in a buffer of its own, which goes
//! with the message. So a large frame reaches it as if its sender had sent it in several, which RFC 6455 §5.4 allows
//! to whoever stands between.

use super::UNIT;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};

/// Bytes of payload in a piece; a multiple of four, so that a frame's mask fits each of its pieces.
const PIECE: u64 = 16 * 1024;
/// Headers are read through a buffer of this size, and small frames with them.
const BUFFER: usize = 1024;
/// Bytes of the longest header.
const HEADER: usize = 14;

const FINAL: u8 = 0x80;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
/// In place of a length: it follows in two bytes.
const IN_TWO_BYTES: u8 = 0x7e;

/// Bytes of messages that may still be read of a socket. Those who read it and who make room are one task, so that nobody
/// needs to be woken.
#[derive(Debug)]
pub(super) struct Flow(AtomicUsize);

impl Flow {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(UNIT)))
    }

    /// Whether what comes next must wait.
    pub(super) fn is_used_up(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    /// As much may be read now.
    pub(super) fn set(&self, bytes: usize) {
        self.0.store(bytes, Relaxed);
    }
}

/// See the module's docs. Where the flow is used up it is pending, and wakes nobody: whoever makes room polls again.
#[derive(Debug)]
pub(crate) struct Pieces<S> {
    stream: BufReader<S>,
    flow: Arc<Flow>,
    /// Longer frames pass as they are, since they are refused for what their header says.
    max_frame: u64,
    /// The header that is being read.
    header: [u8; HEADER],
    have: usize,
    /// The header that is to be handed on.
    out: [u8; HEADER],
    out_left: std::ops::Range<usize>,
    /// Bytes of payload before the next header that is handed on.
    left: u64,
    /// Bytes of payload after them in the frame that is cut.
    rest: u64,
    /// Of control frames the flow counts nothing: they are small and gathered by nobody.
    is_data: bool,
}

impl<S: AsyncRead> Pieces<S> {
    /// `stream`: from the first frame on.
    pub(super) fn new(stream: S, flow: Arc<Flow>, max_frame: usize) -> Self {
        Self {
            stream: BufReader::with_capacity(BUFFER, stream),
            flow,
            max_frame: max_frame as u64,
            header: [0; HEADER],
            have: 0,
            out: [0; HEADER],
            out_left: 0..0,
            left: 0,
            rest: 0,
            is_data: false,
        }
    }

    /// The frame whose header was read begins.
    fn begin_frame(&mut self) {
        let length = match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10].iter().fold(0, |length, byte| (length << 8) | u64::from(*byte)),
            length => u64::from(length),
        };
        self.is_data = self.header[0] & CONTROL == 0;
        if length > PIECE && length <= self.max_frame {
            self.rest = length;
            self.begin_piece(self.header[0]);
            return;
        }
        self.out = self.header;
        self.out_left = 0..std::mem::take(&mut self.have);
        self.left = length;
    }

    /// The next piece of a frame begins; `first`: the first byte of its header, but for whether it is the last one.
    fn begin_piece(&mut self, first: u8) {
        self.left = self.rest.min(PIECE);
        self.rest -= self.left;
        let is_final = if self.rest == 0 { self.header[0] & FINAL } else { 0 };
        let mask = &self.header[..self.have][length_end(&self.header)..];
        self.out[0] = (first & !FINAL) | is_final;
        self.out[1] = (self.header[1] & MASKED) | IN_TWO_BYTES;
        // At most PIECE. Written in two bytes also where one would do, which every reader takes.
        self.out[2..4].copy_from_slice(&self.left.to_be_bytes()[6..]);
        self.out[4..4 + mask.len()].copy_from_slice(mask);
        self.out_left = 0..4 + mask.len();
        if self.rest == 0 {
            self.have = 0;
        }
    }
}

/// Where a header's length ends, and its mask begins.
fn length_end(header: &[u8; HEADER]) -> usize {
    match header[1] & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

impl<S: AsyncRead + Unpin> Pieces<S> {
    /// Reads on in a header; `false` at the end of the stream.
    fn poll_header(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let wanted = match self.have {
                0 | 1 => 2,
                _ => length_end(&self.header) + usize::from(self.header[1] & MASKED != 0) * 4,
            };
            if self.have == wanted {
                return Poll::Ready(Ok(true));
            }
            let bytes = ready!(Pin::new(&mut self.stream).poll_fill_buf(context))?;
            let taken = bytes.len().min(wanted - self.have);
            if taken == 0 {
                return Poll::Ready(Ok(false));
            }
            self.header[self.have..][..taken].copy_from_slice(&bytes[..taken]);
            Pin::new(&mut self.stream).consume(taken);
            self.have += taken;
        }
    }

    /// Hands on at least one byte, unless the stream has ended.
    fn poll_some(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.out_left.is_empty() {
                let some = self.out_left.len().min(buffer.remaining());
                let from = self.out_left.start;
                buffer.put_slice(&self.out[from..from + some]);
                self.out_left.start += some;
                return Poll::Ready(Ok(()));
            }
            if self.left > 0 {
                return self.poll_payload(context, buffer);
            }
            if self.rest > 0 {
                // A frame that continues one has no kind of its own.
                self.begin_piece(0);
            } else if ready!(self.poll_header(context))? {
                self.begin_frame();
            } else {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_payload(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = if self.is_data { self.flow.0.load(Relaxed) } else { usize::MAX };
        if room == 0 {
            return Poll::Pending;
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(room).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.left -= read as u64;
        if self.is_data {
            self.flow.set(room - read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pieces<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_some(context, buffer))?;
        // All that has come already, so that a small frame takes one call.
        while buffer.remaining() > 0 && !(self.out_left.is_empty() && self.stream.buffer().is_empty()) {
            match self.poll_some(context, buffer) {
                Poll::Ready(Ok(())) => {}
                // Comes again, or for the first time, when it is asked for next.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Pieces<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
