//! Share links: make, list, revoke, open.

use super::audit::Subject;
use super::auth::Api;
use super::branches::{body, branch_id};
use super::sessions::{Seat, TTL, seat};
use super::{ApiError, AppState};
use crate::base::{LinkId, Permission};
use crate::session::{create_link, look_at_link, open_link};
use crate::store::Link;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke)).routes(routes!(open))
}

/// A share link to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct CreateLink {
    /// The right of the sessions it makes.
    permission: Permission,
    /// Whether each of them may fork the branch, once: it then may write to that copy, and run programs there.
    #[serde(default)]
    may_fork: bool,
    /// Seconds that it works, 1 to 31,536,000; without it until it is revoked.
    expires_in: Option<i64>,
    /// How often it may be opened, 1 to 1,000,000; without it any number of times.
    max_uses: Option<i64>,
}

/// A share link.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LinkView {
    id: LinkId,
    permission: Permission,
    /// Whether its sessions may fork the branch, each once.
    may_fork: bool,
    /// Milliseconds since 1970 UTC.
    expires_at_ms: Option<i64>,
    max_uses: Option<i64>,
    uses: i64,
    created_at_ms: i64,
    revoked_at_ms: Option<i64>,
}

impl From<Link> for LinkView {
    fn from(link: Link) -> Self {
        Self {
            id: link.id,
            permission: link.permission,
            may_fork: link.may_fork,
            expires_at_ms: link.expires_at_ms,
            max_uses: link.max_uses,
            uses: link.uses,
            created_at_ms: link.created_at_ms,
            revoked_at_ms: link.revoked_at_ms,
        }
    }
}

/// A new share link.
#[derive(Serialize, ToSchema)]
pub(super) struct NewLink {
    #[serde(flatten)]
    view: LinkView,
    /// Opens it; shown this once. The page takes it as `/#link=<secret>`.
    secret: String,
}

/// A branch's links, oldest first, at most 1,000.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Links {
    links: Vec<LinkView>,
}

/// Make a share link.
#[utoipa::path(post, path = "/v1/branches/{branch}/links", tag = "links", params(("branch" = String, Path)),
    request_body = CreateLink, responses((status = CREATED, body = NewLink)))]
async fn create(
    State(state): State<AppState>,
    _: Api,
    Path(branch): Path<String>,
    request: Result<Json<CreateLink>, JsonRejection>,
) -> Result<(StatusCode, Extension<Subject>, Json<NewLink>), ApiError> {
    let branch = branch_id(&branch)?;
    let CreateLink { permission, may_fork, expires_in, max_uses } = body(request)?;
    if expires_in.is_some_and(|seconds| !(1..=31_536_000).contains(&seconds)) {
        return Err(ApiError::bad_request("`expires_in` is 1 to 31536000 seconds"));
    }
    if max_uses.is_some_and(|uses| !(1..=1_000_000).contains(&uses)) {
        return Err(ApiError::bad_request("`max_uses` is 1 to 1000000"));
    }
    state.branches.ready(&branch).await?;
    let (store, clock) = (&state.store, &state.clock);
    let made = create_link(store, clock, &branch, permission, may_fork, expires_in, max_uses).await?;
    let (link, secret) = made;
    let subject = Subject::may(&link.id, permission);
    let new = NewLink { view: link.into(), secret: secret.expose_secret().to_owned() };
    Ok((StatusCode::CREATED, subject, Json(new)))
}

/// List a branch's share links.
#[utoipa::path(get, path = "/v1/branches/{branch}/links", tag = "links", params(("branch" = String, Path)),
    responses((status = OK, body = Links)))]
async fn list(
    State(state): State<AppState>,
    _: Api,
    Path(branch): Path<String>,
) -> Result<Json<Links>, ApiError> {
    let branch = branch_id(&branch)?;
    state.branches.ready(&branch).await?;
    let links = state.store.links(&branch).await?.into_iter().map(Into::into).collect();
    Ok(Json(Links { links }))
}

/// Revoke a share link: it opens no more. Sessions it has made go on; end those that should not.
#[utoipa::path(delete, path = "/v1/branches/{branch}/links/{id}", tag = "links",
    params(("branch" = String, Path), ("id" = String, Path)), responses((status = NO_CONTENT)))]
async fn revoke(
    State(state): State<AppState>,
    _: Api,
    Path((branch, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let branch = branch_id(&branch)?;
    let absent = || ApiError::not_found("there is no valid link with this id");
    let id: LinkId = id.parse().map_err(|_| absent())?;
    if state.store.revoke_link(&branch, &id, state.clock.now_ms()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(absent())
    }
}

/// Open a share link: makes an anonymous session `guest-…` with the link's right. Needs no token; counts one use.
#[utoipa::path(post, path = "/v1/links/{secret}/session", tag = "links", params(("secret" = String, Path)),
    security(()), responses((status = OK, body = Seat),
        (status = GONE, description = "`link_expired`, `link_revoked` or `link_used_up`")))]
async fn open(
    State(state): State<AppState>,
    Path(secret): Path<String>,
    headers: HeaderMap,
) -> Result<(Extension<Subject>, Json<Seat>), ApiError> {
    let secret = SecretString::from(secret);
    let (store, clock) = (&state.store, &state.clock);
    // Looked at first, so that a branch that is not ready costs no use.
    let link = look_at_link(store, clock, &secret).await?;
    state.branches.ready(&link.branch_id).await?;
    let row = open_link(store, clock, &secret).await?;
    let permission = Some(row.permission);
    let subject = Subject { id: Some(row.id.to_string()), branch: Some(row.branch_id.clone()), permission };
    // The token has no bound of its own: whoever raises the session lets its visitor write.
    Ok((Extension(subject), Json(seat(&state, &headers, &row, Permission::Write, TTL)?)))
}
