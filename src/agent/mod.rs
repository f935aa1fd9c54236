//! What runs beside a session's processes, within its walls.
//!
//! | file | idea |
//! |---|---|
//! | `ports.rs` | which ports are listened on, and by which process |

mod ports;

pub use ports::{Address, MAX_PORTS, Port, listening};
