//! Previews: what a branch's processes serve, on hosts of their own. A request for such a host is answered here and by
//! nothing else of perch, and no other request ever is.
//!
//! A preview runs code that perch does not know, so it must share no cookies with the editor: cookies follow the site,
//! and another port, or a sibling of the same registrable domain, is the same site. Hence names: `*.localhost`, each
//! a site of its own to browsers, or a domain that `--preview-domain` names and that [`check`] has seen.
//!
//! | file | idea |
//! |---|---|
//! | `name.rs` | the host name of a port of a branch |
//! | `pass.rs` | who may look: tickets, cookies, other pages |
//! | `forward.rs` | one request passed on, streams and WebSockets too |

mod forward;
mod name;
mod pass;

pub(super) use name::{Asked, Place, asked, reaches};
pub use name::{Unsuitable, check};
pub(super) use pass::TICKET;

use super::AppState;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

/// The layer. What the request's host asks for is in its extensions.
pub(super) async fn previews(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match request.extensions().get::<Asked>().cloned() {
        None => next.run(request).await,
        Some(Asked::Nothing) => page(StatusCode::NOT_FOUND, "There is no such preview", ""),
        Some(Asked::Preview(place)) => {
            let (head, body) = request.into_parts();
            let admitted = match pass::admit(&state, &place, &head).await {
                Ok(admitted) => admitted,
                Err(answer) => return *answer,
            };
            forward::forward(&state, &place, admitted, Request::from_parts(head, body)).await
        }
    }
}

/// A page of perch's own on a preview's host. `text` is HTML.
fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let fixed: [(HeaderName, HeaderValue); 4] = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    let body = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n<p>{text}</p>\n"
    );
    (status, fixed, Html(body)).into_response()
}
