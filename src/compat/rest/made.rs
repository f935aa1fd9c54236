//! Sandboxes made of files, and templates: what the SDK's low-level API has beside forks.

use super::answer::{Data, Refusal};
use super::ask::{Asked, Key, branch_id};
use super::fork::{Copy, check_privacy, copied, copy, previews_of};
use super::list;
use super::text::{check_description, check_tags, check_title};
use crate::base::BranchId;
use crate::branch::{ArchiveFormat, BranchChange};
use crate::compat::Compat;
use crate::compat::sandboxes::{PRIVATE, unused};
use crate::store::{Sandbox, SandboxState};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;

/// Bytes of the files of a new sandbox, as JSON.
const MAX_FILES: usize = 64 * 1024 * 1024;
/// Tags, and aliases, of one perch.
const MAX_NAMES: i64 = 10_000;
/// Branches of one tag.
const MAX_TAGGED: usize = 100;
/// There is one team.
pub(super) const TEAM: &str = "perch";

pub(super) fn routes() -> Router<Compat> {
    Router::new()
        .route("/sandbox", get(list::list).post(create).layer(DefaultBodyLimit::max(MAX_FILES)))
        .route("/templates", post(template))
        .route("/vm/tag", post(tag))
        .route("/vm/alias/{namespace}/{alias}", put(alias))
}

/// A sandbox to be made of files.
#[derive(Deserialize)]
struct Create {
    title: Option<String>,
    description: Option<String>,
    privacy: Option<i64>,
    tags: Option<Vec<String>>,
    #[serde(default)]
    files: BTreeMap<String, FileOf>,
}

/// Text or, in base64, bytes.
#[derive(Deserialize)]
struct FileOf {
    code: Option<String>,
    binary_content: Option<String>,
}

#[derive(Serialize)]
struct Created {
    id: BranchId,
    alias: BranchId,
    title: String,
}

async fn create(
    State(compat): State<Compat>,
    _: Key,
    Asked(wanted): Asked<Create>,
) -> Result<Data<Created>, Refusal> {
    check_privacy(wanted.privacy)?;
    let title = wanted.title.filter(|title| !title.is_empty());
    check_title(title.as_deref())?;
    check_description(wanted.description.as_deref())?;
    let tags = wanted.tags.unwrap_or_default();
    check_tags(&tags)?;
    let files = wanted.files;
    let packed = tokio::task::spawn_blocking(move || pack(files)).await;
    let packed = packed
        .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong in perch"))??;
    let app = &compat.app;
    let title = title.unwrap_or_else(|| "sandbox".to_owned());
    let bytes = futures_util::stream::iter([Ok::<_, Infallible>(packed)]);
    let branch = app.branches.create_from_archive(title, ArchiveFormat::Tar, bytes).await?;
    let privacy = wanted.privacy.unwrap_or(PRIVATE);
    let change = BranchChange {
        description: wanted.description,
        tags: Some(tags),
        previews: Some(previews_of(privacy, None)),
        ..BranchChange::default()
    };
    app.branches.describe(&branch.id, change).await?;
    let fresh = Sandbox { privacy, state: SandboxState::New, ..unused() };
    app.store.change_sandbox(&branch.id, fresh, |_| {}).await?;
    copied(&compat, &branch.id).await?;
    Ok(Data(StatusCode::CREATED, Created { alias: branch.id.clone(), id: branch.id, title: branch.name }))
}

/// The files as an archive, which is unpacked as any that is uploaded.
fn pack(files: BTreeMap<String, FileOf>) -> Result<Bytes, Refusal> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, file) in files {
        let bytes = match (file.code, file.binary_content) {
            (_, Some(packed)) => STANDARD
                .decode(packed.as_bytes())
                .map_err(|_| Refusal::value(format!("`binary_content` of `{path}` is not base64")))?,
            (code, None) => code.unwrap_or_default().into_bytes(),
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let inside = path.trim_start_matches('/');
        archive
            .append_data(&mut header, inside, &bytes[..])
            .map_err(|_| Refusal::value(format!("`{path}` is no path of a file in a sandbox")))?;
    }
    let packed = archive.into_inner();
    packed.map(Bytes::from).map_err(|error| Refusal::value(format!("`files` can't be taken: {error}")))
}

/// A template to be made of a sandbox.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WantedTemplate {
    fork_of: String,
    title: Option<String>,
    description: Option<String>,
    tags: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Template {
    tag: String,
    sandboxes: [Tagged; 1],
}

#[derive(Serialize)]
struct Tagged {
    id: BranchId,
    cluster: &'static str,
}

async fn template(
    State(compat): State<Compat>,
    _: Key,
    Asked(wanted): Asked<WantedTemplate>,
) -> Result<Data<Template>, Refusal> {
    let how = Copy {
        privacy: None,
        private_preview: None,
        title: wanted.title,
        description: wanted.description,
        tags: wanted.tags,
    };
    let branch = copy(&compat, &wanted.fork_of, how, true).await?;
    let tag = new_tag(&compat, std::slice::from_ref(&branch.id)).await?;
    Ok(Data(
        StatusCode::CREATED,
        Template { tag, sandboxes: [Tagged { id: branch.id, cluster: super::life::CLUSTER }] },
    ))
}

#[derive(Deserialize)]
struct WantedTag {
    #[serde(default)]
    vm_ids: Vec<String>,
}

#[derive(Serialize)]
struct Tag {
    tag_id: String,
}

async fn new_tag(compat: &Compat, branches: &[BranchId]) -> Result<String, Refusal> {
    let id = uuid::Uuid::now_v7().to_string();
    if !compat.app.store.insert_tag(&id, branches, MAX_NAMES, compat.app.clock.now_ms()).await? {
        return Err(Refusal::new(StatusCode::CONFLICT, format!("there are {MAX_NAMES} tags of templates")));
    }
    Ok(id)
}

async fn tag(
    State(compat): State<Compat>,
    _: Key,
    Asked(wanted): Asked<WantedTag>,
) -> Result<Data<Tag>, Refusal> {
    if wanted.vm_ids.is_empty() || wanted.vm_ids.len() > MAX_TAGGED {
        return Err(Refusal::value("`vm_ids` are 1 to 100"));
    }
    let branches = wanted.vm_ids.iter().map(|id| branch_id(id)).collect::<Result<Vec<_>, _>>()?;
    for branch in &branches {
        compat.app.branches.ready(branch).await?;
    }
    Ok(Data(StatusCode::CREATED, Tag { tag_id: new_tag(&compat, &branches).await? }))
}

#[derive(Deserialize)]
struct WantedAlias {
    tag_id: String,
}

#[derive(Serialize)]
struct AliasIs {
    namespace: String,
    alias: String,
    tag_id: String,
    tag_alias_id: String,
    team_id: &'static str,
}

async fn alias(
    State(compat): State<Compat>,
    _: Key,
    Path((namespace, alias)): Path<(String, String)>,
    Asked(wanted): Asked<WantedAlias>,
) -> Result<Data<AliasIs>, Refusal> {
    let is_name = |name: &str| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if !is_name(&namespace) || !is_name(&alias) {
        return Err(Refusal::value(
            "a namespace and an alias are 1 to 64 of letters, digits, `-`, `_` and `.`",
        ));
    }
    let fresh = uuid::Uuid::now_v7().to_string();
    let put = compat.app.store.put_alias(&namespace, &alias, &fresh, &wanted.tag_id, MAX_NAMES).await?;
    let tag_alias_id = put.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "there is no such tag"))?;
    Ok(Data::ok(AliasIs { namespace, alias, tag_id: wanted.tag_id, tag_alias_id, team_id: TEAM }))
}
