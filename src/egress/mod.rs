//! How sessions reach hosts outside: a forward proxy in their branch's network, served by perch.
//!
//! The listener lies inside the branch's namespace, the connections that it makes do not. So it decides alone what a
//! session may reach: it resolves names itself, judges the addresses, and connects to exactly those it judged; a name
//! that resolves to something else a moment later gains nothing. Of public addresses all are reached; of others only
//! what `--session-network-allow` names; perch's own listener and database never. Neither names nor addresses nor
//! headers are logged.
//!
//! | file | idea |
//! |---|---|
//! | `address.rs` | which addresses belong to the public internet |
//! | `target.rs` | a host and a port, as flags and requests name them |
//! | `rules.rs` | which addresses of a target may be connected to |
//! | `proxy.rs` | `CONNECT` and `GET http://…`, each request judged by itself |
//! | `leave.rs` | a way out for programs that know no proxy |
//! | `relay.rs` | one HTTP exchange over a connection of its own; bytes both ways |

mod address;
mod leave;
mod proxy;
mod relay;
mod rules;
mod target;

pub use leave::leave;
pub use proxy::{CONNECTIONS, IDLE};
pub use relay::{exchange, without_hop_by_hop};
pub use rules::Rules;
pub use target::Target;

use crate::base::Tasks;
use crate::sandbox::{Network, NetworkError, Reach};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How the sessions of all branches reach the network.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How far.
    pub reach: Reach,
    /// Pairs of host and port that are reached though their addresses are not public.
    pub allow: Vec<Target>,
    /// Pairs that are never reached: perch's own listener and its database.
    pub never: Vec<Target>,
}

/// Makes a branch's network and, where it has one, serves its proxy until `stop`.
///
/// # Errors
/// [`NetworkError`] names the step and the cure.
pub async fn open(
    options: &Options,
    tasks: &Tasks,
    stop: CancellationToken,
) -> Result<Network, NetworkError> {
    match options.reach {
        Reach::Host => Ok(Network::host()),
        Reach::None => Network::isolated().await,
        Reach::Outbound => {
            let (network, listener) = Network::with_proxy().await?;
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|source| NetworkError { step: "watch the proxy's listener", source })?;
            let rules = Arc::new(Rules::new(options.allow.clone(), options.never.clone()));
            let serving = proxy::serve(listener, rules, tasks.clone(), stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(serving).await });
            Ok(network)
        }
    }
}

/// The variables by which programs of a branch find its proxy; none where there is no proxy. curl, git, npm, pip, cargo,
/// apt and Go obey them, Node's `fetch` from version 24 on; ssh and other raw connections do not.
#[must_use]
pub fn environment(network: &Network) -> Vec<(&'static str, String)> {
    let Some(proxy) = network.proxy() else { return Vec::new() };
    let url = format!("http://{proxy}");
    // Programs differ in which case they read.
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let mut variables: Vec<_> = names.into_iter().map(|name| (name, url.clone())).collect();
    variables.extend(["NO_PROXY", "no_proxy"].map(|name| (name, "localhost,127.0.0.1,::1".to_owned())));
    variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_is_told_of() {
        assert!(environment(&Network::host()).is_empty());
    }
}
