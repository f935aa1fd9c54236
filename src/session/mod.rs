//! Sessions on a branch: made or found again, and the signed tokens that pages hold.

mod keys;

pub use keys::{Claims, KeyError, Keys};

use crate::base::{BranchId, Clock, Permission, SessionId};
use crate::store::{SessionRow, Store, StoreError};

/// What a caller wants of a session.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its id.
    pub id: SessionId,
    /// The right of the token; a session that is new gets it too.
    pub permission: Permission,
    /// Shown to others.
    pub name: Option<String>,
    /// For commits.
    pub email: Option<String>,
}

/// Colours that stand out on light and dark grounds alike.
const COLORS: [&str; 8] =
    ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#e67e22", "#17a2b8", "#c2185b", "#7a8c00"];

/// Finds a session again, or makes it. Asking for less than a session has lowers nobody; asking for more than it has
/// raises it, since whoever asks holds an API token. An ended one is opened anew with fresh tokens.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn create_or_find(
    store: &Store,
    clock: &Clock,
    branch: &BranchId,
    wanted: &Wanted,
) -> Result<SessionRow, StoreError> {
    let now_ms = clock.now_ms();
    let fresh = |epoch| SessionRow {
        branch_id: branch.clone(),
        id: wanted.id.clone(),
        permission: wanted.permission,
        name: wanted.name.clone(),
        email: wanted.email.clone(),
        color: color(&wanted.id).to_owned(),
        epoch,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
        ended_at_ms: None,
    };
    let change = |present: Option<&SessionRow>| match present {
        None => Some(fresh(1)),
        Some(row) if row.ended_at_ms.is_some() => Some(fresh(row.epoch + 1)),
        Some(row) => {
            let next = SessionRow {
                permission: row.permission.max(wanted.permission),
                name: wanted.name.clone().or_else(|| row.name.clone()),
                email: wanted.email.clone().or_else(|| row.email.clone()),
                updated_at_ms: now_ms,
                ..row.clone()
            };
            let differs =
                (next.permission, &next.name, &next.email) != (row.permission, &row.name, &row.email);
            differs.then_some(next)
        }
    };
    let row = store.change_session(branch, &wanted.id, change).await?;
    row.ok_or_else(|| StoreError::Damaged("a session that was just written is not there".into()))
}

fn color(id: &SessionId) -> &'static str {
    let sum =
        id.as_str().bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    COLORS[sum % COLORS.len()]
}
