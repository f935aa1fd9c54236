//! Branches and tags, and going from one branch to another.

use super::restore::{commit_of, current_branch};
use super::{Named, Turn, Whose};
use crate::base::{RestoreId, SessionId};
use crate::git::{BranchName, Command, Ref, Refs, Revision};
use crate::http::branches::body;
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::GitError;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Branches or tags of one answer.
const MAX_REFS: usize = 1_000;
/// Bytes of a tag's message.
const MAX_MESSAGE: usize = 64 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(delete))
        .routes(routes!(switch))
        .routes(routes!(tags, create_tag))
        .routes(routes!(delete_tag))
}

/// The branches of the repository.
#[derive(Serialize, ToSchema)]
struct Listed {
    /// The git branch that is checked out; not there when a commit itself is. It may have no commit yet.
    current: Option<String>,
    /// Its commit; not there before the first.
    commit: Option<String>,
    /// Local and remotes' branches; those with the newest commits come first.
    branches: Vec<Ref>,
    /// There are more than 1,000.
    is_truncated: bool,
}

/// The git branches, local and as remotes had them when they were fetched last; at most 1,000.
#[utoipa::path(get, operation_id = "branches", path = "/v1/branches/{branch}/git/branches", tag = "git",
    params(("branch" = String, Path), Whose),
    responses((status = OK, body = Listed), (status = CONFLICT, description = "`git_no_repository`")))]
async fn list(on: On, Params(whose): Params<Whose>) -> Result<Json<Listed>, ApiError> {
    let git = on.git(whose.session.as_ref()).await?;
    let prefixes = ["refs/heads/", "refs/remotes/"];
    let refs = Refs::parse(&git.run(Command::refs(&prefixes, MAX_REFS)).await?, MAX_REFS);
    let current = current_branch(&git).await?;
    let current = current.and_then(|full| Some(full.strip_prefix("refs/heads/")?.to_owned()));
    let commit = commit_of(&git, "HEAD").await?;
    Ok(Json(Listed { current, commit, branches: refs.refs, is_truncated: refs.is_truncated }))
}

/// A branch to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewBranch {
    /// Its name.
    name: String,
    /// Where it begins; the commit that is checked out without it. From a remote's branch, that becomes its upstream.
    from: Option<String>,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

/// A branch or tag that was made.
#[derive(Serialize, ToSchema)]
struct Made {
    /// Its name.
    name: String,
    /// The commit it stands at.
    commit: Option<String>,
}

/// Make a git branch; it is not checked out.
#[utoipa::path(post, operation_id = "create_branch", path = "/v1/branches/{branch}/git/branches", tag = "git",
    params(("branch" = String, Path)), request_body = NewBranch,
    responses((status = CREATED, body = Made), (status = CONFLICT, description = "`git_exists`"),
        (status = NOT_FOUND, description = "`git_unknown_revision`")))]
async fn create(
    on: On,
    request: Result<Json<NewBranch>, JsonRejection>,
) -> Result<(StatusCode, Json<Made>), ApiError> {
    let wanted = body(request)?;
    let name = BranchName::new(&wanted.name)?;
    let from = Revision::new(wanted.from.as_deref().unwrap_or("HEAD"))?;
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let command = Command::new("branch").option("--quiet").option("--end-of-options");
    turn.git.run(command.revision(&Revision::from(&name)).revision(&from)).await?;
    let commit = commit_of(&turn.git, &format!("refs/heads/{name}")).await?;
    Ok((StatusCode::CREATED, Json(Made { name: name.to_string(), commit })))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Delete {
    /// Also where its commits are nowhere else.
    #[serde(default)]
    force: bool,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// Delete a git branch. One whose commits are neither in its upstream nor in what is checked out goes only with `force`.
#[utoipa::path(delete, operation_id = "delete_branch", path = "/v1/branches/{branch}/git/branches/{*name}", tag = "git",
    params(("branch" = String, Path), ("name" = String, Path), Delete),
    responses((status = NO_CONTENT), (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = CONFLICT, description = "`git_not_merged`: only with `force`; `git_checked_out`")))]
async fn delete(on: On, Named(name): Named, Params(wanted): Params<Delete>) -> Result<StatusCode, ApiError> {
    let name = BranchName::new(&name)?;
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let how = if wanted.force { "-D" } else { "-d" };
    let command = Command::new("branch").options(["--quiet", how, "--end-of-options"]);
    match turn.git.run(command.revision(&Revision::from(&name))).await {
        Err(GitError::Failed(failure)) if failure.said.contains("is not fully merged") => {
            Err(ApiError::new(StatusCode::CONFLICT, "git_not_merged", failure.said))
        }
        Err(GitError::Failed(failure)) if failure.said.contains("annot delete branch") => {
            Err(ApiError::new(StatusCode::CONFLICT, "git_checked_out", failure.said))
        }
        deleted => Ok(deleted.map(|_| StatusCode::NO_CONTENT)?),
    }
}

/// Where to go.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Switch {
    /// The git branch. One that only a remote has is made, with that as its upstream.
    branch: Option<String>,
    /// Instead, a commit itself.
    commit: Option<String>,
    /// The branch is new, and begins here.
    create: Option<String>,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

/// Where the files are now.
#[derive(Serialize, ToSchema)]
struct Switched {
    /// The git branch; none when a commit itself is checked out.
    branch: Option<String>,
    /// The commit; none before the first.
    commit: Option<String>,
    /// What was before.
    restore_point: RestoreId,
}

impl Switch {
    fn command(&self) -> Result<Command, ApiError> {
        let switch = Command::new("switch").option("--quiet");
        match (&self.branch, &self.commit, &self.create) {
            (Some(branch), None, None) => {
                let branch = BranchName::new(branch)?;
                Ok(switch.option("--end-of-options").revision(&Revision::from(&branch)))
            }
            (Some(branch), None, Some(from)) => {
                let (branch, from) = (BranchName::new(branch)?, Revision::new(from)?);
                Ok(switch.option(format!("--create={branch}")).option("--end-of-options").revision(&from))
            }
            (None, Some(commit), None) => {
                let commit = Revision::new(commit)?;
                Ok(switch.option("--detach").option("--end-of-options").revision(&commit))
            }
            _ => Err(ApiError::bad_request("give `branch`, maybe with `create`, or `commit`")),
        }
    }
}

/// Check out another git branch, or a commit. Open documents whose file differs there get the differences as edits, beneath
/// what people type meanwhile; documents of files that are not there end. Uncommitted work goes along; what would be
/// overwritten is refused.
#[utoipa::path(post, operation_id = "switch", path = "/v1/branches/{branch}/git/switch", tag = "git",
    params(("branch" = String, Path)), request_body = Switch,
    responses((status = OK, body = Switched), (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = CONFLICT, description = "`git_would_overwrite`: uncommitted work in `files`; `git_exists`; `git_under_way`: \
            a merge or the like is to be ended first")))]
async fn switch(on: On, request: Result<Json<Switch>, JsonRejection>) -> Result<Json<Switched>, ApiError> {
    let wanted = body(request)?;
    let command = wanted.command()?;
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let to = wanted.branch.as_deref().or(wanted.commit.as_deref()).unwrap_or_default();
    let held = turn.change(&format!("before switch to {to}")).await?;
    if let Err(error) = turn.git.run(command).await {
        return Err(turn.refused(error).await);
    }
    let branch = current_branch(&turn.git).await?;
    let branch = branch.and_then(|full| Some(full.strip_prefix("refs/heads/")?.to_owned()));
    let commit = commit_of(&turn.git, "HEAD").await?;
    let restore_point = held.point.id.clone();
    held.release().await;
    Ok(Json(Switched { branch, commit, restore_point }))
}

/// The tags of the repository.
#[derive(Serialize, ToSchema)]
struct Tags {
    /// The newest come first.
    tags: Vec<Ref>,
    /// There are more than 1,000.
    is_truncated: bool,
}

/// The tags, at most 1,000.
#[utoipa::path(get, operation_id = "tags", path = "/v1/branches/{branch}/git/tags", tag = "git",
    params(("branch" = String, Path), Whose),
    responses((status = OK, body = Tags), (status = CONFLICT, description = "`git_no_repository`")))]
async fn tags(on: On, Params(whose): Params<Whose>) -> Result<Json<Tags>, ApiError> {
    let git = on.git(whose.session.as_ref()).await?;
    let refs = Refs::parse(&git.run(Command::refs(&["refs/tags/"], MAX_REFS)).await?, MAX_REFS);
    Ok(Json(Tags { tags: refs.refs, is_truncated: refs.is_truncated }))
}

/// A tag to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTag {
    /// Its name.
    name: String,
    /// What is tagged; the commit that is checked out without it.
    commit: Option<String>,
    /// At most 65,536 bytes. With it the tag also says who made it, and when.
    message: Option<String>,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

async fn run_tag(turn: &Turn, wanted: &NewTag, name: &BranchName, from: &Revision) -> Result<(), ApiError> {
    let mut command = Command::new("tag").option("--no-sign").config("tag.forceSignAnnotated", "false");
    if let Some(message) = &wanted.message {
        let identity = turn.git.identity()?;
        command = command.options(["--annotate", "--cleanup=whitespace", "--file=-"]);
        command = command.by(identity).input(message.as_bytes());
    }
    let command = command.option("--end-of-options").revision(&Revision::from(name)).revision(from);
    turn.git.run(command).await?;
    Ok(())
}

/// Make a tag.
#[utoipa::path(post, operation_id = "create_tag", path = "/v1/branches/{branch}/git/tags", tag = "git",
    params(("branch" = String, Path)), request_body = NewTag,
    responses((status = CREATED, body = Made), (status = CONFLICT, description = "`git_exists`"),
        (status = NOT_FOUND, description = "`git_unknown_revision`"),
        (status = UNPROCESSABLE_ENTITY, description = "`git_identity_missing`: with a message, the session needs an email address")))]
async fn create_tag(
    on: On,
    request: Result<Json<NewTag>, JsonRejection>,
) -> Result<(StatusCode, Json<Made>), ApiError> {
    let wanted = body(request)?;
    let name = BranchName::new(&wanted.name)?;
    let from = Revision::new(wanted.commit.as_deref().unwrap_or("HEAD"))?;
    if let Some(message) = &wanted.message {
        check_message(message, MAX_MESSAGE)?;
    }
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    run_tag(&turn, &wanted, &name, &from).await?;
    let commit = commit_of(&turn.git, &format!("refs/tags/{name}")).await?;
    Ok((StatusCode::CREATED, Json(Made { name: name.to_string(), commit })))
}

/// Refuses what is no message.
pub(super) fn check_message(message: &str, max: usize) -> Result<(), ApiError> {
    if message.trim().is_empty() || message.len() > max || message.contains('\0') {
        return Err(ApiError::bad_request(format!("a message has 1 to {max} bytes and no NUL")));
    }
    Ok(())
}

/// Delete a tag.
#[utoipa::path(delete, operation_id = "delete_tag", path = "/v1/branches/{branch}/git/tags/{*name}", tag = "git",
    params(("branch" = String, Path), ("name" = String, Path), Whose),
    responses((status = NO_CONTENT), (status = NOT_FOUND, description = "`git_unknown_revision`")))]
async fn delete_tag(
    on: On,
    Named(name): Named,
    Params(whose): Params<Whose>,
) -> Result<StatusCode, ApiError> {
    let name = BranchName::new(&name)?;
    let turn = on.git_turn(whose.session.as_ref()).await?;
    let command = Command::new("tag").options(["--delete", "--end-of-options"]);
    turn.git.run(command.revision(&Revision::from(&name))).await?;
    Ok(StatusCode::NO_CONTENT)
}
