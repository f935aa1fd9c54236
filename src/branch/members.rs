//! Who sits on a branch right now, and what each may do at this moment.
//!
//! A [`Member`] is the live side of a session row: sockets hold it and ask it anew for each message, so a right that
//! was taken away ends at the next one.

use super::document::Author;
use super::events::{Event, Events};
use crate::base::{Permission, SessionId};
use crate::store::SessionRow;
use crate::workspace::RelPath;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Proof that a member may change its branch at this moment. Made by [`Member::writer`] only.
#[derive(Clone, Debug)]
pub struct WriteGrant {
    /// `None`: the holder of an API token.
    session: Option<SessionId>,
}

impl WriteGrant {
    /// The session that changes something; `None` for an API token, whose holders are not told apart.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    /// To whom the change is credited.
    #[must_use]
    pub fn author(&self) -> Author {
        self.session.clone().map_or(Author::Api, Author::Session)
    }

    /// The author's name, as listeners hear it.
    pub(super) fn by(&self) -> Vec<String> {
        vec![self.author().as_str().to_owned()]
    }

    /// A grant for the holder of an API token, who is no member.
    #[must_use]
    pub fn for_api_token() -> Self {
        Self { session: None }
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
    /// When the session changed; of two readings of it the later counts.
    changed_at_ms: i64,
}

/// One session on one branch, shared by all its connections.
#[derive(Debug)]
pub struct Member {
    session: SessionId,
    standing: watch::Sender<Standing>,
    connected: Mutex<Connected>,
    looking: Mutex<Looking>,
}

/// The least time between two changes of what a session says it looks at, in milliseconds.
pub const MOVES_EVERY_MS: i64 = 100;

/// What a session looks at, as it says itself.
#[derive(Debug, Default)]
struct Looking {
    at: Option<RelPath>,
    moved_at_ms: i64,
}

/// A session's word of what it looks at was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMoved {
    /// It has neither a socket nor an event stream open.
    NotConnected,
    /// It said so less than [`MOVES_EVERY_MS`] ago.
    TooSoon,
}

/// How many connections a member has, and since when it has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Open sockets and event streams.
    pub count: usize,
    /// When the first of those that overlap up to now came, in milliseconds since 1970.
    pub since_ms: i64,
}

/// One connection of a member, as long as it lives; listeners hear of the first and of the end of the last.
#[derive(Debug)]
pub struct Seat {
    member: Arc<Member>,
    events: Arc<Events>,
}

impl Seat {
    /// The seat, and whether the member has no other.
    pub(super) fn take(member: &Arc<Member>, events: &Arc<Events>, now_ms: i64) -> (Self, bool) {
        let mut connected = member.connected.lock();
        let is_first = connected.count == 0;
        if is_first {
            metrics::gauge!("perch_sessions").increment(1);
            connected.since_ms = now_ms;
            let (session, name) = (member.session.clone(), member.standing().name);
            events.publish(&Event::SessionJoined { session, name });
        }
        connected.count += 1;
        drop(connected);
        (Self { member: Arc::clone(member), events: Arc::clone(events) }, is_first)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut connected = self.member.connected.lock();
        connected.count -= 1;
        if connected.count == 0 {
            metrics::gauge!("perch_sessions").decrement(1);
            *self.member.looking.lock() = Looking::default();
            self.events.publish(&Event::SessionLeft { session: self.member.session.clone() });
        }
    }
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

    /// Its connections now.
    #[must_use]
    pub fn connected(&self) -> Connected {
        *self.connected.lock()
    }

    /// What it looks at, as it says itself, from the workspace's root.
    #[must_use]
    pub fn looks_at(&self) -> Option<RelPath> {
        self.looking.lock().at.clone()
    }

    /// Notes what it looks at; the others hear of it.
    ///
    /// # Errors
    /// When it may not say so now; the path that was said last stays.
    pub(super) fn look(&self, at: Option<RelPath>, events: &Events, now_ms: i64) -> Result<(), NotMoved> {
        // Held throughout: the end of the last connection forgets what is noted here.
        let connected = self.connected.lock();
        if connected.count == 0 {
            return Err(NotMoved::NotConnected);
        }
        let mut looking = self.looking.lock();
        if looking.at == at {
            return Ok(());
        }
        if now_ms.saturating_sub(looking.moved_at_ms) < MOVES_EVERY_MS {
            return Err(NotMoved::TooSoon);
        }
        let path = at.as_ref().map(ToString::to_string);
        *looking = Looking { at, moved_at_ms: now_ms };
        events.publish(&Event::SessionMoved { session: self.session.clone(), path });
        drop(looking);
        drop(connected);
        Ok(())
    }

    fn update(&self, now: Standing) {
        self.standing.send_if_modified(|held| {
            // An older reading of the row must not undo a newer change, and nothing undoes the end of the branch.
            let is_newer = now.changed_at_ms > held.changed_at_ms;
            if is_newer {
                *held = now;
            }
            is_newer
        });
    }

    /// A grant, if the session may write now and `token` allows it too.
    #[must_use]
    pub fn writer(&self, token: Permission) -> Option<WriteGrant> {
        let standing = self.standing.borrow();
        let may = !standing.is_ended && standing.permission.min(token) == Permission::Write;
        may.then(|| WriteGrant { session: Some(self.session.clone()) })
    }
}

fn standing(row: &SessionRow) -> Standing {
    Standing {
        permission: row.permission,
        epoch: row.epoch,
        is_ended: row.ended_at_ms.is_some(),
        name: row.name.clone().unwrap_or_else(|| row.id.to_string()),
        color: row.color.clone(),
        changed_at_ms: row.updated_at_ms,
    }
}

/// The members of one branch that anything holds; others live in the database only.
#[derive(Debug, Default)]
pub struct Members {
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    members: HashMap<SessionId, Arc<Member>>,
    is_closed: bool,
}

impl Members {
    /// The member of a session row read from the database. Read the row again afterwards and give it to
    /// [`Members::changed`]: a change between reading and entering was told to nobody.
    pub fn enter(&self, row: &SessionRow) -> Arc<Member> {
        let mut present = self.present.lock();
        present.members.retain(|_, member| Arc::strong_count(member) > 1);
        if let Some(member) = present.members.get(&row.id) {
            let member = Arc::clone(member);
            drop(present);
            member.update(standing(row));
            return member;
        }
        let mut standing = standing(row);
        if present.is_closed {
            end(&mut standing);
        }
        let member = Arc::new(Member {
            session: row.id.clone(),
            standing: watch::Sender::new(standing),
            connected: Mutex::default(),
            looking: Mutex::default(),
        });
        present.members.insert(row.id.clone(), Arc::clone(&member));
        member
    }

    /// Makes a changed session row felt on everything that its member holds open.
    pub fn changed(&self, row: &SessionRow) {
        let member = self.present.lock().members.get(&row.id).cloned();
        if let Some(member) = member {
            member.update(standing(row));
        }
    }

    /// The member of a session that holds something open: what is known of it is what its row says, since it hears of
    /// each change.
    #[must_use]
    pub fn seated(&self, session: &SessionId) -> Option<Arc<Member>> {
        self.present.lock().members.get(session).filter(|member| member.connected().count > 0).cloned()
    }

    /// The connections of a session.
    #[must_use]
    pub fn connected(&self, session: &SessionId) -> Connected {
        self.present.lock().members.get(session).map(|member| member.connected()).unwrap_or_default()
    }

    /// The sessions that hold something open now.
    #[must_use]
    pub fn present(&self) -> Vec<Arc<Member>> {
        let present = self.present.lock();
        present.members.values().filter(|member| Arc::strong_count(member) > 1).cloned().collect()
    }

    /// Ends all, and whoever enters from now on: the branch is going.
    pub fn close(&self) {
        let mut present = self.present.lock();
        present.is_closed = true;
        for member in present.members.values() {
            member.standing.send_modify(end);
        }
    }
}

fn end(standing: &mut Standing) {
    standing.is_ended = true;
    standing.changed_at_ms = i64::MAX;
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::{BranchId, Clock};

    /// A session as the database gives it.
    pub(in crate::branch) fn row(permission: Permission, updated_at_ms: i64) -> SessionRow {
        SessionRow {
            branch_id: BranchId::generate(),
            id: "ann".parse().unwrap(),
            permission,
            name: None,
            email: None,
            color: "#1f77b4".into(),
            credited: true,
            may_fork: false,
            epoch: 1,
            created_at_ms: 0,
            updated_at_ms,
            ended_at_ms: None,
        }
    }

    #[tokio::test]
    async fn an_older_reading_undoes_no_change_and_a_closed_branch_ends_all() {
        let members = Members::default();
        let ann = members.enter(&row(Permission::Write, 1));
        assert!(ann.writer(Permission::Write).is_some());
        assert!(ann.writer(Permission::Read).is_none());
        members.changed(&row(Permission::Read, 3));
        members.changed(&row(Permission::Write, 2));
        assert!(ann.writer(Permission::Write).is_none());
        assert!(Arc::ptr_eq(&ann, &members.enter(&row(Permission::Write, 1))));
        assert!(ann.writer(Permission::Write).is_none());
        let events = Events::new(Clock::manual(0));
        let mut heard = events.listen(None).unwrap();
        let (first, second) = (Seat::take(&ann, &events, 5), Seat::take(&ann, &events, 6));
        drop(first);
        assert!(members.seated(ann.session()).is_some_and(|seated| Arc::ptr_eq(&seated, &ann)));
        assert_eq!(members.connected(ann.session()), Connected { count: 1, since_ms: 5 });
        drop(second);
        assert_eq!(members.connected(ann.session()).count, 0);
        assert!(members.seated(ann.session()).is_none(), "it hears of nothing any more");
        events.close();
        let mut told = Vec::new();
        while let Some(one) = heard.next().await {
            told.push(one.json.contains("session.joined"));
        }
        assert_eq!(told, [true, false], "the first that came, the last that left");
        let at = |path: &str| Some(path.parse().unwrap());
        assert_eq!(ann.look(at("a"), &events, 100), Err(NotMoved::NotConnected));
        let seat = Seat::take(&ann, &events, 5);
        assert_eq!(ann.look(at("a"), &events, 100), Ok(()));
        assert_eq!(ann.look(at("b"), &events, 199), Err(NotMoved::TooSoon));
        assert_eq!(ann.look(at("a"), &events, 199), Ok(()), "nothing new is not too soon");
        assert_eq!(ann.looks_at(), at("a"));
        assert_eq!(ann.look(at("b"), &events, 200), Ok(()));
        drop(seat);
        assert_eq!(ann.looks_at(), None, "who is gone looks at nothing");
        members.changed(&row(Permission::Write, 4));
        members.close();
        members.changed(&row(Permission::Write, 9));
        assert!(ann.writer(Permission::Write).is_none());
        let mut late = row(Permission::Write, 9);
        late.id = "bob".parse().unwrap();
        assert!(members.enter(&late).writer(Permission::Write).is_none());
    }
}
