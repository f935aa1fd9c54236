//! A host and a port, as flags and requests name them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

/// A name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// In lower case, without the dot at its end.
    Name(Box<str>),
    /// An IPv4 address that is written as an IPv6 one counts as what it is.
    Address(IpAddr),
}

/// See the module's docs. Text form: `git.lan:22`, `10.0.0.5:443`, `[fd00::5]:443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) host: Host,
    pub(super) port: NonZeroU16,
}

impl Target {
    /// A target from its parts; the host may be an address in brackets. `None` when it is no host.
    #[must_use]
    pub fn new(host: &str, port: NonZeroU16) -> Option<Self> {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match inner.unwrap_or(host).parse::<IpAddr>() {
            Ok(address) => Host::Address(address.to_canonical()),
            Err(_) => {
                let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
                let is_name = (1..=253).contains(&name.len())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
                if !is_name {
                    return None;
                }
                Host::Name(name.into())
            }
        };
        Some(Self { host, port })
    }
}

impl From<SocketAddr> for Target {
    /// # Panics
    /// Never: a port of 0, which nothing listens on, becomes 1.
    fn from(address: SocketAddr) -> Self {
        let port = NonZeroU16::new(address.port()).unwrap_or(NonZeroU16::MIN);
        Self { host: Host::Address(address.ip().to_canonical()), port }
    }
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "give a host and a port, such as git.lan:443, 10.0.0.5:443 or [fd00::5]:443";
        let (host, port) = text.rsplit_once(':').ok_or(WANTED)?;
        // Without brackets nobody knows where an IPv6 address ends.
        if host.contains(':') && !host.starts_with('[') {
            return Err(WANTED);
        }
        Self::new(host, port.parse().map_err(|_| WANTED)?).ok_or(WANTED)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => write!(f, "{}", SocketAddr::new(*address, self.port.get())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_in_one_form() {
        for (text, form) in [
            ("Git.LAN.:443", "git.lan:443"),
            ("10.0.0.5:1", "10.0.0.5:1"),
            ("[FD00::5]:65535", "[fd00::5]:65535"),
            ("[::ffff:10.0.0.5]:80", "10.0.0.5:80"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), form);
        }
        for bad in [
            "",
            ":",
            "host",
            "host:",
            "host:0",
            "host:65536",
            ":80",
            "fd00::5:80",
            "a b:80",
            "a/b:80",
            "[x]:80",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
