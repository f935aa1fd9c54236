//! The ports that a branch's processes listen on: each session's agent reports what it sees, listeners hear what changed.
//!
//! Sessions of a branch share one network, so each agent sees all ports; only that of the process's own session sees
//! the process too. So reports are merged by port, and what knows the process wins.

use super::events::{Event, Events};
use crate::agent::{Address, MAX_PORTS, Port};
use crate::base::SessionId;
use crate::sandbox::{PROXY, Reach};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU16;
use std::sync::Arc;

/// Bytes of a process's name that are kept; the kernel's have 15.
const NAME: usize = 64;

/// A port that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPort {
    /// Its number.
    pub port: NonZeroU16,
    /// From where it is reached.
    pub address: Address,
    /// The process's short name, where a session's agent sees it.
    pub process: Option<String>,
    /// The session whose process it is.
    pub session: Option<SessionId>,
    /// The command of that session which the process came of, see [`super::Pty::number`].
    pub command: Option<u32>,
}

#[derive(Debug, Default)]
struct State {
    reports: HashMap<SessionId, Vec<Port>>,
    /// What was told last.
    open: BTreeMap<NonZeroU16, OpenPort>,
}

/// See the module's docs.
#[derive(Debug)]
pub struct Ports {
    events: Arc<Events>,
    reach: Reach,
    state: Mutex<State>,
}

impl Ports {
    pub(super) fn new(events: Arc<Events>, reach: Reach) -> Self {
        Self { events, reach, state: Mutex::default() }
    }

    /// What a session's agent sees at this moment, in place of what it saw before; nothing when the session ends. A
    /// port whose process becomes known is told as opened once more.
    pub fn report(&self, session: &SessionId, mut seen: Vec<Port>) {
        // Of the host's own ports only those of sessions are a branch's.
        seen.retain(|port| {
            port.port.get() != PROXY.port() && (self.reach != Reach::Host || port.pid.is_some())
        });
        // An agent is not believed to keep to its bounds.
        seen.truncate(MAX_PORTS);
        for process in seen.iter_mut().filter_map(|port| port.process.as_mut()) {
            process.truncate(process.floor_char_boundary(NAME));
        }
        let mut state = self.state.lock();
        if seen.is_empty() {
            state.reports.remove(session);
        } else {
            state.reports.insert(session.clone(), seen);
        }
        let open = merged(&state.reports);
        // Told under the lock, so that listeners hear changes in their order.
        for gone in state.open.keys().filter(|port| !open.contains_key(port)) {
            self.events.publish(&Event::PortClosed { port: gone.get() });
        }
        for (port, now) in open.iter().filter(|(port, now)| state.open.get(port) != Some(now)) {
            let (process, session) = (now.process.clone(), now.session.clone());
            self.events.publish(&Event::PortOpened { port: port.get(), process, session });
        }
        state.open = open;
    }

    /// All that are open, lowest first.
    #[must_use]
    pub fn list(&self) -> Vec<OpenPort> {
        self.state.lock().open.values().cloned().collect()
    }

    /// Whether a port is open.
    #[must_use]
    pub fn is_open(&self, port: NonZeroU16) -> bool {
        self.state.lock().open.contains_key(&port)
    }
}

fn merged(reports: &HashMap<SessionId, Vec<Port>>) -> BTreeMap<NonZeroU16, OpenPort> {
    let mut open = BTreeMap::new();
    // In the order of names, or one of two sessions that share a port would be named by chance.
    let mut sessions: Vec<_> = reports.iter().collect();
    sessions.sort_unstable_by_key(|(session, _)| *session);
    for (session, seen) in sessions {
        for Port { port, address, process, pid, command } in seen {
            let (session, process) = (pid.map(|_| session.clone()), process.clone());
            let found = OpenPort { port: *port, address: *address, process, session, command: *command };
            let known = open.entry(*port).or_insert_with(|| found.clone());
            if known.session.is_none() {
                *known = found;
            }
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Clock;

    fn port(port: u16, process: Option<&str>) -> Port {
        Port {
            port: NonZeroU16::new(port).unwrap(),
            address: Address::Any,
            process: process.map(str::to_owned),
            pid: process.map(|_| 7),
            command: None,
        }
    }

    #[tokio::test]
    async fn reports_of_all_sessions_make_one_list_and_changes_are_told() {
        let events = Events::new(Clock::manual(0));
        let mut listener = events.listen(None).unwrap();
        let ports = Ports::new(Arc::clone(&events), Reach::Outbound);
        let (ann, bob): (SessionId, SessionId) = ("ann".parse().unwrap(), "bob".parse().unwrap());
        ports.report(&ann, vec![port(3000, Some("node")), port(PROXY.port(), None)]);
        ports.report(&bob, vec![port(3000, None), port(8000, Some("python3"))]);
        ports.report(&ann, vec![port(3000, Some("node")), port(8000, None)]);
        let listed: Vec<_> = ports
            .list()
            .into_iter()
            .map(|open| (open.port.get(), open.process.unwrap(), open.session.unwrap()))
            .collect();
        assert_eq!(listed, [(3000, "node".into(), ann.clone()), (8000, "python3".into(), bob.clone())]);
        ports.report(&bob, Vec::new());
        assert_eq!(ports.list()[1].session, None, "ann still sees it");
        ports.report(&ann, Vec::new());
        assert!(ports.list().is_empty());
        events.close();
        let mut told = Vec::new();
        while let Some(one) = listener.next().await {
            let json: serde_json::Value = serde_json::from_str(&one.json).unwrap();
            told.push(format!("{} {} {}", json["type"], json["port"], json["process"]).replace('"', ""));
        }
        assert_eq!(
            told,
            [
                "port.opened 3000 node",
                "port.opened 8000 python3",
                "port.opened 8000 null",
                "port.closed 3000 null",
                "port.closed 8000 null"
            ]
        );
    }

    #[test]
    fn agents_are_kept_to_bounds_and_host_ports_to_processes_of_sessions() {
        let ports = Ports::new(Events::new(Clock::manual(0)), Reach::Host);
        let ann: SessionId = "ann".parse().unwrap();
        let long = "é".repeat(100);
        let many = (1..=2_000).map(|number| port(number, (number > 10).then_some(long.as_str())));
        ports.report(&ann, many.collect());
        let listed = ports.list();
        assert_eq!(listed.len(), MAX_PORTS);
        assert!(
            listed.iter().all(|open| open.port.get() > 10 && open.process.as_ref().unwrap().len() <= NAME)
        );
    }
}
