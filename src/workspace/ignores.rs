//! What git ignores: `.gitignore` of each folder on the way, and `.git/info/exclude`; not the user's own file, which
//! belongs to nobody in particular here.

use super::{RelPath, Workspace, open};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;
use std::os::fd::AsFd;

/// Bytes of one ignore file that are looked at; a larger one is taken as empty.
const MAX_BYTES: u64 = 256 * 1024;
/// Stands for the workspace in the matcher's paths, which need a root.
const ROOT: &str = "/w";

/// The rules that hold in one folder, those of the folders above below them.
#[derive(Debug, Default)]
pub(super) struct Ignores {
    folders: Vec<Gitignore>,
}

impl Ignores {
    /// The rules in `folder`, and whether git ignores the folder itself. `None`: the workspace.
    pub(super) fn of(files: &Workspace, folder: Option<&RelPath>) -> (Self, bool) {
        let mut this = Self::default();
        this.enter(files, None);
        let mut is_ignored = false;
        for folder in folder.map(ways).unwrap_or_default() {
            is_ignored = is_ignored || this.matches(&folder, true);
            this.enter(files, Some(&folder));
        }
        (this, is_ignored)
    }

    /// Goes into a folder of the one it stands in.
    pub(super) fn enter(&mut self, files: &Workspace, folder: Option<&RelPath>) {
        let root = folder.map_or_else(|| ROOT.to_owned(), |folder| format!("{ROOT}/{folder}"));
        let mut builder = GitignoreBuilder::new(root);
        if folder.is_none()
            && let Ok(name) = open::beneath(files.root.as_fd(), ".git/info/exclude", OFlags::PATH)
            && let Ok(Some(file)) = open::regular(&name)
            && let Ok(path) = "exclude".parse()
            && let Ok(file) = super::tree::read_open(file, &path, MAX_BYTES)
        {
            add(&mut builder, &file.bytes);
        }
        let path = match folder {
            Some(folder) => folder.join(".gitignore"),
            None => ".gitignore".parse(),
        };
        if let Ok(path) = path
            && let Ok(Some(file)) = files.read_now(&path, MAX_BYTES)
        {
            add(&mut builder, &file.bytes);
        }
        self.folders.push(builder.build().unwrap_or_else(|_| Gitignore::empty()));
    }

    /// Goes back out of the folder entered last.
    pub(super) fn leave(&mut self) {
        self.folders.pop();
    }

    /// Whether a rule ignores a path of the folder it stands in; what lies in an ignored folder is ignored too, which
    /// is for the caller to know.
    pub(super) fn matches(&self, path: &RelPath, is_folder: bool) -> bool {
        let path = format!("{ROOT}/{path}");
        let rule = self
            .folders
            .iter()
            .rev()
            .map(|rules| rules.matched(&path, is_folder))
            .find(|rule| !rule.is_none());
        rule.is_some_and(|rule| rule.is_ignore())
    }
}

fn add(builder: &mut GitignoreBuilder, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.trim_start_matches('\u{FEFF}').lines() {
        // A rule that can't be read is no rule, as in git.
        let _ = builder.add_line(None, line);
    }
}

/// `a`, `a/b`, `a/b/c` for `a/b/c`.
fn ways(path: &RelPath) -> Vec<RelPath> {
    let mut all: Vec<_> = std::iter::successors(Some(path.clone()), RelPath::parent).collect();
    all.reverse();
    all
}
