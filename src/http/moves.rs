//! Renames of files and folders.

use super::branches::body;
use super::files::rel_path;
use super::place::On;
use super::{ApiError, AppState};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(rename))
}

/// What is to be renamed.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Rename {
    /// A file, folder or symlink; from the workspace's root.
    from: String,
    /// Nothing may be there; folders above it are made.
    to: String,
}

/// Rename a file or folder. Documents keep their history, editors stay connected.
#[utoipa::path(post, path = "/v1/branches/{branch}/rename", tag = "files", params(("branch" = String, Path)),
    request_body = Rename, responses((status = NO_CONTENT), (status = CONFLICT, description = "`exists`")))]
async fn rename(on: On, request: Result<Json<Rename>, JsonRejection>) -> Result<StatusCode, ApiError> {
    let grant = on.writer().await?;
    let request = body(request)?;
    let (from, to) = (rel_path(&request.from)?, rel_path(&request.to)?);
    on.hub.rename(&from, &to, &grant).await?;
    Ok(StatusCode::NO_CONTENT)
}
