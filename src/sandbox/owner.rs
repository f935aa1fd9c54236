//! The user that a branch's files belong to.
//!
//! Where perch has ids to give, each branch has one of its own, which no other branch's processes run as. The folders
//! say which: nothing is stored elsewhere, so files and ids can't part.

use super::sys;
use caps::{CapSet, Capability};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Gid, Uid};
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Whoever work on files is done as; the default is perch itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner(Option<u32>);

/// Back to perch's own user, also after a panic.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        sys::set_file_user(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    }
}

impl Owner {
    /// Does blocking work on files as this user: what it makes belongs to them. Perch's own reach stays, or a folder that
    /// somebody else put into the branch could never be written to; callers keep to the branch's folder.
    pub fn acting<T>(self, work: impl FnOnce() -> T) -> T {
        let Some(id) = self.0 else { return work() };
        let _back = Back;
        sys::set_file_user(id, id);
        // Taken away with the user, though still permitted; what fails without it says so itself.
        let _ = caps::raise(None, CapSet::Effective, Capability::CAP_DAC_OVERRIDE);
        work()
    }

    /// The user's number as perch's user namespace counts.
    #[must_use]
    pub fn uid(self) -> u32 {
        self.0.unwrap_or_else(|| rustix::process::geteuid().as_raw())
    }
}

/// Gives each branch its user.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// First id and count; without it all branches are perch's own.
    range: Option<(u32, u32)>,
    used: Arc<Mutex<HashSet<u32>>>,
}

impl Owners {
    /// Owners out of `count` ids from `first` on.
    #[must_use]
    pub fn new(range: Option<(u32, u32)>) -> Self {
        Self { range, used: Arc::default() }
    }

    /// The owner of a branch whose files lie in `folder`, in folders named as `parts`; their files are made theirs where
    /// they are not yet (just made, or perch had no ids to give before). Blocks; nothing else may work in `folder` then.
    ///
    /// # Errors
    /// When the ids are used up, or the files can't be looked at or given away.
    pub fn settle(&self, folder: &Path, parts: &[&str]) -> io::Result<Owner> {
        let mut held = Vec::new();
        for part in parts {
            held.push((folder.join(part), std::fs::symlink_metadata(folder.join(part))?.uid()));
        }
        let Some((first, count)) = self.range else {
            let own = rustix::process::geteuid().as_raw();
            // From a time when perch gave each branch its user.
            if give_all(&held, own).is_err() {
                return Err(io::Error::other(
                    "its files belong to another user, from a time when perch had more rights; \
                     start perch as it was started then, or give the files to perch's user (chown -R)",
                ));
            }
            return Ok(Owner(None));
        };
        let mut used = self.used.lock();
        // The first part says whose the branch is: others may be made anew at each opening.
        let present = held.first().map(|(_, id)| *id).filter(|id| (first..first + count).contains(id));
        let id = present.or_else(|| (first..first + count).find(|id| !used.contains(id)));
        let id = id.ok_or_else(|| io::Error::other(format!("all {count} ids for branches are in use")))?;
        used.insert(id);
        drop(used);
        // The first part last, so that a half-done one is done again.
        held.reverse();
        give_all(&held, id)?;
        Ok(Owner(Some(id)))
    }

    /// Learns that `id`, the owner of a folder that exists, is taken. For each branch, before the first is made.
    pub fn taken(&self, id: u32) {
        self.used.lock().insert(id);
    }

    /// The branch of the owner with this id is gone with all its files.
    pub fn free(&self, id: u32) {
        self.used.lock().remove(&id);
    }
}

/// Gives folders away that are not `id`'s yet.
fn give_all(held: &[(std::path::PathBuf, u32)], id: u32) -> io::Result<()> {
    held.iter().filter(|(_, owner)| *owner != id).try_for_each(|(folder, _)| give(folder, id))
}

/// Gives a folder and all in it away, following no link; the folder itself last, so that a half-done one is done again.
fn give(folder: &Path, id: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    let mut folders = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(here) = folders.get(at).cloned() {
        at += 1;
        for entry in std::fs::read_dir(&here)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                rustix::fs::chownat(
                    rustix::fs::CWD,
                    entry.path(),
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
            }
        }
    }
    for here in folders.iter().rev() {
        rustix::fs::chownat(rustix::fs::CWD, here, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_owner_makes_is_theirs_and_a_branch_keeps_its_owner() {
        if !rustix::process::geteuid().is_root() {
            // Only root has ids to give; the other case is tested by the level tests.
            return;
        }
        let data = tempfile::tempdir().unwrap();
        let owners = Owners::new(Some((1_900_000_000, 2)));
        let mut made = Vec::new();
        for name in ["a", "b"] {
            let folder = data.path().join(name);
            std::fs::create_dir_all(folder.join("workspace/deep")).unwrap();
            std::fs::write(folder.join("workspace/deep/file"), "x").unwrap();
            made.push(owners.settle(&folder, &["workspace"]).unwrap());
            // A part that was made anew is given to the same owner.
            std::fs::create_dir(folder.join("scratch")).unwrap();
            assert_eq!(owners.settle(&folder, &["workspace", "scratch"]).unwrap(), made[made.len() - 1]);
            assert_eq!(std::fs::metadata(folder.join("scratch")).unwrap().uid(), made[made.len() - 1].uid());
            let id = std::fs::metadata(folder.join("workspace/deep/file")).unwrap().uid();
            assert_eq!(id, made.last().unwrap().uid());
        }
        assert_ne!(made[0], made[1]);
        let again = Owners::new(Some((1_900_000_000, 2)));
        assert_eq!(again.settle(&data.path().join("b"), &["workspace"]).unwrap(), made[1]);
        assert_eq!(again.settle(&data.path().join("a"), &["workspace"]).unwrap(), made[0]);
        std::fs::create_dir_all(data.path().join("c/workspace")).unwrap();
        let error = again.settle(&data.path().join("c"), &["workspace"]).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        std::fs::create_dir(data.path().join("a/workspace/roots")).unwrap();
        for name in ["a/workspace/new", "a/workspace/roots/new"] {
            let file = data.path().join(name);
            made[0].acting(|| std::fs::write(&file, "x")).unwrap();
            assert_eq!(std::fs::metadata(&file).unwrap().uid(), made[0].uid());
        }
        std::fs::write(data.path().join("after"), "x").unwrap();
        assert_eq!(std::fs::metadata(data.path().join("after")).unwrap().uid(), 0, "perch is itself again");
    }
}
