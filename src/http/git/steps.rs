//! The steps of the routes by other names, for other protocols: each is the route's own.

use super::commit::{Wanted, commit};
use super::diff::{Page, Part, page, resolve};
use super::remote::{Pull, Push, listed, pull, push};
use super::staging::{ChangesRequest, discard};
use super::status::MAX_FILES;
use crate::git::{Between, Command, Commit, FileDiff, Remote, Revision, Status};
use crate::http::ApiError;
use crate::http::place::On;
use axum::Json;
use axum::http::StatusCode;
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::Value;

/// Commits that a comparison names.
const MAX_COMMITS: usize = 100;
/// Files that a comparison names.
const FILES: usize = 500;

/// How one branch stands to another.
pub(crate) struct Distance {
    /// Commits that the other lacks.
    pub(crate) ahead: u64,
    /// Commits that are not here.
    pub(crate) behind: u64,
    /// The first of those that the other lacks, newest first.
    pub(crate) commits: Vec<Commit>,
}

/// What differs from what was committed.
pub(crate) async fn status(on: &On) -> Result<Status, ApiError> {
    let git = on.git(None).await?;
    Ok(Status::parse(&git.run(Command::status()).await?, MAX_FILES))
}

/// The repository's remotes.
pub(crate) async fn remotes(on: &On) -> Result<Vec<Remote>, ApiError> {
    listed(&on.git(None).await?).await
}

/// How `HEAD` stands to a revision.
pub(crate) async fn distance(on: &On, to: &str) -> Result<Distance, ApiError> {
    let to = Revision::new(to)?;
    let git = on.git(None).await?;
    let (here, there) = (resolve(&git, &Revision::new("HEAD")?).await?, resolve(&git, &to).await?);
    let range = format!("{}...{}", here.as_str(), there.as_str());
    let count = Command::look("rev-list").options(["--left-right", "--count", "--end-of-options"]);
    let printed = git.run(count.option(range)).await?;
    let printed = String::from_utf8_lossy(&printed);
    let mut counts = printed.split_whitespace().map(|count| count.parse().unwrap_or(0));
    let (ahead, behind): (u64, u64) = (counts.next().unwrap_or(0), counts.next().unwrap_or(0));
    let limit = MAX_COMMITS.min(usize::try_from(ahead).unwrap_or(MAX_COMMITS));
    let commits = match limit {
        0 => Vec::new(),
        limit => Commit::read(&git.run(Command::log(&here, 0, limit, [])).await?),
    };
    Ok(Distance { ahead, behind, commits })
}

/// What differs between two revisions, at most 500 files.
pub(crate) async fn compared(on: &On, from: &str, to: &str) -> Result<Vec<FileDiff>, ApiError> {
    let (from, to) = (Revision::new(from)?, Revision::new(to)?);
    let part = Part::new(None, Some(0), Some(FILES), None)?;
    let git = on.git(None).await?;
    let between = Between::Commits(resolve(&git, &from).await?, resolve(&git, &to).await?);
    let Page { files, .. } = page(on, &git, &between, false, &part).await?;
    Ok(files)
}

/// A file as it was committed, at most 16 MiB.
pub(crate) async fn content(on: &On, revision: &str, path: &str) -> Result<Vec<u8>, ApiError> {
    let path = crate::http::files::rel_path(path)?;
    let revision = Revision::new(revision)?;
    let git = on.git(None).await?;
    let at = resolve(&git, &revision).await?;
    let name = format!("{}:{path}", at.as_str());
    Ok(git.run(Command::look("cat-file").option("blob").option(name)).await?)
}

/// Takes changes of files back, all without `paths`.
pub(crate) async fn discarded(on: On, paths: Option<Vec<String>>) -> Result<(), ApiError> {
    discard(on, Ok(Json(ChangesRequest::to_discard(paths)))).await.map(|_| ())
}

/// Commits all that differs; gives the hash.
pub(crate) async fn committed(on: On, message: String) -> Result<String, ApiError> {
    let (_, Json(made)) = commit(on, Ok(Json(Wanted::all(message)))).await?;
    Ok(made.commit)
}

/// Pulls by a merge.
pub(crate) async fn pulled(on: On, branch: Option<String>) -> Result<(), ApiError> {
    told(pull(on, Ok(Some(Json(Pull::merging(branch))))).await?).await
}

/// Pushes the branch that is checked out.
pub(crate) async fn pushed(on: On) -> Result<(), ApiError> {
    told(push(on, Ok(Some(Json(Push::default())))).await?).await
}

/// The end of an answer that streams.
async fn told(answer: Response) -> Result<(), ApiError> {
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| ApiError::unavailable(error.to_string()))?.to_bytes();
    let last = body.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    let last: Value = serde_json::from_slice(last).unwrap_or_default();
    match last.get("error") {
        None => Ok(()),
        Some(error) => {
            let detail = error["detail"].as_str().unwrap_or("git failed").to_owned();
            let is_conflict = error["code"].as_str().is_some_and(|code| code.contains("conflict"));
            let code = if is_conflict { "git_conflict" } else { "git_failed" };
            Err(ApiError::new(StatusCode::CONFLICT, code, detail))
        }
    }
}
