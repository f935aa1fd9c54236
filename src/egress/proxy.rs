//! The proxy of one branch: `CONNECT`, and requests for `http://…`.

use super::relay::{exchange, tunnel, without_hop_by_hop};
use super::rules::{Refusal, Rules};
use super::target::Target;
use crate::base::Tasks;
use axum::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutBody;

/// Connections of one branch at once; past it 503.
pub const CONNECTIONS: usize = 256;
/// Connections past that which still get their 503; more are closed at once.
const REFUSED: usize = 32;
/// How long one of those may take to ask.
const REFUSE_WITHIN: Duration = Duration::from_secs(5);
/// A connection, request or tunnel over which nothing comes for this long is closed.
pub const IDLE: Duration = Duration::from_secs(600);
/// All addresses of a target are tried within this.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD: usize = 64 * 1024;

type Answer = Response<Either<Full<Bytes>, TimeoutBody<Incoming>>>;

struct Proxy {
    rules: Arc<Rules>,
    tasks: Tasks,
    stop: CancellationToken,
}

/// Serves the listener without end; its connections end at `stop`.
pub(super) async fn serve(listener: TcpListener, rules: Arc<Rules>, tasks: Tasks, stop: CancellationToken) {
    let proxy = Arc::new(Proxy { rules, tasks, stop });
    let slots = Arc::new(Semaphore::new(CONNECTIONS + REFUSED));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors left, most likely; others may give some back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let is_full = slots.available_permits() < REFUSED;
        let (one, stop) = (Arc::clone(&proxy), proxy.stop.clone());
        proxy.tasks.spawn(async move {
            stop.run_until_cancelled(async {
                if is_full {
                    let _ = tokio::time::timeout(REFUSE_WITHIN, one.refuse(stream)).await;
                } else {
                    one.connection(stream, Arc::new(slot)).await;
                }
            })
            .await;
        });
    }
}

impl Proxy {
    async fn connection(self: Arc<Self>, stream: TcpStream, slot: Arc<OwnedSemaphorePermit>) {
        let answer = |request| {
            let (this, slot) = (Arc::clone(&self), Arc::clone(&slot));
            async move { Ok::<_, Infallible>(this.answer(request, slot).await) }
        };
        // How a client's connection ends is its own affair.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .with_upgrades()
            .await;
    }

    async fn refuse(&self, stream: TcpStream) {
        let answer = async |_| {
            let text =
                format!("this branch has {CONNECTIONS} connections to hosts outside; close some first");
            let mut answer = say(StatusCode::SERVICE_UNAVAILABLE, &text);
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok::<_, Infallible>(answer)
        };
        let _ = http1::Builder::new()
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .await;
    }

    async fn answer(&self, request: Request<Incoming>, slot: Arc<OwnedSemaphorePermit>) -> Answer {
        let outcome = if request.method() == Method::CONNECT {
            self.connect(request, slot).await
        } else {
            self.forward(request, slot).await
        };
        outcome.unwrap_or_else(|answer| answer)
    }

    /// Opens a tunnel; what goes through it is not looked at.
    async fn connect(
        &self,
        request: Request<Incoming>,
        slot: Arc<OwnedSemaphorePermit>,
    ) -> Result<Answer, Answer> {
        let wanted = request.uri().authority().and_then(|authority| target(authority, None));
        let wanted = wanted.ok_or_else(|| say(StatusCode::BAD_REQUEST, "CONNECT names a host and a port"))?;
        let stream = self.reach(&wanted).await?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(async {
                if let Ok(client) = hyper::upgrade::on(request).await {
                    tunnel(TokioIo::new(client), stream, IDLE).await;
                }
            })
            .await;
            drop(slot);
        });
        Ok(Response::new(Either::Left(Full::default())))
    }

    /// Passes one request on, over a connection of its own: the next one of the same client is judged anew.
    async fn forward(
        &self,
        request: Request<Incoming>,
        slot: Arc<OwnedSemaphorePermit>,
    ) -> Result<Answer, Answer> {
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().filter(|_| head.uri.scheme() == Some(&Scheme::HTTP));
        let wanted = authority.and_then(|authority| target(authority, Some(NonZeroU16::new(80)?)));
        let (Some(authority), Some(wanted)) = (authority, wanted) else {
            let text = "this is perch's proxy to hosts outside: ask it for http://… or CONNECT";
            return Err(say(StatusCode::BAD_REQUEST, text));
        };
        // What the client writes as Host may differ from what was judged (RFC 9112 §3.2.2).
        let host = authority.as_str().rsplit('@').next().and_then(|host| HeaderValue::from_str(host).ok());
        let host = host.ok_or_else(|| say(StatusCode::BAD_REQUEST, "the host is malformed"))?;
        let stream = self.reach(&wanted).await?;
        let path = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        head.uri = Uri::from(path);
        head.version = Version::HTTP_11;
        without_hop_by_hop(&mut head.headers);
        head.headers.insert(header::HOST, host);
        // A body that is known to be empty stays so; wrapped, it would be sent as one of unknown length.
        let body = if body.is_end_stream() {
            Either::Left(Empty::<Bytes>::new())
        } else {
            Either::Right(TimeoutBody::new(IDLE, body))
        };
        let request = Request::from_parts(head, body);
        let answered = exchange(stream, request, &self.tasks, self.stop.clone(), slot);
        let answer = match tokio::time::timeout(IDLE, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                return Err(say(StatusCode::BAD_GATEWAY, &format!("{wanted} gave no answer in HTTP")));
            }
            Err(_) => return Err(say(StatusCode::GATEWAY_TIMEOUT, &format!("{wanted} did not answer"))),
        };
        let (mut head, body) = answer.into_parts();
        without_hop_by_hop(&mut head.headers);
        Ok(Response::from_parts(head, Either::Right(TimeoutBody::new(IDLE, body))))
    }

    /// A connection to one of the addresses that were judged.
    async fn reach(&self, wanted: &Target) -> Result<TcpStream, Answer> {
        let addresses = self.rules.addresses(wanted).await.map_err(|refusal| {
            let status = match refusal {
                Refusal::Forbidden(_) | Refusal::Never(_) => StatusCode::FORBIDDEN,
                Refusal::Unresolved(_) | Refusal::Blind(_) => StatusCode::BAD_GATEWAY,
            };
            say(status, &refusal.to_string())
        })?;
        let stream = connect(&addresses).await.map_err(|error| {
            let is_late = error.kind() == io::ErrorKind::TimedOut;
            let status = if is_late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
            say(status, &format!("{wanted} can't be reached: {error}"))
        })?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Tries addresses in their order, each in its share of the time.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let share = CONNECT_WITHIN / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

fn target(authority: &Authority, default_port: Option<NonZeroU16>) -> Option<Target> {
    let port = match authority.port() {
        Some(port) => NonZeroU16::new(port.as_u16())?,
        None => default_port?,
    };
    Target::new(authority.host(), port)
}

fn say(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(format!("perch: {text}\n"))));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{Options, open};
    use crate::sandbox::{Network, PROXY, Reach};
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener as Listener, TcpStream as Stream};

    /// A service of the host: answers each request with its head, and bytes that are no request with themselves.
    fn service(address: &str) -> SocketAddr {
        let listener = Listener::bind(address).unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve_one(stream));
            }
        });
        at
    }

    fn serve_one(mut stream: Stream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while lines.read_line(&mut head).is_ok_and(|read| read > 0) {
            if head.ends_with("\r\n\r\n") {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: {}\r\n\r\n{head}",
                    head.len()
                );
                stream.write_all(answer.as_bytes()).unwrap();
                head.clear();
            } else if head.starts_with("echo") {
                stream.write_all(head.as_bytes()).unwrap();
                head.clear();
            }
        }
    }

    /// A client inside a branch, on one connection to the proxy.
    struct Client(BufReader<Stream>);

    impl Client {
        fn new() -> Self {
            let stream = Stream::connect(PROXY).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Self(BufReader::new(stream))
        }

        fn send(&mut self, text: &str) {
            self.0.get_mut().write_all(text.as_bytes()).unwrap();
        }

        /// Status, head and body of the next answer.
        fn answer(&mut self) -> (u16, String, String) {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(self.0.read_line(&mut head).unwrap() > 0, "{head}");
            }
            let head = head.to_lowercase();
            let length = head
                .split_once("content-length: ")
                .map_or(0, |(_, rest)| rest.split_once('\r').unwrap().0.parse().unwrap());
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).unwrap();
            (head[9..12].parse().unwrap(), head, String::from_utf8(body).unwrap())
        }

        fn get(&mut self, target: impl std::fmt::Display) -> (u16, String, String) {
            self.send(&format!(
                "GET http://u:p@{target}/path?q HTTP/1.1\r\nHost: elsewhere\r\nProxy-Authorization: x\r\nAccept: */*\r\n\r\n"
            ));
            self.answer()
        }

        fn connect(&mut self, target: impl std::fmt::Display) -> (u16, String, String) {
            self.send(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
            self.answer()
        }
    }

    struct Branch {
        network: Network,
        stop: CancellationToken,
        tasks: Tasks,
    }

    async fn branch(allow: &[SocketAddr], never: &[SocketAddr]) -> Branch {
        let targets = |addresses: &[SocketAddr]| addresses.iter().copied().map(Target::from).collect();
        let options = Options { reach: Reach::Outbound, allow: targets(allow), never: targets(never) };
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        let network = open(&options, &tasks, stop.clone()).await.unwrap();
        Branch { network, stop, tasks }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_branch_reaches_what_is_allowed_and_nothing_else_of_the_host() {
        let (open, closed) = (service("127.0.0.1:0"), service("127.0.0.1:0"));
        let (everywhere, perch) = (service("0.0.0.0:0"), service("127.0.0.1:0"));
        let branch = branch(&[open, perch], &[perch]).await;
        let own = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        // The address of the machine's first way out, where it has one.
        let own = own.connect("1.1.1.1:1").ok().and_then(|()| own.local_addr().ok());
        branch
            .network
            .within(move || {
                let mut client = Client::new();
                let (status, head, seen) = client.get(open);
                assert_eq!(status, 200, "{seen}");
                assert!(!head.contains("x-hop"), "{head}");
                assert!(seen.starts_with("GET /path?q HTTP/1.1\r\n"), "{seen}");
                assert!(
                    seen.contains(&format!("host: {open}\r\n")) && seen.contains("accept: */*"),
                    "{seen}"
                );
                assert!(!seen.contains("elsewhere") && !seen.contains("proxy-"), "{seen}");
                // The same connection, each request by itself.
                let mut refused =
                    vec![closed, perch, everywhere, SocketAddr::from(([0, 0, 0, 0], everywhere.port()))];
                refused.extend(own.map(|own| SocketAddr::new(own.ip(), everywhere.port())));
                refused.extend(own.map(|own| SocketAddr::new(own.ip(), perch.port())));
                refused.extend(
                    ["10.0.0.1:80", "169.254.169.254:80", "[::1]:80"]
                        .map(|text| text.parse::<SocketAddr>().unwrap()),
                );
                for target in refused {
                    let (status, _, said) = client.get(target);
                    assert_eq!(status, 403, "{target}");
                    assert!(said.contains("perch"), "{said}");
                    assert_eq!(Client::new().connect(target).0, 403, "{target}");
                }
                let (_, _, said) = client.get(closed);
                assert!(said.contains(&format!("--session-network-allow {closed}")), "{said}");
                let (_, _, said) = client.get(perch);
                assert!(said.contains("never") && !said.contains("--session"), "{said}");
                assert_eq!(client.get(open).0, 200);
                assert_eq!(client.get("no-such-name.invalid").0, 502);
                // A tunnel.
                assert_eq!(client.connect(open).0, 200);
                client.send("echo 1\n");
                let mut line = String::new();
                client.0.read_line(&mut line).unwrap();
                assert_eq!(line, "echo 1\n");
                // Without the proxy there is no way out at all.
                for direct in [Some(open), own.map(|own| SocketAddr::new(own.ip(), everywhere.port()))] {
                    let Some(direct) = direct else { continue };
                    assert!(Stream::connect_timeout(&direct, Duration::from_secs(2)).is_err(), "{direct}");
                }
                // What is no request to a proxy.
                for wrong in [
                    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                    "GET https://1.1.1.1/ HTTP/1.1\r\nHost: a\r\n\r\n",
                    "CONNECT 1.1.1.1 HTTP/1.1\r\n\r\n",
                    "CONNECT 1.1.1.1:0 HTTP/1.1\r\n\r\n",
                ] {
                    let mut client = Client::new();
                    client.send(wrong);
                    assert_eq!(client.answer().0, 400, "{wrong}");
                }
                let mut client = Client::new();
                client.send(&format!("GET http://{open}/ HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(2 * HEAD)));
                assert_eq!(client.answer().0, 431);
            })
            .await;
        for address in [everywhere, perch, closed] {
            assert!(Stream::connect(address).is_ok(), "{address} does listen");
        }
        branch.stop.cancel();
        assert!(branch.tasks.shutdown(Duration::from_secs(5)).await, "its connections end with the branch");
        let is_gone = branch.network.within(|| Stream::connect(PROXY).is_err()).await;
        assert!(is_gone);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_of_a_branch_are_bounded_and_others_are_told() {
        let open = service("127.0.0.1:0");
        let branch = branch(&[open], &[]).await;
        let tunnels = move || {
            (0..CONNECTIONS).map(move |_| {
                let mut client = Client::new();
                assert_eq!(client.connect(open).0, 200);
                client
            })
        };
        let mut held: Vec<Client> = branch.network.within(move || tunnels().collect()).await;
        let past = move || {
            let mut client = Client::new();
            client.get(open)
        };
        let (status, head, said) = branch.network.within(past).await;
        assert_eq!(status, 503, "{said}");
        assert!(head.contains("connection: close"), "{head}");
        let other = self::branch(&[open], &[]).await;
        assert_eq!(other.network.within(past).await.0, 200, "another branch has its own");
        held.pop();
        let mut tries = 0;
        while branch.network.within(past).await.0 != 200 {
            tries += 1;
            assert!(tries < 200, "a place came free");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn without_outbound_there_is_no_proxy() {
        let options = Options { reach: Reach::None, ..Options::default() };
        let network = open(&options, &Tasks::new(), CancellationToken::new()).await.unwrap();
        assert!(network.proxy().is_none() && crate::egress::environment(&network).is_empty());
        assert!(network.within(|| Stream::connect(PROXY).is_err()).await);
        let outbound = branch(&[], &[]).await;
        let variables = crate::egress::environment(&outbound.network);
        assert!(variables.contains(&("https_proxy", "http://127.0.0.1:3128".to_owned())), "{variables:?}");
    }
}
