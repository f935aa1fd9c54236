//! States of the files that can be gone back to, and how git changes files under open editors.
//!
//! A step that changes files goes like this ([`Turn::change`]): what was typed is on disk (the barrier of
//! [`On::git_turn`]); nothing is written there from now on, though people go on typing; the files are kept as a restore
//! point; git does its work; then what it changed comes into the open documents like any other change from outside, merged
//! with what was typed meanwhile ([`Held::release`]).
//!
//! A restore point is a commit of all files that git does not ignore, made with an index of its own, so nothing that is
//! staged is touched, and byte by byte: attributes that change line ends or name filters are not heeded.

use super::{Named, Turn, Whose};
use crate::base::{RestoreId, SessionId, heavy};
use crate::branch::{BackTo, Hub};
use crate::git::{
    Between, BranchName, Changed, Command, Failure, Identity, Kind, Note, RestorePoint, Status, undone,
};
use crate::http::branches::body;
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::{Git, GitError};
use crate::workspace::RelPath;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedRwLockWriteGuard;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Restore points of a branch; older ones go.
const MAX_POINTS: usize = 50;
/// Characters of a label.
const MAX_LABEL: usize = 200;
/// Files that git does not know yet, in one restore point …
const MAX_UNTRACKED: usize = 50_000;
/// … bytes of one of them, and of their sum: more is left out.
const MAX_UNTRACKED_BYTES: (u64, u64) = (64 * 1024 * 1024, 512 * 1024 * 1024);
/// How long an answer waits for git's changes to be in the open documents.
const SETTLE: Duration = Duration::from_secs(3);
/// Files that an error names.
const MAX_FILES: usize = 1_000;
/// The index that restore points are made with. It is kept: files that did not change are not read again.
const INDEX: (&str, &str) = ("GIT_INDEX_FILE", ".git/perch-index");

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, take)).routes(routes!(go_back))
}

/// Files stand still, but for what git does, until this is released or dropped.
pub(super) struct Held {
    hub: Arc<Hub>,
    guard: OwnedRwLockWriteGuard<()>,
    /// What was before.
    pub(super) point: RestorePoint,
}

impl Held {
    /// Brings the files back to what they were: the step was refused, yet has changed some.
    pub(super) async fn take_back(&self, turn: &Turn) -> Result<(), ApiError> {
        let plain = Plain::new(&turn.git).await?;
        let now = plain.capture(&self.hub, &self.point.commit).await?;
        plain.go(&now, &self.point.commit).await?;
        Ok(())
    }

    /// Lets what is typed be written again; returns when what git changed is in the open documents, or after a while.
    pub(super) async fn release(self) {
        drop(self.guard);
        if let Err(error) = self.hub.barrier(SETTLE).await {
            tracing::info!(branch.id = %self.hub.branch(), "open files are not in step yet: {error}");
        }
    }
}

impl Turn {
    /// Begins a step that changes files; takes a restore point, `label` says before what.
    pub(super) async fn change(&self, label: &str) -> Result<Held, ApiError> {
        self.git.sweep(current_branch(&self.git).await?.as_deref()).await;
        let guard = self.hub.hold_writing().await;
        let point = restore_point(self, label).await?;
        Ok(Held { hub: Arc::clone(&self.hub), guard, point })
    }

    /// The error of a step, with the files that were in its way.
    pub(super) async fn refused(&self, error: GitError) -> ApiError {
        let GitError::Failed(failure) = error else { return error.into() };
        if failure.kind != Kind::WouldOverwrite || !failure.files.is_empty() {
            return GitError::Failed(failure).into();
        }
        // Some steps say no more than that there is uncommitted work.
        let files = match self.git.run(Command::status()).await {
            Ok(printed) => {
                let entries = Status::parse(&printed, MAX_FILES).entries.into_iter();
                entries.filter(|entry| !entry.untracked).filter_map(|entry| entry.path.parse().ok()).collect()
            }
            Err(_) => Vec::new(),
        };
        GitError::Failed(Failure { files, ..failure }).into()
    }
}

/// What git printed, as one line of text.
pub(super) fn line(printed: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(printed).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The commit that a name stands for; `None` when it stands for none.
pub(super) async fn commit_of(git: &Git, name: &str) -> Result<Option<String>, GitError> {
    let command = Command::new("rev-parse").options(["--quiet", "--verify", "--end-of-options"]);
    let found = git.run(command.option(format!("{name}^{{commit}}")).also(1)).await?;
    Ok(line(&found))
}

/// The branch that is checked out, as `refs/heads/main`; `None` when it is a commit itself.
pub(super) async fn current_branch(git: &Git) -> Result<Option<String>, GitError> {
    Ok(line(&git.run(Command::new("symbolic-ref").options(["--quiet", "HEAD"]).also(1)).await?))
}

/// Git with the files as they are, byte by byte, and an index of its own.
struct Plain<'a> {
    git: &'a Git,
    no_attributes: String,
}

impl<'a> Plain<'a> {
    async fn new(git: &'a Git) -> Result<Self, GitError> {
        let empty = git.run(Command::new("mktree")).await?;
        Ok(Self { git, no_attributes: line(&empty).unwrap_or_default() })
    }

    async fn run(&self, command: Command) -> Result<Vec<u8>, GitError> {
        let settings = [
            "core.autocrlf",
            "core.safecrlf",
            "core.sparseCheckout",
            "core.splitIndex",
            "core.untrackedCache",
        ];
        let command = settings.into_iter().fold(command, |command, name| command.config(name, "false"));
        let command = command.env(INDEX.0, INDEX.1).env("GIT_ATTR_SOURCE", self.no_attributes.as_str());
        self.git.run(command).await
    }

    /// Brings the index to all files that git does not ignore; gives them as a tree. `seed`: a tree that is like it.
    async fn capture(&self, hub: &Hub, seed: &str) -> Result<String, GitError> {
        let read = |options: &'static [&'static str]| {
            Command::new("read-tree").options(options.iter().copied()).option(seed)
        };
        // What is unchanged since the last time is known by its times, if that index can be read.
        if let Err(GitError::Failed(_)) = self.run(read(&["-m", "-i"])).await {
            self.run(read(&[])).await?;
        }
        // `git add` would look into repositories inside this one, with what they have configured.
        let changed = Changed::read(&self.run(Command::changes(&Between::Unstaged, [])).await?);
        let (gone, there): (Vec<_>, Vec<_>) = changed.iter().partition(|file| file.is_deleted());
        let listed =
            self.run(Command::new("ls-files").options(["--others", "--exclude-standard", "-z"])).await;
        let others = match listed {
            Err(GitError::TooLarge) => Vec::new(),
            listed => untracked(hub, &listed?).await,
        };
        let there = there.into_iter().map(|file| file.path.clone()).chain(others).collect();
        self.update(&["--add", "--remove", "--replace"], there).await?;
        self.update(&["--force-remove"], gone.into_iter().map(|file| file.path.clone()).collect()).await?;
        Ok(line(&self.run(Command::new("write-tree")).await?).unwrap_or_default())
    }

    /// Brings files to the index; those that can't be read, or became something else just then, are left out.
    async fn update(&self, how: &'static [&'static str], files: Vec<Vec<u8>>) -> Result<(), GitError> {
        let mut parts = vec![files];
        while let Some(mut part) = parts.pop() {
            let input: Vec<u8> = part.iter().flat_map(|name| name.iter().copied().chain([0])).collect();
            let command =
                Command::new("update-index").options(how.iter().copied()).options(["-z", "--stdin"]);
            match self.run(command.input(input)).await {
                Err(GitError::Failed(_)) if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([part, rest]);
                }
                Ok(_) | Err(GitError::Failed(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Brings files and index from one tree to another; refuses where a file is not as in the first.
    async fn go(&self, from: &str, to: &str) -> Result<(), GitError> {
        self.run(Command::new("read-tree").options(["-m", "-u", from, to])).await.map(|_| ())
    }
}

/// Which files that git does not know go into a restore point.
async fn untracked(hub: &Hub, listed: &[u8]) -> Vec<Vec<u8>> {
    let (mut list, mut sum) = (Vec::new(), 0);
    // What ends with `/` is another repository.
    let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.ends_with(b"/"));
    for name in names.take(MAX_UNTRACKED) {
        let path = std::str::from_utf8(name).ok().and_then(|name| name.parse::<RelPath>().ok());
        let Some(path) = path else { continue };
        let Ok(Some(stat)) = hub.workspace().stat(&path).await else { continue };
        if stat.len_bytes > MAX_UNTRACKED_BYTES.0 || sum + stat.len_bytes > MAX_UNTRACKED_BYTES.1 {
            continue;
        }
        sum += stat.len_bytes;
        list.push(name.to_vec());
    }
    list
}

/// Makes a commit of a tree; by the session, or in its name where it has no address: it goes to no remote.
async fn commit(turn: &Turn, tree: &str, parents: &[&str], message: String) -> Result<String, GitError> {
    let command = Command::new("commit-tree").option(tree);
    let command = parents.iter().fold(command, |command, parent| command.options(["-p", *parent]));
    let identity = turn.git.identity().cloned();
    let identity = identity.unwrap_or_else(|_| Identity {
        name: turn.by.to_string(),
        email: format!("{}@perch.invalid", turn.by),
    });
    let command = command.options(["-F", "-"]).config("i18n.commitEncoding", "UTF-8").by(&identity);
    let made = turn.git.run(command.input(message)).await?;
    Ok(line(&made).unwrap_or_default())
}

/// Keeps a state of the files, and what is checked out and staged; the oldest ones beyond fifty go. The caller sees to it
/// that all that was typed is on disk.
pub(super) async fn restore_point(turn: &Turn, label: &str) -> Result<RestorePoint, ApiError> {
    let git = &turn.git;
    let held_at_ms = turn.hub.now_ms();
    let head = commit_of(git, "HEAD").await?;
    let branch = current_branch(git).await?;
    // Not while files are in conflict.
    let index = match git.run(Command::new("write-tree")).await {
        Err(GitError::Failed(_)) => None,
        written => line(&written?),
    };
    let plain = Plain::new(git).await?;
    let seed = index.as_ref().or(head.as_ref()).unwrap_or(&plain.no_attributes);
    let tree = plain.capture(&turn.hub, seed).await?;
    let mut parents: Vec<&str> = head.iter().map(String::as_str).collect();
    // Named by a commit, or git would take it for garbage.
    let staged = match &index {
        Some(index) => Some(commit(turn, index, &parents, "staged\n".to_owned()).await?),
        None => None,
    };
    parents.extend(staged.as_deref());
    let label = label.chars().take(MAX_LABEL).collect();
    let (by, held_at_ms) = (Some(turn.by.clone()), Some(held_at_ms));
    let note = Note { label, branch, head: head.clone(), index, by, held_at_ms, state: None };
    let made = commit(turn, &tree, &parents, note.text()).await?;
    let id = RestoreId::generate();
    git.run(Command::new("update-ref").options([RestorePoint::name(&id).as_str(), made.as_str()])).await?;
    forget_old(git).await?;
    Ok(RestorePoint { id, at_ms: turn.hub.now_ms(), commit: made, note })
}

async fn points(git: &Git) -> Result<Vec<RestorePoint>, GitError> {
    Ok(RestorePoint::parse(&git.run(Command::restore_points()).await?))
}

async fn forget_old(git: &Git) -> Result<(), GitError> {
    let all = points(git).await?;
    let Some(old) = all.get(MAX_POINTS..).filter(|old| !old.is_empty()) else { return Ok(()) };
    let lines: String =
        old.iter().map(|point| format!("delete {}\n", RestorePoint::name(&point.id))).collect();
    git.run(Command::new("update-ref").option("--stdin").input(lines)).await.map(|_| ())
}

/// Where a step that stopped in a conflict is noted, so that it can be undone without what was typed since.
const OPERATION: &str = "refs/perch/operation";

/// Notes what the files are now that a step has stopped; `state` names the step. What was typed since `held` began is not in
/// them.
pub(super) async fn note_stop(turn: &Turn, before: &RestorePoint, state: String) -> Result<(), ApiError> {
    let plain = Plain::new(&turn.git).await?;
    let tree = plain.capture(&turn.hub, &before.commit).await?;
    let note = Note { state: Some(state), ..before.note.clone() };
    let made = commit(turn, &tree, &[&before.commit], note.text()).await?;
    turn.git.run(Command::new("update-ref").options([OPERATION, made.as_str()])).await?;
    Ok(())
}

/// The step is over.
pub(super) async fn forget_stop(turn: &Turn) -> Result<(), ApiError> {
    turn.git.run(Command::new("update-ref").options(["-d", OPERATION])).await?;
    Ok(())
}

/// What is known of the step that has stopped as `state` names it: the commit of the files as it left them.
pub(super) struct Stopped {
    commit: String,
    note: Note,
}

pub(super) async fn stopped(turn: &Turn, state: &str) -> Result<Option<Stopped>, ApiError> {
    let format = "--format=%(objectname)%00%(contents:subject)";
    let printed = turn.git.run(Command::new("for-each-ref").options([format, OPERATION])).await?;
    let text = String::from_utf8_lossy(&printed);
    let Some((commit, note)) = text.trim_end().split_once('\0') else { return Ok(None) };
    let note = Note::parse(note).filter(|note| note.state.as_deref() == Some(state));
    Ok(note.map(|note| Stopped { commit: commit.to_owned(), note }))
}

impl Stopped {
    /// The files as they were before the step, with what was typed since it stopped, see [`undone`]. Gives the tree; the
    /// index is left as that.
    async fn undone(&self, turn: &Turn, plain: &Plain<'_>, now: &str) -> Result<String, GitError> {
        let before = format!("{}^1", self.commit);
        let merge = async |strategy: &[&str]| {
            let options = ["--write-tree", "-z", "--name-only", "--no-messages"];
            let command = Command::new("merge-tree").options(options).options(strategy.iter().copied());
            let command = command.option(format!("--merge-base={}", self.commit)).also(1);
            turn.git.run(command.options([now, before.as_str()])).await
        };
        let printed = merge(&["-X", "theirs"]).await?;
        let tree = printed.split(|byte| *byte == 0).next().unwrap_or_default();
        let tree = String::from_utf8_lossy(tree).trim().to_owned();
        // Which files both have changed in one place: in those that are text, lines tell more.
        let printed = merge(&[]).await?;
        let paths = printed.split(|byte| *byte == 0).skip(1).filter(|path| !path.is_empty());
        let paths: Vec<RelPath> =
            paths.filter_map(|path| std::str::from_utf8(path).ok()?.parse().ok()).take(MAX_FILES).collect();
        plain.run(Command::new("read-tree").option(&tree)).await?;
        if paths.is_empty() {
            return Ok(tree);
        }
        let modes = plain.run(Command::new("ls-files").options(["--stage", "-z"]).paths(&paths)).await?;
        let mut changes = Vec::new();
        for entry in String::from_utf8_lossy(&modes).split('\0') {
            let Some((about, path)) = entry.split_once('\t') else { continue };
            let mode = about.split(' ').next().unwrap_or_default();
            // Neither links nor other repositories.
            if !mode.starts_with("100") {
                continue;
            }
            let text = async |commit: &str| {
                let command = Command::new("cat-file").options(["blob", &format!("{commit}:{path}")]);
                turn.git.run(command).await.ok().and_then(|bytes| String::from_utf8(bytes).ok())
            };
            let (Some(stopped), Some(now), Some(before)) =
                (text(&self.commit).await, text(now).await, text(&before).await)
            else {
                continue;
            };
            let size = stopped.len() + now.len() + before.len();
            let text = heavy(size, || undone(&stopped, &now, &before));
            let command = Command::new("hash-object").options(["-w", "--no-filters", "--stdin"]);
            let blob = line(&turn.git.run(command.input(text)).await?).unwrap_or_default();
            changes.extend_from_slice(format!("{mode} {blob}\t{path}\0").as_bytes());
        }
        plain.run(Command::new("update-index").options(["-z", "--index-info"]).input(changes)).await?;
        Ok(line(&plain.run(Command::new("write-tree")).await?).unwrap_or_default())
    }

    /// Undoes the step, but for `quit`, which makes git forget that it was under way. What people deleted since and comes back
    /// is its typists' if what is returned outlives `held`.
    pub(super) async fn undo(
        &self,
        turn: &Turn,
        held: &Held,
        quit: Command,
    ) -> Result<Option<BackTo>, ApiError> {
        let back = self.note.held_at_ms.map(|at_ms| turn.hub.back_to(at_ms));
        let plain = Plain::new(&turn.git).await?;
        let now = held.point.commit.as_str();
        let tree = self.undone(turn, &plain, now).await?;
        plain.run(Command::new("read-tree").option(now)).await?;
        plain.run(Command::new("update-index").options(["-q", "--refresh"]).also(1)).await?;
        if let Err(error) = plain.go(now, &tree).await {
            return Err(turn.refused(error).await);
        }
        back_to(turn, &self.note, false).await?;
        // Last, so that one that was cut short is gone through once more.
        turn.git.run(quit).await?;
        Ok(back)
    }

    /// A state before the step that has what was typed until now; the step goes on from it.
    pub(super) async fn carried(&self, turn: &Turn, held: &Held) -> Result<RestorePoint, ApiError> {
        let plain = Plain::new(&turn.git).await?;
        let tree = self.undone(turn, &plain, &held.point.commit).await?;
        let parents: Vec<&str> = self.note.head.iter().map(String::as_str).collect();
        let made = commit(turn, &tree, &parents, self.note.text()).await?;
        Ok(RestorePoint { commit: made, note: self.note.clone(), ..held.point.clone() })
    }
}

fn is_object(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Brings back what was checked out and staged; files stay. `moves`: the git branch goes back to the commit too.
async fn back_to(turn: &Turn, note: &Note, moves: bool) -> Result<(), ApiError> {
    let git = &turn.git;
    let reason = "perch: go back";
    let branch = match &note.branch {
        None => None,
        Some(full) => {
            BranchName::new(full.strip_prefix("refs/heads/").unwrap_or_default())?;
            Some(full.as_str())
        }
    };
    let head = note.head.as_deref().filter(|head| is_object(head));
    match (branch, head) {
        (Some(branch), head) => {
            git.run(Command::new("symbolic-ref").options(["-m", reason, "HEAD", branch])).await?;
            if moves {
                let command = Command::new("update-ref").options(["-m", reason]);
                git.run(match head {
                    Some(head) => command.options([branch, head]),
                    None => command.options(["-d", branch]),
                })
                .await?;
            }
        }
        (None, Some(head)) => {
            git.run(Command::new("update-ref").options(["-m", reason, "--no-deref", "HEAD", head])).await?;
        }
        (None, None) => {}
    }
    let index = note.index.as_deref().filter(|index| is_object(index));
    let read = Command::new("read-tree");
    git.run(match index.or(head) {
        Some(tree) => read.option(tree),
        None => read.option("--empty"),
    })
    .await?;
    git.run(Command::new("update-index").options(["-q", "--refresh"]).also(1)).await?;
    Ok(())
}

/// The restore points of a branch.
#[derive(Serialize, ToSchema)]
struct Points {
    /// The newest comes first; at most 50.
    restore_points: Vec<RestorePoint>,
}

/// States of the files that can be gone back to: one was taken before each step that changed files, others were asked for. The 50
/// newest are kept.
#[utoipa::path(get, operation_id = "restore_points", path = "/v1/branches/{branch}/git/restore-points", tag = "git",
    params(("branch" = String, Path), Whose),
    responses((status = OK, body = Points), (status = CONFLICT, description = "`git_no_repository`")))]
async fn list(on: On, Params(whose): Params<Whose>) -> Result<Json<Points>, ApiError> {
    let git = on.git(whose.session.as_ref()).await?;
    let mut restore_points = points(&git).await?;
    restore_points.truncate(MAX_POINTS);
    Ok(Json(Points { restore_points }))
}

/// What a restore point is for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Shown to people, 1 to 200 characters.
    label: String,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

/// Keep the files as they are now, with all that was typed, and what is checked out and staged. Files that git ignores, and
/// untracked ones above 64 MiB, are left out.
#[utoipa::path(post, operation_id = "take_restore_point", path = "/v1/branches/{branch}/git/restore-points", tag = "git",
    params(("branch" = String, Path)), request_body = Wanted,
    responses((status = CREATED, body = RestorePoint), (status = CONFLICT, description = "`git_no_repository`")))]
async fn take(
    on: On,
    request: Result<Json<Wanted>, JsonRejection>,
) -> Result<(StatusCode, Json<RestorePoint>), ApiError> {
    let wanted = body(request)?;
    if wanted.label.trim().is_empty() || wanted.label.chars().count() > MAX_LABEL {
        return Err(ApiError::bad_request("a label has 1 to 200 characters"));
    }
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let point = restore_point(&turn, &wanted.label).await?;
    Ok((StatusCode::CREATED, Json(point)))
}

/// What is to be brought back.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Back {
    /// Also what was checked out and staged, and the git branch to its commit of then; otherwise the files alone.
    #[serde(default)]
    head: bool,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

/// The state that was left.
#[derive(Serialize, ToSchema)]
struct WentBack {
    /// Where what was before can be found.
    restore_point: RestoreId,
}

/// Go back to a state of the files, as edits of the open documents; what was typed while it is done stays. First the present
/// state is kept. With `head`, a merge or the like that is under way ends.
#[utoipa::path(post, operation_id = "go_back", path = "/v1/branches/{branch}/git/restore-points/{name}/restore", tag = "git",
    params(("branch" = String, Path), ("name" = RestoreId, Path)), request_body = Back,
    responses((status = OK, body = WentBack), (status = NOT_FOUND, description = "no such restore point, or it was among the oldest"),
        (status = CONFLICT, description = "`git_would_overwrite`: `files` changed in that moment")))]
async fn go_back(
    on: On,
    Named(id): Named,
    request: Result<Json<Back>, JsonRejection>,
) -> Result<Json<WentBack>, ApiError> {
    let back = body(request)?;
    let turn = on.git_turn(back.session.as_ref()).await?;
    let point = points(&turn.git).await?.into_iter().find(|point| point.id.as_str() == id);
    let point = point.ok_or_else(|| ApiError::not_found("there is no such restore point"))?;
    let held = turn.change(&format!("before going back to: {}", point.note.label)).await?;
    let _back = point.note.held_at_ms.map(|at_ms| turn.hub.back_to(at_ms));
    let plain = Plain::new(&turn.git).await?;
    if let Err(error) = plain.go(&held.point.commit, &point.commit).await {
        return Err(turn.refused(error).await);
    }
    if back.head {
        for quit in ["merge", "rebase", "cherry-pick", "revert"] {
            // Most of them are not under way.
            let _ = turn.git.run(Command::new(quit).option("--quit")).await;
        }
        back_to(&turn, &point.note, true).await?;
        forget_stop(&turn).await?;
    }
    let restore_point = held.point.id.clone();
    held.release().await;
    Ok(Json(WentBack { restore_point }))
}
