//! Tokens that open the previews of a branch: for programs, and for people who are no members.

use super::secret::{new_secret, token_hash};
use crate::base::{BranchId, Clock, PreviewTokenId};
use crate::store::{PreviewToken, Store, StoreError};
use secrecy::{ExposeSecret, SecretString};

/// Tokens of one branch that work.
const MAX_TOKENS: i64 = 1_000;
/// How exactly it is noted when a token was used.
const USED_EVERY_MS: i64 = 60_000;
/// Before each secret.
const PREFIX: &str = "pvt";
/// Characters of a secret that are shown with its id.
const SHOWN: usize = 8;

/// Why a token is not made.
#[derive(Debug, thiserror::Error)]
pub enum PreviewTokenError {
    /// The branch has too many.
    #[error("the branch has {MAX_TOKENS} preview tokens that work; revoke one first")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a text may be such a token, to take it out of what is passed on.
#[must_use]
pub fn is_preview_token(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('_'))
}

/// Makes a token. The secret is given this once.
///
/// # Errors
/// [`PreviewTokenError`].
pub async fn create_preview_token(
    store: &Store,
    clock: &Clock,
    branch: &BranchId,
    expires_at_ms: Option<i64>,
) -> Result<(PreviewToken, SecretString), PreviewTokenError> {
    let secret = new_secret(PREFIX);
    let token = PreviewToken {
        id: PreviewTokenId::generate(),
        branch_id: branch.clone(),
        hash: token_hash(secret.expose_secret()),
        prefix: secret.expose_secret().chars().take(SHOWN).collect(),
        created_at_ms: clock.now_ms(),
        expires_at_ms,
        used_at_ms: None,
    };
    if !store.insert_preview_token(&token, MAX_TOKENS).await? {
        return Err(PreviewTokenError::TooMany);
    }
    Ok((token, secret))
}

/// The token of a secret, if it opens the branch's previews now.
///
/// # Errors
/// [`StoreError`].
pub async fn look_at_preview_token(
    store: &Store,
    clock: &Clock,
    branch: &BranchId,
    secret: &str,
) -> Result<Option<PreviewToken>, StoreError> {
    let now_ms = clock.now_ms();
    // Looked up by hash: what a caller can vary says nothing about the secret's bytes.
    let found = store.preview_token_by_hash(&token_hash(secret)).await?;
    let Some(token) = found.filter(|token| token.branch_id == *branch && token.holds(now_ms)) else {
        return Ok(None);
    };
    if token.used_at_ms.is_none_or(|at_ms| now_ms - at_ms > USED_EVERY_MS) {
        store.used_preview_token(&token.id, now_ms).await?;
    }
    Ok(Some(token))
}
