//! Files of a branch: list, look, read, write, edit, copy, search, delete.

mod answer;
mod content;
mod edit;
mod folders;
mod search;
mod tree;

pub(super) use answer::{answer, attached};

use super::{ApiError, AppState};
use crate::branch::{EditError, FilesError, Version};
use crate::workspace::RelPath;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Bytes of one file in a request; it is held in memory whole.
const MAX_BODY: usize = 64 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    let large = OpenApiRouter::new()
        .routes(routes!(content::read, content::write, content::delete))
        .routes(routes!(edit::edit))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    OpenApiRouter::new()
        .routes(routes!(tree::tree))
        .routes(routes!(tree::stat))
        .routes(routes!(folders::make, folders::delete))
        .routes(routes!(folders::copy))
        .routes(routes!(search::search))
        .routes(routes!(search::find))
        .merge(large)
}

pub(super) fn rel_path(text: &str) -> Result<RelPath, ApiError> {
    text.parse().map_err(|error: crate::workspace::PathError| {
        ApiError::new(StatusCode::BAD_REQUEST, "path_refused", error.to_string())
    })
}

pub(super) fn etag(version: Version) -> String {
    format!("\"{version}\"")
}

impl From<FilesError> for ApiError {
    fn from(error: FilesError) -> Self {
        let detail = error.to_string();
        match error {
            FilesError::Document(source) => source.into(),
            FilesError::Edit(source) => source.into(),
            FilesError::Exists(_) => Self::new(StatusCode::CONFLICT, "exists", detail),
            FilesError::NotEmpty(_) => Self::new(StatusCode::CONFLICT, "folder_not_empty", detail),
            FilesError::NotAFolder(_) => Self::new(StatusCode::CONFLICT, "not_a_folder", detail),
            FilesError::IntoItself(_) => Self::new(StatusCode::BAD_REQUEST, "into_itself", detail),
            FilesError::TooMany(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many", detail),
            FilesError::Query(_) => Self::new(StatusCode::BAD_REQUEST, "query_refused", detail),
        }
    }
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        let detail = error.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, detail.clone());
        match error {
            EditError::NotFound { edit, near, .. } => {
                conflict("edit_not_found").with("edit", edit).with("near_lines", near)
            }
            EditError::Ambiguous { edit, count, lines, .. } => {
                conflict("edit_ambiguous").with("edit", edit).with("count", count).with("lines", lines)
            }
            EditError::Overlap { first, second } => {
                Self::new(StatusCode::BAD_REQUEST, "edit_overlap", detail).with("edits", vec![first, second])
            }
            EditError::Refused { edit, .. } => {
                Self::new(StatusCode::BAD_REQUEST, "edit_refused", detail).with("edit", edit)
            }
        }
    }
}
