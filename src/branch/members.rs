//! Who sits on a branch right now, and what each may do at this moment.
//!
//! A [`Member`] is the live side of a session row: sockets hold it and ask it anew for each message, so a right that
//! was taken away ends at the next one.

use crate::base::{Permission, SessionId};
use crate::store::SessionRow;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Proof that a member may change its branch at this moment. Made by [`Member::writer`] only.
#[derive(Clone, Debug)]
pub struct WriteGrant {
    session: SessionId,
}

impl WriteGrant {
    /// The session that changes something.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// A grant for the holder of an API token, who is no member; edits are credited to `session`.
    #[must_use]
    pub fn for_api_token(session: SessionId) -> Self {
        Self { session }
    }
}

/// What a session is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The session's right; a token of it may have less.
    pub permission: Permission,
    /// Raised when tokens are revoked or the session ends; tokens of another epoch are refused.
    pub epoch: i64,
    /// Whether the session was ended.
    pub is_ended: bool,
    /// Shown to others; the session's id where it has none.
    pub name: String,
    /// Shown to others, as CSS `#rrggbb`.
    pub color: String,
}

/// One session on one branch, shared by all its connections.
#[derive(Debug)]
pub struct Member {
    session: SessionId,
    standing: watch::Sender<Standing>,
}

impl Member {
    /// The session's id.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// What the session is now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Hears of each change of the standing.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// A grant, if the session may write now and `token` allows it too.
    #[must_use]
    pub fn writer(&self, token: Permission) -> Option<WriteGrant> {
        let standing = self.standing.borrow();
        let may = !standing.is_ended && standing.permission.min(token) == Permission::Write;
        may.then(|| WriteGrant { session: self.session.clone() })
    }
}

fn standing(row: &SessionRow) -> Standing {
    Standing {
        permission: row.permission,
        epoch: row.epoch,
        is_ended: row.ended_at_ms.is_some(),
        name: row.name.clone().unwrap_or_else(|| row.id.to_string()),
        color: row.color.clone(),
    }
}

/// The members of one branch that anything holds; others live in the database only.
#[derive(Debug, Default)]
pub struct Members {
    present: Mutex<HashMap<SessionId, Arc<Member>>>,
}

impl Members {
    /// The member of a session row just read from the database.
    pub fn enter(&self, row: &SessionRow) -> Arc<Member> {
        let mut present = self.present.lock();
        present.retain(|_, member| Arc::strong_count(member) > 1);
        match present.get(&row.id) {
            Some(member) => {
                let now = standing(row);
                // An older read of the row must not undo a newer change.
                member.standing.send_if_modified(|held| {
                    let newer = now.epoch > held.epoch;
                    if newer {
                        *held = now;
                    }
                    newer
                });
                Arc::clone(member)
            }
            None => {
                let member =
                    Arc::new(Member { session: row.id.clone(), standing: watch::Sender::new(standing(row)) });
                present.insert(row.id.clone(), Arc::clone(&member));
                member
            }
        }
    }

    /// Makes a changed session row felt on everything that its member holds open.
    pub fn changed(&self, row: &SessionRow) {
        let member = self.present.lock().get(&row.id).cloned();
        if let Some(member) = member {
            let now = standing(row);
            member.standing.send_if_modified(|held| {
                let differs = *held != now;
                *held = now;
                differs
            });
        }
    }

    /// The sessions that hold something open now.
    #[must_use]
    pub fn present(&self) -> Vec<Arc<Member>> {
        self.present.lock().values().filter(|member| Arc::strong_count(member) > 1).cloned().collect()
    }
}
