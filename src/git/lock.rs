//! Which lock stands in the way, by what git said.

use super::failure::STASH_IS_LOCKED;

/// The lock of the list of stashes.
const STASH_LOCK: &str = "refs/stash.lock";
/// What a command that changes files may lock on its way, beside the branch that is checked out.
pub const STEP_LOCKS: [&str; 7] = [
    "index.lock",
    "HEAD.lock",
    "ORIG_HEAD.lock",
    "AUTO_MERGE.lock",
    "REBASE_HEAD.lock",
    "packed-refs.lock",
    STASH_LOCK,
];

/// The lock's name beneath `.git`, as `index.lock`.
#[must_use]
pub fn lock_in_the_way(said: &str) -> Option<String> {
    if said.contains(STASH_IS_LOCKED) {
        return Some(STASH_LOCK.to_owned());
    }
    let (_, rest) = said.split_once("Unable to create '")?;
    let (path, _) = rest.split_once("': File exists")?;
    let name = match path.split_once("/.git/") {
        Some((_, name)) => name,
        None => path.strip_prefix(".git/")?,
    };
    let is_lock = name.strip_suffix(".lock").is_some_and(|what| !what.is_empty());
    (is_lock && !name.contains('\n')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_told_by_their_names() {
        let said = "fatal: Unable to create '/project/workspace/.git/index.lock': File exists.\n\nAnother git process";
        assert_eq!(lock_in_the_way(said).as_deref(), Some("index.lock"));
        let said = "error: cannot lock ref 'HEAD': Unable to create '.git/refs/heads/a b.lock': File exists.";
        assert_eq!(lock_in_the_way(said).as_deref(), Some("refs/heads/a b.lock"));
        assert_eq!(lock_in_the_way(STASH_IS_LOCKED).as_deref(), Some(STASH_LOCK));
        for other in [
            "",
            "Unable to create '/x/index.lock': File exists",
            "Unable to create '.git/config': File exists",
        ] {
            assert_eq!(lock_in_the_way(other), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_words_are_read(said in "(Unable to create ')?(/|\\.git/|[a-z.'])*(': File exists)?\\PC{0,40}") {
            let _ = lock_in_the_way(&said);
        }
    }
}
