//! Sandboxes started, put to sleep, stopped; sessions on them.

use super::answer::{Data, Done, Refusal, done};
use super::ask::{Asked, Key, branch_id};
use crate::base::{BranchId, Permission};
use crate::compat::sandboxes::Bootup;
use crate::compat::{Compat, WORKSPACE, seats};
use crate::http::Subject;
use crate::store::Sandbox;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, post};
use axum::{Extension, Router};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

/// There is one place.
pub(super) const CLUSTER: &str = "perch";
/// Sizes of the protocol's.
const TIERS: [&str; 7] = ["Pico", "Nano", "Micro", "Small", "Medium", "Large", "XLarge"];
/// Seconds.
const TIMEOUTS: std::ops::RangeInclusive<i64> = 1..=86_400;

pub(super) fn routes() -> Router<Compat> {
    Router::new()
        .route("/vm/{id}/start", post(start))
        .route("/vm/{id}/sessions", post(sessions))
        .route("/vm/{id}/hibernate", post(hibernate))
        .route("/vm/{id}/shutdown", post(shutdown))
        .route("/vm/{id}", delete(remove))
}

/// How a sandbox is to be started.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StartOptions {
    tier: Option<String>,
    hibernation_timeout_seconds: Option<i64>,
}

pub(super) fn check_tier(tier: Option<&String>) -> Result<(), Refusal> {
    if tier.is_some_and(|tier| !TIERS.contains(&tier.as_str())) {
        return Err(Refusal::value(format!("`tier` is one of {}", TIERS.join(", "))));
    }
    Ok(())
}

pub(super) fn check_timeout(seconds: Option<i64>) -> Result<(), Refusal> {
    if seconds.is_some_and(|seconds| !TIMEOUTS.contains(&seconds)) {
        return Err(Refusal::value("`hibernation_timeout_seconds` is 1 to 86400"));
    }
    Ok(())
}

impl StartOptions {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        check_tier(self.tier.as_ref())?;
        check_timeout(self.hibernation_timeout_seconds)
    }

    fn apply(self, sandbox: &mut Sandbox) {
        sandbox.tier = self.tier.unwrap_or_else(|| std::mem::take(&mut sandbox.tier));
        sandbox.hibernation_timeout_s =
            self.hibernation_timeout_seconds.unwrap_or(sandbox.hibernation_timeout_s);
    }
}

/// What a client needs to connect as the global session.
#[derive(Serialize)]
pub(super) struct StartData {
    id: BranchId,
    bootup_type: &'static str,
    cluster: &'static str,
    pitcher_url: String,
    pitcher_token: String,
    pitcher_version: &'static str,
    latest_pitcher_version: &'static str,
    pitcher_manager_version: &'static str,
    reconnect_token: &'static str,
    workspace_path: &'static str,
    user_workspace_path: &'static str,
    use_pint: bool,
}

/// What a client needs to connect as a session.
#[derive(Serialize)]
struct SessionData {
    pitcher_token: String,
    pitcher_url: String,
    user_workspace_path: &'static str,
    username: String,
    permissions: Done,
    capabilities: [&'static str; 0],
}

/// The address of a sandbox's socket.
fn pitcher_url(compat: &Compat, headers: &HeaderMap, branch: &BranchId) -> Result<String, Refusal> {
    let base = compat.app.site.base_url(headers)?.replacen("http", "ws", 1);
    Ok(format!("{base}/agent/{branch}"))
}

/// Starts a sandbox and gives its global session's token.
pub(super) async fn started(
    compat: &Compat,
    headers: &HeaderMap,
    branch: BranchId,
    options: StartOptions,
) -> Result<StartData, Refusal> {
    let pitcher_url = pitcher_url(compat, headers, &branch)?;
    let (bootup, _): (Bootup, _) = compat.start(&branch, |sandbox| options.apply(sandbox)).await?;
    let global = seats::session_of(seats::GLOBAL)?;
    let (_, token) = seats::give(compat, &branch, global, Permission::Write).await?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(StartData {
        id: branch,
        bootup_type: bootup.as_str(),
        cluster: CLUSTER,
        pitcher_url,
        pitcher_token: token.expose_secret().to_owned(),
        pitcher_version: version,
        latest_pitcher_version: version,
        pitcher_manager_version: version,
        reconnect_token: "",
        workspace_path: WORKSPACE,
        user_workspace_path: WORKSPACE,
        use_pint: false,
    })
}

async fn start(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
    headers: HeaderMap,
    Asked(options): Asked<StartOptions>,
) -> Result<Data<StartData>, Refusal> {
    options.check()?;
    Ok(Data::ok(started(&compat, &headers, branch_id(&id)?, options).await?))
}

/// A session that is wanted.
#[derive(Deserialize)]
struct WantedSession {
    session_id: String,
    permission: Permission,
}

async fn sessions(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
    headers: HeaderMap,
    Asked(wanted): Asked<WantedSession>,
) -> Result<(Extension<Subject>, Data<SessionData>), Refusal> {
    let branch = branch_id(&id)?;
    let session = seats::session_of(&wanted.session_id)?;
    let pitcher_url = pitcher_url(&compat, &headers, &branch)?;
    compat.start(&branch, |_| {}).await?;
    let (row, token) = seats::give(&compat, &branch, session, wanted.permission).await?;
    let data = SessionData {
        pitcher_token: token.expose_secret().to_owned(),
        pitcher_url,
        user_workspace_path: WORKSPACE,
        username: seats::username(&row.id).to_owned(),
        permissions: Done {},
        capabilities: [],
    };
    Ok((Subject::may(&row.id, wanted.permission), Data::ok(data)))
}

async fn hibernate(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
) -> Result<Data<Done>, Refusal> {
    compat.sandboxes.hibernate(&branch_id(&id)?).await?;
    Ok(done())
}

async fn shutdown(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
) -> Result<Data<Done>, Refusal> {
    compat.sandboxes.shutdown(&branch_id(&id)?).await?;
    Ok(done())
}

async fn remove(State(compat): State<Compat>, _: Key, Path(id): Path<String>) -> Result<Data<Done>, Refusal> {
    let branch = branch_id(&id)?;
    if compat.default_template().await?.as_ref() == Some(&branch) {
        let text = "this is the default template; name another with --sdk-template first";
        return Err(Refusal::new(StatusCode::CONFLICT, text));
    }
    compat.sandboxes.delete(&branch).await?;
    Ok(done())
}
