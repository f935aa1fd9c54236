//! A live branch: its documents, its members, its place on disk.

mod authors;
mod credits;
mod document;
mod edits;
mod events;
mod files;
mod history;
mod hub;
mod log_writer;
mod making;
mod members;
mod moves;
mod outbox;
mod plain;
mod ports;
mod registry;
mod terminals;
mod versions;
mod watch;
mod wire;

pub use authors::{Authored, LineAuthor, Lines, Typed};
pub use document::{
    Author, ConnectionId, Content, DocError, Document, Incoming, Join, WriteBase, decode_row,
};
pub use edits::{EditError, TextEdit};
pub use events::{EVENTS_KEPT, Event, EventId, EventJson, Events, Listener, MAX_LISTENERS, Told};
pub use files::{Edited, FilesError, Searched};
pub use history::{DraftText, History, HistoryError, Hunk, present_text};
pub use hub::{BackTo, Hub, Visit};
pub use log_writer::{LogError, LogWriter};
pub use making::{ArchiveFormat, Credentials, Git, Packed, Packer, Phase, Progress, read_beneath};
pub use members::{Connected, MOVES_EVERY_MS, Member, Members, NotMoved, Seat, Standing, WriteGrant};
pub use outbox::{
    AtOnce, Channel, Close, MAX_AT_ONCE, MAX_BYTES, MAX_FRAMES, Outbox, Pushed, Taken, Wrote, framed,
};
pub use ports::{OpenPort, Ports};
pub use registry::{BranchChange, BranchError, BranchOptions, Branches, NewBranch, Source};
pub use terminals::{
    Attachment, Exit, Filter, INPUT_WAITING, MAX_CLOSED, MAX_OF_BRANCH, MAX_OF_SESSION, MAX_TYPISTS,
    NewTerminal, Output, Pty, PtyInput, Reader, SCROLLBACK_BYTES, Shape, Size, Terminal, TerminalChange,
    TerminalError, Terminals, Viewer,
};
pub use versions::{Version, Versions};
pub use wire::{Told as ToldInside, Wire};
