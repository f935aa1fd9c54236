//! Git in a session's own processes, as the session's own person.

use super::agents::AgentsError;
use super::locks::Locks;
use crate::agent::{Agent, AgentError, Event, Exit, Start, Stream};
use crate::base::fault;
use crate::git::{Command, Failure, Identity, Kind, STEP_LOCKS, is_of_repository, lock_in_the_way, neutral};
use crate::store::SessionRow;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a command that talks to no remote may take.
const WITHIN: Duration = Duration::from_secs(120);
/// How long one that does may take.
const REMOTE_WITHIN: Duration = Duration::from_secs(3_600);
/// Bytes of a command's output that are kept; past it the command is ended.
pub const MAX_OUTPUT: usize = 16 * 1024 * 1024;
/// How often a command is tried that a lock keeps from its work.
const LOCK_TRIES: usize = 5;
/// Bytes of what it says beside that are kept, the last ones.
const MAX_SAID: usize = 64 * 1024;

/// Processes of git that have ended, for the tests, which kill perch after one of them.
static ENDED: AtomicU64 = AtomicU64::new(0);

/// Why git did not do it.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// Git said so.
    #[error("{}", .0.said)]
    Failed(Failure),
    /// Its output is larger than what is kept.
    #[error("git printed more than {MAX_OUTPUT} bytes; ask for less")]
    TooLarge,
    /// It took too long.
    #[error("git took longer than {0:?} and was ended")]
    TimedOut(Duration),
    /// The session has no email address, and none is made up.
    #[error("a commit names its author: give the session a name and an email address")]
    NoIdentity,
    /// There is no agent.
    #[error(transparent)]
    Agents(#[from] AgentsError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// The repository of a branch, as one session works on it. Nothing is kept open: each command is a process of its own.
#[derive(Clone, Debug)]
pub struct Git {
    agent: Agent,
    identity: Option<Identity>,
    neutral: Vec<(String, String)>,
    is_trusted: bool,
    locks: Option<Locks>,
}

impl Git {
    /// Looks at what the repository of the session's branch names in its configuration, to override it.
    ///
    /// # Errors
    /// [`GitError::Failed`] with [`crate::git::Kind::NoRepository`] where there is none.
    pub async fn open(agent: Agent, session: &SessionRow) -> Result<Self, GitError> {
        let mut git = Self::bare(agent, session);
        let listed = git.run(Command::list_config()).await?;
        if !is_of_repository(&listed) {
            // The listing is the same without one as where nothing is configured in it.
            git.run(Command::new("rev-parse").option("--git-dir")).await?;
        }
        git.neutral = neutral(&listed);
        Ok(git)
    }

    /// The same where there is no repository yet.
    #[must_use]
    pub fn bare(agent: Agent, session: &SessionRow) -> Self {
        let identity = session.email.clone().map(|email| Identity {
            name: session.name.clone().unwrap_or_else(|| session.id.to_string()),
            email,
        });
        Self { agent, identity, neutral: Vec::new(), is_trusted: false, locks: None }
    }

    /// The same with `~/.private` at hand, for a repository that lies there: nobody else chooses what that names.
    #[must_use]
    pub(super) fn trusted(self) -> Self {
        Self { is_trusted: true, ..self }
    }

    /// Commands wait for locks, for a while, and locks that were left behind are removed.
    #[must_use]
    pub fn waiting(self, locks: Locks) -> Self {
        Self { locks: Some(locks), ..self }
    }

    /// Removes locks that were left behind, before a command that may meet one when it has changed files already: it can't
    /// simply be run again then. `branch`: the one that is checked out, as `refs/heads/main`.
    pub async fn sweep(&self, branch: Option<&str>) {
        let Some(locks) = &self.locks else { return };
        for name in STEP_LOCKS {
            locks.sweep(name).await;
        }
        if let Some(branch) = branch {
            locks.sweep(&format!("{branch}.lock")).await;
        }
    }

    /// Whom commits name.
    ///
    /// # Errors
    /// [`GitError::NoIdentity`].
    pub fn identity(&self) -> Result<&Identity, GitError> {
        self.identity.as_ref().ok_or(GitError::NoIdentity)
    }

    /// Runs a command to its end; gives what it printed. It has no token to give away: should it come to run something that the
    /// repository chose after all, that does not reach `~/.private`.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn run(&self, command: Command) -> Result<Vec<u8>, GitError> {
        self.try_again(command, WITHIN, self.is_trusted, |_| {}).await
    }

    /// Runs a command that talks to a remote; tells what it says on the way, as it comes, in whatever pieces. Dropped
    /// before its end, the command and all that came of it are ended.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn run_remote(
        &self,
        command: Command,
        said: impl FnMut(&[u8]) + Send,
    ) -> Result<Vec<u8>, GitError> {
        self.try_again(command, REMOTE_WITHIN, true, said).await
    }

    /// Until no lock stands in the way, or one is not to be waited for.
    async fn try_again(
        &self,
        command: Command,
        within: Duration,
        is_trusted: bool,
        mut said: impl FnMut(&[u8]) + Send,
    ) -> Result<Vec<u8>, GitError> {
        let mut tries = 0;
        loop {
            let outcome = self.follow(command.clone(), within, is_trusted, &mut said).await;
            fault(&format!("git {}", ENDED.fetch_add(1, Ordering::Relaxed) + 1));
            let Err(GitError::Failed(failure)) = &outcome else { return outcome };
            let Some(locks) = self.locks.as_ref().filter(|_| failure.kind == Kind::Locked) else {
                return outcome;
            };
            let Some(lock) = lock_in_the_way(&failure.said) else { return outcome };
            tries += 1;
            if tries > LOCK_TRIES || !locks.free(&lock).await {
                return outcome;
            }
        }
    }

    async fn follow(
        &self,
        mut command: Command,
        within: Duration,
        is_trusted: bool,
        said: &mut (impl FnMut(&[u8]) + Send),
    ) -> Result<Vec<u8>, GitError> {
        metrics::counter!("perch_git_commands_total", "command" => command.name()).increment(1);
        let bytes = command.take_input();
        let env = command.environment(&self.neutral);
        let start = Start { argv: command.argv(), cwd: None, env, terminal: None, is_trusted };
        let mut process = self.agent.run(start).await?;
        let input = process.input();
        let feed = async move {
            if input.write(&bytes).await.is_ok() {
                let _ = input.close().await;
            }
            std::future::pending::<Infallible>().await
        };
        let read = async {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            loop {
                match process.next().await {
                    Event::Output(Stream::Stdout, bytes) => {
                        out.extend_from_slice(&bytes);
                        if out.len() > MAX_OUTPUT && command.is_cut() {
                            return Ok(out);
                        }
                        if out.len() > MAX_OUTPUT {
                            return Err(GitError::TooLarge);
                        }
                    }
                    Event::Output(Stream::Stderr, bytes) => {
                        said(&bytes);
                        err.extend_from_slice(&bytes);
                        let skip = err.len().saturating_sub(MAX_SAID);
                        err.drain(..skip);
                    }
                    Event::Exited(Exit::Code(code)) if command.is_success(code) => return Ok(out),
                    Event::Exited(Exit::Lost) => return Err(AgentError::Ended.into()),
                    Event::Exited(_) => return Err(GitError::Failed(Failure::of(&out, &err))),
                }
            }
        };
        let until = Instant::now() + within;
        tokio::select! {
            outcome = read => outcome,
            never = feed => match never {},
            () = tokio::time::sleep_until(until) => Err(GitError::TimedOut(within)),
        }
    }
}
