//! What differs from what was committed; a first repository.

use crate::base::SessionId;
use crate::git::{BadName, Command, Revision, Status};
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::Git;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Files of one answer.
pub(super) const MAX_FILES: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(init))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Look {
    /// Answer 204 where the files are no repository: for pages that ask of each branch.
    #[serde(default)]
    if_any: bool,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// What differs from what was committed, with all that was typed; at most 10,000 files.
#[utoipa::path(get, path = "/v1/branches/{branch}/git/status", tag = "git",
    params(("branch" = String, Path), Look),
    responses((status = OK, body = Status), (status = NO_CONTENT, description = "no repository, where `if_any` is asked"),
        (status = CONFLICT, description = "`git_no_repository`")))]
async fn status(on: On, Params(look): Params<Look>) -> Result<Response, ApiError> {
    let printed = match on.git(look.session.as_ref()).await {
        Ok(git) => git.run(Command::status()).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    match printed {
        Err(error) if look.if_any && error.code() == "git_no_repository" => {
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        printed => Ok(Json(Status::parse(&printed?, MAX_FILES)).into_response()),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Init {
    /// The first branch's name; `main` without it.
    name: Option<String>,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// Make the branch's files a repository. Where they are one already nothing happens.
#[utoipa::path(post, path = "/v1/branches/{branch}/git/init", tag = "git",
    params(("branch" = String, Path), Init), responses((status = NO_CONTENT)))]
async fn init(on: On, Params(wanted): Params<Init>) -> Result<StatusCode, ApiError> {
    let name = Revision::new(wanted.name.as_deref().unwrap_or("main"))?;
    let (row, is_owner) = on.runner(wanted.session.as_ref(), true).await?;
    let agent = on.state.agents.get(&on.hub, &row, is_owner).await?;
    let _turn = on.hub.git_turn().await;
    let git = Git::bare(agent, &row);
    // Templates are hooks and the like, of this machine.
    let options = ["--quiet", "--template="].map(str::to_owned);
    let command = options.into_iter().fold(Command::new("init"), Command::option);
    git.run(command.option(format!("--initial-branch={}", name.as_str()))).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<BadName> for ApiError {
    fn from(error: BadName) -> Self {
        Self::bad_request(error.to_string())
    }
}
