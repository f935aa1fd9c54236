//! What the next commit holds: stage, unstage; and discard, which takes work away.

use super::diff;
use crate::base::SessionId;
use crate::git::{Between, Changed, Command, Kind, NoPatch, Way, chosen, context_of};
use crate::http::branches::body;
use crate::http::files::rel_path;
use crate::http::place::On;
use crate::http::{ApiError, AppState};
use crate::session::{Git, GitError};
use crate::workspace::RelPath;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Paths of one request.
const MAX_PATHS: usize = 1_000;
/// Hunks of one request.
const MAX_HUNKS: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(stage)).routes(routes!(unstage)).routes(routes!(discard))
}

/// Which changes are meant: `all`, `paths`, or some `hunks` of one `path`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesRequest {
    /// All of them.
    #[serde(default)]
    all: bool,
    /// Files and folders, at most 1,000.
    paths: Option<Vec<String>>,
    /// The file that the hunks are of.
    path: Option<String>,
    /// Their ids, as `diff` gave them with a `context` of at least 1; at most 1,000.
    hunks: Option<Vec<String>>,
    /// To discard: files that git does not track are deleted too. Those that it ignores stay.
    #[serde(default)]
    untracked: bool,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// What a request means.
enum Changes {
    All,
    Paths(Vec<RelPath>),
    Hunks { path: RelPath, ids: Vec<String>, context: u32 },
}

impl ChangesRequest {
    fn changes(&self) -> Result<Changes, ApiError> {
        match (self.all, &self.paths, &self.path, &self.hunks) {
            (true, None, None, None) => Ok(Changes::All),
            (false, Some(paths), None, None) if (1..=MAX_PATHS).contains(&paths.len()) => {
                Ok(Changes::Paths(paths.iter().map(|path| rel_path(path)).collect::<Result<_, _>>()?))
            }
            (false, None, Some(path), Some(ids)) if (1..=MAX_HUNKS).contains(&ids.len()) => {
                let path = rel_path(path)?;
                let context = context_of(&ids[0]).filter(|context| (1..=1_000).contains(context));
                match context.filter(|_| ids.iter().all(|id| context_of(id) == context)) {
                    Some(context) => Ok(Changes::Hunks { path, ids: ids.clone(), context }),
                    None => Err(ApiError::bad_request(
                        "`hunks` are ids of one diff, made with a `context` of at least 1",
                    )),
                }
            }
            _ => Err(ApiError::bad_request(
                "give `all`, or 1 to 1,000 `paths`, or a `path` and 1 to 1,000 of its `hunks`",
            )),
        }
    }
}

pub(super) type Request = Result<Json<ChangesRequest>, JsonRejection>;

/// Stage changes, with all that was typed: files and folders, new and deleted ones too, or single hunks. Files that git
/// ignores, and repositories inside this one, are not staged. Where a hunk is not there any more nothing is staged.
#[utoipa::path(post, path = "/v1/branches/{branch}/git/stage", tag = "git",
    params(("branch" = String, Path)), request_body = ChangesRequest,
    responses((status = NO_CONTENT),
        (status = NOT_FOUND, description = "`git_unknown_path`: nothing that git could stage is there"),
        (status = CONFLICT, description = "`git_hunk_changed`: show the diff anew; `git_whole_file`: the file can be \
            staged as a whole only; `git_locked`")))]
async fn stage(on: On, request: Request) -> Result<StatusCode, ApiError> {
    let wanted = body(request)?;
    let changes = wanted.changes()?;
    wanted.only_discard()?;
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    match changes {
        Changes::All => add(&turn.git, &[]).await?,
        Changes::Paths(paths) => add(&turn.git, &paths).await?,
        Changes::Hunks { path, ids, context } => {
            let picked = Picked { path: &path, ids: &ids, context };
            picked.apply(&turn.git, &Between::Unstaged, &["--cached"], Way::Forward).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Take changes back from what is staged; files stay as they are.
#[utoipa::path(post, path = "/v1/branches/{branch}/git/unstage", tag = "git",
    params(("branch" = String, Path)), request_body = ChangesRequest,
    responses((status = NO_CONTENT),
        (status = CONFLICT, description = "`git_hunk_changed`: show the diff anew; `git_whole_file`; `git_locked`")))]
async fn unstage(on: On, request: Request) -> Result<StatusCode, ApiError> {
    let wanted = body(request)?;
    let changes = wanted.changes()?;
    wanted.only_discard()?;
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let paths = match changes {
        // Without any path a merge that is under way would be forgotten.
        Changes::All => b".".to_vec(),
        Changes::Paths(paths) => with_nuls(paths.iter().map(|path| path.as_str().as_bytes())),
        Changes::Hunks { path, ids, context } => {
            let picked = Picked { path: &path, ids: &ids, context };
            picked.apply(&turn.git, &Between::Staged(None), &["--cached"], Way::Reverse).await?;
            return Ok(StatusCode::NO_CONTENT);
        }
    };
    let command = Command::new("reset").options(["--quiet", "--pathspec-from-file=-", "--pathspec-file-nul"]);
    turn.git.run(command.input(paths)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take away what is not staged: files become as they are staged, deleted ones come back. Open editors get it as edits: what
/// is typed meanwhile stays. New files are deleted with `untracked` only.
#[utoipa::path(post, path = "/v1/branches/{branch}/git/discard", tag = "git",
    params(("branch" = String, Path)), request_body = ChangesRequest,
    responses((status = NO_CONTENT),
        (status = NOT_FOUND, description = "`git_unknown_path`: git tracks nothing there"),
        (status = CONFLICT, description = "`git_hunk_changed`: show the diff anew; `git_whole_file`; `git_conflict`: the \
            file is in conflict; `git_locked`")))]
pub(super) async fn discard(on: On, request: Request) -> Result<StatusCode, ApiError> {
    let wanted = body(request)?;
    let changes = wanted.changes()?;
    if wanted.untracked && matches!(changes, Changes::Hunks { .. }) {
        return Err(ApiError::bad_request("`untracked` goes with `all` or `paths`"));
    }
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let held = turn.change("before discard").await?;
    let paths = match changes {
        Changes::All => Vec::new(),
        Changes::Paths(paths) => paths,
        Changes::Hunks { path, ids, context } => {
            let picked = Picked { path: &path, ids: &ids, context };
            picked.apply(&turn.git, &Between::Unstaged, &[], Way::Reverse).await?;
            held.release().await;
            return Ok(StatusCode::NO_CONTENT);
        }
    };
    restore(&turn.git, &paths, wanted.untracked).await?;
    if wanted.untracked {
        // Folders too; repositories inside this one stay.
        let command = Command::new("clean").options(["--force", "-d", "--quiet"]);
        turn.git.run(command.paths(&paths)).await?;
    }
    held.release().await;
    Ok(StatusCode::NO_CONTENT)
}

impl ChangesRequest {
    /// Of files, or of all.
    pub(super) fn to_discard(paths: Option<Vec<String>>) -> Self {
        let (all, untracked) = (paths.is_none(), false);
        Self { all, paths, path: None, hunks: None, untracked, session: None }
    }

    fn only_discard(&self) -> Result<(), ApiError> {
        if self.untracked { Err(ApiError::bad_request("`untracked` is for `discard`")) } else { Ok(()) }
    }
}

pub(super) fn with_nuls<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    names.into_iter().flat_map(|name| name.iter().copied().chain([0])).collect()
}

/// Names of files, with NULs.
async fn list(git: &Git, kind: &'static str, paths: &[RelPath]) -> Result<Vec<u8>, ApiError> {
    let command = Command::look("ls-files").options([kind, "-z", "--exclude-standard"]);
    Ok(git.run(command.paths(paths)).await?)
}

fn unknown(path: &RelPath, why: &str) -> ApiError {
    let detail = format!("`{path}`: {why}");
    ApiError::new(StatusCode::NOT_FOUND, "git_unknown_path", detail)
}

/// Names of files, in order.
struct Names<'a>(Vec<&'a [u8]>);

impl<'a> Names<'a> {
    /// Those of a list with NULs. What ends in a slash is another repository.
    fn new(listed: &'a [u8]) -> Self {
        let is_file = |name: &&[u8]| !name.is_empty() && !name.ends_with(b"/");
        let mut names: Vec<&[u8]> = listed.split(|byte| *byte == 0).filter(is_file).collect();
        names.sort_unstable();
        Self(names)
    }

    /// Whether a file is at a path or beneath it.
    fn have(&self, path: &RelPath) -> bool {
        let beneath = format!("{path}/");
        let first = self.0.partition_point(|name| *name < beneath.as_bytes());
        self.0.get(first).is_some_and(|name| name.starts_with(beneath.as_bytes()))
            || self.0.binary_search(&path.as_str().as_bytes()).is_ok()
    }
}

/// Stages files, by their names: `git add` would look into repositories inside this one, with what they have configured.
pub(super) async fn add(git: &Git, paths: &[RelPath]) -> Result<(), ApiError> {
    let others = list(git, "--others", paths).await?;
    let others = Names::new(&others);
    if !paths.is_empty() {
        let tracked = list(git, "--cached", paths).await?;
        let tracked = Names::new(&tracked);
        if let Some(path) = paths.iter().find(|path| !others.have(path) && !tracked.have(path)) {
            return Err(unknown(path, "there is nothing to stage, or git ignores it"));
        }
    }
    let changed = Changed::read(&git.run(Command::changes(&Between::Unstaged, paths)).await?);
    // Of a folder that a link took the place of, files may seem to be there still.
    let (gone, there): (Vec<_>, Vec<_>) = changed.iter().partition(|file| file.is_deleted());
    let there = there.into_iter().map(|file| &file.path[..]).chain(others.0.iter().copied());
    let add = Command::new("update-index").options(["--add", "--remove", "--replace", "-z", "--stdin"]);
    git.run(add.input(with_nuls(there))).await?;
    let remove = Command::new("update-index").options(["--force-remove", "-z", "--stdin"]);
    git.run(remove.input(with_nuls(gone.into_iter().map(|file| &file.path[..])))).await?;
    Ok(())
}

/// Makes files what is staged of them.
async fn restore(git: &Git, paths: &[RelPath], untracked: bool) -> Result<(), ApiError> {
    let tracked = list(git, "--cached", paths).await?;
    let tracked = Names::new(&tracked);
    let others = if untracked { list(git, "--others", paths).await? } else { Vec::new() };
    let others = Names::new(&others);
    if let Some(path) = paths.iter().find(|path| !tracked.have(path) && !others.have(path)) {
        return Err(unknown(path, "git tracks nothing there; new files are deleted with `untracked`"));
    }
    if tracked.0.is_empty() {
        return Ok(());
    }
    let named = paths.iter().filter(|path| tracked.have(path)).map(|path| path.as_str().as_bytes());
    let input = if paths.is_empty() { b".".to_vec() } else { with_nuls(named) };
    let command =
        Command::new("restore").options(["--worktree", "--pathspec-from-file=-", "--pathspec-file-nul"]);
    match git.run(command.input(input)).await {
        Err(GitError::Failed(failure)) if failure.said.contains("is unmerged") => {
            Err(ApiError::new(StatusCode::CONFLICT, "git_conflict", failure.said))
        }
        outcome => Ok(outcome.map(drop)?),
    }
}

/// Some hunks of a file.
struct Picked<'a> {
    path: &'a RelPath,
    ids: &'a [String],
    context: u32,
}

impl Picked<'_> {
    /// Applies them, all or none.
    async fn apply(
        &self,
        git: &Git,
        between: &Between,
        options: &[&'static str],
        way: Way,
    ) -> Result<(), ApiError> {
        let changed = || {
            let detail = "a hunk is not what it was when it was shown; show the diff anew";
            ApiError::new(StatusCode::CONFLICT, "git_hunk_changed", detail)
        };
        let printed = diff::lines_of(git, between, self.context, self.path).await?;
        let patch = chosen(&printed, self.path, self.ids, self.context, way).map_err(|why| match why {
            NoPatch::Gone => changed(),
            NoPatch::Whole => {
                let detail = "the file is in conflict or became of another kind; name it in `paths`";
                ApiError::new(StatusCode::CONFLICT, "git_whole_file", detail)
            }
        })?;
        let command = Command::new("apply")
            .config("apply.ignoreWhitespace", "no")
            .option("--whitespace=nowarn")
            .options(options.iter().copied())
            .options((way == Way::Reverse).then_some("--reverse"))
            .option("-");
        match git.run(command.input(patch)).await {
            // It changed just then.
            Err(GitError::Failed(failure)) if failure.kind == Kind::Other => Err(changed()),
            outcome => Ok(outcome.map(drop)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_there_if_a_file_is_at_it_or_beneath() {
        let listed = b"a/b\0a.txt\0c/d/e\0other/\0";
        let names = Names::new(listed);
        for there in ["a", "a/b", "a.txt", "c", "c/d", "c/d/e"] {
            assert!(names.have(&there.parse().unwrap()), "{there}");
        }
        for gone in ["b", "c/d/e/f", "d", "a.tx", "other"] {
            assert!(!names.have(&gone.parse().unwrap()), "{gone}");
        }
    }

    #[test]
    fn a_request_means_one_thing() {
        let id = format!("3-{}", "a1".repeat(16));
        let is_good = |text: &str| serde_json::from_str::<ChangesRequest>(text).unwrap().changes().is_ok();
        for good in [
            r#"{"all":true}"#.into(),
            r#"{"paths":["a"]}"#.into(),
            format!(r#"{{"path":"a","hunks":["{id}"]}}"#),
        ] {
            assert!(is_good(&good), "{good}");
        }
        let other = format!("0-{}", "a1".repeat(16));
        for bad in [
            "{}".into(),
            r#"{"all":true,"paths":["a"]}"#.into(),
            r#"{"paths":[]}"#.into(),
            r#"{"paths":["../a"]}"#.into(),
            r#"{"path":"a"}"#.into(),
            r#"{"path":"a","hunks":["x"]}"#.into(),
            format!(r#"{{"path":"a","hunks":["{other}"]}}"#),
            format!(r#"{{"path":"a","hunks":["{id}","{other}"]}}"#),
        ] {
            assert!(!is_good(&bad), "{bad}");
        }
    }
}
