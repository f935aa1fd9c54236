//! Merges and rebases, and conflicts, which all solve together in the open documents.
//!
//! A rebase is done by git's `apply` backend, and gone on with by `git am`: the other backend keeps a list of steps in `.git`,
//! where whoever sits on the branch may write `exec` lines into it. What somebody began in a shell with a list of steps is
//! shown and can be aborted, and gone on with in a shell only.

use super::branches::check_message;
use super::diff::resolve;
use super::restore::{Held, commit_of, forget_stop, line, note_stop, stopped};
use super::{Turn, Whose};
use crate::base::{RestoreId, SessionId};
use crate::branch::Hub;
use crate::git::{BranchName, Command, Conflict, Revision, has_markers, parse_unmerged};
use crate::http::branches::body;
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::{Git, GitError};
use crate::workspace::RelPath;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Files in conflict that an answer names.
const MAX_CONFLICTS: usize = 1_000;
/// Files that are marked as solved at once.
const MAX_PATHS: usize = 1_000;
/// Bytes of a message.
const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes of a file in `.git` that tells where a step stands.
const MAX_STATE: u64 = 4_096;
/// Bytes of a file that is searched for markers.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(merge))
        .routes(routes!(rebase))
        .routes(routes!(operation))
        .routes(routes!(go_on))
        .routes(routes!(abort))
        .routes(routes!(resolved))
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// The git branch just went forward; no merge was needed.
    FastForward,
    /// There was nothing to do.
    UpToDate,
    /// It has stopped: `conflicts` are to be solved, in their files, by whoever is there.
    Conflict,
}

/// How a step went.
#[derive(Serialize, ToSchema)]
pub(super) struct Answer {
    /// What came of it.
    pub(super) outcome: Outcome,
    /// The commit that is checked out now; none before the first.
    pub(super) commit: Option<String>,
    /// Files in conflict, at most 1,000: those of text hold both sides between markers.
    pub(super) conflicts: Vec<Conflict>,
    /// There are more.
    pub(super) is_truncated: bool,
    /// What was before.
    pub(super) restore_point: RestoreId,
}

impl Answer {
    /// Ends a step: the files are let go.
    pub(super) async fn new(
        turn: &Turn,
        held: Held,
        outcome: Outcome,
        conflicts: Vec<Conflict>,
        is_truncated: bool,
    ) -> Result<Json<Self>, ApiError> {
        let commit = commit_of(&turn.git, "HEAD").await?;
        let restore_point = held.point.id.clone();
        held.release().await;
        Ok(Json(Self { outcome, commit, conflicts, is_truncated, restore_point }))
    }
}

/// The files in conflict, and whether there are more.
pub(super) async fn conflicts(git: &Git) -> Result<(Vec<Conflict>, bool), GitError> {
    Ok(parse_unmerged(&git.run(Command::unmerged()).await?, MAX_CONFLICTS))
}

/// What can be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Doing {
    /// A merge.
    Merge,
    /// A rebase.
    Rebase,
    /// Commits are taken from elsewhere.
    CherryPick,
    /// Commits are undone.
    Revert,
    /// Patches out of mails are taken (`git am`).
    Patches,
}

/// What is under way, and what is in conflict.
#[derive(Serialize, ToSchema)]
pub(super) struct Operation {
    /// What is under way. None: nothing; files may be in conflict all the same, after a stash was brought back.
    doing: Option<Doing>,
    /// The commit that is merged, taken, undone, or built upon.
    commit: Option<String>,
    /// Of a rebase: the git branch, which will stand at its end.
    branch: Option<String>,
    /// Of several commits: which one it has stopped at, from 1.
    step: Option<u64>,
    /// Of how many.
    steps: Option<u64>,
    /// It was begun in a shell, and holds a list of steps that may run programs: it is gone on with in a shell too.
    is_of_a_shell: bool,
    /// Files in conflict, at most 1,000. It can be gone on with when there are none.
    conflicts: Vec<Conflict>,
    /// There are more.
    is_truncated: bool,
}

/// Reads a small file of `.git`, as one line.
async fn state(hub: &Hub, name: &str) -> Option<String> {
    line(&hub.workspace().read_git(name, MAX_STATE).await.ok().flatten()?)
}

impl Operation {
    pub(super) async fn now(hub: &Hub, git: &Git) -> Result<Self, ApiError> {
        let (conflicts, is_truncated) = conflicts(git).await?;
        let mut now = Self {
            doing: None,
            commit: None,
            branch: None,
            step: None,
            steps: None,
            is_of_a_shell: false,
            conflicts,
            is_truncated,
        };
        let is_there = async |name: &str| hub.workspace().is_in_git(name).await.unwrap_or(false);
        let number = async |name: &str| state(hub, name).await?.parse().ok();
        let branch = async |name: &str| {
            let full = state(hub, name).await?;
            BranchName::new(full.strip_prefix("refs/heads/")?).ok().map(|name| name.to_string())
        };
        if is_there("rebase-merge").await {
            now.doing = Some(Doing::Rebase);
            now.is_of_a_shell = true;
            now.commit = state(hub, "rebase-merge/onto").await;
            now.branch = branch("rebase-merge/head-name").await;
            (now.step, now.steps) = (number("rebase-merge/msgnum").await, number("rebase-merge/end").await);
        } else if is_there("rebase-apply").await {
            let is_rebase = is_there("rebase-apply/rebasing").await;
            now.doing = Some(if is_rebase { Doing::Rebase } else { Doing::Patches });
            now.is_of_a_shell = !is_rebase;
            now.commit = state(hub, "rebase-apply/onto").await;
            now.branch = branch("rebase-apply/head-name").await;
            (now.step, now.steps) = (number("rebase-apply/next").await, number("rebase-apply/last").await);
        } else {
            let heads = [
                ("MERGE_HEAD", Doing::Merge),
                ("CHERRY_PICK_HEAD", Doing::CherryPick),
                ("REVERT_HEAD", Doing::Revert),
            ];
            for (head, doing) in heads {
                if let Some(commit) = state(hub, head).await {
                    now.doing = Some(doing);
                    now.commit = Some(commit);
                    now.is_of_a_shell = is_there("sequencer").await;
                    break;
                }
            }
        }
        Ok(now)
    }

    /// Tells this one from others, whatever becomes of it.
    async fn name(&self, hub: &Hub) -> Option<String> {
        let doing = self.doing?;
        let from = if doing == Doing::Rebase { state(hub, "rebase-apply/orig-head").await } else { None };
        Some(format!("{doing:?} {} {}", self.commit.as_deref().unwrap_or(""), from.unwrap_or_default()))
    }

    /// Nothing is under way, or else this is what to say.
    pub(super) fn none(&self) -> Result<(), ApiError> {
        if self.doing.is_some() || !self.conflicts.is_empty() {
            let detail = "a merge or the like is under way, or files are in conflict; end that first";
            return Err(ApiError::new(StatusCode::CONFLICT, "git_under_way", detail));
        }
        Ok(())
    }

    fn solved(&self) -> Result<(), ApiError> {
        if self.conflicts.is_empty() {
            return Ok(());
        }
        let files: Vec<_> = self.conflicts.iter().map(|conflict| conflict.path.clone()).collect();
        let detail = "files are in conflict; solve them, and say so";
        Err(ApiError::new(StatusCode::CONFLICT, "git_conflict", detail).with("files", files))
    }
}

/// Whether the step that failed has stopped in the middle. Then it is noted, and answered as a conflict; otherwise the error
/// is.
async fn stop(turn: &Turn, held: Held, error: GitError) -> Result<Json<Answer>, ApiError> {
    if !matches!(error, GitError::Failed(_)) {
        return Err(error.into());
    }
    let now = Operation::now(&turn.hub, &turn.git).await?;
    let Some(name) = now.name(&turn.hub).await else { return Err(turn.refused(error).await) };
    note_stop(turn, &held.point, name).await?;
    Answer::new(turn, held, Outcome::Conflict, now.conflicts, now.is_truncated).await
}

/// Runs a step that joins histories: a restore point is taken before, and where it stops in the middle that is answered as a
/// conflict. `other`: the commit that is joined, where it may just be gone forward to.
pub(super) async fn join(
    turn: &Turn,
    label: &str,
    command: Command,
    other: Option<&str>,
) -> Result<Json<Answer>, ApiError> {
    let held = turn.change(label).await?;
    if let Err(error) = turn.git.run(command).await {
        return stop(turn, held, error).await;
    }
    let outcome = match commit_of(&turn.git, "HEAD").await? {
        after if after == held.point.note.head => Outcome::UpToDate,
        Some(after) if Some(after.as_str()) == other => Outcome::FastForward,
        _ => Outcome::Done,
    };
    Answer::new(turn, held, outcome, Vec::new(), false).await
}

/// What is to be merged.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Merge {
    /// A branch, a remote's branch, a tag or a commit.
    revision: String,
    /// The message of the merge, at most 65,536 bytes; git's own without it.
    message: Option<String>,
    /// A commit even where going forward would do.
    #[serde(default)]
    no_ff: bool,
    /// Whose merge it is; needed with an API token.
    session: Option<SessionId>,
}

/// Merge into the git branch that is checked out, as the session. A conflict is no error: the answer says `conflict`, the files hold
/// both sides between markers, in the open documents too, and the merge waits for `resolved` and `continue`, or `abort`.
#[utoipa::path(post, operation_id = "merge", path = "/v1/branches/{branch}/git/merge", tag = "git",
    params(("branch" = String, Path)), request_body = Merge,
    responses((status = OK, body = Answer), (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = CONFLICT, description = "`git_would_overwrite`: uncommitted work in `files`; `git_under_way`"),
        (status = UNPROCESSABLE_ENTITY, description = "`git_identity_missing`: the session has no email address")))]
async fn merge(on: On, request: Result<Json<Merge>, JsonRejection>) -> Result<Json<Answer>, ApiError> {
    let wanted = body(request)?;
    let revision = Revision::new(&wanted.revision)?;
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let options =
        ["--no-edit", "--no-autostash", "--no-verify-signatures", "--no-gpg-sign", "--strategy=ort"];
    let mut command = Command::new("merge").options(options).by(turn.git.identity()?);
    command = command.option(if wanted.no_ff { "--no-ff" } else { "--ff" });
    if let Some(message) = &wanted.message {
        check_message(message, MAX_MESSAGE)?;
        command = command.option(format!("--message={message}"));
    }
    Operation::now(&turn.hub, &turn.git).await?.none()?;
    let other = resolve(&turn.git, &revision).await?;
    let command = command.option("--end-of-options").revision(&revision);
    join(&turn, &format!("before merge of {}", revision.as_str()), command, Some(other.as_str())).await
}

/// What is to be built upon.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rebase {
    /// A branch, a remote's branch, a tag or a commit.
    onto: String,
    /// Whose rebase it is; needed with an API token.
    session: Option<SessionId>,
}

/// Put the commits of the git branch that is checked out onto another one. Their authors stay, the session is the committer.
/// Conflicts are as in a merge. Uncommitted work must be committed or stashed before.
#[utoipa::path(post, operation_id = "rebase", path = "/v1/branches/{branch}/git/rebase", tag = "git",
    params(("branch" = String, Path)), request_body = Rebase,
    responses((status = OK, body = Answer), (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = CONFLICT, description = "`git_would_overwrite`: uncommitted work in `files`; `git_under_way`"),
        (status = UNPROCESSABLE_ENTITY, description = "`git_identity_missing`: the session has no email address")))]
async fn rebase(on: On, request: Result<Json<Rebase>, JsonRejection>) -> Result<Json<Answer>, ApiError> {
    let wanted = body(request)?;
    let onto = Revision::new(&wanted.onto)?;
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let options = ["--apply", "--no-autostash", "--no-fork-point", "--no-stat", "--no-gpg-sign"];
    let command = Command::new("rebase").options(options).by(turn.git.identity()?);
    let command = command.config("rebase.updateRefs", "false").config("rebase.autoSquash", "false");
    Operation::now(&turn.hub, &turn.git).await?.none()?;
    resolve(&turn.git, &onto).await?;
    let command = command.option("--end-of-options").revision(&onto);
    join(&turn, &format!("before rebase onto {}", onto.as_str()), command, None).await
}

/// What is under way, and which files are in conflict.
#[utoipa::path(get, operation_id = "operation", path = "/v1/branches/{branch}/git/operation", tag = "git",
    params(("branch" = String, Path), Whose),
    responses((status = OK, body = Operation), (status = CONFLICT, description = "`git_no_repository`")))]
async fn operation(on: On, Params(whose): Params<Whose>) -> Result<Json<Operation>, ApiError> {
    let git = on.git(whose.session.as_ref()).await?;
    Ok(Json(Operation::now(&on.hub, &git).await?))
}

/// Whose it is.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct By {
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

fn nothing_under_way() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "git_nothing_to_do", "no merge or the like is under way")
}

/// Go on with what is under way, once all conflicts are solved: a merge is committed with git's message, a rebase goes on, and may
/// stop at the next conflict.
#[utoipa::path(post, operation_id = "continue_operation", path = "/v1/branches/{branch}/git/operation/continue", tag = "git",
    params(("branch" = String, Path)), request_body = By,
    responses((status = OK, body = Answer),
        (status = CONFLICT, description = "`git_conflict`: `files` are not solved yet; `git_nothing_to_do`: nothing is under way; \
            `git_of_a_shell`: it was begun in a shell with a list of steps, and is gone on with there"),
        (status = UNPROCESSABLE_ENTITY, description = "`git_identity_missing`: the session has no email address")))]
async fn go_on(on: On, request: Result<Json<By>, JsonRejection>) -> Result<Json<Answer>, ApiError> {
    let by = body(request)?;
    let turn = on.git_turn(by.session.as_ref()).await?;
    let identity = turn.git.identity()?;
    let now = Operation::now(&turn.hub, &turn.git).await?;
    let Some(doing) = now.doing else { return Err(nothing_under_way()) };
    now.solved()?;
    if now.is_of_a_shell {
        let detail = "it was begun in a shell with a list of steps; go on with it there";
        return Err(ApiError::new(StatusCode::CONFLICT, "git_of_a_shell", detail));
    }
    let held = turn.change("before continue").await?;
    if doing == Doing::Rebase {
        return go_on_rebasing(&turn, held, &now).await;
    }
    let command =
        Command::new("commit").options(["--quiet", "--no-edit", "--cleanup=strip", "--no-gpg-sign"]);
    if let Err(error) = turn.git.run(command.by(identity)).await {
        return Err(turn.refused(error).await);
    }
    forget_stop(&turn).await?;
    Answer::new(&turn, held, Outcome::Done, Vec::new(), false).await
}

async fn go_on_rebasing(turn: &Turn, held: Held, now: &Operation) -> Result<Json<Answer>, ApiError> {
    // What was typed so far outlives an abort after the next stop.
    let before = match now.name(&turn.hub).await {
        Some(name) => match stopped(turn, &name).await? {
            Some(stopped) => Some((stopped.carried(turn, &held).await?, name)),
            None => None,
        },
        None => None,
    };
    let orig_head = state(&turn.hub, "rebase-apply/orig-head").await;
    let identity = turn.git.identity()?;
    let am = |how: &str| Command::new("am").options([how, "--no-gpg-sign"]).by(identity);
    // One that was cut short after its last commit has only the rest to do.
    let is_applied = now.steps.is_some() && now.step > now.steps;
    let mut went = if is_applied { Ok(Vec::new()) } else { turn.git.run(am("--continue")).await };
    if let Err(GitError::Failed(failure)) = &went
        && failure.said.contains("No changes")
    {
        // All of this commit was solved away.
        went = turn.git.run(am("--skip")).await;
    }
    if let Err(error) = went {
        let now = Operation::now(&turn.hub, &turn.git).await?;
        if now.conflicts.is_empty() || !matches!(error, GitError::Failed(_)) {
            return Err(turn.refused(error).await);
        }
        if let Some((before, name)) = before {
            note_stop(turn, &before, name).await?;
        }
        return Answer::new(turn, held, Outcome::Conflict, now.conflicts, now.is_truncated).await;
    }
    // What `git rebase` does at its end; git forgets it last.
    if let Some(branch) = &now.branch {
        let full = format!("refs/heads/{branch}");
        if commit_of(&turn.git, &full).await? != commit_of(&turn.git, "HEAD").await? {
            let command = Command::new("update-ref").options(["-m", "rebase (finish)", &full, "HEAD"]);
            let command = orig_head.iter().fold(command, |command, head| command.option(head.clone()));
            turn.git.run(command).await?;
        }
        turn.git.run(Command::new("symbolic-ref").options(["-m", "rebase (finish)", "HEAD", &full])).await?;
    }
    turn.git.run(Command::new("rebase").option("--quit")).await?;
    forget_stop(turn).await?;
    Answer::new(turn, held, Outcome::Done, Vec::new(), false).await
}

/// End what is under way, as if it had never begun. What it changed goes out of the files again, what people typed since stays, but
/// for lines that the conflict was about.
#[utoipa::path(post, operation_id = "abort_operation", path = "/v1/branches/{branch}/git/operation/abort", tag = "git",
    params(("branch" = String, Path)), request_body = By,
    responses((status = OK, body = Answer),
        (status = CONFLICT, description = "`git_nothing_to_do`: nothing is under way; `git_would_overwrite`: it was begun in a \
            shell, and `files` were changed since")))]
async fn abort(on: On, request: Result<Json<By>, JsonRejection>) -> Result<Json<Answer>, ApiError> {
    let by = body(request)?;
    let turn = on.git_turn(by.session.as_ref()).await?;
    let now = Operation::now(&turn.hub, &turn.git).await?;
    let Some(doing) = now.doing else { return Err(nothing_under_way()) };
    let command = match doing {
        Doing::Merge => "merge",
        Doing::Rebase => "rebase",
        Doing::CherryPick => "cherry-pick",
        Doing::Revert => "revert",
        Doing::Patches => "am",
    };
    let held = turn.change(&format!("before {command} --abort")).await?;
    let known = match now.name(&turn.hub).await {
        Some(name) => stopped(&turn, &name).await?,
        None => None,
    };
    let _back = match known {
        Some(known) => known.undo(&turn, &held, Command::new(command).option("--quit")).await?,
        None => {
            if let Err(error) = turn.git.run(Command::new(command).option("--abort")).await {
                return Err(turn.refused(error).await);
            }
            None
        }
    };
    forget_stop(&turn).await?;
    Answer::new(&turn, held, Outcome::Done, Vec::new(), false).await
}

/// Files that are solved.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Solved {
    /// 1 to 1,000 of them. One that is not there any more is solved by being deleted.
    #[schema(value_type = Vec<String>)]
    paths: Vec<String>,
    /// Also files that hold conflict markers.
    #[serde(default)]
    anyway: bool,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

/// Say that files in conflict are solved, as they are now with all that was typed: they are staged. Files that hold
/// conflict markers are refused unless `anyway`.
#[utoipa::path(post, operation_id = "resolved", path = "/v1/branches/{branch}/git/resolved", tag = "git",
    params(("branch" = String, Path)), request_body = Solved,
    responses((status = OK, body = Operation, description = "what is still in conflict"),
        (status = CONFLICT, description = "`git_conflict_markers`: `files` still hold them; `git_not_in_conflict`: `files` are not")))]
async fn resolved(on: On, request: Result<Json<Solved>, JsonRejection>) -> Result<Json<Operation>, ApiError> {
    let wanted = body(request)?;
    if wanted.paths.is_empty() || wanted.paths.len() > MAX_PATHS {
        return Err(ApiError::bad_request("1 to 1,000 paths are named at once"));
    }
    let paths = wanted.paths.iter().map(|path| path.parse()).collect::<Result<Vec<RelPath>, _>>();
    let paths = paths.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let known = parse_unmerged(&turn.git.run(Command::unmerged()).await?, usize::MAX).0;
    let known: std::collections::HashSet<_> = known.iter().map(|conflict| conflict.path.as_str()).collect();
    let others: Vec<_> =
        paths.iter().filter(|path| !known.contains(path.as_str())).map(ToString::to_string).collect();
    if !others.is_empty() {
        let detail = "these files are in no conflict";
        return Err(ApiError::new(StatusCode::CONFLICT, "git_not_in_conflict", detail).with("files", others));
    }
    if !wanted.anyway {
        let mut marked = Vec::new();
        for path in &paths {
            // What is no file, or larger than what is shared, is not searched.
            let read = turn.hub.workspace().read(path, MAX_BYTES).await;
            if read.is_ok_and(|file| file.is_some_and(|file| has_markers(&file.bytes))) {
                marked.push(path.to_string());
            }
        }
        if !marked.is_empty() {
            let detail = "these files still hold conflict markers";
            return Err(
                ApiError::new(StatusCode::CONFLICT, "git_conflict_markers", detail).with("files", marked)
            );
        }
    }
    turn.git.run(Command::new("add").options(["--all", "--force"]).paths(&paths)).await?;
    Ok(Json(Operation::now(&turn.hub, &turn.git).await?))
}
