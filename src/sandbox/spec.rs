//! What one sandbox is to be, as perch tells the process that becomes it.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where things lie on the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Places {
    /// The branch's files: `/project/workspace` inside.
    pub workspace: PathBuf,
    /// The branch's home folder: `/root` inside.
    pub home: PathBuf,
    /// The branch's folder for `/tmp`.
    pub scratch: PathBuf,
}

/// Bounds of one session; past them its own calls fail, and nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Limits {
    /// Processes and threads at once.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes of memory in sum. The kernel holds it where perch has a cgroup to give; else the agent looks each second
    /// and ends the largest process.
    pub memory_bytes: u64,
    /// Bytes of `~/.private`, held in memory.
    pub private_bytes: u64,
    /// Bytes of the largest file that a process may write.
    pub file_bytes: u64,
    /// Hundredths of one core, where perch has a cgroup to give.
    pub cpu_percent: u64,
}

/// What one sandbox is to be.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Its folders.
    pub places: Places,
    /// The name that its shells show, as a host name.
    pub hostname: String,
    /// The user outside, as perch's user namespace counts.
    pub uid: u32,
    /// All that it shares with others can only be read.
    pub is_read_only: bool,
    /// It gets a network namespace with its standard output.
    pub has_network: bool,
    /// Namespaces are not used at all (`--isolation=none`).
    pub is_bare: bool,
    /// Its bounds.
    pub limits: Limits,
    /// The agent itself holds the sum of memory: the kernel can't be asked to.
    pub watches_memory: bool,
    /// More folders of the machine that it may read, at the same place.
    pub image: Vec<PathBuf>,
    /// What its own git configuration holds at first.
    pub git_config: String,
    /// The environment of its processes, besides the fixed one.
    pub environment: Vec<(String, String)>,
}
