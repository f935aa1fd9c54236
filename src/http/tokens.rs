//! API tokens: for owners only.

use super::audit::Subject;
use super::auth::Owner;
use super::branches::body;
use super::{ApiError, AppState};
use crate::base::TokenId;
use crate::session::create_token;
use crate::store::ApiToken;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// An API token to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct CreateToken {
    /// For people; 1 to 200 bytes without control characters.
    name: String,
    /// Whether it may make and revoke tokens.
    #[serde(default)]
    owner: bool,
}

/// An API token; what it is made of is stored as a hash only.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenView {
    id: TokenId,
    name: String,
    owner: bool,
    /// Milliseconds since 1970 UTC.
    created_at_ms: i64,
    revoked_at_ms: Option<i64>,
}

impl From<ApiToken> for TokenView {
    fn from(token: ApiToken) -> Self {
        Self {
            id: token.id,
            name: token.name,
            owner: token.is_owner,
            created_at_ms: token.created_at_ms,
            revoked_at_ms: token.revoked_at_ms,
        }
    }
}

/// A new API token, shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct NewToken {
    #[serde(flatten)]
    view: TokenView,
    /// Send it as `Authorization: Bearer …`.
    token: String,
}

/// All API tokens, oldest first, at most 1,000.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    tokens: Vec<TokenView>,
}

/// List API tokens, those that were revoked lately among them.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", responses((status = OK, body = Tokens)))]
async fn list(State(state): State<AppState>, _: Owner) -> Result<Json<Tokens>, ApiError> {
    let tokens = state.store.tokens().await?.into_iter().map(Into::into).collect();
    Ok(Json(Tokens { tokens }))
}

/// Make an API token.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = CreateToken,
    responses((status = CREATED, body = NewToken)))]
async fn create(
    State(state): State<AppState>,
    _: Owner,
    request: Result<Json<CreateToken>, JsonRejection>,
) -> Result<(StatusCode, Extension<Subject>, Json<NewToken>), ApiError> {
    let request = body(request)?;
    let (token, secret) = create_token(&state.store, &state.clock, &request.name, request.owner).await?;
    let subject = Subject::of(&token.id);
    let new = NewToken { view: token.into(), token: secret.expose_secret().to_owned() };
    Ok((StatusCode::CREATED, subject, Json(new)))
}

/// Revoke an API token; the next request with it is refused.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = NO_CONTENT)))]
async fn revoke(
    State(state): State<AppState>,
    _: Owner,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let absent = || ApiError::not_found("there is no valid token with this id");
    let id: TokenId = id.parse().map_err(|_| absent())?;
    if state.store.revoke_token(&id, state.clock.now_ms()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(absent())
    }
}
