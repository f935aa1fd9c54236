//! The process that lives inside a session's sandbox, and perch's side of it.
//!
//! | file | idea |
//! |---|---|
//! | `wire.rs` | what the two say to each other |
//! | `client.rs` | perch's side: [`Agent`], and a [`Process`] with its output |
//! | `serve.rs` | inside: pid 1, which answers requests and reaps whom others left behind |
//! | `process.rs` | inside: one command, with pipes or a terminal |
//! | `inside.rs` | where things lie for a session's processes |
//! | `files.rs` | inside: files as this session sees them |
//! | `own.rs` | inside: the same for the session itself, like Node's `fs` |
//! | `ports.rs` | inside: which ports are listened on, and by which process |
//! | `tree.rs` | inside: which processes belong to what, how much memory they hold |
//!
//! Frames travel over one socket each way in order. No stream can stall another: an agent reads of a process only what
//! perch has given it credit for.

mod client;
mod files;
mod inside;
mod own;
mod ports;
mod process;
mod serve;
mod tree;
mod wire;

pub use client::{Agent, AgentError, Event, Input, Process};
pub use inside::Inside;
pub use ports::{Address, MAX_PORTS, Port, listening};
pub use serve::{PATH, serve};
pub use tree::{Taken, taken};
pub use wire::{
    Exit, FileAnswer, FileEntry, FileError, FileKind, FileOp, FsCall, FsEntry, FsStat, MAX_FILE, Start,
    Stream, TermSize,
};
