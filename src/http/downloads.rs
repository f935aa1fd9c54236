//! Signed downloads: a link to one file, or to a folder as an archive, that works for a short time and without a token, as
//! a browser's own download needs.

use super::archive::{self, Child, Had, Packed};
use super::auth::{Caller, session_at};
use super::branches::body;
use super::files::{answer, attached, rel_path};
use super::place::On;
use super::sessions::calendar;
use super::{ApiError, AppState};
use crate::branch::{DocError, FilesError, Hub};
use crate::session::{Download, Maker};
use crate::workspace::{Kind, RelPath};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Seconds that a link works where the caller names none, and at most: it can't be taken back but by ending who made it.
const TTL: (i64, i64) = (300, 3_600);
/// Names in one folder of an archive; more of them break it off.
const MAX_NAMES: usize = 100_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(download))
}

/// A link to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateDownload {
    /// A file; with `folder` a folder, where `''` is the workspace itself.
    path: String,
    /// All that is in a folder, as a zip archive.
    #[serde(default)]
    folder: bool,
    /// Seconds that it works, 1 to 3,600; 300 without it.
    ttl: Option<i64>,
}

/// A link.
#[derive(Serialize, ToSchema)]
pub(super) struct NewDownload {
    /// Whoever has it may read the file, or all that is in the folder.
    url: String,
    /// RFC 3339.
    expires_at: String,
}

/// Make a link by which one file, or one folder, is downloaded without a token, as it is then. It ends with its time, and
/// when the session or API token that made it is ended or revoked.
#[utoipa::path(post, operation_id = "create_download", path = "/v1/branches/{branch}/downloads", tag = "files",
    params(("branch" = String, Path)), request_body = CreateDownload,
    responses((status = CREATED, body = NewDownload), (status = CONFLICT, description = "`not_a_file`, `not_a_folder`")))]
async fn create(
    State(state): State<AppState>,
    on: On,
    headers: HeaderMap,
    request: Result<Json<CreateDownload>, JsonRejection>,
) -> Result<(StatusCode, Json<NewDownload>), ApiError> {
    let CreateDownload { path, folder: is_folder, ttl } = body(request)?;
    let ttl = ttl.unwrap_or(TTL.0);
    if !(1..=TTL.1).contains(&ttl) {
        return Err(ApiError::bad_request(format!("`ttl` is 1 to {} seconds", TTL.1)));
    }
    if is_folder {
        folder(&on.hub, &path).await?;
    } else {
        let path = rel_path(&path)?;
        let entry = on.hub.stat(&path).await?;
        if entry.target.unwrap_or(entry.kind) != Kind::File {
            return Err(DocError::NotAFile(path).into());
        }
    }
    let (maker, token) = match &on.caller {
        Caller::Api { token, .. } => (None, token.clone()),
        Caller::Session { row, .. } => (Some(Maker { session: row.id.clone(), epoch: row.epoch }), None),
    };
    let exp = state.clock.now_ms() / 1_000 + ttl;
    let download = Download { branch: on.branch, path, is_folder, maker, token, exp };
    let signed = state.keys.sign_download(&download)?;
    let url = format!("{}/v1/downloads/{}", state.site.base_url(&headers)?, signed.expose_secret());
    Ok((StatusCode::CREATED, Json(NewDownload { url, expires_at: calendar(exp)? })))
}

/// A folder of the workspace, links on the way followed; `None` is the workspace itself.
async fn folder(hub: &Hub, path: &str) -> Result<Option<RelPath>, ApiError> {
    if path.is_empty() {
        return Ok(None);
    }
    let path = rel_path(path)?;
    let entry = hub.stat(&path).await?;
    if entry.target.unwrap_or(entry.kind) != Kind::Folder {
        return Err(FilesError::NotAFolder(path).into());
    }
    Ok(Some(hub.workspace().resolve(&path).await.map_err(FilesError::from)?))
}

/// Download a file by its link: its bytes as editors and shells see them now, with `ETag` and `Range` as a read has them.
///
/// A folder is a zip archive that is made while it is sent. It has at most 100,000 files and folders; links, `.git` and
/// names that are not UTF-8 are left out, as are files that can't be read or have more than 64 MiB: its comment names those.
/// Four of one branch are sent at once.
#[utoipa::path(get, operation_id = "download_file", path = "/v1/downloads/{token}", tag = "files",
    params(("token" = String, Path)), security(()),
    responses((status = OK, description = "the bytes, with `ETag`; or the archive", content_type = "application/octet-stream"),
        (status = PARTIAL_CONTENT, description = "the range"), (status = NOT_MODIFIED),
        (status = FORBIDDEN, description = "`download_refused`: no such link, or it works no more"),
        (status = SERVICE_UNAVAILABLE, description = "`busy`")))]
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
        let detail = "the link is not valid, its time is over, or who made it may not any more";
        ApiError::new(StatusCode::FORBIDDEN, "download_refused", detail)
    };
    let Download { branch, path, is_folder, maker, token, .. } =
        state.keys.verify_download(token).map_err(|_| refused())?;
    let session = match maker {
        None => None,
        Some(Maker { session, epoch }) => {
            Some(session_at(state, &branch, &session, epoch).await?.ok_or_else(refused)?)
        }
    };
    if let Some(token) = token
        && !state.store.token_holds(&token).await?
    {
        return Err(refused());
    }
    let hub = state.branches.hub(&branch).await?;
    if !is_folder {
        let path = rel_path(&path)?;
        // No reader: what a link gave is nobody's base of a write.
        let content = hub.read(&path, None).await?;
        return Ok(answer(&path, &content, method, headers));
    }
    let root = folder(&hub, &path).await?;
    let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("files");
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        let member = session.map(|row| (hub.members().enter(&row), row.epoch));
        let made_for = archive::For::take(&hub, member)?;
        archive::zip(&state.tasks, Tree(hub), root, made_for)
    };
    Ok(attached(Response::new(body), &format!("{name}.zip"), "application/zip"))
}

/// A branch's files as editors and shells see them; links are left out.
struct Tree(Arc<Hub>);

impl archive::Source for Tree {
    type Place = Option<RelPath>;

    async fn list(&self, folder: &Self::Place, _path: &str) -> io::Result<Had<Vec<Child<Self::Place>>>> {
        let entries = match self.0.folder(folder.as_ref(), MAX_NAMES).await {
            Ok(Some(entries)) => entries,
            Ok(None) => return Ok(Had::Gone),
            Err(error) => return had(error),
        };
        let children = entries.into_iter().filter(|entry| entry.kind != Kind::Symlink).filter_map(|entry| {
            let place: RelPath = entry.path.parse().ok()?;
            let name = place.file_name().to_owned();
            Some(Child { name, place: Some(place), is_folder: entry.kind == Kind::Folder })
        });
        Ok(Had::There(children.collect()))
    }

    async fn read(&self, file: &Self::Place) -> io::Result<Had<Packed>> {
        let Some(path) = file else { return Ok(Had::Gone) };
        let content = match self.0.read(path, None).await {
            Ok(content) => content,
            Err(error) => return had(error.into()),
        };
        match self.0.workspace().stat(path).await {
            Ok(Some(stat)) => Ok(Had::There(Packed { mode: stat.mode, bytes: content.bytes })),
            Ok(None) => Ok(Had::Gone),
            Err(error) => had(error.into()),
        }
    }
}

/// What a refusal means for an archive.
fn had<T>(error: FilesError) -> io::Result<Had<T>> {
    match error {
        FilesError::Document(DocError::NotFound(_) | DocError::NotAFile(_)) => Ok(Had::Gone),
        FilesError::Document(DocError::TooLarge { .. } | DocError::Path(_) | DocError::Disk(_)) => {
            Ok(Had::Unreadable)
        }
        error => Err(io::Error::other(error)),
    }
}
