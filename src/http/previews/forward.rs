//! One request passed on to what listens in the branch, its answer back as it comes; after an upgrade bytes both ways.

use super::pass::{Admitted, still_holds, without_credentials};
use super::{Place, page};
use crate::branch::Visit;
use crate::egress::{exchange, without_hop_by_hop};
use crate::http::AppState;
use crate::http::client::ClientAddress;
use crate::http::present::Present;
use crate::sandbox::ConnectError;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

/// A development server may build for long before it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

pub(super) async fn forward(
    state: &AppState,
    place: &Place,
    admitted: Admitted,
    mut request: Request,
) -> Response {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return page(StatusCode::METHOD_NOT_ALLOWED, "This method is not passed on", "");
    }
    let (visit, stream) = match reach(state, place).await {
        Ok(reached) => reached,
        Err(answer) => return *answer,
    };
    let wanted = upgrade(request.headers()).filter(|_| request.version() == Version::HTTP_11);
    let client = hyper::upgrade::on(&mut request);
    let stop = state.tasks.stopping().clone();
    let onward = onward(state, request, wanted.as_ref());
    let sent = exchange(stream, onward, &state.tasks, stop, Arc::clone(&visit));
    let mut answer = match tokio::time::timeout(ANSWER_WITHIN, sent).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            let text = format!("What listens on port {} gave no answer in HTTP/1.", place.port);
            return page(StatusCode::BAD_GATEWAY, "No answer", &text);
        }
        Err(_) => return page(StatusCode::GATEWAY_TIMEOUT, "No answer within five minutes", ""),
    };
    let chosen = upgrade(answer.headers());
    without_hop_by_hop(answer.headers_mut());
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(_), Some(chosen)) = (wanted, chosen) else {
            return page(StatusCode::BAD_GATEWAY, "An upgrade that nobody asked for", "");
        };
        let served = hyper::upgrade::on(&mut answer);
        if let Err(refused) = join(state, visit, admitted, client, served).await {
            return refused;
        }
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        answer.headers_mut().insert(header::UPGRADE, chosen);
    } else if !matches!(admitted, Admitted::Anybody) {
        keep_private(answer.headers_mut());
    }
    answer.map(Body::new)
}

/// A connection to the port, and the branch that is kept open meanwhile.
async fn reach(state: &AppState, place: &Place) -> Result<(Arc<Visit>, TcpStream), Box<Response>> {
    let nothing = || {
        let text = format!(
            "Nothing listens on port {} of this branch. Start what should, then load this again.",
            place.port
        );
        Box::new(page(StatusCode::BAD_GATEWAY, &format!("Nothing on port {}", place.port), &text))
    };
    let away =
        || Box::new(page(StatusCode::SERVICE_UNAVAILABLE, "The branch can't be opened now", "Try again."));
    let hub = state.branches.hub(&place.branch).await.map_err(|_| away())?;
    let visit = Arc::clone(&hub).visit().ok_or_else(|| {
        Box::new(page(StatusCode::SERVICE_UNAVAILABLE, "Too many look at this branch at once", "Try again."))
    })?;
    // A visitor starts nothing: what has no network has no process.
    let network = hub.present_network().ok_or_else(nothing)?;
    // The host has ports that are no branch's: perch's own, the database's.
    if network.is_host() && !hub.ports().is_open(place.port) {
        return Err(nothing());
    }
    match network.connect(place.port).await {
        Ok(stream) => Ok((Arc::new(visit), stream)),
        Err(ConnectError::Refused(_)) => Err(nothing()),
        Err(ConnectError::Silent(_)) => {
            let text = format!("What listens on port {} accepts no connection.", place.port);
            Err(Box::new(page(StatusCode::GATEWAY_TIMEOUT, "No connection", &text)))
        }
        Err(ConnectError::Network(error)) => {
            tracing::error!(branch.id = %place.branch, %error, "a preview can't enter the branch's network");
            Err(away())
        }
    }
}

/// The protocol that a message wants to change to.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let is_asked =
        lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| is_asked).cloned()
}

/// The request as it is passed on. Its host stays what the browser asked for, as servers compare it with `Origin`.
fn onward(state: &AppState, request: Request, wanted: Option<&HeaderValue>) -> Request {
    let (mut head, body) = request.into_parts();
    without_credentials(state, &mut head);
    let path = head.uri.path_and_query().cloned();
    head.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    head.version = Version::HTTP_11;
    without_hop_by_hop(&mut head.headers);
    head.headers.remove(header::FORWARDED);
    if let Some(ClientAddress(address)) = head.extensions.get()
        && let Ok(address) = HeaderValue::from_str(&address.to_string())
    {
        head.headers.insert(FORWARDED_FOR, address);
    }
    // `X-Forwarded-Proto` is there already, see `client`.
    if let Some(host) = head.headers.get(header::HOST).cloned() {
        head.headers.insert(FORWARDED_HOST, host);
    }
    if let Some(wanted) = wanted {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, wanted.clone());
    }
    // What is of this connection in the extensions is not of the next.
    head.extensions.clear();
    Request::from_parts(head, body)
}

/// Carries bytes both ways once both sides have changed their protocol, until either ends, perch stops, or the session that
/// was let in is ended or revoked, or the preview token ends.
async fn join(
    state: &AppState,
    visit: Arc<Visit>,
    admitted: Admitted,
    client: OnUpgrade,
    served: OnUpgrade,
) -> Result<(), Response> {
    let token = if let Admitted::Token(token) = &admitted { Some(token.clone()) } else { None };
    let mut present = match admitted {
        Admitted::Anybody | Admitted::Token(_) => None,
        Admitted::Session(row) => match Present::take(state, Arc::clone(visit.hub()), &row).await {
            Ok(present) => Some(present),
            Err(_) => return Err(page(StatusCode::UNAUTHORIZED, "The session has ended", "")),
        },
    };
    let stop = state.tasks.stopping().clone();
    let looked = state.clone();
    state.tasks.spawn(async move {
        let ended = async {
            match (&mut present, token) {
                (Some(present), _) => while present.still_welcome().await {},
                (None, Some(token)) => while still_holds(&looked, &token).await {},
                (None, None) => std::future::pending().await,
            }
        };
        let carry = async {
            if let (Ok(client), Ok(served)) = tokio::join!(client, served) {
                // A side that broke off ends the other like one that ended.
                let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(served)).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = ended => {}
            () = carry => {}
        }
        drop(visit);
    });
    Ok(())
}

/// Caches between perch and the browser would hand a member's answer to others.
fn keep_private(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let said = lines.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    if !said.contains("private") && !said.contains("no-store") {
        let said: Vec<_> =
            said.split(',').map(str::trim).filter(|word| *word != "public" && !word.is_empty()).collect();
        let private = [&["private"][..], &said].concat().join(", ");
        if let Ok(private) = HeaderValue::from_str(&private) {
            headers.insert(header::CACHE_CONTROL, private);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_members_are_kept_from_shared_caches() {
        for (said, kept) in [
            (None, "private"),
            (Some("public, max-age=60"), "private, max-age=60"),
            (Some("no-cache"), "private, no-cache"),
            (Some("Private, max-age=1"), "Private, max-age=1"),
            (Some("no-store"), "no-store"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(said));
            }
            keep_private(&mut headers);
            assert_eq!(headers[header::CACHE_CONTROL], kept);
        }
    }
}
