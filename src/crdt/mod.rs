//! yrs behind our types, and the frames in which clients speak of it. No tokio, no I/O.

mod authored;
mod awareness;
mod diff;
mod format;
pub mod frame;
pub mod hocuspocus;
mod lib0;
mod part;
mod rebase;
mod text;
mod typing;
mod update;

pub use authored::Run;
pub use awareness::{Awareness, AwarenessError, Identity, Presence, showing, shown};
pub(crate) use diff::compare;
pub use diff::{Edit, apply, diff, inserted, kept, same_lines, utf16_len};
pub use format::{FileFormat, NotText, decode, normalise};
pub use lib0::LibError;
pub use part::without;
pub use rebase::rebase;
pub use text::{
    Applied, ApplyError, ClockRange, FIRST_SERVER_CLIENT, MAX_OTHER_BYTES, NoRoom, SharedText, TEXT_NAME,
    server_client,
};
pub use typing::Typing;
pub use update::{Id, MAX_CLIENTS, MAX_PARTS, Place, UpdateInfo, inspect, inspect_beyond, state_vector};
