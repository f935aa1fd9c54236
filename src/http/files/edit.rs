//! Replacing parts of a file, which is how agents write.

use super::etag;
use crate::branch::{TextEdit, Version};
use crate::http::ApiError;
use crate::http::branches::body;
use crate::http::place::At;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderName, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Edits of one request.
const MAX_EDITS: usize = 500;
/// Ranges of lines that an answer names.
const MAX_LINES: usize = 1_000;

/// One replacement: of `old`, or of what stands from `start` to `end`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditOne {
    /// Text that is there exactly once, or at least once with `all`. `\n` and `\r\n` are the same.
    old: Option<String>,
    /// Every time `old` is there, not just once.
    #[serde(default)]
    all: bool,
    /// First UTF-16 unit in the text as editors hold it (lines end in `\n`, no byte order mark); needs `version`.
    start: Option<u32>,
    /// Behind the last unit; `start` without it.
    end: Option<u32>,
    /// What comes instead.
    new: String,
}

/// Edits of one version of a text file: all are made, or none. They must not overlap.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditRequest {
    /// The `ETag` of the version that the edits speak of. Without it: the one that the session read last, or where the
    /// edits don't fit that, the present one.
    version: Option<String>,
    /// 1 to 500.
    edits: Vec<EditOne>,
}

/// Lines from 1, the last one included.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LineRange {
    first: usize,
    last: usize,
}

/// What the edits came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EditAnswer {
    /// The file's new version, as in `ETag` but without quotes.
    version: String,
    /// How many places were changed.
    places: usize,
    /// The changed lines as they are now, the first 1,000 ranges.
    lines: Vec<LineRange>,
}

fn text_edits(request: EditRequest) -> Result<(Option<Version>, Vec<TextEdit>), ApiError> {
    let version = match request.version {
        None => None,
        Some(text) => {
            let version = Version::parse(&text);
            Some(version.ok_or_else(|| ApiError::bad_request("`version` is an ETag of this file"))?)
        }
    };
    if request.edits.is_empty() || request.edits.len() > MAX_EDITS {
        return Err(ApiError::bad_request(format!("`edits` holds 1 to {MAX_EDITS} edits")));
    }
    let mut edits = Vec::with_capacity(request.edits.len());
    for (number, edit) in request.edits.into_iter().enumerate() {
        let refused = |why: &str| ApiError::bad_request(format!("edit {number}: {why}"));
        edits.push(match (edit.old, edit.start) {
            (Some(old), None) if edit.end.is_none() => TextEdit::Text { old, new: edit.new, all: edit.all },
            (None, Some(_)) if version.is_none() => {
                return Err(refused("a place means nothing without `version`"));
            }
            (None, Some(start)) if !edit.all => {
                TextEdit::Place { start, end: edit.end.unwrap_or(start), new: edit.new }
            }
            _ => return Err(refused("give `old`, perhaps `all`, or `start` and perhaps `end`")),
        });
    }
    Ok((version, edits))
}

/// Replace parts of a text file. What others typed since the version named is merged.
#[utoipa::path(post, operation_id = "edit_file", path = "/v1/branches/{branch}/edit/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path)), request_body = EditRequest,
    responses((status = OK, body = EditAnswer, description = "with `ETag`"),
        (status = CONFLICT, description = "`edit_not_found` with `edit` (from 0) and `near_lines`; `edit_ambiguous` \
            with `edit`, `count` and `lines`"),
        (status = PRECONDITION_FAILED, description = "`version_unknown`; `ETag` is the present version")))]
pub(super) async fn edit(
    at: At,
    request: Result<Json<EditRequest>, JsonRejection>,
) -> Result<([(HeaderName, String); 1], Json<EditAnswer>), ApiError> {
    let grant = at.on.writer().await?;
    let request = body(request)?;
    at.on.room(request.edits.iter().map(|edit| edit.new.len() as u64).sum()).await?;
    let (version, edits) = text_edits(request)?;
    let edited = at.on.hub.edit(&at.path, &grant, at.on.caller.session(), version, edits).await?;
    let lines = edited.lines.into_iter().take(MAX_LINES);
    let answer = EditAnswer {
        version: edited.content.version.to_string(),
        places: edited.places,
        lines: lines.map(|(first, last)| LineRange { first, last }).collect(),
    };
    Ok(([(header::ETAG, etag(edited.content.version))], Json(answer)))
}
