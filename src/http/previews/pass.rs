//! Who may look at a preview. A ticket in the URL becomes a cookie of the preview's host; the cookie names a session,
//! which is looked up with each request: what was ended or revoked is refused from the next one on.

use super::{Asked, Place, asked, page};
use crate::base::SessionId;
use crate::http::AppState;
use crate::store::{Branch, BranchState, Previews, SessionRow, StoreError};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;

/// The query's key of a ticket.
pub(in crate::http) const TICKET: &str = "perch-ticket";
/// Seconds that a cookie is good for; those of a session token.
const COOKIE_TTL: i64 = 12 * 3_600;
/// The cookie's name. With `__Host-` browsers take it from the host itself alone, and over https alone.
const COOKIE: &str = "perch-preview";
const COOKIE_HTTPS: &str = "__Host-perch-preview";

const UNAUTHORIZED: &str = "Only members of the branch see it. Open it from the editor, or ask for its URL by \
    <code>POST /v1/branches/…/ports/…/preview</code>.";

/// Who was let in.
#[derive(Debug)]
pub(super) enum Admitted {
    /// Whoever asks.
    Anybody,
    /// A session.
    Session(Box<SessionRow>),
}

/// Lets a request in, or answers it: with a cookie for its ticket, or 401.
pub(super) async fn admit(state: &AppState, place: &Place, head: &Parts) -> Result<Admitted, Box<Response>> {
    if let Some((ticket, rest)) = ticket(head.uri.query().unwrap_or_default()) {
        return Err(Box::new(exchange(state, place, head, &ticket, &rest).await));
    }
    let admitted = match look(state, place, &head.headers).await {
        Ok(Some(admitted)) => return Ok(admitted),
        Ok(None) => page(StatusCode::UNAUTHORIZED, "This preview is not public", UNAUTHORIZED),
        Err(error) => {
            tracing::error!(%error, "a preview failed in the database");
            page(StatusCode::SERVICE_UNAVAILABLE, "perch can't look this up now", "Try again.")
        }
    };
    Err(Box::new(admitted))
}

async fn look(state: &AppState, place: &Place, headers: &HeaderMap) -> Result<Option<Admitted>, StoreError> {
    // One that is not there looks like one that is closed.
    let branch = state.store.branch(&place.branch).await?;
    let Some(branch) = branch.filter(is_ready) else { return Ok(None) };
    if branch.previews == Previews::Public {
        return Ok(Some(Admitted::Anybody));
    }
    if !is_own_page(state, place, headers) {
        return Ok(None);
    }
    for cookie in cookies(headers).filter_map(|cookie| value_of(cookie)) {
        let Ok(pass) = state.keys.verify_pass(cookie) else { continue };
        if pass.branch == place.branch && pass.port == place.port {
            let row = session(state, place, &pass.session, pass.epoch).await?;
            return Ok(row.map(|row| Admitted::Session(Box::new(row))));
        }
    }
    Ok(None)
}

fn is_ready(branch: &Branch) -> bool {
    branch.state == BranchState::Ready
}

async fn session(
    state: &AppState,
    place: &Place,
    session: &SessionId,
    epoch: i64,
) -> Result<Option<SessionRow>, StoreError> {
    let row = state.store.session(&place.branch, session).await?;
    Ok(row.filter(|row| row.epoch == epoch && row.ended_at_ms.is_none()))
}

/// Whether a request comes from a page of the same branch, or from the address bar or a link: the cookie goes along with
/// what other pages send too, those of other branches' previews among them.
fn is_own_page(state: &AppState, place: &Place, headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_of_branch = |url: &str| {
        let url = url::Url::parse(url).ok();
        let asked = url.as_ref().and_then(|url| asked(&state.site.preview_domain, url.host_str()?));
        matches!(asked, Some(Asked::Preview(from)) if from.branch == place.branch)
    };
    if headers.contains_key(header::ORIGIN) {
        return text(&header::ORIGIN).is_some_and(is_of_branch);
    }
    let said = |name: &'static str| text(&HeaderName::from_static(name)).unwrap_or_default().to_owned();
    match said("sec-fetch-site").as_str() {
        "cross-site" | "same-site" if said("sec-fetch-mode") != "navigate" => {
            text(&header::REFERER).is_some_and(is_of_branch)
        }
        _ => true,
    }
}

/// The ticket in a query, and the query without it.
fn ticket(query: &str) -> Option<(String, String)> {
    let mut ticket = None;
    let is_other = |part: &&str| match part.split_once('=') {
        Some((TICKET, value)) => {
            ticket = Some(value.to_owned());
            false
        }
        _ => true,
    };
    let rest: Vec<_> = query.split('&').filter(is_other).collect();
    Some((ticket?, rest.join("&")))
}

/// Gives a cookie for a ticket, and leads to the same URL without it.
async fn exchange(state: &AppState, place: &Place, head: &Parts, ticket: &str, rest: &str) -> Response {
    let refused = || {
        let text = "A preview's URL with a ticket opens once, within half a minute. Open the preview anew from the editor.";
        page(StatusCode::UNAUTHORIZED, "This ticket is not valid any more", text)
    };
    let is_https = head.headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    if !head.method.is_safe() {
        return refused();
    }
    let pass = state.tickets.take(ticket);
    let Some(pass) = pass.filter(|pass| pass.branch == place.branch && pass.port == place.port) else {
        return refused();
    };
    let Ok(Some(_)) = session(state, place, &pass.session, pass.epoch).await else { return refused() };
    let Ok(cookie) = state.keys.sign_pass(&pass, state.clock.now_ms() / 1_000 + COOKIE_TTL) else {
        tracing::error!("a pass to a preview could not be signed");
        return refused();
    };
    // Inside the editor's page, which is another site, only the first kind is sent along; `Partitioned` keeps it from
    // frames in pages of third ones.
    let (name, kind) = if is_https {
        (COOKIE_HTTPS, "SameSite=None; Secure; Partitioned")
    } else {
        (COOKIE, "SameSite=Lax")
    };
    let cookie = format!("{name}={}; Path=/; HttpOnly; Max-Age={COOKIE_TTL}; {kind}", cookie.expose_secret());
    // A path of two slashes would be a host.
    let path = format!("/{}", head.uri.path().trim_start_matches('/'));
    let path = if rest.is_empty() { path } else { format!("{path}?{rest}") };
    let (Ok(cookie), Ok(path)) = (HeaderValue::from_str(&cookie), HeaderValue::from_str(&path)) else {
        return refused();
    };
    let fixed = [
        (header::SET_COOKIE, cookie),
        (header::LOCATION, path),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (StatusCode::SEE_OTHER, fixed).into_response()
}

/// All cookies of a request, each `name=value`.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).map(str::trim).filter(|cookie| !cookie.is_empty())
}

/// The value of perch's own cookie.
fn value_of(cookie: &str) -> Option<&str> {
    let (name, value) = cookie.split_once('=')?;
    (name == COOKIE || name == COOKIE_HTTPS).then_some(value)
}

/// Takes perch's own credentials out of a request.
pub(super) fn without_credentials(state: &AppState, headers: &mut HeaderMap) {
    let others: Vec<_> = cookies(headers).filter(|cookie| value_of(cookie).is_none()).collect();
    let others = others.join("; ");
    headers.remove(header::COOKIE);
    if let Ok(cookie) = HeaderValue::from_str(&others)
        && !others.is_empty()
    {
        headers.insert(header::COOKIE, cookie);
    }
    if crate::http::auth::holds_token(state, headers) {
        headers.remove(header::AUTHORIZATION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_found_wherever_it_stands_and_the_rest_stays() {
        let found = |query| ticket(query).map(|(ticket, rest)| format!("{ticket} {rest}"));
        assert_eq!(found("perch-ticket=a"), Some("a ".into()));
        assert_eq!(found("x=1&perch-ticket=a&y=%20&x"), Some("a x=1&y=%20&x".into()));
        assert_eq!(found("perch-ticket=a&perch-ticket=b&c"), Some("b c".into()));
        assert_eq!(found("x=perch-ticket=a"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn cookies_are_told_apart() {
        let mut headers = HeaderMap::new();
        headers
            .append(header::COOKIE, HeaderValue::from_static("a=1; perch-preview=x;__Host-perch-preview=y"));
        headers.append(header::COOKIE, HeaderValue::from_static("xperch-preview=2; flag"));
        let own: Vec<_> = cookies(&headers).filter_map(value_of).collect();
        assert_eq!(own, ["x", "y"]);
        let others: Vec<_> = cookies(&headers).filter(|cookie| value_of(cookie).is_none()).collect();
        assert_eq!(others, ["a=1", "xperch-preview=2", "flag"]);
    }
}
