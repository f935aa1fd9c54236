//! What happens on a branch, told to whoever listens: a bounded ring, read by each listener at its own pace.
//!
//! Nobody waits for a listener. One that falls behind the ring, or comes back with an id that is not in it, hears
//! `reset`: list anew, then listen on.

use crate::base::{Clock, DocumentId, SessionId, TerminalId};
use crate::branch::versions::Version;
use crate::workspace::{Kind, RelPath};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Events kept for listeners that are behind or come back.
pub const EVENTS_KEPT: usize = 1_024;
/// Listeners of one branch at once; one more is refused.
pub const MAX_LISTENERS: usize = 1_000;
/// Writes of perch's own that are remembered, so that the watcher's echo of them is not told again.
const OWN_WRITES: usize = 256;
/// How long the watcher's echo of a write may take.
const ECHO_WITHIN: Duration = Duration::from_secs(5);

/// What happened. The JSON form is stable; clients leave kinds that they do not know alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(tag = "type")]
pub enum Event {
    /// A file or folder is there that was not. For a folder: look at all beneath it.
    #[serde(rename = "file.created")]
    FileCreated {
        /// From the workspace's root.
        path: String,
        /// What it is.
        kind: Kind,
        /// Sessions, or `(disk)` for outside.
        by: Vec<String>,
    },
    /// A file has other bytes, or was moved to this path from outside the workspace.
    #[serde(rename = "file.changed")]
    FileChanged {
        /// From the workspace's root.
        path: String,
        /// Sessions, or `(disk)` for outside.
        by: Vec<String>,
    },
    /// A file or folder, and all beneath it, is gone.
    #[serde(rename = "file.deleted")]
    FileDeleted {
        /// From the workspace's root.
        path: String,
        /// Sessions, or `(disk)` for outside.
        by: Vec<String>,
    },
    /// A file or folder has another path; what was there before is replaced.
    #[serde(rename = "file.renamed")]
    FileRenamed {
        /// Where it was.
        from: String,
        /// Where it is.
        path: String,
        /// Sessions, or `(disk)` for outside.
        by: Vec<String>,
    },
    /// A file is shared live.
    #[serde(rename = "document.opened")]
    DocumentOpened {
        /// From the workspace's root.
        path: String,
        /// The document.
        document: DocumentId,
    },
    /// A file is shared live no more.
    #[serde(rename = "document.closed")]
    DocumentClosed {
        /// From the workspace's root.
        path: String,
        /// The document.
        document: DocumentId,
        /// `idle`, `stopping`, `failed`; for good: `deleted`, `replaced`, `not_text`, `too_large`.
        reason: String,
    },
    /// A session opened its first socket or stream.
    #[serde(rename = "session.joined")]
    SessionJoined {
        /// The session.
        session: SessionId,
        /// Its name.
        name: String,
    },
    /// A session's last socket or stream closed.
    #[serde(rename = "session.left")]
    SessionLeft {
        /// The session.
        session: SessionId,
    },
    /// A session looks at another file, as it says itself.
    #[serde(rename = "session.moved")]
    SessionMoved {
        /// The session.
        session: SessionId,
        /// From the workspace's root; `null`: at no file.
        path: Option<String>,
    },
    /// A session was made or changed.
    #[serde(rename = "session.changed")]
    SessionChanged {
        /// The session.
        session: SessionId,
    },
    /// A session was ended.
    #[serde(rename = "session.ended")]
    SessionEnded {
        /// The session.
        session: SessionId,
    },
    /// A port is listened on, or its process has become known.
    #[serde(rename = "port.opened")]
    PortOpened {
        /// 1 to 65,535.
        port: u16,
        /// The process's short name, where it is known.
        process: Option<String>,
        /// The session whose process it is, where it is known.
        session: Option<SessionId>,
    },
    /// A port is listened on no more.
    #[serde(rename = "port.closed")]
    PortClosed {
        /// 1 to 65,535.
        port: u16,
    },
    /// A terminal was opened.
    #[serde(rename = "terminal.opened")]
    TerminalOpened {
        /// The terminal.
        terminal: TerminalId,
        /// Who opened it.
        session: SessionId,
        /// Its title.
        title: String,
    },
    /// A terminal was renamed or resized by a request, or other sessions may type in it.
    #[serde(rename = "terminal.changed")]
    TerminalChanged {
        /// The terminal.
        terminal: TerminalId,
    },
    /// A terminal's program has ended. Neither code nor signal: nobody knows how.
    #[serde(rename = "terminal.closed")]
    TerminalClosed {
        /// The terminal.
        terminal: TerminalId,
        /// Its exit code.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// The branch's own row changed: name, description, tags, who may look at previews.
    #[serde(rename = "branch.changed")]
    BranchChanged,
    /// What git has checked out, staged or under way changed, also by a shell: `git/status` says what it is now. Changes of files
    /// are told as such.
    #[serde(rename = "git.changed")]
    GitChanged,
    /// The branch has reached its bound: its processes can't write to files until some are removed.
    #[serde(rename = "branch.full")]
    BranchFull {
        /// Bytes of its files, home and scratch folder.
        size_bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// Something may have been missed: list anew.
    #[serde(rename = "reset")]
    Reset,
}

/// Names an event of a branch: when this run of the branch began, and a number in it. Grows, over restarts too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    start_ms: i64,
    number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start_ms, self.number)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (start, number) = text.split_once('-').ok_or(())?;
        Ok(Self { start_ms: start.parse().map_err(|_| ())?, number: number.parse().map_err(|_| ())? })
    }
}

/// An event as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its id.
    pub id: EventId,
    /// `{"id", "at_ms", "type", …}`, encoded once for all listeners.
    pub json: Arc<str>,
    /// What happened.
    pub event: Arc<Event>,
}

/// The JSON form.
#[derive(Serialize, utoipa::ToSchema)]
pub struct EventJson<'a> {
    /// `Last-Event-ID` to go on after it.
    id: String,
    /// Milliseconds since 1970 UTC.
    at_ms: i64,
    #[serde(flatten)]
    event: &'a Event,
}

#[derive(Debug, Default)]
struct Ring {
    kept: VecDeque<(Arc<str>, Arc<Event>)>,
    /// The number of the newest; the first is 1.
    newest: u64,
    is_closed: bool,
}

/// What perch itself did to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// Put these bytes there.
    Wrote(Version),
    /// Removed it, or moved it away.
    Deleted,
    /// Moved it here.
    MovedHere,
    /// Made it: a folder, or a copy with all in it.
    Made,
}

#[derive(Debug)]
struct OwnWrite {
    at: Instant,
    path: RelPath,
    what: Own,
    by: Vec<String>,
    /// The watcher has shown it.
    is_seen: bool,
}

/// See the module's docs.
#[derive(Debug)]
pub struct Events {
    clock: Clock,
    start_ms: i64,
    ring: Mutex<Ring>,
    changed: watch::Sender<()>,
    own: Mutex<VecDeque<OwnWrite>>,
}

impl Events {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let start_ms = clock.now_ms();
        Arc::new(Self {
            clock,
            start_ms,
            ring: Mutex::default(),
            changed: watch::Sender::new(()),
            own: Mutex::default(),
        })
    }

    fn id(&self, number: u64) -> EventId {
        EventId { start_ms: self.start_ms, number }
    }

    fn encode(&self, number: u64, event: &Event) -> Arc<str> {
        let json = EventJson { id: self.id(number).to_string(), at_ms: self.clock.now_ms(), event };
        // Plain structs of text and numbers always encode.
        serde_json::to_string(&json).unwrap_or_default().into()
    }

    /// Tells all listeners; waits for none.
    pub fn publish(&self, event: &Event) {
        {
            let mut ring = self.ring.lock();
            ring.newest += 1;
            let json = self.encode(ring.newest, event);
            if ring.kept.len() >= EVENTS_KEPT {
                ring.kept.pop_front();
            }
            ring.kept.push_back((json, Arc::new(event.clone())));
        }
        self.changed.send_replace(());
    }

    /// Ends all listeners, when the branch goes.
    pub fn close(&self) {
        self.ring.lock().is_closed = true;
        self.changed.send_replace(());
    }

    /// Listens from now on, or on from the event with the id `after`. `None` when too many listen already.
    pub fn listen(self: &Arc<Self>, after: Option<&str>) -> Option<Listener> {
        let changed = self.changed.subscribe();
        if self.changed.receiver_count() > MAX_LISTENERS {
            return None;
        }
        let newest = self.ring.lock().newest;
        let next = match after {
            None => Some(newest),
            // Of another run, from the future, or no id at all: nobody knows what was missed.
            Some(after) => after
                .parse::<EventId>()
                .ok()
                .filter(|id| id.start_ms == self.start_ms && id.number <= newest)
                .map(|id| id.number),
        };
        Some(Listener { events: Arc::clone(self), changed, last: next })
    }

    /// Remembers what perch itself did for [`Events::own`].
    pub(super) fn note_own(&self, path: &RelPath, what: Own, by: &[String]) {
        let mut own = self.own.lock();
        if own.len() >= OWN_WRITES {
            own.pop_front();
        }
        own.push_back(OwnWrite {
            at: Instant::now(),
            path: path.clone(),
            what,
            by: by.to_vec(),
            is_seen: false,
        });
    }

    /// What perch itself did last at a path, a moment ago.
    pub(super) fn own(&self, path: &RelPath) -> Option<Own> {
        let own = self.own.lock();
        own.iter()
            .rev()
            .take_while(|own| own.at.elapsed() < ECHO_WITHIN)
            .find(|own| own.path == *path && !own.is_seen)
            .map(|own| own.what)
    }

    /// The watcher has shown what perch did at a path: what it shows next is somebody else's. What lies beneath may still
    /// be shown.
    pub(super) fn seen_own(&self, path: &RelPath) {
        self.own.lock().iter_mut().filter(|own| own.path == *path).for_each(|own| own.is_seen = true);
    }

    /// Who made perch do something in a folder that `path` lies in, or beneath `path`, a moment ago.
    pub(super) fn own_near(&self, path: &RelPath) -> Option<Vec<String>> {
        let own = self.own.lock();
        own.iter()
            .rev()
            .take_while(|own| own.at.elapsed() < ECHO_WITHIN)
            .find(|own| match own.what {
                Own::Wrote(_) => own.path.is_in(path),
                Own::Made => own.path == *path || own.path.is_in(path) || path.is_in(&own.path),
                Own::Deleted => path.is_in(&own.path),
                Own::MovedHere => false,
            })
            .map(|own| own.by.clone())
    }
}

/// One listener's place in the ring.
#[derive(Debug)]
pub struct Listener {
    events: Arc<Events>,
    changed: watch::Receiver<()>,
    /// The number of the last event that was heard; `None`: the next is a reset.
    last: Option<u64>,
}

impl Listener {
    /// The id after which it goes on.
    #[must_use]
    pub fn id(&self) -> Option<EventId> {
        self.last.map(|number| self.events.id(number))
    }

    /// The next event; `None` when the branch goes. Cancel-safe.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            // Before looking, or an event between would be missed.
            self.changed.mark_unchanged();
            {
                let ring = self.events.ring.lock();
                let newest = ring.newest;
                let before_oldest = newest - ring.kept.len() as u64;
                match self.last {
                    Some(last) if last == newest => {
                        if ring.is_closed {
                            return None;
                        }
                    }
                    Some(last) if last >= before_oldest => {
                        let at = usize::try_from(last - before_oldest).ok()?;
                        let (json, event) = ring.kept.get(at)?;
                        self.last = Some(last + 1);
                        let (json, event) = (Arc::clone(json), Arc::clone(event));
                        return Some(Told { id: self.events.id(last + 1), json, event });
                    }
                    _ => {
                        self.last = Some(newest);
                        let json = self.events.encode(newest, &Event::Reset);
                        let event = Arc::new(Event::Reset);
                        return Some(Told { id: self.events.id(newest), json, event });
                    }
                }
            }
            self.changed.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(told: &Told) -> String {
        let json: serde_json::Value = serde_json::from_str(&told.json).unwrap();
        assert_eq!(json["id"], told.id.to_string());
        assert_eq!(json["at_ms"], 5_000);
        json["type"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn listeners_hear_all_in_order_and_go_on_after_an_id() {
        let events = Events::new(Clock::manual(5_000));
        let mut one = events.listen(None).unwrap();
        let session: SessionId = "ann".parse().unwrap();
        events.publish(&Event::SessionChanged { session: session.clone() });
        events.publish(&Event::SessionLeft { session });
        events.publish(&Event::BranchChanged);
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(one.next().await.unwrap());
        }
        let kinds: Vec<_> = heard.iter().map(kind).collect();
        assert_eq!(kinds, ["session.changed", "session.left", "branch.changed"]);
        let mut again = events.listen(Some(&heard[0].id.to_string())).unwrap();
        assert_eq!(again.next().await.unwrap(), heard[1]);
        assert_eq!(again.next().await.unwrap(), heard[2]);
        let waiting = tokio::time::timeout(Duration::from_millis(20), again.next()).await;
        assert!(waiting.is_err(), "nothing more to hear");
        events.close();
        assert_eq!(again.next().await, None);
    }

    #[tokio::test]
    async fn who_falls_behind_or_comes_from_elsewhere_hears_reset_once() {
        let events = Events::new(Clock::manual(5_000));
        let mut slow = events.listen(None).unwrap();
        for _ in 0..=EVENTS_KEPT {
            events.publish(&Event::BranchChanged);
        }
        let newest = format!("5000-{}", EVENTS_KEPT + 1);
        let told = slow.next().await.unwrap();
        assert_eq!((kind(&told), told.id.to_string()), ("reset".to_owned(), newest.clone()));
        events.publish(&Event::BranchChanged);
        assert_eq!(kind(&slow.next().await.unwrap()), "branch.changed");
        let last = EVENTS_KEPT + 2;
        for bad in ["4999-1", "5000-0", "5000-1", "5000-99999", "junk", ""] {
            let mut listener = events.listen(Some(bad)).unwrap();
            let told = listener.next().await.unwrap();
            assert_eq!(
                (kind(&told), told.id.to_string()),
                ("reset".to_owned(), format!("5000-{last}")),
                "{bad}"
            );
        }
        let mut fresh = events.listen(Some("5000-2")).unwrap();
        assert_eq!(fresh.next().await.unwrap().id.to_string(), "5000-3", "the oldest that is kept");
    }

    #[tokio::test]
    async fn listeners_are_bounded() {
        let events = Events::new(Clock::manual(5_000));
        let all: Vec<_> = (0..MAX_LISTENERS).map(|_| events.listen(None).unwrap()).collect();
        assert!(events.listen(None).is_none());
        drop(all);
        assert!(events.listen(None).is_some());
    }
}
