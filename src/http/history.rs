//! What documents remember: history, text at a position, who typed which line; and bringing text back.

use super::branches::body;
use super::files::{etag, rel_path};
use super::place::{At, On};
use super::{ApiError, AppState};
use crate::base::DocumentId;
use crate::branch::{Authored, Hunk};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(history, restore))
        .routes(routes!(text))
        .routes(routes!(diff))
        .routes(routes!(authors))
        .routes(routes!(deleted))
        .routes(routes!(restore_deleted))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// The `next` of the page before.
    before: Option<i64>,
    /// 1 to 200; 50 without it.
    limit: Option<i64>,
}

/// How much one author changed, in UTF-16 units.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuthorView {
    /// A session's id; `(api)`: an API token; `(disk)`: the file was changed from outside; `(perch)`: the server's own edit, such as of line
    /// ends.
    author: String,
    /// The session's name.
    name: Option<String>,
    inserted: i64,
    deleted: i64,
}

/// Changes of one author, or of authors who typed together, within a minute.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    first_position: i64,
    /// Its last position; the text before the entry is that of `first_position - 1`.
    position: i64,
    /// Milliseconds since 1970 UTC.
    first_at_ms: i64,
    /// Milliseconds since 1970 UTC.
    at_ms: i64,
    authors: Vec<AuthorView>,
}

/// A page of a document's history, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryView {
    document: DocumentId,
    /// The oldest position whose text can be read. 0 is the file as it was when it was first opened.
    oldest_position: i64,
    /// The newest durable position.
    position: i64,
    entries: Vec<Entry>,
    /// `before` of the next page; absent on the last.
    next: Option<i64>,
}

/// Tell who changed a document how much and when.
#[utoipa::path(get, path = "/v1/branches/{branch}/history/{*path}", tag = "history",
    params(("branch" = String, Path), ("path" = String, Path), Page),
    responses((status = OK, body = HistoryView), (status = NOT_FOUND, description = "`no_history`")))]
async fn history(at: At, Query(page): Query<Page>) -> Result<Json<HistoryView>, ApiError> {
    let limit = page.limit.unwrap_or(50).clamp(1, 200);
    let history = at.on.hub.history(&at.path, page.before, limit).await?;
    let of = history.entries.iter().flat_map(|entry| &entry.authors).map(|of| of.author.clone()).collect();
    let names = at.on.hub.names(of).await?;
    let is_full = i64::try_from(history.entries.len()).is_ok_and(|count| count == limit);
    let next = history.entries.last().filter(|_| is_full).map(|entry| entry.first_position);
    let entries = history.entries.into_iter().map(|entry| Entry {
        first_position: entry.first_position,
        position: entry.position,
        first_at_ms: entry.first_at_ms,
        at_ms: entry.at_ms,
        authors: entry
            .authors
            .into_iter()
            .map(|of| AuthorView {
                name: names.get(&of.author).cloned(),
                author: of.author,
                inserted: of.inserted,
                deleted: of.deleted,
            })
            .collect(),
    });
    Ok(Json(HistoryView {
        document: history.document,
        oldest_position: history.oldest,
        position: history.newest,
        entries: entries.collect(),
        next,
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AtPosition {
    /// The newest durable one without it.
    position: Option<i64>,
}

/// Read the text at a position (lines end in `\n`); the header `perch-position` says which it is.
#[utoipa::path(get, path = "/v1/branches/{branch}/text/{*path}", tag = "history",
    params(("branch" = String, Path), ("path" = String, Path), AtPosition),
    responses((status = OK, content_type = "text/plain; charset=utf-8", body = String),
        (status = GONE, description = "`position_gone`; the detail names the oldest"),
        (status = NOT_FOUND, description = "`no_history`, `position_unknown`")))]
async fn text(at: At, Query(wanted): Query<AtPosition>) -> Result<Response, ApiError> {
    let (position, text) = at.on.hub.text_at(&at.path, wanted.position).await?;
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff".to_owned()),
        (header::CACHE_CONTROL.as_str(), "no-store".to_owned()),
        ("perch-position", position.to_string()),
    ];
    Ok((headers, text).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Between {
    from: i64,
    /// The newest durable position without it.
    to: Option<i64>,
}

/// What changed between two positions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DiffView {
    from: i64,
    to: i64,
    hunks: Vec<Hunk>,
}

/// Tell which lines changed from one position to another.
#[utoipa::path(get, path = "/v1/branches/{branch}/diff/{*path}", tag = "history",
    params(("branch" = String, Path), ("path" = String, Path), Between),
    responses((status = OK, body = DiffView), (status = GONE, description = "`position_gone`"),
        (status = NOT_FOUND, description = "`no_history`, `position_unknown`")))]
async fn diff(at: At, Query(between): Query<Between>) -> Result<Json<DiffView>, ApiError> {
    let (to, hunks) = at.on.hub.changed_lines(&at.path, between.from, between.to).await?;
    Ok(Json(DiffView { from: between.from, to, hunks }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LineRange {
    /// First line, counted from 1; 1 without it.
    line: Option<usize>,
    /// Lines at most, 1 to 10,000; 10,000 without it.
    limit: Option<usize>,
}

/// Who typed a part of a line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LineAuthorView {
    /// A session's id; `(file)`: it was there when the file was opened; `(disk)`: from outside; `(perch)`: the server.
    author: String,
    /// The session's name.
    name: Option<String>,
    /// When they typed the newest part of it, to the minute; milliseconds since 1970 UTC.
    at_ms: i64,
}

/// Neighbouring lines by the same authors.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LinesView {
    /// The first, counted from 1.
    line: usize,
    /// How many.
    count: usize,
    /// Who typed most of it first.
    authors: Vec<LineAuthorView>,
}

/// Who typed the newest durable text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuthorsView {
    position: i64,
    lines: Vec<LinesView>,
    /// `line` of the next page; absent on the last.
    next: Option<usize>,
}

/// Tell who typed which line of the present text, and when.
#[utoipa::path(get, path = "/v1/branches/{branch}/authors/{*path}", tag = "history",
    params(("branch" = String, Path), ("path" = String, Path), LineRange),
    responses((status = OK, body = AuthorsView), (status = NOT_FOUND, description = "`no_history`")))]
async fn authors(at: At, Query(wanted): Query<LineRange>) -> Result<Json<AuthorsView>, ApiError> {
    let Authored { position, lines: all, .. } = at.on.hub.authors(&at.path).await?;
    let from = wanted.line.unwrap_or(1).max(1);
    let end = from.saturating_add(wanted.limit.unwrap_or(10_000).clamp(1, 10_000));
    let next = all.last().is_some_and(|last| last.line + last.count > end).then_some(end);
    let mut lines = Vec::new();
    for span in all {
        let (first, after) = (span.line.max(from), (span.line + span.count).min(end));
        if first < after {
            lines.push((first, after - first, span.authors));
        }
    }
    let of = lines.iter().flat_map(|(_, _, authors)| authors).map(|of| of.author.clone()).collect();
    let names = at.on.hub.names(of).await?;
    let lines = lines.into_iter().map(|(line, count, authors)| LinesView {
        line,
        count,
        authors: authors
            .into_iter()
            .map(|of| LineAuthorView {
                name: names.get(&of.author).cloned(),
                author: of.author,
                at_ms: of.at_ms,
            })
            .collect(),
    });
    Ok(Json(AuthorsView { position, lines: lines.collect(), next }))
}

/// Which text to bring back.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct RestorePosition {
    position: i64,
}

/// Make the text of a position the present one: POST to `…/history/{path}/restore`. What others type meanwhile stays.
#[utoipa::path(post, path = "/v1/branches/{branch}/history/{*path}", tag = "history",
    params(("branch" = String, Path), ("path" = String, Path, description = "the file's path and `/restore`")),
    request_body = RestorePosition,
    responses((status = NO_CONTENT, description = "restored; `ETag`"), (status = GONE, description = "`position_gone`"),
        (status = NOT_FOUND, description = "`no_history`, `position_unknown`")))]
async fn restore(
    on: On,
    Path((_branch, path)): Path<(String, String)>,
    request: Result<Json<RestorePosition>, JsonRejection>,
) -> Result<Response, ApiError> {
    let path = path.strip_suffix("/restore").ok_or_else(|| ApiError::not_found("there is no such route"))?;
    let path = rel_path(path)?;
    let position = body(request)?.position;
    let grant = on.writer().await?;
    let content = on.hub.restore_position(&path, position, &grant).await?;
    Ok((StatusCode::NO_CONTENT, [(header::ETAG, etag(content.version))]).into_response())
}

/// A document that ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndedView {
    id: DocumentId,
    path: String,
    /// `deleted`, `replaced` (by a folder), `not_text`, `too_large`.
    reason: String,
    /// Milliseconds since 1970 UTC.
    closed_at_ms: i64,
    /// Bytes of its text; absent where its file went while nobody had it open.
    len_bytes: Option<i64>,
}

/// The last 200 documents that ended, the last to end first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndedList {
    documents: Vec<EndedView>,
}

/// List documents that ended: deleted, replaced, or no text any more.
#[utoipa::path(get, path = "/v1/branches/{branch}/deleted", tag = "history",
    params(("branch" = String, Path)), responses((status = OK, body = EndedList)))]
async fn deleted(on: On) -> Result<Json<EndedList>, ApiError> {
    let ended = on.hub.ended().await?;
    let documents = ended.into_iter().map(|ended| EndedView {
        id: ended.id,
        path: ended.path,
        reason: ended.reason,
        closed_at_ms: ended.closed_at_ms,
        len_bytes: ended.text.map(|text| text.len_bytes),
    });
    Ok(Json(EndedList { documents: documents.collect() }))
}

/// Where to bring a text back.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct RestoreEnded {
    /// Its old path without it.
    path: Option<String>,
}

/// Where a text is back.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Restored {
    path: String,
}

/// Bring the last text of an ended document back as a new file.
#[utoipa::path(post, path = "/v1/branches/{branch}/deleted/{document}/restore", tag = "history",
    params(("branch" = String, Path), ("document" = String, Path)), request_body = Option<RestoreEnded>,
    responses((status = CREATED, body = Restored, description = "there again; `ETag`"),
        (status = CONFLICT, description = "`exists`: the path is taken"), (status = NOT_FOUND)))]
async fn restore_deleted(
    on: On,
    Path((_branch, document)): Path<(String, String)>,
    bytes: axum::body::Bytes,
) -> Result<Response, ApiError> {
    let document: DocumentId =
        document.parse().map_err(|_| ApiError::not_found("there is no such ended document"))?;
    // The body may be left out.
    let wanted: RestoreEnded = if bytes.is_empty() {
        RestoreEnded { path: None }
    } else {
        serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(error.to_string()))?
    };
    let path = wanted.path.as_deref().map(rel_path).transpose()?;
    let grant = on.writer().await?;
    on.room(0).await?;
    let (path, content) = on.hub.restore_ended(&document, path, &grant).await?;
    let headers = [(header::ETAG, etag(content.version))];
    Ok((StatusCode::CREATED, headers, Json(Restored { path: path.to_string() })).into_response())
}
