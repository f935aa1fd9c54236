//! The walls around what runs for sessions. Unsafe code of perch lives here alone.
//!
//! | file | idea |
//! |---|---|
//! | `network.rs` | one network namespace per branch, held by file descriptors |

mod network;

pub use network::{ConnectError, Network, NetworkError, PROXY, Reach};
