//! Which addresses of a target may be connected to.

use super::address::{is_public, within};
use super::target::{Host, Target};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a name may take to resolve.
const RESOLVE_WITHIN: Duration = Duration::from_secs(10);

/// Why a target is not connected to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It may not be reached.
    #[error(
        "sessions may not reach {0}: it is not a public address. Whoever runs perch can let it through with --session-network-allow {0}"
    )]
    Forbidden(Target),
    /// It is perch itself or its database.
    #[error("sessions may never reach {0}: perch's own listener or its database is there")]
    Never(Target),
    /// Which addresses are this machine's own is not known.
    #[error("perch can't see which addresses are its own ({0}); it needs netlink sockets (AF_NETLINK)")]
    Blind(io::Error),
    /// The name is not known.
    #[error("{0} can't be resolved")]
    Unresolved(Target),
}

/// See the module's docs.
#[derive(Debug)]
pub struct Rules {
    allow: Vec<Target>,
    never: Vec<Target>,
}

impl Rules {
    /// Rules by which public addresses may be reached, and `allow` beside; `never` wins over `allow`.
    #[must_use]
    pub fn new(allow: Vec<Target>, never: Vec<Target>) -> Self {
        Self { allow, never }
    }

    /// The addresses of a target that may be connected to, at least one. Those, and none that the name may have later.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, Refusal> {
        let addresses = resolve(target).await.map_err(|_| Refusal::Unresolved(target.clone()))?;
        let own = Own::now().map_err(Refusal::Blind)?;
        let total = addresses.len();
        let mut reachable = Vec::new();
        for address in addresses {
            if !self.is_never(address, target, &own).await {
                reachable.push(address);
            }
        }
        if total > 0 && reachable.is_empty() {
            return Err(Refusal::Never(target.clone()));
        }
        reachable
            .retain(|address| self.allows(*address, target) || (is_public(*address) && !own.has(*address)));
        if reachable.is_empty() {
            return Err(Refusal::Forbidden(target.clone()));
        }
        Ok(reachable.into_iter().map(|address| SocketAddr::new(address, target.port.get())).collect())
    }

    /// Whether a pair was let through by its name or by its address.
    fn allows(&self, address: IpAddr, target: &Target) -> bool {
        self.allow.iter().any(|allowed| {
            allowed.port == target.port
                && (allowed.host == target.host || allowed.host == Host::Address(address))
        })
    }

    /// Whether perch or its database listens there. Where one listens on this machine, its port is closed on all of the
    /// machine's addresses: there are many names for the same socket. A database whose name can't be resolved now closes
    /// its port everywhere.
    async fn is_never(&self, address: IpAddr, target: &Target, own: &Own) -> bool {
        for never in self.never.iter().filter(|never| never.port == target.port) {
            let Ok(closed) = resolve(never).await else { return true };
            let is_same = |closed: IpAddr| {
                closed == address || within(address) == Some(closed) || (own.has(closed) && own.has(address))
            };
            if never.host == target.host || closed.into_iter().any(is_same) {
                return true;
            }
        }
        false
    }
}

async fn resolve(target: &Target) -> io::Result<Vec<IpAddr>> {
    match &target.host {
        Host::Address(address) => Ok(vec![*address]),
        Host::Name(name) => {
            let found = tokio::net::lookup_host((&**name, target.port.get()));
            let found = tokio::time::timeout(RESOLVE_WITHIN, found).await??;
            Ok(found.map(|address| address.ip().to_canonical()).collect())
        }
    }
}

/// The machine's own addresses at one moment.
struct Own(HashSet<IpAddr>);

impl Own {
    fn now() -> io::Result<Self> {
        let interfaces = nix::ifaddrs::getifaddrs().map_err(io::Error::from)?;
        let addresses = interfaces.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        });
        Ok(Self(addresses.collect()))
    }

    /// Whether an address leads to this machine.
    fn has(&self, address: IpAddr) -> bool {
        let address = within(address).unwrap_or(address);
        address.is_loopback() || address.is_unspecified() || self.0.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], never: &[&str]) -> Rules {
        let targets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Rules::new(targets(allow), targets(never))
    }

    async fn outcome(rules: &Rules, target: &str) -> &'static str {
        match rules.addresses(&target.parse().unwrap()).await {
            Ok(addresses) => {
                assert!(!addresses.is_empty());
                "reached"
            }
            Err(Refusal::Forbidden(_)) => "forbidden",
            Err(Refusal::Never(_)) => "never",
            Err(Refusal::Unresolved(_)) => "unresolved",
            Err(Refusal::Blind(error)) => panic!("{error}"),
        }
    }

    /// An address of this machine that is not loopback.
    fn own_address() -> Option<IpAddr> {
        Own::now().unwrap().0.into_iter().find(|address| !address.is_loopback() && address.is_ipv4())
    }

    #[tokio::test]
    async fn public_addresses_are_reached_and_others_only_by_name_of_the_pair() {
        let rules = rules(&["10.1.2.3:443", "localhost:8080"], &[]);
        for (target, expected) in [
            ("1.1.1.1:443", "reached"),
            ("[2606:4700::1111]:443", "reached"),
            ("10.1.2.3:443", "reached"),
            ("[::ffff:10.1.2.3]:443", "reached"),
            ("10.1.2.3:444", "forbidden"),
            ("10.1.2.4:443", "forbidden"),
            ("localhost:8080", "reached"),
            ("LOCALHOST.:8080", "reached"),
            ("localhost:8081", "forbidden"),
            // The pair was named by a name, not by its address.
            ("127.0.0.1:8080", "forbidden"),
            ("169.254.169.254:80", "forbidden"),
            // What resolvers make addresses of.
            ("2130706433:80", "forbidden"),
            ("127.1:80", "forbidden"),
            ("no-such-name.invalid:80", "unresolved"),
        ] {
            assert_eq!(outcome(&rules, target).await, expected, "{target}");
        }
    }

    #[tokio::test]
    async fn perch_and_its_database_are_never_reached_by_any_of_their_names() {
        let allow = ["127.0.0.1:5432", "127.0.0.2:5432", "localhost:5432", "[::1]:5432", "localhost:7744"];
        let rules = rules(
            &[&allow[..], &["127.0.0.1:9999", "10.9.9.9:5433"]].concat(),
            &["localhost:5432", "0.0.0.0:7744", "no-such-name.invalid:5433"],
        );
        for target in allow.iter().chain(&["0.0.0.0:5432", "[64:ff9b::7f00:1]:5432", "127.0.0.1:7744"]) {
            assert_eq!(outcome(&rules, target).await, "never", "{target}");
        }
        assert_eq!(outcome(&rules, "10.9.9.9:5433").await, "never", "its name can't be resolved");
        assert_eq!(outcome(&rules, "127.0.0.1:9999").await, "reached", "another port of the machine");
        assert_eq!(outcome(&rules, "1.1.1.1:5432").await, "reached", "the same port of another machine");
        if let Some(own) = own_address() {
            assert_eq!(outcome(&rules, &format!("{own}:5432")).await, "never");
            assert_eq!(outcome(&rules, &format!("{own}:22")).await, "forbidden");
        }
    }
}
