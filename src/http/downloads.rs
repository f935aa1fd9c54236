//! Signed downloads: a link to one file that works for a short time and without a token, as a browser's own download needs.

use super::auth::{Caller, session_at};
use super::branches::body;
use super::files::{answer, rel_path};
use super::place::On;
use super::sessions::calendar;
use super::{ApiError, AppState};
use crate::branch::DocError;
use crate::session::{Download, Maker};
use crate::workspace::Kind;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Seconds that a link works where the caller names none, and at most: it can't be taken back but by ending its session.
const TTL: (i64, i64) = (300, 3_600);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(download))
}

/// A link to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateDownload {
    /// A file.
    path: String,
    /// Seconds that it works, 1 to 3,600; 300 without it.
    ttl: Option<i64>,
}

/// A link.
#[derive(Serialize, ToSchema)]
pub(super) struct NewDownload {
    /// Whoever has it may read the file.
    url: String,
    /// RFC 3339.
    expires_at: String,
}

/// Make a link by which one file is downloaded without a token, as it is then. It ends with its time, and when the
/// session that made it is ended or revoked; one made with an API token with its time only.
#[utoipa::path(post, operation_id = "create_download", path = "/v1/branches/{branch}/downloads", tag = "files",
    params(("branch" = String, Path)), request_body = CreateDownload,
    responses((status = CREATED, body = NewDownload), (status = CONFLICT, description = "`not_a_file`")))]
async fn create(
    State(state): State<AppState>,
    on: On,
    headers: HeaderMap,
    request: Result<Json<CreateDownload>, JsonRejection>,
) -> Result<(StatusCode, Json<NewDownload>), ApiError> {
    let CreateDownload { path, ttl } = body(request)?;
    let path = rel_path(&path)?;
    let ttl = ttl.unwrap_or(TTL.0);
    if !(1..=TTL.1).contains(&ttl) {
        return Err(ApiError::bad_request(format!("`ttl` is 1 to {} seconds", TTL.1)));
    }
    let entry = on.hub.stat(&path).await?;
    if entry.target.unwrap_or(entry.kind) != Kind::File {
        return Err(DocError::NotAFile(path).into());
    }
    let maker = match &on.caller {
        Caller::Api { .. } => None,
        Caller::Session { row, .. } => Some(Maker { session: row.id.clone(), epoch: row.epoch }),
    };
    let exp = state.clock.now_ms() / 1_000 + ttl;
    let signed =
        state.keys.sign_download(&Download { branch: on.branch, path: path.to_string(), maker, exp })?;
    let url = format!("{}/v1/downloads/{}", state.site.base_url(&headers)?, signed.expose_secret());
    Ok((StatusCode::CREATED, Json(NewDownload { url, expires_at: calendar(exp)? })))
}

/// Download a file by its link: its bytes as editors and shells see them now, with `ETag` and `Range` as a read has them.
#[utoipa::path(get, operation_id = "download_file", path = "/v1/downloads/{token}", tag = "files",
    params(("token" = String, Path)), security(()),
    responses((status = OK, description = "the bytes, with `ETag`", content_type = "application/octet-stream"),
        (status = PARTIAL_CONTENT, description = "the range"), (status = NOT_MODIFIED),
        (status = FORBIDDEN, description = "`download_refused`: no such link, or it works no more")))]
async fn download(
    State(state): State<AppState>,
    Path(token): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let mut response =
        read(&state, &token, &method, &headers).await.unwrap_or_else(IntoResponse::into_response);
    // The address is the secret.
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

async fn read(
    state: &AppState,
    token: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    // One answer for all: a link tells nothing about why it does not work.
    let refused = || {
        let detail = "the link is not valid, its time is over, or the session that made it has ended";
        ApiError::new(StatusCode::FORBIDDEN, "download_refused", detail)
    };
    let Download { branch, path, maker, .. } = state.keys.verify_download(token).map_err(|_| refused())?;
    if let Some(Maker { session, epoch }) = maker
        && session_at(state, &branch, &session, epoch).await?.is_none()
    {
        return Err(refused());
    }
    let path = rel_path(&path)?;
    let hub = state.branches.hub(&branch).await?;
    // No reader: what a link gave is nobody's base of a write.
    let content = hub.read(&path, None).await?;
    Ok(answer(&path, &content, method, headers))
}
