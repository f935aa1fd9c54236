//! Frames of `@hocuspocus/provider` 4.8.0: one socket, many documents, each frame led by the document's name.

use super::frame::{self, Message};
use super::lib0::{LibError, Reader, put_bytes, put_uint};
use bytes::Bytes;
use secrecy::SecretString;

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
const STATELESS: u64 = 5;
const CLOSE: u64 = 7;
const SYNC_STATUS: u64 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Names are paths: at most as long as one, with a routing key of the provider behind it.
const MAX_NAME_BYTES: usize = 4_096 + 64;
/// Tokens are ours and short.
const MAX_TOKEN_BYTES: usize = 8_192;

/// What a client says in one frame.
#[derive(Debug)]
pub enum Frame<'a> {
    /// Nothing but a sign of life; answer [`pong`].
    Ping,
    /// The answer to our own ping.
    Pong,
    /// Something about one document.
    Named {
        /// As the client wrote it; a routing key may stand behind a NUL.
        name: &'a str,
        /// What it says.
        body: Body<'a>,
    },
}

/// What a client says about one document.
#[derive(Debug)]
pub enum Body<'a> {
    /// Opens the document with this token.
    Token(SecretString),
    /// Sync and presence.
    Message(Message<'a>),
    /// A message of the page's own; perch has no use for it.
    Stateless,
    /// Leaves the document.
    Close,
}

/// Reads one frame.
///
/// # Errors
/// [`LibError`] for malformed frames and for types that only a server sends.
pub fn parse(frame: &[u8]) -> Result<Frame<'_>, LibError> {
    match frame {
        [PING] => return Ok(Frame::Ping),
        [PONG] => return Ok(Frame::Pong),
        _ => {}
    }
    let mut reader = Reader::new(frame);
    let name = reader.string()?;
    if name.len() > MAX_NAME_BYTES {
        return Err(LibError::Range);
    }
    let body = match reader.uint()? {
        SYNC => Body::Message(frame::read_sync(&mut reader)?),
        AWARENESS => Body::Message(Message::Awareness(reader.bytes()?)),
        QUERY_AWARENESS => Body::Message(Message::QueryAwareness),
        AUTH => {
            if reader.uint()? != 0 {
                return Err(LibError::Value);
            }
            let token = reader.string()?;
            if token.len() > MAX_TOKEN_BYTES {
                return Err(LibError::Range);
            }
            if !reader.is_empty() {
                // The provider's version, from 4.0 on.
                reader.string()?;
            }
            Body::Token(SecretString::from(token))
        }
        STATELESS => {
            reader.string()?;
            Body::Stateless
        }
        CLOSE => Body::Close,
        _ => return Err(LibError::Value),
    };
    reader.finish()?;
    Ok(Frame::Named { name, body })
}

fn named(name: &str, room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + room + 8);
    put_bytes(&mut out, name.as_bytes());
    out
}

/// Sync step 1.
#[must_use]
pub fn sync_step1(name: &str, state_vector: &[u8]) -> Bytes {
    frame::sync(&named(name, 0), 0, state_vector)
}

/// Sync step 2.
#[must_use]
pub fn sync_step2(name: &str, update: &[u8]) -> Bytes {
    frame::sync(&named(name, 0), 1, update)
}

/// One update.
#[must_use]
pub fn update(name: &str, update: &[u8]) -> Bytes {
    frame::sync(&named(name, 0), 2, update)
}

/// Presence.
#[must_use]
pub fn awareness(name: &str, payload: &[u8]) -> Bytes {
    let mut out = named(name, payload.len());
    put_uint(&mut out, AWARENESS);
    put_bytes(&mut out, payload);
    out.into()
}

/// The token was accepted; `can_write` gives the scope `read-write`, else `readonly`.
#[must_use]
pub fn authenticated(name: &str, can_write: bool) -> Bytes {
    auth(name, 2, if can_write { "read-write" } else { "readonly" })
}

/// The token, or the document, was refused.
#[must_use]
pub fn permission_denied(name: &str, reason: &str) -> Bytes {
    auth(name, 1, reason)
}

fn auth(name: &str, kind: u64, text: &str) -> Bytes {
    let mut out = named(name, text.len());
    put_uint(&mut out, AUTH);
    put_uint(&mut out, kind);
    put_bytes(&mut out, text.as_bytes());
    out.into()
}

/// Answers one update or sync step 2: durable, or refused.
#[must_use]
pub fn sync_status(name: &str, durable: bool) -> Bytes {
    let mut out = named(name, 2);
    put_uint(&mut out, SYNC_STATUS);
    put_uint(&mut out, u64::from(durable));
    out.into()
}

/// The server leaves the document.
#[must_use]
pub fn close(name: &str, reason: &str) -> Bytes {
    let mut out = named(name, reason.len());
    put_uint(&mut out, CLOSE);
    put_bytes(&mut out, reason.as_bytes());
    out.into()
}

/// A sign of life.
#[must_use]
pub fn ping() -> Bytes {
    Bytes::from_static(&[PING])
}

/// The answer to a ping.
#[must_use]
pub fn pong() -> Bytes {
    Bytes::from_static(&[PONG])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_token_is_read_and_not_shown() {
        let mut frame = named("a.txt", 0);
        frame.extend_from_slice(&[2, 0]);
        put_bytes(&mut frame, b"secret-token");
        put_bytes(&mut frame, b"4.8.0");
        let parsed = parse(&frame).unwrap();
        assert!(!format!("{parsed:?}").contains("secret-token"));
        let Frame::Named { name: "a.txt", body: Body::Token(token) } = parsed else { panic!() };
        assert_eq!(token.expose_secret(), "secret-token");
    }

    #[test]
    fn what_only_a_server_says_is_refused() {
        for kind in [4, 6, 8, 11] {
            let mut frame = named("a", 0);
            frame.extend_from_slice(&[kind, 1]);
            assert!(parse(&frame).is_err(), "{kind}");
        }
        assert!(parse(&authenticated("a", true)).is_err());
        assert!(matches!(parse(&update("a", b"u")), Ok(Frame::Named { name: "a", .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
