//! Takes connections and serves them until perch stops.
//!
//! `axum::serve` has no bound on connections, no time limit on request heads, no TLS, and waits without end for idle
//! connections when it stops; so this speaks to hyper itself.

use super::tls::Tls;
use crate::base::Tasks;
use crate::http::{Peer, WriteHalf};
use axum::Router;
use axum::body::Body;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::{Request, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
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

/// Connections that wait to be taken: all clients of a server that was started again come at once, and one that finds no
/// place tries again only after a second. The kernel's own bound (`net.core.somaxconn`) holds as well.
const BACKLOG: u32 = 4_096;

/// Listens on an address.
///
/// # Errors
/// As the kernel says.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that is started again finds its port, though connections of before still fade away.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How connections are served.
pub(super) struct Door {
    pub(super) app: Router,
    pub(super) tls: Option<Tls>,
    /// A connection that sends no whole request head for this long is closed.
    pub(super) idle: Duration,
    /// Past it, new connections wait in the kernel's queue.
    pub(super) max_connections: usize,
    pub(super) per_address: PerAddress,
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
                let Ok(place) = door.per_address.take(address.ip().to_canonical()) else {
                    metrics::counter!("perch_connections_refused_total").increment(1);
                    debug!(%address, "too many connections from this address");
                    continue;
                };
                let slot = Slot { _of_all: slot, _of_address: place };
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

/// A connection's place among all and among those of its address; given back when it is dropped.
struct Slot {
    _of_all: Option<OwnedSemaphorePermit>,
    _of_address: Option<Place>,
}

/// How many connections each address has.
#[derive(Clone)]
pub(super) struct PerAddress {
    max: usize,
    trusted: Arc<[ipnet::IpNet]>,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

struct Place(IpAddr, PerAddress);

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.1.open.lock();
        if let Some(count) = open.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.0);
            }
        }
    }
}

struct TooMany;

impl PerAddress {
    pub(super) fn new(max: usize, trusted: Vec<ipnet::IpNet>) -> Self {
        Self { max, trusted: trusted.into(), open: Arc::default() }
    }

    /// `None`: this address is not counted, since it may stand for many clients.
    fn take(&self, address: IpAddr) -> Result<Option<Place>, TooMany> {
        if address.is_loopback() || self.trusted.iter().any(|net| net.contains(&address)) {
            return Ok(None);
        }
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if *count >= self.max {
            return Err(TooMany);
        }
        *count += 1;
        drop(open);
        Ok(Some(Place(address, self.clone())))
    }
}

impl Door {
    async fn serve(&self, stream: TcpStream, address: SocketAddr, slot: Slot) {
        let peer = Peer { address: address.ip().to_canonical(), is_tls: self.tls.is_some() };
        metrics::gauge!("perch_connections").increment(1);
        let (read, write) = stream.into_split();
        let write = WriteHalf::new(write);
        let stream = Held { read, write: write.clone(), _slot: slot };
        let Some(tls) = &self.tls else {
            return self.serve_http1(stream, peer, Some(write)).await;
        };
        let stop = self.tasks.stopping();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_WITHIN, tls.acceptor().accept(stream)) => shaken,
            () = stop.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.serve_http2(stream, peer).await;
            }
            // What is written past TLS would be no part of it.
            Ok(Ok(stream)) => self.serve_http1(stream, peer, None).await,
            Ok(Err(error)) => debug!(%address, %error, "TLS handshake failed"),
            Err(_) => debug!(%address, "TLS handshake took too long"),
        }
    }

    async fn serve_http1(&self, stream: impl Stream, peer: Peer, write: Option<WriteHalf>) {
        let app = self.app.clone();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |mut request| {
                    if let Some(write) = &write {
                        request.extensions_mut().insert(write.clone());
                    }
                    answer(app.clone(), request, peer)
                }),
            )
            .with_upgrades();
        self.finish(connection, http1::UpgradeableConnection::graceful_shutdown, peer).await;
    }

    async fn serve_http2(&self, stream: impl Stream, peer: Peer) {
        let app = self.app.clone();
        let connection = http2::Builder::new(Spawn(self.tasks.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(self.idle)
            .max_concurrent_streams(STREAMS)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answer(app.clone(), request, peer)),
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
) -> impl Future<Output = Result<axum::response::Response, std::convert::Infallible>> {
    request.extensions_mut().insert(peer);
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
    read: OwnedReadHalf,
    write: WriteHalf,
    _slot: Slot,
}

impl Drop for Held {
    fn drop(&mut self) {
        metrics::gauge!("perch_connections").decrement(1);
        self.write.end();
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.write.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody takes them yet, and all are through: the second try of one that was turned away would come.
    #[tokio::test]
    async fn who_comes_at_once_has_a_place() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connects = (0..300).map(|_| TcpStream::connect(address));
        let all = futures_util::future::try_join_all(connects);
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), all).await.unwrap().unwrap().len(), 300);
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let per_address = PerAddress::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let stranger = IpAddr::from([1, 2, 3, 4]);
        let held: Vec<_> = (0..2).map(|_| per_address.take(stranger).ok().flatten().unwrap()).collect();
        assert!(per_address.take(stranger).is_err());
        assert!(per_address.take(IpAddr::from([1, 2, 3, 5])).is_ok());
        for free in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 9, 9, 9])] {
            assert!((0..10).all(|_| matches!(per_address.take(free), Ok(None))));
        }
        drop(held);
        assert!(per_address.take(stranger).is_ok(), "places come free");
        assert!(per_address.open.lock().is_empty(), "nothing is kept of who is gone");
    }
}
