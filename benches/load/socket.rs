//! A WebSocket client that costs little: no masking (the key is zero), no copy of what is read, and as many frames in one
//! write as there are.

use bytes::{Buf, Bytes, BytesMut};
use std::io::ErrorKind;
use std::rc::Rc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

/// Bytes read at once.
const READ: usize = 64 * 1024;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// The half that writes; any task may.
#[derive(Clone)]
pub(crate) struct Sender(Rc<Mutex<OwnedWriteHalf>>);

/// The half that reads.
pub(crate) struct Receiver {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    sender: Sender,
}

/// Opens one at `http://HOST:PORT/PATH?QUERY`.
pub(crate) async fn open(url: &str) -> Result<(Sender, Receiver), String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let stream = TcpStream::connect(host).await.map_err(|error| format!("{host}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (reading, mut writing) = stream.into_split();
    let path = if path.is_empty() { "/" } else { path };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    writing.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let sender = Sender(Rc::new(Mutex::new(writing)));
    let mut receiver = Receiver { stream: reading, buffer: BytesMut::new(), sender: sender.clone() };
    loop {
        if let Some(end) = receiver.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = receiver.buffer.split_to(end + 4);
            if !head.starts_with(b"HTTP/1.1 101") {
                let said = String::from_utf8_lossy(&receiver.buffer);
                return Err(format!("{}{said}", String::from_utf8_lossy(&head)));
            }
            return Ok((sender, receiver));
        }
        if !receiver.read().await {
            return Err("the server closed the connection".into());
        }
    }
}

/// Puts the head of a client's frame of `len` bytes in front of what follows.
fn head(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(0x80 | opcode);
    if let Ok(len) = u8::try_from(len)
        && len < 126
    {
        out.push(0x80 | len);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(0x80 | 0x7E);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(0x80 | 0x7F);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
}

/// Puts a message into bytes to be written.
pub(crate) fn put(out: &mut Vec<u8>, message: &[u8]) {
    head(out, BINARY, message.len());
    out.extend_from_slice(message);
}

impl Sender {
    /// Writes frames made by [`put`]; `false` when the other end is gone.
    pub(crate) async fn write(&self, frames: &[u8]) -> bool {
        self.0.lock().await.write_all(frames).await.is_ok()
    }

    pub(crate) async fn send(&self, message: &[u8]) -> bool {
        let mut out = Vec::with_capacity(message.len() + 14);
        put(&mut out, message);
        self.write(&out).await
    }
}

impl Receiver {
    async fn read(&mut self) -> bool {
        loop {
            if self.stream.readable().await.is_err() {
                return false;
            }
            self.buffer.reserve(READ);
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    }

    /// One frame of what was read: opcode and payload.
    fn frame(&mut self) -> Option<(u8, Bytes)> {
        let (&first, &second) = (self.buffer.first()?, self.buffer.get(1)?);
        assert!(
            first & 0xF0 == 0x80,
            "no server sends parts of messages or extensions that nobody asked for"
        );
        let (lead, len) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().ok()?))),
            127 => {
                let len = u64::from_be_bytes(self.buffer.get(2..10)?.try_into().ok()?);
                (10, usize::try_from(len).ok()?)
            }
            len => (2, usize::from(len)),
        };
        if self.buffer.len() < lead + len {
            return None;
        }
        self.buffer.advance(lead);
        Some((first & 0x0F, self.buffer.split_to(len).freeze()))
    }

    /// The next binary message; `None` when the server has closed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.frame() {
                Some((BINARY, payload)) => return Some(payload),
                Some((CLOSE, reason)) => {
                    eprintln!("the server closed: {}", String::from_utf8_lossy(&reason));
                    return None;
                }
                Some((PING, payload)) => {
                    let mut out = Vec::new();
                    head(&mut out, 10, payload.len());
                    out.extend_from_slice(&payload);
                    self.sender.write(&out).await;
                }
                Some(_) => {}
                None if self.read().await => {}
                None => return None,
            }
        }
    }
}
