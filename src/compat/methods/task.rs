//! `task/…`: what `.codesandbox/tasks.json` says can be run.

use super::{Nothing, method};
use crate::branch::Event;
use crate::compat::board::At;
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, Room, code};
use crate::compat::tasks_file::PATH;
use serde::Deserialize;
use std::sync::Arc;

pub(super) const METHODS: &[Method] = &[
    // After changes that came before: one may be of the file.
    method!("task/list", Read, Looks, list),
    method!("task/run", Write, Looks, run),
    method!("task/stop", Write, Free, stop),
    method!("task/runCommand", Write, Free, edit),
    method!("task/create", Write, Free, edit),
    method!("task/update", Write, Free, edit),
    method!("task/saveToConfig", Write, Free, edit),
    method!("task/generateConfig", Write, Free, edit),
    method!("task/createSetupTasks", Write, Free, edit),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Of {
    task_id: String,
}

async fn list(client: &Arc<Client>, _: Nothing) -> Answered {
    Answer::of(&At::of(client).list(client.session(), client.base_url()).await)
}

async fn run(client: &Arc<Client>, params: Of) -> Answered {
    client.writer()?;
    let at = At::of(client);
    at.run_task(&params.task_id).await?;
    Ok(Answer::of(&at.task(&params.task_id, client.session(), client.base_url())?)?.holding())
}

async fn stop(client: &Arc<Client>, params: Of) -> Answered {
    client.writer()?;
    let at = At::of(client);
    at.stop_task(&params.task_id).await?;
    Answer::of(&at.task(&params.task_id, client.session(), client.base_url())?)
}

async fn edit(_: &Arc<Client>, _: serde::de::IgnoredAny) -> Answered {
    let text = "tasks are not edited by messages here; write .codesandbox/tasks.json, it is read at once";
    Err(Fault::new(code::UNAVAILABLE, text))
}

/// Tells of tasks that ended, and of another list of them.
pub(super) fn heard(room: &Arc<Room>, event: &Event) {
    let is_it =
        |path: &str| path == PATH || PATH.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    let is_changed = match event {
        Event::FileCreated { path, .. }
        | Event::FileChanged { path, .. }
        | Event::FileDeleted { path, .. } => is_it(path),
        Event::FileRenamed { from, path, .. } => is_it(from) || is_it(path),
        Event::Reset => true,
        _ => false,
    };
    if is_changed {
        let this = Arc::clone(room);
        room.spawn(async move {
            if let Some(at) = At::in_room(&this) {
                at.changed().await;
            }
        });
    }
    if let Event::TerminalClosed { terminal, .. } = event
        && let Some(at) = At::in_room(room)
    {
        at.shell_ended(terminal);
    }
    if matches!(event, Event::PortOpened { .. } | Event::PortClosed { .. })
        && let Some(at) = At::in_room(room)
    {
        at.ports_changed();
    }
}
