//! Starts programs for sessions: the seam between terminals and the agent that runs a session's processes.

use crate::branch::{Hub, Pty, Size};
use crate::store::SessionRow;
use crate::workspace::RelPath;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A program to be started on a PTY.
#[derive(Clone, Debug)]
pub struct OpenShell {
    /// Program and arguments, 1 to 256 without NUL; the session's login shell without them.
    pub command: Option<Vec<String>>,
    /// Where it starts, from the workspace's root; the root without it.
    pub cwd: Option<RelPath>,
    /// Variables beside the usual ones.
    pub env: BTreeMap<String, String>,
    /// Of the window.
    pub size: Size,
}

/// Why a program can't be started.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// This perch runs no processes for sessions.
    #[error("this perch can't isolate the processes of sessions, so it runs none")]
    SessionsAreOff,
}

/// Starts programs for sessions; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shells {}

impl Shells {
    /// Starts a program on a new PTY, in the isolation of a session.
    ///
    /// # Errors
    /// [`ShellError::SessionsAreOff`].
    #[expect(clippy::unused_async, reason = "the agent is asked here once there is one")]
    pub async fn open(
        &self,
        _hub: &Arc<Hub>,
        _session: &SessionRow,
        _shell: OpenShell,
    ) -> Result<Pty, ShellError> {
        Err(ShellError::SessionsAreOff)
    }
}
