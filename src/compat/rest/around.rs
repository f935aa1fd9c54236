//! What is not about one sandbox: perch itself, its one cluster, its one workspace.

use super::answer::{Data, Refusal};
use super::ask::{Asked, Key, OwnerKey};
use super::life::CLUSTER;
use super::made::TEAM;
use crate::base::TokenId;
use crate::compat::Compat;
use crate::session::{TokenError, create_token};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The version of the SDK's API that is spoken.
const API: &str = "2023-07-01";
/// What an API token of perch may do: all.
const SCOPES: [&str; 4] = ["sandbox_create", "sandbox_edit_code", "sandbox_read", "vm_manage"];

pub(super) fn routes() -> Router<Compat> {
    Router::new()
        .route("/meta/info", get(meta))
        .route("/vm/clusters", get(clusters))
        .route("/workspace/preview_hosts", get(hosts).post(no_hosts).put(no_hosts))
        .route("/org/workspace", post(no_workspace))
        .route("/org/workspace/{team_id}/tokens", post(token))
        .route("/org/workspace/{team_id}/tokens/{token_id}", patch(no_change))
}

/// The one answer without an envelope; whoever has a key hears what it is good for.
async fn meta(key: Result<Key, Refusal>) -> Json<Value> {
    let api = json!({ "name": "perch", "latest_version": API });
    Json(match key {
        Ok(_) => json!({ "api": api, "auth": { "scopes": SCOPES, "team": TEAM, "version": API } }),
        Err(_) => json!({ "api": api }),
    })
}

#[derive(Serialize)]
struct Clusters {
    clusters: [Cluster; 1],
}

#[derive(Serialize)]
struct Cluster {
    host: String,
    slug: &'static str,
}

async fn clusters(
    State(compat): State<Compat>,
    _: Key,
    headers: HeaderMap,
) -> Result<Data<Clusters>, Refusal> {
    let base = compat.app.site.base_url(&headers)?;
    let host = base.split_once("://").map_or(base.as_str(), |(_, host)| host).to_owned();
    Ok(Data::ok(Clusters { clusters: [Cluster { host, slug: CLUSTER }] }))
}

#[derive(Serialize)]
struct Hosts {
    preview_hosts: [Value; 0],
}

async fn hosts(_: Key) -> Data<Hosts> {
    Data::ok(Hosts { preview_hosts: [] })
}

async fn no_hosts(_: Key) -> Refusal {
    let text = "perch has no list of hosts that may show previews; they are open to frames of every page";
    Refusal::new(StatusCode::NOT_IMPLEMENTED, text)
}

async fn no_workspace(_: Key) -> Refusal {
    Refusal::new(
        StatusCode::NOT_IMPLEMENTED,
        format!("a perch is one workspace, `{TEAM}`; start another perch"),
    )
}

/// An API token that is wanted.
#[derive(Deserialize)]
struct WantedToken {
    description: Option<String>,
    scopes: Option<Vec<String>>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct NewToken {
    token: String,
    token_id: TokenId,
    team_id: &'static str,
    scopes: [&'static str; 4],
    description: String,
    expires_at: Option<String>,
}

async fn token(
    State(compat): State<Compat>,
    _: OwnerKey,
    Path(team): Path<String>,
    Asked(wanted): Asked<WantedToken>,
) -> Result<Data<NewToken>, Refusal> {
    check_team(&team)?;
    let scopes = wanted.scopes.unwrap_or_default();
    let are_all = SCOPES.iter().all(|scope| scopes.iter().any(|one| one == scope));
    if !are_all && !scopes.is_empty() {
        return Err(Refusal::value(
            "an API token of perch may do everything; ask for all four `scopes`, or none",
        ));
    }
    if wanted.expires_at.is_some() {
        return Err(Refusal::value(
            "an API token of perch does not expire; leave `expires_at` out, and revoke it",
        ));
    }
    let name = wanted.description.unwrap_or_else(|| "made by the SDK's API".to_owned());
    let (token, secret) = create_token(&compat.app.store, &compat.app.clock, &name, false).await?;
    Ok(Data(
        StatusCode::CREATED,
        NewToken {
            token: secret.expose_secret().to_owned(),
            token_id: token.id,
            team_id: TEAM,
            scopes: SCOPES,
            description: token.name,
            expires_at: None,
        },
    ))
}

async fn no_change(_: OwnerKey, Path((team, _)): Path<(String, String)>) -> Refusal {
    if let Err(refusal) = check_team(&team) {
        return refusal;
    }
    let text = "an API token of perch does not change; revoke it with DELETE /v1/tokens/…, and make another";
    Refusal::new(StatusCode::NOT_IMPLEMENTED, text)
}

fn check_team(team: &str) -> Result<(), Refusal> {
    if team == TEAM {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::NOT_FOUND, format!("a perch is one workspace, `{TEAM}`")))
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        crate::http::ApiError::from(error).into()
    }
}
