//! A session that holds something open: a document socket or an event stream.

use super::auth::session_at;
use super::{ApiError, AppState};
use crate::branch::{Hub, Member, Seat, Standing};
use crate::session::Claims;
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
    /// The session of a token. Where it has something open already, that hears of each change of it, and so does this: then
    /// the database is not asked.
    ///
    /// # Errors
    /// 401 when the session was ended, or its tokens revoked; those of opening the branch.
    pub(crate) async fn of(state: &AppState, claims: &Claims) -> Result<Self, ApiError> {
        if let Some(open) = state.branches.opened(&claims.branch)
            && let Some(member) = open.members().seated(&claims.session)
        {
            // The same, and noted as asked for just now.
            let hub = state.branches.hub(&claims.branch).await?;
            let watch = member.watch();
            let standing = member.standing();
            if standing.epoch == claims.epoch && !standing.is_ended {
                let seat = hub.sit(&member);
                return Ok(Self { hub, member, watch, epoch: claims.epoch, _seat: seat });
            }
        }
        let row = session_at(state, &claims.branch, &claims.session, claims.epoch).await?;
        let row = row.ok_or_else(ApiError::unauthorized)?;
        let hub = state.branches.hub(&claims.branch).await?;
        Self::take(state, hub, &row).await
    }

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
