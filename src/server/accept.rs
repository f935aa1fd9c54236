//! Takes connections and serves them until perch stops.
//!
//! `axum::serve` has no bound on connections, no time limit on request heads, no TLS, and waits without end for idle
//! connections when it stops; so this speaks to hyper itself.

use super::tls::Tls;
use crate::base::Tasks;
use crate::http::{Inflow, Peer};
use axum::Router;
use axum::body::Body;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::{Request, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;
use tower_http::timeout::TimeoutBody;
use tracing::{debug, warn};

/// A TLS handshake may take this long.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Requests under way when perch stops get this long; document sockets are told to come back at once.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// A request's body may stop for this long.
const BODY_SILENT_FOR: Duration = Duration::from_secs(30);
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 100;

/// How connections are served.
pub(super) struct Door {
    pub(super) app: Router,
    pub(super) tls: Option<Tls>,
    /// A connection that sends no whole request head for this long is closed.
    pub(super) idle: Duration,
    /// Past it, new connections wait in the kernel's queue.
    pub(super) max_connections: usize,
    pub(super) tasks: Tasks,
}

/// Serves all that come until perch stops.
pub(super) async fn serve(listener: TcpListener, door: Door) {
    let door = Arc::new(door);
    let stop = door.tasks.stopping().clone();
    let slots = Arc::new(Semaphore::new(door.max_connections));
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, address)) => {
                // Keystrokes are small; waiting to gather them costs tens of milliseconds.
                let _ = stream.set_nodelay(true);
                let door_of_one = Arc::clone(&door);
                door.tasks.spawn(async move { door_of_one.serve(stream, address, slot).await });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, "can't take connections; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

impl Door {
    async fn serve(&self, stream: TcpStream, address: SocketAddr, slot: Option<OwnedSemaphorePermit>) {
        let peer = Peer { address: address.ip().to_canonical(), is_tls: self.tls.is_some() };
        metrics::gauge!("perch_connections").increment(1);
        let inflow = Inflow::default();
        let stream = Held { stream, inflow: inflow.clone(), _slot: slot };
        let Some(tls) = &self.tls else {
            return self.serve_http1(stream, peer, inflow).await;
        };
        let stop = self.tasks.stopping();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_WITHIN, tls.acceptor().accept(stream)) => shaken,
            () = stop.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.serve_http2(stream, peer, inflow).await;
            }
            Ok(Ok(stream)) => self.serve_http1(stream, peer, inflow).await,
            Ok(Err(error)) => debug!(%address, %error, "TLS handshake failed"),
            Err(_) => debug!(%address, "TLS handshake took too long"),
        }
    }

    async fn serve_http1(&self, stream: impl Stream, peer: Peer, inflow: Inflow) {
        let app = self.app.clone();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answer(app.clone(), request, peer, inflow.clone())),
            )
            .with_upgrades();
        self.finish(connection, http1::UpgradeableConnection::graceful_shutdown, peer).await;
    }

    async fn serve_http2(&self, stream: impl Stream, peer: Peer, inflow: Inflow) {
        let app = self.app.clone();
        let connection = http2::Builder::new(Spawn(self.tasks.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(self.idle)
            .max_concurrent_streams(STREAMS)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answer(app.clone(), request, peer, inflow.clone())),
            );
        self.finish(connection, http2::Connection::graceful_shutdown, peer).await;
    }

    /// Runs a connection to its end; when perch stops, to that of the requests under way.
    async fn finish<C>(&self, connection: C, end_in_order: impl FnOnce(Pin<&mut C>), peer: Peer)
    where
        C: Future<Output = Result<(), hyper::Error>>,
    {
        let mut connection = pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.tasks.stopping().cancelled() => {
                end_in_order(connection.as_mut());
                tokio::time::timeout(FINISH_WITHIN, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = outcome {
            debug!(remote = %peer.address, %error, "a connection ended");
        }
    }
}

/// A router is ready at any time, so it is called without being asked.
fn answer(
    mut app: Router,
    mut request: Request<Incoming>,
    peer: Peer,
    inflow: Inflow,
) -> impl Future<Output = Result<axum::response::Response, std::convert::Infallible>> {
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(inflow);
    // A body that is known to be empty stays so: wrapped, it would be passed on to previews as one of unknown length.
    app.call(request.map(|body| {
        let is_empty = body.is_end_stream();
        if is_empty { Body::empty() } else { Body::new(TimeoutBody::new(BODY_SILENT_FOR, body)) }
    }))
}

/// Runs the streams of an HTTP/2 connection as tasks that shutdown waits for.
#[derive(Clone)]
struct Spawn(Tasks);

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// What HTTP is spoken over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A stream that gives its place back when it is dropped, also after it was upgraded to a document socket.
struct Held {
    stream: TcpStream,
    inflow: Inflow,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        metrics::gauge!("perch_connections").decrement(1);
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(room) = ready!(self.inflow.poll_room(context)) else {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        };
        let room = room.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.inflow.took(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
