//! `git/…`: what the native API does, in the client's own session.

use super::{Nothing, method};
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, code};
use crate::git::{Change, Entry};
use crate::http::{ApiError, Caller, On, git_steps as steps};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) const METHODS: &[Method] = &[
    method!("git/remotes", Read, Looks, remotes),
    method!("git/status", Read, Looks, status),
    method!("git/targetDiff", Read, Looks, target_diff),
    method!("git/diffStatus", Read, Looks, diff_status),
    method!("git/remoteContent", Read, Looks, remote_content),
    method!("git/commit", Write, Changes, commit),
    method!("git/discard", Write, Changes, discard),
    method!("git/pull", Write, Free, pull),
    method!("git/push", Write, Free, push),
    method!("git/renameBranch", Write, Free, refused),
    method!("git/pushToRemote", Write, Free, refused),
    method!("git/resetLocalWithRemote", Write, Free, refused),
    method!("git/checkoutInitialBranch", Write, Free, refused),
    method!("git/transposeLines", Read, Free, refused),
];

/// Numbers of refusals.
mod number {
    pub(super) const IN_PROGRESS: i32 = 400;
    pub(super) const NO_FILE: i32 = 404;
    pub(super) const CONFLICT: i32 = 420;
    pub(super) const PUSH: i32 = 440;
    pub(super) const PULL: i32 = 460;
}

fn on(client: &Client) -> On {
    let caller = Caller::Session { row: Box::new(client.row().clone()), permission: client.right() };
    let (hub, state) = (Arc::clone(client.hub()), client.app().clone());
    On { caller, branch: hub.branch().clone(), hub, state }
}

/// A refusal; `else_number`: where it is nothing special.
fn fault(error: &ApiError, else_number: i32) -> Fault {
    let number = match error.code() {
        "git_locked" | "git_under_way" => number::IN_PROGRESS,
        "git_conflict" => number::CONFLICT,
        _ if error.status() == StatusCode::FORBIDDEN => code::NO_ACCESS,
        _ => else_number,
    };
    Fault::new(number, error.detail())
}

/// As [`fault`], with nothing special to it.
fn plain(error: &ApiError) -> Fault {
    fault(error, code::CRITICAL)
}

/// A folder that is no repository has nothing.
fn or_nothing<T: Default>(outcome: Result<T, ApiError>) -> Result<Option<T>, Fault> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == "git_no_repository" => Ok(None),
        Err(error) => Err(plain(&error)),
    }
}

async fn remotes(client: &Arc<Client>, _: Nothing) -> Answered {
    let found = or_nothing(steps::remotes(&on(client)).await)?.unwrap_or_default();
    let url = |name: &str| found.iter().find(|one| one.name == name).map_or("", |one| one.url.as_str());
    Answer::of(&json!({ "origin": url("origin"), "upstream": url("upstream") }))
}

fn letter(change: Option<Change>) -> &'static str {
    match change {
        None => "",
        Some(Change::Added) => "A",
        Some(Change::Modified | Change::TypeChanged) => "M",
        Some(Change::Deleted) => "D",
        Some(Change::Renamed) => "R",
        Some(Change::Copied) => "C",
    }
}

fn item(entry: &Entry) -> Value {
    let both = |conflict: &str, at: usize| match conflict.get(at..=at) {
        Some("A") => "A",
        Some("D") => "D",
        _ => "U",
    };
    let (index, tree) = match &entry.conflict {
        Some(conflict) => (both(conflict, 0), both(conflict, 1)),
        None if entry.untracked => ("?", "?"),
        None => (letter(entry.staged), letter(entry.unstaged)),
    };
    json!({
        "path": entry.path, "index": index, "workingTree": tree, "isStaged": entry.staged.is_some(),
        "isConflicted": entry.conflict.is_some(),
    })
}

async fn status(client: &Arc<Client>, _: Nothing) -> Answered {
    let found = or_nothing(steps::status(&on(client)).await)?.unwrap_or_default();
    let is_gone = |entry: &&Entry| {
        entry.conflict.is_none() && [entry.staged, entry.unstaged].contains(&Some(Change::Deleted))
    };
    let changed: Map<String, Value> =
        found.entries.iter().filter(|it| !is_gone(it)).map(|it| (it.path.clone(), item(it))).collect();
    let deleted: Vec<Value> = found.entries.iter().filter(is_gone).map(item).collect();
    let has_conflicts = found.entries.iter().any(|entry| entry.conflict.is_some());
    let head = &found.head;
    let remote = json!({
        "head": head.commit, "branch": head.upstream, "ahead": head.ahead.unwrap_or(0),
        "behind": head.behind.unwrap_or(0), "safe": !has_conflicts,
    });
    Answer::of(&json!({
        "changedFiles": changed, "deletedFiles": deleted, "conflicts": has_conflicts,
        "localChanges": !found.entries.is_empty(), "isMerging": has_conflicts, "remote": remote, "target": remote,
        "head": head.commit, "commits": [], "branch": head.branch,
    }))
}

#[derive(Deserialize)]
struct Target {
    branch: String,
}

async fn target_diff(client: &Arc<Client>, params: Target) -> Answered {
    let found = steps::distance(&on(client), &params.branch).await.map_err(|error| plain(&error))?;
    let commits: Vec<_> = found
        .commits
        .iter()
        .map(|commit| {
            json!({
                "hash": commit.hash, "date": commit.author.at_ms, "message": commit.subject,
                "author": commit.author.name,
            })
        })
        .collect();
    Answer::of(&json!({ "ahead": found.ahead, "behind": found.behind, "commits": commits }))
}

#[derive(Deserialize)]
struct Between {
    base: String,
    head: String,
}

async fn diff_status(client: &Arc<Client>, params: Between) -> Answered {
    let files = steps::compared(&on(client), &params.base, &params.head).await;
    let files = files.map_err(|error| plain(&error))?;
    let range = |start: u64, len: u64| json!({ "start": start, "end": start + len });
    let files: Vec<_> = files
        .iter()
        .map(|file| {
            let hunks: Vec<_> = file
                .hunks
                .iter()
                .map(|hunk| {
                    json!({
                        "original": range(hunk.old_start, hunk.old_len),
                        "modified": range(hunk.new_start, hunk.new_len),
                    })
                })
                .collect();
            json!({
                "status": letter(Some(file.change)), "path": file.path, "oldPath": file.from, "hunks": hunks,
            })
        })
        .collect();
    Answer::of(&json!({ "files": files }))
}

#[derive(Deserialize)]
struct At {
    reference: String,
    path: String,
}

async fn remote_content(client: &Arc<Client>, params: At) -> Answered {
    let content = steps::content(&on(client), &params.reference, &params.path).await;
    let content = content.map_err(|error| fault(&error, number::NO_FILE))?;
    Answer::of(&json!({ "content": String::from_utf8_lossy(&content) }))
}

#[derive(Deserialize)]
struct Commit {
    message: String,
    paths: Option<Vec<String>>,
    push: Option<bool>,
}

async fn commit(client: &Arc<Client>, params: Commit) -> Answered {
    if params.paths.is_some_and(|paths| !paths.is_empty()) {
        let text = "some files alone are committed by the native API, or by git in a shell";
        return Err(Fault::new(code::UNAVAILABLE, text));
    }
    let room = client.room();
    room.notify_all("git/commitStarted", &());
    let outcome = steps::committed(on(client), params.message).await;
    room.notify_all("git/commitFinished", &json!({ "exitCode": i32::from(outcome.is_err()) }));
    outcome.map_err(|error| plain(&error))?;
    if params.push == Some(true) {
        steps::pushed(on(client)).await.map_err(|error| fault(&error, number::PUSH))?;
    }
    // It runs in no shell.
    Answer::of(&json!({ "shellId": null }))
}

#[derive(Deserialize)]
struct Discard {
    paths: Option<Vec<String>>,
}

async fn discard(client: &Arc<Client>, params: Discard) -> Answered {
    let paths = params.paths;
    steps::discarded(on(client), paths.clone()).await.map_err(|error| plain(&error))?;
    Answer::of(&json!({ "paths": paths }))
}

#[derive(Deserialize)]
struct Pull {
    branch: Option<String>,
    force: Option<bool>,
}

async fn pull(client: &Arc<Client>, params: Pull) -> Answered {
    if params.force == Some(true) {
        return Err(Fault::new(code::UNAVAILABLE, "a pull that loses work is not offered; discard it first"));
    }
    let room = client.room();
    room.notify_all("git/pullStarted", &());
    let outcome = steps::pulled(on(client), params.branch).await;
    room.notify_all("git/pullFinished", &json!({}));
    outcome.map_err(|error| fault(&error, number::PULL))?;
    Answer::nil()
}

async fn push(client: &Arc<Client>, _: Nothing) -> Answered {
    steps::pushed(on(client)).await.map_err(|error| fault(&error, number::PUSH))?;
    Answer::nil()
}

async fn refused(_: &Arc<Client>, _: serde::de::IgnoredAny) -> Answered {
    Err(Fault::new(code::UNAVAILABLE, "this is not offered here; use git in a shell, or the native API"))
}
