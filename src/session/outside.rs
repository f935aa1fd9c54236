//! Git that talks to a remote.
//!
//! Whoever sits on the branch may write its `.git/config` at any moment, also between a look at it and git's own: a proxy
//! and `sslVerify=false` for one URL would hand a session's token to a stranger. So what has a token at hand reads nothing
//! of the branch's repository but its objects. It runs in a repository of its own in `~/.private`, which is made for one
//! command: empty configuration, a copy of the branch's references, and the branch's object store to fetch into. What a
//! fetch changed is then written into the branch's references by another command, which has no token.
//!
//! The alternatives were setting each setting on the command line, where more specific ones of a file still win, and
//! a mount of an empty file over the configuration, which can't be made inside a sandbox.

use super::credentials::{CredentialError, credentials};
use super::git::{Git, GitError};
use crate::agent::{Agent, FileAnswer, FileError, FileOp};
use crate::base::Tasks;
use crate::git::{
    CREDENTIALS, Command, Credential, Failure, Kind, Redactor, RemoteUrl, Said, SaidLine, Tips, list_refs,
    packed, parse_refs, to_file, without_progress,
};
use crate::store::SessionRow;
use serde_bytes::ByteBuf;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Bytes of a list of references; 8 MiB hold about 100,000.
const MAX_REFS: usize = 8 * 1024 * 1024;
/// How long a command that was cut short may take to end.
const GRACE: Duration = Duration::from_secs(3);

/// How ssh is run.
#[derive(Clone, Copy, Debug)]
pub struct Ssh {
    /// The way out of the branch's network, if it has a wall.
    pub proxy: Option<SocketAddrV4>,
    /// Servers that are met for the first time are believed.
    pub trusts_first: bool,
}

/// See the module's docs. Dropped, what it left in `~/.private` is removed.
#[derive(Debug)]
pub struct Outside {
    git: Git,
    agent: Agent,
    tasks: Tasks,
    name: String,
    objects: String,
    ssh: Ssh,
    /// References of the branch's repository when it was made.
    pub before: Tips,
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Ssh {
    /// The command that git starts: no configuration but this, the session's own key, and servers that it knows.
    fn command(self, private: &str, perch: &str) -> String {
        let ssh = format!("{private}/ssh");
        let checking = if self.trusts_first { "accept-new" } else { "yes" };
        let mut options = vec![
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "ControlPath=none".to_owned(),
            "ConnectTimeout=30".to_owned(),
            format!("UserKnownHostsFile=\"{ssh}/known_hosts\""),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            format!("StrictHostKeyChecking={checking}"),
        ];
        if let Some(proxy) = self.proxy {
            options.push(format!("ProxyCommand={} git-tunnel {proxy} %h %p", quoted(perch)));
        }
        let options: String = options.iter().map(|option| format!(" -o {}", quoted(option))).collect();
        format!("ssh -F /dev/null -i {}{options}", quoted(&format!("{ssh}/id")))
    }
}

impl Outside {
    /// Makes the repository. `git`: of the branch.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn open(
        git: &Git,
        agent: &Agent,
        session: &SessionRow,
        tasks: &Tasks,
        ssh: Ssh,
    ) -> Result<Self, GitError> {
        let layout = ["--show-object-format", "--is-shallow-repository", "--path-format=absolute"];
        let paths = ["--git-path", "objects", "--git-path", "shallow"];
        let printed = git.run(Command::new("rev-parse").options(layout).options(paths)).await?;
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let lines: Vec<&str> = printed.lines().collect();
        let [format, is_shallow, objects, shallow] = lines[..] else {
            return Err(GitError::Failed(Failure::of(
                b"",
                b"fatal: the repository's layout is not understood",
            )));
        };
        let before = git.run(list_refs()).await?;
        if before.len() > MAX_REFS {
            return Err(GitError::TooLarge);
        }
        let outside = Self {
            git: Git::bare(agent.clone(), session).trusted(),
            agent: agent.clone(),
            tasks: tasks.clone(),
            name: format!(".git-remote-{:016x}", rand::random::<u64>()),
            objects: objects.to_owned(),
            ssh,
            before: parse_refs(&before),
        };
        let init = Command::new("init").options(["--quiet", "--template=", "--initial-branch=none"]);
        // Reference tables that a newer git prefers could not be written as a file here.
        let init = init.option(format!("--object-format={format}")).env("GIT_DEFAULT_REF_FORMAT", "files");
        outside.git.run(outside.here(init)).await?;
        outside.write("packed-refs", packed(&outside.before)).await?;
        if is_shallow == "true" {
            let FileAnswer::Bytes(bytes) = agent.file(FileOp::Read(shallow.to_owned())).await? else {
                return Err(GitError::Failed(Failure::of(b"", b"fatal: .git/shallow can't be read")));
            };
            outside.write("shallow", bytes.into_vec()).await?;
        }
        Ok(outside)
    }

    async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), GitError> {
        let op = FileOp::PrivateWrite(format!("{}/{name}", self.name), ByteBuf::from(bytes));
        match self.agent.file(op).await? {
            FileAnswer::Refused(error) => Err(refused(&error)),
            _ => Ok(()),
        }
    }

    fn here(&self, command: Command) -> Command {
        let folder = format!("{}/{}", self.agent.inside().private, self.name);
        command
            .env("GIT_DIR", &folder)
            .env("GIT_WORK_TREE", &folder)
            .env("GIT_OBJECT_DIRECTORY", &self.objects)
            .config("core.logAllRefUpdates", "false")
    }

    /// References as they are now.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn refs(&self) -> Result<Tips, GitError> {
        Ok(parse_refs(&self.git.run(self.here(list_refs())).await?))
    }

    /// Runs a command that talks to `url`, with the session's tokens and key; tells what comes on the way. Dropped before
    /// its end, the command and all that came of it are ended.
    ///
    /// # Errors
    /// See [`GitError`]; what it says holds no token.
    pub async fn run(
        &self,
        command: Command,
        url: &RemoteUrl,
        mut told: impl FnMut(SaidLine) + Send,
    ) -> Result<Vec<u8>, GitError> {
        let inside = self.agent.inside();
        let mut command = self.here(command);
        if url.is_ssh() {
            command = command
                .env("GIT_SSH_COMMAND", self.ssh.command(&inside.private, &inside.perch))
                .env("GIT_SSH_VARIANT", "ssh")
                // It starts the proxy command; bash may read the branch's shared `.bashrc`.
                .env("SHELL", "/bin/sh");
        } else {
            let file = format!("{}/{CREDENTIALS}", inside.private);
            command = command.config("credential.useHttpPath", "true").config(
                "credential.helper",
                format!("!{} git-credential {}", quoted(&inside.perch), quoted(&file)),
            );
        }
        let mut before = self.credentials().await?;
        loop {
            let known = Redactor::new(&before);
            let mut said = Said::default();
            let outcome = self.git.run_remote(command.clone(), |bytes| {
                for line in said.take(bytes) {
                    told(match line {
                        SaidLine::Remote(text) => SaidLine::Remote(known.clean(&text)),
                        progress @ SaidLine::Progress(_) => progress,
                    });
                }
            });
            let failure = match outcome.await {
                Err(GitError::Failed(failure)) => failure,
                outcome => return outcome,
            };
            let after = self.credentials().await?;
            if failure.kind == Kind::CredentialsRefused && to_file(&after) != to_file(&before) {
                // Refreshed between the requests that one command makes: what was refused did nothing, and the next time
                // git asks for the new one from the start.
                before = after;
                continue;
            }
            return Err(GitError::Failed(explained(failure, &[known, Redactor::new(&after)])));
        }
    }

    async fn credentials(&self) -> Result<Vec<Credential>, GitError> {
        match credentials(&self.agent).await {
            Ok(credentials) => Ok(credentials),
            Err(CredentialError::Agent(error)) => Err(error.into()),
            // The helper can't read it either.
            Err(_) => Ok(Vec::new()),
        }
    }
}

/// What the branch's proxy says when it lets nothing through, over HTTP, as git repeats it.
const WALL: &str = "remote: perch: sessions may ";

fn explained(failure: Failure, known: &[Redactor]) -> Failure {
    let said = without_progress(&failure.said);
    let said = known.iter().fold(said, |said, known| known.clean(&said));
    // The proxy answers 403 as a server does that does not take a token.
    let is_walled = failure.kind == Kind::CredentialsRefused && said.contains(WALL);
    Failure { said, kind: if is_walled { Kind::Unreachable } else { failure.kind }, ..failure }
}

fn refused(error: &FileError) -> GitError {
    let said = format!("~/.private does not take what git needs: {error}");
    GitError::Failed(Failure { kind: Kind::Other, said, files: Vec::new() })
}

impl Drop for Outside {
    fn drop(&mut self) {
        let (agent, name, stopping) =
            (self.agent.clone(), std::mem::take(&mut self.name), self.tasks.stopping().clone());
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.tasks.spawn(async move {
            // What was cut short may still write for a moment; nothing is left behind by a second look.
            for pause in [Duration::ZERO, GRACE] {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = agent.ended() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                let _ = agent.file(FileOp::PrivateRemove(name.clone())).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_is_no_refused_token() {
        let of = |text: &str| explained(Failure::of(b"", text.as_bytes()), &[]).kind;
        let end = "fatal: unable to access 'http://h/x/': The requested URL returned error: 403";
        assert_eq!(of(end), Kind::CredentialsRefused);
        assert_eq!(
            of(&format!("remote: perch: sessions may not reach h:80: it is not\n{end}")),
            Kind::Unreachable
        );
        assert_eq!(of(&end.replace("403", "502")), Kind::Unreachable);
    }

    #[test]
    fn ssh_is_started_with_nothing_of_the_machines() {
        let ssh = Ssh { proxy: Some("127.0.0.1:3128".parse().unwrap()), trusts_first: false };
        let line = ssh.command("/run/perch/private", "/run/perch/bin/perch");
        assert!(
            line.starts_with("ssh -F /dev/null -i '/run/perch/private/ssh/id' -o 'BatchMode=yes' "),
            "{line}"
        );
        assert!(line.contains("'StrictHostKeyChecking=yes'"), "{line}");
        let proxy = r"-o 'ProxyCommand='\''/run/perch/bin/perch'\'' git-tunnel 127.0.0.1:3128 %h %p'";
        assert!(line.ends_with(proxy), "{line}");
        let open = Ssh { proxy: None, trusts_first: true }.command("/p", "/x");
        assert!(
            open.contains("'StrictHostKeyChecking=accept-new'") && !open.contains("ProxyCommand"),
            "{open}"
        );
    }
}
