//! Pages of allowed origins may use the API from the browser. There are no cookies in it: each request carries its token.

use axum::http::{HeaderName, HeaderValue, Method, header, request::Parts};
use std::time::Duration;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long browsers may remember what is allowed.
const REMEMBER: Duration = Duration::from_secs(3_600);

/// Answers preflights, and says to browsers that pages of `allowed` may read answers under `/v1/`.
pub(super) fn layer(allowed: &[String]) -> CorsLayer {
    let allowed: Vec<HeaderValue> = allowed.iter().filter_map(|origin| origin.parse().ok()).collect();
    let may = move |origin: &HeaderValue, parts: &Parts| {
        parts.uri.path().starts_with("/v1/") && allowed.contains(origin)
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(may))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::RANGE,
            header::IF_RANGE,
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::ACCEPT_RANGES,
            header::CONTENT_RANGE,
            header::CONTENT_LENGTH,
            header::WWW_AUTHENTICATE,
            HeaderName::from_static("x-request-id"),
        ])
        .max_age(REMEMBER)
}
