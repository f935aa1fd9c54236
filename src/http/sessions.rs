//! Sessions: make or find again, list, change, end.

use super::auth::Api;
use super::branches::{body, branch_id};
use super::{ApiError, AppState};
use crate::base::{BranchId, Permission, SessionId};
use crate::session::{Claims, Wanted, create_or_find};
use crate::store::SessionRow;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Seconds that a token is good for.
const TTL: i64 = 12 * 3_600;
const TTL_BOUNDS: (i64, i64) = (1, 30 * 24 * 3_600);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(change, end))
}

/// A session to be made, or found again by its id.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct CreateSession {
    /// 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit; made up without it.
    id: Option<SessionId>,
    /// The right of the token.
    permission: Permission,
    /// Shown to others; 1 to 200 bytes.
    name: Option<String>,
    /// For commits; 1 to 200 bytes.
    email: Option<String>,
    /// Seconds that the token is good for, 1 to 2,592,000; 12 hours without it.
    ttl: Option<i64>,
}

/// What of a session is to change.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChangeSession {
    permission: Permission,
}

/// What a page needs to take its seat.
#[derive(Serialize, ToSchema)]
pub(super) struct Seat {
    id: SessionId,
    permission: Permission,
    /// Signed session token. It outlives a restart; ending the session ends it.
    token: String,
    /// RFC 3339.
    expires_at: String,
    /// y-websocket's server URL; the room is the file's path, the token goes into `params`.
    docs_url: String,
    /// Hocuspocus' URL; the document's name is the file's path.
    collab_url: String,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionView {
    id: SessionId,
    permission: Permission,
    name: Option<String>,
    email: Option<String>,
    /// `#rrggbb`.
    color: String,
    /// Milliseconds since 1970 UTC.
    created_at_ms: i64,
    ended_at_ms: Option<i64>,
}

impl From<SessionRow> for SessionView {
    fn from(row: SessionRow) -> Self {
        Self {
            id: row.id,
            permission: row.permission,
            name: row.name,
            email: row.email,
            color: row.color,
            created_at_ms: row.created_at_ms,
            ended_at_ms: row.ended_at_ms,
        }
    }
}

/// A branch's sessions, oldest first, at most 1,000.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<SessionView>,
}

fn check_label(label: Option<&String>, what: &str) -> Result<(), ApiError> {
    let bad = label.is_some_and(|text| {
        text.is_empty() || text.len() > 200 || text.contains(|c: char| c.is_control() || "<>".contains(c))
    });
    if bad {
        return Err(ApiError::bad_request(format!(
            "a session's {what} has 1 to 200 bytes without control characters, `<` and `>`"
        )));
    }
    Ok(())
}

/// Make a session, or find it again.
#[utoipa::path(post, path = "/v1/branches/{branch}/sessions", tag = "sessions",
    params(("branch" = String, Path)), request_body = CreateSession, responses((status = OK, body = Seat)))]
async fn create(
    State(state): State<AppState>,
    _: Api,
    Path(branch): Path<String>,
    headers: HeaderMap,
    request: Result<Json<CreateSession>, JsonRejection>,
) -> Result<Json<Seat>, ApiError> {
    let branch = branch_id(&branch)?;
    let request = body(request)?;
    check_label(request.name.as_ref(), "name")?;
    check_label(request.email.as_ref(), "email")?;
    let ttl = request.ttl.unwrap_or(TTL);
    if !(TTL_BOUNDS.0..=TTL_BOUNDS.1).contains(&ttl) {
        return Err(ApiError::bad_request("`ttl` is 1 to 2592000 seconds"));
    }
    let hub = state.branches.hub(&branch).await?;
    let wanted = Wanted {
        id: request.id.unwrap_or_else(SessionId::generate),
        permission: request.permission,
        name: request.name,
        email: request.email,
    };
    let row = create_or_find(&state.store, &state.clock, &branch, &wanted).await?;
    hub.members().changed(&row);
    let exp = state.clock.now_ms() / 1_000 + ttl;
    let claims = Claims {
        branch: branch.clone(),
        session: row.id.clone(),
        permission: request.permission.min(row.permission),
        epoch: row.epoch,
        exp,
    };
    let token = state.keys.sign(&claims).map_err(|error| {
        tracing::error!(%error, "a session token could not be signed");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong in perch")
    })?;
    let expires_at = OffsetDateTime::from_unix_timestamp(exp)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .ok_or_else(|| ApiError::bad_request("`ttl` leads past the end of the calendar"))?;
    let socket = socket_base(&state, &headers, &branch)?;
    Ok(Json(Seat {
        id: row.id,
        permission: claims.permission,
        token: token.expose_secret().to_owned(),
        expires_at,
        docs_url: format!("{socket}/docs"),
        collab_url: format!("{socket}/collab"),
    }))
}

fn socket_base(state: &AppState, headers: &HeaderMap, branch: &BranchId) -> Result<String, ApiError> {
    let base = match &state.site.public_url {
        Some(url) => url.as_str().trim_end_matches('/').replacen("http", "ws", 1),
        None => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let host = host.filter(|host| url::Url::parse(&format!("http://{host}/")).is_ok());
            let host = host.ok_or_else(|| ApiError::bad_request("the request has no valid Host"))?;
            // Set by the listener or a trusted proxy, see `client`.
            let is_tls = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
            format!("{}://{host}", if is_tls { "wss" } else { "ws" })
        }
    };
    Ok(format!("{base}/v1/branches/{branch}"))
}

/// List a branch's sessions.
#[utoipa::path(get, path = "/v1/branches/{branch}/sessions", tag = "sessions",
    params(("branch" = String, Path)), responses((status = OK, body = Sessions)))]
async fn list(
    State(state): State<AppState>,
    _: Api,
    Path(branch): Path<String>,
) -> Result<Json<Sessions>, ApiError> {
    let branch = branch_id(&branch)?;
    let rows = state.store.sessions(&branch).await?;
    Ok(Json(Sessions { sessions: rows.into_iter().map(Into::into).collect() }))
}

async fn set(
    state: &AppState,
    branch: &str,
    session: &str,
    change: impl FnOnce(&SessionRow) -> SessionRow,
) -> Result<SessionRow, ApiError> {
    let branch = branch_id(branch)?;
    let absent = || ApiError::not_found("there is no such session");
    let session: SessionId = session.parse().map_err(|_| absent())?;
    let row = state.store.change_session(&branch, &session, |row| row.map(change)).await?;
    let row = row.ok_or_else(absent)?;
    state.branches.hub(&branch).await?.members().changed(&row);
    Ok(row)
}

/// Change a session's right, felt at once on its open sockets.
#[utoipa::path(patch, path = "/v1/branches/{branch}/sessions/{session}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path)), request_body = ChangeSession,
    responses((status = OK, body = SessionView)))]
async fn change(
    State(state): State<AppState>,
    _: Api,
    Path((branch, session)): Path<(String, String)>,
    request: Result<Json<ChangeSession>, JsonRejection>,
) -> Result<Json<SessionView>, ApiError> {
    let permission = body(request)?.permission;
    let now_ms = state.clock.now_ms();
    let row =
        set(&state, &branch, &session, |row| SessionRow { permission, updated_at_ms: now_ms, ..row.clone() })
            .await?;
    Ok(Json(row.into()))
}

/// End a session: its sockets are cut, its tokens refused.
#[utoipa::path(delete, path = "/v1/branches/{branch}/sessions/{session}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path)), responses((status = NO_CONTENT)))]
async fn end(
    State(state): State<AppState>,
    _: Api,
    Path((branch, session)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let now_ms = state.clock.now_ms();
    set(&state, &branch, &session, |row| SessionRow {
        epoch: row.epoch + 1,
        ended_at_ms: row.ended_at_ms.or(Some(now_ms)),
        updated_at_ms: now_ms,
        ..row.clone()
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
