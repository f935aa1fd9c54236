//! The native API. Handlers parse, authorise, call one function of the core, and map the result; nothing else.

pub(crate) mod archive;
mod audit;
mod auth;
mod branches;
mod client;
mod cors;
mod downloads;
mod drafts;
mod error;
mod events;
mod exec;
mod files;
mod git;
mod history;
mod inside;
mod limits;
mod links;
mod logging;
mod metrics;
mod moves;
mod openapi;
mod outflow;
mod page;
mod people;
mod place;
mod ports;
mod present;
mod previews;
mod sessions;
mod socket;
mod state;
mod terminals;
mod to_the_end;
mod tokens;
mod websocket;
mod write_half;

pub(crate) use audit::Subject;
pub(crate) use auth::{Api, Caller, Owner};
pub use client::Peer;
pub use error::ApiError;
pub(crate) use error::log_panic;
pub(crate) use git::steps as git_steps;
pub use limits::{Bounds, Limits};
pub use metrics::upkeep;
pub(crate) use place::On;
pub(crate) use ports::preview_host;
pub(crate) use present::Present;
pub use previews::{Unsuitable, check as check_preview_domain};
pub(crate) use socket::{CLOSE_WITHIN, PING_EVERY};
pub use state::{AppState, Site};
pub use websocket::Budgets;
pub(crate) use websocket::{CloseFrame, Inbox, Message, SILENT_FOR, Sink, Upgrade};
pub use write_half::WriteHalf;

use crate::sandbox::Level;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::{from_fn_with_state, map_response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of the API, and what answers with whole files bounded by `outflow`.
fn described(outflow: Option<outflow::Outflow>) -> OpenApiRouter<AppState> {
    let mut files = OpenApiRouter::new()
        .merge(files::routes())
        .merge(downloads::routes())
        .merge(history::routes())
        .merge(drafts::routes())
        .merge(inside::routes());
    if let Some(outflow) = outflow {
        files = files.layer(from_fn_with_state(outflow, outflow::bounded));
    }
    OpenApiRouter::with_openapi(openapi::Description::openapi())
        .merge(branches::routes())
        .merge(sessions::routes())
        .merge(links::routes())
        .merge(tokens::routes())
        .merge(files)
        .merge(events::routes())
        .merge(moves::routes())
        .merge(exec::routes())
        .merge(git::routes())
        .merge(people::routes())
        .merge(ports::routes())
        .merge(socket::routes())
        .merge(terminals::routes())
        .merge(audit::routes())
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics::metrics))
}

/// All routes. `beside`: those of other protocols, with answers of their own.
pub fn router(state: AppState, beside: Router<AppState>) -> Router {
    metrics::recorder();
    let outflow = outflow::Outflow::new(state.tasks.clone());
    let (documented, description) = described(Some(outflow)).split_for_parts();
    documented
        .merge(openapi::routes(&description))
        .merge(page::routes())
        .merge(beside)
        .fallback(async || ApiError::not_found("there is no such route"))
        .layer(from_fn_with_state(state.clone(), audit::audit))
        .layer(from_fn_with_state(state.clone(), to_the_end::to_the_end))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(map_response(error::as_problem))
        .layer(cors::layer(&state.site.allowed_origins))
        // What does not say that it may be kept is kept by nobody.
        .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store")))
        // Outside of what shapes perch's own answers.
        .layer(from_fn_with_state(state.clone(), previews::previews))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(from_fn_with_state(state.clone(), limits::limited))
        .layer(from_fn_with_state(state.clone(), logging::log))
        .with_state(state)
}

/// Sign of life: the process answers.
#[utoipa::path(get, path = "/healthz", tag = "operating", security(()),
    responses((status = OK, description = "alive; `isolation=none` on a second line where sessions' processes are not kept apart",
        body = String, content_type = "text/plain")))]
async fn healthz(State(state): State<AppState>) -> &'static str {
    if state.agents.options().standing.level == Level::None { "ok\nisolation=none" } else { "ok" }
}

/// Ready: the database answers and takes edits.
#[utoipa::path(get, path = "/readyz", tag = "operating", security(()),
    responses((status = OK, description = "ready", body = String, content_type = "text/plain"),
        (status = SERVICE_UNAVAILABLE, description = "the database is away, full, or another perch's")))]
async fn readyz(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    if !state.branches.takes_edits() {
        return Err(ApiError::unavailable("the database does not take edits now"));
    }
    state.store.ping().await?;
    Ok("ready")
}
