//! Drafts: what writers sent and perch could not take. A session sees its own, an API token all.

use super::place::On;
use super::{ApiError, AppState};
use crate::base::{DocumentId, DraftId};
use crate::store::DraftHead;
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one, delete))
}

/// What is known of a draft without reading it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DraftHeadView {
    id: DraftId,
    /// The document it was meant for; it may have ended since.
    document: Option<DocumentId>,
    /// The path at that time.
    path: String,
    /// The session that sent it, or `(disk)`: bytes that a file held.
    author: String,
    /// Why it was refused.
    reason: String,
    len_bytes: i64,
    /// Milliseconds since 1970 UTC.
    created_at_ms: i64,
}

impl From<DraftHead> for DraftHeadView {
    fn from(head: DraftHead) -> Self {
        Self {
            id: head.id,
            document: head.document_id,
            path: head.path,
            author: head.session_id,
            reason: head.reason,
            len_bytes: head.len_bytes,
            created_at_ms: head.created_at_ms,
        }
    }
}

/// Drafts, newest first, at most 1,000.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DraftList {
    drafts: Vec<DraftHeadView>,
}

/// A draft. Either `text` or `data` is there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DraftView {
    #[serde(flatten)]
    head: DraftHeadView,
    /// The text of the document as it would be with the refused edit, or of the file.
    text: Option<String>,
    /// Where no text can be made: the bytes, a Yjs update (v1) or a file's, in base64.
    data: Option<String>,
}

fn draft_id(text: &str) -> Result<DraftId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("there is no such draft"))
}

/// List drafts: a session's own, or all for an API token.
#[utoipa::path(get, path = "/v1/branches/{branch}/drafts", tag = "drafts",
    params(("branch" = String, Path)), responses((status = OK, body = DraftList)))]
async fn list(on: On) -> Result<Json<DraftList>, ApiError> {
    let drafts = on.hub.drafts(on.caller.session()).await?;
    Ok(Json(DraftList { drafts: drafts.into_iter().map(Into::into).collect() }))
}

/// Read a draft as text where that can be made.
#[utoipa::path(get, path = "/v1/branches/{branch}/drafts/{draft}", tag = "drafts",
    params(("branch" = String, Path), ("draft" = String, Path)),
    responses((status = OK, body = DraftView), (status = NOT_FOUND)))]
async fn one(on: On, Path((_branch, draft)): Path<(String, String)>) -> Result<Json<DraftView>, ApiError> {
    let found = on.hub.draft(&draft_id(&draft)?, on.caller.session()).await?;
    let draft = found.draft;
    let head = DraftHeadView {
        id: draft.id,
        document: draft.document_id,
        path: draft.path,
        author: draft.session_id,
        reason: draft.reason,
        len_bytes: i64::try_from(draft.data.len()).unwrap_or(i64::MAX),
        created_at_ms: draft.created_at_ms,
    };
    let data = found.text.is_none().then(|| STANDARD.encode(&draft.data));
    Ok(Json(DraftView { head, text: found.text, data }))
}

/// Throw a draft away.
#[utoipa::path(delete, path = "/v1/branches/{branch}/drafts/{draft}", tag = "drafts",
    params(("branch" = String, Path), ("draft" = String, Path)),
    responses((status = NO_CONTENT), (status = NOT_FOUND)))]
async fn delete(on: On, Path((_branch, draft)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    on.writer().await?;
    on.hub.delete_draft(&draft_id(&draft)?, on.caller.session()).await?;
    Ok(StatusCode::NO_CONTENT)
}
