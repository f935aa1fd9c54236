//! `git status --porcelain=v2 --branch -z`.

use super::Command;
use serde::Serialize;
use utoipa::ToSchema;

/// Where the branch stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Head {
    /// The commit; not there before the first.
    pub commit: Option<String>,
    /// The git branch; not there when a commit itself is checked out.
    pub branch: Option<String>,
    /// Its branch at the remote, as `origin/main`.
    pub upstream: Option<String>,
    /// Commits that the upstream lacks.
    pub ahead: Option<u64>,
    /// Commits of the upstream that are not here.
    pub behind: Option<u64>,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// Its content or mode differs.
    Modified,
    /// It is gone.
    Deleted,
    /// It was elsewhere.
    Renamed,
    /// It is a copy.
    Copied,
    /// It was of another kind: a file, a link, a repository.
    TypeChanged,
}

impl Change {
    pub(super) fn of(letter: u8) -> Option<Self> {
        Some(match letter {
            b'A' => Self::Added,
            b'M' => Self::Modified,
            b'D' => Self::Deleted,
            b'R' => Self::Renamed,
            b'C' => Self::Copied,
            b'T' => Self::TypeChanged,
            _ => return None,
        })
    }
}

/// A file that is not as it was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = GitEntry)]
pub struct Entry {
    /// Where it is; what is no UTF-8 is replaced.
    pub path: String,
    /// Where it was, if renamed or copied.
    pub from: Option<String>,
    /// What is staged.
    pub staged: Option<Change>,
    /// What is not staged.
    pub unstaged: Option<Change>,
    /// Git knows nothing of it.
    pub untracked: bool,
    /// In conflict: which two sides did what, as git's letters (`UU` both changed it, `DU` we deleted it, …).
    pub conflict: Option<String>,
    /// Another repository inside this one.
    pub submodule: bool,
}

/// What differs from what was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Status {
    /// Where the branch stands.
    pub head: Head,
    /// The files, by path; at most as many as were asked for.
    pub entries: Vec<Entry>,
    /// Whether there are more.
    pub is_truncated: bool,
}

impl Command {
    /// What [`Status::parse`] reads.
    #[must_use]
    pub fn status() -> Self {
        Self::new("status").options([
            "--porcelain=v2",
            "--branch",
            "-z",
            "--untracked-files=all",
            "--ignore-submodules=dirty",
            "--renames",
        ])
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Status {
    /// Reads what git printed, at most `max` files of it. Lines of kinds that it does not know are passed over, as git asks
    /// of its readers.
    #[must_use]
    pub fn parse(printed: &[u8], max: usize) -> Self {
        let mut status = Self::default();
        let mut records = printed.split(|byte| *byte == 0);
        while let Some(record) = records.next() {
            let Some((kind, rest)) = record.split_first() else { continue };
            let rest = rest.strip_prefix(b" ").unwrap_or(rest);
            let entry = match kind {
                b'#' => {
                    status.head.read(&text(rest));
                    continue;
                }
                b'1' => ordinary(rest, 6),
                b'2' => {
                    let from = records.next();
                    ordinary(rest, 7).map(|entry| Entry { from: from.map(text), ..entry })
                }
                b'u' => unmerged(rest),
                b'?' => Some(Entry { path: text(rest), untracked: true, ..Entry::default() }),
                _ => continue,
            };
            let Some(entry) = entry else { continue };
            if status.entries.len() >= max {
                status.is_truncated = true;
                break;
            }
            status.entries.push(entry);
        }
        status
    }
}

/// `XY sub …`, `skip` fields, and the path.
fn ordinary(rest: &[u8], skip: usize) -> Option<Entry> {
    let mut fields = rest.splitn(skip + 2, |byte| *byte == b' ');
    let (states, submodule) = (fields.next()?, fields.next()?);
    let path = fields.nth(skip - 1)?;
    let [staged, unstaged] = states else { return None };
    Some(Entry {
        path: text(path),
        staged: Change::of(*staged),
        unstaged: Change::of(*unstaged),
        submodule: submodule.first() == Some(&b'S'),
        ..Entry::default()
    })
}

fn unmerged(rest: &[u8]) -> Option<Entry> {
    let mut fields = rest.splitn(10, |byte| *byte == b' ');
    let (states, submodule) = (fields.next()?, fields.next()?);
    let path = fields.nth(7)?;
    Some(Entry {
        path: text(path),
        conflict: Some(text(states)),
        submodule: submodule.first() == Some(&b'S'),
        ..Entry::default()
    })
}

impl Head {
    fn read(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(' ') else { return };
        match key {
            "branch.oid" => self.commit = Some(value.to_owned()).filter(|oid| oid != "(initial)"),
            "branch.head" => self.branch = Some(value.to_owned()).filter(|name| name != "(detached)"),
            "branch.upstream" => self.upstream = Some(value.to_owned()),
            "branch.ab" => {
                let mut numbers = value.split(' ').map(|number| number.get(1..)?.parse().ok());
                (self.ahead, self.behind) = (numbers.next().flatten(), numbers.next().flatten());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_prints_is_read() {
        let printed =
            b"# branch.oid 1234\0# branch.head main\0# branch.upstream origin/main\0# branch.ab +2 -1\0\
            1 .M N... 100644 100644 100644 aa bb src/a b.rs\0\
            2 R. N... 100644 100644 100644 aa bb R100 new name\0old name\0\
            u UU N... 100644 100644 100644 100644 aa bb cc both.txt\0\
            1 A. S... 000000 160000 160000 aa bb sub\0\
            ? new.txt\0! ignored\0";
        let status = Status::parse(printed, 100);
        let head = Head {
            commit: Some("1234".into()),
            branch: Some("main".into()),
            upstream: Some("origin/main".into()),
            ahead: Some(2),
            behind: Some(1),
        };
        assert_eq!(status.head, head);
        let entry = |path: &str| Entry { path: path.into(), ..Entry::default() };
        let expected = [
            Entry { unstaged: Some(Change::Modified), ..entry("src/a b.rs") },
            Entry { staged: Some(Change::Renamed), from: Some("old name".into()), ..entry("new name") },
            Entry { conflict: Some("UU".into()), ..entry("both.txt") },
            Entry { staged: Some(Change::Added), submodule: true, ..entry("sub") },
            Entry { untracked: true, ..entry("new.txt") },
        ];
        assert_eq!(status.entries, expected);
        assert!(!status.is_truncated);
        let cut = Status::parse(printed, 2);
        assert_eq!((cut.entries.len(), cut.is_truncated), (2, true));
        let fresh = Status::parse(b"# branch.oid (initial)\0# branch.head (detached)\0", 10);
        assert_eq!(fresh, Status::default());
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(printed in proptest::collection::vec(proptest::num::u8::ANY, 0..400), max in 0usize..5) {
            proptest::prop_assert!(Status::parse(&printed, max).entries.len() <= max);
        }

        #[test]
        fn anything_like_it_is_read(lines in proptest::collection::vec("[#12u?!] ?[A-Z. ]{0,3} ?[NS.0-9a-f +-]{0,40}", 0..6)) {
            let _ = Status::parse(lines.join("\0").as_bytes(), 10);
        }
    }
}
