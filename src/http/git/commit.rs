//! Commits, in the session's own name; who else typed what they hold.

use super::Whose;
use super::restore::commit_of;
use super::staging::add;
use crate::base::SessionId;
use crate::git::Command;
use crate::http::audit::Subject;
use crate::http::branches::body;
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::{CreditError, SessionChange, Staged, Typist, change_session, co_authors};
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Bytes of a message.
const MAX_MESSAGE: usize = 64 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(commit)).routes(routes!(typists)).routes(routes!(credit))
}

/// What is to be committed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The message, 1 to 65,536 bytes.
    message: String,
    /// Stage all that differs first, new files too.
    #[serde(default)]
    all: bool,
    /// Sessions that are not to be named as co-authors.
    #[serde(default)]
    without: Vec<SessionId>,
    /// Whose commit it is; needed with an API token.
    session: Option<SessionId>,
}

impl Wanted {
    /// All that differs.
    pub(super) fn all(message: String) -> Self {
        Self { message, all: true, without: Vec::new(), session: None }
    }
}

/// A commit that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct Made {
    /// Its hash.
    pub(super) commit: String,
    /// Whom it names beside its author.
    co_authors: Vec<TypistView>,
}

/// Somebody whose typing is in what is staged.
#[derive(Serialize, ToSchema)]
struct TypistView {
    /// The session.
    session: SessionId,
    /// Its name.
    name: Option<String>,
    /// Its address; a commit can't name somebody without one.
    email: Option<String>,
    /// How much is theirs, in bytes.
    bytes: u64,
    /// Whether a commit by the caller would name them.
    named: bool,
}

/// Who typed what is staged, who typed most first.
#[derive(Serialize, ToSchema)]
struct Typists {
    typists: Vec<TypistView>,
}

fn view(typist: &Typist, named: bool) -> TypistView {
    let row = &typist.session;
    TypistView {
        session: row.id.clone(),
        name: row.name.clone(),
        email: row.email.clone(),
        bytes: typist.bytes,
        named,
    }
}

/// Commit what is staged. Author and committer are the session's name and email address; a session without an address is
/// refused. `Co-authored-by:` names everybody else whose typed characters are in it, from the documents' logs, but for
/// those in `without`, those who do not want it, and those without an address.
#[utoipa::path(post, path = "/v1/branches/{branch}/git/commit", tag = "git",
    params(("branch" = String, Path)), request_body = Wanted,
    responses((status = OK, body = Made),
        (status = CONFLICT, description = "`git_nothing_to_do`: nothing is staged; `git_conflict`: files are in conflict"),
        (status = UNPROCESSABLE_ENTITY, description = "`git_identity_missing`: the session has no email address")))]
pub(super) async fn commit(
    on: On,
    request: Result<Json<Wanted>, JsonRejection>,
) -> Result<(Extension<Subject>, Json<Made>), ApiError> {
    let wanted = body(request)?;
    if wanted.message.trim().is_empty() || wanted.message.len() > MAX_MESSAGE || wanted.message.contains('\0')
    {
        return Err(ApiError::bad_request("a message has 1 to 65,536 bytes and no NUL"));
    }
    let (row, _) = on.runner(wanted.session.as_ref(), true).await?;
    let turn = on.git_turn(wanted.session.as_ref()).await?;
    let identity = turn.git.identity()?;
    if wanted.all {
        add(&turn.git, &[]).await?;
    }
    let Staged { is_empty, typists } = turn.git.staged(&on.hub).await?;
    // Git itself would look for what could be staged, into repositories inside this one too. The end of a merge may change nothing.
    if is_empty && commit_of(&turn.git, "MERGE_HEAD").await?.is_none() {
        let detail = "nothing is staged";
        return Err(ApiError::new(StatusCode::CONFLICT, "git_nothing_to_do", detail));
    }
    let mut named = co_authors(&typists, &row);
    named.retain(|typist| !wanted.without.contains(&typist.session.id));
    let mut command = Command::new("commit")
        .options(["--quiet", "--cleanup=whitespace", "--file=-"])
        // One that the message names already is not named again.
        .config("trailer.ifexists", "addIfDifferent");
    for typist in &named {
        let row = &typist.session;
        let name = row.name.as_deref().unwrap_or(row.id.as_str());
        let email = row.email.as_deref().unwrap_or_default();
        command = command.option(format!("--trailer=Co-authored-by: {name} <{email}>"));
    }
    turn.git.run(command.by(identity).input(wanted.message)).await?;
    let commit = commit_of(&turn.git, "HEAD").await?.unwrap_or_default();
    let co_authors = named.into_iter().map(|typist| view(typist, true)).collect();
    Ok((Subject::of(&commit), Json(Made { commit, co_authors })))
}

/// Who typed what is staged, before it is committed; from the documents' logs, not from who was present. At most 1,000
/// files are looked at.
#[utoipa::path(get, path = "/v1/branches/{branch}/git/typists", tag = "git",
    params(("branch" = String, Path), Whose), responses((status = OK, body = Typists)))]
async fn typists(on: On, Params(whose): Params<Whose>) -> Result<Json<Typists>, ApiError> {
    let (row, _) = on.runner(whose.session.as_ref(), false).await?;
    let git = on.git(whose.session.as_ref()).await?;
    let typists = git.staged(&on.hub).await?.typists;
    let named = co_authors(&typists, &row);
    let is_named = |typist: &Typist| named.iter().any(|one| one.session.id == typist.session.id);
    Ok(Json(Typists { typists: typists.iter().map(|typist| view(typist, is_named(typist))).collect() }))
}

/// Whether somebody wants to be named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Credit {
    /// Whether commits of others may name this session as a co-author.
    credited: bool,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// Say whether commits of others name the session as a co-author; they do until told otherwise.
#[utoipa::path(put, path = "/v1/branches/{branch}/git/credit", tag = "git",
    params(("branch" = String, Path)), request_body = Credit, responses((status = NO_CONTENT)))]
async fn credit(on: On, request: Result<Json<Credit>, JsonRejection>) -> Result<StatusCode, ApiError> {
    let wanted = body(request)?;
    let (row, _) = on.runner(wanted.session.as_ref(), false).await?;
    let change = SessionChange { credited: Some(wanted.credited), ..SessionChange::default() };
    let row = change_session(&on.state.store, &on.state.clock, &on.branch, &row.id, &change).await?;
    on.hub.session_changed(&row);
    Ok(StatusCode::NO_CONTENT)
}

impl From<CreditError> for ApiError {
    fn from(error: CreditError) -> Self {
        match error {
            CreditError::Git(source) => source.into(),
            CreditError::History(source) => source.into(),
        }
    }
}
