//! `client/…`: coming in, and who else is there.

use super::method;
use crate::compat::seats;
use crate::compat::socket::{Answer, Answered, Client, Method, Room};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const METHODS: &[Method] =
    &[method!("client/join", Read, Changes, join), method!("client/list", Read, Looks, list)];

/// What both versions of the SDK compare nothing with.
const PROTOCOL: &str = "0.367.10";
/// Of what the SDK calls itself so much is kept.
const MAX_APP_ID: usize = 80;

/// A client, as others see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    client_id: String,
    username: String,
    name: String,
    avatar_url: (),
    color: String,
    app_id: String,
}

impl Info {
    fn of(client: &Client) -> Self {
        let standing = client.member().standing();
        Self {
            client_id: client.id().to_owned(),
            username: seats::username(client.session()).to_owned(),
            name: standing.name,
            avatar_url: (),
            color: standing.color,
            app_id: client.app_id().to_owned(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Join {
    client_info: Option<Who>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Who {
    app_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Joined {
    client: Info,
    permissions: Value,
    capabilities: Value,
    reconnect_token: String,
    workspace_path: &'static str,
    version: &'static str,
    protocol_version: &'static str,
    latest_pitcher_version: &'static str,
    is_protected: bool,
}

/// Once the client has joined, it hears of things; a second time does no harm.
async fn join(client: &Arc<Client>, params: Join) -> Answered {
    let app_id = params.client_info.and_then(|who| who.app_id).unwrap_or_default();
    let is_new = client.joins(app_id.chars().take(MAX_APP_ID).collect());
    let joined = Joined {
        client: Info::of(client),
        permissions: permissions(client.writer().is_ok()),
        capabilities: json!({}),
        // Nothing is looked up by it: tokens can be used again.
        reconnect_token: client.id().to_owned(),
        workspace_path: crate::compat::WORKSPACE,
        version: env!("CARGO_PKG_VERSION"),
        protocol_version: PROTOCOL,
        latest_pitcher_version: env!("CARGO_PKG_VERSION"),
        is_protected: false,
    };
    let answer = Answer::of(&joined)?.holding();
    let (room, this) = (Arc::clone(client.room()), Arc::clone(client));
    Ok(answer.then(move || {
        if is_new {
            room.notify_some("client/connected", &Info::of(&this), |other| other.id() != this.id());
        }
    }))
}

async fn list(client: &Arc<Client>, _: super::Nothing) -> Answered {
    let clients: Vec<_> = client.room().clients().iter().map(|client| Info::of(client)).collect();
    Answer::of(&clients)
}

pub(super) fn left(room: &Arc<Room>, client: &Client) {
    if client.has_joined() {
        let gone = json!({ "clientId": client.id(), "reason": "Disconnect" });
        room.notify_some("client/disconnected", &gone, |_| true);
    }
}

/// What the session may, by area; `writes`: it may change things now. The dispatcher looks at each method's own right.
fn permissions(writes: bool) -> Value {
    json!({
        "file": { "open": true, "documentOperation": writes, "documentSelection": true, "save": writes,
            "documentAck": true, "close": true },
        "fs": { "read": true, "operation": false, "search": true, "pathSearch": true, "upload": writes,
            "download": true },
        "language": { "list": true, "lspRead": false, "lspWrite": false },
        "git": { "status": true, "pull": writes, "commit": writes, "discard": writes, "renameBranch": false,
            "remoteContent": true, "diffStatus": true, "remotes": true, "push": writes },
        "setup": { "get": true, "skip": writes, "skipAll": writes, "setStep": writes, "enable": writes,
            "disable": writes, "init": writes },
        "shell": { "create": writes, "write": writes, "list": true, "open": true, "close": true,
            "restart": writes, "terminate": writes, "resize": writes },
        "task": { "list": true, "run": writes, "stop": writes, "runCommand": writes, "create": writes,
            "update": writes, "saveToConfig": writes, "generateConfig": writes, "createSetupTasks": writes },
        "command": { "list": true, "execute": writes },
        "system": { "update": true, "hibernate": writes, "metrics": true, "containers": false },
        "ai": {},
    })
}
