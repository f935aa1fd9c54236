//! Branches: list, make, look at.

use super::auth::{Api, Caller};
use super::{ApiError, AppState};
use crate::base::BranchId;
use crate::branch::{NewBranch, Source};
use crate::store::{Branch, BranchFilter};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
pub(super) struct Git {
    url: String,
    #[serde(rename = "ref")]
    reference: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    name: String,
    git: Option<Git>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    name: Option<String>,
    tag: Option<String>,
    after: Option<BranchId>,
    limit: Option<i64>,
}

fn shown(branch: &Branch) -> Value {
    json!({
        "id": branch.id,
        "name": branch.name,
        "description": branch.description,
        "tags": branch.tags,
        "state": branch.state,
        "error": branch.error,
        "git": branch.git_url.as_ref().map(|url| json!({ "url": url, "ref": branch.git_ref })),
        "created_at_ms": branch.created_at_ms,
        "updated_at_ms": branch.updated_at_ms,
    })
}

pub(super) fn branch_id(text: &str) -> Result<BranchId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("there is no such branch"))
}

pub(super) fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    body.map(|Json(value)| value).map_err(|error| ApiError::bad_request(error.body_text()))
}

pub(super) async fn create(
    State(state): State<AppState>,
    _: Api,
    request: Result<Json<Create>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let request = body(request)?;
    if request.name.is_empty() || request.name.len() > 200 || request.name.contains(char::is_control) {
        return Err(ApiError::bad_request("a branch's name has 1 to 200 bytes without control characters"));
    }
    let source = match request.git {
        None => Source::Empty,
        Some(git) => Source::Git { url: git.url, reference: git.reference },
    };
    let branch = state.branches.create(NewBranch { name: request.name, source }).await?;
    Ok((StatusCode::CREATED, Json(shown(&branch))))
}

pub(super) async fn list(
    State(state): State<AppState>,
    _: Api,
    Query(listing): Query<Listing>,
) -> Result<Json<Value>, ApiError> {
    let limit = listing.limit.unwrap_or(50).clamp(1, 200);
    let after = match listing.after {
        None => None,
        Some(id) => {
            let branch = state.store.branch(&id).await?;
            let branch = branch.ok_or_else(|| ApiError::bad_request("`after` is no branch"))?;
            Some((branch.created_at_ms, branch.id))
        }
    };
    let filter = BranchFilter { name_contains: listing.name, tag: listing.tag, after, limit };
    let branches = state.store.branches(&filter).await?;
    let is_full = i64::try_from(branches.len()).is_ok_and(|count| count == limit);
    let next = branches.last().filter(|_| is_full).map(|branch| branch.id.clone());
    Ok(Json(json!({ "branches": branches.iter().map(shown).collect::<Vec<_>>(), "next": next })))
}

pub(super) async fn one(
    State(state): State<AppState>,
    caller: Caller,
    Path(branch): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let branch = branch_id(&branch)?;
    caller.on(&branch)?;
    let branch = state.store.branch(&branch).await?;
    branch.map(|branch| Json(shown(&branch))).ok_or_else(|| ApiError::not_found("there is no such branch"))
}
