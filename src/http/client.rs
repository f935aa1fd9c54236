//! Who really asks, and for what address: seen through reverse proxies that are trusted, and through no others.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use std::net::IpAddr;

/// The other end of a connection; put into each request by the listener.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether the connection is TLS.
    pub is_tls: bool,
}

/// The client's address as well as it is known; in each request's extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAddress(pub(super) IpAddr);

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const ID: HeaderName = HeaderName::from_static("x-request-id");

/// Takes what a trusted proxy says and drops what anybody else does. Afterwards `Host` is what the client asked for,
/// `X-Forwarded-Proto` is always there, `http` or `https`, and `X-Request-Id` only if a proxy gave a sound one.
pub(super) fn settle(request: &mut Request, trusted: &[ipnet::IpNet]) {
    let unknown = Peer { address: IpAddr::from([0, 0, 0, 0]), is_tls: false };
    let peer = request.extensions().get::<Peer>().copied().unwrap_or(unknown);
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    // HTTP/2 names the host in its own way.
    let authority = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    let headers = request.headers_mut();
    if let Some(authority) = authority.filter(|_| !headers.contains_key(header::HOST)) {
        headers.insert(header::HOST, authority);
    }
    let mut address = peer.address;
    let mut is_tls = peer.is_tls;
    if is_trusted(&peer.address) {
        address = client_of(headers, peer.address, is_trusted);
        if let Some(proto) = last(headers, &PROTO) {
            is_tls = proto.eq_ignore_ascii_case("https");
        }
        if let Some(host) = last(headers, &HOST).and_then(|host| HeaderValue::from_str(&host).ok()) {
            headers.insert(header::HOST, host);
        }
    } else {
        headers.remove(&ID);
    }
    let is_sound = |id: &HeaderValue| {
        (1..=64).contains(&id.len())
            && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
    };
    if !headers.get(&ID).is_some_and(is_sound) {
        headers.remove(&ID);
    }
    headers.remove(&FOR);
    headers.remove(&HOST);
    headers.insert(PROTO, HeaderValue::from_static(if is_tls { "https" } else { "http" }));
    request.extensions_mut().insert(ClientAddress(address));
}

/// The nearest address that is no trusted proxy: what stands further left anybody may have written.
fn client_of(headers: &HeaderMap, peer: IpAddr, is_trusted: impl Fn(&IpAddr) -> bool) -> IpAddr {
    let mut nearest = peer;
    let lines: Vec<_> = headers.get_all(&FOR).iter().filter_map(|line| line.to_str().ok()).collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        nearest = address.to_canonical();
        if !is_trusted(&nearest) {
            break;
        }
    }
    nearest
}

/// What the nearest proxy wrote.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    line.rsplit(',').next().map(|part| part.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn settled(peer: &str, headers: &[(&'static str, &str)]) -> (Request, IpAddr) {
        let mut request = Request::new(Body::empty());
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        request.extensions_mut().insert(Peer { address: peer.parse().unwrap(), is_tls: false });
        settle(&mut request, &["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let address = request.extensions().get::<ClientAddress>().unwrap().0;
        (request, address)
    }

    const SAID: [(&str, &str); 5] = [
        ("host", "inner:80"),
        ("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "code.example.org"),
        ("x-request-id", "from-proxy.1"),
    ];

    #[test]
    fn a_trusted_proxy_is_believed_up_to_the_first_stranger() {
        let (request, address) = settled("10.1.1.1", &SAID);
        assert_eq!(address, IpAddr::from([1, 2, 3, 4]));
        assert_eq!(request.headers()["host"], "code.example.org");
        assert_eq!(request.headers()["x-forwarded-proto"], "https");
        assert_eq!(request.headers()["x-request-id"], "from-proxy.1");
    }

    #[test]
    fn anybody_else_is_not_believed() {
        let (request, address) = settled("1.1.1.1", &SAID);
        assert_eq!(address, IpAddr::from([1, 1, 1, 1]));
        assert_eq!(request.headers()["host"], "inner:80");
        assert_eq!(request.headers()["x-forwarded-proto"], "http");
        assert!(!request.headers().contains_key("x-request-id"));
        assert!(!request.headers().contains_key("x-forwarded-for"));
    }

    #[test]
    fn an_unsound_request_id_is_dropped() {
        let (request, _) = settled("10.1.1.1", &[("x-request-id", "a b")]);
        assert!(!request.headers().contains_key("x-request-id"));
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [("x-forwarded-for", "2.2.2.2"), ("x-forwarded-for", "10.0.0.3")];
        assert_eq!(settled("10.1.1.1", &lines).1, IpAddr::from([2, 2, 2, 2]));
    }
}
