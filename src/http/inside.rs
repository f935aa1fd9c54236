//! What lies in a session's sandbox beside the branch's files: its own `~/.private`, the shared home, `/tmp`; and what
//! is in force for sandboxes.

use super::auth::Caller;
use super::place::{self, On, Params};
use super::{ApiError, AppState};
use crate::agent::{FileAnswer, FileEntry, FileOp, MAX_FILE};
use crate::base::SessionId;
use crate::sandbox::{Level, Limits};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(put_private, remove_private))
        .routes(routes!(read_inside, write_inside, remove_inside))
        .routes(routes!(isolation))
        .layer(DefaultBodyLimit::max(MAX_FILE))
}

type Three = Path<(String, String, String)>;

fn session(text: &str) -> Result<SessionId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("there is no such session"))
}

fn bytes(body: Result<Bytes, BytesRejection>) -> Result<ByteBuf, ApiError> {
    Ok(ByteBuf::from(Vec::from(place::bytes(body, "8 MiB here")?)))
}

fn plain(path: &str) -> Result<String, ApiError> {
    if path.is_empty() || path.contains('\0') || path.len() > 4_096 {
        return Err(ApiError::bad_request("a path has 1 to 4,096 bytes and no NUL"));
    }
    Ok(path.to_owned())
}

/// The caller's own session, and nobody else's, not for an API token either.
pub(super) fn own(on: &On, id: &str) -> Result<SessionId, ApiError> {
    let id = session(id)?;
    match &on.caller {
        // Not with a token of less right either: what lies there is run by the session.
        Caller::Session { row, permission } if row.id == id && *permission >= row.permission => Ok(id),
        _ => Err(ApiError::forbidden("what is private to a session is reached with its own token only")),
    }
}

fn done(answer: FileAnswer) -> Result<StatusCode, ApiError> {
    match answer {
        FileAnswer::Refused(error) => Err(error.into()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// Put a file of at most 8 MiB into the session's own `~/.private`. It is held in the session's memory and nowhere else.
#[utoipa::path(put, path = "/v1/branches/{branch}/sessions/{session}/private/{*path}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path), ("path" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = NO_CONTENT), (status = FORBIDDEN, description = "with another token than the session's own"),
        (status = INSUFFICIENT_STORAGE, description = "`no_room`: `~/.private` is full")))]
async fn put_private(
    on: On,
    names: Three,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let Path((_, id, path)) = names;
    let id = own(&on, &id)?;
    let (path, bytes) = (plain(&path)?, bytes(body)?);
    let agent = on.agent(Some(&id), false).await?;
    done(agent.file(FileOp::PrivateWrite(path, bytes)).await?)
}

/// Remove a file or folder from the session's own `~/.private`.
#[utoipa::path(delete, path = "/v1/branches/{branch}/sessions/{session}/private/{*path}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path), ("path" = String, Path)),
    responses((status = NO_CONTENT), (status = NOT_FOUND),
        (status = FORBIDDEN, description = "with another token than the session's own")))]
async fn remove_private(on: On, names: Three) -> Result<StatusCode, ApiError> {
    let Path((_, id, path)) = names;
    let id = own(&on, &id)?;
    let agent = on.agent(Some(&id), false).await?;
    done(agent.file(FileOp::PrivateRemove(plain(&path)?)).await?)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Reading {
    /// The folder's entries instead of a file's bytes.
    #[serde(default)]
    list: bool,
}

/// A folder's entries.
#[derive(Serialize, ToSchema)]
struct Entries {
    entries: Vec<FileEntry>,
}

/// Read a file of at most 8 MiB, or with `list` a folder, outside the branch's files, as the session sees it (`root/…`
/// is the shared home).
#[utoipa::path(get, path = "/v1/branches/{branch}/sessions/{session}/files/{*path}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path), ("path" = String, Path), Reading),
    responses((status = OK, body = Entries), (status = NOT_FOUND), (status = FORBIDDEN)))]
async fn read_inside(on: On, names: Three, Params(reading): Params<Reading>) -> Result<Response, ApiError> {
    let Path((_, id, path)) = names;
    let path = format!("/{}", plain(&path)?);
    let op = if reading.list { FileOp::List(path) } else { FileOp::Read(path) };
    match on.agent(Some(&session(&id)?), false).await?.file(op).await? {
        FileAnswer::Refused(error) => Err(error.into()),
        FileAnswer::Entries(entries) => Ok(Json(Entries { entries }).into_response()),
        FileAnswer::Bytes(bytes) => {
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            Ok((headers, bytes.into_vec()).into_response())
        }
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Write a file of at most 8 MiB outside the branch's files, as the session may.
#[utoipa::path(put, path = "/v1/branches/{branch}/sessions/{session}/files/{*path}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path), ("path" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = NO_CONTENT), (status = FORBIDDEN)))]
async fn write_inside(
    on: On,
    names: Three,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let Path((_, id, path)) = names;
    let (path, bytes) = (format!("/{}", plain(&path)?), bytes(body)?);
    on.room(bytes.len() as u64).await?;
    let agent = on.agent(Some(&session(&id)?), true).await?;
    done(agent.file(FileOp::Write(path, bytes)).await?)
}

/// Remove a file, or a folder with all in it, outside the branch's files, as the session may.
#[utoipa::path(delete, path = "/v1/branches/{branch}/sessions/{session}/files/{*path}", tag = "sessions",
    params(("branch" = String, Path), ("session" = String, Path), ("path" = String, Path)),
    responses((status = NO_CONTENT), (status = NOT_FOUND), (status = FORBIDDEN)))]
async fn remove_inside(on: On, names: Three) -> Result<StatusCode, ApiError> {
    let Path((_, id, path)) = names;
    let agent = on.agent(Some(&session(&id)?), true).await?;
    done(agent.file(FileOp::Remove(format!("/{}", plain(&path)?))).await?)
}

/// What is in force for sessions' processes.
#[derive(Serialize, ToSchema)]
struct Force {
    /// How they are kept apart.
    level: Level,
    /// Why there are none, and what to do about it.
    refused: Option<String>,
    /// Bounds of one session.
    session: Limits,
    /// Bounds of all sessions of one branch.
    branch: Limits,
    /// Whether the kernel holds the sums of memory, processes and CPU; else perch looks after memory each second, and CPU
    /// and a branch's sums are not bounded.
    sums_by_kernel: bool,
    /// Why the kernel does not.
    sums_why_not: Option<String>,
    /// Sessions that run processes now.
    running: usize,
}

/// How sessions' processes are kept apart here, and their bounds.
#[utoipa::path(get, path = "/v1/isolation", tag = "operating", responses((status = OK, body = Force)))]
async fn isolation(State(state): State<AppState>, _: Caller) -> Json<Force> {
    let options = state.agents.options();
    Json(Force {
        level: options.standing.level,
        refused: options.standing.refused.clone(),
        session: options.limits,
        branch: options.branch_limits,
        sums_by_kernel: options.cgroups.why_not().is_none() && options.standing.level != Level::None,
        sums_why_not: options.cgroups.why_not().map(str::to_owned),
        running: state.agents.count(),
    })
}
