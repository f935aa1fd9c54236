//! The native API. Handlers parse, authorise, call one function of the core, and map the result; nothing else.

mod auth;
mod branches;
mod error;
mod files;
mod page;
mod sessions;
mod socket;
mod state;

pub use auth::token_hash;
pub use error::ApiError;
pub use state::{AppState, Site};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

/// All routes.
pub fn router(state: AppState) -> Router {
    let id = axum::http::HeaderName::from_static("x-request-id");
    Router::new()
        .merge(page::routes())
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/v1/branches", get(branches::list).post(branches::create))
        .route("/v1/branches/{branch}", get(branches::one))
        .route("/v1/branches/{branch}/sessions", post(sessions::create).get(sessions::list))
        .route(
            "/v1/branches/{branch}/sessions/{session}",
            axum::routing::delete(sessions::end).patch(sessions::change),
        )
        .route("/v1/branches/{branch}/tree", get(files::tree))
        .route(
            "/v1/branches/{branch}/files/{*path}",
            get(files::read)
                .put(files::write)
                .delete(files::delete)
                .layer(axum::extract::DefaultBodyLimit::max(files::MAX_BODY)),
        )
        .route("/v1/branches/{branch}/docs/{*path}", get(socket::docs))
        .route("/v1/branches/{branch}/collab", get(socket::collab))
        .fallback(async || ApiError::not_found("there is no such route"))
        .layer(CatchPanicLayer::new())
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(SetRequestIdLayer::new(id, MakeRequestUuid))
        .with_state(state)
}

async fn ready(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    if !state.branches.takes_edits() {
        return Err(ApiError::unavailable("the database does not take edits now"));
    }
    state.store.ping().await?;
    Ok("ready")
}
