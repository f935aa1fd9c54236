//! Terminals: open, list, rename, resize, ask to be let in, let others in, close; the socket is in `socket.rs`.

mod socket;

use super::branches::body;
use super::files::rel_path;
use super::place::On;
use super::{ApiError, AppState};
use crate::base::{SessionId, TerminalId};
use crate::branch::{NewTerminal, Size, Terminal, TerminalChange, TerminalError};
use crate::session::OpenShell;
use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Arguments of a command, and variables of its environment.
const MAX_WORDS: usize = 256;
/// Bytes of a command, and of an environment.
const MAX_BYTES: usize = 32 * 1024;
/// Bytes of a title.
const MAX_TITLE: usize = 200;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, open))
        .routes(routes!(one, change, close))
        .routes(routes!(ask))
        .routes(routes!(turn_down))
        .merge(socket::routes())
}

/// A terminal to be opened.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenTerminal {
    /// Program and arguments, 1 to 256; `bash` without it.
    command: Option<Vec<String>>,
    /// Where it starts, from the workspace's root; the root without it.
    cwd: Option<String>,
    /// 1 to 500; 24 without it.
    rows: Option<u16>,
    /// 1 to 1,000; 80 without it.
    cols: Option<u16>,
    /// 1 to 200 bytes; the command's name without it.
    title: Option<String>,
    /// Variables beside the usual ones, at most 256.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Whose terminal it is; API tokens must say so, sessions open their own.
    session: Option<SessionId>,
}

/// What of a terminal is to change. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeTerminal {
    /// 1 to 200 bytes.
    title: Option<String>,
    /// 1 to 500.
    rows: Option<u16>,
    /// 1 to 1,000.
    cols: Option<u16>,
    /// All sessions that may type beside the opener, if they may write; at most 100.
    typists: Option<BTreeSet<SessionId>>,
}

/// How a terminal's program ended. Neither code nor signal: nobody knows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExitView {
    code: Option<i32>,
    signal: Option<i32>,
    /// Milliseconds since 1970 UTC.
    at_ms: i64,
}

/// A terminal.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TerminalView {
    id: TerminalId,
    title: String,
    /// The session that opened it.
    session: SessionId,
    /// Sessions that may type beside the opener.
    typists: BTreeSet<SessionId>,
    /// Sessions that ask the opener to be among those.
    asking: BTreeSet<SessionId>,
    rows: u16,
    cols: u16,
    /// Milliseconds since 1970 UTC.
    opened_at_ms: i64,
    /// Bytes of output until now; the last 2 MiB are kept.
    offset: u64,
    /// Absent while its program runs.
    exit: Option<ExitView>,
}

impl From<&Terminal> for TerminalView {
    fn from(terminal: &Terminal) -> Self {
        let shape = terminal.shape();
        Self {
            id: terminal.id().clone(),
            title: shape.title,
            session: terminal.opener().clone(),
            typists: shape.typists,
            asking: shape.asking,
            rows: shape.size.rows(),
            cols: shape.size.cols(),
            opened_at_ms: terminal.opened_at_ms(),
            offset: terminal.end(),
            exit: shape.exit.map(|(exit, at_ms)| ExitView {
                code: exit.code(),
                signal: exit.signal(),
                at_ms,
            }),
        }
    }
}

/// Terminals in the order of opening: at most 128 open ones, and the 64 closed last.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TerminalList {
    terminals: Vec<TerminalView>,
}

fn check_title(title: Option<&String>) -> Result<(), ApiError> {
    let is_bad =
        title.is_some_and(|it| it.is_empty() || it.len() > MAX_TITLE || it.contains(char::is_control));
    if is_bad {
        return Err(ApiError::bad_request("a title has 1 to 200 bytes without control characters"));
    }
    Ok(())
}

fn check_command(command: Option<&Vec<String>>) -> Result<(), ApiError> {
    let Some(words) = command else { return Ok(()) };
    let is_bad = words.first().is_none_or(String::is_empty)
        || words.len() > MAX_WORDS
        || words.iter().map(String::len).sum::<usize>() > MAX_BYTES
        || words.iter().any(|word| word.contains('\0'));
    if is_bad {
        return Err(ApiError::bad_request("a command has 1 to 256 words of 32 KiB together, without NUL"));
    }
    Ok(())
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
    };
    let is_bad = env.len() > MAX_WORDS
        || env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_BYTES
        || env.iter().any(|(name, value)| !is_name(name) || value.contains('\0'));
    if is_bad {
        return Err(ApiError::bad_request("an environment has at most 256 variables of 32 KiB together"));
    }
    Ok(())
}

fn terminal(on: &On, id: &str) -> Result<Arc<Terminal>, ApiError> {
    let id = id.parse().map_err(|_| TerminalError::NotFound)?;
    Ok(on.hub.terminals().get(&id).ok_or(TerminalError::NotFound)?)
}

/// List terminals, open ones and those that are kept.
#[utoipa::path(get, path = "/v1/branches/{branch}/terminals", tag = "terminals",
    params(("branch" = String, Path)), responses((status = OK, body = TerminalList)))]
async fn list(on: On) -> Json<TerminalList> {
    let all = on.hub.terminals().list();
    Json(TerminalList { terminals: all.iter().map(|terminal| (&**terminal).into()).collect() })
}

/// Open a terminal. It runs on while nobody watches, and ends with its session or branch. 48 of a session, 128 of a
/// branch may be open.
#[utoipa::path(post, path = "/v1/branches/{branch}/terminals", tag = "terminals",
    params(("branch" = String, Path)), request_body = OpenTerminal,
    responses((status = CREATED, body = TerminalView), (status = CONFLICT, description = "`too_many_terminals`"),
        (status = SERVICE_UNAVAILABLE, description = "`isolation_unavailable`: this perch runs no processes")))]
async fn open(
    on: On,
    request: Result<Json<OpenTerminal>, JsonRejection>,
) -> Result<(StatusCode, Json<TerminalView>), ApiError> {
    let request = body(request)?;
    let (row, is_owner) = on.runner(request.session.as_ref(), true).await?;
    check_title(request.title.as_ref())?;
    check_command(request.command.as_ref())?;
    check_env(&request.env)?;
    let usual = Size::default();
    let size = Size::new(request.rows.unwrap_or(usual.rows()), request.cols.unwrap_or(usual.cols()))?;
    let cwd = request
        .cwd
        .as_deref()
        .filter(|cwd| !cwd.is_empty())
        .map(rel_path)
        .transpose()?
        .map(|cwd| cwd.to_string());
    on.hub.terminals().room(&row.id)?;
    let title = request.title.unwrap_or_else(|| title_of(request.command.as_deref()));
    let shell = OpenShell { command: request.command, cwd, env: request.env, size };
    let pty = on.state.agents.open(&on.hub, &row, is_owner, shell).await?;
    let new = NewTerminal { opener: row.id, title, size, is_pinned: false };
    let terminal = on.hub.terminals().add(new, pty)?;
    Ok((StatusCode::CREATED, Json((&*terminal).into())))
}

/// The command's name, as a title.
fn title_of(command: Option<&[String]>) -> String {
    let program = command.and_then(|words| words.first()).map_or("shell", String::as_str);
    let name = program.rsplit('/').next().unwrap_or_default();
    let title: String = name.chars().filter(|c| !c.is_control()).take(50).collect();
    if title.is_empty() { "shell".into() } else { title }
}

/// One terminal.
#[utoipa::path(get, path = "/v1/branches/{branch}/terminals/{terminal}", tag = "terminals",
    params(("branch" = String, Path), ("terminal" = String, Path)),
    responses((status = OK, body = TerminalView), (status = NOT_FOUND)))]
async fn one(on: On, Path((_branch, id)): Path<(String, String)>) -> Result<Json<TerminalView>, ApiError> {
    Ok(Json((&*terminal(&on, &id)?).into()))
}

/// Rename a terminal, resize its window, say who else may type: its opener, or an API token.
#[utoipa::path(patch, path = "/v1/branches/{branch}/terminals/{terminal}", tag = "terminals",
    params(("branch" = String, Path), ("terminal" = String, Path)), request_body = ChangeTerminal,
    responses((status = OK, body = TerminalView), (status = NOT_FOUND),
        (status = FORBIDDEN, description = "`not_let_in`"), (status = CONFLICT, description = "`terminal_closed`")))]
async fn change(
    on: On,
    Path((_branch, id)): Path<(String, String)>,
    request: Result<Json<ChangeTerminal>, JsonRejection>,
) -> Result<Json<TerminalView>, ApiError> {
    let grant = on.writer().await?;
    let request = body(request)?;
    check_title(request.title.as_ref())?;
    let terminal = terminal(&on, &id)?;
    let size = match (request.rows, request.cols) {
        (None, None) => None,
        (rows, cols) => {
            let now = terminal.shape().size;
            Some(Size::new(rows.unwrap_or(now.rows()), cols.unwrap_or(now.cols()))?)
        }
    };
    let change = TerminalChange { title: request.title, size, typists: request.typists };
    terminal.change(&grant, change).await?;
    Ok(Json((&*terminal).into()))
}

/// Close a terminal: its program is hung up, and it is kept with its output and exit code. A closed one is forgotten.
/// For its opener, or an API token.
#[utoipa::path(delete, path = "/v1/branches/{branch}/terminals/{terminal}", tag = "terminals",
    params(("branch" = String, Path), ("terminal" = String, Path)),
    responses((status = NO_CONTENT), (status = NOT_FOUND), (status = FORBIDDEN, description = "`not_let_in`")))]
async fn close(on: On, Path((_branch, id)): Path<(String, String)>) -> Result<StatusCode, ApiError> {
    let grant = on.writer().await?;
    let terminal = terminal(&on, &id)?;
    on.hub.terminals().remove(terminal.id(), &grant)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ask the opener to let this session type in its terminal. Listeners of the branch hear `terminal.changed`; the opener
/// answers by `typists`, or by turning it down. Who may type already asks for nothing.
#[utoipa::path(post, operation_id = "ask_to_type", path = "/v1/branches/{branch}/terminals/{terminal}/asking", tag = "terminals",
    params(("branch" = String, Path), ("terminal" = String, Path)),
    responses((status = OK, body = TerminalView), (status = NOT_FOUND), (status = FORBIDDEN),
        (status = CONFLICT, description = "`terminal_closed`, `too_many_ask`")))]
async fn ask(on: On, Path((_branch, id)): Path<(String, String)>) -> Result<Json<TerminalView>, ApiError> {
    let grant = on.writer().await?;
    let terminal = terminal(&on, &id)?;
    terminal.ask(&grant)?;
    Ok(Json((&*terminal).into()))
}

/// Turn down what a session asks for: the opener, an API token, or the session that takes it back.
#[utoipa::path(delete, operation_id = "turn_down", path = "/v1/branches/{branch}/terminals/{terminal}/asking/{session}", tag = "terminals",
    params(("branch" = String, Path), ("terminal" = String, Path), ("session" = String, Path)),
    responses((status = NO_CONTENT), (status = NOT_FOUND), (status = FORBIDDEN, description = "`not_let_in`")))]
async fn turn_down(
    on: On,
    Path((_branch, id, session)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let grant = on.writer().await?;
    let session = session.parse().map_err(|_| ApiError::not_found("there is no such session"))?;
    terminal(&on, &id)?.turn_down(&grant, &session)?;
    Ok(StatusCode::NO_CONTENT)
}
