//! A broadcaster without documents, as one writes it first with axum: what a connection sends goes to all others of the
//! same path. What the transport alone costs.

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

/// Frames that may wait; who is further behind loses some, and the run fails.
const WAITING: usize = 64 * 1024;

type Room = broadcast::Sender<(u64, Bytes)>;

#[derive(Clone, Default)]
struct Rooms {
    by_path: Arc<Mutex<HashMap<String, Room>>>,
    next: Arc<AtomicU64>,
    batched: bool,
}

pub(crate) async fn serve(port: u16, batched: bool) {
    let open = async |State(rooms): State<Rooms>, Path(doc): Path<String>, upgrade: WebSocketUpgrade| {
        upgrade.read_buffer_size(4096).on_upgrade(move |socket| talk(rooms, doc, socket))
    };
    let app = Router::new().route("/{*doc}", get(open)).with_state(Rooms { batched, ..Rooms::default() });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    let listener =
        axum::serve::ListenerExt::tap_io(listener, |stream| stream.set_nodelay(true).expect("TCP"));
    axum::serve(listener, app).await.expect("serves");
}

async fn talk(rooms: Rooms, doc: String, socket: WebSocket) {
    let own = rooms.next.fetch_add(1, Ordering::Relaxed);
    let room =
        rooms.by_path.lock().expect("no panic").entry(doc).or_insert_with(|| Room::new(WAITING)).clone();
    let mut hear = room.subscribe();
    let (mut sink, mut stream) = socket.split();
    let write = async {
        while let Ok((from, frame)) = hear.recv().await {
            if from != own && sink.feed(Message::Binary(frame)).await.is_err() {
                return;
            }
            while let Some((from, frame)) = rooms.batched.then(|| hear.try_recv().ok()).flatten() {
                if from != own && sink.feed(Message::Binary(frame)).await.is_err() {
                    return;
                }
            }
            if sink.flush().await.is_err() {
                return;
            }
        }
    };
    let read = async {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Binary(frame) = message {
                let _ = room.send((own, frame));
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}
