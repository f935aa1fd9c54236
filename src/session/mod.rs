//! Sessions on a branch: made or found again, changed, and the signed tokens that pages hold; API tokens and share links.
//!
//! | file | idea |
//! |---|---|
//! | `agents.rs` | the processes of sessions |
//! | `credit.rs` | who else typed what a commit holds |
//! | `credentials.rs` | a session's tokens for git's remotes |
//! | `git.rs` | git in a session's processes |
//! | `outside.rs` | git that talks to a remote |
//! | `keys.rs` | signed session tokens, and the keys |
//! | `locks.rs` | locks of git's that were left behind |
//! | `downloads.rs` | signed links to one file or folder |
//! | `secret.rs` | secrets that are stored as hashes |
//! | `tokens.rs` | API tokens |
//! | `links.rs` | share links |
//! | `shells.rs` | programs on terminals |
//! | `preview_tokens.rs` | tokens that open previews |
//! | `tickets.rs` | tickets to previews, good once and for seconds |

mod agents;
mod credentials;
mod credit;
mod downloads;
mod git;
mod keys;
mod links;
mod locks;
mod outside;
mod preview_tokens;
mod room;
mod secret;
mod shells;
mod tickets;
mod tokens;

pub use agents::{AgentOptions, Agents, AgentsError, MAX_AGENTS};
pub use credentials::{CredentialError, credentials, put_credentials, remove_credential};
pub use credit::{CreditError, Staged, Typist, co_authors};
pub use downloads::{Download, Maker, SdkDownload};
pub use git::{Git, GitError, MAX_OUTPUT};
pub use keys::{Claims, KeyError, Keys, Pass};
pub use links::{LinkError, create_link, look_at_link, open_link};
pub use locks::Locks;
pub use outside::{Outside, Ssh};
pub use preview_tokens::{PreviewTokenError, create_preview_token, is_preview_token, look_at_preview_token};
pub use secret::{new_secret, token_hash};
pub use shells::OpenShell;
pub use tickets::Tickets;
pub use tokens::{TokenError, create_token, end_link_token, first_owner_token, link_token};

use crate::base::{BranchId, Clock, Permission, SessionId};
use crate::store::{SessionRow, Store, StoreError};

/// Sessions per branch; ended ones and guests, not changed for a day, make room.
const MAX_SESSIONS: i64 = 10_000;
/// How long an ended session, or a guest whose token was not refreshed, is kept once room is short.
const KEPT_MS: i64 = 24 * 3_600 * 1_000;

/// What a caller wants of a session.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its id.
    pub id: SessionId,
    /// The right of the token; a session that is new gets it too.
    pub permission: Permission,
    /// Shown to others.
    pub name: Option<String>,
    /// For commits.
    pub email: Option<String>,
    /// `#rrggbb`, shown to others; made from the id without it.
    pub color: Option<String>,
    /// Whether it may fork the branch, once; one that may already stays so.
    pub may_fork: bool,
}

/// A value that may change.
#[derive(Clone, Debug, Default)]
pub enum Field {
    /// It stays.
    #[default]
    Keep,
    /// It goes.
    Clear,
    /// It becomes this.
    Set(String),
    /// It becomes this where there is none.
    Fill(String),
}

impl Field {
    /// The new value, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<&String> {
        if let Self::Set(value) | Self::Fill(value) = self { Some(value) } else { None }
    }

    fn after(&self, present: Option<&String>) -> Option<String> {
        match self {
            Self::Keep => present.cloned(),
            Self::Clear => None,
            Self::Set(value) => Some(value.clone()),
            Self::Fill(value) => Some(present.unwrap_or(value).clone()),
        }
    }
}

/// What of a session is to change.
#[derive(Clone, Debug, Default)]
pub struct SessionChange {
    /// Its right, felt at once on its open sockets.
    pub permission: Option<Permission>,
    /// Shown to others.
    pub name: Field,
    /// For commits.
    pub email: Field,
    /// `#rrggbb`; taken away, it is made from the id again.
    pub color: Field,
    /// Whether commits of others name it as a co-author.
    pub credited: Option<bool>,
    /// Cuts its sockets and makes its tokens invalid.
    pub is_revoked: bool,
    /// As `is_revoked`, and the session is over.
    pub is_ended: bool,
}

/// Why a session can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is none with this id.
    #[error("there is no such session")]
    NotFound,
    /// The branch has too many.
    #[error("the branch has {MAX_SESSIONS} sessions; end some, they make room after a day")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Colours that stand out on light and dark grounds alike.
const COLORS: [&str; 8] =
    ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#e67e22", "#17a2b8", "#c2185b", "#7a8c00"];

/// Finds a session again, or makes it. Asking for less than a session has lowers nobody; asking for more than it has
/// raises it, since whoever asks holds an API token. An ended one is opened anew with fresh tokens.
///
/// # Errors
/// [`SessionError::TooMany`], [`SessionError::Store`].
pub async fn create_or_find(
    store: &Store,
    clock: &Clock,
    branch: &BranchId,
    wanted: &Wanted,
) -> Result<SessionRow, SessionError> {
    let now_ms = clock.now_ms();
    let free = match &wanted.color {
        Some(color) => color.clone(),
        None => free_color(&wanted.id, &store.session_colors(branch).await?).to_owned(),
    };
    let fresh = |epoch, changed_at_ms| SessionRow {
        branch_id: branch.clone(),
        id: wanted.id.clone(),
        permission: wanted.permission,
        name: wanted.name.clone(),
        email: wanted.email.clone(),
        color: free.clone(),
        credited: true,
        may_fork: wanted.may_fork,
        epoch,
        created_at_ms: now_ms,
        updated_at_ms: changed_at_ms,
        ended_at_ms: None,
    };
    let change = |present: Option<&SessionRow>| match present {
        // The time as the first epoch: of a session that was removed, tokens stay invalid when its id comes again.
        None => Some(fresh(now_ms, now_ms)),
        Some(row) if row.ended_at_ms.is_some() => {
            Some(fresh(next(row.epoch, now_ms), next_change(row, now_ms)))
        }
        Some(row) => {
            let next = SessionRow {
                permission: row.permission.max(wanted.permission),
                name: wanted.name.clone().or_else(|| row.name.clone()),
                email: wanted.email.clone().or_else(|| row.email.clone()),
                color: wanted.color.clone().unwrap_or_else(|| row.color.clone()),
                may_fork: row.may_fork || wanted.may_fork,
                updated_at_ms: next_change(row, now_ms),
                ..row.clone()
            };
            let differs = (next.permission, &next.name, &next.email, &next.color, next.may_fork)
                != (row.permission, &row.name, &row.email, &row.color, row.may_fork);
            differs.then_some(next)
        }
    };
    if let Some(row) = store.change_session(branch, &wanted.id, MAX_SESSIONS, change).await? {
        return Ok(row);
    }
    if store.prune_sessions(branch, links::GUEST, now_ms - KEPT_MS).await? == 0 {
        return Err(SessionError::TooMany);
    }
    store.change_session(branch, &wanted.id, MAX_SESSIONS, change).await?.ok_or(SessionError::TooMany)
}

/// Changes a session; one that is over stays so.
///
/// # Errors
/// [`SessionError::NotFound`], [`SessionError::Store`].
pub async fn change_session(
    store: &Store,
    clock: &Clock,
    branch: &BranchId,
    id: &SessionId,
    wanted: &SessionChange,
) -> Result<SessionRow, SessionError> {
    let now_ms = clock.now_ms();
    let change = |row: Option<&SessionRow>| {
        let row = row?;
        let cut = wanted.is_revoked || wanted.is_ended;
        Some(SessionRow {
            permission: wanted.permission.unwrap_or(row.permission),
            name: wanted.name.after(row.name.as_ref()),
            email: wanted.email.after(row.email.as_ref()),
            color: wanted.color.after(Some(&row.color)).unwrap_or_else(|| color(id).to_owned()),
            credited: wanted.credited.unwrap_or(row.credited),
            epoch: if cut { next(row.epoch, now_ms) } else { row.epoch },
            ended_at_ms: row.ended_at_ms.or(wanted.is_ended.then_some(now_ms)),
            updated_at_ms: next_change(row, now_ms),
            ..row.clone()
        })
    };
    store.change_session(branch, id, MAX_SESSIONS, change).await?.ok_or(SessionError::NotFound)
}

/// Uses up a session's right to fork its branch; `false` when it has none, or has ended.
///
/// # Errors
/// [`SessionError::Store`].
pub async fn use_fork(store: &Store, clock: &Clock, session: &SessionRow) -> Result<bool, SessionError> {
    let now_ms = clock.now_ms();
    let mut had_right = false;
    let change = |row: Option<&SessionRow>| {
        let row =
            row.filter(|row| row.may_fork && row.epoch == session.epoch && row.ended_at_ms.is_none())?;
        had_right = true;
        Some(SessionRow { may_fork: false, updated_at_ms: next_change(row, now_ms), ..row.clone() })
    };
    store.change_session(&session.branch_id, &session.id, MAX_SESSIONS, change).await?;
    Ok(had_right)
}

/// Notes that a guest is still there, so that its row is kept; of others nothing is noted.
///
/// # Errors
/// [`SessionError::NotFound`], [`SessionError::Store`].
pub async fn refreshed(store: &Store, clock: &Clock, row: SessionRow) -> Result<SessionRow, SessionError> {
    if !row.id.as_str().starts_with(links::GUEST) {
        return Ok(row);
    }
    change_session(store, clock, &row.branch_id, &row.id, &SessionChange::default()).await
}

fn next(number: i64, now_ms: i64) -> i64 {
    now_ms.max(number.saturating_add(1))
}

/// The times of one session's changes rise, so that of two the later is known.
fn next_change(row: &SessionRow, now_ms: i64) -> i64 {
    next(row.updated_at_ms, now_ms)
}

fn color(id: &SessionId) -> &'static str {
    let sum =
        id.as_str().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    COLORS[sum % COLORS.len()]
}

/// The colour that fewest of those who are there have; of those, the next after the id's own.
fn free_color(id: &SessionId, taken: &[(String, i64)]) -> &'static str {
    let own = COLORS.iter().position(|one| *one == color(id)).unwrap_or(0);
    let count = |color: &str| taken.iter().find(|(one, _)| one == color).map_or(0, |(_, count)| *count);
    let in_turn = COLORS.iter().cycle().skip(own).take(COLORS.len());
    in_turn.min_by_key(|color| count(color)).unwrap_or(&COLORS[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ApiToken, Link, Options, a_branch as branch};

    #[test]
    fn people_on_a_branch_have_colours_of_their_own() {
        let mut taken: Vec<(String, i64)> = Vec::new();
        for n in 0..COLORS.len() {
            let given = free_color(&format!("user{n}").parse().unwrap(), &taken);
            assert!(taken.iter().all(|(one, _)| one != given), "{given} is free");
            taken.push((given.to_owned(), 1));
        }
        let id = "one-more".parse().unwrap();
        assert_eq!(free_color(&id, &taken), color(&id), "its own again");
    }

    #[tokio::test]
    async fn every_count_is_bounded_and_what_is_spent_makes_room() {
        let data = tempfile::tempdir().unwrap();
        let options = Options { database_url: None, data: data.path().to_owned() };
        let store = Store::open(&options).await.unwrap();
        let b = branch();
        assert!(store.insert_branch(&b, 1).await.unwrap());
        assert!(!store.insert_branch(&branch(), 1).await.unwrap());

        let clock = Clock::manual(1_000);
        let put = async |id: &str, ended_at_ms| {
            let id: SessionId = id.parse().unwrap();
            let row = SessionRow {
                branch_id: b.id.clone(),
                id: id.clone(),
                permission: Permission::Read,
                name: None,
                email: None,
                color: "#000000".into(),
                credited: true,
                may_fork: false,
                epoch: 1,
                created_at_ms: 1,
                updated_at_ms: 1,
                ended_at_ms,
            };
            store.change_session(&b.id, &id, 3, |_| Some(row)).await.unwrap().is_some()
        };
        assert!(put("ann", None).await && put("guest-1", None).await && put("bob", Some(1)).await);
        assert!(!put("cyn", None).await, "full");
        assert!(put("ann", None).await, "those that are there are found");
        assert_eq!(store.prune_sessions(&b.id, links::GUEST, 1).await.unwrap(), 0, "not old enough");
        assert_eq!(store.prune_sessions(&b.id, links::GUEST, 2).await.unwrap(), 2);
        assert!(put("cyn", None).await);
        let left = store.sessions(&b.id, None, 9).await.unwrap();
        assert_eq!(left.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["ann", "cyn"]);

        let api_token = |n: u8, revoked_at_ms| ApiToken {
            id: crate::base::TokenId::generate(),
            name: format!("{n}"),
            hash: vec![n],
            is_owner: false,
            created_at_ms: i64::from(n),
            revoked_at_ms,
        };
        assert!(store.insert_token(&api_token(1, Some(5)), 3).await.unwrap());
        assert!(store.insert_token(&api_token(2, Some(6)), 3).await.unwrap());
        assert!(store.insert_token(&api_token(3, None), 3).await.unwrap());
        assert!(store.insert_token(&api_token(4, None), 3).await.unwrap(), "the oldest revoked one goes");
        assert!(store.token_by_hash(&[1]).await.unwrap().is_none());
        assert!(store.token_by_hash(&[2]).await.unwrap().is_some());
        assert!(store.insert_token(&api_token(5, None), 3).await.unwrap());
        assert!(!store.insert_token(&api_token(6, None), 3).await.unwrap(), "three valid ones");

        let link = |n: u8, max_uses, expires_at_ms| Link {
            id: crate::base::LinkId::generate(),
            branch_id: b.id.clone(),
            hash: vec![n],
            permission: Permission::Read,
            may_fork: false,
            expires_at_ms,
            max_uses,
            uses: 0,
            created_at_ms: clock.now_ms(),
            revoked_at_ms: None,
        };
        assert!(store.insert_link(&link(1, Some(1), None), 2).await.unwrap());
        assert!(store.insert_link(&link(2, None, Some(2_000)), 2).await.unwrap());
        assert!(!store.insert_link(&link(3, None, None), 2).await.unwrap(), "both work");
        assert!(store.use_link(&[1], 1_000).await.unwrap().is_some());
        assert!(store.use_link(&[1], 1_000).await.unwrap().is_none(), "used up");
        assert!(store.insert_link(&link(3, None, None), 2).await.unwrap(), "the used one makes room");
        assert!(store.link_by_hash(&[1]).await.unwrap().is_none());
        assert!(store.link_by_hash(&[2]).await.unwrap().is_some());
    }
}
