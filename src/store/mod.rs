//! SQL on SQLite (embedded, the default) and Postgres: one text per query for both.
//!
//! | file | tables |
//! |---|---|
//! | `db.rs` | pools, transactions, the few places where the two differ |
//! | `tokens.rs`, `branches.rs`, `sessions.rs`, `links.rs`, `documents.rs`, `drafts.rs` | one table group each |

mod branches;
mod db;
mod documents;
mod drafts;
mod links;
mod sessions;
mod tokens;

pub use branches::{Branch, BranchFilter, BranchState};
pub use db::{LOCK_CHECKED_EVERY, Options, Store, StoreError};
pub use documents::{
    Append, AuthorRange, DiskRecord, DocumentRow, Intent, Loaded, LogRow, NewDocument, SNAPSHOTS_KEPT,
};
pub use drafts::{DRAFTS_KEPT, Draft};
pub use links::Link;
pub use sessions::SessionRow;
pub use tokens::ApiToken;
