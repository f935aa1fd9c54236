//! Who is in a document, with cursor and name: a table of our own, since clients trust what is in it.
//!
//! A stock client has one id for each document it opens, tells of itself first, and then relays whatever it hears of
//! others, at any later time and with the others' clocks. So a connection speaks for one id, the first that it names,
//! and only if no other session is known by that id: from presence (also for ten minutes after it ended) or from
//! edits. Everything else is passed over in silence. An id that said goodbye comes back only with a higher clock; one
//! that merely fell silent or lost its socket comes back to its session as it was.
//!
//! Bounds: a state has at most 16 KiB, a payload and a document at most 1,000 ids (a payload with more is refused,
//! further people are not shown), 4,096 are remembered after they left (then the oldest is forgotten).

use super::lib0::{LibError, Reader, put_bytes, put_uint};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::{HashMap, VecDeque};

const MAX_STATE_BYTES: usize = 16 * 1024;
const MAX_IDS: usize = 1_000;
/// Ids remembered after they left, and for how long.
const MAX_LEFT: usize = 4_096;
const LEFT_MS: i64 = 600_000;
/// States not renewed for this long are dropped; clients renew every 15 s.
const TIMEOUT_MS: i64 = 30_000;
/// A dropped socket's presence stays this long, so that a reconnect is not seen by others.
const GRACE_MS: i64 = 5_000;

/// Why a payload was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AwarenessError {
    /// Not the protocol.
    #[error("malformed presence: {0}")]
    Malformed(#[from] LibError),
    /// A state is neither an object nor null, or too large.
    #[error("a presence state is a JSON object of at most 16 KiB, or null")]
    State,
}

/// Who a connection belongs to, written into each of its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The session's id.
    pub session: String,
    /// The session's display name.
    pub name: String,
    /// The session's colour.
    pub color: String,
}

/// What a payload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// To be sent to all connections, the sender too.
    pub broadcast: Option<Bytes>,
}

#[derive(Debug)]
struct Entry {
    clock: u32,
    state: String,
    connection: u64,
    session: String,
    seen_ms: i64,
    left_ms: Option<i64>,
}

/// An id whose presence ended.
#[derive(Debug)]
struct Left {
    clock: u32,
    session: String,
    /// It said so itself, rather than fell silent.
    said_goodbye: bool,
    at_ms: i64,
}

/// See the module's docs.
#[derive(Debug, Default)]
pub struct Awareness {
    entries: HashMap<u64, Entry>,
    /// The one id that a connection speaks for.
    own: HashMap<u64, u64>,
    left: HashMap<u64, Left>,
    /// The ids in `left` in the order in which they left; an id that left again stands twice, and the older counts not.
    left_order: VecDeque<(i64, u64)>,
}

impl Awareness {
    /// How many client ids are present.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is present.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a client's payload. `author`: the session known to have edited under a client id.
    ///
    /// # Errors
    /// [`AwarenessError`]; nothing of the payload was taken.
    pub fn apply<'a>(
        &mut self,
        connection: u64,
        identity: &Identity,
        payload: &[u8],
        author: impl Fn(u64) -> Option<&'a str>,
        now_ms: i64,
    ) -> Result<Presence, AwarenessError> {
        let mut changed = Vec::new();
        for (client, clock, state) in parse(payload)? {
            if !self.may_set(connection, identity, client, clock, state.is_none(), author(client)) {
                continue;
            }
            match state {
                None => {
                    if self.entries.remove(&client).is_some() {
                        self.remember(client, clock, identity.session.clone(), true, now_ms);
                        changed.push((client, clock, "null".to_owned()));
                    }
                }
                Some(state) => {
                    let state = with_identity(state, identity);
                    changed.push((client, clock, state.clone()));
                    let session = identity.session.clone();
                    let entry = Entry { clock, state, connection, session, seen_ms: now_ms, left_ms: None };
                    self.entries.insert(client, entry);
                    self.own.insert(connection, client);
                    self.left.remove(&client);
                }
            }
        }
        Ok(Presence { broadcast: (!changed.is_empty()).then(|| encode(&changed)) })
    }

    fn may_set(
        &self,
        connection: u64,
        identity: &Identity,
        client: u64,
        clock: u32,
        is_null: bool,
        author: Option<&str>,
    ) -> bool {
        if self.own.get(&connection).is_some_and(|own| *own != client) {
            return false;
        }
        if let Some(entry) = self.entries.get(&client) {
            if entry.connection == connection {
                return clock > entry.clock || (clock == entry.clock && is_null);
            }
            // A returning client repeats its clock; its connection is new here, so that counts as news.
            return entry.session == identity.session
                && !is_null
                && (clock > entry.clock || (clock == entry.clock && entry.left_ms.is_some()));
        }
        if is_null || self.entries.len() >= MAX_IDS {
            return false;
        }
        if let Some(left) = self.left.get(&client) {
            return left.session == identity.session
                && (clock > left.clock || (clock == left.clock && !left.said_goodbye));
        }
        author.is_none_or(|session| session == identity.session)
    }

    fn remember(&mut self, client: u64, clock: u32, session: String, said_goodbye: bool, now_ms: i64) {
        self.left.insert(client, Left { clock, session, said_goodbye, at_ms: now_ms });
        self.left_order.push_back((now_ms, client));
        while let Some(&(at_ms, oldest)) = self.left_order.front() {
            if self.left_order.len() <= MAX_LEFT && now_ms - at_ms < LEFT_MS {
                break;
            }
            self.left_order.pop_front();
            if self.left.get(&oldest).is_some_and(|left| left.at_ms == at_ms) {
                self.left.remove(&oldest);
            }
        }
    }

    /// The connection that shows itself under a client id now.
    #[must_use]
    pub fn connection_of(&self, client: u64) -> Option<u64> {
        self.entries.get(&client).filter(|entry| entry.left_ms.is_none()).map(|entry| entry.connection)
    }

    /// The client ids under which a connection shows itself now.
    pub fn ids_of(&self, connection: u64) -> impl Iterator<Item = u64> {
        let shown = move |entry: &Entry| entry.connection == connection && entry.left_ms.is_none();
        self.entries.iter().filter(move |(_, entry)| shown(entry)).map(|(client, _)| *client)
    }

    /// Everyone's state, if anyone is present.
    #[must_use]
    pub fn encode_all(&self) -> Option<Bytes> {
        let all: Vec<_> =
            self.entries.iter().map(|(client, entry)| (*client, entry.clock, entry.state.clone())).collect();
        (!all.is_empty()).then(|| encode(&all))
    }

    /// A connection is gone; what it showed stays for a grace.
    pub fn disconnected(&mut self, connection: u64, now_ms: i64) {
        self.own.remove(&connection);
        for entry in self.entries.values_mut().filter(|entry| entry.connection == connection) {
            entry.left_ms.get_or_insert(now_ms);
        }
    }

    /// Drops who is gone or silent; gives what to broadcast. The clock stays as it was, so that a client that comes
    /// back is seen at once.
    pub fn sweep(&mut self, now_ms: i64) -> Option<Bytes> {
        let gone: Vec<_> = self
            .entries
            .extract_if(|_, entry| {
                now_ms - entry.seen_ms >= TIMEOUT_MS
                    || entry.left_ms.is_some_and(|left_ms| now_ms - left_ms >= GRACE_MS)
            })
            .collect();
        let mut told = Vec::with_capacity(gone.len());
        for (client, entry) in gone {
            told.push((client, entry.clock, "null".to_owned()));
            self.remember(client, entry.clock, entry.session, false, now_ms);
        }
        (!told.is_empty()).then(|| encode(&told))
    }
}

type State = (u64, u32, Option<Map<String, Value>>);

/// The states of a payload: client id and what it shows, nothing for one that left.
///
/// # Errors
/// [`AwarenessError`].
pub fn shown(payload: &[u8]) -> Result<Vec<(u64, Option<Value>)>, AwarenessError> {
    Ok(parse(payload)?.into_iter().map(|(client, _, state)| (client, state.map(Value::Object))).collect())
}

/// A payload with one state; `null` says goodbye. `clock` rises with each.
#[must_use]
pub fn showing(client: u64, clock: u32, state: &Value) -> Bytes {
    encode(&[(client, clock, state.to_string())])
}

fn parse(payload: &[u8]) -> Result<Vec<State>, AwarenessError> {
    let mut reader = Reader::new(payload);
    let count = reader.count()?;
    if count > MAX_IDS {
        return Err(LibError::Range.into());
    }
    let mut states = Vec::with_capacity(count.min(8));
    for _ in 0..count {
        let client = reader.uint()?;
        let clock = u32::try_from(reader.uint()?).map_err(|_| LibError::Range)?;
        let json = reader.string()?;
        if json.len() > MAX_STATE_BYTES {
            return Err(AwarenessError::State);
        }
        let state = match serde_json::from_str(json) {
            Ok(Value::Null) => None,
            Ok(Value::Object(state)) => Some(state),
            _ => return Err(AwarenessError::State),
        };
        states.push((client, clock, state));
    }
    reader.finish()?;
    Ok(states)
}

fn with_identity(mut state: Map<String, Value>, identity: &Identity) -> String {
    let user = state.entry("user").or_insert_with(|| Value::Object(Map::new()));
    if !user.is_object() {
        *user = Value::Object(Map::new());
    }
    if let Value::Object(user) = user {
        user.insert("name".into(), Value::String(identity.name.clone()));
        user.insert("color".into(), Value::String(identity.color.clone()));
        user.insert("session".into(), Value::String(identity.session.clone()));
    }
    Value::Object(state).to_string()
}

fn encode(states: &[(u64, u32, String)]) -> Bytes {
    let mut out = Vec::with_capacity(states.iter().map(|(_, _, state)| state.len() + 16).sum());
    put_uint(&mut out, states.len() as u64);
    for (client, clock, state) in states {
        put_uint(&mut out, *client);
        put_uint(&mut out, u64::from(*clock));
        put_bytes(&mut out, state.as_bytes());
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(session: &str) -> Identity {
        Identity { session: session.into(), name: session.to_uppercase(), color: "#112233".into() }
    }

    fn payload(client: u64, clock: u32, state: &str) -> Bytes {
        encode(&[(client, clock, state.to_owned())])
    }

    fn say(
        awareness: &mut Awareness,
        connection: u64,
        identity: &Identity,
        payload: &[u8],
        now_ms: i64,
    ) -> Result<Presence, AwarenessError> {
        awareness.apply(connection, identity, payload, |_| None, now_ms)
    }

    #[test]
    fn the_session_decides_who_a_state_says_it_is() {
        let mut awareness = Awareness::default();
        let sent = payload(5, 1, r#"{"user":{"name":"root","x":1},"cursor":{"anchor":3}}"#);
        let changed = say(&mut awareness, 1, &identity("ann"), &sent, 0).unwrap().broadcast.unwrap();
        let states = parse(&changed).unwrap();
        let state = states[0].2.as_ref().unwrap();
        assert_eq!(state["user"]["name"], "ANN");
        assert_eq!(state["user"]["session"], "ann");
        assert_eq!(state["user"]["x"], 1);
        assert_eq!(state["cursor"]["anchor"], 3);
    }

    #[test]
    fn nobody_sets_or_removes_another_connections_state() {
        let mut awareness = Awareness::default();
        say(&mut awareness, 1, &identity("ann"), &payload(5, 1, "{}"), 0).unwrap();
        for state in ["{}", "null"] {
            let result = say(&mut awareness, 2, &identity("bob"), &payload(5, 9, state), 0).unwrap();
            assert_eq!(result.broadcast, None);
        }
        let own = say(&mut awareness, 1, &identity("ann"), &payload(5, 2, "null"), 0).unwrap();
        assert!(own.broadcast.is_some());
        assert!(awareness.is_empty());
    }

    #[test]
    fn heartbeats_are_handed_on_and_old_clocks_are_not() {
        let mut awareness = Awareness::default();
        say(&mut awareness, 1, &identity("ann"), &payload(5, 1, "{}"), 0).unwrap();
        assert!(
            say(&mut awareness, 1, &identity("ann"), &payload(5, 2, "{}"), 0).unwrap().broadcast.is_some()
        );
        assert!(
            say(&mut awareness, 1, &identity("ann"), &payload(5, 2, "{}"), 0).unwrap().broadcast.is_none()
        );
    }

    #[test]
    fn a_dropped_socket_has_a_grace_in_which_its_session_returns() {
        let mut awareness = Awareness::default();
        say(&mut awareness, 1, &identity("ann"), &payload(5, 1, "{}"), 0).unwrap();
        awareness.disconnected(1, 0);
        assert!(awareness.sweep(GRACE_MS - 1).is_none());
        assert!(
            say(&mut awareness, 2, &identity("eve"), &payload(5, 3, "{}"), 1).unwrap().broadcast.is_none()
        );
        assert!(
            say(&mut awareness, 3, &identity("ann"), &payload(5, 1, "{}"), 1).unwrap().broadcast.is_some()
        );
        assert!(awareness.sweep(GRACE_MS + 1).is_none());
        assert!(awareness.sweep(TIMEOUT_MS + 1).is_some());
    }

    #[test]
    fn floods_are_bounded() {
        let mut awareness = Awareness::default();
        let many = |count| (0..count).map(|client| (client, 1, "{}".to_owned())).collect::<Vec<_>>();
        say(&mut awareness, 1, &identity("ann"), &encode(&many(1_000)), 0).unwrap();
        assert_eq!(awareness.len(), 1, "a connection speaks for one id");
        assert!(say(&mut awareness, 1, &identity("ann"), &encode(&many(1_001)), 0).is_err());
        let big = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_STATE_BYTES));
        assert!(say(&mut awareness, 1, &identity("ann"), &payload(1, 2, &big), 0).is_err());
        assert!(say(&mut awareness, 1, &identity("ann"), &payload(1, 2, "[]"), 0).is_err());
        for connection in 2..10_000 {
            say(&mut awareness, connection, &identity("ann"), &payload(connection, 1, "{}"), 0).unwrap();
            say(&mut awareness, connection, &identity("ann"), &payload(connection, 2, "null"), 0).unwrap();
            awareness.disconnected(connection, 0);
        }
        assert_eq!((awareness.left.len(), awareness.left_order.len()), (MAX_LEFT, MAX_LEFT));
        assert_eq!(awareness.own.len(), 1);
    }

    /// Recorded from y-protocols 1.0.7: ann (id 5) comes, bob (id 6) hears of her, she leaves, and only then does the
    /// relay arrive that bob's y-websocket made of her coming.
    #[test]
    fn a_late_relay_raises_nobody() {
        let ann_comes = b"\x01\x05\x01\x17{\"user\":{\"name\":\"ann\"}}";
        let ann_leaves = b"\x01\x05\x02\x04null";
        let bob_comes = b"\x01\x06\x01\x17{\"user\":{\"name\":\"bob\"}}";
        for bob_came_first in [true, false] {
            let mut awareness = Awareness::default();
            let (ann, bob) = (identity("ann"), identity("bob"));
            say(&mut awareness, 1, &ann, ann_comes, 0).unwrap();
            if bob_came_first {
                say(&mut awareness, 2, &bob, bob_comes, 0).unwrap();
            }
            assert!(say(&mut awareness, 1, &ann, ann_leaves, 0).unwrap().broadcast.is_some());
            assert_eq!(say(&mut awareness, 2, &bob, ann_comes, 1).unwrap(), Presence::default());
            // Another tab of her own relays it too.
            assert_eq!(say(&mut awareness, 3, &ann, ann_comes, 1).unwrap(), Presence::default());
            assert_eq!(awareness.len(), usize::from(bob_came_first));
            assert!(say(&mut awareness, 1, &ann, b"\x01\x05\x03\x02{}", 2).unwrap().broadcast.is_some());
        }
    }

    #[test]
    fn silence_and_lost_sockets_are_remembered_too() {
        let mut awareness = Awareness::default();
        say(&mut awareness, 1, &identity("ann"), &payload(5, 4, "{}"), 0).unwrap();
        awareness.disconnected(1, 0);
        assert!(awareness.sweep(GRACE_MS).is_some());
        let again = payload(5, 4, "{}");
        assert_eq!(say(&mut awareness, 2, &identity("bob"), &again, GRACE_MS).unwrap(), Presence::default());
        assert_eq!(
            say(&mut awareness, 2, &identity("bob"), &payload(5, 9, "{}"), 0).unwrap(),
            Presence::default()
        );
        // Her own client comes back as it was.
        assert!(say(&mut awareness, 3, &identity("ann"), &again, GRACE_MS).unwrap().broadcast.is_some());
    }

    #[test]
    fn an_id_that_edited_belongs_to_its_author() {
        let mut awareness = Awareness::default();
        let author = |client| (client == 5).then_some("ann");
        let sent = payload(5, 1, "{}");
        assert_eq!(awareness.apply(2, &identity("bob"), &sent, author, 0).unwrap(), Presence::default());
        assert!(awareness.apply(1, &identity("ann"), &sent, author, 0).unwrap().broadcast.is_some());
    }

    /// Two tabs of one browser relay each other through its BroadcastChannel.
    #[test]
    fn a_tab_that_was_relayed_first_still_speaks_for_itself() {
        let mut awareness = Awareness::default();
        say(&mut awareness, 1, &identity("ann"), &payload(6, 1, "{}"), 0).unwrap();
        assert!(
            say(&mut awareness, 2, &identity("ann"), &payload(6, 2, "{}"), 0).unwrap().broadcast.is_some()
        );
        assert!(
            say(&mut awareness, 2, &identity("ann"), &payload(6, 3, "null"), 0).unwrap().broadcast.is_some()
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = say(&mut Awareness::default(), 1, &identity("a"), &bytes, 0);
        }
    }
}
