//! A live branch: its documents, its members, its place on disk.

mod document;
mod hub;
mod log_writer;
mod members;
mod moves;
mod outbox;
mod plain;
mod registry;
mod versions;
mod wire;

pub use document::{
    Author, ConnectionId, Content, DocError, Document, Incoming, Join, WriteBase, decode_row,
};
pub use hub::Hub;
pub use log_writer::{LogError, LogWriter};
pub use members::{Member, Members, Standing, WriteGrant};
pub use outbox::{Channel, Close, MAX_BYTES, MAX_FRAMES, Outbox, Pushed, Taken};
pub use registry::{BranchError, Branches, NewBranch, Source};
pub use versions::{Version, Versions};
pub use wire::Wire;
