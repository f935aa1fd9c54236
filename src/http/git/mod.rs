//! Git on a branch, as the caller's own session.
//!
//! | file | idea |
//! |---|---|
//! | `blame.rs` | which commit each line is of, and who typed those of none |
//! | `branches.rs` | branches, tags, and going from one to another |
//! | `commit.rs` | commits, in the session's own name |
//! | `credentials.rs` | a session's tokens for remotes |
//! | `diff.rs` | what differs, by file and by line |
//! | `log.rs` | what was committed: the log, a commit, a file of one |
//! | `merge.rs` | merges, rebases, conflicts |
//! | `remote.rs` | remotes, fetch, pull, push |
//! | `restore.rs` | states of the files that can be gone back to |
//! | `staging.rs` | stage, unstage, discard |
//! | `stash.rs` | work put aside |
//! | `steps.rs` | the same steps for other protocols |
//! | `status.rs` | what differs from what was committed; a first repository |
//! | `stream.rs` | answers of commands that take long |
//! | `tidy.rs` | loose objects, packed |

mod blame;
mod branches;
mod commit;
mod credentials;
mod diff;
mod log;
mod merge;
mod remote;
mod restore;
mod staging;
mod stash;
mod status;
pub(crate) mod steps;
mod stream;
mod tidy;

use super::place::On;
use super::{ApiError, AppState};
use crate::base::SessionId;
use crate::branch::Hub;
use crate::git::Kind;
use crate::session::{Git, GitError, Locks};
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

/// How long documents may take to reach the disk before git looks.
const BARRIER: Duration = Duration::from_secs(5);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(status::routes())
        .merge(diff::routes())
        .merge(staging::routes())
        .merge(commit::routes())
        .merge(log::routes())
        .merge(blame::routes())
        .merge(branches::routes())
        .merge(merge::routes())
        .merge(stash::routes())
        .merge(restore::routes())
        .merge(credentials::routes())
        .merge(remote::routes())
}

/// Whose git it is.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Whose {
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// The part of the path behind the kind of thing: a name, a number or an id.
struct Named(String);

impl FromRequestParts<AppState> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let names = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(mut names) = names.map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Self(names.remove("name").unwrap_or_default()))
    }
}

/// Git as a session, while nobody else's git changes the branch.
struct Turn {
    git: Git,
    hub: Arc<Hub>,
    by: SessionId,
    _alone: OwnedMutexGuard<()>,
}

impl On {
    /// Git to look with, as a session that may be one that only reads; all that was typed is on disk.
    async fn git(&self, session: Option<&SessionId>) -> Result<Git, ApiError> {
        let (row, is_owner) = self.runner(session, false).await?;
        let agent = self.state.agents.get(&self.hub, &row, is_owner).await?;
        self.hub.barrier(BARRIER).await?;
        Ok(Git::open(agent, &row).await?)
    }

    /// Git to change something with, as a session that may write. Waits for its turn; then all that was typed is on disk.
    async fn git_turn(&self, session: Option<&SessionId>) -> Result<Turn, ApiError> {
        let (row, is_owner) = self.runner(session, true).await?;
        let agent = self.state.agents.get(&self.hub, &row, is_owner).await?;
        let turn = self.hub.git_turn().await;
        self.hub.barrier(BARRIER).await?;
        let locks = Locks::new(self.state.agents.clone(), Arc::clone(&self.hub));
        let git = Git::open(agent, &row).await?.waiting(locks);
        tidy::tidy(&self.hub, &git, &self.state.tasks).await;
        Ok(Turn { git, hub: Arc::clone(&self.hub), by: row.id, _alone: turn })
    }
}

impl From<GitError> for ApiError {
    fn from(error: GitError) -> Self {
        let detail = error.to_string();
        let failure = match error {
            GitError::Failed(failure) => failure,
            GitError::TooLarge => {
                return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "git_output_too_large", detail);
            }
            GitError::TimedOut(_) => return Self::new(StatusCode::GATEWAY_TIMEOUT, "git_timed_out", detail),
            GitError::NoIdentity => {
                return Self::new(StatusCode::UNPROCESSABLE_ENTITY, "git_identity_missing", detail);
            }
            GitError::Agents(source) => return source.into(),
            GitError::Agent(source) => return source.into(),
        };
        let (status, code) = match failure.kind {
            Kind::NoRepository => (StatusCode::CONFLICT, "git_no_repository"),
            Kind::UnknownRevision => (StatusCode::NOT_FOUND, "git_unknown_revision"),
            Kind::WouldOverwrite => (StatusCode::CONFLICT, "git_would_overwrite"),
            Kind::Locked => (StatusCode::CONFLICT, "git_locked"),
            Kind::CredentialsMissing => (StatusCode::UNPROCESSABLE_ENTITY, "git_credentials_missing"),
            Kind::CredentialsRefused => (StatusCode::UNPROCESSABLE_ENTITY, "git_credentials_refused"),
            Kind::PushRejected => (StatusCode::CONFLICT, "git_push_rejected"),
            Kind::Unreachable => (StatusCode::BAD_GATEWAY, "git_remote_unreachable"),
            Kind::HostKey => (StatusCode::UNPROCESSABLE_ENTITY, "git_host_key_refused"),
            Kind::NoRemoteRepository => (StatusCode::NOT_FOUND, "git_remote_not_found"),
            Kind::Nothing => (StatusCode::CONFLICT, "git_nothing_to_do"),
            Kind::Conflict => (StatusCode::CONFLICT, "git_conflict"),
            Kind::Diverged => (StatusCode::CONFLICT, "git_diverged"),
            Kind::UnderWay => (StatusCode::CONFLICT, "git_under_way"),
            Kind::Exists => (StatusCode::CONFLICT, "git_exists"),
            Kind::Other => (StatusCode::UNPROCESSABLE_ENTITY, "git_failed"),
        };
        let files: Vec<_> = failure.files.iter().map(ToString::to_string).collect();
        Self::new(status, code, detail).with("files", files)
    }
}
