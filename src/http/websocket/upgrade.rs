//! From a request to a socket's two halves.

use super::pieces::{Flow, Pieces};
use super::{Budgets, Inbox};
use crate::base::Tasks;
use crate::http::AppState;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::SplitSink;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// tungstenite keeps a read buffer of this size per connection; its default is 128 KiB.
const READ_BUFFER: usize = 4 * 1024;

pub(super) type WebSocket = WebSocketStream<Pieces<TokioIo<Upgraded>>>;

/// The half of a socket that is written to.
pub(crate) type Sink = SplitSink<WebSocket, Message>;

/// A request for a socket, looked through by axum. axum's own socket hands frames on in one piece each.
#[derive(Debug)]
pub(crate) struct Upgrade {
    asked: WebSocketUpgrade,
    stream: OnUpgrade,
    accept: String,
    budgets: Budgets,
    tasks: Tasks,
}

impl<S> FromRequestParts<S> for Upgrade
where
    S: Send + Sync,
    AppState: FromRef<S>,
{
    type Rejection = WebSocketUpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let stream = parts.extensions.get::<OnUpgrade>().cloned();
        let asked = WebSocketUpgrade::from_request_parts(parts, state).await?;
        let app = AppState::from_ref(state);
        Ok(Self {
            asked,
            stream: stream.expect("axum has found one"),
            accept: accept(&parts.headers),
            budgets: app.site.messages.clone(),
            tasks: app.tasks.clone(),
        })
    }
}

fn accept(headers: &HeaderMap) -> String {
    derive_accept_key(headers.get(header::SEC_WEBSOCKET_KEY).map_or(&[], HeaderValue::as_bytes))
}

impl Upgrade {
    /// Of the subprotocols that the client offers, this one is taken.
    pub(crate) fn protocol(self, protocol: &'static str) -> Self {
        Self { asked: self.asked.protocols([protocol]), ..self }
    }

    /// Answers, and then runs the socket in a task of its own, which shutdown waits for. Frames and messages have at most
    /// `max_frame` bytes.
    pub(crate) fn run<F>(
        self,
        max_frame: usize,
        socket: impl FnOnce(Sink, Inbox) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        let Self { asked, stream, accept, budgets, tasks } = self;
        tasks.spawn(async move {
            // The other end is gone already.
            let Ok(upgraded) = stream.await else { return };
            let flow = Flow::new();
            let pieces = Pieces::new(TokioIo::new(upgraded), flow.clone(), max_frame);
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER)
                .write_buffer_size(READ_BUFFER)
                .max_message_size(Some(max_frame))
                .max_frame_size(Some(max_frame));
            let whole = WebSocketStream::from_raw_socket(pieces, Role::Server, Some(config)).await;
            let (sink, stream) = whole.split();
            socket(sink, Inbox::new(stream, flow, budgets)).await;
        });
        let headers = [
            (header::CONNECTION, "upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
        ];
        let mut answer = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
        if let Some(protocol) = asked.selected_protocol() {
            answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        answer
    }
}
