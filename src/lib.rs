//! perch: a self-hosted backend for editing code together.
//!
//! A module uses only modules below it in this list; `tests/it/layers.rs` holds that.
//!
//! | module | what it is |
//! |---|---|
//! | [`admin`] | commands beside a running perch: tokens, keys, backups, doctor |
//! | [`server`] | builds everything once, orderly start and shutdown |
//! | [`config`] | the command line and environment, composed of each module's own options |
//! | [`compat`] | the CodeSandbox SDK's protocol: its REST shapes and its socket; only translates |
//! | [`http`] | the native API: routes, document sockets, OpenAPI, the page; only translates |
//! | [`session`] | sessions on a branch: create or find again, tokens, links |
//! | [`branch`] | a live branch: registry, documents, log writer, disk, watcher, members |
//! | [`audit`] | the audit log's writer |
//! | [`agent`] | the process inside a session's sandbox, and perch's side of it |
//! | [`egress`] | how sessions reach hosts outside: a proxy that judges addresses |
//! | [`store`] | SQL on SQLite and Postgres |
//! | [`git`] | git's argument lists, and parsers of what it prints |
//! | [`workspace`] | files under one root, symlinks never leave it |
//! | [`sandbox`] | namespaces, mounts, users and limits of what runs for sessions; a network of each branch's own |
//! | [`crdt`] | yrs behind our types: updates, awareness, frames, text diff; no I/O |
//! | [`traces`] | OpenTelemetry, where it is asked for |
//! | [`base`] | ids, rights, time, tasks |

#[cfg(not(target_os = "linux"))]
compile_error!(
    "perch runs on Linux only: it needs openat2, renameat2 and inotify; use a Linux machine, VM or container"
);

pub mod admin;
pub mod agent;
pub mod audit;
pub mod base;
pub mod branch;
pub mod compat;
pub mod config;
pub mod crdt;
pub mod egress;
pub mod git;
pub mod http;
pub mod sandbox;
pub mod server;
pub mod session;
pub mod store;
pub mod traces;
pub mod workspace;
