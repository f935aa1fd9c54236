//! Paths in a workspace, checked once.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Text that is no path perch takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is refused: {reason}")]
pub struct PathError {
    /// What was given.
    pub path: String,
    /// Why it is refused.
    pub reason: &'static str,
}

/// A path relative to the workspace, `/`-separated, without empty, `.` or `..` parts, none of which is `.git` in
/// any spelling that some file system takes for it. At most 4,096 bytes, a part at most 255.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelPath(Arc<str>);

impl RelPath {
    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder it lies in; `None` for the workspace itself.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(folder, _)| Self(folder.into()))
    }

    /// Whether it lies in the folder `folder`, however deep.
    #[must_use]
    pub fn is_beneath(&self, folder: &Self) -> bool {
        self.0.strip_prefix(&*folder.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Where it is once `from`, it or a folder above it, has become `to`. `None` if it is not in `from`, or the new
    /// path would be too long.
    #[must_use]
    pub fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        if self == from {
            return Some(to.clone());
        }
        let rest = self.0.strip_prefix(&*from.0)?.strip_prefix('/')?;
        format!("{to}/{rest}").parse().ok()
    }

    /// The last part.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl FromStr for RelPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let refuse = |reason| Err(PathError { path: text.chars().take(200).collect(), reason });
        if text.is_empty() || text.len() > 4_096 {
            return refuse("a path has 1 to 4,096 bytes");
        }
        if text.contains('\0') {
            return refuse("it holds a NUL");
        }
        for part in text.split('/') {
            match part {
                "" => return refuse("it starts or ends with `/`, or has two in a row"),
                "." | ".." => return refuse("`.` and `..` are not taken"),
                part if part.len() > 255 => return refuse("a part has more than 255 bytes"),
                part if is_git(part) => return refuse("`.git` belongs to git"),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }
}

/// Whether a name is `.git`, or is taken for it by a file system: case, trailing dots and blanks, streams, the short
/// name `git~1`, code points that HFS+ ignores.
fn is_git(part: &str) -> bool {
    let plain: String = part
        .chars()
        .filter(|c| !matches!(c, '\u{200C}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{206A}'..='\u{206F}' | '\u{FEFF}'))
        .flat_map(char::to_lowercase)
        .collect();
    let plain = plain.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
    matches!(plain, ".git" | "git~1")
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let long = "x".repeat(256);
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a\0b",
            ".git",
            "a/.GIT/config",
            ".git ",
            ".git.",
            ".gi\u{200C}t",
            "GIT~1",
            ".git::$INDEX_ALLOCATION",
            &long,
        ] {
            assert!(bad.parse::<RelPath>().is_err(), "{bad:?}");
        }
        for good in ["a", "a/b.txt", "...", ".gitignore", ".github/x", "a b", "ä/😀", "a\\b", "git"] {
            assert!(good.parse::<RelPath>().is_ok(), "{good:?}");
        }
    }
}
