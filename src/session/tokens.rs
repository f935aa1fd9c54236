//! API tokens: made, listed by the store, and the two that perch makes itself.

use super::secret::{new_secret, token_hash};
use crate::base::{Clock, TokenId};
use crate::store::{ApiToken, Store, StoreError};
use secrecy::{ExposeSecret, SecretString};

/// Valid API tokens at most; revoked ones make room.
const MAX_TOKENS: i64 = 1_000;
/// The token behind the link that each start prints; the last start's is gone.
const LINK_TOKEN: &str = "link printed at start";
/// The token of the first start.
const FIRST_TOKEN: &str = "owner, made at the first start";

/// Why a token is not made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is refused.
    #[error("a token's name has 1 to 200 bytes without control characters, and is not `{LINK_TOKEN}`")]
    Name,
    /// Too many.
    #[error("there are {MAX_TOKENS} valid tokens; revoke one first")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn fresh(name: &str, is_owner: bool, clock: &Clock) -> (ApiToken, SecretString) {
    let secret = new_secret("perch");
    let token = ApiToken {
        id: TokenId::generate(),
        name: name.to_owned(),
        hash: token_hash(secret.expose_secret()),
        is_owner,
        created_at_ms: clock.now_ms(),
        revoked_at_ms: None,
    };
    (token, secret)
}

/// Makes an API token. The secret is given this once.
///
/// # Errors
/// [`TokenError`].
pub async fn create_token(
    store: &Store,
    clock: &Clock,
    name: &str,
    is_owner: bool,
) -> Result<(ApiToken, SecretString), TokenError> {
    if name.is_empty() || name.len() > 200 || name.contains(char::is_control) || name == LINK_TOKEN {
        return Err(TokenError::Name);
    }
    let (token, secret) = fresh(name, is_owner, clock);
    if store.insert_token(&token, MAX_TOKENS).await? { Ok((token, secret)) } else { Err(TokenError::TooMany) }
}

/// The owner token of the first start; `None` when there has been an owner token before, revoked or not.
///
/// # Errors
/// [`StoreError`].
pub async fn first_owner_token(store: &Store, clock: &Clock) -> Result<Option<SecretString>, StoreError> {
    if store.tokens().await?.iter().any(|token| token.is_owner && token.name != LINK_TOKEN) {
        return Ok(None);
    }
    let (token, secret) = fresh(FIRST_TOKEN, true, clock);
    Ok(store.insert_token(&token, MAX_TOKENS).await?.then_some(secret))
}

/// Ends the last start's link, where this one prints none.
///
/// # Errors
/// [`StoreError`].
pub async fn end_link_token(store: &Store) -> Result<(), StoreError> {
    store.delete_tokens_named(LINK_TOKEN).await
}

/// The token behind the link that a start prints, in the place of the last start's. It is no owner token.
///
/// # Errors
/// [`StoreError`].
pub async fn link_token(store: &Store, clock: &Clock) -> Result<SecretString, StoreError> {
    let (token, secret) = fresh(LINK_TOKEN, false, clock);
    store.replace_token(&token).await?;
    Ok(secret)
}
