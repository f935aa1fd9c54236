//! Patches as git prints them: files, their hunks, and a patch of some of the hunks alone.
//!
//! Hunks are read by the lengths that their headers name, so no line of a file is taken for anything else; and a file by
//! the very line that git begins it with, see [`heading`].

use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// What happened to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// It is on both sides.
    Context,
    /// It is on the new side only.
    Added,
    /// It is on the old side only.
    Deleted,
}

/// One line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Line {
    /// What happened to it.
    pub kind: LineKind,
    /// The line without its `\n`; a `\r` stays. What is no UTF-8 is replaced.
    pub text: String,
    /// The file ends here, without a line end. Left out where false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub no_newline: bool,
    /// Something was no UTF-8. Left out where false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub is_replaced: bool,
}

/// Lines that changed together, and those around them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = GitHunk)]
pub struct Hunk {
    /// Names the hunk by what it changes: the same as long as that is the same, wherever it moves to.
    pub id: String,
    /// Its first line on the old side, from 1; of an empty side the line before.
    pub old_start: u64,
    /// Lines on the old side.
    pub old_len: u64,
    /// Its first line on the new side, from 1; of an empty side the line before.
    pub new_start: u64,
    /// Lines on the new side.
    pub new_len: u64,
    /// Where it is, as git guesses: mostly the function's first line.
    pub header: String,
    /// The lines.
    pub lines: Vec<Line>,
}

/// A hunk as git printed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// First line and lines of the old side.
    pub(super) old: (u64, u64),
    /// First line and lines of the new side.
    pub(super) new: (u64, u64),
    pub(super) header: &'a [u8],
    /// All lines, each with its sign.
    pub(super) body: &'a [u8],
    pub(super) added: u64,
    pub(super) deleted: u64,
}

/// A file's part of a patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section<'a> {
    /// `diff --git …`, without the line end.
    pub(super) heading: &'a [u8],
    pub(super) is_binary: bool,
    pub(super) pieces: Vec<Piece<'a>>,
}

/// Takes a line, without its end.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|byte| *byte == b'\n');
    let (line, after) = match end {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (*rest, &rest[rest.len()..]),
    };
    *rest = after;
    Some(line)
}

/// `12,3` or `12`.
fn range(text: &str) -> Option<(u64, u64)> {
    match text.split_once(',') {
        Some((start, len)) => Some((start.parse().ok()?, len.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}

/// `@@ -1,2 +3,4 @@ header`.
fn piece_of(text: &[u8]) -> Option<Piece<'_>> {
    let rest = text.strip_prefix(b"@@ -")?;
    let end = rest.windows(3).position(|three| three == b" @@")?;
    let (old, new) = std::str::from_utf8(&rest[..end]).ok()?.split_once(" +")?;
    let header = rest[end + 3..].trim_ascii();
    Some(Piece { old: range(old)?, new: range(new)?, header, body: &[], added: 0, deleted: 0 })
}

/// Reads the lines that a hunk's header promised.
fn body<'a>(mut piece: Piece<'a>, rest: &mut &'a [u8]) -> Piece<'a> {
    let whole = *rest;
    let (mut old, mut new) = (piece.old.1, piece.new.1);
    loop {
        match rest.first() {
            Some(b'\\') => {}
            _ if old == 0 && new == 0 => break,
            Some(b'+') => {
                piece.added += 1;
                new = new.saturating_sub(1);
            }
            Some(b'-') => {
                piece.deleted += 1;
                old = old.saturating_sub(1);
            }
            Some(b' ' | b'\n') => (old, new) = (old.saturating_sub(1), new.saturating_sub(1)),
            _ => break,
        }
        line(rest);
    }
    piece.body = &whole[..whole.len() - rest.len()];
    piece
}

/// Reads a patch.
pub(super) fn sections(printed: &[u8]) -> Vec<Section<'_>> {
    let mut rest = printed;
    let mut sections: Vec<Section<'_>> = Vec::new();
    while let Some(text) = line(&mut rest) {
        if text.starts_with(b"diff --git ") {
            sections.push(Section { heading: text, ..Section::default() });
            continue;
        }
        let Some(section) = sections.last_mut() else { continue };
        if text.starts_with(b"Binary files ") || text.starts_with(b"GIT binary patch") {
            section.is_binary = true;
        } else if let Some(piece) = piece_of(text) {
            section.pieces.push(body(piece, &mut rest));
        }
    }
    sections
}

/// A path as git writes it into patches: in quotes where something in it is special (`core.quotePath=false`).
pub(super) fn quoted(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    let mut quoted = prefix.to_vec();
    let mut is_special = false;
    for byte in path {
        let escape = match byte {
            0x07 => b'a',
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0b => b'v',
            0x0c => b'f',
            b'\r' => b'r',
            b'"' | b'\\' => *byte,
            0..0x20 | 0x7f => {
                is_special = true;
                quoted.extend_from_slice(format!("\\{byte:03o}").as_bytes());
                continue;
            }
            _ => {
                quoted.push(*byte);
                continue;
            }
        };
        is_special = true;
        quoted.extend_from_slice(&[b'\\', escape]);
    }
    if is_special { [b"\"", &quoted[..], b"\""].concat() } else { quoted }
}

/// The line that a file's part begins with.
pub(super) fn heading(from: &[u8], path: &[u8]) -> Vec<u8> {
    [b"diff --git ", &quoted(b"a/", from)[..], b" ", &quoted(b"b/", path)].concat()
}

/// The names of a file's hunks. Equal ones are told apart by their places; when one of them is staged, the names of all of
/// them go, so that nobody's name for the one ever means the other.
pub(super) fn ids(path: &[u8], pieces: &[Piece<'_>], context: u32) -> Vec<String> {
    let of = |piece: &Piece<'_>, place: Option<[u64; 2]>| {
        let mut hash = Sha256::new();
        hash.update(path);
        hash.update([0]);
        hash.update(piece.body);
        for number in place.iter().flatten() {
            hash.update([0]);
            hash.update(number.to_be_bytes());
        }
        let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{context}-{hex}")
    };
    let mut by_body = std::collections::HashMap::<&[u8], usize>::new();
    for piece in pieces {
        *by_body.entry(piece.body).or_default() += 1;
    }
    let place = |piece: &Piece<'_>| (by_body[piece.body] > 1).then_some([piece.old.0, piece.new.0]);
    pieces.iter().map(|piece| of(piece, place(piece))).collect()
}

/// The lines of context that hunks with such a name were made with.
#[must_use]
pub fn context_of(id: &str) -> Option<u32> {
    let (context, hash) = id.split_once('-')?;
    let is_hash = hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    context.parse().ok().filter(|_| is_hash)
}

impl Piece<'_> {
    /// In the form that is shown.
    pub(super) fn shown(&self, id: String) -> Hunk {
        let mut lines: Vec<Line> = Vec::new();
        let mut rest = self.body;
        while let Some(text) = line(&mut rest) {
            let kind = match text.first() {
                Some(b'+') => LineKind::Added,
                Some(b'-') => LineKind::Deleted,
                Some(b'\\') => {
                    if let Some(last) = lines.last_mut() {
                        last.no_newline = true;
                    }
                    continue;
                }
                _ => LineKind::Context,
            };
            let text = String::from_utf8_lossy(text.get(1..).unwrap_or_default());
            let is_replaced = matches!(text, std::borrow::Cow::Owned(_));
            lines.push(Line { kind, text: text.into_owned(), no_newline: false, is_replaced });
        }
        Hunk {
            id,
            old_start: self.old.0,
            old_len: self.old.1,
            new_start: self.new.0,
            new_len: self.new.1,
            header: String::from_utf8_lossy(self.header).into_owned(),
            lines,
        }
    }
}

/// Which way a patch is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From old to new.
    Forward,
    /// From new to old, with `git apply --reverse`.
    Reverse,
}

/// A patch of `path` with those of its hunks that are chosen. `head`: what comes before the hunks.
///
/// Git looks for a hunk where the header says that it will be once those before it are applied, so the places are made anew
/// for what is left out: of equal lines it would otherwise take others.
pub(super) fn some(head: &[u8], pieces: &[Piece<'_>], chosen: &[bool], way: Way) -> Vec<u8> {
    let mut patch = head.to_vec();
    let mut skipped: i128 = 0;
    let moved = |start: u64, by: i128| u64::try_from(i128::from(start) + by).unwrap_or(0);
    for (piece, is_chosen) in pieces.iter().zip(chosen) {
        let (mut old, mut new) = (piece.old.0, piece.new.0);
        if !is_chosen {
            skipped += i128::from(piece.new.1) - i128::from(piece.old.1);
            continue;
        }
        match way {
            Way::Forward => new = moved(new, -skipped),
            Way::Reverse => old = moved(old, skipped),
        }
        let header = format!("@@ -{old},{} +{new},{} @@\n", piece.old.1, piece.new.1);
        patch.extend_from_slice(header.as_bytes());
        patch.extend_from_slice(piece.body);
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;
    use std::process::{Command, Stdio};

    #[test]
    fn lines_that_look_like_patches_are_lines() {
        let printed = b"diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@ fn a()\n-diff --git a/y b/y\n+@@ -1 +1 @@\n \n \\ no\n\\ No newline at end of file\ndiff --git a/b b/b\nBinary files a/b and b/b differ\n";
        let sections = sections(printed);
        assert_eq!(sections.len(), 2);
        assert!(sections[1].is_binary);
        let [piece] = sections[0].pieces[..] else { panic!("one hunk") };
        assert_eq!((piece.added, piece.deleted, piece.header), (1, 1, &b"fn a()"[..]));
        let hunk = piece.shown("x".into());
        let texts: Vec<_> = hunk.lines.iter().map(|line| (line.text.as_str(), line.no_newline)).collect();
        assert_eq!(
            texts,
            [("diff --git a/y b/y", false), ("@@ -1 +1 @@", false), ("", false), ("\\ no", true)]
        );
    }

    #[test]
    fn special_names_are_quoted_as_git_does() {
        assert_eq!(quoted(b"a/", "ü b".as_bytes()), "a/ü b".as_bytes());
        assert_eq!(quoted(b"a/", b"we\"ird\nna\\me\x01\x7f"), b"\"a/we\\\"ird\\nna\\\\me\\001\\177\"");
    }

    fn git(folder: &Path, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
        git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = git.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
        let output = child.wait_with_output().unwrap();
        // `diff --no-index` ends with 1 where there is something to tell.
        let is_good = output.status.success() || arguments[0] == "diff";
        if is_good { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// What is there after the chosen hunks alone, by their lines.
    fn expected(old: &str, pieces: &[Piece<'_>], chosen: &[bool]) -> Vec<u8> {
        let lines: Vec<&[u8]> = old.as_bytes().split_inclusive(|byte| *byte == b'\n').collect();
        let (mut made, mut at) = (Vec::new(), 0);
        for (piece, is_chosen) in pieces.iter().zip(chosen) {
            let start = usize::try_from(piece.old.0).unwrap() - usize::from(piece.old.1 > 0);
            let end = start + usize::try_from(piece.old.1).unwrap();
            made.extend(lines[at..start].concat());
            at = end;
            if !is_chosen {
                made.extend(lines[start..end].concat());
                continue;
            }
            for line in piece.shown(String::new()).lines.iter().filter(|line| line.kind != LineKind::Deleted)
            {
                made.extend_from_slice(line.text.as_bytes());
                made.extend_from_slice(if line.no_newline { b"" } else { b"\n" });
            }
        }
        made.extend(lines[at..].concat());
        made
    }

    proptest! {
        #[test]
        fn anything_is_read(printed in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = sections(&printed);
        }

        #[test]
        fn anything_like_it_is_read(lines in proptest::collection::vec("(diff --git a/x b/x|@@ -[0-9]{1,20},[0-3] \\+[0-9]{1,2} @@|[-+ \\\\]?[a-z]{0,3})", 0..12)) {
            let text = lines.join("\n");
            for section in sections(text.as_bytes()) {
                let chosen: Vec<bool> = section.pieces.iter().enumerate().map(|(n, _)| n % 2 == 0).collect();
                let _ = some(b"", &section.pieces, &chosen, Way::Forward);
                let _ = some(b"", &section.pieces, &chosen, Way::Reverse);
                prop_assert_eq!(ids(b"x", &section.pieces, 3).len(), section.pieces.len());
            }
        }
    }

    /// Of few kinds, so that places can't be told from lines.
    fn line_of() -> impl Strategy<Value = String> {
        prop_oneof![12 => Just("a"), 2 => Just("b"), 1 => Just(""), 1 => Just("c")].prop_map(str::to_owned)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn any_hunks_apply_where_they_belong_in_any_order(
            old in proptest::collection::vec(line_of(), 20..80),
            edits in proptest::collection::vec((0usize..80, 0usize..4, proptest::collection::vec(line_of(), 0..4)), 2..9),
            ends in any::<(bool, bool)>(),
            context in 1u32..4,
            choice in proptest::collection::vec(any::<bool>(), 30),
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 30),
        ) {
            let mut new = old.clone();
            for (at, cut, with) in edits {
                let at = at.min(new.len());
                let end = (at + cut).min(new.len());
                new.splice(at..end, with);
            }
            let text = |lines: &[String], has_end: bool| {
                lines.join("\n") + if has_end && !lines.is_empty() { "\n" } else { "" }
            };
            let (old, new) = (text(&old, ends.0), text(&new, ends.1));
            prop_assume!(!old.is_empty() && !new.is_empty());
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
            let diff = |old: &[u8], new: &[u8]| {
                write("old", old);
                write("new", new);
                let unified = format!("--unified={context}");
                git(folder.path(), &["diff", "--no-index", "--inter-hunk-context=0", &unified, "old", "new"], b"").unwrap()
            };
            let head = b"diff --git a/old b/old\n--- a/old\n+++ b/old\n";
            let apply = |way: Way, patch: &[u8], on: &[u8]| {
                write("old", on);
                let mut arguments = vec!["apply", "--whitespace=nowarn"];
                arguments.extend((way == Way::Reverse).then_some("--reverse"));
                git(folder.path(), &arguments, patch).map(|_| std::fs::read(folder.path().join("old")).unwrap())
            };
            let printed = diff(old.as_bytes(), new.as_bytes());
            let all = sections(&printed);
            let pieces = all.first().map(|section| section.pieces.clone()).unwrap_or_default();
            let chosen: Vec<bool> = choice.iter().copied().cycle().take(pieces.len()).collect();
            let rest: Vec<bool> = chosen.iter().map(|is_chosen| !is_chosen).collect();
            let part = expected(&old, &pieces, &chosen);
            prop_assert_eq!(&expected(&old, &pieces, &vec![true; pieces.len()]), new.as_bytes());
            if chosen.contains(&true) {
                let made = apply(Way::Forward, &some(head, &pieces, &chosen, Way::Forward), old.as_bytes());
                prop_assert_eq!(made.as_ref(), Ok(&part));
            }
            if rest.contains(&true) {
                let made = apply(Way::Reverse, &some(head, &pieces, &rest, Way::Reverse), new.as_bytes());
                prop_assert_eq!(made.as_ref(), Ok(&part));
            }
            // One by one in any order, the diff made anew each time, as people stage.
            let mut staged = old.clone().into_bytes();
            for pick in picks {
                let printed = diff(&staged, new.as_bytes());
                let all = sections(&printed);
                let Some(section) = all.first() else { break };
                let one = pick.index(section.pieces.len());
                let names = ids(b"old", &section.pieces, context);
                let only: Vec<bool> = (0..names.len()).map(|n| n == one).collect();
                prop_assert_eq!(names.iter().filter(|name| **name == names[one]).count(), 1);
                let made = apply(Way::Forward, &some(head, &section.pieces, &only, Way::Forward), &staged);
                let now = std::str::from_utf8(&staged).unwrap().to_owned();
                prop_assert_eq!(made.as_ref(), Ok(&expected(&now, &section.pieces, &only)));
                staged = made.unwrap();
                // The name that was taken means nothing else now.
                let printed = diff(&staged, new.as_bytes());
                let after = sections(&printed);
                let after = after.first().map(|section| ids(b"old", &section.pieces, context)).unwrap_or_default();
                let left = names.iter().filter(|name| after.contains(name)).count();
                prop_assert!(left < names.len());
                prop_assert!(!after.contains(&names[one]));
            }
            if choice.len() > 29 && staged == new.as_bytes() {
                prop_assert_eq!(diff(&staged, new.as_bytes()), b"");
            }
        }
    }
}
