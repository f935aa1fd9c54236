//! What the SDK's clients run in a session without asking: they are told of at the start, before somebody's program hangs.

use crate::agent::PATH;
use rustix::fs::{Access, access};
use std::path::{Path, PathBuf};

/// Programs, and what the SDK runs them for.
const NEEDED: [(&str, &str); 6] = [
    ("bash", "every command"),
    ("git", "git"),
    ("node", "JavaScript"),
    ("python3", "Python (2.4.2)"),
    ("python", "Python (0.11.2)"),
    ("unzip", "batchWrite"),
];

/// Says which programs sessions lack. `image`: folders that they see beside `/usr` and `/opt`.
pub(super) fn warn_of_missing(image: &[PathBuf]) {
    let missing = missing(image);
    if !missing.is_empty() {
        tracing::warn!(
            "programs of the CodeSandbox SDK will fail at what needs {}: sessions have no such program in {PATH}; on Debian \
             apt-get install bash git nodejs python3 python-is-python3 unzip",
            missing.join(", ")
        );
    }
}

fn missing(image: &[PathBuf]) -> Vec<String> {
    let is_missing =
        |program: &str| !PATH.split(':').any(|folder| is_there(&Path::new(folder).join(program), image));
    let missing = NEEDED.iter().filter(|(program, _)| is_missing(program));
    missing.map(|(program, purpose)| format!("{program} (for {purpose})")).collect()
}

/// Whether sessions can run a file of the machine: what a link leads to must lie in what they see.
fn is_there(program: &Path, image: &[PathBuf]) -> bool {
    let Ok(real) = program.canonicalize() else { return false };
    let seen = ["/usr", "/opt"].into_iter().map(Path::new).chain(image.iter().map(PathBuf::as_path));
    seen.into_iter().any(|folder| real.starts_with(folder)) && access(&real, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_sessions_cannot_run_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("node");
        let image = [folder.path().to_owned()];
        assert!(!is_there(&program, &image));
        std::fs::write(&program, "").unwrap();
        assert!(!is_there(&program, &image), "not one that runs");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_there(&program, &image));
        assert!(!is_there(&program, &[]), "not seen");
        let outside = tempfile::tempdir().unwrap();
        symlink(&program, outside.path().join("node")).unwrap();
        assert!(is_there(&outside.path().join("node"), &image));
        assert!(
            !is_there(&outside.path().join("node"), &[outside.path().to_owned()]),
            "a link to what is not seen"
        );
    }
}
