//! What version 0.11.2 asks for after each reconnect and perch has none of: language servers and commands.

use super::method;
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, code};
use serde_json::json;
use std::sync::Arc;

pub(super) const METHODS: &[Method] = &[
    method!("language/list", Read, Free, languages),
    method!("command/list", Read, Free, commands),
    method!("command/execute", Write, Free, execute),
];

async fn languages(_: &Arc<Client>, _: super::Nothing) -> Answered {
    Answer::of(&json!({ "languages": [] }))
}

async fn commands(_: &Arc<Client>, _: super::Nothing) -> Answered {
    Answer::of(&json!({ "commands": [] }))
}

async fn execute(_: &Arc<Client>, _: super::Nothing) -> Answered {
    Err(Fault::new(code::COMMAND_NOT_FOUND, "there is no such command: `command/list` is empty"))
}
