//! What of a sandbox can be set: its size and its hibernation timeout.

use super::answer::{Data, Refusal};
use super::ask::{Asked, Key, branch_id};
use super::life::{check_tier, check_timeout};
use crate::base::BranchId;
use crate::compat::Compat;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{post, put};
use serde::{Deserialize, Serialize};

pub(super) fn routes() -> Router<Compat> {
    Router::new()
        .route("/vm/{id}/specs", put(specs))
        .route("/vm/{id}/update_specs", post(specs))
        .route("/vm/{id}/hibernation_timeout", put(timeout))
}

#[derive(Deserialize)]
struct Tier {
    tier: String,
}

#[derive(Serialize)]
struct TierIs {
    id: BranchId,
    tier: String,
}

/// The size is kept and told; what a sandbox may use is set by perch's command line.
async fn specs(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
    Asked(wanted): Asked<Tier>,
) -> Result<Data<TierIs>, Refusal> {
    check_tier(Some(&wanted.tier))?;
    let id = branch_id(&id)?;
    let sandbox = compat.sandboxes.set(&id, |sandbox| sandbox.tier = wanted.tier).await?;
    Ok(Data::ok(TierIs { id, tier: sandbox.tier }))
}

#[derive(Deserialize)]
struct Timeout {
    hibernation_timeout_seconds: i64,
}

#[derive(Serialize)]
struct TimeoutIs {
    id: BranchId,
    hibernation_timeout_seconds: i64,
}

async fn timeout(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
    Asked(wanted): Asked<Timeout>,
) -> Result<Data<TimeoutIs>, Refusal> {
    let seconds = wanted.hibernation_timeout_seconds;
    check_timeout(Some(seconds))?;
    let id = branch_id(&id)?;
    let set = compat.sandboxes.set(&id, |sandbox| sandbox.hibernation_timeout_s = seconds).await?;
    Ok(Data::ok(TimeoutIs { id, hibernation_timeout_seconds: set.hibernation_timeout_s }))
}
