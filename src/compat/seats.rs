//! Tokens of the SDK's sockets. One names a sandbox, a session on it and a right, and is good until the sandbox is
//! deleted, over hibernation, shutdown and restarts of perch; ending or revoking the session by the native API ends it.
//! Only its hash is stored.

use super::Compat;
use super::sandboxes::Life;
use crate::base::{BranchId, Permission, SessionId};
use crate::http::{ApiError, Caller, On, Present};
use crate::session::{Wanted, create_or_find, new_secret, token_hash};
use crate::store::{SdkToken, SessionRow};
use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Tokens of one branch; past it those that were not used longest go.
const MAX_TOKENS: i64 = 10_000;
/// How exactly it is noted when a token was used.
const USED_EVERY_MS: i64 = 3_600 * 1_000;
/// The session of whoever starts a sandbox, as the SDK calls it.
pub(super) const GLOBAL: &str = "pitcher-host";
/// Before ids that the SDK allows and perch does not: those that begin with `-` or `_`. No id of the SDK has a dot.
const ODD: &str = "sdk.";

/// What a token gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    /// The sandbox.
    pub(super) branch: BranchId,
    /// The session on it.
    pub(super) session: SessionId,
    /// At most this right; the session may have less.
    pub(super) right: Permission,
}

/// A seat that somebody sits on: its sandbox runs, its session is present. A socket holds it as long as it is open.
pub(super) struct Seated {
    pub(super) seat: Seat,
    /// The place from which the native API's functions are called: [`On::writer`], [`On::agent`], [`On::hub`].
    pub(super) on: On,
    /// The present stretch of the sandbox's life: [`Life::going`], [`Life::active`].
    pub(super) life: Arc<Life>,
    /// Tells when the session was ended or revoked: [`Present::still_welcome`].
    pub(super) present: Present,
    _client: TaskTrackerToken,
}

/// The session of an id as the SDK writes it.
///
/// # Errors
/// 422.
pub(super) fn session_of(sdk: &str) -> Result<SessionId, ApiError> {
    let is_odd = sdk.starts_with(['-', '_']);
    let is_plain = sdk.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let id = if is_odd { format!("{ODD}{sdk}") } else { sdk.to_owned() };
    let id = Some(id).filter(|_| is_plain).and_then(|id| id.parse().ok());
    id.ok_or_else(|| {
        let text = "`session_id` is 1 to 60 of letters, digits, `_` and `-`";
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_session_id", text)
    })
}

/// The user of a session, as the SDK writes it.
pub(super) fn username(session: &SessionId) -> &str {
    session.as_str().strip_prefix(ODD).unwrap_or(session.as_str())
}

/// Makes a session, or finds it again, and a token of it.
///
/// # Errors
/// The database's; 409 when the branch has too many sessions.
pub(super) async fn give(
    compat: &Compat,
    branch: &BranchId,
    session: SessionId,
    right: Permission,
) -> Result<(SessionRow, SecretString), ApiError> {
    let app = &compat.app;
    let hub = app.branches.hub(branch).await?;
    let wanted =
        Wanted { id: session, permission: right, name: None, email: None, color: None, may_fork: false };
    let now_ms = app.clock.now_ms();
    let row = create_or_find(&app.store, &app.clock, branch, &wanted).await?;
    if row.updated_at_ms >= now_ms {
        hub.session_changed(&row);
    }
    let secret = new_secret("sdk");
    let token = SdkToken {
        hash: token_hash(secret.expose_secret()),
        branch_id: branch.clone(),
        session_id: row.id.clone(),
        permission: right,
        epoch: row.epoch,
        created_at_ms: now_ms,
        used_at_ms: now_ms,
    };
    app.store.insert_sdk_token(&token, MAX_TOKENS).await?;
    Ok((row, secret))
}

/// What a token gives, if it is one of `branch`'s and valid now.
///
/// # Errors
/// 401.
pub(super) async fn look(
    compat: &Compat,
    branch: &BranchId,
    token: &SecretString,
) -> Result<(Seat, SessionRow), ApiError> {
    let app = &compat.app;
    let hash = token_hash(token.expose_secret());
    // Looked up by hash: what a caller can vary says nothing about the secret's bytes.
    let found = app.store.sdk_token(&hash).await?.filter(|token| token.branch_id == *branch);
    let token = found.ok_or_else(ApiError::unauthorized)?;
    let row = app.store.session(branch, &token.session_id).await?;
    let row = row.filter(|row| row.epoch == token.epoch && row.ended_at_ms.is_none());
    let row = row.ok_or_else(ApiError::unauthorized)?;
    let now_ms = app.clock.now_ms();
    if now_ms - token.used_at_ms > USED_EVERY_MS {
        app.store.used_sdk_token(&hash, now_ms).await?;
    }
    Ok((Seat { branch: token.branch_id, session: token.session_id, right: token.permission }, row))
}

/// Sits down: wakes the sandbox where it sleeps.
///
/// # Errors
/// 401 for a token that is not valid; as a start otherwise.
pub(super) async fn sit(
    compat: &Compat,
    branch: &BranchId,
    token: &SecretString,
) -> Result<Seated, ApiError> {
    let (seat, row) = look(compat, branch, token).await?;
    let (_, life) = compat.start(branch, |_| {}).await?;
    let client = life.client();
    let hub = compat.app.branches.hub(branch).await?;
    let present = Present::take(&compat.app, Arc::clone(&hub), &row).await?;
    let caller = Caller::Session { row: Box::new(row), permission: seat.right };
    let on = On { caller, hub, branch: branch.clone(), state: compat.app.clone() };
    Ok(Seated { seat, on, life, present, _client: client })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_id_of_the_sdk_is_a_session_of_its_own(id in "[a-zA-Z0-9_-]{1,60}") {
            let session = session_of(&id).unwrap();
            prop_assert_eq!(username(&session), id);
        }

        #[test]
        fn other_texts_are_refused(id in "\\PC{0,80}") {
            let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            prop_assert!(is_id || session_of(&id).is_err());
        }
    }
}
