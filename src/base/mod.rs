//! What every module may use: ids, rights, time, tasks.

mod clock;
mod ids;
mod permission;
mod tasks;

pub use clock::Clock;
pub use ids::{BranchId, DocumentId, DraftId, IdError, LinkId, SessionId, TokenId};
pub use permission::Permission;
pub use tasks::Tasks;
