//! The SDK's socket: its frames, who may ask what, in which order requests are worked on and answers go out.
//!
//! | file | idea |
//! |---|---|
//! | `codec.rs` | frames: MessagePack, looked through before anything is built of it |
//! | `fault.rs` | errors, with the protocol's numbers |
//! | `client.rs` | what a method may ask of a client and do with it |
//! | `room.rs` | the clients of one branch, and the branch's events for them |
//! | `outbound.rs` | frames on their way to a client, and the barrier |
//! | `turns.rs` | which request waits for which |
//! | `dispatch.rs` | from a frame to a method and its answer |
//! | `kept.rs` | what methods keep with a client or a branch |
//!
//! The methods themselves are in `compat/methods`.

mod client;
mod codec;
mod dispatch;
mod fault;
mod kept;
mod outbound;
mod room;
mod turns;

pub(super) use client::Client;
pub use codec::{MAX_DEPTH, MAX_VALUES, Malformed, Request, request};
pub(super) use codec::{encode, params as parse};
pub(super) use dispatch::{Answer, Answered, Method};
pub(super) use fault::{Fault, code, errno};
pub(super) use room::{Room, Rooms};
pub(super) use turns::Order;

use super::Compat;
use super::seats::{self, Seated};
use crate::base::BranchId;
use crate::http::{
    ApiError, CLOSE_WITHIN, CloseFrame, Inbox, Message, PING_EVERY, SILENT_FOR, Sink, Upgrade,
};
use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::SinkExt;
use outbound::{Frame, Next, Outbound};
use secrecy::SecretString;
use serde::Deserialize;
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, info};

/// Bytes of one frame: a file of 64 MiB, and some room. A longer one ends the socket with 1009.
pub(super) const MAX_FRAME: usize = 64 * 1024 * 1024 + 64 * 1024;

pub(super) fn routes() -> Router<Compat> {
    // The SDK appends `/?token=…` at first and `?token=…` later.
    Router::new().route("/agent/{branch}", get(agent)).route("/agent/{branch}/", get(agent))
}

#[derive(Deserialize)]
struct Token {
    token: Option<SecretString>,
}

/// The socket of a sandbox. Whoever may not come in hears it before the upgrade: 401, 404 or 503.
async fn agent(
    State(compat): State<Compat>,
    Path(branch): Path<String>,
    Query(query): Query<Token>,
    headers: HeaderMap,
    upgrade: Result<Upgrade, WebSocketUpgradeRejection>,
) -> Response {
    match open(compat, &branch, query.token, &headers).await {
        Ok(opened) => match upgrade {
            Ok(upgrade) => {
                let span = Span::current();
                upgrade.run(MAX_FRAME, move |sink, inbox| run(opened, sink, inbox).instrument(span))
            }
            Err(error) => error.into_response(),
        },
        Err(error) => error.into_response(),
    }
}

/// A client that has come in and not spoken yet.
struct Opened {
    client: Arc<Client>,
    // Dropped in this order: it leaves the room, then hibernation need not wait for it.
    _entered: room::Entered,
    seated: Seated,
}

async fn open(
    compat: Compat,
    branch: &str,
    token: Option<SecretString>,
    headers: &HeaderMap,
) -> Result<Opened, ApiError> {
    let none = || ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such sandbox");
    let branch: BranchId = branch.parse().map_err(|_| none())?;
    let token = token.ok_or_else(ApiError::unauthorized)?;
    let base_url = compat.app.site.base_url(headers)?;
    let seated = seats::sit(&compat, &branch, &token).await?;
    let (seat, on) = (&seated.seat, &seated.on);
    let room = compat.rooms.of(&on.hub, &compat.app.tasks);
    let row = on.hub.session_now(&seat.session).await?.ok_or_else(ApiError::unauthorized)?;
    let client = Arc::new(Client {
        id: uuid::Uuid::now_v7().simple().to_string(),
        compat,
        life: Arc::clone(&seated.life),
        room: Arc::clone(&room),
        hub: Arc::clone(&on.hub),
        member: Arc::clone(&seated.present.member),
        row,
        right: seat.right,
        base_url,
        out: Outbound::default(),
        turns: turns::Turns::default(),
        under_way: dispatch::UnderWay::default(),
        app_id: OnceLock::new(),
        kept: kept::Kept::default(),
        gone: CancellationToken::new(),
    });
    let entered = room.enter(&client, &on.hub);
    let entered = entered.map_err(|full| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_clients", full.to_string())
    })?;
    Ok(Opened { client, _entered: entered, seated })
}

/// Runs a client's socket until it ends.
async fn run(mut opened: Opened, sink: Sink, mut inbox: Inbox) {
    let client = Arc::clone(&opened.client);
    let tasks = client.app().tasks.clone();
    let open = metrics::gauge!("perch_sockets", "protocol" => "sdk");
    open.increment(1);
    info!(protocol = "sdk", session = %client.session(), "socket opened");
    inbox.admit(client.hub.branch());
    let read = read_in(&client, &mut inbox);
    let write = write_out(&client.out, sink);
    tokio::pin!(write, read);
    let mut is_reading = true;
    let mut deadline = Instant::now();
    let end = |is_reading: &mut bool, deadline: &mut Instant| {
        *is_reading = false;
        *deadline = Instant::now() + CLOSE_WITHIN;
    };
    let closed = loop {
        tokio::select! {
            closed = &mut write => break closed,
            () = &mut read, if is_reading => {
                client.close(1000, "");
                end(&mut is_reading, &mut deadline);
            }
            () = tokio::time::sleep_until(deadline), if !is_reading => break None,
            () = client.life.going().cancelled(), if is_reading => {
                client.dismiss();
                end(&mut is_reading, &mut deadline);
            }
            () = tasks.stopping().cancelled(), if is_reading => {
                client.close(1013, "perch is stopping; come back");
                end(&mut is_reading, &mut deadline);
            }
            welcome = opened.seated.present.still_welcome(), if is_reading => if !welcome {
                client.close(4403, "the session was ended");
                end(&mut is_reading, &mut deadline);
            }
        }
    };
    open.decrement(1);
    match closed {
        Some((code, reason)) => info!(protocol = "sdk", code, reason, "socket closed"),
        None => info!(protocol = "sdk", "socket closed: the other end is gone"),
    }
}

/// Reads until the socket ends, or nothing came for too long although it was asked for a sign of life.
async fn read_in(client: &Arc<Client>, inbox: &mut Inbox) {
    loop {
        inbox.handed_on();
        let Ok(()) = tokio::time::timeout(SILENT_FOR, client.out.room_to_read()).await else { return };
        let Ok(message) = inbox.next().await else { return };
        match message {
            Message::Binary(frame) => dispatch::take(client, frame).await,
            // A heartbeat: an empty text, which wants any frame back. Nothing else comes as text.
            Message::Text(_) => client.out.alive(),
            Message::Pong(payload) => client.out.pong(&payload),
            Message::Ping(_) => {}
            Message::Close(_) | Message::Frame(_) => return,
        }
    }
}

/// Writes what is to go out. Returns why the socket was closed, or nothing when the other end is gone.
async fn write_out(out: &Outbound, mut sink: Sink) -> Option<(u16, &'static str)> {
    let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = out.next() => next,
            _ = ping.tick() => {
                sink.send(Message::Ping(Bytes::new())).await.ok()?;
                continue;
            }
        };
        match next {
            Next::Frames(frames) => {
                for frame in frames {
                    let message = match frame {
                        Frame::Message(bytes) => Message::Binary(bytes),
                        Frame::Ping(number) => Message::Ping(number.to_be_bytes().to_vec().into()),
                        Frame::Alive => Message::Text("".into()),
                    };
                    sink.feed(message).await.ok()?;
                }
                sink.flush().await.ok()?;
            }
            Next::Close(code, reason) => {
                let frame = CloseFrame { code: code.into(), reason: reason.into() };
                let _ = sink.send(Message::Close(Some(frame))).await;
                let _ = sink.close().await;
                return Some((code, reason));
            }
        }
    }
}
