//! The host name of a port of a branch: `3000-br-0190….localhost`.

use crate::base::BranchId;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

/// A port of a branch. Written as a name's first label, at most 41 of the 63 bytes that a label may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Place {
    pub(in crate::http) branch: BranchId,
    pub(in crate::http) port: NonZeroU16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Host names have no underscores.
        write!(f, "{}-{}", self.port, self.branch.as_str().replace('_', "-"))
    }
}

impl Place {
    fn parse(label: &str) -> Option<Self> {
        let (port, branch) = label.split_once('-')?;
        // One name for one origin.
        let port = Some(port).filter(|port| !port.starts_with(['0', '+']))?.parse().ok()?;
        let branch = format!("br_{}", branch.strip_prefix("br-")?).parse().ok()?;
        Some(Self { branch, port })
    }
}

/// What a request's host asks for, if that is no page and no API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) enum Asked {
    Preview(Place),
    /// A name among those of previews that is none.
    Nothing,
}

/// What `host`, with or without a port, asks for beneath the domain of previews. Beneath `localhost` other names than
/// those of previews may be perch's own.
pub(in crate::http) fn asked(domain: &str, host: &str) -> Option<Asked> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let label = name.strip_suffix(domain)?.strip_suffix('.')?;
    match Place::parse(label) {
        Some(place) => Some(Asked::Preview(place)),
        None if domain == LOCALHOST && !label.starts_with(|first: char| first.is_ascii_digit()) => None,
        None => Some(Asked::Nothing),
    }
}

/// The domain without `--preview-domain`.
pub(super) const LOCALHOST: &str = "localhost";

/// Whether a name or address is of the machine that asks.
fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == LOCALHOST
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether previews beneath `domain` can be reached by who reaches perch as `host`.
pub(in crate::http) fn reaches(domain: &str, host: &str) -> bool {
    domain != LOCALHOST || is_local(host)
}

/// Why a domain can't be that of previews.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// Not a domain name.
    #[error(
        "`{0}` is no domain name; give one such as preview.example.net, whose subdomains all lead to perch"
    )]
    Malformed(String),
    /// Code in a preview would share cookies with the editor.
    #[error(
        "previews beneath `{domain}` would be of the same site as `{host}` of --public-url, and share its cookies; take another registrable domain"
    )]
    SameSite {
        /// Of the previews.
        domain: String,
        /// Of the editor.
        host: String,
    },
}

/// Checks that previews beneath `domain` are of another site than the editor, as far as that is known.
///
/// # Errors
/// See [`Unsuitable`].
pub fn check(domain: &str, public_url: Option<&url::Url>) -> Result<(), Unsuitable> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    // With the label of a preview before it a name has at most 253 bytes.
    if domain.len() > 200 || !domain.split('.').all(is_label) || domain.parse::<IpAddr>().is_ok() {
        return Err(Unsuitable::Malformed(domain.to_owned()));
    }
    let Some(host) = public_url.and_then(url::Url::host_str) else { return Ok(()) };
    let preview = format!("preview.{domain}");
    if site(host) == site(&preview) {
        return Err(Unsuitable::SameSite { domain: domain.to_owned(), host: host.to_owned() });
    }
    Ok(())
}

/// What browsers take for the site of a host: its registrable domain by the Public Suffix List, or itself. `localhost` is
/// to them what `com` is: each name beneath it is a site of its own.
fn site(host: &str) -> &str {
    if host.parse::<IpAddr>().is_ok() {
        return host;
    }
    psl::domain_str(host).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "019a0b1c2d3e4f5061728394a5b6c7d8";

    #[test]
    fn a_place_has_one_name() {
        let place = Place { branch: format!("br_{HEX}").parse().unwrap(), port: NonZeroU16::MAX };
        let label = place.to_string();
        assert_eq!(label, format!("65535-br-{HEX}"));
        assert!(label.len() <= 63);
        for host in ["localhost", "LOCALHOST", "localhost.", "localhost:7744", "localhost.:80"] {
            assert_eq!(
                asked("localhost", &format!("{label}.{host}")),
                Some(Asked::Preview(place.clone())),
                "{host}"
            );
        }
        for (domain, host, expected) in [
            ("localhost", "localhost:7744".to_owned(), None),
            ("localhost", "127.0.0.1:7744".to_owned(), None),
            ("localhost", "[::1]:7744".to_owned(), None),
            ("localhost", String::new(), None),
            ("localhost", "perch.localhost".to_owned(), None),
            ("localhost", format!("{label}.evil.example"), None),
            ("localhost", format!("{label}.notlocalhost"), None),
            ("localhost", format!("0-br-{HEX}.localhost"), Some(Asked::Nothing)),
            ("localhost", format!("03000-br-{HEX}.localhost"), Some(Asked::Nothing)),
            ("localhost", format!("65536-br-{HEX}.localhost"), Some(Asked::Nothing)),
            ("localhost", format!("3000-br-{HEX}x.localhost"), Some(Asked::Nothing)),
            ("localhost", format!("3000-br-{HEX}.a.localhost"), Some(Asked::Nothing)),
            ("p.example.net", "p.example.net".to_owned(), None),
            ("p.example.net", "www.p.example.net".to_owned(), Some(Asked::Nothing)),
            ("p.example.net", format!("{label}.localhost"), None),
            ("p.example.net", format!("{label}.p.example.net"), Some(Asked::Preview(place))),
        ] {
            assert_eq!(asked(domain, &host), expected, "{host}");
        }
    }

    #[test]
    fn previews_never_share_a_site_with_the_editor() {
        let check = |domain: &str, url: &str| check(domain, Some(&url.parse().unwrap()));
        for (domain, url) in [
            ("localhost", "http://localhost:7744"),
            ("localhost", "http://127.0.0.1:7744"),
            ("localhost", "https://code.example.org"),
            ("preview.example.net", "https://code.example.org"),
            ("example.net", "https://code.example.org"),
            // Registrable domains of their own beneath a public suffix.
            ("p.co.uk", "https://code.co.uk"),
            ("ann.github.io", "https://bob.github.io"),
            ("preview.example.net", "https://10.0.0.5"),
        ] {
            assert_eq!(check(domain, url), Ok(()), "{domain} {url}");
        }
        for (domain, url) in [
            ("example.org", "https://example.org"),
            ("preview.example.org", "https://example.org"),
            ("example.org", "https://code.example.org"),
            ("preview.example.org", "https://code.example.org"),
            ("preview.code.example.org", "https://code.example.org"),
            ("code.example.org", "https://code.example.org"),
            ("preview.example.co.uk", "https://code.example.co.uk"),
        ] {
            assert!(matches!(check(domain, url), Err(Unsuitable::SameSite { .. })), "{domain} {url}");
        }
        for domain in
            ["", ".", "a..b", "*.example.net", "example.net:80", "Example.net", "10.0.0.1", "a_b.net"]
        {
            assert!(matches!(super::check(domain, None), Err(Unsuitable::Malformed(_))), "{domain}");
        }
        assert!(
            reaches("localhost", "127.0.0.1")
                && reaches("localhost", "[::1]")
                && reaches("p.net", "code.org")
        );
        assert!(!reaches("localhost", "code.example.org") && !reaches("localhost", "10.0.0.5"));
    }
}
