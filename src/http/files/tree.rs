//! Looking at the tree.

use super::rel_path;
use crate::http::ApiError;
use crate::http::place::{At, On, Params};
use crate::workspace::{Entry, Kind, MAX_PAGE, Page};
use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// A folder; the workspace itself without it.
    path: Option<String>,
    /// What is in folders too. Links are not entered.
    #[serde(default)]
    recursive: bool,
    /// The `next` of the page before.
    after: Option<String>,
    /// 1 to 10,000; 1,000 without it.
    limit: Option<usize>,
}

/// What is at a path.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryView {
    /// From the workspace's root.
    path: String,
    /// What it is; a link is not followed.
    kind: Kind,
    len_bytes: u64,
    /// Milliseconds since 1970 UTC.
    modified_at_ms: i64,
    /// Whether git ignores it, by the repository's own rules.
    ignored: bool,
    /// Of a link, what it leads to; absent where it leads nowhere or out of the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Kind>,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        let Entry { path, kind, len_bytes, modified_at_ms, ignored, target } = entry;
        Self { path, kind, len_bytes, modified_at_ms, ignored, target }
    }
}

/// A page of entries, by path, a folder right before what is in it. `.git` and names that are not UTF-8 are left out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tree {
    entries: Vec<EntryView>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// List a folder, or all in it.
#[utoipa::path(get, path = "/v1/branches/{branch}/tree", tag = "files",
    params(("branch" = String, Path), Listing), responses((status = OK, body = Tree),
        (status = UNPROCESSABLE_ENTITY, description = "`too_many`: more than 200,000 names in one folder")))]
pub(super) async fn tree(on: On, Params(listing): Params<Listing>) -> Result<Json<Tree>, ApiError> {
    let folder = listing.path.as_deref().filter(|path| !path.is_empty()).map(rel_path).transpose()?;
    let after = listing.after.as_deref().filter(|path| !path.is_empty()).map(rel_path).transpose()?;
    let limit = listing.limit.unwrap_or(1_000).clamp(1, MAX_PAGE);
    let page = Page { after, limit, recursive: listing.recursive };
    let found = on.hub.tree(folder.as_ref(), &page).await?;
    let found = found.ok_or_else(|| ApiError::not_found("there is no such folder"))?;
    Ok(Json(Tree { entries: found.entries.into_iter().map(Into::into).collect(), next: found.next }))
}

/// Look at one path, as a list would show it.
#[utoipa::path(get, path = "/v1/branches/{branch}/stat/{*path}", tag = "files",
    params(("branch" = String, Path), ("path" = String, Path)), responses((status = OK, body = EntryView)))]
pub(super) async fn stat(at: At) -> Result<Json<EntryView>, ApiError> {
    Ok(Json(at.on.hub.stat(&at.path).await?.into()))
}
