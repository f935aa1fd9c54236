//! A session that holds something open: a document socket or an event stream.

use super::{ApiError, AppState};
use crate::branch::{Hub, Member, Seat, Standing};
use crate::store::SessionRow;
use std::sync::Arc;
use tokio::sync::watch;

/// Keeps the branch open and the session present, and hears when the session changes.
pub(crate) struct Present {
    pub(crate) hub: Arc<Hub>,
    pub(crate) member: Arc<Member>,
    watch: watch::Receiver<Standing>,
    /// Of its token.
    epoch: i64,
    _seat: Seat,
}

impl Present {
    /// The row is read again once changes are listened to: one since the first reading was told to nobody.
    ///
    /// # Errors
    /// 401 when the session was ended, or its tokens revoked.
    pub(crate) async fn take(state: &AppState, hub: Arc<Hub>, row: &SessionRow) -> Result<Self, ApiError> {
        let member = hub.members().enter(row);
        let watch = member.watch();
        let now = state.store.session(&row.branch_id, &row.id).await?.ok_or_else(ApiError::unauthorized)?;
        hub.members().changed(&now);
        let standing = member.standing();
        if standing.epoch != row.epoch || standing.is_ended {
            return Err(ApiError::unauthorized());
        }
        let seat = hub.sit(&member);
        Ok(Self { hub, member, watch, epoch: row.epoch, _seat: seat })
    }

    /// Waits until the session changes; `false` when what it holds open must end.
    pub(crate) async fn still_welcome(&mut self) -> bool {
        if self.watch.changed().await.is_err() {
            return false;
        }
        let standing = self.watch.borrow_and_update();
        standing.epoch == self.epoch && !standing.is_ended
    }
}
