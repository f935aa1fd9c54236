//! Renames of files and folders.

use super::auth::Caller;
use super::branches::{body, branch_id};
use super::files::rel_path;
use super::{ApiError, AppState};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
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
async fn rename(
    State(state): State<AppState>,
    caller: Caller,
    Path(branch): Path<String>,
    request: Result<Json<Rename>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let branch = branch_id(&branch)?;
    caller.on(&branch)?;
    let request = body(request)?;
    let (from, to) = (rel_path(&request.from)?, rel_path(&request.to)?);
    let hub = state.branches.hub(&branch).await?;
    let grant = caller.writer(&state, &branch, &hub).await?;
    hub.rename(&from, &to, &grant).await?;
    Ok(StatusCode::NO_CONTENT)
}
