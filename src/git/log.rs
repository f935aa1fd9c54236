//! `git log`: commits, with those who wrote them.

use super::{Command, Revision};
use crate::workspace::RelPath;
use serde::Serialize;
use utoipa::ToSchema;

/// Bytes of a message that are given; a longer one is cut.
const MAX_MESSAGE: usize = 64 * 1024;
/// Names of those who wrote a commit together, at most.
const MAX_AUTHORS: usize = 100;
/// What each commit is printed as; each field ends with a NUL.
const FORMAT: &str = "--format=tformat:%H%x00%P%x00%an%x00%ae%x00%at%x00%cn%x00%ce%x00%ct%x00%D%x00\
    %(trailers:key=Co-authored-by,valueonly=true,unfold=true,separator=%x01)%x00%s%x00%b";
/// Their number.
const FIELDS: usize = 12;

/// Who did something, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Signature {
    /// The name, as in the commit.
    pub name: String,
    /// The address, as in the commit.
    pub email: String,
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// Who wrote a commit together with its author.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CoAuthor {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

/// A commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Commit {
    /// Its hash.
    pub hash: String,
    /// Those before it; several of a merge, none of a first one.
    pub parents: Vec<String>,
    /// Who wrote it.
    pub author: Signature,
    /// Who committed it.
    pub committer: Signature,
    /// The message's first paragraph, in one line.
    pub subject: String,
    /// The rest of the message, with its trailers; at most 64 KiB.
    pub body: String,
    /// Whether the message is longer.
    pub is_cut: bool,
    /// Of `Co-authored-by:`; at most 100.
    pub co_authors: Vec<CoAuthor>,
    /// Branches and tags that stand here, as `refs/heads/main`; `HEAD` where it is checked out.
    pub refs: Vec<String>,
}

impl Command {
    /// What [`Commit::read`] reads: `limit` commits from `from`, newest first, without the first `skip`.
    #[must_use]
    pub fn log<'a>(
        from: &Revision,
        skip: usize,
        limit: usize,
        paths: impl IntoIterator<Item = &'a RelPath>,
    ) -> Self {
        Self::look("log")
            .config("log.follow", "false")
            .options(["-z", "--no-patch", "--no-ext-diff", "--no-textconv", "--no-color", "--encoding=UTF-8"])
            .options(["--decorate=full", FORMAT])
            // Named, since what the repository excludes is left out else.
            .options(["--decorate-refs=HEAD", "--decorate-refs=refs/heads", "--decorate-refs=refs/tags"])
            .option("--decorate-refs=refs/remotes")
            .option(format!("--skip={skip}"))
            .option(format!("--max-count={limit}"))
            .option("--end-of-options")
            .revision(from)
            .paths(paths)
    }

    /// The hash of the commit that a revision names, see [`commit_hash`].
    #[must_use]
    pub fn resolve(revision: &Revision) -> Self {
        let commit = format!("{}^{{commit}}", revision.as_str());
        Self::look("rev-parse").options(["--verify", "--quiet", "--end-of-options"]).option(commit)
    }
}

/// What [`Command::resolve`] printed, if that is a hash.
#[must_use]
pub fn commit_hash(printed: &[u8]) -> Option<Revision> {
    let text = std::str::from_utf8(printed).ok()?.trim();
    let is_hash = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    Revision::new(text).ok().filter(|_| is_hash)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first `max` bytes, up to a whole character; and whether that is less than all.
fn cut(mut text: String, max: usize) -> (String, bool) {
    let is_cut = text.len() > max;
    text.truncate(text.floor_char_boundary(max));
    (text, is_cut)
}

/// Seconds as git has them, in milliseconds.
pub(super) fn at_ms(seconds: &str) -> i64 {
    seconds.parse::<i64>().unwrap_or(0).saturating_mul(1_000)
}

/// `Name <address>`.
fn co_author(text: &str) -> Option<CoAuthor> {
    let (name, rest) = text.trim().rsplit_once('<')?;
    let email = rest.strip_suffix('>')?.trim();
    Some(CoAuthor { name: name.trim().to_owned(), email: email.to_owned() })
}

impl Commit {
    /// Reads what [`Command::log`] printed.
    #[must_use]
    pub fn read(printed: &[u8]) -> Vec<Self> {
        let fields: Vec<&[u8]> = printed.split(|byte| *byte == 0).collect();
        fields.chunks_exact(FIELDS).map(Self::of).collect()
    }

    /// Reads the first one, of which the end may be missing.
    #[must_use]
    pub fn first(printed: &[u8]) -> Option<Self> {
        let fields: Vec<&[u8]> = printed.splitn(FIELDS + 1, |byte| *byte == 0).collect();
        let is_there = fields.first().is_some_and(|hash| !hash.is_empty());
        // What comes after the last NUL is another.
        let is_whole = fields.len() > FIELDS;
        is_there.then(|| {
            let commit = Self::of(&fields);
            Self { is_cut: commit.is_cut || !is_whole, ..commit }
        })
    }

    fn of(fields: &[&[u8]]) -> Self {
        let field = |n: usize| text(fields.get(n).copied().unwrap_or_default());
        let signature =
            |n: usize| Signature { name: field(n), email: field(n + 1), at_ms: at_ms(&field(n + 2)) };
        let refs = field(8).split(", ").flat_map(refs_of).collect();
        let co_authors = field(9).split('\u{1}').filter_map(co_author).take(MAX_AUTHORS).collect();
        let (subject, is_subject_cut) = cut(field(10), MAX_MESSAGE);
        let (body, is_body_cut) = cut(field(11), MAX_MESSAGE);
        Self {
            hash: field(0),
            parents: field(1).split_whitespace().map(str::to_owned).collect(),
            author: signature(2),
            committer: signature(5),
            subject,
            body: body.trim_end().to_owned(),
            is_cut: is_subject_cut || is_body_cut,
            co_authors,
            refs,
        }
    }
}

/// `HEAD -> refs/heads/main`, `tag: refs/tags/v1` or `refs/heads/other`.
fn refs_of(text: &str) -> Vec<String> {
    let names = match text.split_once(" -> ") {
        Some((head, branch)) => vec![head, branch],
        None => vec![text.strip_prefix("tag: ").unwrap_or(text)],
    };
    names.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_prints_is_read() {
        let printed = "aa\0bb cc\0Ann\0ann@x\x0010\0Bob\0bob@x\x0020\0HEAD -> refs/heads/main, tag: refs/tags/v1, refs/remotes/o/m\0\
            Eve <eve@x>\u{1}no address\u{1}F <G> H <gh@x>\0Subject\0Body\n\nCo-authored-by: Eve <eve@x>\n\0\
            bb\0\0\0\0x\0\0\0-5\0\0\0\0\0"
            .as_bytes();
        let commits = Commit::read(printed);
        assert_eq!(commits.len(), 2);
        let first = &commits[0];
        assert_eq!(first.parents, ["bb", "cc"]);
        assert_eq!(first.author, Signature { name: "Ann".into(), email: "ann@x".into(), at_ms: 10_000 });
        assert_eq!(first.refs, ["HEAD", "refs/heads/main", "refs/tags/v1", "refs/remotes/o/m"]);
        let names: Vec<_> =
            first.co_authors.iter().map(|one| (one.name.as_str(), one.email.as_str())).collect();
        assert_eq!(names, [("Eve", "eve@x"), ("F <G> H", "gh@x")]);
        assert_eq!(first.body, "Body\n\nCo-authored-by: Eve <eve@x>");
        assert_eq!((commits[1].author.at_ms, commits[1].committer.at_ms), (0, -5_000));
        assert!(commits[1].parents.is_empty() && commits[1].refs.is_empty());
    }

    #[test]
    fn only_a_hash_is_one() {
        assert!(commit_hash(format!("{}\n", "a1".repeat(20)).as_bytes()).is_some());
        for bad in ["", "^90e1efc06d09543247a6feb413ca1c51e3609cd4", "HEAD", "\u{e9}"] {
            assert_eq!(commit_hash(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_commit_is_read_without_its_end() {
        let whole = "aa\0bb\0Ann\0ann@x\x0010\0Bob\0bob@x\x0020\0HEAD\0Eve <eve@x>\0Subject\0Body\0";
        assert_eq!(Commit::first(whole.as_bytes()), Commit::read(whole.as_bytes()).pop());
        let cut = Commit::first(&whole.as_bytes()[..whole.len() - 3]).unwrap();
        assert_eq!((cut.subject.as_str(), cut.body.as_str(), cut.is_cut), ("Subject", "Bo", true));
        let cut = Commit::first(b"aa\0bb\0Ann").unwrap();
        assert_eq!((cut.hash.as_str(), cut.author.name.as_str(), cut.is_cut), ("aa", "Ann", true));
        assert_eq!(Commit::first(b""), None);
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(printed in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = (Commit::read(&printed), Commit::first(&printed));
        }

        #[test]
        fn anything_like_it_is_read(fields in proptest::collection::vec("[a-zü<>@, \u{1}0-9-]{0,12}", 0..40)) {
            proptest::prop_assert_eq!(Commit::read(fields.join("\0").as_bytes()).len(), fields.len() / FIELDS);
        }
    }
}
