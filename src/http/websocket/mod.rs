//! WebSockets of clients, and what their messages may hold of perch's memory until they are whole.
//!
//! | file | idea |
//! |---|---|
//! | `upgrade.rs` | from a request to a socket's two halves |
//! | `pieces.rs` | large frames reach tungstenite in pieces, as many as there is room for |
//! | `inbox.rs` | the half that is read: it draws room, and ends what takes too long |
//! | `budget.rs` | the room that all messages of a branch share, and all of the process |
//!
//! tungstenite gathers a message's bytes until it is whole. The first 64 KiB of a message are free, so that what people
//! type is held up by nothing. Room for each further 64 KiB is drawn from the branch's budget and from the process's
//! before they are read, and given back once the message was handed on. Who finds no room waits, first come, first
//! served, and is not read meanwhile, so that its sender waits too.
//!
//! Messages that are half there and hold all room would wait for each other for ever. So of each budget one message at a
//! time has a pass, with which it is read on without room. Whoever has the process's pass needs no room of its branch
//! either, or the holders of two passes could wait for each other. So of those that wait somebody can always go on, or
//! is about to end:
//!
//! - The holder of the process's pass waits for nobody but its sender; where nobody waits for the process's room, neither
//!   does the holder of a branch's pass.
//! - A sender that others wait for has 15 s for each 64 KiB, and any sender a minute for a message, without the time in
//!   which it waited for room itself. Then its socket ends, and all that it held is given back.
//!
//! A budget is passed by one message at most, and a branch's by one more, that of the process's pass.

mod budget;
mod inbox;
mod pieces;
mod upgrade;

pub use budget::Budgets;
pub(crate) use inbox::{Ended, Inbox, SILENT_FOR};
pub(crate) use tokio_tungstenite::tungstenite::Message;
pub(crate) use tokio_tungstenite::tungstenite::protocol::CloseFrame;
pub(crate) use upgrade::{Sink, Upgrade};

/// Bytes of a message that are free, and that are drawn at once after them. It is more than what is typed, or a state
/// vector, ever needs.
pub(crate) const UNIT: usize = 64 * 1024;
