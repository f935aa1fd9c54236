//! y-protocols messages as y-websocket frames them: one message per frame from us, up to [`MAX_MESSAGES`] from clients
//! (stock ones send one; a frame with more is refused, since one byte is enough to ask for everyone's presence).

use super::lib0::{LibError, Reader, put_bytes, put_uint};
use bytes::Bytes;

/// Messages in one frame of a client.
pub const MAX_MESSAGES: usize = 64;

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;

/// One message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Asks for all that a replica with this state vector lacks.
    SyncStep1(&'a [u8]),
    /// Answers our own step 1.
    SyncStep2(&'a [u8]),
    /// One update.
    Update(&'a [u8]),
    /// Presence.
    Awareness(&'a [u8]),
    /// Asks for everyone's presence.
    QueryAwareness,
}

pub(super) fn read_sync<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, LibError> {
    Ok(match reader.uint()? {
        0 => Message::SyncStep1(reader.bytes()?),
        1 => Message::SyncStep2(reader.bytes()?),
        2 => Message::Update(reader.bytes()?),
        _ => return Err(LibError::Value),
    })
}

/// The messages of one frame.
///
/// # Errors
/// [`LibError`]: the whole frame is refused, none of its messages counts.
pub fn parse(frame: &[u8]) -> Result<Vec<Message<'_>>, LibError> {
    let mut reader = Reader::new(frame);
    let mut messages = Vec::with_capacity(1);
    while !reader.is_empty() {
        if messages.len() == MAX_MESSAGES {
            return Err(LibError::Range);
        }
        messages.push(match reader.uint()? {
            SYNC => read_sync(&mut reader)?,
            AWARENESS => Message::Awareness(reader.bytes()?),
            QUERY_AWARENESS => Message::QueryAwareness,
            _ => return Err(LibError::Value),
        });
    }
    Ok(messages)
}

pub(super) fn sync(lead: &[u8], kind: u8, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(lead.len() + payload.len() + 7);
    out.extend_from_slice(lead);
    out.extend_from_slice(&[0, kind]);
    put_bytes(&mut out, payload);
    out.into()
}

/// Sync step 1.
#[must_use]
pub fn sync_step1(state_vector: &[u8]) -> Bytes {
    sync(&[], 0, state_vector)
}

/// Sync step 2.
#[must_use]
pub fn sync_step2(update: &[u8]) -> Bytes {
    sync(&[], 1, update)
}

/// One update.
#[must_use]
pub fn update(update: &[u8]) -> Bytes {
    sync(&[], 2, update)
}

/// Presence.
#[must_use]
pub fn awareness(payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 6);
    put_uint(&mut out, AWARENESS);
    put_bytes(&mut out, payload);
    out.into()
}

/// Tells a reader that what it sent was not taken (y-protocols' auth message).
#[must_use]
pub fn permission_denied(reason: &str) -> Bytes {
    let mut out = Vec::with_capacity(reason.len() + 6);
    put_uint(&mut out, AUTH);
    put_uint(&mut out, 0);
    put_bytes(&mut out, reason.as_bytes());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_read_back_also_several_at_once() {
        let frame = [sync_step1(b"v"), sync_step2(b"two"), update(b"u"), awareness(b"a")].concat();
        assert_eq!(
            parse(&frame).unwrap(),
            [
                Message::SyncStep1(b"v"),
                Message::SyncStep2(b"two"),
                Message::Update(b"u"),
                Message::Awareness(b"a")
            ]
        );
        assert!(parse(&frame[..frame.len() - 1]).is_err());
        assert!(parse(&[9]).is_err());
    }

    /// A frame of 32 MiB was 32 million questions, and as many answers with everyone's presence.
    #[test]
    fn messages_of_one_frame_are_bounded() {
        assert_eq!(parse(&[3; MAX_MESSAGES]).unwrap().len(), MAX_MESSAGES);
        assert_eq!(parse(&[3; MAX_MESSAGES + 1]), Err(LibError::Range));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
