//! Tokens for remotes: the file in a session's `~/.private` that holds them, and what git is answered of it.
//!
//! Git asks a helper (gitcredentials(7)), which is this same program: `perch git-credential FILE get`. It answers for
//! exactly the protocol and host that a token was stored for, and beneath its path if it has one, so a remote that was
//! written to another place gets nothing. `store` and `erase` change nothing: a token is the session's to give and to
//! take, and one that a server refuses once may be refreshed meanwhile.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use utoipa::ToSchema;

/// Tokens of one session.
pub const MAX_CREDENTIALS: usize = 32;
/// Where they are, beneath `~/.private`.
pub const CREDENTIALS: &str = ".perch/git-credentials";
/// Bytes of that file, and of a question.
const MAX_BYTES: u64 = 256 * 1024;

/// What is no credential, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCredential(&'static str);

/// How a remote is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Encrypted.
    Https,
    /// In the open: whoever stores a token for it wants that.
    Http,
}

impl Protocol {
    fn named(name: &str) -> Option<Self> {
        match name {
            "https" => Some(Self::Https),
            "http" => Some(Self::Http),
            _ => None,
        }
    }

    const fn port(self) -> &'static str {
        match self {
            Self::Https => ":443",
            Self::Http => ":80",
        }
    }
}

/// For which remotes a token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scope {
    /// How they are spoken to.
    pub protocol: Protocol,
    /// Their host, with `:port` if it is not the protocol's own; in lower case.
    pub host: String,
    /// The path that theirs is or begins with, as `team/project`; all of the host without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Scope {
    /// The same in the one form that it is stored in.
    ///
    /// # Errors
    /// [`BadCredential`] says what is wrong with it.
    pub fn checked(self) -> Result<Self, BadCredential> {
        let host = host(&self.host, self.protocol)
            .ok_or(BadCredential("`host` is a name or address, with `:port` if need be, and nothing else"))?;
        let path = match self.path.as_deref().map(|path| path.trim_matches('/')) {
            None | Some("") => None,
            Some(path) if is_plain_path(path) && path.len() <= 1_024 => Some(path.to_owned()),
            Some(_) => {
                return Err(BadCredential(
                    "`path` is visible ASCII without `.` and `..`, at most 1,024 characters",
                ));
            }
        };
        Ok(Self { protocol: self.protocol, host, path })
    }

    fn covers(&self, asked: &Asked) -> bool {
        let is_beneath = |stored: &str| {
            let asked = asked.path.as_deref().unwrap_or("").trim_matches('/');
            let rest = asked.strip_prefix(stored);
            is_plain_path(asked)
                && rest.is_some_and(|rest| rest.is_empty() || rest == ".git" || rest.starts_with('/'))
        };
        self.protocol == asked.protocol
            && self.host == asked.host
            && self.path.as_deref().is_none_or(is_beneath)
    }
}

/// A host and port in one form: lower case, without the protocol's own port.
fn host(text: &str, protocol: Protocol) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix(protocol.port()).unwrap_or(&text);
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0)
    };
    let is_name = |name: &str| {
        let may = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        name.len() <= 253 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(may)
    };
    let is_good = (text.starts_with('[') || is_name(name))
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    is_good.then(|| text.to_owned())
}

/// Whether a path means the same to whoever compares it, to curl and to a server.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'%' | b'?' | b'#' | b';'))
        && path.split('/').all(is_plain)
}

/// A user and token for some remotes. It has no `Debug`.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// How the remotes are spoken to.
    pub protocol: Protocol,
    /// Their host, with `:port` if it is not the protocol's own.
    pub host: String,
    /// The path that theirs is or begins with, as `team/project`; all of the host without it.
    #[serde(default)]
    pub path: Option<String>,
    /// What the host wants beside a token, often anything; visible ASCII, 1 to 256 characters.
    pub username: String,
    /// The token or password; visible ASCII, 1 to 2,048 characters.
    #[serde(deserialize_with = "token")]
    #[schema(value_type = String)]
    pub token: SecretString,
}

/// One that is no string is not repeated in the error.
fn token<'de, D: Deserializer<'de>>(source: D) -> Result<SecretString, D::Error> {
    SecretString::deserialize(source).map_err(|_| serde::de::Error::custom("`token` is a string"))
}

impl Credential {
    /// For which remotes it is.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope { protocol: self.protocol, host: self.host.clone(), path: self.path.clone() }
    }

    /// The same in the one form that it is stored in.
    ///
    /// # Errors
    /// [`BadCredential`] says what is wrong with it.
    pub fn checked(self) -> Result<Self, BadCredential> {
        let Scope { protocol, host, path } = self.scope().checked()?;
        let is_word = |text: &str, max| {
            (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !is_word(&self.username, 256) || !is_word(self.token.expose_secret(), 2_048) {
            return Err(BadCredential(
                "`username` and `token` are visible ASCII, at most 256 and 2,048 characters",
            ));
        }
        Ok(Self { protocol, host, path, username: self.username, token: self.token })
    }
}

#[derive(Serialize)]
struct Stored<'a> {
    protocol: Protocol,
    host: &'a str,
    path: Option<&'a str>,
    username: &'a str,
    token: &'a str,
}

/// The file's content.
#[must_use]
pub fn to_file(credentials: &[Credential]) -> Vec<u8> {
    let stored: Vec<_> = credentials
        .iter()
        .map(|one| Stored {
            protocol: one.protocol,
            host: &one.host,
            path: one.path.as_deref(),
            username: &one.username,
            token: one.token.expose_secret(),
        })
        .collect();
    serde_json::to_vec(&stored).unwrap_or_default()
}

/// What a file holds. The session may write it itself: what is no credential there counts as none.
#[must_use]
pub fn from_file(bytes: &[u8]) -> Vec<Credential> {
    let stored: Vec<serde_json::Value> = serde_json::from_slice(bytes).unwrap_or_default();
    let credentials = stored.into_iter().filter_map(|one| serde_json::from_value::<Credential>(one).ok());
    credentials.filter_map(|one| one.checked().ok()).take(MAX_CREDENTIALS).collect()
}

/// What git asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    protocol: Protocol,
    host: String,
    path: Option<String>,
    username: Option<String>,
}

impl Asked {
    /// Reads `name=value` lines up to an empty one. `None`: it is nothing that is answered.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut protocol, mut host_, mut path, mut username) = (None, None, None, None);
        for line in bytes.split(|byte| *byte == b'\n') {
            if line.is_empty() {
                break;
            }
            let at = line.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (&line[..at], &line[at + 1..]);
            let slot = match name {
                b"protocol" => &mut protocol,
                b"host" => &mut host_,
                b"path" => &mut path,
                b"username" => &mut username,
                // What a server sent, and what later versions of git add.
                _ => continue,
            };
            let value = std::str::from_utf8(value).ok()?;
            if slot.is_some() || value.contains(char::is_control) {
                return None;
            }
            *slot = Some(value);
        }
        let protocol = Protocol::named(protocol?)?;
        let host = host(host_?, protocol)?;
        Some(Self { protocol, host, path: path.map(str::to_owned), username: username.map(str::to_owned) })
    }
}

/// The one that is meant for what was asked, of several that with the longest path.
fn choose<'a>(credentials: &'a [Credential], asked: &Asked) -> Option<&'a Credential> {
    let fits = |one: &&Credential| {
        one.scope().covers(asked) && asked.username.as_ref().is_none_or(|name| *name == one.username)
    };
    credentials.iter().filter(fits).max_by_key(|one| one.path.as_ref().map_or(0, String::len))
}

/// `perch git-credential`: answers git's question of `input` by the tokens of `file`. Says nothing where there is none,
/// where the file is open to others, and to all but `get`.
///
/// # Errors
/// When git does not speak or listen.
pub fn answer(file: &Path, operation: &str, input: impl Read, mut output: impl Write) -> io::Result<()> {
    if operation != "get" {
        return Ok(());
    }
    let mut question = Vec::new();
    input.take(MAX_BYTES).read_to_end(&mut question)?;
    let (Some(asked), Some(stored)) = (Asked::parse(&question), read(file)) else { return Ok(()) };
    if let Some(Credential { username, token, .. }) = choose(&stored, &asked) {
        output.write_all(format!("username={username}\npassword={}\n", token.expose_secret()).as_bytes())?;
    }
    Ok(())
}

fn read(file: &Path) -> Option<Vec<Credential>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(file).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.mode() & 0o077 != 0 {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(from_file(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn credential(protocol: Protocol, host: &str, path: Option<&str>, token: &str) -> Credential {
        let (host, path) = (host.into(), path.map(Into::into));
        Credential { protocol, host, path, username: "ann".into(), token: token.to_owned().into() }
    }

    fn told(credentials: &[Credential], question: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        std::fs::write(&file, to_file(credentials)).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let mut said = Vec::new();
        answer(&file, "get", question.as_bytes(), &mut said).unwrap();
        String::from_utf8(said).unwrap()
    }

    #[test]
    fn only_what_a_token_was_stored_for_gets_it() {
        let stored = [
            credential(Protocol::Https, "Git.Example.org:443", None, "whole"),
            credential(Protocol::Https, "git.example.org", Some("/team/a/"), "team"),
            credential(Protocol::Http, "127.0.0.1:8080", None, "plain"),
            credential(Protocol::Https, "[::1]:8443", None, "six"),
            credential(Protocol::Https, "narrow.example.org", Some("team/a"), "narrow"),
        ];
        let stored: Vec<_> = stored.into_iter().map(|one| one.checked().ok().unwrap()).collect();
        let got = |question: &str| {
            let said = told(&stored, question);
            let token = said.strip_prefix("username=ann\npassword=").map(|rest| rest.trim_end().to_owned());
            assert!(said.is_empty() || token.is_some(), "{said}");
            token.unwrap_or_default()
        };
        for (question, token) in [
            ("protocol=https\nhost=git.example.org\npath=x/y.git\n\n", "whole"),
            ("protocol=https\nhost=GIT.example.org:443\nwwwauth[]=Basic \u{7}\n", "whole"),
            ("protocol=https\nhost=git.example.org\npath=team/a.git\n", "team"),
            ("protocol=https\nhost=git.example.org\npath=team/a/b\n", "team"),
            ("protocol=https\nhost=git.example.org\npath=team/ab\n", "whole"),
            ("protocol=https\nhost=git.example.org\nusername=ann\n", "whole"),
            ("protocol=https\nhost=git.example.org\nusername=bob\n", ""),
            ("protocol=http\nhost=git.example.org\n", ""),
            ("protocol=https\nhost=git.example.org:8443\n", ""),
            ("protocol=https\nhost=git.example.org.evil.example\n", ""),
            ("protocol=https\nhost=evil.example\n", ""),
            ("protocol=http\nhost=127.0.0.1:8080\n", "plain"),
            ("protocol=https\nhost=127.0.0.1:8080\n", ""),
            ("protocol=http\nhost=127.0.0.1\n", ""),
            ("protocol=https\nhost=[::1]:8443\n", "six"),
            ("protocol=https\nhost=narrow.example.org\npath=team/a/c.git\n", "narrow"),
            ("protocol=https\nhost=narrow.example.org\n", ""),
            ("protocol=https\nhost=narrow.example.org\npath=team/a/../../evil/x\n", ""),
            ("protocol=https\nhost=narrow.example.org\npath=team/a/%2e%2e/%2e%2e/evil\n", ""),
            ("protocol=https\nhost=narrow.example.org\npath=team/a/..;/evil\n", ""),
            ("protocol=https\nhost=git.example.org\rhost=x\n", ""),
            ("protocol=https\nhost=git.example.org\nhost=git.example.org\n", ""),
            ("protocol=https\nprotocol=http\nhost=git.example.org\n", ""),
            ("protocol=ssh\nhost=git.example.org\n", ""),
            ("host=git.example.org\n", ""),
            ("\nprotocol=https\nhost=git.example.org\n", ""),
            ("nonsense\nprotocol=https\nhost=git.example.org\n", ""),
        ] {
            assert_eq!(got(question), token, "{question}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_not_read_and_nothing_is_stored_or_erased() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        let content = to_file(&[credential(Protocol::Https, "h", None, "t")]);
        std::fs::write(&file, &content).unwrap();
        for (mode, operation, is_told) in
            [(0o644, "get", false), (0o600, "get", true), (0o600, "erase", false), (0o600, "store", false)]
        {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            let mut said = Vec::new();
            answer(&file, operation, &b"protocol=https\nhost=h\n"[..], &mut said).unwrap();
            assert_eq!(!said.is_empty(), is_told, "{mode:o} {operation}");
            assert_eq!(std::fs::read(&file).unwrap(), content);
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut said = Vec::new();
        answer(&link, "get", &b"protocol=https\nhost=h\n"[..], &mut said).unwrap();
        answer(Path::new("/nowhere"), "get", &b"protocol=https\nhost=h\n"[..], &mut said).unwrap();
        assert!(said.is_empty());
    }

    #[test]
    fn what_could_be_more_than_one_line_or_host_is_refused() {
        for (host, path, username, token) in [
            ("h\n", None, "ann", "t"),
            ("", None, "ann", "t"),
            ("-h", None, "ann", "t"),
            ("a@h", None, "ann", "t"),
            ("h/x", None, "ann", "t"),
            ("h:0", None, "ann", "t"),
            ("h:99999", None, "ann", "t"),
            ("h:+1", None, "ann", "t"),
            ("[h]", None, "ann", "t"),
            ("h", Some("a/../b"), "ann", "t"),
            ("h", Some("a b"), "ann", "t"),
            ("h", None, "", "t"),
            ("h", None, "a\nb", "t"),
            ("h", None, "ann", ""),
            ("h", None, "ann", "t\r"),
            ("h", None, "ann", "tö"),
        ] {
            let mut one = credential(Protocol::Https, host, path, token);
            one.username = username.into();
            assert!(one.checked().is_err(), "{host:?} {path:?} {username:?}");
        }
        let error = serde_json::from_str::<Credential>(
            r#"{"protocol":"https","host":"h","username":"a","token":123456}"#,
        );
        assert!(!error.err().unwrap().to_string().contains("123456"));
    }

    proptest::proptest! {
        #[test]
        fn any_question_is_read(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = Asked::parse(&bytes);
            let _ = from_file(&bytes);
        }

        #[test]
        fn an_answer_is_two_lines_for_the_very_host(
            lines in proptest::collection::vec("(protocol|host|path|username|x)=(https?|h|h:443|h\\.evil|a/b|a/\\.\\.|ann|[ -~]{0,8})", 0..6),
        ) {
            let stored = [credential(Protocol::Https, "h", None, "t0ken").checked().ok().unwrap()];
            let said = told(&stored, &lines.join("\n"));
            proptest::prop_assert!(said.is_empty() || said == "username=ann\npassword=t0ken\n");
            if !said.is_empty() {
                proptest::prop_assert!(lines.iter().any(|line| line == "host=h" || line == "host=h:443" || line.eq_ignore_ascii_case("host=h")));
                proptest::prop_assert!(lines.iter().any(|line| line == "protocol=https"));
            }
        }

        #[test]
        fn what_is_stored_comes_back(token in "[!-~]{1,40}", path in proptest::option::of("[a-z]{1,5}(/[a-z]{1,5}){0,2}")) {
            let one = credential(Protocol::Http, "h:1", path.as_deref(), &token).checked().ok().unwrap();
            let back = from_file(&to_file(std::slice::from_ref(&one)));
            proptest::prop_assert_eq!(back.len(), 1);
            proptest::prop_assert_eq!(back[0].scope(), one.scope());
            proptest::prop_assert_eq!(back[0].token.expose_secret(), one.token.expose_secret());
        }
    }
}
