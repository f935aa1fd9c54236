//! `shell/…`: programs with a terminal.

use super::{Nothing, method};
use crate::base::Permission;
use crate::branch::{Attachment, Event, Hub, TerminalChange, Viewer, WriteGrant};
use crate::compat::output::{self, Subscriptions};
use crate::compat::shells::{self, Dimensions, Kind, NewShell, Shell, Shells, tell};
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, Room, code};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

pub(super) const METHODS: &[Method] = &[
    // Among the changes: a file that was written before is there for the command.
    method!("shell/create", Write, Changes, create),
    method!("shell/list", Read, Free, list),
    method!("shell/open", Read, Shell, open),
    method!("shell/close", Read, Shell, close),
    method!("shell/in", Write, Shell, input),
    method!("shell/resize", Write, Shell, resize),
    method!("shell/rename", Write, Shell, rename),
    method!("shell/restart", Write, Shell, restart),
    // Not after input that the program does not read.
    method!("shell/terminate", Write, Free, terminate),
];

/// Bytes of one input.
const MAX_INPUT: usize = 4 * 1024 * 1024;
/// Bytes of it that are handed over at once.
const PART: usize = 16 * 1024;
/// How long a program may leave input unread; the SDK waits for 90 s.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    command: Option<String>,
    cwd: Option<String>,
    project_path: Option<String>,
    size: Option<Dimensions>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Of {
    shell_id: String,
    size: Option<Dimensions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    shell_id: String,
    input: String,
    size: Option<Dimensions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rename {
    shell_id: String,
    name: String,
}

fn shells(client: &Client) -> Arc<Shells> {
    client.room().shared()
}

fn shell(client: &Client, id: &str) -> Result<Arc<Shell>, Fault> {
    shells(client).get(client.hub(), id)
}

async fn create(client: &Arc<Client>, params: Create) -> Answered {
    client.writer()?;
    let kind = match params.kind.as_deref() {
        None | Some("TERMINAL") => Kind::Terminal,
        Some("COMMAND") => Kind::Command,
        Some(_) => return Err(Fault::invalid("`type` is `TERMINAL` or `COMMAND`")),
    };
    let (app, hub) = (client.app(), client.hub());
    let row = match kind {
        Kind::Command => shells::global_row(app, hub).await?,
        Kind::Terminal => {
            let row = hub.session_now(client.session()).await?;
            row.filter(|row| row.ended_at_ms.is_none() && row.permission == Permission::Write)
                .ok_or_else(Fault::read_only)?
        }
    };
    let size = params.size.map_or_else(Default::default, Dimensions::size);
    let cwd = params.cwd.or(params.project_path).filter(|cwd| !cwd.is_empty());
    let program = shells::program(params.command, cwd, size)?;
    let title = if kind == Kind::Command { "command" } else { "terminal" };
    let by = client.session().clone();
    let starter = Some(client.id().to_owned());
    let new = NewShell { kind, by, title: title.to_owned(), is_shared: false, program, starter };
    let shell = shells(client).start(app, hub, &row, new).await?;
    // All that it prints comes as output, after the client has read the answer; it may have ended by now.
    let running = shell.view(client.session()).just_started();
    let this = Arc::clone(client);
    Ok(Answer::of(&running)?.holding().then(move || {
        output::subscribe_from_the_begin(&this, &shell);
        shell.is_heard();
    }))
}

async fn list(client: &Arc<Client>, _: Nothing) -> Answered {
    let shells = shells(client).list(client.hub());
    let shells: Vec<_> = shells.iter().map(|shell| shell.view(client.session())).collect();
    Answer::of(&json!({ "shells": shells }))
}

async fn open(client: &Arc<Client>, params: Of) -> Answered {
    let shell = shell(client, &params.shell_id)?;
    if let Some(size) = params.size
        && client.writer().is_ok()
    {
        let typist = typist(client, &shell).await?;
        if typist.may_type() {
            set_size(&typist, size).await?;
        }
    }
    // What the old subscription has not told yet is in what is read now.
    client.kept::<Subscriptions>().end(shell.id());
    let attachment = output::attach(client, &shell);
    let mut reader = attachment.reader(Some(shell.terminal().began_at()));
    let printed = reader.replay(&attachment);
    let view = shell.view(client.session()).with_buffer(String::from_utf8_lossy(&printed).into_owned());
    let this = Arc::clone(client);
    Ok(Answer::of(&view)?.holding().then(move || output::subscribe(&this, &shell, attachment, reader)))
}

async fn close(client: &Arc<Client>, params: Of) -> Answered {
    let shell = shell(client, &params.shell_id)?;
    client.kept::<Subscriptions>().end(shell.id());
    Answer::nil()
}

/// A place to type from, as the session itself; in what runs as the global session as that one: every session that may write
/// runs things so.
async fn typist(client: &Client, shell: &Shell) -> Result<Attachment, Fault> {
    client.writer()?;
    if !shell.runs_as_global() || shell.terminal().opener() == client.session() {
        return Ok(output::attach(client, shell));
    }
    let hub = client.hub();
    let row = shells::global_row(client.app(), hub).await?;
    let member = hub.members().enter(&row);
    let viewer = Viewer { member, token: Permission::Write, epoch: row.epoch };
    let terminal = Arc::clone(shell.terminal());
    Ok(Attachment::new(Arc::clone(hub), terminal, viewer, client.app().next_connection()))
}

async fn set_size(attachment: &Attachment, wanted: Dimensions) -> Result<(), Fault> {
    let size = wanted.size();
    if attachment.terminal().shape().size != size {
        attachment.resize(size).await?;
    }
    Ok(())
}

async fn input(client: &Arc<Client>, params: Typed) -> Answered {
    let shell = shell(client, &params.shell_id)?;
    if params.input.len() > MAX_INPUT {
        return Err(Fault::invalid("an input has at most 4 MiB; write a file"));
    }
    let attachment = typist(client, &shell).await?;
    if let Some(size) = params.size {
        set_size(&attachment, size).await?;
    }
    let typing = async {
        let mut rest = Bytes::from(params.input);
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PART));
            attachment.input(part).await?;
        }
        Ok::<_, Fault>(())
    };
    let late = || Fault::new(code::CRITICAL, "the program does not read what is typed");
    tokio::time::timeout(TAKEN_WITHIN, typing).await.map_err(|_| late())??;
    Answer::nil()
}

async fn resize(client: &Arc<Client>, params: Of) -> Answered {
    let shell = shell(client, &params.shell_id)?;
    if let Some(size) = params.size {
        set_size(&typist(client, &shell).await?, size).await?;
    }
    Answer::nil()
}

/// The shell of an id, if the client may change it.
fn own(client: &Client, id: &str) -> Result<Arc<Shell>, Fault> {
    client.writer()?;
    let shell = shell(client, id)?;
    shell.check_owner(client.session())?;
    Ok(shell)
}

async fn rename(client: &Arc<Client>, params: Rename) -> Answered {
    let shell = own(client, &params.shell_id)?;
    let title = Some(shell.rename(params.name));
    let change = TerminalChange { title, ..TerminalChange::default() };
    shell.terminal().change(&WriteGrant::for_api_token(), change).await?;
    tell(client.room(), "shell/rename", &shell, |view| json!({ "shell": view }));
    Answer::nil()
}

async fn restart(client: &Arc<Client>, params: Of) -> Answered {
    let shell = own(client, &params.shell_id)?;
    let room = client.room();
    let pause = || output::pause(room, &shell);
    let restarted = shells(client).restart(client.app(), client.hub(), &shell, pause).await;
    if let Err(fault) = restarted {
        // Its old run was ended, and nobody heard of that.
        if !shell.terminal().is_open() && shell.tells_exit() {
            output::tell_exit_to_all(room, &shell);
        }
        return Err(fault);
    }
    let room = Arc::clone(room);
    Ok(Answer::nil()?.holding().then(move || {
        room.notify_all("shell/restart", &json!({ "shellId": shell.id() }));
        output::resubscribe(&room, &shell);
    }))
}

async fn terminate(client: &Arc<Client>, params: Of) -> Answered {
    let shell = own(client, &params.shell_id)?;
    // To the end, though the client may go.
    let (room, hub) = (Arc::clone(client.room()), Arc::clone(client.hub()));
    let ending = Arc::clone(&shell);
    let work = async move { room.shared::<Shells>().terminate(&hub, &ending).await };
    client.app().tasks.spawn(work).await.map_err(|_| Fault::new(code::CRITICAL, "perch stops"))??;
    output::unsubscribe(client.room(), &shell);
    let author = crate::compat::seats::username(client.session());
    client.room().notify_all("shell/terminate", &json!({ "shellId": shell.id(), "author": author }));
    Answer::of(&shell.view(client.session()))
}

/// Tells of shells, whoever made them.
pub(super) fn heard(room: &Arc<Room>, event: &Event) {
    let find = |id| -> Option<Arc<Shell>> {
        let hub: Arc<Hub> = room.hub()?;
        room.shared::<Shells>().of(&hub, id)
    };
    match event {
        Event::TerminalOpened { terminal, .. } => {
            if let Some(shell) = find(terminal).filter(|shell| shell.announce()) {
                tell(room, "shell/create", &shell, |view| json!(view));
            }
        }
        Event::TerminalChanged { terminal } => {
            if let Some(shell) = find(terminal).filter(|shell| shell.retitled()) {
                tell(room, "shell/rename", &shell, |view| json!({ "shell": view }));
            }
        }
        Event::TerminalClosed { terminal, .. } => {
            if let Some(shell) = find(terminal).filter(|shell| shell.tells_exit()) {
                output::tell_exit(room, &shell);
            }
        }
        _ => {}
    }
}
