//! What git does not ignore, for who keeps it watched.

use super::ignores::Ignores;
use super::list::{Start, Walk};
use super::{FsError, Kind, RelPath, Workspace};
use rustix::fs::OFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A folder, as a mere name.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

impl Workspace {
    /// Goes through what git does not ignore in a folder (`None`: the workspace), at any depth, the folder first; through
    /// nothing where it is ignored or gone. A folder is handed over opened, as a mere name, and before it is read: who
    /// watches it from then on misses nothing.
    ///
    /// # Errors
    /// [`FsError::Io`], the first that `each` gives.
    pub async fn unignored(
        &self,
        folder: Option<&RelPath>,
        mut each: impl FnMut(Option<&RelPath>, Option<BorrowedFd<'_>>) -> io::Result<()> + Send + 'static,
    ) -> Result<(), FsError> {
        let (this, folder) = (self.clone(), folder.cloned());
        self.off_runtime(move || {
            let mut each = |at: Option<&RelPath>, opened: Option<BorrowedFd<'_>>| {
                each(at, opened).map_err(FsError::std("watch the workspace"))
            };
            match &folder {
                None => each(None, Some(this.root.as_fd()))?,
                Some(folder) => {
                    let (above, is_inside) = Ignores::of(&this, folder.parent().as_ref());
                    if is_inside || above.matches(folder, true) {
                        return Ok(());
                    }
                    let Ok(Some(opened)) = this.open_at(folder, FOLDER) else { return Ok(()) };
                    each(Some(folder), Some(opened.as_fd()))?;
                }
            }
            let start = Start { with_ignored: false, is_marked: true, ..Start::folder(folder) };
            let Ok(mut walk) = Walk::new(&this, start) else { return Ok(()) };
            loop {
                let found = match walk.next() {
                    Ok(Some(found)) => found,
                    Ok(None) => return Ok(()),
                    // What else there is counts all the same.
                    Err(_) => continue,
                };
                if found.stat.kind != Kind::Folder {
                    each(Some(&found.real), None)?;
                } else if let Ok(Some(opened)) = this.open_at(&found.real, FOLDER) {
                    each(Some(&found.real), Some(opened.as_fd()))?;
                }
            }
        })
        .await
    }

    /// Hands over a folder, opened as a mere name, where there is one.
    ///
    /// # Errors
    /// [`FsError::Io`] that `with` gives.
    pub async fn with_folder(
        &self,
        folder: &RelPath,
        with: impl FnOnce(BorrowedFd<'_>) -> io::Result<()> + Send + 'static,
    ) -> Result<(), FsError> {
        let (this, folder) = (self.clone(), folder.clone());
        self.off_runtime(move || match this.open_at(&folder, FOLDER) {
            Ok(Some(opened)) => with(opened.as_fd()).map_err(FsError::std("watch the workspace")),
            _ => Ok(()),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{path, workspace};
    use super::*;
    use std::fs;
    use std::sync::mpsc;

    #[tokio::test]
    async fn ignored_folders_are_left_out_and_new_names_are_not() {
        let (_temp, root, files) = workspace();
        for folder in [".git/objects", "src/deep", "target/debug"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join(".gitignore"), "target\n*.log\n").unwrap();
        fs::write(root.join("src/a"), "").unwrap();
        fs::write(root.join("src/a.log"), "").unwrap();
        let walked = async |folder: Option<&RelPath>| {
            let (tell, told) = mpsc::channel();
            let at_root = root.clone();
            let each = move |at: Option<&RelPath>, opened: Option<BorrowedFd<'_>>| {
                // Made once the folder was handed over: it is among what comes.
                if at.is_some_and(|at| at.as_str() == "src") {
                    fs::write(at_root.join("src/late"), "")?;
                }
                let name = at.map_or_else(|| ".".to_owned(), ToString::to_string);
                tell.send(format!("{name}{}", if opened.is_some() { "/" } else { "" })).unwrap();
                Ok(())
            };
            files.unignored(folder, each).await.unwrap();
            told.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(walked(None).await, ["./", ".gitignore", "src/", "src/a", "src/deep/", "src/late"]);
        assert_eq!(walked(Some(&path("src/deep"))).await, ["src/deep/"]);
        for none in ["target", "target/debug", "src/a", "gone"] {
            assert_eq!(walked(Some(&path(none))).await, [""; 0], "{none}");
        }
    }
}
