//! yrs behind our types, and the frames in which clients speak of it. No tokio, no I/O.

mod awareness;
mod diff;
mod format;
pub mod frame;
pub mod hocuspocus;
mod lib0;
mod part;
mod rebase;
mod text;
mod update;

pub use awareness::{Awareness, AwarenessError, Identity, Presence};
pub use diff::{Edit, apply, diff, utf16_len};
pub use format::{FileFormat, NotText, decode, normalise};
pub use lib0::LibError;
pub use part::without;
pub use rebase::rebase;
pub use text::{Applied, ApplyError, ClockRange, FIRST_SERVER_CLIENT, SharedText, TEXT_NAME, server_client};
pub use update::{UpdateInfo, inspect, state_vector};
