//! What git says on stderr while it talks to a remote: how far it is, and what the server has to say.

use super::Credential;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

/// Bytes of one line that are kept.
const MAX_LINE: usize = 4_096;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Objects are looked for.
    Enumerating,
    /// Objects are counted.
    Counting,
    /// Objects are made small.
    Compressing,
    /// Objects come.
    Receiving,
    /// Objects are put together.
    Resolving,
    /// Objects go.
    Writing,
    /// Objects are unpacked.
    Unpacking,
    /// Files of the branch change.
    CheckingOut,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Progress {
    /// With what.
    pub phase: Phase,
    /// Hundredths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Objects or files done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// Of so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaidLine {
    /// How far it is.
    Progress(Progress),
    /// What the server says, without control characters.
    Remote(String),
}

/// Gathers lines from pieces.
#[derive(Debug, Default)]
pub struct Said {
    line: Vec<u8>,
}

impl Said {
    /// Lines that are whole now. Git's own complaints are none of them: they are told when it ends.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<SaidLine> {
        let mut lines = Vec::new();
        for byte in bytes {
            if !matches!(byte, b'\r' | b'\n') {
                if self.line.len() < MAX_LINE {
                    self.line.push(*byte);
                }
                continue;
            }
            lines.extend(read(&String::from_utf8_lossy(&self.line)));
            self.line.clear();
        }
        lines
    }
}

fn read(line: &str) -> Option<SaidLine> {
    let of_server = line.strip_prefix("remote:").map(str::trim);
    if let Some(progress) = progress(of_server.unwrap_or(line)) {
        return Some(SaidLine::Progress(progress));
    }
    let text: String = of_server?.chars().filter(|c| !c.is_control()).collect();
    (!text.is_empty()).then_some(SaidLine::Remote(text))
}

/// The text without lines that tell how far it is.
#[must_use]
pub fn without_progress(text: &str) -> String {
    let is_kept = |line: &&str| {
        let line = line.strip_prefix("remote:").map_or(*line, str::trim);
        !line.is_empty() && progress(line).is_none()
    };
    text.split(['\r', '\n']).filter(is_kept).collect::<Vec<_>>().join("\n")
}

fn progress(line: &str) -> Option<Progress> {
    let (what, rest) = line.split_once(':')?;
    let phase = match what {
        "Enumerating objects" => Phase::Enumerating,
        "Counting objects" => Phase::Counting,
        "Compressing objects" => Phase::Compressing,
        "Receiving objects" => Phase::Receiving,
        "Resolving deltas" => Phase::Resolving,
        "Writing objects" => Phase::Writing,
        "Unpacking objects" => Phase::Unpacking,
        "Updating files" | "Checking out files" => Phase::CheckingOut,
        _ => return None,
    };
    let rest = rest.trim_start();
    let (percent, counts) = match rest.split_once('%') {
        Some((percent, counts)) => {
            (percent.trim().parse().ok().filter(|percent| *percent <= 100), counts.trim_start())
        }
        None => (None, rest),
    };
    let counts =
        counts.strip_prefix('(').map_or_else(|| counts.split(',').next(), |rest| rest.split(')').next());
    let (done, total) = counts.map_or((None, None), |counts| match counts.split_once('/') {
        Some((done, total)) => (done.trim().parse().ok(), total.trim().parse().ok()),
        None => (counts.trim().parse().ok(), None),
    });
    Some(Progress { phase, percent, done, total })
}

/// Takes tokens out of what servers repeat.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<SecretString>,
}

impl Redactor {
    /// For the tokens of a session, in each form in which they travel.
    #[must_use]
    pub fn new(credentials: &[Credential]) -> Self {
        let forms = credentials.iter().flat_map(|Credential { username, token, .. }| {
            let token = token.expose_secret();
            let encoded: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
            [token.to_owned(), encoded, STANDARD.encode(format!("{username}:{token}"))]
        });
        Self { secrets: forms.map(Into::into).collect() }
    }

    /// The text without them.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), "[token]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Protocol;

    #[test]
    fn progress_and_the_servers_words_are_told_apart() {
        let mut said = Said::default();
        let mut lines = said.take(b"remote: Enumerating objects: 20, done.        \nremote: Counting objects:  45% (9/20)\rReceiving obj");
        lines.extend(said.take(
            b"ects: 100% (20/20), 1.2 MiB | 1.00 MiB/s, done.\nremote: \x1b[1mhello: you\x1b[K\nremote:   \nfatal: no\nWriting objects:  x% (y/z)\n",
        ));
        let progress =
            |phase, percent, done, total| SaidLine::Progress(Progress { phase, percent, done, total });
        assert_eq!(
            lines,
            [
                progress(Phase::Enumerating, None, Some(20), None),
                progress(Phase::Counting, Some(45), Some(9), Some(20)),
                progress(Phase::Receiving, Some(100), Some(20), Some(20)),
                SaidLine::Remote("[1mhello: you[K".into()),
                progress(Phase::Writing, None, None, None),
            ]
        );
        said.take(&vec![b'x'; 1 << 20]);
        assert!(said.line.len() <= MAX_LINE);
    }

    #[test]
    fn what_failed_is_told_without_how_far_it_was() {
        let said = "remote: Counting objects: 5% (1/20)\rReceiving objects:  5% (1/20)\rremote: no\n\nfatal: early EOF";
        assert_eq!(without_progress(said), "remote: no\nfatal: early EOF");
    }

    #[test]
    fn tokens_are_not_repeated() {
        let one = Credential {
            protocol: Protocol::Https,
            host: "h".into(),
            path: None,
            username: "ann".into(),
            token: "s3cret/+".to_owned().into(),
        };
        let text = format!("you sent s3cret/+, s3cret%2F%2B, {}", STANDARD.encode("ann:s3cret/+"));
        assert_eq!(Redactor::new(&[one]).clean(&text), "you sent [token], [token], [token]");
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(pieces in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..80), 0..8)) {
            let mut said = Said::default();
            for piece in pieces {
                for line in said.take(&piece) {
                    if let SaidLine::Remote(text) = line {
                        proptest::prop_assert!(!text.contains(char::is_control));
                    }
                }
            }
        }

        #[test]
        fn cuts_change_nothing(lines in proptest::collection::vec("(remote: )?(Counting objects|Writing objects|x): {0,3}[0-9]{0,3}%? ?\\(?[0-9/]{0,6}\\)?", 0..5), cut in 0usize..200) {
            let text = lines.iter().flat_map(|line| format!("{line}\r").into_bytes()).collect::<Vec<_>>();
            let cut = cut.min(text.len());
            let (mut whole, mut pieces) = (Said::default(), Said::default());
            let mut told = pieces.take(&text[..cut]);
            told.extend(pieces.take(&text[cut..]));
            proptest::prop_assert_eq!(told, whole.take(&text));
        }
    }
}
