//! `fs/download`: a link that needs no token and works five minutes; to a file's bytes, or a folder as a zip archive that
//! is made while it is sent.

use super::{method, watch};
use crate::compat::Compat;
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, errno};
use crate::compat::view::{Place, View};
use crate::http::ApiError;
use crate::http::archive::{self, Child, Had, Packed};
use crate::session::{Maker, SdkDownload};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use globset::GlobSet;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;
use std::io;
use std::sync::Arc;

pub(super) const METHODS: &[Method] = &[method!("fs/download", Read, Free, download)];

/// Seconds that a link works.
const TTL: i64 = 300;
/// Bytes of all globs: they are in the link.
const MAX_EXCLUDES: usize = 2_048;
/// What is left out where the client says nothing.
const EXCLUDES: &str = "**/node_modules/**";

pub(super) fn routes() -> Router<Compat> {
    Router::new().route("/agent/{branch}/download/{token}", get(fetch))
}

#[derive(Deserialize)]
struct Wanted {
    path: String,
    excludes: Option<Vec<String>>,
}

async fn download(client: &Arc<Client>, wanted: Wanted) -> Answered {
    let place = Place::of(&wanted.path)?;
    let excludes = wanted.excludes.unwrap_or_else(|| vec![EXCLUDES.to_owned()]);
    watch::globs(&excludes)?;
    if excludes.iter().map(String::len).sum::<usize>() > MAX_EXCLUDES {
        return Err(Fault::fs(errno::EINVAL, &format!("`excludes` has at most {MAX_EXCLUDES} bytes")));
    }
    client.view().stat(&place).await?;
    let row = client.row();
    let app = client.app();
    let download = SdkDownload {
        branch: row.branch_id.clone(),
        maker: Maker { session: row.id.clone(), epoch: row.epoch },
        permission: client.right(),
        path: place.absolute(),
        excludes,
        exp: app.clock.now_ms() / 1_000 + TTL,
    };
    let signed = app.keys.sign_sdk_download(&download).map_err(|error| Fault::internal(&error))?;
    let (base, branch) = (client.base_url(), &row.branch_id);
    let url = format!("{base}/agent/{branch}/download/{}", signed.expose_secret());
    Answer::of(&json!({ "downloadUrl": url }))
}

async fn fetch(State(compat): State<Compat>, Path((branch, token)): Path<(String, String)>) -> Response {
    let mut response = match give(&compat, &branch, &token).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    let fixed = [
        // Browsers fetch it; nothing of the page's goes along.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        // The address is the secret.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // What users wrote gets no rights on this origin.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox; frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn give(compat: &Compat, branch: &str, token: &str) -> Result<Response, ApiError> {
    // One answer for all: a link tells nothing about why it does not work.
    let refused = || {
        let detail = "the link is not valid, its time is over, or who made it may not any more";
        ApiError::new(StatusCode::FORBIDDEN, "download_refused", detail)
    };
    let app = &compat.app;
    let download = app.keys.verify_sdk_download(token).map_err(|_| refused())?;
    if download.branch.as_str() != branch {
        return Err(refused());
    }
    let row = app.store.session(&download.branch, &download.maker.session).await?;
    let row = row.filter(|row| row.epoch == download.maker.epoch && row.ended_at_ms.is_none());
    let row = row.ok_or_else(refused)?;
    let hub = app.branches.hub(&download.branch).await?;
    let room = compat.rooms.of(&hub, &app.tasks);
    let view = View {
        app: app.clone(),
        member: hub.members().enter(&row),
        hub,
        right: download.permission,
        calls: room.shared(),
    };
    let refusal = |fault: Fault| match fault.errno() {
        Some(errno::ENOENT) => ApiError::new(StatusCode::NOT_FOUND, "not_found", fault.message()),
        _ => ApiError::new(StatusCode::CONFLICT, "download_failed", fault.message()),
    };
    let place = Place::of(&download.path).map_err(refusal)?;
    let found = view.stat(&place).await.map_err(refusal)?;
    let name = match place.name() {
        name if name.is_empty() => "files".to_owned(),
        name => name,
    };
    if !found.is_folder {
        let bytes = view.read(&place).await.map_err(refusal)?;
        return Ok((described("application/octet-stream", &name), bytes).into_response());
    }
    let excludes = watch::globs(&download.excludes).map_err(refusal)?;
    let made_for = archive::For::take(&view.hub, Some((Arc::clone(&view.member), row.epoch)))?;
    let source = Excluding { view, excludes };
    let body = archive::zip(&app.tasks, source, place, made_for);
    Ok((described("application/zip", &format!("{name}.zip")), body).into_response())
}

fn described(kind: &'static str, name: &str) -> [(HeaderName, String); 2] {
    let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
    [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename*=UTF-8''{name}")),
    ]
}

/// A session's files without what its link leaves out.
struct Excluding {
    view: View,
    excludes: GlobSet,
}

impl archive::Source for Excluding {
    type Place = Place;

    /// Links are left out: what they lead to is elsewhere or comes by itself.
    async fn list(&self, folder: &Place, path: &str) -> io::Result<Had<Vec<Child<Place>>>> {
        let entries = match self.view.list(folder).await {
            Ok(entries) => entries,
            Err(fault) => return of_fault(&fault),
        };
        let children = entries.into_iter().filter(|entry| !entry.is_link).filter_map(|entry| {
            let path = if path.is_empty() { entry.name.clone() } else { format!("{path}/{}", entry.name) };
            // A name that can't be written in a path is one of no file that clients could name either.
            let place = folder.join(&entry.name).ok()?;
            let (name, is_folder) = (entry.name, entry.is_folder);
            (!self.excludes.is_match(path)).then_some(Child { name, place, is_folder })
        });
        Ok(Had::There(children.collect()))
    }

    async fn read(&self, file: &Place) -> io::Result<Had<Packed>> {
        let read = async { Ok((self.view.stat(file).await?.mode, self.view.read(file).await?)) };
        match read.await {
            Ok((mode, bytes)) => Ok(Had::There(Packed { mode, bytes })),
            Err(fault) => of_fault(&fault),
        }
    }
}

/// What a failed call means for an archive.
fn of_fault<T>(fault: &Fault) -> io::Result<Had<T>> {
    match fault.errno() {
        // Gone meanwhile, or no regular file.
        Some(errno::ENOENT | errno::EINVAL) => Ok(Had::Gone),
        Some(errno::EACCES | errno::EFBIG) => Ok(Had::Unreadable),
        _ => Err(io::Error::other(fault.message().to_owned())),
    }
}
