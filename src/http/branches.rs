//! Branches: list, make, look at.

use super::auth::{Api, Caller};
use super::{ApiError, AppState};
use crate::base::BranchId;
use crate::branch::{NewBranch, Source};
use crate::store::{Branch, BranchFilter, BranchState};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(one))
}

/// Where a branch was, or is to be, cloned from.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Git {
    /// `https://…`, or a path beneath a folder given by `--allow-local-git`. No user info.
    url: String,
    /// Branch or tag; the remote's default without it.
    #[serde(rename = "ref")]
    reference: Option<String>,
}

/// A branch to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct CreateBranch {
    /// 1 to 200 bytes without control characters.
    name: String,
    /// Without it the branch starts empty.
    git: Option<Git>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Part of the name, in any case.
    name: Option<String>,
    /// One of the tags.
    tag: Option<String>,
    /// The `next` of the page before.
    after: Option<BranchId>,
    /// 1 to 200; 50 without it.
    limit: Option<i64>,
}

/// A branch.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BranchView {
    id: BranchId,
    name: String,
    description: String,
    tags: Vec<String>,
    state: BranchState,
    /// Why it failed.
    error: Option<String>,
    git: Option<Git>,
    /// Milliseconds since 1970 UTC.
    created_at_ms: i64,
    /// Milliseconds since 1970 UTC.
    updated_at_ms: i64,
}

impl From<Branch> for BranchView {
    fn from(branch: Branch) -> Self {
        Self {
            id: branch.id,
            name: branch.name,
            description: branch.description,
            tags: branch.tags,
            state: branch.state,
            error: branch.error,
            git: branch.git_url.map(|url| Git { url, reference: branch.git_ref }),
            created_at_ms: branch.created_at_ms,
            updated_at_ms: branch.updated_at_ms,
        }
    }
}

/// One page of branches, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BranchPage {
    branches: Vec<BranchView>,
    /// `after` of the next page; absent on the last.
    next: Option<BranchId>,
}

pub(super) fn branch_id(text: &str) -> Result<BranchId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("there is no such branch"))
}

pub(super) fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    body.map(|Json(value)| value).map_err(Into::into)
}

/// Make a branch. Returns at once; `state` tells when its files are there.
#[utoipa::path(post, path = "/v1/branches", tag = "branches", request_body = CreateBranch,
    responses((status = CREATED, body = BranchView)))]
async fn create(
    State(state): State<AppState>,
    _: Api,
    request: Result<Json<CreateBranch>, JsonRejection>,
) -> Result<(StatusCode, Json<BranchView>), ApiError> {
    let request = body(request)?;
    if request.name.is_empty() || request.name.len() > 200 || request.name.contains(char::is_control) {
        return Err(ApiError::bad_request("a branch's name has 1 to 200 bytes without control characters"));
    }
    let source = match request.git {
        None => Source::Empty,
        Some(git) => Source::Git { url: git.url, reference: git.reference },
    };
    let branch = state.branches.create(NewBranch { name: request.name, source }).await?;
    Ok((StatusCode::CREATED, Json(branch.into())))
}

/// List branches, newest first.
#[utoipa::path(get, path = "/v1/branches", tag = "branches", params(Listing),
    responses((status = OK, body = BranchPage)))]
async fn list(
    State(state): State<AppState>,
    _: Api,
    Query(listing): Query<Listing>,
) -> Result<Json<BranchPage>, ApiError> {
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
    Ok(Json(BranchPage { branches: branches.into_iter().map(Into::into).collect(), next }))
}

/// Look at a branch.
#[utoipa::path(get, path = "/v1/branches/{branch}", tag = "branches", params(("branch" = String, Path)),
    responses((status = OK, body = BranchView)))]
async fn one(
    State(state): State<AppState>,
    caller: Caller,
    Path(branch): Path<String>,
) -> Result<Json<BranchView>, ApiError> {
    let branch = branch_id(&branch)?;
    caller.on(&branch)?;
    let branch = state.store.branch(&branch).await?;
    branch.map(|branch| Json(branch.into())).ok_or_else(|| ApiError::not_found("there is no such branch"))
}
