//! A terminal's socket; docs/terminals.md says what goes over it. It frames; what may pass is the terminal's.

use crate::base::SessionId;
use crate::branch::{Attachment, Close, Output, Shape, Size, TerminalError, Viewer};
use crate::http::branches::branch_id;
use crate::http::error::terminal_code;
use crate::http::present::Present;
use crate::http::socket::{CLOSE_WITHIN, FORBIDDEN, MALFORMED, PING_EVERY, PROTOCOL, claims};
use crate::http::{ApiError, AppState, CloseFrame, Inbox, Message, Sink, Upgrade};
use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::SinkExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tracing::{Instrument, Span, info};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Bytes of one message: a long paste. Longer ones come in several.
const MAX_FRAME: usize = 256 * 1024;
/// Refusals that wait to be told; more are left out.
const REFUSALS: usize = 8;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(socket))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// A session token, where the client can send no header.
    token: Option<String>,
    /// Where the output goes on: the offset that was told last. All that is kept without it.
    from: Option<u64>,
    /// For clients that know nothing but bytes (xterm.js' `AttachAddon`): every message is typed, only output comes.
    #[serde(default)]
    plain: bool,
}

/// What clients are told beside the output, as text.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Told<'a> {
    /// First, and at each change.
    State {
        title: &'a str,
        rows: u16,
        cols: u16,
        session: &'a SessionId,
        typists: &'a BTreeSet<SessionId>,
        /// Whether this socket's session may type now.
        typing: bool,
    },
    /// All output before it was sent.
    At { offset: u64 },
    /// Output that is not kept any more is missing: the emulator should begin anew.
    Gap { from: u64, offset: u64 },
    /// The program has ended; the socket closes.
    Exit { code: Option<i32>, signal: Option<i32> },
    /// Something sent had no effect.
    Refused { code: &'static str, detail: String },
}

impl Told<'_> {
    fn message(&self) -> Message {
        // Plain structs of text and numbers always encode.
        Message::Text(serde_json::to_string(self).unwrap_or_default().into())
    }
}

/// What clients send as text.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Order {
    Resize { rows: u16, cols: u16 },
}

/// Watch a terminal, and type in it if the session may. Binary frames are output and input, text frames JSON; see
/// docs/terminals.md. A session token in a header, a subprotocol (`perch, perch.token.<token>`) or the query.
#[utoipa::path(get, path = "/v1/branches/{branch}/terminals/{terminal}/socket", tag = "terminals",
    params(("branch" = String, Path), ("terminal" = String, Path), Params),
    responses((status = SWITCHING_PROTOCOLS, description = "a WebSocket"), (status = NOT_FOUND)))]
async fn socket(
    State(state): State<AppState>,
    Path((branch, terminal)): Path<(String, String)>,
    Query(params): Query<Params>,
    headers: HeaderMap,
    upgrade: Result<Upgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let branch = branch_id(&branch)?;
    let claims = claims(&state, &branch, &headers, params.token.as_deref())?;
    // Last, so that whoever has no token hears that first.
    let upgrade = upgrade.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let present = Present::of(&state, &claims).await?;
    let hub = Arc::clone(&present.hub);
    let id = terminal.parse().map_err(|_| TerminalError::NotFound)?;
    let terminal = hub.terminals().get(&id).ok_or(TerminalError::NotFound)?;
    let span = Span::current();
    Ok(upgrade.protocol(PROTOCOL).run(MAX_FRAME, move |sink, mut inbox| async move {
        inbox.admit(&branch);
        let member = Arc::clone(&present.member);
        let viewer = Viewer { member, token: claims.permission, epoch: claims.epoch };
        let attachment = Attachment::new(hub, terminal, viewer, state.next_connection());
        Box::pin(run(&state, (sink, &mut inbox), attachment, present, &params).instrument(span)).await;
    }))
}

fn close(code: u16, reason: impl Into<String>) -> Close {
    Close { code, reason: reason.into() }
}

/// Runs both halves of a socket until one ends. `None`: the other end is gone.
async fn run(
    state: &AppState,
    (mut sink, inbox): (Sink, &mut Inbox),
    attachment: Attachment,
    mut present: Present,
    params: &Params,
) {
    let open = metrics::gauge!("perch_sockets", "protocol" => "terminal");
    open.increment(1);
    info!(terminal = %attachment.terminal().id(), "terminal socket opened");
    let (refuse, refused) = mpsc::channel(REFUSALS);
    let ended = async {
        // Whoever may type or not is told by the writer, which asks for each piece of output.
        while present.still_welcome().await {}
    };
    let why = tokio::select! {
        why = write(&attachment, &mut sink, refused, params) => why,
        why = read(&attachment, inbox, &refuse, params.plain) => why,
        () = ended => Some(close(FORBIDDEN, "the session was ended")),
        () = state.tasks.stopping().cancelled() => Some(close(1013, "perch is stopping; come back")),
    };
    if let Some(Close { code, reason }) = &why {
        let frame = CloseFrame { code: (*code).into(), reason: reason.as_str().into() };
        let _ = timeout(CLOSE_WITHIN, async {
            let _ = sink.send(Message::Close(Some(frame))).await;
            let _ = sink.close().await;
        })
        .await;
    }
    open.decrement(1);
    info!(terminal = %attachment.terminal().id(), code = why.map(|why| why.code), "terminal socket closed");
}

fn told<'a>(attachment: &'a Attachment, shape: &'a Shape) -> Told<'a> {
    Told::State {
        title: &shape.title,
        rows: shape.size.rows(),
        cols: shape.size.cols(),
        session: attachment.terminal().opener(),
        typists: &shape.typists,
        typing: attachment.may_type(),
    }
}

/// Writes output as fast as the other end takes it; what is dropped meanwhile is a gap, and nobody waits.
async fn write(
    attachment: &Attachment,
    sink: &mut Sink,
    mut refused: mpsc::Receiver<Message>,
    params: &Params,
) -> Option<Close> {
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reader = attachment.reader(params.from);
    let mut shape = attachment.terminal().watch();
    let mut standing = attachment.watch();
    shape.mark_changed();
    loop {
        let message = tokio::select! {
            biased;
            _ = ping.tick() => Message::Ping(Bytes::new()),
            Ok(()) = shape.changed() => told(attachment, &shape.borrow_and_update().clone()).message(),
            Ok(()) = standing.changed() => told(attachment, &attachment.terminal().shape()).message(),
            Some(refused) = refused.recv() => refused,
            output = reader.next(attachment) => match output {
                Output::Bytes(bytes) => Message::Binary(bytes),
                // Its emulator can't be told otherwise (RIS).
                Output::Gap { .. } if params.plain => Message::Binary(Bytes::from_static(b"\x1bc")),
                Output::Gap { from, to } => Told::Gap { from, offset: to }.message(),
                Output::At(offset) => Told::At { offset }.message(),
                Output::Ended(exit) => {
                    if !params.plain {
                        let told = Told::Exit { code: exit.code(), signal: exit.signal() };
                        sink.send(told.message()).await.ok()?;
                    }
                    return Some(close(1000, "the program has ended"));
                }
            },
        };
        if params.plain && matches!(message, Message::Text(_)) {
            continue;
        }
        sink.send(message).await.ok()?;
    }
}

/// Takes what is typed. A refusal is told once for each reason, until something passes again.
async fn read(
    attachment: &Attachment,
    inbox: &mut Inbox,
    refuse: &mpsc::Sender<Message>,
    is_plain: bool,
) -> Option<Close> {
    let mut last = None;
    loop {
        let message = inbox.next().await.ok()?;
        let outcome = match message {
            Message::Binary(bytes) => attachment.input(bytes).await,
            Message::Text(text) if is_plain => attachment.input(text.into()).await,
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(Order::Resize { rows, cols }) => match Size::new(rows, cols) {
                    Ok(size) => attachment.resize(size).await,
                    Err(error) => Err(error),
                },
                Err(_) => return Some(close(MALFORMED, "malformed message")),
            },
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) | Message::Frame(_) => return None,
        };
        match outcome {
            Ok(()) => last = None,
            Err(error) if last.as_ref() == Some(&error) => {}
            Err(error) => {
                let told = Told::Refused { code: terminal_code(&error).1, detail: error.to_string() };
                // Full where the other end reads nothing.
                let _ = refuse.try_send(told.message());
                last = Some(error);
            }
        }
    }
}
