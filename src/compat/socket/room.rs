//! The SDK clients of each branch, so that they find each other, and what the branch's events come to for them.

use super::client::Client;
use super::codec;
use super::kept::Kept;
use crate::base::{BranchId, Tasks};
use crate::branch::{Hub, Listener};
use crate::compat::methods;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// SDK clients of one branch at once; one more is refused with 503.
const MAX_CLIENTS: usize = 256;
/// Requests of one branch's clients under way; past it their sockets are not read.
const MAX_REQUESTS: usize = 512;
/// KiB of those requests.
const MAX_REQUEST_KIB: usize = 512 * 1024;

/// All branches that have, or had, SDK clients; cheap to clone.
#[derive(Clone, Default)]
pub(in crate::compat) struct Rooms {
    by_branch: Arc<Mutex<HashMap<BranchId, Arc<Room>>>>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").finish_non_exhaustive()
    }
}

/// One open branch as its SDK clients share it. It goes when the branch is closed for want of use.
pub(in crate::compat) struct Room {
    hub: Weak<Hub>,
    tasks: Tasks,
    inside: Mutex<Inside>,
    kept: Kept,
    pub(super) requests: Arc<Semaphore>,
    pub(super) request_kib: Arc<Semaphore>,
}

struct Inside {
    clients: Vec<Arc<Client>>,
    /// Ends what hears the branch's events; there while anybody is.
    hearing: CancellationToken,
}

/// Why a client can't come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Crowded {
    #[error("the branch has {MAX_CLIENTS} SDK clients; close some")]
    Clients,
    #[error("too many listen to this branch")]
    Listeners,
}

impl Rooms {
    /// The room of an open branch.
    pub(in crate::compat) fn of(&self, hub: &Arc<Hub>, tasks: &Tasks) -> Arc<Room> {
        let mut by_branch = self.by_branch.lock();
        by_branch.retain(|_, room| room.hub.strong_count() > 0);
        let is_same = |room: &&Arc<Room>| std::ptr::eq(room.hub.as_ptr(), Arc::as_ptr(hub));
        if let Some(room) = by_branch.get(hub.branch()).filter(is_same) {
            return Arc::clone(room);
        }
        let inside = Inside { clients: Vec::new(), hearing: CancellationToken::new() };
        let room = Arc::new(Room {
            hub: Arc::downgrade(hub),
            tasks: tasks.clone(),
            inside: Mutex::new(inside),
            kept: Kept::default(),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            request_kib: Arc::new(Semaphore::new(MAX_REQUEST_KIB)),
        });
        by_branch.insert(hub.branch().clone(), Arc::clone(&room));
        room
    }
}

impl Room {
    /// The branch, unless it was closed meanwhile.
    pub(in crate::compat) fn hub(&self) -> Option<Arc<Hub>> {
        self.hub.upgrade()
    }

    /// What a file of `methods` keeps for the whole branch, as long as the branch is open.
    pub(in crate::compat) fn shared<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.kept.of()
    }

    /// Runs something beside; it should end when the branch's work for it ends.
    pub(in crate::compat) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// All sockets, those that have not joined yet too.
    fn connected(&self) -> Vec<Arc<Client>> {
        self.inside.lock().clients.clone()
    }

    /// Those that have joined.
    pub(in crate::compat) fn clients(&self) -> Vec<Arc<Client>> {
        self.inside.lock().clients.iter().filter(|client| client.has_joined()).cloned().collect()
    }

    /// Tells all that have joined; encoded once.
    pub(in crate::compat) fn notify_all(&self, method: &str, params: &impl Serialize) {
        self.notify_some(method, params, |_| true);
    }

    /// Tells those that have joined and are meant; encoded once.
    pub(in crate::compat) fn notify_some(
        &self,
        method: &str,
        params: &impl Serialize,
        is_meant: impl Fn(&Client) -> bool,
    ) {
        let frame = match codec::encode(params) {
            Ok(params) => Bytes::from(codec::notification(method, &params)),
            Err(error) => return tracing::error!(error, method, "a notification can't be encoded"),
        };
        for client in self.clients().iter().filter(|client| is_meant(client)) {
            client.notify_frame(frame.clone());
        }
    }

    /// Lets a client in; it leaves with what is returned.
    pub(super) fn enter(self: &Arc<Self>, client: &Arc<Client>, hub: &Hub) -> Result<Entered, Crowded> {
        let mut inside = self.inside.lock();
        if inside.clients.len() >= MAX_CLIENTS {
            return Err(Crowded::Clients);
        }
        if inside.clients.is_empty() {
            // Before the first client can do anything, so that it misses nothing of what it causes.
            let listener = hub.events().listen(None).ok_or(Crowded::Listeners)?;
            inside.hearing = CancellationToken::new();
            let stop = inside.hearing.clone();
            self.tasks.spawn(hear(Arc::clone(self), listener, stop));
        }
        inside.clients.push(Arc::clone(client));
        Ok(Entered { room: Arc::clone(self), client: Arc::clone(client) })
    }
}

/// A client's place in its room.
pub(super) struct Entered {
    room: Arc<Room>,
    client: Arc<Client>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        {
            let mut inside = self.room.inside.lock();
            inside.clients.retain(|client| !Arc::ptr_eq(client, &self.client));
            if inside.clients.is_empty() {
                inside.hearing.cancel();
            }
        }
        self.client.gone().cancel();
        methods::left(&self.room, &self.client);
    }
}

/// Hands the branch's events to those who make notifications of them, as long as there are clients.
async fn hear(room: Arc<Room>, mut listener: Listener, stop: CancellationToken) {
    loop {
        let told = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            told = listener.next() => told,
        };
        match told {
            Some(told) => methods::heard(&room, &told.event),
            None => {
                // The branch is going for good.
                for client in room.connected() {
                    client.dismiss();
                }
                return;
            }
        }
    }
}
