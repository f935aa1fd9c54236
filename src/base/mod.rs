//! What every module may use: ids, rights, time, tasks.

mod clock;
mod heavy;
mod ids;
mod permission;
mod tasks;
mod text;

pub use clock::Clock;
pub use heavy::heavy;
pub use ids::{
    AuditId, BranchId, DocumentId, DraftId, IdError, LinkId, PreviewTokenId, RestoreId, SessionId,
    TerminalId, TokenId,
};
pub use permission::Permission;
pub use tasks::Tasks;
pub use text::whole_characters;

/// Kills this process at a named step when `PERCH_FAULT` names it: the tests' crash between two durable steps.
/// Without the variable it costs one comparison.
pub fn fault(step: &str) {
    static WANTED: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("PERCH_FAULT").ok());
    if WANTED.as_deref() == Some(step) {
        // Like `kill -9`: no destructor runs, nothing is flushed.
        std::process::abort();
    }
}

/// Waits at a named step when `PERCH_PAUSE` names it: the tests' machine under load.
pub async fn pause(step: &str) {
    static WANTED: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("PERCH_PAUSE").ok());
    if WANTED.as_deref() == Some(step) {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    }
}
