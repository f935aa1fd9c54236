//! Namespaces, mounts and limits: how a session's agent comes to live apart. The only module with `unsafe` code.
//!
//! | file | idea |
//! |---|---|
//! | `level.rs` | how far this machine lets perch go, and entering perch's own user namespace where that is needed |
//! | `probe.rs` | whether sandboxes can be made here: by making one |
//! | `owner.rs` | the user that a branch's files belong to, and working on files as that user |
//! | `spec.rs` | what one sandbox is to be |
//! | `launch.rs` | from a fresh process to pid 1 of a session, step by step |
//! | `mounts.rs` | the file system that a session sees |
//! | `confine.rs` | limits, capabilities, system calls: what pid 1 gives up before it serves |
//! | `network.rs` | one network namespace per branch, held by file descriptors |
//! | `cgroup.rs` | bounds on a session's and a branch's sum of memory, processes and CPU |
//! | `sys.rs` | system calls that no library has |
//!
//! One order of steps serves all levels. perch is root, or puts itself into a user namespace of its own before it has a
//! thread ([`prepare`]), where it is root over the ids that it was lent. From there a session's mounts are always made
//! by perch and never belong to the user namespace in which the session's processes live: whoever owns a mount
//! namespace can take other sessions' `~/.private` apart.
//!
//! The agent is pid 1 itself. From inside, the kernel lets nobody stop or kill pid 1, and when it ends, all of the
//! session's processes end with it.

mod cgroup;
mod confine;
mod launch;
mod level;
mod mounts;
mod network;
mod owner;
mod probe;
mod spec;
mod sys;

pub use cgroup::{Cgroup, Cgroups};
pub use confine::{hide, landlock_level};
pub use launch::{Failed, Launched, Pid1, become_agent, launch};
pub use level::{Isolation, Level, Standing, enter, prepare};
pub use mounts::{PERCH, PRIVATE, own_program};
pub use network::{ConnectError, Network, NetworkError, PROXY, Reach};
pub use owner::{Owner, Owners};
pub use probe::probe;
pub use spec::{Limits, Places, Spec};
pub use sys::ignore_file_size_signal;
