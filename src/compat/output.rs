//! A client's subscriptions to the output of shells: what is printed, in few messages, then the exit.

use super::gather::Gather;
use super::shells::{Shell, exit_code};
use super::socket::{Client, Room};
use crate::base::TerminalId;
use crate::branch::{Attachment, Output, Reader, Viewer};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What a client has subscribed to. Bounded by the terminals that a branch has.
#[derive(Default)]
pub(super) struct Subscriptions {
    by_shell: Mutex<HashMap<TerminalId, Arc<Subscription>>>,
}

struct Subscription {
    /// Whether something may still be told; held while it is, so that nothing is told after it was ended.
    is_live: Mutex<bool>,
    ended: CancellationToken,
}

impl Subscription {
    fn end(&self) {
        *self.is_live.lock() = false;
        self.ended.cancel();
    }

    fn tell(&self, work: impl FnOnce()) {
        let is_live = self.is_live.lock();
        if *is_live {
            work();
        }
    }
}

impl Subscriptions {
    /// Whether the client hears of a shell's output, and so of its exit after that.
    pub(super) fn has(&self, shell: &TerminalId) -> bool {
        self.by_shell.lock().contains_key(shell)
    }

    /// Ends a subscription; nothing is told of it from here on.
    pub(super) fn end(&self, shell: &TerminalId) {
        let ended = self.by_shell.lock().remove(shell);
        if let Some(subscription) = ended {
            subscription.end();
        }
    }

    /// Tells nothing more of a shell until it is begun anew; the client stays subscribed.
    fn pause(&self, shell: &TerminalId) {
        let paused = self.by_shell.lock().get(shell).cloned();
        if let Some(subscription) = paused {
            subscription.end();
        }
    }

    fn begin(&self, shell: &TerminalId) -> Arc<Subscription> {
        let begun = Arc::new(Subscription { is_live: Mutex::new(true), ended: CancellationToken::new() });
        let before = self.by_shell.lock().insert(shell.clone(), Arc::clone(&begun));
        if let Some(before) = before {
            before.end();
        }
        begun
    }

    /// Forgets those of shells that are not there any more.
    fn tidy(&self, is_there: impl Fn(&TerminalId) -> bool) {
        self.by_shell.lock().retain(|shell, _| is_there(shell));
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Out<'a> {
    shell_id: &'a TerminalId,
    out: &'a str,
}

/// A place to look at a shell from, as the client's session.
pub(super) fn attach(client: &Client, shell: &Shell) -> Attachment {
    let viewer =
        Viewer { member: Arc::clone(client.member()), token: client.right(), epoch: client.row().epoch };
    let (hub, terminal) = (Arc::clone(client.hub()), Arc::clone(shell.terminal()));
    Attachment::new(hub, terminal, viewer, client.app().next_connection())
}

/// Subscribes a client to what a reader finds from here on.
pub(super) fn subscribe(client: &Arc<Client>, shell: &Arc<Shell>, attachment: Attachment, reader: Reader) {
    let subscriptions = client.kept::<Subscriptions>();
    let hub = client.hub();
    subscriptions.tidy(|id| hub.terminals().get(id).is_some());
    let subscription = subscriptions.begin(shell.id());
    let (this, shell) = (Arc::clone(client), Arc::clone(shell));
    client.spawn(async move {
        let ended = subscription.ended.clone();
        tokio::select! {
            () = ended.cancelled() => {}
            () = follow(&this, &shell, &subscription, &attachment, reader) => {}
        }
    });
}

/// Subscribes a client to the whole output of a shell's present run.
pub(super) fn subscribe_from_the_begin(client: &Arc<Client>, shell: &Arc<Shell>) {
    let attachment = attach(client, shell);
    let reader = attachment.live_reader();
    subscribe(client, shell, attachment, reader);
}

async fn follow(
    client: &Client,
    shell: &Shell,
    subscription: &Subscription,
    attachment: &Attachment,
    mut reader: Reader,
) {
    let send = async |out: Option<String>| {
        let Some(out) = out else { return };
        client.has_room().await;
        subscription.tell(|| client.notify("shell/out", &Out { shell_id: shell.id(), out: &out }));
    };
    let mut gather = Gather::new(Instant::now());
    let exit = loop {
        if gather.is_full() {
            send(gather.take(Instant::now())).await;
            continue;
        }
        let due = gather.due();
        let wait = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            output = reader.next(attachment) => match output {
                Output::Bytes(bytes) => gather.push(&bytes, Instant::now()),
                // Told in its place: clients of this protocol have no other way to know.
                Output::Gap { from, to } => {
                    let text = format!("\r\n[perch: {} bytes are missing here, they were not read in time]\r\n", to - from);
                    gather.push(text.as_bytes(), Instant::now());
                }
                Output::At(_) => {}
                Output::Ended(exit) => break exit,
            },
            () = wait => send(gather.take(Instant::now())).await,
        }
        if gather.due().is_some_and(|due| due <= Instant::now()) {
            send(gather.take(Instant::now())).await;
        }
    };
    while let Some(rest) = gather.rest() {
        send(Some(rest)).await;
    }
    if shell.tells_exit() {
        subscription.tell(|| {
            // Version 0.11.2 takes its status from here.
            client.notify("shell/rename", &json!({ "shell": shell.view(client.session()) }));
            let exit = exit_of(shell, exit_code(exit));
            client.notify("shell/exit", &exit);
        });
    }
}

fn exit_of(shell: &Shell, code: i32) -> serde_json::Value {
    json!({ "shellId": shell.id(), "shellType": shell.kind(), "exitCode": code })
}

/// Tells of a shell's end those who do not hear its output; to others, and to who is about to, it is told after that.
pub(super) fn tell_exit(room: &Room, shell: &Shell) {
    // In this order: who has just subscribed is no longer awaited.
    let hears = |client: &Client| shell.awaits(client.id()) || client.kept::<Subscriptions>().has(shell.id());
    tell_exit_to(room, shell, |client| !hears(client));
}

/// Tells everybody of a shell's end.
pub(super) fn tell_exit_to_all(room: &Room, shell: &Shell) {
    tell_exit_to(room, shell, |_| true);
}

fn tell_exit_to(room: &Room, shell: &Shell, is_meant: impl Fn(&Client) -> bool) {
    let Some((exit, _)) = shell.terminal().shape().exit else { return };
    let exit = exit_of(shell, exit_code(exit));
    for client in room.clients().iter().filter(|client| is_meant(client)) {
        client.notify("shell/rename", &json!({ "shell": shell.view(client.session()) }));
        client.notify("shell/exit", &exit);
    }
}

/// A shell is about to run anew: what its new run prints is not to be told by who still hears the old one.
pub(super) fn pause(room: &Room, shell: &Shell) {
    for client in room.clients() {
        client.kept::<Subscriptions>().pause(shell.id());
    }
}

/// A shell runs anew: those who heard its output go on hearing it.
pub(super) fn resubscribe(room: &Room, shell: &Arc<Shell>) {
    for client in room.clients() {
        if client.kept::<Subscriptions>().has(shell.id()) {
            subscribe_from_the_begin(&client, shell);
        }
    }
}

/// A shell is gone: nobody hears of it any more.
pub(super) fn unsubscribe(room: &Room, shell: &Shell) {
    for client in room.clients() {
        client.kept::<Subscriptions>().end(shell.id());
    }
}
