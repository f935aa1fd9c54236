//! Folders, and copies of files and folders.

use super::rel_path;
use crate::http::ApiError;
use crate::http::branches::body;
use crate::http::place::{At, On, Params};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

/// Make a folder, and those above it. 200: it was there.
#[utoipa::path(post, operation_id = "make_folder", path = "/v1/branches/{branch}/folders/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path)),
    responses((status = CREATED, description = "new"), (status = OK, description = "it was there"),
        (status = CONFLICT, description = "`exists`: something else is there")))]
pub(super) async fn make(at: At) -> Result<StatusCode, ApiError> {
    let grant = at.on.writer().await?;
    let is_new = at.on.hub.make_folder(&at.path, &grant).await?;
    Ok(if is_new { StatusCode::CREATED } else { StatusCode::OK })
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Removal {
    /// With all that is in it; without it only an empty folder goes.
    #[serde(default)]
    recursive: bool,
}

/// Delete a folder. Documents in it close for all.
#[utoipa::path(delete, operation_id = "delete_folder", path = "/v1/branches/{branch}/folders/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path), Removal),
    responses((status = NO_CONTENT), (status = CONFLICT, description = "`folder_not_empty`, `not_a_folder`")))]
pub(super) async fn delete(at: At, Params(removal): Params<Removal>) -> Result<StatusCode, ApiError> {
    let grant = at.on.writer().await?;
    at.on.hub.delete_folder(&at.path, removal.recursive, &grant).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is to be copied where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CopyRequest {
    /// A file or folder.
    from: String,
    /// A path where nothing is; folders above it are made.
    to: String,
}

/// Copy a file or folder as editors see it now. `.git` is left out, links are copied as they are, the copy's documents
/// start anew. At most 100,000 entries and 4 GiB.
#[utoipa::path(post, path = "/v1/branches/{branch}/copy", tag = "files", params(("branch" = String, Path)),
    request_body = CopyRequest, responses((status = CREATED), (status = CONFLICT, description = "`exists`"),
        (status = UNPROCESSABLE_ENTITY, description = "`too_many`: past the limits")))]
pub(super) async fn copy(
    on: On,
    request: Result<Json<CopyRequest>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let grant = on.writer().await?;
    let request = body(request)?;
    let (from, to) = (rel_path(&request.from)?, rel_path(&request.to)?);
    on.room(on.hub.size(&from).await?).await?;
    on.hub.copy(&from, &to, &grant).await?;
    Ok(StatusCode::CREATED)
}
