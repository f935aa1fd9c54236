//! The folders of a branch beside its files, and what is laid out in its home.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

/// The folders that sessions share.
pub(in crate::branch) const SHARED: [&str; 3] = ["workspace", "home", "scratch"];

/// Places in the shared home where tools keep identity and credentials: links into each session's own `~/.private`.
const PRIVATE: [&str; 11] = [
    ".gitconfig",
    ".git-credentials",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".ssh",
    ".config/gh",
    ".bash_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
];

/// Makes what is missing, empties the folder for `/tmp`, and leaves alone what is there. Blocks; no session may run.
pub(in crate::branch) fn lay_out(folder: &Path) -> io::Result<()> {
    let home = folder.join("home");
    let private = |path: &Path| std::fs::DirBuilder::new().mode(0o700).create(path);
    for made in [&home, &folder.join("tmp")] {
        match std::fs::create_dir(made) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let scratch = folder.join("scratch");
    match super::remove(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir(&scratch)?;
    std::fs::set_permissions(&scratch, std::fs::Permissions::from_mode(0o1777))?;
    // Where each session's own file system is mounted: never to be removed while a session runs.
    match std::fs::symlink_metadata(home.join(".private")) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(io::Error::other("~/.private of the branch is not a folder; move it away")),
        Err(_) => private(&home.join(".private"))?,
    }
    for link in PRIVATE {
        let at = home.join(link);
        let above = at.parent().unwrap_or(&home);
        // A link that somebody put in the way is theirs; through it nothing is made.
        if above != home && std::fs::symlink_metadata(above).is_err() {
            private(above)?;
        }
        let is_free = std::fs::symlink_metadata(above).is_ok_and(|meta| meta.is_dir())
            && std::fs::symlink_metadata(&at).is_err();
        if is_free {
            let up = "../".repeat(link.matches('/').count());
            symlink(format!("{up}.private/{link}"), &at)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_leads_to_private_places_and_keeps_what_is_there() {
        let branch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(branch.path().join("home")).unwrap();
        std::fs::write(branch.path().join("home/.npmrc"), "mine").unwrap();
        for _ in 0..2 {
            lay_out(branch.path()).unwrap();
            std::fs::write(branch.path().join("scratch/left"), "x").unwrap();
        }
        lay_out(branch.path()).unwrap();
        let home = branch.path().join("home");
        assert!(!branch.path().join("scratch/left").exists());
        assert_eq!(std::fs::read_to_string(home.join(".npmrc")).unwrap(), "mine");
        for link in PRIVATE.into_iter().filter(|link| *link != ".npmrc") {
            // As the session sees it: the folder that the link leads to is beneath `.private`.
            let to = std::fs::read_link(home.join(link)).unwrap();
            let at = home.join(link).parent().unwrap().join(to);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            let at = at.parent().unwrap().canonicalize().unwrap();
            assert!(at.starts_with(home.canonicalize().unwrap().join(".private")), "{link}");
        }
    }
}
