//! Preview tokens, which 2.4.2 calls host tokens.

use super::answer::{Data, Done, Refusal, done};
use super::ask::{Asked, Key, branch_id};
use super::time::{calendar, since_1970};
use crate::base::{BranchId, PreviewTokenId};
use crate::compat::Compat;
use crate::session::{PreviewTokenError, create_preview_token};
use crate::store::PreviewToken;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, patch};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

pub(super) fn routes() -> Router<Compat> {
    Router::new()
        .route("/sandbox/{id}/tokens", get(list).post(create).delete(revoke_all))
        .route("/sandbox/{id}/tokens/{token_id}", patch(change))
}

/// A token; the secret is told when it is made only.
#[derive(Serialize)]
struct View {
    token_id: PreviewTokenId,
    token_prefix: String,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl From<PreviewToken> for View {
    fn from(token: PreviewToken) -> Self {
        Self {
            token_id: token.id,
            token_prefix: token.prefix,
            expires_at: token.expires_at_ms.map(calendar),
            last_used_at: token.used_at_ms.map(calendar),
            token: None,
        }
    }
}

#[derive(Serialize)]
struct OneToken {
    sandbox_id: BranchId,
    token: View,
}

#[derive(Serialize)]
struct Tokens {
    sandbox_id: BranchId,
    tokens: Vec<View>,
}

#[derive(Deserialize)]
struct Until {
    expires_at: Option<String>,
}

impl Until {
    fn ms(&self) -> Result<Option<i64>, Refusal> {
        self.expires_at.as_deref().map(since_1970).transpose()
    }
}

impl From<PreviewTokenError> for Refusal {
    fn from(error: PreviewTokenError) -> Self {
        match error {
            PreviewTokenError::TooMany => Self::new(StatusCode::CONFLICT, error.to_string()),
            PreviewTokenError::Store(source) => source.into(),
        }
    }
}

async fn list(State(compat): State<Compat>, _: Key, Path(id): Path<String>) -> Result<Data<Tokens>, Refusal> {
    let (app, sandbox_id) = (&compat.app, branch_id(&id)?);
    app.branches.ready(&sandbox_id).await?;
    let now_ms = app.clock.now_ms();
    let tokens = app.store.preview_tokens(&sandbox_id).await?;
    let tokens = tokens.into_iter().filter(|token| token.holds(now_ms)).map(View::from).collect();
    Ok(Data::ok(Tokens { sandbox_id, tokens }))
}

async fn create(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
    Asked(until): Asked<Until>,
) -> Result<Data<OneToken>, Refusal> {
    let (app, sandbox_id, until) = (&compat.app, branch_id(&id)?, until.ms()?);
    app.branches.ready(&sandbox_id).await?;
    let (token, secret) = create_preview_token(&app.store, &app.clock, &sandbox_id, until).await?;
    let token = View { token: Some(secret.expose_secret().to_owned()), ..token.into() };
    Ok(Data(StatusCode::CREATED, OneToken { sandbox_id, token }))
}

/// Lets a token end at another time: never without one, at once with the present one. What has ended stays so.
async fn change(
    State(compat): State<Compat>,
    _: Key,
    Path((id, token_id)): Path<(String, String)>,
    Asked(until): Asked<Until>,
) -> Result<Data<OneToken>, Refusal> {
    let absent = || Refusal::new(StatusCode::NOT_FOUND, "there is no such preview token");
    let (app, sandbox_id, until) = (&compat.app, branch_id(&id)?, until.ms()?);
    let token_id: PreviewTokenId = token_id.parse().map_err(|_| absent())?;
    let now_ms = app.clock.now_ms();
    let changed = app.store.change_preview_token(&sandbox_id, &token_id, until, now_ms).await?;
    let token = changed.ok_or_else(absent)?;
    if !token.holds(now_ms) && until.is_none_or(|at_ms| at_ms > now_ms) {
        return Err(Refusal::new(StatusCode::CONFLICT, "the preview token has ended; make a new one"));
    }
    Ok(Data::ok(OneToken { sandbox_id, token: token.into() }))
}

async fn revoke_all(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
) -> Result<Data<Done>, Refusal> {
    let id = branch_id(&id)?;
    compat.app.branches.ready(&id).await?;
    compat.app.store.delete_preview_tokens(&id).await?;
    Ok(done())
}
