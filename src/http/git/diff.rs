//! What differs, by file and by line.

use crate::base::{SessionId, heavy};
use crate::git::{Between, Changed, Command, FileDiff, Kind, LeftOut, Revision, commit_hash};
use crate::http::files::rel_path;
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::{Git, GitError};
use crate::workspace::{FsError, RelPath};
use axum::Json;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Files of a page if nothing is said, and at most.
const FILES: (usize, usize) = (100, 500);
/// Lines around each change if nothing is said, and at most.
const CONTEXT: (u32, u32) = (3, 1_000);
/// Files that are compared at once.
const AT_ONCE: usize = 32;
/// Bytes of lines after which a page ends early.
const MAX_PAGE: usize = 4 * 1024 * 1024;
/// Bytes of an untracked file that is shown.
const MAX_UNTRACKED: u64 = 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(diff))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// What is staged, against the last commit or `from`; else the files, against what is staged or `from`.
    #[serde(default)]
    staged: bool,
    /// The old side: a commit, branch or tag.
    from: Option<String>,
    /// The new side; needs `from`.
    to: Option<String>,
    /// New files that git does not track too, as added.
    #[serde(default)]
    untracked: bool,
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

/// Files that differ, by path.
#[derive(Serialize, ToSchema)]
pub(super) struct Page {
    pub(super) files: Vec<FileDiff>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which part of a comparison is asked for.
pub(super) struct Part {
    path: Option<RelPath>,
    context: u32,
    limit: usize,
    after: Option<Vec<u8>>,
}

impl Part {
    pub(super) fn new(
        path: Option<&str>,
        context: Option<u32>,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<Self, ApiError> {
        let context = context.unwrap_or(CONTEXT.0);
        let limit = limit.unwrap_or(FILES.0);
        if context > CONTEXT.1 || !(1..=FILES.1).contains(&limit) {
            return Err(ApiError::bad_request("`context` is 0 to 1,000, and `limit` 1 to 500"));
        }
        let path = path.filter(|path| !path.is_empty()).map(rel_path).transpose()?;
        let after = after.map(|after| URL_SAFE_NO_PAD.decode(after)).transpose();
        let after = after.map_err(|_| ApiError::bad_request("`after` is `next` of another page"))?;
        Ok(Self { path, context, limit, after })
    }
}

/// Show what differs, line by line: without parameters the files, with all that was typed, against what is staged. What is no
/// UTF-8 is replaced and marked. A file's lines are left out and marked past 20,000 lines or 1 MiB; a file of more than 8 MiB
/// is taken for binary. A page ends early after 4 MiB of lines. A list of files of more than 16 MiB is refused
/// (`git_output_too_large`: name a `path`), and git is given 120 s.
#[utoipa::path(get, path = "/v1/branches/{branch}/git/diff", tag = "git",
    params(("branch" = String, Path), Wanted),
    responses((status = OK, body = Page), (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = CONFLICT, description = "`git_no_repository`"),
        (status = PAYLOAD_TOO_LARGE, description = "`git_output_too_large`")))]
async fn diff(on: On, Params(wanted): Params<Wanted>) -> Result<Json<Page>, ApiError> {
    let part = Part::new(wanted.path.as_deref(), wanted.context, wanted.limit, wanted.after.as_deref())?;
    let revision = |text: &Option<String>| text.as_deref().map(Revision::new).transpose();
    let (from, to) = (revision(&wanted.from)?, revision(&wanted.to)?);
    if to.is_some() && (from.is_none() || wanted.staged || wanted.untracked) {
        return Err(ApiError::bad_request(
            "`to` goes with `from`, and with neither `staged` nor `untracked`",
        ));
    }
    if wanted.staged && wanted.untracked {
        return Err(ApiError::bad_request("what is not tracked is not `staged`"));
    }
    let git = on.git(wanted.session.as_ref()).await?;
    let from = match from {
        Some(from) => Some(resolve(&git, &from).await?),
        None => None,
    };
    let between = match (from, to) {
        (from, _) if wanted.staged => Between::Staged(from),
        (Some(from), Some(to)) => Between::Commits(from, resolve(&git, &to).await?),
        (Some(from), None) => Between::Files(from),
        (None, _) => Between::Unstaged,
    };
    Ok(Json(page(&on, &git, &between, wanted.untracked, &part).await?))
}

/// The commit that a revision names, by its hash.
pub(super) async fn resolve(git: &Git, revision: &Revision) -> Result<Revision, ApiError> {
    let unknown = || {
        let detail = format!("there is no commit `{}`", revision.as_str());
        ApiError::new(StatusCode::NOT_FOUND, "git_unknown_revision", detail)
    };
    match git.run(Command::resolve(revision)).await {
        Ok(printed) => commit_hash(&printed).ok_or_else(unknown),
        Err(GitError::Failed(failure)) if matches!(failure.kind, Kind::Other | Kind::UnknownRevision) => {
            Err(unknown())
        }
        Err(error) => Err(error.into()),
    }
}

/// A page of a comparison.
pub(super) async fn page(
    on: &On,
    git: &Git,
    between: &Between,
    untracked: bool,
    part: &Part,
) -> Result<Page, ApiError> {
    let mut all = Changed::read(&git.run(Command::changes(between, &part.path)).await?);
    if untracked {
        let list = Command::look("ls-files").options(["--others", "--exclude-standard", "-z"]);
        all.extend(Changed::untracked(&git.run(list.paths(&part.path)).await?));
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    let start = part.after.as_ref().map_or(0, |after| all.partition_point(|file| file.path <= *after));
    let wanted = &all[start..];
    let wanted = &wanted[..wanted.len().min(part.limit)];
    let mut files = Vec::with_capacity(wanted.len());
    let (mut done, mut len_bytes) = (start, 0);
    'page: for some in wanted.chunks(AT_ONCE) {
        let mut compared = compare(git, between, part.context, some).await?;
        for file in some {
            if len_bytes > MAX_PAGE {
                break 'page;
            }
            done += 1;
            // What differs no more by now is left out.
            let shown = match file.paths() {
                None => Some(file.without_lines(Some(LeftOut::Name))),
                Some(_) if !file.is_untracked() => compared.remove(&file.path),
                Some(paths) => match paths.first() {
                    Some(path) => read(on, file, path).await,
                    None => None,
                },
            };
            len_bytes += shown.as_ref().map_or(0, |file| file.len_bytes);
            files.extend(shown);
        }
    }
    let last = all[..done].last().filter(|_| done < all.len());
    Ok(Page { files, next: last.map(|file| URL_SAFE_NO_PAD.encode(&file.path)) })
}

/// Compares tracked files line by line.
async fn compare(
    git: &Git,
    between: &Between,
    context: u32,
    files: &[Changed],
) -> Result<HashMap<Vec<u8>, FileDiff>, ApiError> {
    let mut compared = HashMap::new();
    // Renames are looked for among their own two sides only, all else is what the list says.
    for renames in [false, true] {
        let is_meant =
            |file: &&Changed| !file.is_untracked() && file.is_renamed() == renames && file.paths().is_some();
        let files: Vec<&Changed> = files.iter().filter(is_meant).collect();
        // What is too much at once is taken by halves.
        let mut parts = vec![&files[..]];
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            let paths: Vec<RelPath> = part.iter().filter_map(|file| file.paths()).flatten().collect();
            match git.run(Command::patch(between, context, renames, &paths)).await {
                Ok(printed) => {
                    let read = heavy(printed.len(), || FileDiff::read(&printed, context));
                    compared.extend(read.into_iter().map(|(file, diff)| (file.path, diff)));
                }
                Err(GitError::TooLarge) => match part {
                    [file] => {
                        let marked = file.without_lines(Some(LeftOut::TooLarge));
                        compared.insert(file.path.clone(), marked);
                    }
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(compared)
}

/// What git prints of one file's lines, against what it was before it was renamed.
pub(super) async fn lines_of(
    git: &Git,
    between: &Between,
    context: u32,
    path: &RelPath,
) -> Result<Vec<u8>, ApiError> {
    let listed = Changed::read(&git.run(Command::changes(between, [])).await?);
    let renamed = listed.into_iter().find(|file| file.is_renamed() && file.path == path.as_str().as_bytes());
    let paths = renamed.as_ref().and_then(Changed::paths);
    let paths = paths.unwrap_or_else(|| vec![path.clone()]);
    Ok(git.run(Command::patch(between, context, renamed.is_some(), &paths)).await?)
}

/// A file that git does not track, as it is shown; `None` if it is gone.
async fn read(on: &On, file: &Changed, path: &RelPath) -> Option<FileDiff> {
    Some(match on.hub.workspace().read(path, MAX_UNTRACKED).await {
        Ok(data) => {
            let data = data?;
            heavy(data.bytes.len(), || file.with_content(&data.bytes, data.stat.mode))
        }
        Err(FsError::TooLarge { .. }) => file.without_lines(Some(LeftOut::TooLarge)),
        Err(_) => file.without_lines(Some(LeftOut::Unread)),
    })
}
