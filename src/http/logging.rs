//! One log line and one measurement per request, and the id that all log lines of a request share.
//!
//! Tokens may travel in queries, and links in paths: neither query strings nor paths of routes with a secret in them
//! are ever logged.

use super::AppState;
use super::client::{ClientAddress, settle};
use super::previews::asked;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;
use tracing::{Instrument, debug, error_span, info};

const ID: HeaderName = HeaderName::from_static("x-request-id");
/// Asked every few seconds by machines; logged at `debug` only.
const CHECKS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// Names of path parameters that are secrets.
const SECRET_PARAMETERS: [&str; 3] = ["{token}", "{secret}", "{link}"];

/// The layer; it must be the outermost, for it settles who asks.
pub(super) async fn log(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    settle(&mut request, &state.site.trusted_proxies);
    let id = request.headers().get(&ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
    let id_value = HeaderValue::from_str(&id).ok();
    let remote = request.extensions().get::<ClientAddress>().map(|client| client.0);
    let method = request.method().clone();
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let asked = asked(&state.site.preview_domain, host);
    let matched = request.extensions().get::<MatchedPath>().map_or("none", |matched| matched.as_str());
    let route = if asked.is_some() { "preview" } else { matched }.to_owned();
    if let Some(asked) = asked {
        request.extensions_mut().insert(asked);
    }
    // What matches no route may be one with a secret, mistyped; paths of previews are no business of perch's.
    let is_secret = ["none", "preview"].contains(&route.as_str())
        || SECRET_PARAMETERS.iter().any(|name| route.contains(name));
    let path = if is_secret { route.clone() } else { request.uri().path().to_owned() };
    // At the highest level, so that the id is on every line whatever the filter.
    let span =
        error_span!("request", id = %id, %method, path = %path, remote = remote.map(tracing::field::display));
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let took = began.elapsed();
    let status = response.status().as_u16();
    if let Some(id) = id_value {
        response.headers_mut().insert(ID, id);
    }
    let latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        if CHECKS.contains(&path.as_str()) {
            debug!(status, latency_ms, "answered");
        } else {
            info!(status, latency_ms, "answered");
        }
    });
    let labels =
        [("method", known_method(&method).to_owned()), ("route", route), ("status", status.to_string())];
    metrics::counter!("perch_http_requests_total", &labels).increment(1);
    metrics::histogram!("perch_http_request_seconds", &labels[..2]).record(took.as_secs_f64());
    response
}

/// Methods can be made up without end; labels must not.
fn known_method(method: &axum::http::Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        .into_iter()
        .find(|known| method == known)
        .unwrap_or("other")
}
