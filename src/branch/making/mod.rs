//! Making and removing a branch's files: blocking work on folders that nobody else uses yet, or any more.
//!
//! | file | idea |
//! |---|---|
//! | `clone.rs` | the real git, with a fixed configuration and a token that is stored nowhere |
//! | `archive.rs` | unpacking tar and zip: nothing leaves the folder, all is bounded |
//! | `copy.rs` | a branch's own copy of another's files |
//! | `pack.rs` | a branch's files as tar, for backups |
//! | `home.rs` | the folders beside a branch's files, and its home |
//! | `tree.rs` | walking, measuring and removing folders without following a link |

mod archive;
mod clone;
mod copy;
mod fork;
mod home;
mod pack;
mod tree;

pub use archive::ArchiveFormat;
pub(super) use archive::unpack;
pub(super) use clone::{check_url, clone};
pub(super) use copy::copy;
pub(super) use fork::settle;
pub(super) use home::{SHARED, lay_out};
pub(super) use tree::{measure, remove, sync};

pub use clone::{Credentials, Git};
pub use pack::{Packed, Packer, read_beneath};

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// Files, folders and links of one branch when it is made; also as far as measuring looks.
pub(super) const MAX_ENTRIES: u64 = 1_000_000;

/// What is being done for a branch that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Others are being made.
    Waiting,
    /// The remote counts.
    Counting,
    /// The remote compresses.
    Compressing,
    /// Objects come in.
    Receiving,
    /// git puts objects together.
    Resolving,
    /// git writes the files.
    CheckingOut,
    /// An archive is unpacked.
    Unpacking,
    /// Another branch's files are copied.
    Copying,
}

/// How far the making of a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// 0 to 100 of this phase, where that is known.
    pub percent: Option<u8>,
}

/// A making under way: its progress, its bounds, and the means to stop it.
#[derive(Debug)]
pub(super) struct Making {
    progress: Mutex<Progress>,
    cancel: CancellationToken,
    max_bytes: u64,
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Making {
    pub(super) fn new(max_bytes: u64, cancel: CancellationToken) -> Self {
        let progress = Mutex::new(Progress { phase: Phase::Waiting, percent: None });
        Self { progress, cancel, max_bytes, bytes: AtomicU64::default(), entries: AtomicU64::default() }
    }

    pub(super) fn progress(&self) -> Progress {
        *self.progress.lock()
    }

    pub(super) fn at(&self, phase: Phase, percent: Option<u8>) {
        *self.progress.lock() = Progress { phase, percent };
    }

    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Counts one more file, folder or link of `bytes`; refuses it past the bounds, or when nobody wants it any more.
    fn take(&self, bytes: u64) -> Result<(), String> {
        if self.cancel.is_cancelled() {
            return Err("it was stopped".into());
        }
        if self.entries.fetch_add(1, Ordering::Relaxed) >= MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} files, folders and links"));
        }
        self.take_bytes(bytes)
    }

    fn take_bytes(&self, bytes: u64) -> Result<(), String> {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > self.max_bytes {
            return Err(self.too_large());
        }
        Ok(())
    }

    pub(super) fn too_large(&self) -> String {
        format!("its files have more than {} bytes (--max-branch-bytes)", self.max_bytes)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
