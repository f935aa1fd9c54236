//! What was committed: the log, a commit, a file of a commit.

use super::diff::{Page, Part, page, resolve};
use crate::base::SessionId;
use crate::branch::{Content, Version};
use crate::git::{Between, Command, Commit, Revision, commit_hash};
use crate::http::files::{answer, rel_path};
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::{Git, GitError, MAX_OUTPUT};
use crate::workspace::RelPath;
use axum::Json;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Commits of a page if nothing is said, and at most.
const COMMITS: (usize, usize) = (50, 200);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(log)).routes(routes!(show)).routes(routes!(file))
}

fn head(revision: Option<&str>) -> Result<Revision, ApiError> {
    Ok(Revision::new(revision.unwrap_or("HEAD"))?)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Log {
    /// Where to begin: a commit, branch or tag; `HEAD` without it.
    revision: Option<String>,
    /// Only commits that changed this file or folder.
    path: Option<String>,
    /// Commits of a page, 1 to 200; 50 without it.
    limit: Option<usize>,
    /// `next` of the page before; it holds where that began.
    after: Option<String>,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// Commits, newest first.
#[derive(Serialize, ToSchema)]
struct Commits {
    commits: Vec<Commit>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Where a page of a log begins: at a commit, and how many are left out from there.
fn cursor(text: &str) -> Result<(Revision, usize), ApiError> {
    let parts = text.split_once('-').and_then(|(hash, skip)| {
        Some((commit_hash(hash.as_bytes())?, skip.parse().ok().filter(|skip| *skip <= 100_000_000)?))
    });
    parts.ok_or_else(|| ApiError::bad_request("`after` is `next` of another page"))
}

/// List commits, newest first, those that came in by merges too. A repository without commits has none. Messages are cut after
/// 64 KiB; a page holds fewer commits where their messages come to more than 16 MiB.
#[utoipa::path(get, path = "/v1/branches/{branch}/git/log", tag = "git",
    params(("branch" = String, Path), Log),
    responses((status = OK, body = Commits), (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = CONFLICT, description = "`git_no_repository`")))]
async fn log(on: On, Params(wanted): Params<Log>) -> Result<Json<Commits>, ApiError> {
    let mut limit = wanted.limit.unwrap_or(COMMITS.0);
    if !(1..=COMMITS.1).contains(&limit) {
        return Err(ApiError::bad_request("`limit` is 1 to 200"));
    }
    let path = wanted.path.as_deref().filter(|path| !path.is_empty()).map(rel_path).transpose()?;
    let after = wanted.after.as_deref().map(cursor).transpose()?;
    let revision = head(wanted.revision.as_deref())?;
    let git = on.git(wanted.session.as_ref()).await?;
    let (from, skip) = match after {
        Some((hash, skip)) => (resolve(&git, &hash).await?, skip),
        None if wanted.revision.is_none() && is_unborn(&git).await? => {
            return Ok(Json(Commits { commits: Vec::new(), next: None }));
        }
        None => (resolve(&git, &revision).await?, 0),
    };
    loop {
        // One more tells whether there are more.
        match git.run(Command::log(&from, skip, limit + 1, &path)).await {
            Ok(printed) => {
                let mut commits = Commit::read(&printed);
                let next = (commits.len() > limit).then(|| format!("{}-{}", from.as_str(), skip + limit));
                commits.truncate(limit);
                return Ok(Json(Commits { commits, next }));
            }
            Err(GitError::TooLarge) if limit > 1 => limit = (limit / 4).max(1),
            Err(GitError::TooLarge) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // Even one and what tells of a next are too large.
    let commits = Vec::from_iter(first(&git, &from, skip, path.as_ref()).await?);
    let more = first(&git, &from, skip + 1, path.as_ref()).await?;
    let next = more.map(|_| format!("{}-{}", from.as_str(), skip + 1));
    Ok(Json(Commits { commits, next }))
}

/// The first commit after `skip`; of a message that is too large the beginning.
async fn first(
    git: &Git,
    from: &Revision,
    skip: usize,
    path: Option<&RelPath>,
) -> Result<Option<Commit>, GitError> {
    Ok(Commit::first(&git.run(Command::log(from, skip, 1, path).cut()).await?))
}

/// Whether nothing was ever committed on the branch that is checked out.
async fn is_unborn(git: &Git) -> Result<bool, ApiError> {
    // Of a repository that is damaged the commit can't be found, but its name can.
    let name = Command::look("rev-parse").options(["--verify", "--quiet", "HEAD"]);
    match git.run(name).await {
        Err(GitError::Failed(_)) => Ok(true),
        outcome => Ok(outcome.map(|_| false)?),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Show {
    /// The commit, or a branch or tag; `HEAD` without it.
    revision: Option<String>,
    /// One file or folder.
    path: Option<String>,
    /// Lines around each change, 0 to 1,000; 3 without it.
    context: Option<u32>,
    /// Files of a page, 1 to 500; 100 without it.
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// A commit, and what it changed.
#[derive(Serialize, ToSchema)]
struct Shown {
    commit: Commit,
    #[serde(flatten)]
    page: Page,
}

/// Show a commit with what it changed, against its first parent; bounds are those of `diff`.
#[utoipa::path(get, path = "/v1/branches/{branch}/git/show", tag = "git",
    params(("branch" = String, Path), Show),
    responses((status = OK, body = Shown), (status = NOT_FOUND, description = "`git_unknown_revision`")))]
async fn show(on: On, Params(wanted): Params<Show>) -> Result<Json<Shown>, ApiError> {
    let part = Part::new(wanted.path.as_deref(), wanted.context, wanted.limit, wanted.after.as_deref())?;
    let revision = head(wanted.revision.as_deref())?;
    let git = on.git(wanted.session.as_ref()).await?;
    let hash = resolve(&git, &revision).await?;
    let commit = first(&git, &hash, 0, None).await?.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "git_unknown_revision", "the commit can't be read")
    })?;
    let parent = match commit.parents.first() {
        Some(parent) => Revision::new(parent)?,
        // The tree that holds nothing; it is not written.
        None => {
            let empty = git.run(Command::look("hash-object").options(["-t", "tree", "--stdin"])).await?;
            Revision::new(String::from_utf8_lossy(&empty).trim())?
        }
    };
    let page = page(&on, &git, &Between::Commits(parent, hash), false, &part).await?;
    Ok(Json(Shown { commit, page }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct At {
    /// The commit, or a branch or tag; `HEAD` without it.
    revision: Option<String>,
    /// The file.
    path: String,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// Read a file's bytes as they were committed, at most 16 MiB; of a link, where it leads. `Range` takes one range,
/// `If-None-Match` each `ETag` that is known.
#[utoipa::path(get, path = "/v1/branches/{branch}/git/file", tag = "git",
    params(("branch" = String, Path), At),
    responses((status = OK, description = "the bytes, with `ETag`", content_type = "application/octet-stream"),
        (status = PARTIAL_CONTENT, description = "the range"), (status = NOT_MODIFIED),
        (status = NOT_FOUND, description = "`git_unknown_revision`; `git_unknown_path`: the commit has no such file"),
        (status = CONFLICT, description = "`not_a_file`: a folder, or another repository"),
        (status = PAYLOAD_TOO_LARGE, description = "`git_output_too_large`")))]
async fn file(
    on: On,
    Params(wanted): Params<At>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = rel_path(&wanted.path)?;
    let revision = head(wanted.revision.as_deref())?;
    let git = on.git(wanted.session.as_ref()).await?;
    let hash = resolve(&git, &revision).await?;
    let command = Command::look("ls-tree").options(["-z", "--long", "--full-tree", "--end-of-options"]);
    let listed = git.run(command.revision(&hash).paths([&path])).await?;
    // `100644 blob HASH    SIZE`, a tab, the path.
    let listed = String::from_utf8_lossy(&listed);
    let mut words = listed.split('\t').next().unwrap_or_default().split_whitespace().skip(1);
    let (Some(kind), Some(blob), Some(size)) = (words.next(), words.next(), words.next()) else {
        let detail = format!("the commit has no `{path}`");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "git_unknown_path", detail));
    };
    if kind != "blob" {
        let detail = format!("`{path}` is no file in that commit");
        return Err(ApiError::new(StatusCode::CONFLICT, "not_a_file", detail));
    }
    if size.parse().is_ok_and(|size: usize| size > MAX_OUTPUT) {
        return Err(GitError::TooLarge.into());
    }
    let blob = Revision::new(blob)?;
    let bytes = git.run(Command::look("cat-file").option("blob").revision(&blob)).await?;
    let content = Content { version: Version::of(&bytes), bytes: bytes.into() };
    Ok(answer(&path, &content, &method, &headers))
}
