//! Searching by content and by name.

use super::rel_path;
use crate::branch::Searched;
use crate::http::ApiError;
use crate::http::place::{On, Params};
use crate::workspace::{FoundLine, FoundPath, Pattern};
use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Lines or files of an answer where the caller names no number, and the most.
const LIMIT: (usize, usize) = (200, 2_000);

fn limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(LIMIT.0).clamp(1, LIMIT.1)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ContentQuery {
    /// 1 to 1,000 bytes; found within lines.
    query: String,
    /// Take the query as a regular expression (Rust's `regex` syntax).
    #[serde(default)]
    regex: bool,
    /// Case matters.
    #[serde(default)]
    case: bool,
    /// A folder or file; everything without it. An ignored folder is searched if it is named here.
    path: Option<String>,
    /// 1 to 2,000 lines; 200 without it.
    limit: Option<usize>,
}

/// A line that matches.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LineView {
    path: String,
    /// From 1.
    line: u64,
    /// Where its first match starts, in UTF-16 units from 1.
    column: u32,
    /// The match's length in UTF-16 units.
    length: u32,
    /// The line, at most 400 UTF-16 units of it around the match.
    text: String,
    /// Where `text` starts in the line, in UTF-16 units from 1.
    text_column: u32,
}

impl From<FoundLine> for LineView {
    fn from(found: FoundLine) -> Self {
        let FoundLine { path, line, column, length, text, text_column, .. } = found;
        Self { path, line, column, length, text, text_column }
    }
}

/// Matching lines, by path and line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Lines {
    matches: Vec<LineView>,
    /// There may be more: the limit or 10 s were reached.
    cut: bool,
    /// Files that were not searched: of more than 8 MiB, or, for an expression, with a line of more than 64 KiB.
    too_large: usize,
    /// Files whose latest edits could not be brought to disk within 5 s: they were searched without those.
    behind: Vec<String>,
}

/// Search file contents, what was typed until now included. Binary files and what git ignores are left out.
#[utoipa::path(get, path = "/v1/branches/{branch}/search", tag = "files",
    params(("branch" = String, Path), ContentQuery), responses((status = OK, body = Lines),
        (status = BAD_REQUEST, description = "`query_refused`")))]
pub(super) async fn search(on: On, Params(query): Params<ContentQuery>) -> Result<Json<Lines>, ApiError> {
    let within = query.path.as_deref().filter(|path| !path.is_empty()).map(rel_path).transpose()?;
    let pattern = Pattern { query: query.query, is_regex: query.regex, match_case: query.case, files: None };
    let searched = on.hub.search(&pattern, within.as_ref(), limit(query.limit)).await?;
    let Searched { found, behind } =
        searched.ok_or_else(|| ApiError::not_found("there is no such file or folder"))?;
    let matches = found.lines.into_iter().map(Into::into).collect();
    let behind = behind.iter().map(ToString::to_string).collect();
    Ok(Json(Lines { matches, cut: found.is_cut, too_large: found.too_large, behind }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct NameQuery {
    /// Letters of the path in their order, with gaps; words apart by spaces must all be found. Case matters if there
    /// is an upper-case letter. At most 1,000 bytes; nothing gives the first files.
    #[serde(default)]
    query: String,
    /// 1 to 2,000 files; 200 without it.
    limit: Option<usize>,
}

/// A file.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PathView {
    path: String,
    /// How alike; more is better, the scale is no promise.
    score: u32,
}

impl From<FoundPath> for PathView {
    fn from(found: FoundPath) -> Self {
        Self { path: found.path, score: found.score }
    }
}

/// Files, the best first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Paths {
    files: Vec<PathView>,
    /// Not all files were looked at: 10 s were reached.
    cut: bool,
}

/// Find files by name, for quick open. What git ignores is left out.
#[utoipa::path(get, path = "/v1/branches/{branch}/find", tag = "files",
    params(("branch" = String, Path), NameQuery), responses((status = OK, body = Paths)))]
pub(super) async fn find(on: On, Params(query): Params<NameQuery>) -> Result<Json<Paths>, ApiError> {
    let found = on.hub.find(&query.query, limit(query.limit)).await?;
    Ok(Json(Paths { files: found.paths.into_iter().map(Into::into).collect(), cut: found.is_cut }))
}
