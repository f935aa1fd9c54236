//! Branches and tags: their names, and lists of them.

use super::command::MAX_NAME;
use super::{BadName, Command, Revision};
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;

/// Bytes of one part of a name: it is the name of a file, to which git adds `.lock`.
const MAX_PART: usize = 250;

/// The name of a branch or tag, without `refs/heads/` or `refs/tags/`, by the rules of `git check-ref-format --branch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchName(String);

impl BranchName {
    /// # Errors
    /// [`BadName`] for what git takes for no such name, `HEAD`, and what begins with `-`.
    pub fn new(name: &str) -> Result<Self, BadName> {
        let is_bad_part = |part: &str| {
            part.is_empty()
                || part.starts_with('.')
                || part.strip_suffix(".lock").is_some()
                || part.len() > MAX_PART
        };
        let is_bad_char =
            |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
        let is_bad = name.len() > MAX_NAME
            || name.starts_with('-')
            || name.ends_with('.')
            || matches!(name, "@" | "HEAD")
            || name.contains("..")
            || name.contains("@{")
            || name.contains(is_bad_char)
            || name.split('/').any(is_bad_part);
        if is_bad { Err(BadName(name.chars().take(100).collect())) } else { Ok(Self(name.to_owned())) }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A branch or tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ref {
    /// Its name: `main`, of a remote's branch `origin/main`, of a tag `v1.0`.
    pub name: String,
    /// Whether it is a remote's branch, as it was when it was fetched last.
    pub is_remote: bool,
    /// Whether it is checked out here.
    pub is_current: bool,
    /// Its branch at the remote, as `origin/main`.
    pub upstream: Option<String>,
    /// That branch is gone.
    pub is_upstream_gone: bool,
    /// Commits that the upstream lacks.
    pub ahead: Option<u64>,
    /// Commits of the upstream that it lacks.
    pub behind: Option<u64>,
    /// The commit it stands at; of an annotated tag the one that is tagged.
    pub commit: String,
    /// That commit's first line, or an annotated tag's.
    pub subject: String,
    /// Who wrote that commit, or made that tag.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// Branches or tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refs {
    /// Those that changed last come first.
    pub refs: Vec<Ref>,
    /// There are more.
    pub is_truncated: bool,
}

/// What is asked of each, a NUL between.
const FORMAT: &str = "--format=%(refname)%00%(symref)%00%(HEAD)%00%(upstream:short)%00%(upstream:track,nobracket)%00%(objectname)%00\
    %(*objectname)%00%(contents:subject)%00%(authorname)%(taggername)%00%(creatordate:unix)%00";

impl Command {
    /// Lists what [`Refs::parse`] reads, one more than `max`: `prefixes` as `refs/heads/`.
    #[must_use]
    pub fn refs(prefixes: &[&str], max: usize) -> Self {
        let command = Self::new("for-each-ref").option(format!("--count={}", max.saturating_add(1)));
        command.option("--sort=-creatordate").option(FORMAT).options(prefixes.iter().copied())
    }
}

impl Refs {
    /// Reads what git printed, at most `max`.
    #[must_use]
    pub fn parse(printed: &[u8], max: usize) -> Self {
        let text = String::from_utf8_lossy(printed);
        let mut refs = Self::default();
        for line in text.lines() {
            let Some(one) = Ref::parse(line) else { continue };
            if refs.refs.len() >= max {
                refs.is_truncated = true;
                break;
            }
            refs.refs.push(one);
        }
        refs
    }
}

impl Ref {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\0').collect();
        let [full, symref, head, upstream, track, object, peeled, subject, by, at, _] = *fields.as_slice()
        else {
            return None;
        };
        // `origin/HEAD` is no branch.
        if !symref.is_empty() {
            return None;
        }
        let kinds = ["refs/heads/", "refs/remotes/", "refs/tags/"];
        let name = kinds.iter().find_map(|kind| full.strip_prefix(kind))?;
        let number =
            |word: &str| track.split(", ").find_map(|part| part.strip_prefix(word)?.trim().parse().ok());
        let has_upstream = !upstream.is_empty();
        let is_gone = track == "gone";
        let count = |word| (has_upstream && !is_gone).then(|| number(word).unwrap_or(0));
        Some(Self {
            name: name.to_owned(),
            is_remote: full.starts_with("refs/remotes/"),
            is_current: head == "*",
            upstream: has_upstream.then(|| upstream.to_owned()),
            is_upstream_gone: is_gone,
            ahead: count("ahead "),
            behind: count("behind "),
            commit: if peeled.is_empty() { object } else { peeled }.to_owned(),
            subject: subject.to_owned(),
            by: by.to_owned(),
            at_ms: at.parse::<i64>().unwrap_or(0).saturating_mul(1_000),
        })
    }
}

impl From<&BranchName> for Revision {
    fn from(name: &BranchName) -> Self {
        Self::checked(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_git_takes() {
        for good in ["main", "feature/x", "v1.0", "ä/ö", "a.b", "a@b", "x{", "refs/heads/x"] {
            assert!(BranchName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "", "-d", "@", "HEAD", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "a\n", "/a",
            "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "a@{1}", "../x",
        ] {
            assert!(BranchName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_git_prints_is_read() {
        let printed = "refs/heads/main\0\0*\0origin/main\0ahead 2, behind 1\0aa\0\0First\0Ann\x001700000000\0\n\
            refs/heads/x\0\0 \0origin/x\0gone\0bb\0\0Two\0Bob\x001\0\n\
            refs/heads/y\0\0 \0origin/y\0\0bb\0\0Two\0Bob\x001\0\n\
            refs/remotes/origin/HEAD\0refs/remotes/origin/main\0 \0\0\0cc\0\0\0\0\0\n\
            refs/remotes/origin/main\0\0 \0\0\0cc\0\0Three\0Ann\x002\0\n\
            refs/tags/v1\0\0 \0\0\0tt\0cc\0One\0Ann\x003\0\nnonsense\n";
        let refs = Refs::parse(printed.as_bytes(), 10);
        let shown: Vec<_> = refs
            .refs
            .iter()
            .map(|one| (one.name.as_str(), one.commit.as_str(), one.ahead, one.behind))
            .collect();
        assert_eq!(
            shown,
            [
                ("main", "aa", Some(2), Some(1)),
                ("x", "bb", None, None),
                ("y", "bb", Some(0), Some(0)),
                ("origin/main", "cc", None, None),
                ("v1", "cc", None, None)
            ]
        );
        assert!(refs.refs[0].is_current && refs.refs[1].is_upstream_gone && refs.refs[3].is_remote);
        assert_eq!(refs.refs[0].at_ms, 1_700_000_000_000);
        let cut = Refs::parse(printed.as_bytes(), 2);
        assert_eq!((cut.refs.len(), cut.is_truncated), (2, true));
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(printed in proptest::collection::vec(proptest::num::u8::ANY, 0..400), max in 0usize..5) {
            proptest::prop_assert!(Refs::parse(&printed, max).refs.len() <= max);
        }

        #[test]
        fn anything_like_it_is_read(lines in proptest::collection::vec("(refs/(heads|tags|remotes)/)?[a-z]{0,4}(\0[a-z0-9, *]{0,9}){9,11}", 0..5)) {
            let _ = Refs::parse(lines.join("\n").as_bytes(), 10);
        }

        #[test]
        fn a_name_is_a_revision(name in "\\PC{0,20}") {
            if let Ok(name) = BranchName::new(&name) && !name.as_str().contains(char::is_whitespace) {
                proptest::prop_assert_eq!(Revision::new(name.as_str()).unwrap(), Revision::from(&name));
            }
        }
    }
}
