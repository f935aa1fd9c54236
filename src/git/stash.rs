//! Work put aside.

use super::Command;
use serde::Serialize;
use utoipa::ToSchema;

/// Work that was put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Stash {
    /// Its number, 0 for the last one; it changes when others come and go.
    pub number: u64,
    /// Its commit, which stays what it is.
    pub commit: String,
    /// On which branch it was made, and why.
    pub message: String,
    /// By whom.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl Command {
    /// What [`parse_stashes`] reads, one more than `max`. Where nothing was ever put aside it fails.
    #[must_use]
    pub fn stashes(max: usize) -> Self {
        let format = "--format=%H%x00%gs%x00%cn%x00%ct%x00";
        let command =
            Self::new("log").options(["--walk-reflogs", "--no-show-signature", "--no-decorate", format]);
        command.option(format!("--max-count={}", max.saturating_add(1))).options(["refs/stash", "--"])
    }
}

impl Command {
    /// What [`links`] reads; of a list that is too large the beginning.
    #[must_use]
    pub fn marks() -> Self {
        Self::look("ls-files").options(["--stage", "-v", "-z"]).cut()
    }
}

/// The repositories inside this one that are tracked: those that are `marked` as unchanged whatever is in them, or those that
/// are not.
pub fn links(listed: &[u8], marked: bool) -> impl Iterator<Item = &[u8]> {
    let begin: &[u8] = if marked { b"h 160000 " } else { b"H 160000 " };
    let entries = listed.split(|byte| *byte == 0).filter_map(move |entry| entry.strip_prefix(begin));
    entries.filter_map(|entry| entry.splitn(2, |byte| *byte == b'\t').nth(1))
}

/// Reads the list, at most `max` and whether there are more.
#[must_use]
pub fn parse_stashes(printed: &[u8], max: usize) -> (Vec<Stash>, bool) {
    let text = String::from_utf8_lossy(printed);
    let stashes = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split('\0').collect();
        let [commit, message, by, at, _] = *fields.as_slice() else { return None };
        Some((commit, message, by, at.parse::<i64>().ok()?))
    });
    let mut all: Vec<Stash> = (0..)
        .zip(stashes)
        .take(max.saturating_add(1))
        .map(|(number, (commit, message, by, at))| Stash {
            number,
            commit: commit.to_owned(),
            message: message.to_owned(),
            by: by.to_owned(),
            at_ms: at.saturating_mul(1_000),
        })
        .collect();
    let is_truncated = all.len() > max;
    all.truncate(max);
    (all, is_truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracked_repositories_are_told_from_files_and_by_their_mark() {
        let hash = "a1".repeat(20);
        let listed: String = ["H 100644", "H 160000", "h 160000", "H 160000", "h 100644"]
            .iter()
            .zip(["a", "in\tner", "marked", "other", "b"])
            .map(|(entry, path)| format!("{entry} {hash} 0\t{path}\0"))
            .collect();
        assert_eq!(links(listed.as_bytes(), false).collect::<Vec<_>>(), [&b"in\tner"[..], b"other"]);
        assert_eq!(links(listed.as_bytes(), true).collect::<Vec<_>>(), [b"marked"]);
        assert_eq!(links(b"", true).count() + links(b"H 160000 x", false).count(), 0);
    }

    #[test]
    fn the_list_is_read() {
        let printed = b"aa\0On main: one\0Ann\x001700000000\0\nbb\0WIP on main: 123 x\0Bob\x001\0\n";
        let (all, more) = parse_stashes(printed, 5);
        assert_eq!(
            all.iter().map(|one| (one.number, one.message.as_str())).collect::<Vec<_>>(),
            [(0, "On main: one"), (1, "WIP on main: 123 x")]
        );
        assert!(!more && all[0].at_ms == 1_700_000_000_000);
        assert!(parse_stashes(printed, 1).1);
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(printed in proptest::collection::vec(proptest::num::u8::ANY, 0..400), max in 0usize..5) {
            proptest::prop_assert!(parse_stashes(&printed, max).0.len() <= max);
        }
    }
}
