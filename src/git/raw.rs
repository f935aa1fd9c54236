//! Which files differ, by the hashes of what they hold (`git diff-index --raw -z`), and what those are (`git cat-file --batch`).

use super::Command;
use crate::workspace::RelPath;

/// A regular file that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFile {
    /// Where it is now.
    pub path: RelPath,
    /// What it held; `None` where it is new.
    pub old: Option<String>,
    /// What it holds; `None` where it is gone.
    pub new: Option<String>,
}

impl Command {
    /// What is staged against a commit or tree, for [`staged`].
    #[must_use]
    pub fn staged_since(tree: &str) -> Self {
        Self::new("diff-index").options([
            "--cached",
            "--raw",
            "-z",
            "-M",
            "--no-abbrev",
            "--no-ext-diff",
            "--end-of-options",
            tree,
        ])
    }

    /// Objects by their hashes, for [`objects`].
    #[must_use]
    pub fn objects<'a>(hashes: impl IntoIterator<Item = &'a str>) -> Self {
        let wanted: String = hashes.into_iter().map(|hash| format!("{hash}\n")).collect();
        Self::new("cat-file").option("--batch").input(wanted)
    }
}

/// The regular files that differ. Links, submodules, and names that perch has no path for are left out.
#[must_use]
pub fn staged(printed: &[u8]) -> Vec<StagedFile> {
    let mut fields = printed.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let mut all = Vec::new();
    while let Some(head) = fields.next() {
        let Some(head) = head.strip_prefix(':') else { continue };
        let [old_mode, new_mode, old, new, state] = head.split(' ').collect::<Vec<_>>()[..] else { continue };
        let first = fields.next().unwrap_or_default();
        let path = if state.starts_with(['R', 'C']) { fields.next().unwrap_or_default() } else { first };
        let is_file = |mode: &str| mode.starts_with("100");
        let hash = |mode: &str, hash: &str| is_file(mode).then(|| hash.to_owned());
        let (old, new) = (hash(old_mode, old), hash(new_mode, new));
        if let (true, Ok(path)) = (old.is_some() || new.is_some(), path.parse()) {
            all.push(StagedFile { path, old, new });
        }
    }
    all
}

/// What objects hold, in the order in which they were asked for; `None` for one that is missing. `None` for all where the
/// answer is cut short.
#[must_use]
pub fn objects(mut printed: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let mut all = Vec::new();
    while !printed.is_empty() {
        let end = printed.iter().position(|byte| *byte == b'\n')?;
        let head = std::str::from_utf8(&printed[..end]).ok()?;
        printed = &printed[end + 1..];
        let Some(len) = head.rsplit(' ').next().and_then(|len| len.parse::<usize>().ok()) else {
            all.push(None);
            continue;
        };
        let (content, rest) = printed.split_at_checked(len)?;
        all.push(Some(content));
        printed = rest.strip_prefix(b"\n")?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_prints_is_read() {
        let printed = b":100644 100755 aa bb M\0a b.txt\0:000000 100644 00 cc A\0new\0:100644 100644 dd dd R100\0from\0to\0\
            :000000 120000 00 ee A\0link\0:100644 000000 ff 00 D\0gone\0:100644 100644 aa bb M\0.git/x\0";
        let of = |path: &str, old: Option<&str>, new: Option<&str>| StagedFile {
            path: path.parse().unwrap(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
        };
        let expected = [
            of("a b.txt", Some("aa"), Some("bb")),
            of("new", None, Some("cc")),
            of("to", Some("dd"), Some("dd")),
            of("gone", Some("ff"), None),
        ];
        assert_eq!(staged(printed), expected);
        let batch = b"aa blob 4\none\n\nbb missing\ncc blob 0\n\n";
        assert_eq!(objects(batch), Some(vec![Some(b"one\n".as_slice()), None, Some(b"")]));
        assert_eq!(objects(&batch[..12]), None);
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(printed in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = (staged(&printed), objects(&printed));
        }

        #[test]
        fn anything_like_it_is_read(text in "(:1?[0-7 ]{0,20}[MARCD]?[0-9]{0,3}\0?|[a-f0-9]{2} blob [0-9]{1,20}\n|x)*") {
            let _ = (staged(text.as_bytes()), objects(text.as_bytes()));
        }
    }
}
