//! Files of a branch: list, read, write, delete.

use super::auth::Caller;
use super::branches::branch_id;
use super::{ApiError, AppState};
use crate::branch::Version;
use crate::workspace::{Kind, RelPath};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Bytes of one file in a request.
const MAX_BODY: usize = 64 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    let files =
        OpenApiRouter::new().routes(routes!(read, write, delete)).layer(DefaultBodyLimit::max(MAX_BODY));
    OpenApiRouter::new().routes(routes!(tree)).merge(files)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Folder {
    /// The workspace itself without it.
    path: Option<String>,
}

/// One name in a folder.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryView {
    /// From the workspace's root.
    path: String,
    kind: Kind,
    len_bytes: u64,
}

/// A folder, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tree {
    entries: Vec<EntryView>,
}

pub(super) fn rel_path(text: &str) -> Result<RelPath, ApiError> {
    text.parse().map_err(|error: crate::workspace::PathError| {
        ApiError::new(StatusCode::BAD_REQUEST, "path_refused", error.to_string())
    })
}

fn etag(version: Version) -> String {
    format!("\"{version}\"")
}

/// List a folder.
#[utoipa::path(get, path = "/v1/branches/{branch}/tree", tag = "files",
    params(("branch" = String, Path), Folder), responses((status = OK, body = Tree)))]
async fn tree(
    State(state): State<AppState>,
    caller: Caller,
    Path(branch): Path<String>,
    Query(folder): Query<Folder>,
) -> Result<Json<Tree>, ApiError> {
    let branch = branch_id(&branch)?;
    caller.on(&branch)?;
    let hub = state.branches.hub(&branch).await?;
    let folder = folder.path.as_deref().filter(|path| !path.is_empty()).map(rel_path).transpose()?;
    let entries = hub
        .workspace()
        .list(folder.as_ref())
        .await
        .map_err(|error| ApiError::bad_request(error.to_string()))?
        .ok_or_else(|| ApiError::not_found("there is no such folder"))?;
    let entries = entries
        .into_iter()
        .map(|entry| EntryView { path: entry.path, kind: entry.kind, len_bytes: entry.len_bytes })
        .collect();
    Ok(Json(Tree { entries }))
}

/// Read a file's bytes as editors and shells see them now.
#[utoipa::path(get, path = "/v1/branches/{branch}/files/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path)),
    responses((status = OK, description = "the bytes, with `ETag`", content_type = "application/octet-stream")))]
async fn read(
    State(state): State<AppState>,
    caller: Caller,
    Path((branch, path)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let branch = branch_id(&branch)?;
    caller.on(&branch)?;
    let path = rel_path(&path)?;
    let content = state.branches.hub(&branch).await?.read(&path, caller.session()).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ETAG, etag(content.version)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, content.bytes).into_response())
}

/// Write a file. `If-Match` names the version the bytes were made from; what others did since is merged.
#[utoipa::path(put, path = "/v1/branches/{branch}/files/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = OK, description = "written; `ETag`"), (status = CREATED, description = "new; `ETag`"),
        (status = PRECONDITION_FAILED, description = "`version_unknown`; `ETag` is the present version")))]
async fn write(
    State(state): State<AppState>,
    caller: Caller,
    Path((branch, path)): Path<(String, String)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let branch = branch_id(&branch)?;
    caller.on(&branch)?;
    let path = rel_path(&path)?;
    let hub = state.branches.hub(&branch).await?;
    let grant = caller.writer(&branch, &hub)?;
    let named = match headers.get(header::IF_MATCH) {
        None => None,
        Some(value) => {
            let version = value.to_str().ok().and_then(Version::parse);
            Some(version.ok_or_else(|| ApiError::bad_request("`If-Match` names one ETag of this file"))?)
        }
    };
    let (content, is_new) = hub.write(&path, &grant, named, bytes).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, etag(content.version))]).into_response())
}

/// Delete a file; its document closes for all.
#[utoipa::path(delete, path = "/v1/branches/{branch}/files/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path)), responses((status = NO_CONTENT)))]
async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Path((branch, path)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let branch = branch_id(&branch)?;
    caller.on(&branch)?;
    let path = rel_path(&path)?;
    let hub = state.branches.hub(&branch).await?;
    let grant = caller.writer(&branch, &hub)?;
    hub.delete(&path, &grant).await?;
    Ok(StatusCode::NO_CONTENT)
}
