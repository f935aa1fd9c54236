//! The frame languages that a document speaks, so that it encodes each broadcast once per language.

use crate::crdt::{frame, hocuspocus};
use bytes::Bytes;
use std::sync::Arc;

/// How one connection wants its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// y-websocket: one document per socket.
    YWebsocket,
    /// Hocuspocus: many per socket, each frame led by the document's name as the client wrote it.
    Hocuspocus(Arc<str>),
    /// A replica in this process, which speaks for a client of another protocol: see [`Told`].
    Inside,
}

/// What a document tells a replica in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It asks for what it lacks.
    Asks,
    /// One update: what the replica lacks, or news.
    Update(Bytes),
    /// Presence.
    Presence(Bytes),
    /// An update of the replica's is durable, or was refused.
    Answer(bool),
}

impl Told {
    /// What a frame of [`Wire::Inside`] says.
    #[must_use]
    pub fn read(mut frame: Bytes) -> Option<Self> {
        let kind = *frame.first()?;
        bytes::Buf::advance(&mut frame, 1);
        Some(match kind {
            0 => Self::Asks,
            1 => Self::Update(frame),
            2 => Self::Presence(frame),
            _ => Self::Answer(kind == 3),
        })
    }
}

fn inside(kind: u8, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + 1);
    frame.push(kind);
    frame.extend_from_slice(payload);
    frame.into()
}

impl Wire {
    /// Sync step 1 with our state vector.
    #[must_use]
    pub fn sync_step1(&self, state_vector: &[u8]) -> Bytes {
        match self {
            Self::YWebsocket => frame::sync_step1(state_vector),
            Self::Hocuspocus(name) => hocuspocus::sync_step1(name, state_vector),
            Self::Inside => inside(0, state_vector),
        }
    }

    /// Sync step 2 with what the other side lacks.
    #[must_use]
    pub fn sync_step2(&self, update: &[u8]) -> Bytes {
        match self {
            Self::YWebsocket => frame::sync_step2(update),
            Self::Hocuspocus(name) => hocuspocus::sync_step2(name, update),
            Self::Inside => inside(1, update),
        }
    }

    /// One update.
    #[must_use]
    pub fn update(&self, update: &[u8]) -> Bytes {
        match self {
            Self::YWebsocket => frame::update(update),
            Self::Hocuspocus(name) => hocuspocus::update(name, update),
            Self::Inside => inside(1, update),
        }
    }

    /// Presence.
    #[must_use]
    pub fn awareness(&self, payload: &[u8]) -> Bytes {
        match self {
            Self::YWebsocket => frame::awareness(payload),
            Self::Hocuspocus(name) => hocuspocus::awareness(name, payload),
            Self::Inside => inside(2, payload),
        }
    }

    /// The answer to an update or sync step 2: durable (`true`) or refused. y-websocket has a word for refusal only.
    #[must_use]
    pub fn answer(&self, durable: bool) -> Option<Bytes> {
        match self {
            Self::YWebsocket if durable => None,
            Self::YWebsocket => Some(frame::permission_denied("this session can only read")),
            Self::Hocuspocus(name) => Some(hocuspocus::sync_status(name, durable)),
            Self::Inside => Some(inside(if durable { 3 } else { 4 }, &[])),
        }
    }
}
