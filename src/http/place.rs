//! What a request is about: a branch, and a path on it. Who may not look at the branch gets no further.

use super::auth::{Caller, session_at};
use super::branches::branch_id;
use super::files::rel_path;
use super::{ApiError, AppState};
use crate::agent::Agent;
use crate::base::{BranchId, Permission, SessionId};
use crate::branch::{Hub, WriteGrant};
use crate::session::SessionError;
use crate::store::SessionRow;
use crate::workspace::RelPath;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;

/// A branch that the caller may look at.
pub(crate) struct On {
    pub(crate) caller: Caller,
    pub(crate) hub: Arc<Hub>,
    pub(crate) branch: BranchId,
    pub(crate) state: AppState,
}

impl On {
    /// Takes room for `more` bytes; before anything is written.
    pub(crate) async fn room(&self, more: u64) -> Result<(), ApiError> {
        Ok(self.state.branches.take_room(&self.branch, more).await?)
    }

    /// The session's processes, started where there are none; see [`On::runner`].
    pub(crate) async fn agent(&self, session: Option<&SessionId>, writes: bool) -> Result<Agent, ApiError> {
        let (row, is_owner) = self.runner(session, writes).await?;
        Ok(self.state.agents.get(&self.hub, &row, is_owner).await?)
    }

    /// Whose processes are meant: the caller's own session, or the one that a caller with an API token names; and whether
    /// the caller is an owner. `writes`: it must be one that may write, at this moment.
    pub(crate) async fn runner(
        &self,
        session: Option<&SessionId>,
        writes: bool,
    ) -> Result<(SessionRow, bool), ApiError> {
        let refused = |why: &str| Err(ApiError::forbidden(why));
        let (row, token, is_owner) = match (&self.caller, session) {
            (Caller::Session { row, permission }, id) if id.is_none_or(|id| row.id == *id) => {
                let now = session_at(&self.state, &self.branch, &row.id, row.epoch).await?;
                (now.ok_or_else(ApiError::unauthorized)?, *permission, false)
            }
            (Caller::Session { .. }, _) => return refused("a session runs things as itself only"),
            (Caller::Api { is_owner, .. }, Some(id)) => {
                let row = self.state.store.session(&self.branch, id).await?;
                let row = row.filter(|row| row.ended_at_ms.is_none()).ok_or(SessionError::NotFound)?;
                (row, Permission::Write, *is_owner)
            }
            (Caller::Api { .. }, None) => {
                return Err(ApiError::bad_request(
                    "with an API token, `session` names whose processes are meant",
                ));
            }
        };
        if writes && row.permission.min(token) != Permission::Write {
            return refused("this session can only read; it runs nothing");
        }
        Ok((row, is_owner))
    }

    /// Runs something beside the request.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.state.tasks.spawn(work);
    }

    /// The right to change the branch, at this moment.
    pub(crate) async fn writer(&self) -> Result<WriteGrant, ApiError> {
        self.caller.writer(&self.state, &self.branch, &self.hub).await
    }
}

type Names = Result<Path<HashMap<String, String>>, PathRejection>;

async fn names(parts: &mut Parts, state: &AppState) -> Result<HashMap<String, String>, ApiError> {
    let names: Names = Path::from_request_parts(parts, state).await;
    names.map(|Path(names)| names).map_err(|error| ApiError::bad_request(error.body_text()))
}

impl FromRequestParts<AppState> for On {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let names = names(parts, state).await?;
        let branch = branch_id(names.get("branch").map_or("", String::as_str))?;
        caller.on(&branch)?;
        let hub = state.branches.hub(&branch).await?;
        Ok(Self { caller, hub, branch, state: state.clone() })
    }
}

/// A path on a branch that the caller may look at.
pub(super) struct At {
    pub(super) on: On,
    pub(super) path: RelPath,
}

impl FromRequestParts<AppState> for At {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let on = On::from_request_parts(parts, state).await?;
        let names = names(parts, state).await?;
        let path = rel_path(names.get("path").map_or("", String::as_str))?;
        Ok(Self { on, path })
    }
}

/// A body whole; `most` says how large it may be.
pub(super) fn bytes(body: Result<Bytes, BytesRejection>, most: &str) -> Result<Bytes, ApiError> {
    body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("a file of one request has at most {most}"),
        ),
        _ => ApiError::bad_request(error.body_text()),
    })
}

/// The query, refused as problem+json.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}
