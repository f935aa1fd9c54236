//! What of git's state does not go along into a fork: locks, which nobody holds there, and passwords that somebody wrote into
//! its configuration. All else does: what is staged, stashes, restore points, a merge under way, hooks, remotes.

use std::fs;
use std::io;
use std::path::Path;

/// Folders in folders that are looked into.
const MAX_DEPTH: usize = 16;
/// Bytes of a configuration that are looked through; a larger one does not go along.
const MAX_CONFIG: u64 = 1024 * 1024;

/// Readies the copy of a workspace. Nobody else is at it yet.
pub(in crate::branch) fn settle(workspace: &Path) -> Result<(), String> {
    let git = workspace.join(".git");
    if !fs::symlink_metadata(&git).is_ok_and(|about| about.is_dir()) {
        return Ok(());
    }
    visit(&git, MAX_DEPTH).map_err(|error| format!("can't ready the fork's `.git`: {error}"))
}

fn visit(folder: &Path, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind, name) = (entry.path(), entry.file_type()?, entry.file_name());
        if kind.is_dir() {
            // Objects have neither, and are many.
            if depth > 0 && name != "objects" {
                visit(&path, depth - 1)?;
            }
        } else if kind.is_file() && name.as_encoded_bytes().ends_with(b".lock") {
            fs::remove_file(&path)?;
        } else if kind.is_file() && (name == "config" || name == "config.worktree") {
            if entry.metadata()?.len() > MAX_CONFIG {
                fs::remove_file(&path)?;
                continue;
            }
            let config = fs::read(&path)?;
            let told = without_credentials(&String::from_utf8_lossy(&config));
            if told.as_bytes() != config {
                fs::write(&path, told)?;
            }
        }
    }
    Ok(())
}

/// A configuration without what may be a password: headers and helpers that it names, and users of its URLs, but for `ssh`,
/// where those are names.
fn without_credentials(config: &str) -> String {
    let mut told = String::with_capacity(config.len());
    let mut is_left_out = false;
    for line in config.split_inclusive('\n') {
        let goes_on = line.trim_end_matches(['\n', '\r']).ends_with('\\');
        let was_left_out = std::mem::replace(&mut is_left_out, false);
        if was_left_out {
            is_left_out = goes_on;
            continue;
        }
        let line_told = without_users(line);
        // Without its users a line may read otherwise than it did.
        if names_a_secret(line) || names_a_secret(&line_told) {
            is_left_out = goes_on;
            continue;
        }
        told.push_str(&line_told);
    }
    told
}

fn names_a_secret(line: &str) -> bool {
    let lower = line.to_lowercase();
    lower.contains("extraheader") || after_sections(&lower).starts_with("helper")
}

/// A line's key and value: one or more sections may begin on the same line.
fn after_sections(line: &str) -> &str {
    let mut rest = line.trim_start();
    while let Some(section) = rest.strip_prefix('[') {
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = section.find(|c| {
            let was_escaped = is_escaped;
            is_escaped = is_quoted && !was_escaped && c == '\\';
            is_quoted ^= c == '"' && !was_escaped;
            c == ']' && !is_quoted
        });
        rest = end.map_or("", |end| section[end + 1..].trim_start());
    }
    rest
}

fn without_users(line: &str) -> String {
    let mut told = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        told.push_str(before);
        let is_end = |c: char| c == '/' || c == '"' || c.is_whitespace();
        let (authority, tail) = after.split_at(after.find(is_end).unwrap_or(after.len()));
        let is_ssh = before.to_lowercase().ends_with("ssh://");
        match authority.rsplit_once('@') {
            Some((user, host)) if is_ssh => {
                told.push_str(user.split(':').next().unwrap_or_default());
                told.push('@');
                told.push_str(host);
            }
            Some((_, host)) => told.push_str(host),
            None => told.push_str(authority),
        }
        rest = tail;
    }
    told.push_str(rest);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_behind_and_all_else_goes_along() {
        let config = "[core]\n\tbare = false\n[remote \"origin\"]\n\turl = https://ann:s3cret@host:8080/a@b.git\n\
            \tpushurl = \"ssh://git:s3cret@host/x\"\n[remote \"two\"]\n\turl = git@host:x\n\turl = HTTPS://s3cret@host\n\
            [http \"https://host/\"]\n\textraHeader = \"Authorization: \\\n s3cret\"\n\tsslVerify = true\n\
            [credential] helper = !echo password=s3cret\n[credential \"]\"][credential]helper = \"!f() { [ x ] && echo s3cret\"\n\
            helper = \"!f() { [ $1 = get ] && echo password=s3cret; }; f\"\n[url \"https://s3cret@host/\"]\n\tinsteadOf = https://host/\n";
        let told = without_credentials(config);
        assert!(!told.contains("s3cret"), "{told}");
        for kept in [
            "bare = false",
            "url = https://host:8080/a@b.git",
            "\"ssh://git@host/x\"",
            "url = git@host:x",
            "sslVerify = true",
            "insteadOf = https://host/",
        ] {
            assert!(told.contains(kept), "{kept} in {told}");
        }
        let plain = "[core]\r\n\tbare = false\n[user]\n\temail = ann@example.org";
        assert_eq!(without_credentials(plain), plain);
    }

    #[test]
    fn locks_stay_behind() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        for name in [
            ".git/index.lock",
            ".git/refs/heads/deep/x.lock",
            ".git/index",
            "a.lock",
            ".git/objects/aa/b.lock",
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "x").unwrap();
        }
        fs::write(at("outside"), "url = https://s3cret@host\n").unwrap();
        std::os::unix::fs::symlink("../outside", at(".git/config")).unwrap();
        settle(temp.path()).unwrap();
        assert!(!at(".git/index.lock").exists() && !at(".git/refs/heads/deep/x.lock").exists());
        assert!(at(".git/index").exists() && at("a.lock").exists() && at(".git/objects/aa/b.lock").exists());
        assert!(fs::read_to_string(at("outside")).unwrap().contains("s3cret"), "a link is not followed");
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(config in "([a-z\\[\\]\":/@ =\\\\\n]|https://|ssh://|helper|é){0,40}") {
            let told = without_credentials(&config);
            proptest::prop_assert_eq!(without_credentials(&told), told);
        }
    }
}
