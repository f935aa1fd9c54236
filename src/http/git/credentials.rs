//! A session's tokens for remotes. Given with its own token only; an embedder's server gives them when it makes the session.

use crate::git::{Credential, Protocol, Scope};
use crate::http::branches::body;
use crate::http::inside::own;
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::{CredentialError, credentials, put_credentials, remove_credential};
use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, put, remove))
}

type Two = Path<(String, String)>;

/// A token, without itself.
#[derive(Serialize, ToSchema)]
struct Shown {
    #[serde(flatten)]
    scope: Scope,
    username: String,
}

/// The session's tokens, without themselves.
#[derive(Serialize, ToSchema)]
struct Listed {
    credentials: Vec<Shown>,
}

/// For which remotes the token is.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// `https` or `http`.
    protocol: Protocol,
    /// Their host, with `:port` if it is not the protocol's own.
    host: String,
    /// The path, if the token was given with one.
    path: Option<String>,
}

/// List the session's tokens for git's remotes, without the tokens.
#[utoipa::path(get, path = "/v1/branches/{branch}/sessions/{session}/git-credentials", tag = "git",
    params(("branch" = String, Path), ("session" = String, Path)),
    responses((status = OK, body = Listed), (status = FORBIDDEN, description = "with another token than the session's own")))]
async fn list(on: On, names: Two) -> Result<Json<Listed>, ApiError> {
    let Path((_, id)) = names;
    let agent = on.agent(Some(&own(&on, &id)?), true).await?;
    let stored = credentials(&agent).await?;
    let shown = stored.into_iter().map(|one| Shown { scope: one.scope(), username: one.username });
    Ok(Json(Listed { credentials: shown.collect() }))
}

/// Give the session a token for git's remotes, in place of one for the same protocol, host and path, also while git is under
/// way. At most 32; held in the session's `~/.private`, and gone with it.
#[utoipa::path(put, path = "/v1/branches/{branch}/sessions/{session}/git-credentials", tag = "git",
    params(("branch" = String, Path), ("session" = String, Path)), request_body = Credential,
    responses((status = NO_CONTENT),
        (status = FORBIDDEN, description = "with another token than the session's own, or of a session that can only read"),
        (status = CONFLICT, description = "`too_many_git_credentials`"),
        (status = INSUFFICIENT_STORAGE, description = "`no_room`: `~/.private` is full")))]
async fn put(
    on: On,
    names: Two,
    request: Result<Json<Credential>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let Path((_, id)) = names;
    let id = own(&on, &id)?;
    let credential = body(request)?;
    let agent = on.agent(Some(&id), true).await?;
    put_credentials(&agent, vec![credential]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a token of the session away.
#[utoipa::path(delete, path = "/v1/branches/{branch}/sessions/{session}/git-credentials", tag = "git",
    params(("branch" = String, Path), ("session" = String, Path), Which),
    responses((status = NO_CONTENT), (status = NOT_FOUND),
        (status = FORBIDDEN, description = "with another token than the session's own")))]
async fn remove(on: On, names: Two, Params(which): Params<Which>) -> Result<StatusCode, ApiError> {
    let Path((_, id)) = names;
    let agent = on.agent(Some(&own(&on, &id)?), true).await?;
    let Which { protocol, host, path } = which;
    remove_credential(&agent, Scope { protocol, host, path }).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<CredentialError> for ApiError {
    fn from(error: CredentialError) -> Self {
        let detail = error.to_string();
        match error {
            CredentialError::Bad(_) => Self::bad_request(detail),
            CredentialError::TooMany => Self::new(StatusCode::CONFLICT, "too_many_git_credentials", detail),
            CredentialError::NotFound => Self::not_found(detail),
            CredentialError::File(source) => source.into(),
            CredentialError::Agent(source) => source.into(),
        }
    }
}
