//! The page, and the module for other frontends: files that `build.rs` made from `static/` and put into the binary. Open
//! without a token.
//!
//! The list is generated as plain `include_bytes!`, which needs no crate for embedding and reads no disk in any build.

use super::{AppState, Site};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// One file of the page.
#[derive(Debug)]
struct File {
    /// Relative to the page's root.
    path: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
}

// `FILES`, and in `MISSING` why there are none.
include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

/// Styles need `unsafe-inline`: the editor lays itself out with style elements of its own.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
    connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'";
/// Names hold a hash of the content, so a name never means other bytes.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Modules are loaded with CORS by pages of other origins; what is in these files is no secret.
const OPEN: [(HeaderName, HeaderValue); 1] =
    [(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))];
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// `/`, the same for frames, the page's assets, and the module. Says in the log if this build has no page.
pub(super) fn routes() -> Router<AppState> {
    if let Some(reason) = MISSING {
        tracing::warn!("this perch has no page, only its API: {}", reason.lines().next().unwrap_or_default());
    }
    Router::new()
        .route("/", get(index))
        .route("/embed", get(embed))
        .route("/assets/{name}", get(asset))
        .route("/client/{name}", get(client))
}

/// The policy of the page inside frames of `ancestors`. It frames previews itself, which are of other sites.
fn policy(site: &Site, ancestors: &str) -> String {
    format!("{POLICY}; frame-src *.{}:*; frame-ancestors {ancestors}", site.preview_domain)
}

async fn index(State(state): State<AppState>, headers: HeaderMap) -> Response {
    page(&headers, &policy(&state.site, "'none'"))
}

/// The page without any branch or token of its own, for frames in pages of allowed origins: they hand it a session.
async fn embed(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let origins = state.site.allowed_origins.join(" ");
    page(&headers, &policy(&state.site, if origins.is_empty() { "'none'" } else { &origins }))
}

fn page(headers: &HeaderMap, policy: &str) -> Response {
    let response = match (MISSING, find("index.html")) {
        (None, Some(file)) => serve(file, headers, ASK_AGAIN),
        (reason, _) => {
            let body = without_page(reason.unwrap_or("the build listed no files"));
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
        }
    };
    // Origins were checked when perch started: all of it is visible ASCII.
    let policy = HeaderValue::from_str(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    ([(header::CONTENT_SECURITY_POLICY, policy)], response).into_response()
}

async fn client(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match find(&format!("client/{name}")) {
        Some(file) => (OPEN, serve(file, &headers, ASK_AGAIN)).into_response(),
        None => (StatusCode::NOT_FOUND, OPEN, "there is no such file of the module").into_response(),
    }
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match find(&format!("assets/{name}")) {
        Some(file) => (OPEN, serve(file, &headers, FOR_EVER)).into_response(),
        // An index of another version asked: nothing to keep.
        None => (StatusCode::NOT_FOUND, "there is no such file of the page; load it anew").into_response(),
    }
}

fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        // Types of the module, to be read by people and compilers.
        "ts" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Whether the client takes gzip: named, and not with a weight of zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight| weight > 0.0)
    })
}

fn serve(file: &'static File, headers: &HeaderMap, caching: HeaderValue) -> Response {
    let fixed: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type(file.path))),
        (header::CACHE_CONTROL, caching),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    match file.gzip.filter(|_| takes_gzip(headers)) {
        Some(gzip) => (fixed, [(header::CONTENT_ENCODING, "gzip")], gzip).into_response(),
        None => (fixed, file.plain).into_response(),
    }
}

/// What `/` says where the binary holds no page.
fn without_page(reason: &str) -> String {
    let reason = reason.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>perch: API only</title>\n\
         <h1>perch runs, without its page</h1>\n<p>The API works. This binary holds no page:</p>\n\
         <pre>{reason}</pre>\n<p>Build it again with Node.js and npm there, or with PERCH_UI_DIST.</p>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_page_says_why() {
        let page = without_page("npm can't be started: install <npm> & build again");
        assert!(page.contains("The API works"));
        assert!(page.contains("install &lt;npm> &amp; build again"));
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let takes = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        assert!(takes("gzip, deflate, br"));
        assert!(takes("br;q=1.0, GZIP;q=0.5"));
        assert!(!takes("br, gzip;q=0"));
        assert!(!takes("identity"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_index_names_only_files_that_are_there() {
        let Some(index) = find("index.html") else {
            assert!(MISSING.is_some(), "no page, and no reason why");
            return;
        };
        let text = std::str::from_utf8(index.plain).unwrap();
        let named: Vec<_> = text.split('"').filter(|part| part.starts_with("assets/")).collect();
        assert!(named.len() >= 3, "{text}");
        for path in named {
            let file = find(path).unwrap_or_else(|| panic!("{path} is not there"));
            assert_ne!(content_type(file.path), "application/octet-stream", "{path}");
            assert!(file.gzip.is_some(), "{path} has no gzip form");
        }
    }

    #[test]
    fn the_module_loads_a_file_that_is_there() {
        let Some(module) = find("client/index.js") else {
            assert!(MISSING.is_some(), "no module, and no reason why");
            return;
        };
        let text = std::str::from_utf8(module.plain).unwrap();
        let path =
            text.split('\'').nth(1).and_then(|path| path.strip_prefix("../")).expect("it names a file");
        assert!(find(path).is_some(), "{path}");
        assert!(find("client/index.d.ts").is_some(), "its types");
    }
}
