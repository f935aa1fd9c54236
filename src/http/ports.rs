//! The ports that a branch's processes listen on, and the URLs at which they can be looked at.

use super::auth::Caller;
use super::branches::branch_id;
use super::place::On;
use super::previews::{Place, TICKET, reaches};
use super::{ApiError, AppState};
use crate::agent::Address;
use crate::base::{BranchId, SessionId};
use crate::session::Pass;
use crate::store::Previews;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use secrecy::ExposeSecret;
use serde::Serialize;
use std::num::NonZeroU16;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(preview))
}

/// A port that is listened on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PortView {
    /// 1 to 65,535.
    port: u16,
    address: Address,
    /// The process's short name, where it is known.
    process: Option<String>,
    /// The session whose process it is, where it is known.
    session: Option<SessionId>,
    /// Where it can be looked at. For members, who first ask for a ticket; or for all, as the branch's `previews` says.
    /// `null`: nowhere, since perch was given no `--preview-domain` and is not asked as this machine.
    url: Option<String>,
}

/// The ports of a branch, lowest first, at most 1,000 a session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PortList {
    ports: Vec<PortView>,
}

/// A preview that can be opened.
#[derive(Serialize, ToSchema)]
pub(super) struct Preview {
    /// With a ticket that opens it once, within 30 s; without one where the branch's `previews` are `public`.
    url: String,
}

/// The root of a preview; `None` when previews can't be reached from where perch is asked.
fn url_of(state: &AppState, headers: &HeaderMap, place: &Place) -> Result<Option<String>, ApiError> {
    let base = match &state.site.public_url {
        Some(url) => url.clone(),
        None => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            // Set by the listener or a trusted proxy, see `client`.
            let is_https = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
            let url = url::Url::parse(&format!("{}://{host}/", if is_https { "https" } else { "http" }));
            url.map_err(|_| ApiError::bad_request("the request has no valid Host"))?
        }
    };
    let domain = &*state.site.preview_domain;
    if !reaches(domain, base.host_str().unwrap_or_default()) {
        return Ok(None);
    }
    Ok(Some(format!("{}://{}/", base.scheme(), host(domain, base.port(), place))))
}

fn host(domain: &str, behind: Option<u16>, place: &Place) -> String {
    let behind = behind.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{place}.{domain}{behind}")
}

/// The host of a port's preview, with a port where it needs one. `base_url`: what stands before a route for who is told.
pub(crate) fn preview_host(state: &AppState, base_url: &str, branch: &BranchId, port: NonZeroU16) -> String {
    let behind = url::Url::parse(base_url).ok().and_then(|url| url.port());
    host(&state.site.preview_domain, behind, &Place { branch: branch.clone(), port })
}

/// List the ports that the branch's processes listen on.
#[utoipa::path(get, path = "/v1/branches/{branch}/ports", tag = "previews", params(("branch" = String, Path)),
    responses((status = OK, body = PortList)))]
async fn list(
    State(state): State<AppState>,
    on: On,
    Path(branch): Path<String>,
    headers: HeaderMap,
) -> Result<Json<PortList>, ApiError> {
    let branch = branch_id(&branch)?;
    let view = |open: crate::branch::OpenPort| {
        let place = Place { branch: branch.clone(), port: open.port };
        Ok(PortView {
            port: open.port.get(),
            address: open.address,
            process: open.process,
            session: open.session,
            url: url_of(&state, &headers, &place)?,
        })
    };
    let ports = on.hub.ports().list().into_iter().map(view).collect::<Result<_, ApiError>>()?;
    Ok(Json(PortList { ports }))
}

/// Ask for a URL that opens the preview of a port in a browser, whether something listens there now or not. The browser
/// then holds a cookie of the preview's host for 12 hours; it ends with the session, or when its tokens are revoked.
#[utoipa::path(post, path = "/v1/branches/{branch}/ports/{port}/preview", tag = "previews",
    params(("branch" = String, Path), ("port" = u16, Path)), responses((status = OK, body = Preview),
        (status = FORBIDDEN, description = "`session_required`: an API token asks, and previews are for members"),
        (status = CONFLICT, description = "`no_preview_domain`")))]
async fn preview(
    State(state): State<AppState>,
    caller: Caller,
    Path((branch, port)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Preview>, ApiError> {
    let branch: BranchId = branch_id(&branch)?;
    caller.on(&branch)?;
    let port = port.parse::<NonZeroU16>().map_err(|_| ApiError::bad_request("a port is 1 to 65535"))?;
    let previews = state.branches.ready(&branch).await?.previews;
    let place = Place { branch, port };
    let url = url_of(&state, &headers, &place)?.ok_or_else(|| {
        let detail =
            "previews beneath `localhost` can't be reached from elsewhere; perch needs a --preview-domain";
        ApiError::new(StatusCode::CONFLICT, "no_preview_domain", detail)
    })?;
    let row = match (previews, caller) {
        (Previews::Public, _) => return Ok(Json(Preview { url })),
        (Previews::Members, Caller::Session { row, .. }) => row,
        (Previews::Members, Caller::Api { .. }) => {
            let detail = "a preview is opened for a session: ask with its token";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "session_required", detail));
        }
    };
    let pass = Pass { branch: place.branch, port, session: row.id, epoch: row.epoch };
    let ticket = state.tickets.issue(pass);
    let ticket =
        ticket.ok_or_else(|| ApiError::unavailable("too many previews are being opened; try again"))?;
    Ok(Json(Preview { url: format!("{url}?{TICKET}={}", ticket.expose_secret()) }))
}
