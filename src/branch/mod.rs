//! A live branch: its documents, its members, its place on disk.

mod document;
mod hub;
mod log_writer;
mod making;
mod members;
mod outbox;
mod registry;
mod versions;
mod wire;

pub use document::{
    Author, ConnectionId, Content, DocError, Document, Incoming, Join, WriteBase, decode_row,
};
pub use hub::Hub;
pub use log_writer::{LogError, LogWriter};
pub use making::{ArchiveFormat, Credentials, Git, Phase, Progress};
pub use members::{Connected, Connection, Member, Members, Standing, WriteGrant};
pub use outbox::{Channel, Close, MAX_BYTES, MAX_FRAMES, Outbox, Pushed, Taken};
pub use registry::{BranchChange, BranchError, BranchOptions, Branches, NewBranch, Source};
pub use versions::{Version, Versions};
pub use wire::Wire;
