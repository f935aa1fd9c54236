//! Who is in a document, with cursor and name: a table of our own, since clients trust what is in it.
//!
//! Bounds: a state has at most 16 KiB, a connection at most 32 client ids (more are ignored: stock clients have one
//! each), a document at most 1,000.

use super::lib0::{LibError, Reader, put_bytes, put_uint};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::collections::HashMap;

const MAX_STATE_BYTES: usize = 16 * 1024;
const MAX_IDS_PER_CONNECTION: usize = 32;
const MAX_IDS: usize = 1_000;
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

/// See the module's docs.
#[derive(Debug, Default)]
pub struct Awareness {
    entries: HashMap<u64, Entry>,
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

    /// Takes a client's payload. Ids that another connection owns are passed over in silence: stock clients relay
    /// others' states and time-outs. An owner that is gone may be followed by a connection of the same session.
    ///
    /// # Errors
    /// [`AwarenessError`]; nothing of the payload was taken.
    pub fn apply(
        &mut self,
        connection: u64,
        identity: &Identity,
        payload: &[u8],
        now_ms: i64,
    ) -> Result<Presence, AwarenessError> {
        let mut changed = Vec::new();
        for (client, clock, state) in parse(payload)? {
            if !self.may_set(connection, identity, client, clock, state.is_none()) {
                continue;
            }
            match state {
                None => {
                    if self.entries.remove(&client).is_some() {
                        changed.push((client, clock, "null".to_owned()));
                    }
                }
                Some(state) => {
                    let state = with_identity(state, identity);
                    changed.push((client, clock, state.clone()));
                    let session = identity.session.clone();
                    let entry = Entry { clock, state, connection, session, seen_ms: now_ms, left_ms: None };
                    self.entries.insert(client, entry);
                }
            }
        }
        Ok(Presence { broadcast: (!changed.is_empty()).then(|| encode(&changed)) })
    }

    fn may_set(&self, connection: u64, identity: &Identity, client: u64, clock: u32, is_null: bool) -> bool {
        match self.entries.get(&client) {
            Some(entry) => {
                let owns = entry.connection == connection
                    || (entry.left_ms.is_some() && entry.session == identity.session);
                // A returning client repeats its clock; its owner is new here, so that counts as news.
                let is_news = clock > entry.clock
                    || (clock == entry.clock && (is_null || entry.connection != connection));
                owns && is_news
            }
            None => {
                let owned = self.entries.values().filter(|entry| entry.connection == connection).count();
                !is_null && owned < MAX_IDS_PER_CONNECTION && self.entries.len() < MAX_IDS
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
        for entry in self.entries.values_mut().filter(|entry| entry.connection == connection) {
            entry.left_ms.get_or_insert(now_ms);
        }
    }

    /// Drops who is gone or silent; gives what to broadcast. The clock stays as it was, so that a client that comes
    /// back is seen at once.
    pub fn sweep(&mut self, now_ms: i64) -> Option<Bytes> {
        let mut gone = Vec::new();
        self.entries.retain(|client, entry| {
            let stays = now_ms - entry.seen_ms < TIMEOUT_MS
                && entry.left_ms.is_none_or(|left_ms| now_ms - left_ms < GRACE_MS);
            if !stays {
                gone.push((*client, entry.clock, "null".to_owned()));
            }
            stays
        });
        (!gone.is_empty()).then(|| encode(&gone))
    }
}

type State = (u64, u32, Option<Map<String, Value>>);

fn parse(payload: &[u8]) -> Result<Vec<State>, AwarenessError> {
    let mut reader = Reader::new(payload);
    let count = reader.count()?;
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

    #[test]
    fn the_session_decides_who_a_state_says_it_is() {
        let mut awareness = Awareness::default();
        let sent = payload(5, 1, r#"{"user":{"name":"root","x":1},"cursor":{"anchor":3}}"#);
        let changed = awareness.apply(1, &identity("ann"), &sent, 0).unwrap().broadcast.unwrap();
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
        awareness.apply(1, &identity("ann"), &payload(5, 1, "{}"), 0).unwrap();
        for state in ["{}", "null"] {
            let result = awareness.apply(2, &identity("bob"), &payload(5, 9, state), 0).unwrap();
            assert_eq!(result.broadcast, None);
        }
        let own = awareness.apply(1, &identity("ann"), &payload(5, 2, "null"), 0).unwrap();
        assert!(own.broadcast.is_some());
        assert!(awareness.is_empty());
    }

    #[test]
    fn heartbeats_are_handed_on_and_old_clocks_are_not() {
        let mut awareness = Awareness::default();
        awareness.apply(1, &identity("ann"), &payload(5, 1, "{}"), 0).unwrap();
        assert!(awareness.apply(1, &identity("ann"), &payload(5, 2, "{}"), 0).unwrap().broadcast.is_some());
        assert!(awareness.apply(1, &identity("ann"), &payload(5, 2, "{}"), 0).unwrap().broadcast.is_none());
    }

    #[test]
    fn a_dropped_socket_has_a_grace_in_which_its_session_returns() {
        let mut awareness = Awareness::default();
        awareness.apply(1, &identity("ann"), &payload(5, 1, "{}"), 0).unwrap();
        awareness.disconnected(1, 0);
        assert!(awareness.sweep(GRACE_MS - 1).is_none());
        assert!(awareness.apply(2, &identity("eve"), &payload(5, 3, "{}"), 1).unwrap().broadcast.is_none());
        assert!(awareness.apply(3, &identity("ann"), &payload(5, 1, "{}"), 1).unwrap().broadcast.is_some());
        assert!(awareness.sweep(GRACE_MS + 1).is_none());
        assert!(awareness.sweep(TIMEOUT_MS + 1).is_some());
    }

    #[test]
    fn floods_are_bounded() {
        let mut awareness = Awareness::default();
        let many: Vec<_> = (0..10_000).map(|client| (client, 1, "{}".to_owned())).collect();
        awareness.apply(1, &identity("ann"), &encode(&many), 0).unwrap();
        assert_eq!(awareness.len(), MAX_IDS_PER_CONNECTION);
        let big = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_STATE_BYTES));
        assert!(awareness.apply(1, &identity("ann"), &payload(1, 2, &big), 0).is_err());
        assert!(awareness.apply(1, &identity("ann"), &payload(1, 2, "[]"), 0).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Awareness::default().apply(1, &identity("a"), &bytes, 0);
        }
    }
}
