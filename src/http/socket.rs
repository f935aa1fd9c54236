//! Document sockets: y-websocket (one document each) and Hocuspocus (many on one). They frame and route; what a message
//! means is the document's.

use super::auth::{bearer, claims_of, origin_is_allowed};
use super::branches::branch_id;
use super::present::Present;
use super::websocket::{CloseFrame, Ended, Inbox, Message, SILENT_FOR, Sink, UNIT, Upgrade};
use super::{ApiError, AppState, WriteHalf};
use crate::base::{BranchId, Permission};
use crate::branch::{
    AtOnce, Channel, ConnectionId, DocError, Document, Hub, Incoming, Join, Member, Outbox, Wire, Wrote,
};
use crate::crdt::frame::{self, Message as Sync};
use crate::crdt::hocuspocus::{self, Body, Frame};
use crate::crdt::state_vector;
use crate::session::Claims;
use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use futures_util::SinkExt;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span, info};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Bytes of one frame: the largest document as one update, and some room.
const MAX_FRAME: usize = 32 * 1024 * 1024;
/// A socket without a token is closed after this long.
const TOKEN_WITHIN: Duration = Duration::from_secs(10);
/// Signs of life from us: stock clients reconnect after 30 s without a message.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(20);
/// Documents on one Hocuspocus socket.
const MAX_DOCUMENTS: usize = 1_000;

/// Documents that one Hocuspocus socket may open, one after the other: a channel is part of a connection's name.
const MAX_CHANNELS: Channel = 1 << 20;
/// A peer that does not read gets this long to take what is left, and the reason why the socket closes.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The subprotocol of a client that carries its token beside it.
pub(super) const PROTOCOL: &str = "perch";

pub(super) const FORBIDDEN: u16 = 4403;
pub(super) const MALFORMED: u16 = 4400;

#[derive(Deserialize)]
pub(super) struct Params {
    token: Option<String>,
}

/// What both kinds of socket share.
struct Line {
    connection: ConnectionId,
    outbox: Arc<Outbox>,
    /// The documents on this socket by their channel, for those that are to send a diff.
    documents: Mutex<HashMap<Channel, Document>>,
    /// Bytes that came, and that went.
    received: metrics::Counter,
    sent: metrics::Counter,
    /// What frames may be written to past the task that writes.
    half: Option<WriteHalf>,
}

impl AtOnce for WriteHalf {
    fn write(&self, framed: &Bytes) -> Wrote {
        self.write_frame(framed)
    }
}

impl Line {
    fn new(state: &AppState, half: Option<Extension<WriteHalf>>) -> Arc<Self> {
        let connection = state.next_connection();
        let bytes =
            |direction: &'static str| metrics::counter!("perch_socket_bytes_total", "direction" => direction);
        Arc::new(Self {
            connection,
            outbox: Arc::default(),
            documents: Mutex::default(),
            received: bytes("in"),
            sent: bytes("out"),
            half: half.map(|Extension(half)| half),
        })
    }

    /// The task that writes has written everything: nothing but frames can follow.
    fn written(&self) {
        self.outbox.written(|| {
            let half = self.half.clone()?;
            half.share();
            Some(Box::new(half))
        });
    }

    /// Connections are named per document: the same socket has another name in each.
    fn name(&self, channel: Channel) -> ConnectionId {
        (self.connection << 20) | u64::from(channel)
    }

    async fn leave_all(&self) {
        let documents: Vec<_> = self.documents.lock().drain().collect();
        for (channel, document) in documents {
            document.leave(self.name(channel)).await;
        }
    }
}

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(docs)).routes(routes!(collab))
}

/// Edit one file with y-websocket's `WebsocketProvider`: the server URL is `docs_url` of a session, the room its path.
#[utoipa::path(get, path = "/v1/branches/{branch}/docs/{*path}", tag = "documents",
    params(("branch" = String, Path), ("path" = String, Path),
        ("token" = Option<String>, Query, description = "a session token, where the client can send no header")),
    responses((status = SWITCHING_PROTOCOLS, description = "a WebSocket of binary frames, one y-protocols message each; \
        the `Y.Text` is named `content`")))]
async fn docs(
    State(state): State<AppState>,
    Path((branch, path)): Path<(String, String)>,
    Query(params): Query<Params>,
    half: Option<Extension<WriteHalf>>,
    headers: HeaderMap,
    upgrade: Result<Upgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let branch = branch_id(&branch)?;
    let claims = claims(&state, &branch, &headers, params.token.as_deref())?;
    // Last, so that whoever has no token hears that first.
    let upgrade = upgrade.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let permission = claims.permission;
    let mut present = Present::of(&state, &claims).await?;
    let span = Span::current();
    Ok(upgrade.protocol(PROTOCOL).run(MAX_FRAME, move |sink, mut inbox| async move {
        let line = Line::new(&state, half);
        inbox.admit(&branch);
        let talk = async {
            match open(&present.hub, &path, &present.member, permission).await {
                Ok(document) => talk_y(&line, document, &mut inbox, &mut present, permission).await,
                Err(error) => line.outbox.close(close_code(&error), error.to_string()),
            }
        };
        let alive = Bytes::from_static(&[1, 1, 0]);
        Box::pin(run(&state, &line, sink, talk, alive, "y-websocket").instrument(span)).await;
    }))
}

/// What the token of whoever opens a socket says: from the subprotocols, the header or the query. Only ever a session token:
/// an API token is refused, in whichever of the places.
pub(super) fn claims(
    state: &AppState,
    branch: &BranchId,
    headers: &HeaderMap,
    in_query: Option<&str>,
) -> Result<Claims, ApiError> {
    let token = in_protocol(headers).or_else(|| bearer(headers)).or(in_query);
    let claims = claims_of(state, token.ok_or_else(ApiError::unauthorized)?, Some(branch))?;
    if !origin_is_allowed(state, headers) {
        return Err(ApiError::forbidden("pages of this origin are not allowed; see --allowed-origin"));
    }
    Ok(claims)
}

/// The token among the subprotocols `perch, perch.token.<token>`; `perch` is the one that is answered.
fn in_protocol(headers: &HeaderMap) -> Option<&str> {
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|list| list.split(',')).find_map(|name| name.trim().strip_prefix("perch.token."))
}

async fn open(hub: &Hub, path: &str, member: &Member, token: Permission) -> Result<Document, DocError> {
    let path =
        path.parse().map_err(|error: crate::workspace::PathError| DocError::Path(error.to_string()))?;
    hub.document(&path, member.writer(token).is_some()).await
}

fn close_code(error: &DocError) -> u16 {
    match error {
        DocError::NotFound(_) => 4404,
        DocError::NotText { .. } | DocError::NotAFile(_) => 4415,
        DocError::TooLarge { .. } => 4413,
        DocError::Path(_) => MALFORMED,
        _ => 4500,
    }
}

/// Runs the two halves of a socket until one ends, then leaves all documents.
async fn run(
    state: &AppState,
    line: &Arc<Line>,
    sink: Sink,
    talk: impl Future<Output = ()>,
    alive: Bytes,
    protocol: &'static str,
) {
    let open = metrics::gauge!("perch_sockets", "protocol" => protocol);
    open.increment(1);
    info!(protocol, "socket opened");
    let stop = state.tasks.stopping().clone();
    let closed;
    {
        // A task of its own: a frame on its way out wakes the half that writes, and not the one that reads.
        let mut write = AbortOnDropHandle::new(state.tasks.spawn(write_out(Arc::clone(line), sink, alive)));
        tokio::pin!(talk);
        let mut talking = true;
        let mut deadline = Instant::now();
        loop {
            tokio::select! {
                why = &mut write => {
                    closed = why.ok().flatten();
                    break;
                }
                () = &mut talk, if talking => {
                    talking = false;
                    deadline = Instant::now() + CLOSE_WITHIN;
                    // Ends the writer, unless a reason to close is already there.
                    line.outbox.close(1000, "");
                }
                () = tokio::time::sleep_until(deadline), if !talking => {
                    closed = None;
                    break;
                }
                () = stop.cancelled() => {
                    line.outbox.close(1013, "perch is stopping; come back");
                    let written = tokio::time::timeout(Duration::from_secs(2), &mut write).await;
                    closed = written.ok().and_then(Result::ok).flatten();
                    break;
                }
            }
        }
    }
    line.leave_all().await;
    open.decrement(1);
    match closed {
        Some((MALFORMED, reason)) => {
            metrics::counter!("perch_frames_refused_total", "protocol" => protocol).increment(1);
            info!(protocol, code = MALFORMED, reason, "socket closed");
        }
        Some((1000, _)) => info!(protocol, "socket closed by the other end"),
        Some((code, reason)) => info!(protocol, code, reason, "socket closed"),
        None => info!(protocol, "socket closed: the other end is gone"),
    }
}

/// Writes what is to go out. Returns why the socket was closed, or nothing when the other end is gone.
async fn write_out(line: Arc<Line>, mut sink: Sink, alive: Bytes) -> Option<(u16, String)> {
    let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let taken = tokio::select! {
            taken = line.outbox.take() => taken,
            _ = ping.tick() => {
                let frames = [Message::Ping(Bytes::new()), Message::Binary(alive.clone())];
                for frame in frames {
                    sink.feed(frame).await.ok()?;
                }
                sink.flush().await.ok()?;
                continue;
            }
        };
        line.sent.increment(taken.frames.iter().map(|frame| frame.len() as u64).sum());
        for frame in taken.frames {
            sink.feed(Message::Binary(frame)).await.ok()?;
        }
        if let Some(close) = taken.close {
            let mut reason = close.reason;
            while reason.len() > 120 {
                reason.pop();
            }
            let frame = CloseFrame { code: close.code.into(), reason: reason.as_str().into() };
            let _ = sink.send(Message::Close(Some(frame))).await;
            let _ = sink.close().await;
            return Some((close.code, reason));
        }
        sink.flush().await.ok()?;
        line.written();
        for channel in taken.stale {
            let document = line.documents.lock().get(&channel).cloned();
            if let Some(document) = document {
                document.drained(line.name(channel)).await;
            }
        }
    }
}

/// The next binary frame, until the socket ends, or nothing came for too long. A socket that does not take its answers is
/// not read, so that they stay bounded.
async fn next_frame(line: &Line, inbox: &mut Inbox) -> Result<Bytes, Ended> {
    loop {
        inbox.handed_on();
        tokio::time::timeout(SILENT_FOR, line.outbox.room()).await.map_err(|_| Ended::Gone)?;
        match inbox.next().await? {
            Message::Binary(bytes) => {
                line.received.increment(bytes.len() as u64);
                return Ok(bytes);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Text(_) | Message::Close(_) | Message::Frame(_) => return Err(Ended::Gone),
        }
    }
}

/// Hands a message over. A large one holds its room until the document has worked on it, so that what waits for a document is
/// small but for one message of each socket.
async fn hand_over(document: &Document, name: ConnectionId, message: Incoming, frame: &Bytes) {
    document.incoming(name, message).await;
    if frame.len() > UNIT {
        document.caught_up().await;
    }
}

fn incoming(frame: &Bytes, message: Sync<'_>) -> Option<Incoming> {
    Some(match message {
        Sync::SyncStep1(vector) => Incoming::SyncStep1(state_vector(vector).ok()?),
        Sync::SyncStep2(update) => Incoming::Update { update: frame.slice_ref(update), is_step2: true },
        Sync::Update(update) => Incoming::Update { update: frame.slice_ref(update), is_step2: false },
        Sync::Awareness(payload) => Incoming::Awareness(frame.slice_ref(payload)),
        Sync::QueryAwareness => Incoming::QueryAwareness,
    })
}

async fn talk_y(
    line: &Line,
    document: Document,
    inbox: &mut Inbox,
    present: &mut Present,
    token: Permission,
) {
    let name = line.name(0);
    let join = Join {
        connection: name,
        member: Arc::clone(&present.member),
        token,
        outbox: Arc::clone(&line.outbox),
        channel: 0,
        wire: Wire::YWebsocket,
    };
    if document.join(join).await.is_err() {
        line.outbox.close(4500, "the document closed meanwhile; come back");
        return;
    }
    line.documents.lock().insert(0, document.clone());
    loop {
        tokio::select! {
            frame = next_frame(line, inbox) => {
                let Ok(frame) = frame else { return };
                let Ok(messages) = frame::parse(&frame) else {
                    line.outbox.close(MALFORMED, "malformed frame");
                    return;
                };
                for message in messages {
                    let Some(message) = incoming(&frame, message) else {
                        line.outbox.close(MALFORMED, "malformed state vector");
                        return;
                    };
                    hand_over(&document, name, message, &frame).await;
                }
            }
            welcome = present.still_welcome() => {
                if !welcome {
                    line.outbox.close(FORBIDDEN, "the session was ended");
                    return;
                }
                document.regrant(name).await;
            }
        }
    }
}

/// Edit many files on one socket with Hocuspocus' `HocuspocusProvider`: `url` is `collab_url` of a session, `name` the
/// file's path. The first message of each document holds a session token; it must come within 10 s.
#[utoipa::path(get, path = "/v1/branches/{branch}/collab", tag = "documents", security(()),
    params(("branch" = String, Path)),
    responses((status = SWITCHING_PROTOCOLS, description = "a WebSocket that speaks Hocuspocus' protocol; SyncStatus \
        comes after the durable commit")))]
async fn collab(
    State(state): State<AppState>,
    Path(branch): Path<String>,
    half: Option<Extension<WriteHalf>>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let branch = branch_id(&branch)?;
    if !origin_is_allowed(&state, &headers) {
        return Err(ApiError::forbidden("pages of this origin are not allowed; see --allowed-origin"));
    }
    let span = Span::current();
    Ok(upgrade.run(MAX_FRAME, move |sink, mut inbox| async move {
        let line = Line::new(&state, half);
        let talk = talk_hocuspocus(&state, &line, &branch, &mut inbox);
        Box::pin(run(&state, &line, sink, talk, hocuspocus::ping(), "hocuspocus").instrument(span)).await;
    }))
}

/// One document of a Hocuspocus socket.
struct Opened {
    document: Document,
    channel: Channel,
    /// The right of the token that it was opened with.
    token: Permission,
}

/// Frames before the first token are refused: only the authentication message may come first.
async fn talk_hocuspocus(state: &AppState, line: &Line, branch: &BranchId, inbox: &mut Inbox) {
    let mut opened: HashMap<Arc<str>, Opened> = HashMap::new();
    let mut present: Option<Present> = None;
    let mut channels: Channel = 0;
    let deadline = Instant::now() + TOKEN_WITHIN;
    loop {
        let frame = tokio::select! {
            frame = next_frame(line, inbox) => frame,
            () = tokio::time::sleep_until(deadline), if present.is_none() => {
                line.outbox.close(FORBIDDEN, "no token within 10 s");
                return;
            }
            welcome = async {
                match &mut present {
                    Some(present) => present.still_welcome().await,
                    None => std::future::pending().await,
                }
            } => {
                if !welcome {
                    line.outbox.close(FORBIDDEN, "the session was ended");
                    return;
                }
                if let Some(present) = &present {
                    for (name, one) in &opened {
                        let can_write = present.member.writer(one.token).is_some();
                        line.outbox.answer(hocuspocus::authenticated(name, can_write));
                        one.document.regrant(line.name(one.channel)).await;
                    }
                }
                continue;
            }
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(Ended::TooMuch) => {
                line.outbox.close(MALFORMED, "more than 64 KiB before the token");
                return;
            }
            Err(Ended::Gone) => return,
        };
        let (name, body) = match hocuspocus::parse(&frame) {
            Ok(Frame::Ping) => {
                line.outbox.answer(hocuspocus::pong());
                continue;
            }
            Ok(Frame::Pong) => continue,
            Ok(Frame::Named { name, body }) => (name, body),
            Err(_) => {
                line.outbox.close(MALFORMED, "malformed frame");
                return;
            }
        };
        match body {
            Body::Token(token) => {
                let entered = async {
                    let claims = claims_of(state, token.expose_secret(), Some(branch))?;
                    if present.as_ref().is_some_and(|present| *present.member.session() != claims.session) {
                        return Ok(None);
                    }
                    Ok::<_, ApiError>(Some((Present::of(state, &claims).await?, claims.permission)))
                };
                let (entered, permission) = match entered.await {
                    Ok(Some(entered)) => entered,
                    // The socket ends with its session; a second one would outlive its own end here.
                    Ok(None) => {
                        let reason = "this socket belongs to another session; open one for each";
                        line.outbox.answer(hocuspocus::permission_denied(name, reason));
                        continue;
                    }
                    // Told that permission is denied, a stock client stops for ever.
                    Err(error) if error.is_passing() => {
                        line.outbox.close(4500, "perch can't open the branch now; come back");
                        return;
                    }
                    Err(_) => {
                        line.outbox.answer(hocuspocus::permission_denied(name, "the token is not valid"));
                        continue;
                    }
                };
                let Present { hub, member, .. } = present.insert(entered);
                inbox.admit(branch);
                if let Some(old) = opened.remove(name) {
                    line.documents.lock().remove(&old.channel);
                    old.document.leave(line.name(old.channel)).await;
                }
                if opened.len() >= MAX_DOCUMENTS {
                    let reason = "too many documents on one socket";
                    line.outbox.answer(hocuspocus::permission_denied(name, reason));
                    continue;
                }
                channels += 1;
                if channels >= MAX_CHANNELS {
                    line.outbox.close(4500, "this socket has opened too many documents; come back");
                    return;
                }
                match join(line, hub, member, permission, name, channels).await {
                    Ok((name, one)) => {
                        let can_write = member.writer(permission).is_some();
                        line.outbox.answer(hocuspocus::authenticated(&name, can_write));
                        opened.insert(name, one);
                    }
                    Err(DocError::Closed | DocError::Failed | DocError::Log(_) | DocError::Disk(_)) => {
                        line.outbox.close(4500, "the document can't be opened now; come back");
                        return;
                    }
                    Err(error) => {
                        line.outbox.answer(hocuspocus::permission_denied(name, &error.to_string()));
                    }
                }
            }
            Body::Message(message) => {
                // Of a document that was refused or left: nothing of it counts.
                let Some(one) = opened.get(name) else { continue };
                let Some(message) = incoming(&frame, message) else {
                    line.outbox.close(MALFORMED, "malformed state vector");
                    return;
                };
                hand_over(&one.document, line.name(one.channel), message, &frame).await;
            }
            Body::Stateless => {}
            Body::Close => {
                if let Some(one) = opened.remove(name) {
                    line.documents.lock().remove(&one.channel);
                    one.document.leave(line.name(one.channel)).await;
                }
            }
        }
    }
}

async fn join(
    line: &Line,
    hub: &Hub,
    member: &Arc<Member>,
    token: Permission,
    name: &str,
    channel: Channel,
) -> Result<(Arc<str>, Opened), DocError> {
    // A provider may put its own routing key behind a NUL.
    let path = name.split('\0').next().unwrap_or_default();
    let document = open(hub, path, member, token).await?;
    let name: Arc<str> = name.into();
    let join = Join {
        connection: line.name(channel),
        member: Arc::clone(member),
        token,
        outbox: Arc::clone(&line.outbox),
        channel,
        wire: Wire::Hocuspocus(Arc::clone(&name)),
    };
    document.join(join).await?;
    line.documents.lock().insert(channel, document.clone());
    Ok((name, Opened { document, channel, token }))
}
