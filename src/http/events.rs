//! The change event stream: server-sent events, resumable by id.

use super::auth::{Caller, origin_is_allowed, session_of};
use super::branches::branch_id;
use super::present::Present;
use super::{ApiError, AppState};
use crate::branch::{EventJson, Hub, Listener};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A sign of life after this long without an event.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(events))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// A session token, for browsers, whose `EventSource` sends no headers. Never an API token.
    token: Option<String>,
}

/// A stream under way.
struct Stream {
    listener: Listener,
    is_first: bool,
    /// `None` for an API token.
    session: Option<Present>,
    /// Kept open: another would have other events.
    _hub: Arc<Hub>,
    stop: CancellationToken,
}

impl Stream {
    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        // The id to come back with, before anything has happened.
        if std::mem::take(&mut self.is_first)
            && let Some(id) = self.listener.id()
        {
            return Some(Event::default().id(id.to_string()).comment("listening"));
        }
        loop {
            let ended = async {
                match &mut self.session {
                    Some(session) => !session.still_welcome().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                ended = ended => if ended {
                    return None;
                },
                told = self.listener.next() => {
                    let told = told?;
                    return Some(Event::default().id(told.id.to_string()).data(&*told.json));
                }
            }
        }
    }
}

/// Listen to what happens on a branch. `Last-Event-ID` goes on after that event; `reset`: list anew.
#[utoipa::path(get, path = "/v1/branches/{branch}/events", tag = "events",
    params(("branch" = String, Path), Params, ("last-event-id" = Option<String>, Header)),
    responses((status = OK, content_type = "text/event-stream", body = EventJson),
        (status = TOO_MANY_REQUESTS, description = "`too_many_listeners`")))]
async fn events(
    State(state): State<AppState>,
    caller: Result<Caller, ApiError>,
    Path(branch): Path<String>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let branch = branch_id(&branch)?;
    let caller = match params.token {
        None => caller?,
        Some(token) => {
            if !origin_is_allowed(&state, &headers) {
                return Err(ApiError::forbidden(
                    "pages of this origin are not allowed; see --allowed-origin",
                ));
            }
            let (row, permission) = session_of(&state, &token, Some(&branch)).await?;
            Caller::Session { row: Box::new(row), permission }
        }
    };
    caller.on(&branch)?;
    let hub = state.branches.hub(&branch).await?;
    let after = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let listener = hub.events().listen(after).ok_or_else(|| {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_listeners", "too many listen to this branch")
    })?;
    let session = match &caller {
        Caller::Api { .. } => None,
        Caller::Session { row, .. } => Some(Present::take(&state, Arc::clone(&hub), row).await?),
    };
    let stop = state.tasks.stopping().clone();
    let stream = Stream { listener, is_first: true, session, _hub: hub, stop };
    let events = futures_util::stream::unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY).text("alive"));
    // Proxies that gather answers would hold events back.
    Ok(([("x-accel-buffering", "no")], sse).into_response())
}
