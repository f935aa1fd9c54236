//! Work put aside.

use super::branches::check_message;
use super::merge::{Answer, Outcome, conflicts};
use super::restore::line;
use super::staging::with_nuls;
use super::{Named, Turn, Whose};
use crate::base::{RestoreId, SessionId};
use crate::git::{Command, Kind, Stash, links, parse_stashes};
use crate::http::branches::body;
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::{Git, GitError};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Stashes of one answer.
const MAX_STASHES: usize = 1_000;
/// Bytes of a message.
const MAX_MESSAGE: usize = 4 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, push))
        .routes(routes!(apply))
        .routes(routes!(pop))
        .routes(routes!(delete))
}

/// What was put aside.
#[derive(Serialize, ToSchema)]
struct Stashes {
    /// The last one comes first.
    stashes: Vec<Stash>,
    /// There are more than 1,000.
    is_truncated: bool,
}

/// What was put aside, at most 1,000.
#[utoipa::path(get, operation_id = "stashes", path = "/v1/branches/{branch}/git/stash", tag = "git",
    params(("branch" = String, Path), Whose),
    responses((status = OK, body = Stashes), (status = CONFLICT, description = "`git_no_repository`")))]
async fn list(on: On, Params(whose): Params<Whose>) -> Result<Json<Stashes>, ApiError> {
    let git = on.git(whose.session.as_ref()).await?;
    let printed = match git.run(Command::stashes(MAX_STASHES)).await {
        // Nothing was ever put aside.
        Err(GitError::Failed(_)) => Vec::new(),
        printed => printed?,
    };
    let (stashes, is_truncated) = parse_stashes(&printed, MAX_STASHES);
    Ok(Json(Stashes { stashes, is_truncated }))
}

/// What is to be put aside.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Why, at most 4,096 bytes.
    message: Option<String>,
    /// Also files that git does not know yet, but for those that it ignores.
    #[serde(default)]
    untracked: bool,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

/// What was put aside.
#[derive(Serialize, ToSchema)]
struct Put {
    /// Its commit.
    commit: Option<String>,
    /// What was before.
    restore_point: RestoreId,
}

async fn last(turn: &Turn) -> Result<Option<String>, ApiError> {
    let command = Command::new("rev-parse").options(["--quiet", "--verify", "refs/stash"]);
    Ok(line(&turn.git.run(command.also(1)).await?))
}

/// Runs a stash that does not look into repositories inside this one, where git would run what those have configured: they
/// are marked as unchanged meanwhile, but for those that somebody has marked.
async fn run_outside(git: &Git, command: Command) -> Result<(), GitError> {
    let mark = async |how: &'static str, paths: Vec<u8>| {
        git.run(Command::new("update-index").options([how, "-z", "--stdin"]).input(paths)).await
    };
    let before = git.run(Command::marks()).await?;
    let inner: HashSet<_> = links(&before, false).collect();
    if inner.is_empty() {
        return git.run(command).await.map(drop);
    }
    mark("--assume-unchanged", with_nuls(inner.iter().copied())).await?;
    let outcome = git.run(command).await;
    // One that was just staged is gone from the index.
    let after = git.run(Command::marks()).await?;
    let left = links(&after, true).filter(|path| inner.contains(path));
    mark("--no-assume-unchanged", with_nuls(left)).await?;
    outcome.map(drop)
}

/// Put all uncommitted work aside: what was typed until now goes out of the open documents, what is typed from now on stays.
#[utoipa::path(post, operation_id = "stash", path = "/v1/branches/{branch}/git/stash", tag = "git",
    params(("branch" = String, Path)), request_body = Wanted,
    responses((status = CREATED, body = Put),
        (status = CONFLICT, description = "`git_nothing_to_do`: there is no uncommitted work; `git_conflict`")))]
async fn push(
    on: On,
    request: Result<Json<Wanted>, JsonRejection>,
) -> Result<(StatusCode, Json<Put>), ApiError> {
    let wanted = body(request)?;
    // Were it quiet it would not say that the list is locked.
    let mut command = Command::new("stash").magic().option("push");
    if wanted.untracked {
        command = command.option("--include-untracked");
    }
    if let Some(message) = &wanted.message {
        check_message(message, MAX_MESSAGE)?;
        command = command.option(format!("--message={message}"));
    }
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    if let Ok(identity) = turn.git.identity() {
        command = command.by(identity);
    }
    let before = last(&turn).await?;
    let held = turn.change("before stash").await?;
    if let Err(error) = run_outside(&turn.git, command).await {
        return Err(turn.refused(error).await);
    }
    let commit = last(&turn).await?;
    if commit == before {
        return Err(ApiError::new(StatusCode::CONFLICT, "git_nothing_to_do", "there is no uncommitted work"));
    }
    let restore_point = held.point.id.clone();
    held.release().await;
    Ok((StatusCode::CREATED, Json(Put { commit, restore_point })))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The commit that this number had: refused if others came or went meanwhile.
    commit: Option<String>,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// The name of a stash by its number in the path, checked.
async fn named(turn: &Turn, number: &str, which: &Which) -> Result<String, ApiError> {
    let number = number.parse::<u32>().ok();
    let number = number.ok_or_else(|| ApiError::bad_request("a stash is named by its number"))?;
    let name = format!("stash@{{{number}}}");
    let command = Command::new("rev-parse").options(["--quiet", "--verify", &name]);
    let Some(commit) = turn.git.run(command).await.ok().as_deref().and_then(line) else {
        let detail = format!("there is no stash {number}");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "git_unknown_revision", detail));
    };
    if which.commit.as_ref().is_some_and(|wanted| *wanted != commit) {
        let detail = "this number is another stash by now; ask for the list";
        return Err(ApiError::new(StatusCode::CONFLICT, "git_changed", detail).with("commit", commit));
    }
    Ok(name)
}

async fn bring_back(
    on: On,
    number: String,
    which: Which,
    how: &'static str,
) -> Result<Json<Answer>, ApiError> {
    let turn = on.git_turn(which.session.as_ref()).await?;
    let name = named(&turn, &number, &which).await?;
    let held = turn.change(&format!("before stash {how}")).await?;
    let mut command = Command::new("stash").options([how, "--quiet", &name]);
    if let Ok(identity) = turn.git.identity() {
        command = command.by(identity);
    }
    let outcome = match turn.git.run(command).await {
        Ok(_) => Outcome::Done,
        Err(GitError::Failed(failure)) if failure.kind == Kind::Conflict => Outcome::Conflict,
        Err(error) => {
            // Files that git does not know are brought back before it refuses the others.
            held.take_back(&turn).await?;
            return Err(turn.refused(error).await);
        }
    };
    let (conflicts, is_truncated) = conflicts(&turn.git).await?;
    if outcome == Outcome::Conflict && conflicts.is_empty() {
        let detail = "files are in conflict; solve them first";
        return Err(ApiError::new(StatusCode::CONFLICT, "git_conflict", detail));
    }
    Answer::new(&turn, held, outcome, conflicts, is_truncated).await
}

/// Bring what was put aside back into the files. Where others changed the same lines the answer says `conflict`, as with merges.
#[utoipa::path(post, operation_id = "apply_stash", path = "/v1/branches/{branch}/git/stash/{name}/apply", tag = "git",
    params(("branch" = String, Path), ("name" = u32, Path), Which),
    responses((status = OK, body = Answer), (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = CONFLICT, description = "`git_would_overwrite`: uncommitted work in `files`; `git_changed`: the number is \
            another stash by now")))]
async fn apply(on: On, Named(number): Named, Params(which): Params<Which>) -> Result<Json<Answer>, ApiError> {
    bring_back(on, number, which, "apply").await
}

/// The same, and forget it, unless there is a conflict.
#[utoipa::path(post, operation_id = "pop_stash", path = "/v1/branches/{branch}/git/stash/{name}/pop", tag = "git",
    params(("branch" = String, Path), ("name" = u32, Path), Which),
    responses((status = OK, body = Answer), (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = CONFLICT, description = "`git_would_overwrite`: uncommitted work in `files`; `git_changed`: the number is \
            another stash by now")))]
async fn pop(on: On, Named(number): Named, Params(which): Params<Which>) -> Result<Json<Answer>, ApiError> {
    bring_back(on, number, which, "pop").await
}

/// Forget what was put aside.
#[utoipa::path(delete, operation_id = "delete_stash", path = "/v1/branches/{branch}/git/stash/{name}", tag = "git",
    params(("branch" = String, Path), ("name" = u32, Path), Which),
    responses((status = NO_CONTENT), (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = CONFLICT, description = "`git_changed`: the number is another stash by now")))]
async fn delete(on: On, Named(number): Named, Params(which): Params<Which>) -> Result<StatusCode, ApiError> {
    let turn = on.git_turn(which.session.as_ref()).await?;
    let name = named(&turn, &number, &which).await?;
    turn.git.run(Command::new("stash").options(["drop", "--quiet", &name])).await?;
    Ok(StatusCode::NO_CONTENT)
}
