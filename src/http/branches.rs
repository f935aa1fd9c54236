//! Branches: list, make, look at, describe, fork, delete.

use super::audit::Subject;
use super::auth::{Api, Caller};
use super::sessions::{Seat, TTL, seat};
use super::{ApiError, AppState};
use crate::base::{BranchId, Permission};
use crate::branch::{ArchiveFormat, BranchChange, Credentials, Event, Git, NewBranch, Progress, Source};
use crate::session::{Wanted, create_or_find, use_fork};
use crate::store::{Branch, BranchFilter, BranchState, Previews};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one, change, delete))
        .routes(routes!(fork))
}

/// Where a branch was cloned from.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GitView {
    url: String,
    /// Branch or tag; the remote's default without it.
    #[serde(rename = "ref")]
    reference: Option<String>,
}

/// Where a branch is to be cloned from.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct GitSource {
    /// `https://…`, or a path beneath a folder given by `--allow-local-git`. No user info.
    url: String,
    /// Branch or tag; the remote's default without it.
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// Sent with `token`; `x-access-token` without it, which most hosts take.
    username: Option<String>,
    /// For a private repository, over https only. Used once, never stored.
    #[schema(value_type = Option<String>)]
    token: Option<SecretString>,
}

/// A branch to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct CreateBranch {
    /// 1 to 200 bytes without control characters.
    name: String,
    /// Without it the branch starts empty.
    git: Option<GitSource>,
}

/// What of a branch is to change; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeBranch {
    /// 1 to 200 bytes without control characters.
    name: Option<String>,
    /// At most 4,000 bytes.
    description: Option<String>,
    /// At most 32, each of 1 to 64 bytes without control characters.
    tags: Option<Vec<String>>,
    /// Who may look at what its processes serve; `public`: whoever knows the URL.
    previews: Option<Previews>,
}

/// A fork.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct ForkBranch {
    /// The name of the branch it is made of without it.
    name: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ArchiveName {
    /// The name, when the body is an archive.
    name: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Confirm {
    /// The branch's id once more.
    confirm: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Part of the name, in any case.
    name: Option<String>,
    /// One of the tags.
    tag: Option<String>,
    /// In this state.
    state: Option<BranchState>,
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
    /// How far its making is, while it is under way.
    progress: Option<Progress>,
    git: Option<GitView>,
    /// Of which branch it is a copy.
    forked_from: Option<BranchId>,
    /// Bytes of all its files when they were last measured; measured anew, when that is a minute ago, as it is looked at.
    size_bytes: Option<i64>,
    /// Who may look at what its processes serve.
    previews: Previews,
    /// Milliseconds since 1970 UTC.
    created_at_ms: i64,
    /// Milliseconds since 1970 UTC.
    updated_at_ms: i64,
}

fn view(state: &AppState, branch: Branch) -> BranchView {
    BranchView {
        progress: state.branches.progress(&branch.id),
        id: branch.id,
        name: branch.name,
        description: branch.description,
        tags: branch.tags,
        state: branch.state,
        error: branch.error,
        git: branch.git_url.map(|url| GitView { url, reference: branch.git_ref }),
        forked_from: branch.forked_from,
        size_bytes: branch.size_bytes,
        previews: branch.previews,
        created_at_ms: branch.created_at_ms,
        updated_at_ms: branch.updated_at_ms,
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

pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(value)| value).map_err(|error| ApiError::bad_request(error.body_text()))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() || name.len() > 200 || name.contains(char::is_control) {
        return Err(ApiError::bad_request("a branch's name has 1 to 200 bytes without control characters"));
    }
    Ok(())
}

/// Make a branch: empty, by cloning, or, when the body is an archive, with its files. Returns at once (for an archive when it
/// has arrived); `state` tells when its files are there, `progress` how far they are.
#[utoipa::path(post, path = "/v1/branches", tag = "branches", params(ArchiveName),
    request_body(content((CreateBranch = "application/json"), (Vec<u8> = "application/x-tar"),
        (Vec<u8> = "application/gzip"), (Vec<u8> = "application/zip"))),
    responses((status = CREATED, body = BranchView),
        (status = PAYLOAD_TOO_LARGE, description = "`archive_too_large`"),
        (status = CONFLICT, description = "`too_many_branches`")))]
async fn create(
    State(state): State<AppState>,
    _: Api,
    archive: Result<Query<ArchiveName>, QueryRejection>,
    request: Request,
) -> Result<(StatusCode, Extension<Subject>, Json<BranchView>), ApiError> {
    let archive = query(archive)?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let format = match kind.and_then(|kind| kind.split(';').next()).map(str::trim) {
        Some("application/x-tar") => Some(ArchiveFormat::Tar),
        Some("application/gzip" | "application/x-gzip") => Some(ArchiveFormat::TarGz),
        Some("application/zip" | "application/x-zip-compressed") => Some(ArchiveFormat::Zip),
        _ => None,
    };
    let branch = if let Some(format) = format {
        let name = archive.name.ok_or_else(|| ApiError::bad_request("an archive needs `?name=`"))?;
        check_name(&name)?;
        state.branches.create_from_archive(name, format, request.into_body().into_data_stream()).await?
    } else {
        let request: CreateBranch = body(Json::from_request(request, &state).await)?;
        check_name(&request.name)?;
        let source = match request.git {
            None => Source::Empty,
            Some(git) => {
                let username = git.username.unwrap_or_else(|| "x-access-token".to_owned());
                let credentials = git.token.map(|token| Credentials { username, token });
                Source::Git(Git { url: git.url, reference: git.reference, credentials })
            }
        };
        state.branches.create(NewBranch { name: request.name, source }).await?
    };
    Ok((StatusCode::CREATED, Subject::on(&branch.id), Json(view(&state, branch))))
}

/// List branches, newest first.
#[utoipa::path(get, path = "/v1/branches", tag = "branches", params(Listing),
    responses((status = OK, body = BranchPage)))]
async fn list(
    State(state): State<AppState>,
    _: Api,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<BranchPage>, ApiError> {
    let listing = query(listing)?;
    let limit = listing.limit.unwrap_or(50).clamp(1, 200);
    let after = match listing.after {
        None => None,
        Some(id) => {
            let branch = state.store.branch(&id).await?;
            let branch = branch.ok_or_else(|| ApiError::bad_request("`after` is no branch"))?;
            Some((branch.created_at_ms, branch.id))
        }
    };
    let filter =
        BranchFilter { name_contains: listing.name, tag: listing.tag, state: listing.state, after, limit };
    let branches = state.store.branches(&filter).await?;
    let is_full = i64::try_from(branches.len()).is_ok_and(|count| count == limit);
    let next = branches.last().filter(|_| is_full).map(|branch| branch.id.clone());
    Ok(Json(BranchPage { branches: branches.into_iter().map(|branch| view(&state, branch)).collect(), next }))
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
    let branch = branch.ok_or_else(|| ApiError::not_found("there is no such branch"))?;
    let branch = state.branches.with_size(branch).await?;
    Ok(Json(view(&state, branch)))
}

/// Rename, describe or tag a branch, or say who may look at its previews.
#[utoipa::path(patch, path = "/v1/branches/{branch}", tag = "branches", params(("branch" = String, Path)),
    request_body = ChangeBranch, responses((status = OK, body = BranchView)))]
async fn change(
    State(state): State<AppState>,
    _: Api,
    Path(branch): Path<String>,
    request: Result<Json<ChangeBranch>, JsonRejection>,
) -> Result<Json<BranchView>, ApiError> {
    let branch = branch_id(&branch)?;
    let request = body(request)?;
    if let Some(name) = &request.name {
        check_name(name)?;
    }
    if request.description.as_ref().is_some_and(|text| text.len() > 4_000 || text.contains('\0')) {
        return Err(ApiError::bad_request("a description has at most 4,000 bytes and no NUL"));
    }
    let is_tag = |tag: &String| (1..=64).contains(&tag.len()) && !tag.contains(char::is_control);
    if request.tags.as_ref().is_some_and(|tags| tags.len() > 32 || !tags.iter().all(is_tag)) {
        return Err(ApiError::bad_request(
            "a branch has at most 32 tags, each of 1 to 64 bytes without control characters",
        ));
    }
    let ChangeBranch { name, description, tags, previews } = request;
    let change = BranchChange { name, description, tags, previews };
    let branch = state.branches.describe(&branch, change).await?;
    if let Some(hub) = state.branches.opened(&branch.id) {
        hub.events().publish(&Event::BranchChanged);
    }
    Ok(Json(view(&state, branch)))
}

/// Delete a branch: its sessions are cut, its documents closed, its files and history removed.
#[utoipa::path(delete, path = "/v1/branches/{branch}", tag = "branches", params(("branch" = String, Path), Confirm),
    responses((status = NO_CONTENT), (status = BAD_REQUEST, description = "`confirm_required`")))]
async fn delete(
    State(state): State<AppState>,
    _: Api,
    Path(branch): Path<String>,
    confirm: Result<Query<Confirm>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let confirm = query(confirm)?;
    let branch = branch_id(&branch)?;
    if confirm.confirm.as_deref() != Some(branch.as_str()) {
        let detail = "deleting a branch removes its files for good; give its id again as `?confirm=`";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "confirm_required", detail));
    }
    state.branches.delete(&branch).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A fork that was made.
#[derive(Serialize, ToSchema)]
struct Forked {
    #[serde(flatten)]
    branch: BranchView,
    /// Where a session forked: its own seat on the copy, with the right to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    seat: Option<Seat>,
}

/// Fork a branch: a copy of its files as editors see them now. Returns at once; documents, sessions and links start anew. A
/// session whose link or maker allows it (`may_fork`) may do so once, and may write to the copy.
#[utoipa::path(post, path = "/v1/branches/{branch}/fork", tag = "branches", params(("branch" = String, Path)),
    request_body = Option<ForkBranch>, responses((status = CREATED, body = Forked),
        (status = FORBIDDEN, description = "the session may not, or has done so already")))]
async fn fork(
    State(state): State<AppState>,
    caller: Caller,
    Path(branch): Path<String>,
    headers: HeaderMap,
    request: Result<Option<Json<ForkBranch>>, JsonRejection>,
) -> Result<(StatusCode, Extension<Subject>, Json<Forked>), ApiError> {
    let branch = branch_id(&branch)?;
    let name = match request {
        Ok(None) => None,
        Ok(Some(Json(request))) => request.name,
        Err(error) => return Err(ApiError::bad_request(error.body_text())),
    };
    if let Some(name) = &name {
        check_name(name)?;
    }
    caller.on(&branch)?;
    let Caller::Session { row, .. } = caller else {
        let fork = state.branches.fork(&branch, name).await?;
        return Ok((
            StatusCode::CREATED,
            Subject::of(&fork.id),
            Json(Forked { branch: view(&state, fork), seat: None }),
        ));
    };
    let (store, clock) = (&state.store, &state.clock);
    // Looked at first, so that a branch that is not ready costs nobody the right.
    state.branches.ready(&branch).await?;
    if !use_fork(store, clock, &row).await? {
        return Err(ApiError::forbidden("this session may not fork the branch, or has done so already"));
    }
    let fork = state.branches.fork(&branch, name).await?;
    let subject = Subject::of(&fork.id);
    let wanted = Wanted {
        id: row.id,
        permission: Permission::Write,
        name: row.name,
        email: row.email,
        color: Some(row.color),
        may_fork: false,
    };
    let row = create_or_find(store, clock, &fork.id, &wanted).await?;
    let seat = seat(&state, &headers, &row, Permission::Write, TTL)?;
    Ok((StatusCode::CREATED, subject, Json(Forked { branch: view(&state, fork), seat: Some(seat) })))
}
