//! Where things lie for a session's processes.

use crate::sandbox::{PERCH, PRIVATE, Spec};
use std::path::Path;

/// Absolute paths, as the session's processes see them.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The branch's home.
    pub home: String,
    /// The session's own folder, by the name that no other session can lay anything over.
    pub private: String,
    /// The branch's files.
    pub workspace: String,
    /// Perch's own program, for what git starts.
    pub perch: String,
}

impl Inside {
    pub(super) fn of(spec: &Spec) -> Self {
        if spec.is_bare {
            let text = |path: &Path| path.to_string_lossy().into_owned();
            let home = text(&spec.places.home);
            let private = format!("{home}/.private");
            let perch = crate::sandbox::own_program().map_or_else(|| PERCH.to_owned(), |path| text(&path));
            Self { home, private, workspace: text(&spec.places.workspace), perch }
        } else {
            Self {
                home: "/root".into(),
                private: PRIVATE.into(),
                workspace: "/project/workspace".into(),
                perch: PERCH.into(),
            }
        }
    }
}
