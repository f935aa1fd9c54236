//! One SDK client: what a method may ask of it and do with it.

use super::codec;
use super::dispatch::UnderWay;
use super::fault::Fault;
use super::kept::Kept;
use super::outbound::Outbound;
use super::room::Room;
use super::turns::Turns;
use crate::base::{Permission, SessionId};
use crate::branch::{Hub, Member, WriteGrant};
use crate::compat::Compat;
use crate::compat::sandboxes::Life;
use crate::compat::view::View;
use crate::http::AppState;
use crate::store::SessionRow;
use bytes::Bytes;
use serde::Serialize;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// See the module's docs. Shared by its socket, its requests and its room.
pub(in crate::compat) struct Client {
    pub(super) id: String,
    pub(super) compat: Compat,
    /// The present stretch of the sandbox's life.
    pub(super) life: Arc<Life>,
    pub(super) room: Arc<Room>,
    pub(super) hub: Arc<Hub>,
    pub(super) member: Arc<Member>,
    pub(super) row: SessionRow,
    /// Of its token; the session may have less.
    pub(super) right: Permission,
    /// What stands before a route for this client, without a slash at the end.
    pub(super) base_url: String,
    pub(super) out: Outbound,
    pub(super) turns: Turns,
    pub(super) under_way: UnderWay,
    /// What it called itself, once it has joined.
    pub(super) app_id: OnceLock<String>,
    pub(super) kept: Kept,
    pub(super) gone: CancellationToken,
}

impl Client {
    /// Names this connection; one that comes back is another client.
    pub(in crate::compat) fn id(&self) -> &str {
        &self.id
    }

    /// The session that its token is for.
    pub(in crate::compat) fn session(&self) -> &SessionId {
        &self.row.id
    }

    /// The same as the session was when the client came.
    pub(in crate::compat) fn row(&self) -> &SessionRow {
        &self.row
    }

    /// The live side of the session.
    pub(in crate::compat) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// The right of its token.
    pub(in crate::compat) fn right(&self) -> Permission {
        self.right
    }

    /// The branch.
    pub(in crate::compat) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The present stretch of the sandbox's life.
    pub(in crate::compat) fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// All clients of the branch, and what they share.
    pub(in crate::compat) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// The handles that all of perch shares.
    pub(in crate::compat) fn app(&self) -> &AppState {
        &self.compat.app
    }

    /// What the SDK's protocol has beside.
    pub(in crate::compat) fn compat(&self) -> &Compat {
        &self.compat
    }

    /// What stands before a route for this client: `https://…`, without a slash at the end.
    pub(in crate::compat) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What it called itself when it joined.
    pub(in crate::compat) fn app_id(&self) -> &str {
        self.app_id.get().map_or("", String::as_str)
    }

    pub(in crate::compat) fn has_joined(&self) -> bool {
        self.app_id.get().is_some()
    }

    /// It has joined under this name; `true`: it had not before.
    pub(in crate::compat) fn joins(&self, app_id: String) -> bool {
        self.app_id.set(app_id).is_ok()
    }

    /// The right to change the branch, at this moment.
    ///
    /// # Errors
    /// Code 2.
    pub(in crate::compat) fn writer(&self) -> Result<WriteGrant, Fault> {
        self.member.writer(self.right).ok_or_else(Fault::read_only)
    }

    /// Files as the session sees them.
    pub(in crate::compat) fn view(&self) -> View {
        View {
            app: self.compat.app.clone(),
            hub: Arc::clone(&self.hub),
            member: Arc::clone(&self.member),
            right: self.right,
            calls: self.room.shared(),
        }
    }

    /// Tells this client, once it has joined. Bounded: a client that takes nothing is ended; see [`Client::has_room`].
    pub(in crate::compat) fn notify(&self, method: &str, params: &impl Serialize) {
        match codec::encode(params) {
            Ok(params) => self.notify_frame(codec::notification(method, &params).into()),
            Err(error) => tracing::error!(error, method, "a notification can't be encoded"),
        }
    }

    pub(super) fn notify_frame(&self, frame: Bytes) {
        if self.has_joined() {
            self.out.notify(frame);
        }
    }

    /// Waits while much waits for this client: for who can tell later, as with output that is kept elsewhere.
    pub(in crate::compat) async fn has_room(&self) {
        self.out.room().await;
    }

    /// Ends its socket after what waits.
    pub(in crate::compat) fn close(&self, code: u16, reason: &'static str) {
        self.out.close(code, reason);
    }

    /// The sandbox goes to sleep, or for good: only this notification keeps the client from waking it at once.
    pub(super) fn dismiss(&self) {
        self.notify("system/hibernate", &serde_json::json!({}));
        self.close(1001, "the sandbox sleeps");
    }

    /// What a file of `methods` keeps for this client: its subscriptions and the like. Goes with the client.
    pub(in crate::compat) fn kept<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.kept.of()
    }

    /// Cancelled when the client is gone.
    pub(in crate::compat) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Runs something beside that ends by itself soon after the client is gone.
    pub(in crate::compat) fn spawn_to_end(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.compat.app.tasks.spawn(work);
    }

    /// Runs something beside, until it is done or the client is gone.
    pub(in crate::compat) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let gone = self.gone.clone();
        self.compat.app.tasks.spawn(async move {
            tokio::select! {
                () = gone.cancelled() => {}
                () = work => {}
            }
        });
    }
}
