//! Share links: whoever has one may take an anonymous seat.

use super::secret::{new_secret, token_hash};
use super::{SessionError, Wanted, create_or_find};
use crate::base::{BranchId, Clock, LinkId, Permission, SessionId};
use crate::store::{Link, SessionRow, Store, StoreError};
use secrecy::{ExposeSecret, SecretString};

/// Links per branch that still work.
const MAX_LINKS: i64 = 1_000;
/// How the ids of sessions made by links start.
pub(super) const GUEST: &str = "guest-";

/// Why a link does not open.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is none with this secret.
    #[error("there is no such link")]
    NotFound,
    /// It was revoked.
    #[error("the link was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the link has expired")]
    Expired,
    /// It was opened as often as it may be.
    #[error("the link was used as often as it may be")]
    UsedUp,
    /// The branch has too many.
    #[error("the branch has {MAX_LINKS} links that work; revoke one first")]
    TooMany,
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a link whose sessions have the right `permission`, and may fork the branch where `may_fork` says so. The secret is
/// given this once.
///
/// # Errors
/// [`LinkError::TooMany`], [`LinkError::Store`].
pub async fn create_link(
    store: &Store,
    clock: &Clock,
    branch: &BranchId,
    permission: Permission,
    may_fork: bool,
    expires_in_s: Option<i64>,
    max_uses: Option<i64>,
) -> Result<(Link, SecretString), LinkError> {
    let secret = new_secret("pl");
    let now_ms = clock.now_ms();
    let link = Link {
        id: LinkId::generate(),
        branch_id: branch.clone(),
        hash: token_hash(secret.expose_secret()),
        permission,
        may_fork,
        expires_at_ms: expires_in_s.map(|seconds| now_ms.saturating_add(seconds.saturating_mul(1_000))),
        max_uses,
        uses: 0,
        created_at_ms: now_ms,
        revoked_at_ms: None,
    };
    if store.insert_link(&link, MAX_LINKS).await? { Ok((link, secret)) } else { Err(LinkError::TooMany) }
}

/// The link of a secret, if it works now; nothing is counted.
///
/// # Errors
/// [`LinkError`] says why it does not.
pub async fn look_at_link(store: &Store, clock: &Clock, secret: &SecretString) -> Result<Link, LinkError> {
    let link = store.link_by_hash(&token_hash(secret.expose_secret())).await?.ok_or(LinkError::NotFound)?;
    if link.revoked_at_ms.is_some() {
        return Err(LinkError::Revoked);
    }
    if link.expires_at_ms.is_some_and(|at_ms| at_ms <= clock.now_ms()) {
        return Err(LinkError::Expired);
    }
    if link.max_uses.is_some_and(|max| link.uses >= max) {
        return Err(LinkError::UsedUp);
    }
    Ok(link)
}

/// Counts one use of a link and makes its anonymous session.
///
/// # Errors
/// As [`look_at_link`]: of two callers only one gets the last use.
pub async fn open_link(store: &Store, clock: &Clock, secret: &SecretString) -> Result<SessionRow, LinkError> {
    let used = store.use_link(&token_hash(secret.expose_secret()), clock.now_ms()).await?;
    let Some(link) = used else {
        look_at_link(store, clock, secret).await?;
        // It worked again between the two looks, which no change does.
        return Err(LinkError::UsedUp);
    };
    let id: SessionId = format!("{GUEST}{}", uuid::Uuid::new_v4().simple())
        .parse()
        .map_err(|_| StoreError::Damaged("a guest's id is none".into()))?;
    let (permission, may_fork) = (link.permission, link.may_fork);
    let wanted = Wanted { id, permission, name: None, email: None, color: None, may_fork };
    Ok(create_or_find(store, clock, &link.branch_id, &wanted).await?)
}
