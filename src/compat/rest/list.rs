//! Sandboxes looked at: one, page by page, those that run.

use super::answer::{Data, Refusal};
use super::ask::{Key, Params};
use super::time::calendar;
use crate::base::BranchId;
use crate::compat::Compat;
use crate::compat::sandboxes::PRIVATE;
use crate::session::MAX_AGENTS;
use crate::store::{Branch, BranchState, SandboxFilter};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde::{Deserialize, Serialize};

/// Sandboxes of one page.
const PAGE: i64 = 50;
/// Tags that one listing may ask for.
const MAX_TAGS: usize = 32;

pub(super) fn routes() -> Router<Compat> {
    Router::new().route("/sandbox/{id}", get(one)).route("/vm/running", get(running))
}

/// A sandbox as the SDK shows it.
#[derive(Serialize)]
pub(super) struct SandboxInfo {
    id: BranchId,
    title: String,
    description: Option<String>,
    privacy: i64,
    tags: Vec<String>,
    created_at: String,
    updated_at: String,
    is_frozen: bool,
    settings: Settings,
}

#[derive(Serialize)]
struct Settings {
    use_pint: bool,
}

fn info(branch: Branch, privacy: Option<i64>) -> SandboxInfo {
    SandboxInfo {
        id: branch.id,
        title: branch.name,
        description: Some(branch.description).filter(|text| !text.is_empty()),
        privacy: privacy.unwrap_or(PRIVATE),
        tags: branch.tags,
        created_at: calendar(branch.created_at_ms),
        updated_at: calendar(branch.updated_at_ms),
        is_frozen: false,
        settings: Settings { use_pint: false },
    }
}

async fn one(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
) -> Result<Data<SandboxInfo>, Refusal> {
    let store = &compat.app.store;
    let id = compat.template_or_branch(&id).await?.ok_or_else(Refusal::no_sandbox)?;
    let branch = store.branch(&id).await?;
    let branch = branch.filter(|branch| branch.state != BranchState::Deleting);
    let branch = branch.ok_or_else(Refusal::no_sandbox)?;
    let privacy = store.sandbox(&id).await?.map(|sandbox| sandbox.privacy);
    Ok(Data::ok(info(branch, privacy)))
}

/// What is to be listed.
#[derive(Deserialize)]
pub(super) struct Listing {
    page: Option<i64>,
    page_size: Option<i64>,
    tags: Option<String>,
    order_by: Option<OrderBy>,
    direction: Option<Direction>,
    status: Option<Status>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OrderBy {
    InsertedAt,
    UpdatedAt,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Asc,
    Desc,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Running,
}

/// One page.
#[derive(Serialize)]
pub(super) struct Listed {
    sandboxes: Vec<SandboxInfo>,
    pagination: Pagination,
}

#[derive(Serialize)]
struct Pagination {
    current_page: i64,
    next_page: Option<i64>,
    total_records: i64,
}

pub(super) async fn list(
    State(compat): State<Compat>,
    _: Key,
    Params(listing): Params<Listing>,
) -> Result<Data<Listed>, Refusal> {
    let (page, limit) = (listing.page.unwrap_or(1), listing.page_size.unwrap_or(PAGE));
    if !(1..=1_000_000).contains(&page) || limit < 1 {
        return Err(Refusal::value("`page` and `page_size` count from 1"));
    }
    let limit = limit.min(PAGE);
    let tags: Vec<_> = listing.tags.unwrap_or_default().split(',').map(str::to_owned).collect();
    let tags: Vec<_> = tags.into_iter().filter(|tag| !tag.is_empty()).collect();
    if tags.len() > MAX_TAGS {
        return Err(Refusal::value("`tags` are at most 32"));
    }
    let offset = (page - 1) * limit;
    let filter = SandboxFilter {
        tags,
        is_running: listing.status == Some(Status::Running),
        by_change: listing.order_by == Some(OrderBy::UpdatedAt),
        is_ascending: listing.direction == Some(Direction::Asc),
        offset,
        limit,
    };
    let (found, total) = compat.app.store.sandboxes(&filter).await?;
    let is_last = offset.saturating_add(limit) >= total;
    let sandboxes = found.into_iter().map(|(branch, privacy)| info(branch, privacy)).collect();
    let next_page = (!is_last).then_some(page + 1);
    Ok(Data::ok(Listed {
        sandboxes,
        pagination: Pagination { current_page: page, next_page, total_records: total },
    }))
}

/// What runs.
#[derive(Serialize)]
struct Running {
    concurrent_vm_count: usize,
    concurrent_vm_limit: usize,
    vms: Vec<Vm>,
}

/// A sandbox that runs. Times are milliseconds since 1970, in digits.
#[derive(Serialize)]
struct Vm {
    id: BranchId,
    last_active_at: String,
    session_started_at: String,
    specs: Specs,
}

/// What all sessions of a branch may use together.
#[derive(Clone, Copy, Serialize)]
struct Specs {
    /// Cores.
    cpu: u64,
    /// GiB.
    memory: u64,
    /// GB.
    storage: u64,
}

async fn running(State(compat): State<Compat>, _: Key) -> Result<Data<Running>, Refusal> {
    let options = compat.app.agents.options();
    let specs = Specs {
        cpu: (options.branch_limits.cpu_percent / 100).max(1),
        memory: (options.branch_limits.memory_bytes >> 30).max(1),
        storage: (options.max_branch_bytes / 1_000_000_000).max(1),
    };
    let lives = compat.sandboxes.running();
    let vms: Vec<_> = lives
        .into_iter()
        .map(|(id, life)| Vm {
            id,
            last_active_at: life.active_at_ms().to_string(),
            session_started_at: life.started_at_ms.to_string(),
            specs,
        })
        .collect();
    Ok(Data::ok(Running { concurrent_vm_count: vms.len(), concurrent_vm_limit: MAX_AGENTS, vms }))
}
