//! SQL on SQLite (embedded, the default) and Postgres: one text per query for both.
//!
//! | file | tables |
//! |---|---|
//! | `db.rs` | pools, transactions, the few places where the two differ |
//! | `copy.rs` | all tables, from one database to another |
//! | `audit.rs`, `tokens.rs`, `branches.rs`, `sessions.rs`, `links.rs`, `documents.rs`, `history.rs`, `drafts.rs`, `sdk.rs`, `templates.rs`, `preview_tokens.rs` | one table group each |

mod audit;
mod batch;
mod branches;
mod copy;
mod db;
mod documents;
mod drafts;
mod history;
mod links;
mod preview_tokens;
mod sdk;
mod sessions;
mod templates;
mod tokens;

pub use audit::{AuditFilter, AuditRow};
pub use branches::{Branch, BranchFilter, BranchState, Previews};
pub use db::{About, LOCK_CHECKED_EVERY, Options, Store, StoreError};
pub use documents::{
    Append, AsideChange, AuthorRange, DiskRecord, DocumentRow, Intent, Loaded, LogRow, NewDocument, State,
};
pub use drafts::{DRAFT_BYTES, DRAFT_BYTES_PER_SESSION, DRAFTS_KEPT, DRAFTS_PER_SESSION, Draft, DraftHead};
pub use history::{
    AuthorChange, CHANGES_KEPT, ChangeRow, ENDED_BYTES, ENDED_KEPT, Ended, HISTORY_BYTES, HISTORY_ROWS,
    LastText, Past, SNAPSHOTS_KEPT,
};
pub use links::Link;
pub use preview_tokens::PreviewToken;
pub use sdk::{Sandbox, SandboxFilter, SandboxState, SdkToken};
pub use sessions::SessionRow;
pub use tokens::ApiToken;

/// A store on SQLite with one branch in it, and the folder it lives in.
#[cfg(test)]
async fn testing() -> (Store, crate::base::BranchId, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { database_url: None, data: folder.path().to_owned() };
    let store = Store::open(&options).await.unwrap();
    let branch = a_branch();
    store.insert_branch(&branch, 1).await.unwrap();
    (store, branch.id, folder)
}

/// A branch that is ready.
#[cfg(test)]
pub(crate) fn a_branch() -> Branch {
    Branch {
        id: crate::base::BranchId::generate(),
        name: "test".into(),
        description: String::new(),
        tags: Vec::new(),
        state: BranchState::Ready,
        error: None,
        git_url: None,
        git_ref: None,
        forked_from: None,
        created_at_ms: 0,
        updated_at_ms: 0,
        size_bytes: None,
        measured_at_ms: None,
        previews: Previews::Members,
    }
}
