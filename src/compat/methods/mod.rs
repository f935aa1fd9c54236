//! What the SDK's clients can ask for: one file for each area of the protocol, each with its part of the table.
//!
//! A method is a small function `async fn(&Arc<Client>, Params) -> Answered`; one line of a table names it, the right that
//! it needs and its order. A file of this folder that makes notifications of the branch's events has a function `heard`,
//! one that keeps something for a client `left`; both are called from here.

mod channel;
mod client;
mod download;
mod file;
mod fs;
mod git;
mod language;
mod port;
mod search;
mod setup;
mod shell;
mod system;
mod task;
mod watch;

use super::socket::{Client, Method, Room};
use crate::branch::Event;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// A line of the table: name, right, order, function.
macro_rules! method {
    ($name:literal, $needs:ident, $order:ident, $run:path) => {
        crate::compat::socket::Method {
            name: $name,
            needs: crate::base::Permission::$needs,
            order: crate::compat::socket::Order::$order,
            run: |client, params| {
                Box::pin(async move {
                    let params = crate::compat::methods::params(&params)?;
                    $run(&client, params).await
                })
            },
        }
    };
}
use method;

/// Params as a method wants them.
fn params<P: serde::de::DeserializeOwned>(encoded: &[u8]) -> Result<P, super::socket::Fault> {
    super::socket::parse(encoded)
        .map_err(|error| super::socket::Fault::invalid(&format!("the params are refused: {error}")))
}

/// Routes beside the socket.
pub(super) fn routes() -> axum::Router<super::Compat> {
    download::routes()
}

/// Params of a method that takes none.
#[derive(serde::Deserialize)]
struct Nothing {}

/// All methods.
const ALL: &[&[Method]] = &[
    channel::METHODS,
    client::METHODS,
    download::METHODS,
    file::METHODS,
    fs::METHODS,
    git::METHODS,
    language::METHODS,
    port::METHODS,
    search::METHODS,
    setup::METHODS,
    shell::METHODS,
    system::METHODS,
    task::METHODS,
    watch::METHODS,
];

static BY_NAME: LazyLock<HashMap<&'static str, &'static Method>> =
    LazyLock::new(|| ALL.iter().flat_map(|part| part.iter()).map(|method| (method.name, method)).collect());

/// The method of a name.
pub(super) fn find(name: &str) -> Option<&'static Method> {
    BY_NAME.get(name).copied()
}

/// Something happened on the branch: whoever makes notifications of it does. Must not block.
pub(super) fn heard(room: &Arc<Room>, event: &Event) {
    shell::heard(room, event);
    port::heard(room, event);
    task::heard(room, event);
    file::heard(room, event);
    watch::heard(room, event);
}

/// A client is gone.
pub(super) fn left(room: &Arc<Room>, client: &Client) {
    channel::left(room, client);
    client::left(room, client);
    file::left(room, client);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_there_once() {
        assert_eq!(BY_NAME.len(), ALL.iter().map(|part| part.len()).sum::<usize>());
    }
}
