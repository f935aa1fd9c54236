//! A request that changes something runs to its end, though its caller goes away in the middle: half a change would be
//! one that the database knows of and open sockets, or the disk, do not.

use super::{ApiError, AppState};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

pub(super) async fn to_the_end(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    state.tasks.spawn(next.run(request).in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request failed");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong in perch")
            .into_response()
    })
}
