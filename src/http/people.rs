//! Who is on a branch now, and at which file.

use super::branches::body;
use super::files::rel_path;
use super::place::On;
use super::{ApiError, AppState};
use crate::base::{Permission, SessionId};
use crate::branch::{MOVES_EVERY_MS, Member, NotMoved};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(look))
}

/// A session that has a socket or an event stream open.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Person {
    session: SessionId,
    /// Shown to others; the session's id where it has none.
    name: String,
    /// `#rrggbb`.
    color: String,
    permission: Permission,
    /// Milliseconds since 1970 UTC.
    since_ms: i64,
    /// The file it looks at, as it says itself; from the workspace's root.
    path: Option<String>,
}

/// Who is here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct People {
    people: Vec<Person>,
}

/// What a session looks at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Look {
    /// From the workspace's root; `null`: at no file. Nothing need be there.
    path: Option<String>,
}

/// Who is on the branch now, those who came first at the top. All of the branch may ask.
#[utoipa::path(get, operation_id = "list_people", path = "/v1/branches/{branch}/people", tag = "sessions",
    params(("branch" = String, Path)), responses((status = OK, body = People)))]
async fn list(on: On) -> Json<People> {
    let view = |member: Arc<Member>| {
        let (connected, standing) = (member.connected(), member.standing());
        (connected.count > 0).then(|| Person {
            session: member.session().clone(),
            name: standing.name,
            color: standing.color,
            permission: standing.permission,
            since_ms: connected.since_ms,
            path: member.looks_at().map(|path| path.to_string()),
        })
    };
    let mut people: Vec<_> = on.hub.members().present().into_iter().filter_map(view).collect();
    people.sort_by(|a, b| (a.since_ms, a.session.as_str()).cmp(&(b.since_ms, b.session.as_str())));
    Json(People { people })
}

/// Say which file the session that asks looks at. Others hear `session.moved`. Kept until its last socket or event stream closes.
#[utoipa::path(put, operation_id = "look_at", path = "/v1/branches/{branch}/people/looking", tag = "sessions",
    params(("branch" = String, Path)), request_body = Look, responses((status = NO_CONTENT),
        (status = CONFLICT, description = "`not_connected`"), (status = TOO_MANY_REQUESTS, description = "`too_often`")))]
async fn look(on: On, request: Result<Json<Look>, JsonRejection>) -> Result<StatusCode, ApiError> {
    let session = on.caller.session().ok_or_else(|| ApiError::forbidden("only a session looks at a file"))?;
    let at = body(request)?.path.as_deref().map(rel_path).transpose()?;
    on.hub.look(session, at).map_err(|refused| match refused {
        NotMoved::NotConnected => ApiError::new(
            StatusCode::CONFLICT,
            "not_connected",
            "the session has neither a socket nor an event stream open; open one first",
        ),
        NotMoved::TooSoon => ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_often",
            format!("a session says where it looks every {MOVES_EVERY_MS} ms at most; say it again later"),
        ),
    })?;
    Ok(StatusCode::NO_CONTENT)
}
