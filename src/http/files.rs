//! Files of a branch: list, read, write, delete.

use super::auth::Caller;
use super::branches::branch_id;
use super::{ApiError, AppState};
use crate::branch::Version;
use crate::workspace::RelPath;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// Bytes of one file in a request.
pub(super) const MAX_BODY: usize = 64 * 1024 * 1024;

#[derive(Debug, Deserialize)]
pub(super) struct Folder {
    path: Option<String>,
}

fn rel_path(text: &str) -> Result<RelPath, ApiError> {
    text.parse().map_err(|error: crate::workspace::PathError| {
        ApiError::new(StatusCode::BAD_REQUEST, "path_refused", error.to_string())
    })
}

fn etag(version: Version) -> String {
    format!("\"{version}\"")
}

pub(super) async fn tree(
    State(state): State<AppState>,
    caller: Caller,
    Path(branch): Path<String>,
    Query(folder): Query<Folder>,
) -> Result<Json<Value>, ApiError> {
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
    let entries: Vec<_> = entries
        .iter()
        .map(|entry| json!({ "path": entry.path, "kind": entry.kind, "len_bytes": entry.len_bytes }))
        .collect();
    Ok(Json(json!({ "entries": entries })))
}

pub(super) async fn read(
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

pub(super) async fn write(
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

pub(super) async fn delete(
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
