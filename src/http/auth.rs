//! Who calls: the holder of an API token, or of a session token for one branch.

use super::audit::asked_by;
use super::{ApiError, AppState};
use crate::audit::By;
use crate::base::{BranchId, Permission, SessionId, TokenId};
use crate::branch::{Hub, WriteGrant};
use crate::session::{Claims, token_hash};
use crate::store::SessionRow;
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, header, request::Parts};
use subtle::ConstantTimeEq;

/// A caller with an API token: may do anything on any branch.
#[derive(Debug)]
pub(crate) struct Api {
    /// It is an owner's.
    pub(crate) is_owner: bool,
}

/// A caller with an owner token: may make and revoke API tokens too.
#[derive(Debug)]
pub(crate) struct Owner;

/// A caller with an API token, or a session token; which branch it is good for is asked with [`Caller::on`].
#[derive(Debug)]
pub(crate) enum Caller {
    /// An API token.
    Api {
        /// It is an owner's.
        is_owner: bool,
        /// Which one; none is the token of perch's environment.
        token: Option<TokenId>,
    },
    /// A session token, its session checked just now.
    Session {
        /// The session.
        row: Box<SessionRow>,
        /// The token's right; the session may have less.
        permission: Permission,
    },
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a request carries a token of perch's own kinds, valid or not.
pub(super) fn holds_token(state: &AppState, headers: &HeaderMap) -> bool {
    let Some(token) = bearer(headers) else { return false };
    let is_owner = || state.owner.as_ref().is_some_and(|owner| bool::from(owner.ct_eq(&token_hash(token))));
    token.starts_with("perch_") || state.keys.verify(token).is_ok() || is_owner()
}

/// Whether a token is an owner's, and which one it is; `None` when it is no API token.
async fn api_token(state: &AppState, token: &str) -> Result<Option<(bool, Option<TokenId>)>, ApiError> {
    let hash = token_hash(token);
    if let Some(owner) = &state.owner
        && bool::from(owner.ct_eq(&hash))
    {
        return Ok(Some((true, None)));
    }
    // Looked up by hash: what a caller can vary says nothing about the secret's bytes.
    let found = state.store.token_by_hash(&hash).await?;
    Ok(found.filter(|token| token.revoked_at_ms.is_none()).map(|token| (token.is_owner, Some(token.id))))
}

/// What a session token says, if it was made by this perch, for `branch` (any, where none is given), and has time left. Whether
/// its session is still there and still takes it is another question.
pub(super) fn claims_of(
    state: &AppState,
    token: &str,
    branch: Option<&BranchId>,
) -> Result<Claims, ApiError> {
    let claims = state.keys.verify(token).ok();
    let claims = claims.filter(|claims| branch.is_none_or(|branch| *branch == claims.branch));
    claims.ok_or_else(ApiError::unauthorized)
}

/// The session of a session token, if it is valid at this moment for `branch` (any, where none is given), and the
/// token's own right: the session may have less, and more again later.
pub(super) async fn session_of(
    state: &AppState,
    token: &str,
    branch: Option<&BranchId>,
) -> Result<(SessionRow, Permission), ApiError> {
    let claims = claims_of(state, token, branch)?;
    let row = session_at(state, &claims.branch, &claims.session, claims.epoch).await?;
    Ok((row.ok_or_else(ApiError::unauthorized)?, claims.permission))
}

/// The session that something was signed for, unless it was ended or revoked since.
pub(super) async fn session_at(
    state: &AppState,
    branch: &BranchId,
    session: &SessionId,
    epoch: i64,
) -> Result<Option<SessionRow>, ApiError> {
    let row = state.store.session(branch, session).await?;
    Ok(row.filter(|row| row.epoch == epoch && row.ended_at_ms.is_none()))
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers).ok_or_else(ApiError::unauthorized)?;
        if let Some((is_owner, token)) = api_token(state, token).await? {
            asked_by(parts, || token.clone().map_or(By::Environment, By::Token));
            return Ok(Self::Api { is_owner, token });
        }
        let (row, permission) = session_of(state, token, None).await?;
        asked_by(parts, || By::Session(row.id.clone()));
        Ok(Self::Session { row: Box::new(row), permission })
    }
}

impl FromRequestParts<AppState> for Api {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match Caller::from_request_parts(parts, state).await? {
            Caller::Api { is_owner, .. } => Ok(Self { is_owner }),
            Caller::Session { .. } => Err(ApiError::forbidden("this needs an API token")),
        }
    }
}

impl FromRequestParts<AppState> for Owner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers).ok_or_else(ApiError::unauthorized)?;
        match api_token(state, token).await? {
            Some((true, token)) => {
                asked_by(parts, || token.map_or(By::Environment, By::Token));
                Ok(Self)
            }
            Some((false, _)) => Err(ApiError::forbidden("this needs an owner token")),
            None => {
                session_of(state, token, None).await?;
                Err(ApiError::forbidden("this needs an owner token"))
            }
        }
    }
}

impl Caller {
    /// Checks that the caller may look at `branch`; to others it looks as if it were not there.
    pub(super) fn on(&self, branch: &BranchId) -> Result<(), ApiError> {
        match self {
            Self::Session { row, .. } if row.branch_id != *branch => {
                Err(ApiError::not_found("there is no such branch"))
            }
            _ => Ok(()),
        }
    }

    /// The session, if the caller is one.
    pub(crate) fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Api { .. } => None,
            Self::Session { row, .. } => Some(&row.id),
        }
    }

    /// The right to change `branch`, at this moment: a body may have taken its time since the token was looked at.
    pub(crate) async fn writer(
        &self,
        state: &AppState,
        branch: &BranchId,
        hub: &Hub,
    ) -> Result<WriteGrant, ApiError> {
        self.on(branch)?;
        let Self::Session { row, permission } = self else { return Ok(WriteGrant::for_api_token()) };
        let now = session_at(state, branch, &row.id, row.epoch).await?.ok_or_else(ApiError::unauthorized)?;
        let grant = hub.members().enter(&now).writer(*permission);
        grant.ok_or_else(|| ApiError::forbidden("this session can only read"))
    }
}

/// Whether a page of this origin may open a socket with a token of its own: no origin (not a browser), the same
/// origin, or one that is allowed.
pub(super) fn origin_is_allowed(state: &AppState, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if state.site.allowed_origins.iter().any(|allowed| allowed == origin) {
        return true;
    }
    let Ok(origin) = url::Url::parse(origin) else { return false };
    if let Some(public) = &state.site.public_url {
        return origin.origin() == public.origin();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = match (origin.host_str(), origin.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        _ => return false,
    };
    host.is_some_and(|host| host.eq_ignore_ascii_case(&authority))
}
