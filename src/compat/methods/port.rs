//! `port/…`: what the sandbox's processes listen on.

use super::{Nothing, method};
use crate::branch::Event;
use crate::compat::board;
use crate::compat::socket::{Answer, Answered, Client, Method, Room};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const METHODS: &[Method] = &[method!("port/list", Read, Free, list)];

fn all(client: &Client) -> Value {
    json!({ "list": board::ports(client.app(), client.hub(), client.base_url()) })
}

async fn list(client: &Arc<Client>, _: Nothing) -> Answered {
    Answer::of(&all(client))
}

pub(super) fn heard(room: &Arc<Room>, event: &Event) {
    if matches!(event, Event::PortOpened { .. } | Event::PortClosed { .. } | Event::Reset) {
        for client in room.clients() {
            client.notify("port/changed", &all(&client));
        }
    }
}
