//! `git diff`: which files differ, and their hunks.
//!
//! Two steps, so that a page costs what is on it: [`Command::changes`] lists files ([`Changed::read`]), [`Command::patch`]
//! compares those of a page line by line ([`FileDiff::read`]).

use super::patch::{self, Hunk, Piece, Section, Way};
use super::status::Change;
use super::{Command, Revision};
use crate::workspace::RelPath;
use serde::Serialize;
use utoipa::ToSchema;

/// Lines of one file's hunks; a file with more is marked instead.
pub(super) const MAX_LINES: u64 = 20_000;
/// Bytes of one file's hunks; a file with more is marked instead.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Bytes that a line takes in an answer beside its text.
const LINE_BYTES: usize = 40;
/// A file with more is taken for binary: git does not look into it.
const MAX_COMPARED: &str = "8m";
/// The mode of a repository inside the repository.
const GITLINK: &str = "160000";

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Between {
    /// What is staged, and the files; of files in conflict the branch's own side.
    Unstaged,
    /// The last commit or another, and what is staged.
    Staged(Option<Revision>),
    /// A commit, and the files.
    Files(Revision),
    /// Two commits.
    Commits(Revision, Revision),
}

/// Why a file has no lines although it differs in some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// There are more than 20,000, or 1 MiB.
    TooLarge,
    /// The file has a name that perch can't ask for: no UTF-8, or one that means `.git` somewhere.
    Name,
    /// The file can't be read now, or it is a link that git does not track.
    Unread,
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub struct FileDiff {
    /// Where it is; what is no UTF-8 is replaced.
    pub path: String,
    /// Where it was, if renamed.
    pub from: Option<String>,
    /// What happened to it.
    pub change: Change,
    /// Its mode on the old side, as `100644`.
    pub old_mode: Option<String>,
    /// Its mode on the new side.
    pub new_mode: Option<String>,
    /// It is in conflict.
    pub conflict: bool,
    /// Git knows nothing of it.
    pub untracked: bool,
    /// It is another repository inside this one; the lines name its commits.
    pub submodule: bool,
    /// Not compared line by line: it is binary, or larger than 8 MiB.
    pub is_binary: bool,
    /// Why there are no lines.
    pub left_out: Option<LeftOut>,
    /// Lines that were added, where they were counted.
    pub added: Option<u64>,
    /// Lines that were deleted, where they were counted.
    pub deleted: Option<u64>,
    /// What differs. With [`Change::TypeChanged`] all goes, and all comes anew.
    pub hunks: Vec<Hunk>,
    /// Bytes of the hunks, about as they are sent.
    #[serde(skip)]
    pub len_bytes: usize,
}

/// A file that differs, before it is compared line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Where it is, as git says.
    pub path: Vec<u8>,
    from: Option<Vec<u8>>,
    change: Change,
    modes: [Option<String>; 2],
    conflict: bool,
    untracked: bool,
}

impl Command {
    /// A command that looks, and asks no remote for objects that are not there.
    #[must_use]
    pub fn look(name: &'static str) -> Self {
        Self::new(name).env("GIT_NO_LAZY_FETCH", "1")
    }

    fn diff(between: &Between) -> Self {
        let command = Self::look("diff")
            .config("diff.suppressBlankEmpty", "false")
            .config("diff.autoRefreshIndex", "true")
            .config("core.bigFileThreshold", MAX_COMPARED)
            .options(["--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "-O/dev/null"])
            .options(["--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=dirty", "--submodule=short"])
            .options(["--raw", "--no-abbrev", "-z"]);
        match between {
            Between::Unstaged => command.option("--ours"),
            Between::Staged(_) => command.option("--cached"),
            Between::Files(_) | Between::Commits(..) => command,
        }
    }

    fn of_sides<'a>(self, between: &Between, paths: impl IntoIterator<Item = &'a RelPath>) -> Self {
        let command = self.option("--end-of-options");
        let command = match between {
            Between::Unstaged | Between::Staged(None) => command,
            Between::Staged(Some(from)) | Between::Files(from) => command.revision(from),
            Between::Commits(from, to) => command.revision(from).revision(to),
        };
        command.paths(paths)
    }

    /// What [`Changed::read`] reads; all without paths.
    #[must_use]
    pub fn changes<'a>(between: &Between, paths: impl IntoIterator<Item = &'a RelPath>) -> Self {
        Self::diff(between).options(["--find-renames", "-l1000"]).of_sides(between, paths)
    }

    /// What [`FileDiff::read`] reads. `context`: lines around each change. `renames`: the paths are those of renames, of both
    /// sides.
    #[must_use]
    pub fn patch<'a>(
        between: &Between,
        context: u32,
        renames: bool,
        paths: impl IntoIterator<Item = &'a RelPath>,
    ) -> Self {
        Self::diff(between)
            .options(["--patch", "--histogram", "--indent-heuristic", "--inter-hunk-context=0"])
            .option(format!("--unified={context}"))
            .option(if renames { "--find-renames" } else { "--no-renames" })
            .of_sides(between, paths)
    }
}

/// Takes what comes before the next NUL.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == 0)?;
    let field = &rest[..end];
    *rest = &rest[end + 1..];
    Some(field)
}

/// `:100644 100755 1234 5678 M`, a path, and of renames another.
fn changed(rest: &mut &[u8]) -> Option<(Changed, bool)> {
    let about = std::str::from_utf8(field(rest)?.strip_prefix(b":")?).ok()?;
    let mut words = about.split(' ');
    let mode = |word: Option<&str>| word.filter(|mode| *mode != "000000").map(str::to_owned);
    let modes = [mode(words.next()), mode(words.next())];
    let letter = *words.nth(2)?.as_bytes().first()?;
    let first = field(rest)?.to_vec();
    let (from, path) =
        if matches!(letter, b'R' | b'C') { (Some(first), field(rest)?.to_vec()) } else { (None, first) };
    let is_unmerged = letter == b'U';
    let change = if is_unmerged { Change::Modified } else { Change::of(letter)? };
    Some((Changed { path, from, change, modes, conflict: is_unmerged, untracked: false }, is_unmerged))
}

/// The list of files, and what comes behind it.
fn list(printed: &[u8]) -> (Vec<Changed>, &[u8]) {
    let (mut rest, mut files) = (printed, Vec::<Changed>::new());
    // Of a file in conflict it is said first that it is, then perhaps how it differs.
    let mut unmerged: Option<Changed> = None;
    while rest.first() == Some(&b':') {
        let Some((mut file, is_unmerged)) = changed(&mut rest) else { break };
        if is_unmerged {
            files.extend(unmerged.replace(file));
            continue;
        }
        match unmerged.take() {
            Some(before) if before.path == file.path => file.conflict = true,
            before => files.extend(before),
        }
        files.push(file);
    }
    files.extend(unmerged);
    (files, rest)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn rel_path(bytes: &[u8]) -> Option<RelPath> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

impl Changed {
    /// Reads what [`Command::changes`] printed.
    #[must_use]
    pub fn read(printed: &[u8]) -> Vec<Self> {
        list(printed).0
    }

    /// Files that git does not track; `printed` is a list of their names with NULs.
    #[must_use]
    pub fn untracked(printed: &[u8]) -> Vec<Self> {
        // What ends in a slash is another repository.
        let names = printed.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.ends_with(b"/"));
        let file = |name: &[u8]| Self {
            path: name.to_vec(),
            from: None,
            change: Change::Added,
            modes: [None, None],
            conflict: false,
            untracked: true,
        };
        names.map(file).collect()
    }

    /// Whether git knows nothing of it.
    #[must_use]
    pub fn is_untracked(&self) -> bool {
        self.untracked
    }

    /// Whether it is gone.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.change == Change::Deleted
    }

    /// Whether it was elsewhere.
    #[must_use]
    pub fn is_renamed(&self) -> bool {
        self.from.is_some()
    }

    /// The paths to ask for: it, and where it was. `None` where they can't be asked for.
    #[must_use]
    pub fn paths(&self) -> Option<Vec<RelPath>> {
        // Git names a file in conflict without quotes: a name of several lines could pretend to be a patch.
        if self.conflict && self.path.iter().any(u8::is_ascii_control) {
            return None;
        }
        [Some(&self.path), self.from.as_ref()].into_iter().flatten().map(|path| rel_path(path)).collect()
    }

    /// The file without its lines.
    #[must_use]
    pub fn without_lines(&self, why: Option<LeftOut>) -> FileDiff {
        let [old_mode, new_mode] = self.modes.clone();
        let is_gitlink = |mode: &Option<String>| mode.as_deref() == Some(GITLINK);
        FileDiff {
            path: text(&self.path),
            from: self.from.as_deref().map(text),
            change: self.change,
            submodule: is_gitlink(&old_mode) || is_gitlink(&new_mode),
            old_mode,
            new_mode,
            conflict: self.conflict,
            untracked: self.untracked,
            is_binary: false,
            left_out: why,
            added: None,
            deleted: None,
            hunks: Vec::new(),
            len_bytes: 0,
        }
    }

    /// A file that git does not track, as one that was added. `mode`: its permission bits.
    #[must_use]
    pub fn with_content(&self, bytes: &[u8], mode: u32) -> FileDiff {
        let mut file = self.without_lines(None);
        file.new_mode = Some(if mode & 0o100 == 0 { "100644" } else { "100755" }.to_owned());
        // As git tells it.
        if bytes.iter().take(8_000).any(|byte| *byte == 0) {
            file.is_binary = true;
            return file;
        }
        let mut body = Vec::with_capacity(bytes.len() + bytes.len() / 16);
        let mut count = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            body.push(b'+');
            body.extend_from_slice(line);
            count += 1;
        }
        if !body.is_empty() && !body.ends_with(b"\n") {
            body.extend_from_slice(b"\n\\ No newline at end of file\n");
        }
        let piece =
            Piece { old: (0, 0), new: (1, count), header: b"", body: &body, added: count, deleted: 0 };
        let pieces = if count == 0 { Vec::new() } else { vec![piece] };
        file.fill(&self.path, &[&Section { heading: b"", is_binary: false, pieces }], 0);
        file
    }

    /// The parts of a patch that are this file's, taken from the front.
    fn take<'s, 'a>(&self, rest: &mut &'s [Section<'a>]) -> Vec<&'s Section<'a>> {
        let heading = patch::heading(self.from.as_ref().unwrap_or(&self.path), &self.path);
        // One that became of another kind goes, and comes anew.
        let most = if self.change == Change::TypeChanged { 2 } else { 1 };
        let count = rest.iter().take(most).take_while(|section| section.heading == heading).count();
        let (own, after) = rest.split_at(count);
        *rest = after;
        own.iter().collect()
    }
}

impl FileDiff {
    /// Reads what [`Command::patch`] printed for the same `context`; a file's own list entry beside each.
    #[must_use]
    pub fn read(printed: &[u8], context: u32) -> Vec<(Changed, Self)> {
        let (files, rest) = list(printed);
        let sections = patch::sections(rest.strip_prefix(b"\0").unwrap_or(rest));
        let mut left = &sections[..];
        let with_lines = |file: Changed| {
            let own = file.take(&mut left);
            let mut diff = file.without_lines(None);
            diff.fill(&file.path, &own, context);
            (file, diff)
        };
        files.into_iter().map(with_lines).collect()
    }

    fn fill(&mut self, path: &[u8], sections: &[&Section<'_>], context: u32) {
        self.is_binary = sections.iter().any(|section| section.is_binary);
        if self.is_binary {
            return;
        }
        let pieces: Vec<Piece<'_>> = sections.iter().flat_map(|section| &section.pieces).copied().collect();
        let (added, deleted) =
            pieces.iter().fold((0, 0), |sum, one| (sum.0 + one.added, sum.1 + one.deleted));
        (self.added, self.deleted) = (Some(added), Some(deleted));
        let lines: u64 = pieces.iter().map(|one| one.old.1.saturating_add(one.added)).sum();
        let bytes: usize = pieces.iter().map(|one| one.body.len()).sum();
        if lines > MAX_LINES || bytes > MAX_BYTES {
            self.left_out = Some(LeftOut::TooLarge);
            return;
        }
        self.len_bytes = bytes + usize::try_from(lines).unwrap_or(0) * LINE_BYTES;
        let ids = patch::ids(path, &pieces, context);
        self.hunks = pieces.iter().zip(ids).map(|(piece, id)| piece.shown(id)).collect();
    }
}

/// Why hunks can't be taken alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPatch {
    /// Some are not there any more.
    Gone,
    /// The file can be taken as a whole only: it is in conflict, or became of another kind.
    Whole,
}

/// The patch of `path` with the hunks named `ids` alone, all made with `context`. `printed`: what [`Command::patch`] printed
/// for this path.
///
/// # Errors
/// See [`NoPatch`].
pub fn chosen(
    printed: &[u8],
    path: &RelPath,
    ids: &[String],
    context: u32,
    way: Way,
) -> Result<Vec<u8>, NoPatch> {
    let (files, rest) = list(printed);
    let sections = patch::sections(rest.strip_prefix(b"\0").unwrap_or(rest));
    let mut left = &sections[..];
    let name = path.as_str().as_bytes();
    for file in files {
        let own = file.take(&mut left);
        if file.path != name {
            continue;
        }
        if file.conflict || file.change == Change::TypeChanged {
            return Err(NoPatch::Whole);
        }
        let pieces = own.first().map(|section| &section.pieces[..]).unwrap_or_default();
        let there = patch::ids(name, pieces, context);
        if !ids.iter().all(|id| there.contains(id)) {
            return Err(NoPatch::Gone);
        }
        let is_chosen: Vec<bool> = there.iter().map(|id| ids.contains(id)).collect();
        return Ok(patch::some(&file.head(), pieces, &is_chosen, way));
    }
    Err(NoPatch::Gone)
}

impl Changed {
    /// What a patch of its lines begins with: of its content alone, unless the file itself comes or goes.
    fn head(&self) -> Vec<u8> {
        let sides = [patch::quoted(b"a/", &self.path), patch::quoted(b"b/", &self.path)];
        let none = b"/dev/null".to_vec();
        let (word, old, new) = match (self.change, &self.modes) {
            (Change::Added, [_, Some(mode)]) => (format!("new file mode {mode}\n"), &none, &sides[1]),
            (Change::Deleted, [Some(mode), _]) => (format!("deleted file mode {mode}\n"), &sides[0], &none),
            _ => (String::new(), &sides[0], &sides[1]),
        };
        let heading = patch::heading(&self.path, &self.path);
        // Behind a name with blanks a tab ends it.
        [&heading[..], b"\n", word.as_bytes(), b"--- ", old, b"\t\n+++ ", new, b"\t\n"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRINTED: &[u8] = b":100644 100644 de98044 0000000 M\0a.txt\0:120000 100644 8d14cbf 0000000 T\0l\0\
        :100644 100644 535d2b0 0719398 R088\0mv.txt\0moved.txt\0:000000 100644 0 0 U\0both\0:100644 100644 0 0 M\0both\0\
        :100644 000000 b19a1e9 0000000 U\0lone\0:160000 160000 1 2 M\0sub\0\0\
diff --git a/a.txt b/a.txt\nindex 1..2 100644\n--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n a\n-b\n-c\n+B\r\n+c\xff\n\\ No newline at end of file\n\
diff --git a/l b/l\ndeleted file mode 120000\n--- a/l\n+++ /dev/null\n@@ -1 +0,0 @@\n-a.txt\n\\ No newline at end of file\n\
diff --git a/l b/l\nnew file mode 100644\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+l\n\
diff --git a/mv.txt b/moved.txt\nsimilarity index 88%\nrename from mv.txt\nrename to moved.txt\n\
* Unmerged path both\ndiff --git a/both b/both\n--- a/both\n+++ b/both\n@@ -1 +1,2 @@\n ours\n+theirs\n\
* Unmerged path lone\ndiff --git a/sub b/sub\nindex 1..2 160000\n--- a/sub\n+++ b/sub\n@@ -1 +1 @@\n-Subproject commit 1\n+Subproject commit 2\n";

    #[test]
    fn what_git_prints_is_read() {
        let files: Vec<FileDiff> = FileDiff::read(PRINTED, 3).into_iter().map(|(_, file)| file).collect();
        let short: Vec<_> = files
            .iter()
            .map(|file| (file.path.as_str(), file.change, file.added, file.deleted, file.hunks.len()))
            .collect();
        let expected = [
            ("a.txt", Change::Modified, Some(2), Some(2), 1),
            ("l", Change::TypeChanged, Some(1), Some(1), 2),
            ("moved.txt", Change::Renamed, Some(0), Some(0), 0),
            ("both", Change::Modified, Some(1), Some(0), 1),
            ("lone", Change::Modified, Some(0), Some(0), 0),
            ("sub", Change::Modified, Some(1), Some(1), 1),
        ];
        assert_eq!(short, expected);
        assert_eq!(files[2].from.as_deref(), Some("mv.txt"));
        let facts: Vec<_> = files.iter().map(|file| (file.conflict, file.submodule)).collect();
        assert_eq!(
            facts,
            [(false, false), (false, false), (false, false), (true, false), (true, false), (false, true)]
        );
        let lines = &files[0].hunks[0].lines;
        assert_eq!(lines[3].text, "B\r");
        assert_eq!(
            (lines[4].text.as_str(), lines[4].no_newline, lines[4].is_replaced),
            ("c\u{fffd}", true, true)
        );
        assert_eq!(Changed::read(PRINTED).len(), 6);
    }

    #[test]
    fn hunks_that_are_gone_give_no_patch() {
        let path = |text: &str| text.parse::<RelPath>().unwrap();
        let id = FileDiff::read(PRINTED, 3)[0].1.hunks[0].id.clone();
        assert_eq!(patch::context_of(&id), Some(3));
        let patch = chosen(PRINTED, &path("a.txt"), std::slice::from_ref(&id), 3, Way::Forward).unwrap();
        assert!(
            patch.starts_with(
                b"diff --git a/a.txt b/a.txt\n--- a/a.txt\t\n+++ b/a.txt\t\n@@ -1,3 +1,3 @@\n a\n"
            )
        );
        let gone = |path: &RelPath, ids: &[String]| chosen(PRINTED, path, ids, 3, Way::Forward);
        assert_eq!(gone(&path("a.txt"), &[id.clone(), "3-0".into()]), Err(NoPatch::Gone));
        assert_eq!(gone(&path("other"), std::slice::from_ref(&id)), Err(NoPatch::Gone));
        for whole in ["l", "both"] {
            assert_eq!(gone(&path(whole), std::slice::from_ref(&id)), Err(NoPatch::Whole));
        }
    }

    #[test]
    fn an_untracked_file_is_all_new() {
        let files = Changed::untracked(b"new.txt\0repository/\0");
        let [file] = &files[..] else { panic!("one file") };
        let diff = file.with_content(b"a\nb", 0o755);
        assert_eq!((diff.added, diff.new_mode.as_deref()), (Some(2), Some("100755")));
        assert!(diff.hunks[0].lines[1].no_newline);
        assert!(file.with_content(b"\0", 0o644).is_binary);
        assert!(file.with_content(b"", 0o644).hunks.is_empty());
        let large = vec![b'\n'; usize::try_from(MAX_LINES).unwrap() + 1];
        assert_eq!(file.with_content(&large, 0o644).left_out, Some(LeftOut::TooLarge));
    }

    proptest! {
        #[test]
        fn anything_is_read(printed in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = FileDiff::read(&printed, 3);
        }

        #[test]
        fn anything_like_it_is_read(files in proptest::collection::vec((":[0-7]{6} [0-7]{6} [0-9a-f]{1,4} 0 [AMDRCTUX][0-9]{0,3}", "[a-z/\\n]{0,4}", "[a-z]{0,3}"), 0..6), cut in 0usize..300) {
            let mut printed: Vec<u8> = files.iter().flat_map(|(about, path, from)| format!("{about}\0{path}\0{from}\0").into_bytes()).collect();
            printed.truncate(cut);
            let _ = FileDiff::read(&printed, 3);
        }
    }
}
