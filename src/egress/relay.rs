//! One HTTP exchange over a connection of its own, and bytes both ways.

use crate::base::Tasks;
use axum::http::{HeaderMap, HeaderName, Request, Response, header};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

/// Headers that are of one connection and not of the message (RFC 9110 §7.6.1), and the customary ones beside.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes away what must not be passed on: those headers, and those that `Connection` names.
pub fn without_hop_by_hop(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let named: Vec<_> = lines
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Sends a request over a connection made for it, and gives the answer's head; its body follows while it is read. The
/// connection ends with the exchange, or at `stop`; it keeps `held` until then.
///
/// # Errors
/// When what is at the other end speaks no HTTP/1, or closes before it has answered.
pub async fn exchange<B>(
    stream: TcpStream,
    request: Request<B>,
    tasks: &Tasks,
    stop: CancellationToken,
    held: impl Send + 'static,
) -> Result<Response<Incoming>, hyper::Error>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tasks.spawn(async move {
        // How it ends, the reader of the answer hears.
        let _ = stop.run_until_cancelled(connection.with_upgrades()).await;
        drop(held);
    });
    sender.send_request(request).await
}

/// Carries bytes both ways until both sides have ended, or nothing came from either for `idle` to twice that.
pub(super) async fn tunnel<A, B>(one: A, other: B, idle: Duration)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let is_busy = AtomicBool::new(true);
    let busy = |_: &[u8]| is_busy.store(true, Ordering::Relaxed);
    let (mut one, mut other) = (InspectReader::new(one, busy), InspectReader::new(other, busy));
    let silence = async {
        while is_busy.swap(false, Ordering::Relaxed) {
            tokio::time::sleep(idle).await;
        }
    };
    tokio::select! {
        // A side that broke off ends the tunnel like one that ended.
        _ = copy_bidirectional(&mut one, &mut other) => {}
        () = silence => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[test]
    fn what_is_of_one_connection_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("connection", "te"),
            ("x-private", "a"),
            ("te", "gzip"),
            ("proxy-authorization", "Basic x"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        without_hop_by_hop(&mut headers);
        assert_eq!(
            headers.into_iter().map(|(name, _)| name.unwrap().to_string()).collect::<Vec<_>>(),
            ["accept"]
        );
    }

    #[tokio::test]
    async fn a_tunnel_lives_while_either_side_talks() {
        let ((mut near, one), (mut far, other)) = (duplex(64), duplex(64));
        let idle = Duration::from_millis(300);
        let carried = Tasks::new().spawn(tunnel(one, other, idle));
        for _ in 0..10 {
            // One way alone.
            far.write_all(b"x").await.unwrap();
            assert_eq!(near.read_u8().await.unwrap(), b'x');
            tokio::time::sleep(idle / 3).await;
        }
        assert!(!carried.is_finished());
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0, "it ends by itself");
        carried.await.unwrap();
    }
}
