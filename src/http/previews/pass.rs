//! Who may look at a preview. A ticket in the URL becomes a cookie of the preview's host; the cookie names a session,
//! which is looked up with each request: what was ended or revoked is refused from the next one on.

use super::name::LOCALHOST;
use super::{Asked, Place, asked, page};
use crate::base::{PreviewTokenId, SessionId};
use crate::http::AppState;
use crate::session::{is_preview_token, look_at_preview_token};
use crate::store::{Branch, BranchState, Previews, SessionRow, StoreError};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use secrecy::ExposeSecret;
use std::time::Duration;

/// The query's key of a ticket.
pub(in crate::http) const TICKET: &str = "perch-ticket";
/// Seconds that a cookie is good for; those of a session token.
const COOKIE_TTL: i64 = 12 * 3_600;
/// The cookie's name. With `__Host-` browsers take it from the host itself alone, and over https alone.
const COOKIE: &str = "perch-preview";
const COOKIE_HTTPS: &str = "__Host-perch-preview";
/// The one for frames over http: browsers take a secure cookie from `localhost` there, which is this machine, but no prefix.
const COOKIE_FRAMED: &str = "perch-preview-framed";

const UNAUTHORIZED: &str = "Only members of the branch see it. Open it from the editor, or ask for its URL by \
    <code>POST /v1/branches/…/ports/…/preview</code>.";

/// Who was let in.
#[derive(Debug)]
pub(super) enum Admitted {
    /// Whoever asks.
    Anybody,
    /// A session.
    Session(Box<SessionRow>),
    /// Who has a preview token.
    Token(PreviewTokenId),
}

/// Between two looks whether a preview token is still good, while a socket is open.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(5);

/// Where a preview token may stand; the SDK of CodeSandbox has these names built in.
const TOKEN_QUERY: &str = "preview_token";
const TOKEN_HEADER: &str = "csb-preview-token";
const TOKEN_COOKIE: &str = "csb_preview_token";

/// Lets a request in, or answers it: with a cookie for its ticket, or 401.
pub(super) async fn admit(state: &AppState, place: &Place, head: &Parts) -> Result<Admitted, Box<Response>> {
    if let Some((ticket, rest)) = ticket(head.uri.query().unwrap_or_default()) {
        return Err(Box::new(exchange(state, place, head, &ticket, &rest).await));
    }
    let admitted = match look(state, place, head).await {
        Ok(Some(admitted)) => {
            return match asked_with_token(head, &admitted) {
                Some(answer) => Err(Box::new(answer)),
                None => Ok(admitted),
            };
        }
        Ok(None) => page(StatusCode::UNAUTHORIZED, "This preview is not public", UNAUTHORIZED),
        Err(error) => {
            tracing::error!(%error, "a preview failed in the database");
            page(StatusCode::SERVICE_UNAVAILABLE, "perch can't look this up now", "Try again.")
        }
    };
    Err(Box::new(admitted))
}

async fn look(state: &AppState, place: &Place, head: &Parts) -> Result<Option<Admitted>, StoreError> {
    let headers = &head.headers;
    // One that is not there looks like one that is closed.
    let branch = state.store.branch(&place.branch).await?;
    let Some(branch) = branch.filter(is_ready) else { return Ok(None) };
    if branch.previews == Previews::Public {
        return Ok(Some(Admitted::Anybody));
    }
    let named = headers.get(TOKEN_HEADER).and_then(|token| token.to_str().ok()).map(str::to_owned);
    let named =
        named.into_iter().chain(token_in(head.uri.query().unwrap_or_default()).map(|(token, _)| token));
    for token in named {
        if let Some(token) = look_at_preview_token(&state.store, &state.clock, &place.branch, &token).await? {
            return Ok(Some(Admitted::Token(token.id)));
        }
    }
    // What follows goes along with whatever a browser asks for.
    if !is_own_page(state, place, headers) {
        return Ok(None);
    }
    for token in cookies(headers).filter_map(token_of) {
        if let Some(token) = look_at_preview_token(&state.store, &state.clock, &place.branch, token).await? {
            return Ok(Some(Admitted::Token(token.id)));
        }
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

/// A preview token in a query, and the query without it.
fn token_in(query: &str) -> Option<(String, String)> {
    let mut token = None;
    let is_other = |part: &&str| match part.split_once('=') {
        Some((TOKEN_QUERY, value)) if is_preview_token(value) => {
            token = Some(value.to_owned());
            false
        }
        _ => true,
    };
    let rest: Vec<_> = query.split('&').filter(is_other).collect();
    Some((token?, rest.join("&")))
}

/// The preview token in a cookie.
fn token_of(cookie: &str) -> Option<&str> {
    let (name, value) = cookie.split_once('=')?;
    (name == TOKEN_COOKIE && is_preview_token(value)).then_some(value)
}

/// A browser that opens a page with a token in its URL is led to the same URL without it, and holds it as a cookie: what
/// the page loads has no token in its URL, and the page must not see it.
fn asked_with_token(head: &Parts, admitted: &Admitted) -> Option<Response> {
    let is_page = head.headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    if !is_page || !matches!(admitted, Admitted::Token(_)) || !head.method.is_safe() {
        return None;
    }
    let (token, rest) = token_in(head.uri.query()?)?;
    let kind = if is_https(head) { FRAMED } else { PLAIN };
    let cookie = format!("{TOKEN_COOKIE}={token}; Path=/; HttpOnly; Max-Age={COOKIE_TTL}; {kind}");
    lead_on(head, [cookie], &rest)
}

fn is_https(head: &Parts) -> bool {
    head.headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

/// Inside the editor's page, which is another site, only such a cookie is sent along; `Partitioned` keeps it from frames in
/// pages of third ones.
const FRAMED: &str = "SameSite=None; Secure; Partitioned";
/// Of a cookie without TLS.
const PLAIN: &str = "SameSite=Lax";

/// Sets cookies and leads to the same path with another query.
fn lead_on(head: &Parts, cookies: impl IntoIterator<Item = String>, query: &str) -> Option<Response> {
    // A path of two slashes would be a host.
    let path = format!("/{}", head.uri.path().trim_start_matches('/'));
    let path = if query.is_empty() { path } else { format!("{path}?{query}") };
    let cookies = cookies.into_iter().map(HeaderValue::try_from).collect::<Result<Vec<_>, _>>().ok()?;
    let cookies = AppendHeaders(cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
    let fixed = [
        (header::LOCATION, HeaderValue::from_str(&path).ok()?),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Some((StatusCode::SEE_OTHER, fixed, cookies).into_response())
}

/// Gives a cookie for a ticket, and leads to the same URL without it.
async fn exchange(state: &AppState, place: &Place, head: &Parts, ticket: &str, rest: &str) -> Response {
    let refused = || {
        let text = "A preview's URL with a ticket opens once, within half a minute. Open the preview anew from the editor.";
        page(StatusCode::UNAUTHORIZED, "This ticket is not valid any more", text)
    };
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
    // Plain, on this machine, a frame needs the first kind and other pages of it the second.
    let kinds: &[(&str, &str)] = match (is_https(head), &*state.site.preview_domain) {
        (true, _) => &[(COOKIE_HTTPS, FRAMED)],
        (false, LOCALHOST) => &[(COOKIE, PLAIN), (COOKIE_FRAMED, FRAMED)],
        (false, _) => &[(COOKIE, PLAIN)],
    };
    let cookie = cookie.expose_secret();
    let cookies = kinds
        .iter()
        .map(|(name, kind)| format!("{name}={cookie}; Path=/; HttpOnly; Max-Age={COOKIE_TTL}; {kind}"));
    lead_on(head, cookies, rest).unwrap_or_else(refused)
}

/// All cookies of a request, each `name=value`.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).map(str::trim).filter(|cookie| !cookie.is_empty())
}

/// The value of perch's own cookie.
fn value_of(cookie: &str) -> Option<&str> {
    let (name, value) = cookie.split_once('=')?;
    [COOKIE, COOKIE_HTTPS, COOKIE_FRAMED].contains(&name).then_some(value)
}

/// Waits for a while; `false` when a preview token is not good any more.
pub(super) async fn still_holds(state: &AppState, token: &PreviewTokenId) -> bool {
    tokio::time::sleep(LOOKED_AT_EVERY).await;
    // A database that is away ends nothing.
    let found = state.store.preview_token(token).await;
    found.is_err() || found.is_ok_and(|found| found.is_some_and(|token| token.holds(state.clock.now_ms())))
}

/// Takes perch's own credentials out of a request.
pub(super) fn without_credentials(state: &AppState, head: &mut Parts) {
    if let Some((_, rest)) = token_in(head.uri.query().unwrap_or_default()) {
        let path = head.uri.path();
        let path = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
        // It was part of a valid one.
        head.uri = path.parse().unwrap_or(Uri::from_static("/"));
    }
    let headers = &mut head.headers;
    if headers.get(TOKEN_HEADER).is_some_and(|token| token.to_str().is_ok_and(is_preview_token)) {
        headers.remove(TOKEN_HEADER);
    }
    let is_other = |cookie: &&str| value_of(cookie).is_none() && token_of(cookie).is_none();
    let others: Vec<_> = cookies(headers).filter(is_other).collect();
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
    fn a_preview_token_is_taken_out_of_a_query_and_others_words_stay() {
        let found = |query| token_in(query).map(|(token, rest)| format!("{token} {rest}"));
        assert_eq!(found("preview_token=pvt_a"), Some("pvt_a ".into()));
        assert_eq!(found("x=1&preview_token=pvt_a&y"), Some("pvt_a x=1&y".into()));
        assert_eq!(found("preview_token=of-the-app"), None);
        assert_eq!(token_of("csb_preview_token=pvt_a"), Some("pvt_a"));
        assert_eq!(token_of("csb_preview_token=other"), None);
    }

    #[test]
    fn cookies_are_told_apart() {
        let mut headers = HeaderMap::new();
        headers
            .append(header::COOKIE, HeaderValue::from_static("a=1; perch-preview=x;__Host-perch-preview=y"));
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("xperch-preview=2; perch-preview-framed=z; flag"),
        );
        let own: Vec<_> = cookies(&headers).filter_map(value_of).collect();
        assert_eq!(own, ["x", "y", "z"]);
        let others: Vec<_> = cookies(&headers).filter(|cookie| value_of(cookie).is_none()).collect();
        assert_eq!(others, ["a=1", "xperch-preview=2", "flag"]);
    }
}
