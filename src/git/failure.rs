//! Why git did not do it, by what it said. Its messages are English (`LC_ALL=C.UTF-8`) and have been stable for many years; what
//! is not told from them is [`Kind::Other`].

use crate::workspace::RelPath;

/// Characters of git's own words that are shown.
const MAX_SAID: usize = 2_000;
/// Files that are named at most.
const MAX_FILES: usize = 1_000;

/// What kept git from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The workspace is no repository.
    NoRepository,
    /// No such commit, branch, tag or remote.
    UnknownRevision,
    /// Uncommitted work would be lost.
    WouldOverwrite,
    /// Somebody else's git is at it, or one was cut short.
    Locked,
    /// The remote wants a token, and there is none for it.
    CredentialsMissing,
    /// The remote does not take the token.
    CredentialsRefused,
    /// The remote has what is not here.
    PushRejected,
    /// The remote can't be reached.
    Unreachable,
    /// The SSH server's key is not known, or not the one that is known.
    HostKey,
    /// The remote has no such repository, or shows it to others only.
    NoRemoteRepository,
    /// There is nothing to do.
    Nothing,
    /// Files are in conflict.
    Conflict,
    /// The histories have grown apart, and only going forward was asked for.
    Diverged,
    /// Another merge, rebase or the like is under way.
    UnderWay,
    /// Such a branch, tag or remote is there already.
    Exists,
    /// Anything else.
    Other,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kept git from it.
    pub kind: Kind,
    /// What git said, the end of it. It never holds a user or password: URLs lose theirs.
    pub said: String,
    /// Files that it named, for [`Kind::WouldOverwrite`] and [`Kind::Conflict`]; at most 1,000.
    pub files: Vec<RelPath>,
}

/// What `git stash push` says, unless it is to be quiet, where `refs/stash` can't be written.
pub(super) const STASH_IS_LOCKED: &str = "Cannot save the current status";

/// Each kind's words.
const WORDS: &[(&str, Kind)] = &[
    ("not a git repository", Kind::NoRepository),
    ("Unable to create '", Kind::Locked),
    ("index.lock': File exists", Kind::Locked),
    ("cannot lock ref", Kind::Locked),
    (STASH_IS_LOCKED, Kind::Locked),
    ("would be overwritten by", Kind::WouldOverwrite),
    ("would be removed by", Kind::WouldOverwrite),
    ("Please commit your changes or stash them", Kind::WouldOverwrite),
    ("Your index contains uncommitted changes", Kind::WouldOverwrite),
    ("You have unstaged changes", Kind::WouldOverwrite),
    ("terminal prompts disabled", Kind::CredentialsMissing),
    ("could not read Username", Kind::CredentialsMissing),
    ("could not read Password", Kind::CredentialsMissing),
    ("Permission denied (publickey", Kind::CredentialsMissing),
    ("Authentication failed", Kind::CredentialsRefused),
    ("The requested URL returned error: 403", Kind::CredentialsRefused),
    ("The requested URL returned error: 401", Kind::CredentialsRefused),
    ("[rejected]", Kind::PushRejected),
    ("[remote rejected]", Kind::PushRejected),
    ("failed to push some refs", Kind::PushRejected),
    ("Could not resolve host", Kind::Unreachable),
    ("Could not resolve proxy", Kind::Unreachable),
    ("Failed to connect", Kind::Unreachable),
    ("Couldn't connect to server", Kind::Unreachable),
    ("CONNECT tunnel failed", Kind::Unreachable),
    ("Connection refused", Kind::Unreachable),
    ("Connection timed out", Kind::Unreachable),
    ("Host key verification failed", Kind::HostKey),
    ("fatal: repository '", Kind::NoRemoteRepository),
    ("Could not read from remote repository", Kind::Unreachable),
    ("Not possible to fast-forward", Kind::Diverged),
    ("Need to specify how to reconcile divergent branches", Kind::Diverged),
    ("CONFLICT (", Kind::Conflict),
    ("ould not restore untracked files from stash", Kind::WouldOverwrite),
    ("not uptodate. Cannot merge", Kind::WouldOverwrite),
    ("while merging", Kind::UnderWay),
    ("in the middle of", Kind::UnderWay),
    ("while rebasing", Kind::UnderWay),
    ("cherry-picking", Kind::UnderWay),
    ("already a rebase-", Kind::UnderWay),
    ("not something we can merge", Kind::UnknownRevision),
    ("No such ref:", Kind::UnknownRevision),
    ("is not a stash", Kind::UnknownRevision),
    ("is not a valid reference", Kind::UnknownRevision),
    ("Not a valid object name", Kind::UnknownRevision),
    ("No stash entries found", Kind::UnknownRevision),
    ("' not found", Kind::UnknownRevision),
    ("You have unmerged", Kind::Conflict),
    ("with conflicts in index", Kind::Conflict),
    ("needs merge", Kind::Conflict),
    ("You have not concluded your merge", Kind::UnderWay),
    ("because you have unmerged files", Kind::Conflict),
    ("you need to resolve your current index first", Kind::Conflict),
    ("nothing to commit", Kind::Nothing),
    ("no changes added to commit", Kind::Nothing),
    ("No local changes to save", Kind::Nothing),
    ("already exists", Kind::Exists),
    ("is already checked out", Kind::Exists),
    ("unknown revision", Kind::UnknownRevision),
    ("invalid reference", Kind::UnknownRevision),
    ("not a valid object name", Kind::UnknownRevision),
    ("bad revision", Kind::UnknownRevision),
    ("no such ref", Kind::UnknownRevision),
    ("does not have any commits yet", Kind::UnknownRevision),
    ("fatal: unable to access 'http", Kind::Unreachable),
];

impl Failure {
    /// By what a command that failed wrote to stdout (where git tells of conflicts) and stderr.
    #[must_use]
    pub fn of(stdout: &[u8], stderr: &[u8]) -> Self {
        let text = format!("{}\n{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
        // What a server says may be anything.
        let own: String =
            text.lines().filter(|line| !line.starts_with("remote:")).flat_map(|line| [line, "\n"]).collect();
        let kind = WORDS.iter().find(|(words, _)| own.contains(words)).map_or(Kind::Other, |(_, kind)| *kind);
        let files = text.lines().filter_map(|line| match kind {
            Kind::WouldOverwrite => {
                let first = line.strip_prefix("error: Untracked working tree file '");
                // Before the first commit the first file alone is named.
                let first = first.and_then(|rest| rest.strip_suffix("' would be overwritten by merge."));
                let untracked = line.strip_suffix(" already exists, no checkout");
                line.strip_prefix('\t').or(first).or(untracked)?.parse().ok()
            }
            Kind::Conflict => line.split_once("Merge conflict in ")?.1.parse().ok(),
            _ => None,
        });
        let files = files.take(MAX_FILES).collect();
        let said = String::from_utf8_lossy(stderr);
        let said = if said.trim().is_empty() { String::from_utf8_lossy(stdout) } else { said };
        let said = without_users(said.trim());
        let skip = said.chars().count().saturating_sub(MAX_SAID);
        Self { kind, said: said.chars().skip(skip).collect(), files }
    }
}

/// The text with the user info of each URL taken out.
#[must_use]
pub(super) fn without_users(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end =
            after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '\'' | '"')).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => &after[at + 1..],
            None => after,
        };
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_told_apart() {
        let of = |text: &str| Failure::of(b"", text.as_bytes());
        assert_eq!(of("fatal: not a git repository: '.git'").kind, Kind::NoRepository);
        let refused = of(
            "error: Your local changes to the following files would be overwritten by merge:\n\ta.txt\n\tsrc/b c.rs\nPlease commit your changes or stash them before you merge.\nAborting",
        );
        assert_eq!(refused.kind, Kind::WouldOverwrite);
        assert_eq!(refused.files, ["a.txt", "src/b c.rs"].map(|path| path.parse().unwrap()));
        assert_eq!(of("fatal: Authentication failed for 'http://host/x/'").kind, Kind::CredentialsRefused);
        let first = of(
            "error: Untracked working tree file 'a b' would be overwritten by merge.\nfatal: read-tree failed",
        );
        assert_eq!((first.kind, first.files), (Kind::WouldOverwrite, vec!["a b".parse().unwrap()]));
        assert_eq!(of("remote: fatal: Authentication failed\nfatal: x").kind, Kind::Other);
        let conflict = Failure::of(b"Auto-merging a\nCONFLICT (content): Merge conflict in a/b.txt\n", b"");
        assert_eq!((conflict.kind, conflict.files), (Kind::Conflict, vec!["a/b.txt".parse().unwrap()]));
        assert_eq!(of("something new").kind, Kind::Other);
    }

    #[test]
    fn urls_lose_their_users() {
        let said = "fatal: unable to access 'https://ann:tok@en@host.example/x.git/': no; see http://h/ and ssh://git@h:22/x";
        let clean =
            "fatal: unable to access 'https://host.example/x.git/': no; see http://h/ and ssh://h:22/x";
        assert_eq!(without_users(said), clean);
        assert_eq!(without_users("x://"), "x://");
    }

    proptest::proptest! {
        #[test]
        fn any_words_are_read(out in proptest::collection::vec(proptest::num::u8::ANY, 0..200), text in "\\PC{0,200}") {
            let failure = Failure::of(&out, text.as_bytes());
            proptest::prop_assert!(failure.said.chars().count() <= MAX_SAID);
        }
    }
}
