//! `git blame --incremental`: which commit each line is of.

use super::log::{Signature, at_ms};
use super::{Command, Revision};
use crate::workspace::RelPath;
use serde::Serialize;
use std::collections::HashMap;
use utoipa::ToSchema;

/// The commit that lines are of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Blamed {
    /// Its hash.
    pub hash: String,
    /// Who wrote it; names are those of `.mailmap`, if there is one.
    pub author: Signature,
    /// Its message's first line.
    pub subject: String,
    /// The file's path in it.
    pub path: String,
    /// Where the lines begin in that file, from 1.
    pub first: u64,
    /// What came before is not known: it is the first commit, or where a shallow history begins.
    pub is_boundary: bool,
}

/// Lines of one origin, in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct BlameRange {
    /// The first line, from 1.
    pub first: u64,
    /// Their number.
    pub count: u64,
    /// The commit that they are of; not there for lines that are not committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Blamed>,
}

impl Command {
    /// What [`BlameRange::read`] reads. Without a revision: of the file as it is now. `lines`: from and to, from 1, the last
    /// one included.
    #[must_use]
    pub fn blame(revision: Option<&Revision>, lines: Option<(u64, u64)>, path: &RelPath) -> Self {
        let mut command = Self::look("blame").options(["--incremental", "--no-textconv", "--encoding=UTF-8"]);
        if let Some((first, last)) = lines {
            command = command.option(format!("-L{first},{last}"));
        }
        if let Some(revision) = revision {
            command = command.revision(revision);
        }
        command.paths([path])
    }
}

impl BlameRange {
    /// Reads what [`Command::blame`] printed; in the order of lines.
    #[must_use]
    pub fn read(printed: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(printed);
        let mut commits: HashMap<&str, Blamed> = HashMap::new();
        let mut ranges: Vec<Self> = Vec::new();
        let mut under_way: Option<(&str, [u64; 3])> = None;
        // What a commit is is told once, with its first range; each range ends with a file name.
        for line in text.split('\n') {
            let Some((hash, [original, first, count])) = under_way else {
                under_way = begin(line);
                continue;
            };
            let commit = commits.entry(hash).or_default();
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "author" => value.clone_into(&mut commit.author.name),
                "author-mail" => {
                    let email = value.strip_prefix('<').and_then(|mail| mail.strip_suffix('>'));
                    email.unwrap_or(value).clone_into(&mut commit.author.email);
                }
                "author-time" => commit.author.at_ms = at_ms(value),
                "summary" => value.clone_into(&mut commit.subject),
                "boundary" => commit.is_boundary = true,
                "filename" => {
                    let is_committed = hash.bytes().any(|byte| byte != b'0');
                    let commit = is_committed.then(|| Blamed {
                        hash: hash.to_owned(),
                        path: unquoted(value),
                        first: original,
                        ..commit.clone()
                    });
                    ranges.push(Self { first, count, commit });
                    under_way = None;
                }
                _ => {}
            }
        }
        ranges.sort_by_key(|range| range.first);
        joined(ranges)
    }
}

/// `HASH ORIGINAL FIRST COUNT`.
fn begin(line: &str) -> Option<(&str, [u64; 3])> {
    let mut words = line.split(' ');
    let hash = words.next().filter(|hash| hash.len() >= 40)?;
    let mut number = || words.next()?.parse().ok();
    Some((hash, [number()?, number()?, number()?]))
}

/// One range of those that follow each other in both files.
fn joined(ranges: Vec<BlameRange>) -> Vec<BlameRange> {
    let mut joined: Vec<BlameRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if let Some(last) = joined.last_mut() {
            let follows = match (&last.commit, &range.commit) {
                (None, None) => true,
                (Some(a), Some(b)) => {
                    a.hash == b.hash && a.path == b.path && a.first.saturating_add(last.count) == b.first
                }
                _ => false,
            };
            if follows && last.first.saturating_add(last.count) == range.first {
                last.count = last.count.saturating_add(range.count);
                continue;
            }
        }
        joined.push(range);
    }
    joined
}

/// A path as git writes it here: in quotes, with escapes, where something in it is special.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'a') => 0x07,
            Some(b'b') => 0x08,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'v') => 0x0b,
            Some(b'f') => 0x0c,
            Some(b'r') => b'\r',
            Some(digit @ b'0'..=b'3') => {
                let mut value = digit - b'0';
                for digit in rest.by_ref().take(2) {
                    value = value.wrapping_mul(8).wrapping_add(digit.wrapping_sub(b'0'));
                }
                value
            }
            Some(other) => other,
            None => break,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::patch::quoted;
    use super::*;

    #[test]
    fn what_git_prints_is_read() {
        let (one, none) = ("a1".repeat(20), "00".repeat(20));
        let printed = format!(
            "{one} 5 4 2\nauthor Ann B\nauthor-mail <ann@x>\nauthor-time 10\nauthor-tz +0000\nsummary filename x\nboundary\nfilename \"a\\nb\"\n\
             {none} 3 3 1\nauthor Not Committed Yet\nsummary Version of x from x\nfilename x\n\
             {one} 1 1 2\nfilename \"a\\nb\"\n{one} 7 6 1\nfilename \"a\\nb\"\n"
        );
        let ranges = BlameRange::read(printed.as_bytes());
        let short: Vec<_> = ranges
            .iter()
            .map(|range| (range.first, range.count, range.commit.as_ref().map(|commit| commit.first)))
            .collect();
        assert_eq!(short, [(1, 2, Some(1)), (3, 1, None), (4, 3, Some(5))]);
        let commit = ranges[0].commit.clone().unwrap();
        assert_eq!((commit.path.as_str(), commit.subject.as_str()), ("a\nb", "filename x"));
        assert_eq!((commit.author.email.as_str(), commit.is_boundary), ("ann@x", true));
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_unquoted(name in "[ -~\\n\\t\\x01\\x7fü]{0,20}") {
            let text = String::from_utf8(quoted(b"", name.as_bytes())).unwrap();
            proptest::prop_assert_eq!(unquoted(&text), name);
        }

        #[test]
        fn anything_is_read(lines in proptest::collection::vec("([0-9a-f]{40} [0-9]{1,20} [0-9]{1,20} [0-9]{1,20}|filename \"?[\\\\a-z0-9]{0,5}\"?|author x)", 0..12)) {
            let _ = BlameRange::read(lines.join("\n").as_bytes());
        }
    }
}
