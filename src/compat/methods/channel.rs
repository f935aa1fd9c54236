//! `channel/…`: messages between the clients of a branch, by the names of channels. Nothing is kept.

use super::method;
use crate::compat::seats;
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, Room, code};
use parking_lot::Mutex;
use rmpv::Value;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const METHODS: &[Method] = &[
    method!("channel/subscribe", Read, Changes, subscribe),
    method!("channel/unsubscribe", Read, Changes, unsubscribe),
    method!("channel/message", Read, Changes, message),
];

/// Channels of a branch at once.
const MAX_CHANNELS: usize = 1_000;
/// Bytes of a channel's name.
const MAX_NAME: usize = 200;
/// Bytes of one message, encoded: each subscriber may have it waiting.
const MAX_MESSAGE: usize = 256 * 1024;

/// Who listens to what: ids of clients, by channel.
#[derive(Default)]
struct Channels(Mutex<BTreeMap<String, Vec<String>>>);

#[derive(Deserialize)]
struct Named {
    name: String,
}

async fn subscribe(client: &Arc<Client>, named: Named) -> Answered {
    let room = client.room();
    let channels = room.shared::<Channels>();
    let subscribers = {
        let mut channels = channels.0.lock();
        if !channels.contains_key(&named.name)
            && (channels.len() >= MAX_CHANNELS || named.name.len() > MAX_NAME || named.name.is_empty())
        {
            let text = format!("a branch has {MAX_CHANNELS} channels, with names of 1 to {MAX_NAME} bytes");
            return Err(Fault::new(code::RATE_LIMIT, text));
        }
        let subscribers = channels.entry(named.name.clone()).or_default();
        if !subscribers.iter().any(|id| id == client.id()) {
            subscribers.push(client.id().to_owned());
        }
        subscribers.clone()
    };
    tell(room, "channel/subscribed", &named.name, client.id(), &subscribers);
    Answer::of(&json!({ "subscribers": subscribers }))
}

fn tell(room: &Room, method: &str, name: &str, who: &str, subscribers: &[String]) {
    let told = json!({ "name": name, "clientId": who, "subscribers": subscribers });
    let is_meant = |client: &Client| client.id() != who && subscribers.iter().any(|id| id == client.id());
    room.notify_some(method, &told, is_meant);
}

fn leave(channels: &mut BTreeMap<String, Vec<String>>, name: &str, who: &str) -> Option<Vec<String>> {
    let subscribers = channels.get_mut(name)?;
    let before = subscribers.len();
    subscribers.retain(|id| id != who);
    let left = (subscribers.len() < before).then(|| subscribers.clone());
    if subscribers.is_empty() {
        channels.remove(name);
    }
    left
}

async fn unsubscribe(client: &Arc<Client>, named: Named) -> Answered {
    let room = client.room();
    let left = leave(&mut room.shared::<Channels>().0.lock(), &named.name, client.id());
    if let Some(left) = left {
        tell(room, "channel/unsubscribed", &named.name, client.id(), &left);
    }
    Answer::empty()
}

pub(super) fn left(room: &Arc<Room>, client: &Client) {
    let channels = room.shared::<Channels>();
    let names: Vec<_> = channels.0.lock().keys().cloned().collect();
    for name in names {
        let left = leave(&mut channels.0.lock(), &name, client.id());
        if let Some(left) = left {
            tell(room, "channel/unsubscribed", &name, client.id(), &left);
        }
    }
}

#[derive(Deserialize)]
struct Send {
    name: String,
    /// The clients that are meant; all that listen without it.
    clients: Option<Vec<String>>,
    data: Value,
}

async fn message(client: &Arc<Client>, send: Send) -> Answered {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Told<'a> {
        name: &'a str,
        client_id: &'a str,
        is_user: bool,
        data: &'a Value,
    }
    let room = client.room();
    let subscribers = room.shared::<Channels>().0.lock().get(&send.name).cloned();
    let subscribers = subscribers
        .ok_or_else(|| Fault::new(code::CHANNEL_NOT_FOUND, "nobody listens to a channel of this name"))?;
    let told = Told {
        name: &send.name,
        client_id: client.id(),
        is_user: seats::username(client.session()) != seats::GLOBAL,
        data: &send.data,
    };
    let len = crate::compat::socket::encode(&told).map_err(|error| Fault::internal(&error))?.len();
    if len > MAX_MESSAGE {
        return Err(Fault::new(code::RATE_LIMIT, format!("a message has at most {MAX_MESSAGE} bytes")));
    }
    let is_meant = |id: &String| {
        subscribers.contains(id)
            && match &send.clients {
                Some(meant) => meant.contains(id),
                None => id != client.id(),
            }
    };
    let meant: Vec<_> = room.clients().iter().map(|to| to.id().to_owned()).filter(is_meant).collect();
    room.notify_some("channel/message", &told, |to| meant.iter().any(|id| id == to.id()));
    Answer::of(&json!({ "clients": meant }))
}
