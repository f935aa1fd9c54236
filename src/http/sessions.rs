//! Sessions: make or find again, list, change, end; tokens made anew and revoked.

use super::audit::Subject;
use super::auth::{Api, Caller};
use super::branches::{body, branch_id, query};
use super::exec::check_environment;
use super::{ApiError, AppState};
use crate::agent::FileAnswer;
use crate::base::{BranchId, Permission, SessionId};
use crate::branch::Hub;
use crate::git::{Credential, MAX_CREDENTIALS};
use crate::sandbox::Level;
use crate::session::{
    Claims, CredentialError, Field, SessionChange, SessionError, Wanted, change_session, create_or_find,
    put_credentials, refreshed,
};
use crate::store::SessionRow;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Seconds that a token is good for.
pub(super) const TTL: i64 = 12 * 3_600;
const TTL_BOUNDS: (i64, i64) = (1, 30 * 24 * 3_600);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one, change, end))
        .routes(routes!(refresh))
        .routes(routes!(revoke))
}

/// A session to be made, or found again by its id.
#[derive(Deserialize, ToSchema)]
pub(super) struct CreateSession {
    /// 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit; made up without it.
    id: Option<SessionId>,
    /// The right of the token.
    permission: Permission,
    /// Shown to others; 1 to 200 bytes.
    name: Option<String>,
    /// For commits; 1 to 200 bytes.
    email: Option<String>,
    /// Shown to others, `#rrggbb`; made from the id without it.
    color: Option<String>,
    /// Whether it may fork the branch, once: it then may write to that copy, and run programs there.
    #[serde(default)]
    may_fork: bool,
    /// Seconds that the token is good for, 1 to 2,592,000; 12 hours without it.
    ttl: Option<i64>,
    /// Variables for this session's commands and terminals alone, in place of those it was given before; at most 64 KiB.
    /// Held in its `~/.private`, and gone with it.
    env: Option<BTreeMap<String, String>>,
    /// Tokens for git's remotes, each in place of the one that the session has for the same; at most 32. Held in its
    /// `~/.private`, and gone with it.
    git_credentials: Option<Vec<Credential>>,
}

/// What of a session is to change. What is left out stays; `null` takes a name or email away and makes the colour anew.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeSession {
    permission: Option<Permission>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    name: Field,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    email: Field,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    color: Field,
    /// Whether commits of others name it as a co-author.
    credited: Option<bool>,
}

impl ChangeSession {
    /// What a session may change of itself: it fills in what nobody has given it. Commits bear the name and address, so what
    /// an API token has given stays.
    fn of_its_own(self, row: &SessionRow) -> Result<SessionChange, ApiError> {
        let fill = |field: Field, present: Option<&String>| match (field, present) {
            (Field::Keep, _) => Ok(Field::Keep),
            (Field::Set(value), None) => Ok(Field::Fill(value)),
            (Field::Set(value), Some(present)) if value == *present => Ok(Field::Keep),
            _ => Err(()),
        };
        let is_more =
            self.permission.is_some() || self.credited.is_some() || !matches!(self.color, Field::Keep);
        let filled = (fill(self.name, row.name.as_ref()), fill(self.email, row.email.as_ref()));
        match filled {
            (Ok(name), Ok(email)) if !is_more => {
                Ok(SessionChange { name, email, ..SessionChange::default() })
            }
            _ => Err(ApiError::forbidden(
                "a session may give itself a `name` and an `email` where it has none; all else needs an API token",
            )),
        }
    }
}

/// Refuses a session that is not the one that is asked about.
fn caller_is(row: &SessionRow, branch: &str, session: &str) -> Result<(), ApiError> {
    if row.branch_id != branch_id(branch)? {
        return Err(ApiError::not_found("there is no such branch"));
    }
    if row.id != session_id(session)? {
        return Err(ApiError::forbidden("a session may change itself only"));
    }
    Ok(())
}

/// Tells `null` from a field that is not there.
fn given<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Field, D::Error> {
    Ok(Option::deserialize(source)?.map_or(Field::Clear, Field::Set))
}

/// A token to be made anew.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct RefreshToken {
    /// At most the right of the token that asks, and of the session; the same without it.
    permission: Option<Permission>,
    /// Seconds that the token is good for, 1 to 2,592,000; 12 hours without it.
    ttl: Option<i64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionListing {
    /// The `next` of the page before.
    after: Option<SessionId>,
    /// 1 to 1,000; 1,000 without it.
    limit: Option<i64>,
}

/// What a page needs to take its seat.
#[derive(Serialize, ToSchema)]
pub(super) struct Seat {
    branch: BranchId,
    id: SessionId,
    permission: Permission,
    /// Whether it may fork the branch, once.
    may_fork: bool,
    /// Signed session token. It outlives a restart; ending the session ends it.
    token: String,
    /// RFC 3339.
    expires_at: String,
    /// y-websocket's server URL; the room is the file's path, the token goes into `params`.
    docs_url: String,
    /// Hocuspocus' URL; the document's name is the file's path.
    collab_url: String,
    /// How the session's processes are kept apart from others.
    isolation: Level,
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
    /// Whether commits of others name it as a co-author.
    credited: bool,
    /// Whether it may fork the branch, once.
    may_fork: bool,
    /// Milliseconds since 1970 UTC.
    created_at_ms: i64,
    ended_at_ms: Option<i64>,
    /// Sockets it has open now.
    connections: usize,
    /// Since when it has any.
    connected_since_ms: Option<i64>,
}

fn view(hub: Option<&Hub>, row: SessionRow) -> SessionView {
    let connected = hub.map(|hub| hub.members().connected(&row.id)).unwrap_or_default();
    SessionView {
        id: row.id,
        permission: row.permission,
        name: row.name,
        email: row.email,
        color: row.color,
        credited: row.credited,
        may_fork: row.may_fork,
        created_at_ms: row.created_at_ms,
        ended_at_ms: row.ended_at_ms,
        connections: connected.count,
        connected_since_ms: (connected.count > 0).then_some(connected.since_ms),
    }
}

/// One page of a branch's sessions, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sessions {
    sessions: Vec<SessionView>,
    /// `after` of the next page; absent on the last.
    next: Option<SessionId>,
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

fn check_color(color: Option<&String>) -> Result<(), ApiError> {
    let is_color = |text: &String| {
        text.len() == 7 && text.starts_with('#') && text[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if color.is_some_and(|color| !is_color(color)) {
        return Err(ApiError::bad_request("a colour is `#rrggbb`"));
    }
    Ok(())
}

fn check_ttl(ttl: Option<i64>) -> Result<i64, ApiError> {
    let ttl = ttl.unwrap_or(TTL);
    if (TTL_BOUNDS.0..=TTL_BOUNDS.1).contains(&ttl) {
        Ok(ttl)
    } else {
        Err(ApiError::bad_request("`ttl` is 1 to 2592000 seconds"))
    }
}

fn session_id(text: &str) -> Result<SessionId, ApiError> {
    text.parse().map_err(|_| SessionError::NotFound.into())
}

/// Make a session, or find it again.
#[utoipa::path(post, path = "/v1/branches/{branch}/sessions", tag = "sessions",
    params(("branch" = String, Path)), request_body = CreateSession, responses((status = OK, body = Seat)))]
async fn create(
    State(state): State<AppState>,
    caller: Api,
    Path(branch): Path<String>,
    headers: HeaderMap,
    request: Result<Json<CreateSession>, JsonRejection>,
) -> Result<(Extension<Subject>, Json<Seat>), ApiError> {
    let branch = branch_id(&branch)?;
    let request = body(request)?;
    check_label(request.name.as_ref(), "name")?;
    check_label(request.email.as_ref(), "email")?;
    check_color(request.color.as_ref())?;
    let ttl = check_ttl(request.ttl)?;
    let env = request.env.unwrap_or_default();
    check_environment(&env)?;
    if !env.is_empty() && request.permission != Permission::Write {
        return Err(ApiError::bad_request("`env`: a session that can only read runs nothing"));
    }
    let credentials = request.git_credentials.unwrap_or_default();
    let credentials = credentials.into_iter().map(Credential::checked).collect::<Result<Vec<_>, _>>();
    let credentials = credentials.map_err(CredentialError::Bad)?;
    if credentials.len() > MAX_CREDENTIALS {
        return Err(CredentialError::TooMany.into());
    }
    if !credentials.is_empty() && request.permission != Permission::Write {
        return Err(ApiError::bad_request("`git_credentials`: a session that can only read runs nothing"));
    }
    let hub = state.branches.hub(&branch).await?;
    let wanted = Wanted {
        id: request.id.unwrap_or_else(SessionId::generate),
        permission: request.permission,
        name: request.name,
        email: request.email,
        color: request.color,
        may_fork: request.may_fork,
    };
    let asked_at = state.clock.now_ms();
    let row = create_or_find(&state.store, &state.clock, &branch, &wanted).await?;
    if row.updated_at_ms >= asked_at {
        hub.session_changed(&row);
    }
    if !credentials.is_empty() {
        let agent = state.agents.get(&hub, &row, caller.is_owner).await?;
        put_credentials(&agent, credentials).await?;
    }
    if !env.is_empty() {
        let agent = state.agents.get(&hub, &row, caller.is_owner).await?;
        if let FileAnswer::Refused(error) = agent.set_environment(&env).await? {
            return Err(error.into());
        }
    }
    let seat = seat(&state, &headers, &row, request.permission, ttl)?;
    Ok((Subject::may(&row.id, request.permission), Json(seat)))
}

/// Signs a token of a session, good for `ttl` seconds. It allows what `permission` does and the session may at the time.
pub(super) fn seat(
    state: &AppState,
    headers: &HeaderMap,
    row: &SessionRow,
    permission: Permission,
    ttl: i64,
) -> Result<Seat, ApiError> {
    let exp = state.clock.now_ms() / 1_000 + ttl;
    let claims =
        Claims { branch: row.branch_id.clone(), session: row.id.clone(), permission, epoch: row.epoch, exp };
    let token = state.keys.sign(&claims)?;
    let expires_at = calendar(exp)?;
    let base = state.site.base_url(headers)?.replacen("http", "ws", 1);
    let socket = format!("{base}/v1/branches/{}", row.branch_id);
    Ok(Seat {
        branch: row.branch_id.clone(),
        id: row.id.clone(),
        permission: permission.min(row.permission),
        may_fork: row.may_fork,
        token: token.expose_secret().to_owned(),
        expires_at,
        docs_url: format!("{socket}/docs"),
        collab_url: format!("{socket}/collab"),
        isolation: state.agents.options().standing.level,
    })
}

/// Seconds since 1970 as RFC 3339.
pub(super) fn calendar(exp: i64) -> Result<String, ApiError> {
    let at = OffsetDateTime::from_unix_timestamp(exp).ok().and_then(|at| at.format(&Rfc3339).ok());
    at.ok_or_else(|| ApiError::bad_request("`ttl` leads past the end of the calendar"))
}

/// List a branch's sessions, and who is connected now.
#[utoipa::path(get, path = "/v1/branches/{branch}/sessions", tag = "sessions",
    params(("branch" = String, Path), SessionListing), responses((status = OK, body = Sessions)))]
async fn list(
    State(state): State<AppState>,
    _: Api,
    Path(branch): Path<String>,
    listing: Result<Query<SessionListing>, QueryRejection>,
) -> Result<Json<Sessions>, ApiError> {
    let listing = query(listing)?;
    let branch = branch_id(&branch)?;
    state.branches.ready(&branch).await?;
    let limit = listing.limit.unwrap_or(1_000).clamp(1, 1_000);
    let after = match listing.after {
        None => None,
        Some(id) => {
            let row = state.store.session(&branch, &id).await?;
            let row = row.ok_or_else(|| ApiError::bad_request("`after` is no session"))?;
            Some((row.created_at_ms, row.id))
        }
    };
    let rows = state.store.sessions(&branch, after, limit).await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
    let next = rows.last().filter(|_| is_full).map(|row| row.id.clone());
    let hub = state.branches.opened(&branch);
    let sessions = rows.into_iter().map(|row| view(hub.as_deref(), row)).collect();
    Ok(Json(Sessions { sessions, next }))
}

/// Look at a session.
#[utoipa::path(get, path = "/v1/branches/{branch}/sessions/{session}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path)), responses((status = OK, body = SessionView)))]
async fn one(
    State(state): State<AppState>,
    caller: Caller,
    Path((branch, session)): Path<(String, String)>,
) -> Result<Json<SessionView>, ApiError> {
    let (branch, session) = (branch_id(&branch)?, session_id(&session)?);
    caller.on(&branch)?;
    if caller.session().is_some_and(|own| *own != session) {
        return Err(ApiError::forbidden("a session may look at itself only"));
    }
    let row = state.store.session(&branch, &session).await?.ok_or(SessionError::NotFound)?;
    Ok(Json(view(state.branches.opened(&branch).as_deref(), row)))
}

/// Changes a session and makes it felt on its open sockets.
async fn set(
    state: &AppState,
    branch: &str,
    session: &str,
    change: &SessionChange,
) -> Result<SessionView, ApiError> {
    let (branch, session) = (branch_id(branch)?, session_id(session)?);
    let row = change_session(&state.store, &state.clock, &branch, &session, change).await?;
    let hub = state.branches.opened(&branch);
    if let Some(hub) = &hub {
        hub.session_changed(&row);
    }
    Ok(view(hub.as_deref(), row))
}

/// Change a session: its right, felt at once on its open sockets, its name, email and colour. A session itself may give
/// itself a name and an email where it has none.
#[utoipa::path(patch, path = "/v1/branches/{branch}/sessions/{session}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path)), request_body = ChangeSession,
    responses((status = OK, body = SessionView)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    Path((branch, session)): Path<(String, String)>,
    request: Result<Json<ChangeSession>, JsonRejection>,
) -> Result<(Extension<Subject>, Json<SessionView>), ApiError> {
    let wanted = body(request)?;
    check_label(wanted.name.value(), "name")?;
    check_label(wanted.email.value(), "email")?;
    check_color(wanted.color.value())?;
    let change = match caller {
        Caller::Api { .. } => {
            let ChangeSession { permission, name, email, color, credited } = wanted;
            SessionChange { permission, name, email, color, credited, ..SessionChange::default() }
        }
        Caller::Session { row, .. } => {
            caller_is(&row, &branch, &session)?;
            wanted.of_its_own(&row)?
        }
    };
    let view = set(&state, &branch, &session, &change).await?;
    let subject = Subject { id: Some(session), permission: change.permission, branch: None };
    Ok((Extension(subject), Json(view)))
}

/// End a session: its sockets are cut, its tokens refused. Asked for again it is a new one.
#[utoipa::path(delete, path = "/v1/branches/{branch}/sessions/{session}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path)), responses((status = NO_CONTENT)))]
async fn end(
    State(state): State<AppState>,
    _: Api,
    Path((branch, session)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let change = SessionChange { is_ended: true, ..SessionChange::default() };
    set(&state, &branch, &session, &change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revoke all tokens of a session: its sockets are cut, its tokens refused; the session stays and can be asked for again.
#[utoipa::path(post, path = "/v1/branches/{branch}/sessions/{session}/revoke", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path)), responses((status = NO_CONTENT)))]
async fn revoke(
    State(state): State<AppState>,
    _: Api,
    Path((branch, session)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let change = SessionChange { is_revoked: true, ..SessionChange::default() };
    set(&state, &branch, &session, &change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a fresh token of a session, asked for with an API token or with the session's own token while that is valid.
#[utoipa::path(post, path = "/v1/branches/{branch}/sessions/{session}/token", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path)), request_body = Option<RefreshToken>,
    responses((status = OK, body = Seat)))]
async fn refresh(
    State(state): State<AppState>,
    caller: Caller,
    Path((branch, session)): Path<(String, String)>,
    headers: HeaderMap,
    request: Result<Option<Json<RefreshToken>>, JsonRejection>,
) -> Result<Json<Seat>, ApiError> {
    let (branch, session) = (branch_id(&branch)?, session_id(&session)?);
    caller.on(&branch)?;
    let request = match request {
        Ok(request) => request.map(|Json(request)| request).unwrap_or_default(),
        Err(error) => return Err(ApiError::bad_request(error.body_text())),
    };
    let ttl = check_ttl(request.ttl)?;
    let (row, most) = match caller {
        Caller::Api { .. } => {
            let row = state.store.session(&branch, &session).await?.ok_or(SessionError::NotFound)?;
            if row.ended_at_ms.is_some() {
                return Err(ApiError::new(StatusCode::GONE, "session_ended", "the session was ended"));
            }
            let most = row.permission;
            (row, most)
        }
        Caller::Session { row, permission } if row.id == session => {
            let epoch = row.epoch;
            let row = refreshed(&state.store, &state.clock, *row).await?;
            // Revoked or ended while the body came in: what is signed now would be good again.
            if row.epoch != epoch || row.ended_at_ms.is_some() {
                return Err(ApiError::unauthorized());
            }
            (row, permission)
        }
        Caller::Session { .. } => {
            return Err(ApiError::forbidden("a session may refresh its own token only"));
        }
    };
    let permission = request.permission.unwrap_or(most).min(most);
    Ok(Json(seat(&state, &headers, &row, permission, ttl)?))
}
