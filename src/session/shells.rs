//! Programs on terminals: the channels of a [`Pty`], joined to a process of the session's agent.

use super::agents::{Agents, AgentsError};
use crate::agent::{self, Event, Input, Process, Start, TermSize};
use crate::branch::{Exit, Hub, INPUT_WAITING, Pty, PtyInput, Size};
use crate::store::SessionRow;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Chunks of output on their way to the terminal; past it the program waits.
const OUTPUT_WAITING: usize = 16;

/// A program to be started on a PTY. `Debug` shows neither its command nor its environment.
#[derive(Clone)]
pub struct OpenShell {
    /// Program and arguments, 1 to 256 without NUL; `bash` without them.
    pub command: Option<Vec<String>>,
    /// Where it starts: absolute as the session sees it, or from the workspace's root; the root without it.
    pub cwd: Option<String>,
    /// Variables beside the usual ones.
    pub env: BTreeMap<String, String>,
    /// Of the window.
    pub size: Size,
}

impl std::fmt::Debug for OpenShell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenShell").field("size", &self.size).finish_non_exhaustive()
    }
}

fn term_size(size: Size) -> TermSize {
    TermSize { rows: size.rows(), cols: size.cols() }
}

impl Agents {
    /// Starts a program on a new PTY, in the isolation of a session.
    ///
    /// # Errors
    /// See [`AgentsError`].
    pub async fn open(
        &self,
        hub: &Arc<Hub>,
        session: &SessionRow,
        is_owner: bool,
        shell: OpenShell,
    ) -> Result<Pty, AgentsError> {
        let agent = self.get(hub, session, is_owner).await?;
        let start = Start {
            argv: shell.command.unwrap_or_else(|| vec!["/bin/bash".into()]),
            cwd: shell.cwd,
            env: shell.env.into_iter().collect(),
            terminal: Some(term_size(shell.size)),
            is_trusted: true,
        };
        let process = agent.run(start).await?;
        let (input, typed) = mpsc::channel(INPUT_WAITING);
        let (printed, output) = mpsc::channel(OUTPUT_WAITING);
        let (ended, exit) = oneshot::channel();
        let number = Some(process.number());
        let tasks = self.tasks();
        tasks.spawn(steer(process.input(), typed));
        tasks.spawn(print(process, printed, ended));
        Ok(Pty { input, output, exit, number })
    }
}

/// Hands on what the program writes until it ends, or nobody keeps its output any more: then it is ended.
async fn print(mut process: Process, printed: mpsc::Sender<Bytes>, ended: oneshot::Sender<Exit>) {
    loop {
        let event = tokio::select! {
            event = process.next() => event,
            () = printed.closed() => return,
        };
        match event {
            Event::Output(_, bytes) => {
                if printed.send(bytes).await.is_err() {
                    return;
                }
            }
            Event::Exited(exit) => {
                let exit = match exit {
                    agent::Exit::Code(code) => Exit::Code(code),
                    agent::Exit::Signal(signal) => Exit::Signal(signal),
                    agent::Exit::Lost => Exit::Lost,
                };
                let _ = ended.send(exit);
                return;
            }
        }
    }
}

/// Hands on what is typed. A program that does not read makes typing wait, never a new size or the end.
async fn steer(input: Input, mut typed: mpsc::Receiver<PtyInput>) {
    let mut waiting: VecDeque<Bytes> = VecDeque::new();
    loop {
        let next = waiting.front().cloned();
        let write = async {
            match next {
                Some(bytes) => input.write(&bytes).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(write);
        loop {
            tokio::select! {
                written = &mut write => {
                    if written.is_err() {
                        return;
                    }
                    waiting.pop_front();
                    break;
                }
                word = typed.recv(), if waiting.len() < INPUT_WAITING => match word {
                    Some(PtyInput::Bytes(bytes)) => {
                        waiting.push_back(bytes);
                        if waiting.len() == 1 {
                            break;
                        }
                    }
                    Some(PtyInput::Resize(size)) => {
                        if input.resize(term_size(size)).await.is_err() {
                            return;
                        }
                    }
                    Some(PtyInput::Close) | None => {
                        let _ = input.kill().await;
                        return;
                    }
                },
            }
        }
    }
}
