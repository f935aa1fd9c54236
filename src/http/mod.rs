//! The native API. Handlers parse, authorise, call one function of the core, and map the result; nothing else.

mod auth;
mod branches;
mod drafts;
mod error;
mod events;
mod files;
mod history;
mod links;
mod moves;
mod page;
mod sessions;
mod socket;
mod state;
mod to_the_end;
mod tokens;

pub use error::ApiError;
pub use state::{AppState, Site};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

/// The parts of the OpenAPI document that no handler knows.
#[derive(OpenApi)]
#[openapi(
    info(title = "perch", description = "A self-hosted backend for editing code together. \
        Errors are problem+json (RFC 9457) with a stable `code`."),
    security(("token" = [])),
    modifiers(&BearerToken)
)]
struct Description;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// All routes.
pub fn router(state: AppState) -> Router {
    let id = axum::http::HeaderName::from_static("x-request-id");
    let (documented, description) = OpenApiRouter::with_openapi(Description::openapi())
        .merge(branches::routes())
        .merge(sessions::routes())
        .merge(links::routes())
        .merge(tokens::routes())
        .merge(files::routes())
        .merge(history::routes())
        .merge(drafts::routes())
        .merge(events::routes())
        .merge(moves::routes())
        .split_for_parts();
    let description = Arc::new(description);
    documented
        .merge(socket::routes())
        .merge(page::routes())
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/v1/openapi.json", get(async move || Json(Arc::clone(&description))))
        .fallback(async || ApiError::not_found("there is no such route"))
        .layer(axum::middleware::from_fn_with_state(state.clone(), to_the_end::to_the_end))
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
