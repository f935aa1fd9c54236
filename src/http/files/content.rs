//! A file's bytes.

use super::answer::answer;
use super::etag;
use crate::branch::{FilesError, Version};
use crate::http::ApiError;
use crate::http::place::{At, bytes};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Read a file's bytes as editors and shells see them now. `Range` takes one range, `If-None-Match` each `ETag` that is known.
#[utoipa::path(get, operation_id = "read_file", path = "/v1/branches/{branch}/files/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path)),
    responses((status = OK, description = "the bytes, with `ETag`", content_type = "application/octet-stream"),
        (status = PARTIAL_CONTENT, description = "the range"), (status = NOT_MODIFIED),
        (status = RANGE_NOT_SATISFIABLE, description = "`range_refused`: it starts past the end")))]
pub(super) async fn read(at: At, method: Method, headers: HeaderMap) -> Result<Response, ApiError> {
    let content = at.on.hub.read(&at.path, at.on.caller.session()).await?;
    Ok(answer(&at.path, &content, &method, &headers))
}

/// Write a file of at most 64 MiB. `If-Match` names the version the bytes were made from; what others did since is
/// merged. `If-None-Match: *` writes only where nothing is.
#[utoipa::path(put, operation_id = "write_file", path = "/v1/branches/{branch}/files/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = OK, description = "written; `ETag`"), (status = CREATED, description = "new; `ETag`"),
        (status = PRECONDITION_FAILED,
            description = "`version_unknown`; `ETag` is the present version. `exists` for `If-None-Match`")))]
pub(super) async fn write(
    at: At,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let grant = at.on.writer().await?;
    let bytes = bytes(body, "64 MiB")?;
    at.on.room(bytes.len() as u64).await?;
    let named = match headers.get(header::IF_MATCH) {
        None => None,
        Some(value) => {
            let version = value.to_str().ok().and_then(Version::parse);
            Some(version.ok_or_else(|| ApiError::bad_request("`If-Match` names one ETag of this file"))?)
        }
    };
    if let Some(value) = headers.get(header::IF_NONE_MATCH) {
        if value != "*" || named.is_some() {
            return Err(ApiError::bad_request("a write takes `If-None-Match: *`, alone, or `If-Match`"));
        }
        let content = match at.on.hub.create(&at.path, &grant, bytes).await {
            Err(error @ FilesError::Exists(_)) => {
                return Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "exists", error.to_string()));
            }
            created => created?,
        };
        return Ok((StatusCode::CREATED, [(header::ETAG, etag(content.version))]).into_response());
    }
    let (content, is_new) = at.on.hub.write(&at.path, &grant, named, bytes).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, etag(content.version))]).into_response())
}

/// Delete a file; its document closes for all. Of a link only the link goes.
#[utoipa::path(delete, operation_id = "delete_file", path = "/v1/branches/{branch}/files/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path)), responses((status = NO_CONTENT)))]
pub(super) async fn delete(at: At) -> Result<StatusCode, ApiError> {
    let grant = at.on.writer().await?;
    at.on.hub.delete(&at.path, &grant).await?;
    Ok(StatusCode::NO_CONTENT)
}
