//! Cloning with the real git: a fixed configuration, progress, and a token that is stored nowhere.

use super::{Making, Phase, Progress, measure};
use crate::branch::BranchError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{CWD, FileType, Mode};
use secrecy::{ExposeSecret, SecretString};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// The longest a clone may take.
const CLONE_WITHIN: Duration = Duration::from_secs(3_600);
/// How often the size of what came is looked at, at most; rarely enough that looking takes a tenth of the time.
const MEASURE_EVERY: Duration = Duration::from_secs(2);
/// Bytes of one line of git's that are kept.
const MAX_LINE: usize = 4_096;
/// Lines of git's that an error shows.
const LINES_SHOWN: usize = 8;

/// Where a clone comes from.
#[derive(Clone, Debug)]
pub struct Git {
    /// `https://`, `http://`, or a local path beneath an allowed folder. No user info.
    pub url: String,
    /// Branch or tag; the remote's default without it.
    pub reference: Option<String>,
    /// For a private repository; used for this clone and forgotten.
    pub credentials: Option<Credentials>,
}

/// A user and a token for one clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// What the host wants beside a token, often anything.
    pub username: String,
    /// The token or password.
    pub token: SecretString,
}

/// Whether a source may be cloned.
///
/// # Errors
/// [`BranchError::Url`] says why not.
pub(in crate::branch) fn check_url(git: &Git, local: &[PathBuf]) -> Result<(), BranchError> {
    let url = git.url.as_str();
    if url.len() > 4_096 || url.contains(char::is_control) {
        return Err(BranchError::Url("it is too long or holds control characters"));
    }
    if git.reference.as_ref().is_some_and(|name| {
        name.is_empty() || name.len() > 1_024 || name.starts_with('-') || name.contains(char::is_control)
    }) {
        return Err(BranchError::Url("the ref is no name of a branch or tag"));
    }
    match url::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "https" | "http") => {
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(BranchError::Url(
                    "a user or password in the URL would be stored; give `username` and `token` instead",
                ));
            }
            check_credentials(git.credentials.as_ref(), &parsed)
        }
        _ if git.credentials.is_some() => Err(BranchError::Url("a token is for https:// only")),
        _ => {
            let path = Path::new(url.strip_prefix("file://").unwrap_or(url));
            let real = path.canonicalize().ok();
            let allowed = real.is_some_and(|real| {
                local
                    .iter()
                    .filter_map(|folder| folder.canonicalize().ok())
                    .any(|folder| real.starts_with(folder))
            });
            if allowed && path.is_absolute() {
                Ok(())
            } else {
                Err(BranchError::Url("use https://, or a path beneath a folder given by --allow-local-git"))
            }
        }
    }
}

fn check_credentials(credentials: Option<&Credentials>, url: &url::Url) -> Result<(), BranchError> {
    let Some(Credentials { username, token }) = credentials else { return Ok(()) };
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() != "https" && !is_loopback {
        return Err(BranchError::Url("a token goes over https:// only"));
    }
    let is_word =
        |text: &str, max| (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_word(username, 256) || !is_word(token.expose_secret(), 2_048) {
        return Err(BranchError::Url(
            "`username` and `token` are visible ASCII, at most 256 and 2,048 characters",
        ));
    }
    Ok(())
}

/// Hands a user and token to git through a pipe with a name: the bytes are in the kernel only, on no disk, no command
/// line and in no environment. The helper takes the name away when it reads, so it answers once.
struct Handover {
    path: PathBuf,
    /// Keeps the pipe's content as long as the clone runs.
    _pipe: File,
    /// What git is told: the helper is asked for this host only, so a redirect gets nothing.
    config: String,
}

const HELPER: &str = r#"!f() { test "$1" = get || exit 0; { rm -f "$PERCH_CREDENTIAL"; IFS= read -r u; IFS= read -r p; } <"$PERCH_CREDENTIAL" 2>/dev/null || exit 0; printf 'username=%s\npassword=%s\n' "$u" "$p"; }; f"#;

impl Handover {
    fn new(git: &Git, folder: &Path) -> io::Result<Option<Self>> {
        let Some(Credentials { username, token }) = &git.credentials else { return Ok(None) };
        let url = url::Url::parse(&git.url).map_err(io::Error::other)?;
        let path = folder.join("credential");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        // Open for both: it does not wait for a reader, and what is written waits for one.
        let mut pipe =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
        pipe.write_all(format!("{username}\n{}\n", token.expose_secret()).as_bytes())?;
        let config = format!("credential.{}.helper={HELPER}", url.origin().ascii_serialization());
        Ok(Some(Self { path, _pipe: pipe, config }))
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Clones with nothing of this machine's or the user's configuration, no hooks, no submodules, no prompts, no hard
/// links to a local source. `folder` is the branch's: the clone comes to lie in its `workspace`.
///
/// # Errors
/// What git said, without the token.
pub(in crate::branch) async fn clone(git: &Git, folder: &Path, making: &Making) -> Result<(), String> {
    let temp = folder.join("tmp");
    let handover =
        Handover::new(git, &temp).map_err(|error| format!("can't hand the token over: {error}"))?;
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &temp)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "https:http:file")
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "safe.directory=*"]);
    if let Some(handover) = &handover {
        command.env("PERCH_CREDENTIAL", &handover.path).args(["-c", &handover.config]);
    }
    command.args(["clone", "--progress", "--no-hardlinks", "--no-recurse-submodules"]);
    if let Some(reference) = &git.reference {
        command.arg("--branch").arg(reference);
    }
    let mut child = command
        .arg("--")
        .arg(git.url.strip_prefix("file://").unwrap_or(&git.url))
        .arg(folder.join("workspace"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A group of its own, so that its helpers end with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("git can't be started: {error}"))?;
    let mut said = Said::default();
    let outcome = tokio::select! {
        outcome = run(&mut child, &mut said, folder, making) => outcome,
        () = tokio::time::sleep(CLONE_WITHIN) => Err("the clone took longer than an hour".to_owned()),
        () = making.cancel().cancelled() => Err("the clone was stopped".to_owned()),
    };
    let outcome = match outcome {
        Ok(()) => child.wait().await.map_err(|error| format!("git got lost: {error}")),
        Err(reason) => {
            kill_group(&child);
            let _ = child.wait().await;
            Err(reason)
        }
    };
    if outcome?.success() { Ok(()) } else { Err(said.error(git.credentials.as_ref())) }
}

fn kill_group(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // It may be over meanwhile; it is not waited for yet, so the number is still its own.
        let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
    }
}

/// Reads what git says until it ends; fails when the files grow past the bound.
async fn run(child: &mut Child, said: &mut Said, folder: &Path, making: &Making) -> Result<(), String> {
    let Some(mut stderr) = child.stderr.take() else { return Ok(()) };
    let listen = async {
        let mut buffer = [0; 4_096];
        while let Ok(read) = stderr.read(&mut buffer).await {
            if read == 0 {
                break;
            }
            said.take(&buffer[..read], making);
        }
    };
    tokio::select! {
        () = listen => Ok(()),
        reason = outgrow(folder, making) => Err(reason),
    }
}

/// Ends when the folder is larger than a branch may be.
async fn outgrow(folder: &Path, making: &Making) -> String {
    let mut pause = MEASURE_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let (folder, began) = (folder.to_owned(), Instant::now());
        let size = tokio::task::spawn_blocking(move || measure(&folder)).await;
        if matches!(size, Ok(Ok(size)) if size > making.max_bytes()) {
            return making.too_large();
        }
        pause = MEASURE_EVERY.max(began.elapsed() * 10);
    }
}

/// What git says on stderr: progress, and its last other lines.
#[derive(Default)]
struct Said {
    line: Vec<u8>,
    lines: VecDeque<String>,
}

impl Said {
    fn take(&mut self, bytes: &[u8], making: &Making) {
        for byte in bytes {
            if !matches!(byte, b'\r' | b'\n') {
                if self.line.len() < MAX_LINE {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            if let Some(progress) = progress(&line) {
                making.at(progress.phase, progress.percent);
            } else if !line.trim().is_empty() && !line.starts_with("Cloning into") {
                self.lines.push_back(line);
                if self.lines.len() > LINES_SHOWN {
                    self.lines.pop_front();
                }
            }
        }
    }

    /// The last lines as an error, without anything of the token, whoever repeated it.
    fn error(&self, credentials: Option<&Credentials>) -> String {
        let mut text = self.lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n");
        text.retain(|c| !c.is_control() || c == '\n');
        if let Some(Credentials { username, token }) = credentials {
            let token = token.expose_secret();
            let encoded: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
            for secret in [token.to_owned(), encoded, STANDARD.encode(format!("{username}:{token}"))] {
                text = text.replace(&secret, "[token]");
            }
        }
        format!("git clone failed: {}", text.chars().take(1_000).collect::<String>().trim())
    }
}

fn progress(line: &str) -> Option<Progress> {
    let line = line.trim().trim_start_matches("remote: ");
    let (what, rest) = line.split_once(':')?;
    let phase = match what {
        "Enumerating objects" | "Counting objects" => Phase::Counting,
        "Compressing objects" => Phase::Compressing,
        "Receiving objects" => Phase::Receiving,
        "Resolving deltas" => Phase::Resolving,
        "Updating files" | "Checking out files" => Phase::CheckingOut,
        _ => return None,
    };
    let percent = rest.split_once('%').and_then(|(number, _)| number.trim().parse().ok());
    Some(Progress { phase, percent: percent.filter(|percent| *percent <= 100) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;

    fn git(url: &str, token: Option<&str>) -> Git {
        let credentials =
            token.map(|token| Credentials { username: "ann".into(), token: token.to_owned().into() });
        Git { url: url.into(), reference: None, credentials }
    }

    #[test]
    fn urls_with_secrets_or_outside_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let local = [folder.path().to_owned()];
        let inside = folder.path().to_str().unwrap();
        for (url, token) in [
            ("https://example.org/a.git", None),
            ("https://example.org/a.git", Some("t0ken")),
            ("http://127.0.0.1:1/a.git", Some("t0ken")),
            (inside, None),
        ] {
            assert!(check_url(&git(url, token), &local).is_ok(), "{url}");
        }
        for (url, token) in [
            ("https://ann:pw@example.org/a.git", None),
            ("http://example.org/a.git", Some("t0ken")),
            ("https://example.org/a.git", Some("two\nlines")),
            ("https://example.org/a.git", Some("")),
            (inside, Some("t0ken")),
            ("/etc", None),
            ("ssh://example.org/a", None),
            ("ext::sh -c id", None),
            ("https://example.org/\n", None),
        ] {
            assert!(check_url(&git(url, token), &local).is_err(), "{url}");
        }
    }

    #[test]
    fn progress_is_read_and_the_token_is_not_repeated() {
        let making = Making::new(1, CancellationToken::new());
        let mut said = Said::default();
        said.take(b"Cloning into 'x'...\nremote: Counting objects:  45% (9/20)\rReceiving obj", &making);
        assert_eq!(making.progress(), Progress { phase: Phase::Counting, percent: Some(45) });
        said.take(b"ects: 100% (20/20), 1.2 MiB | 1.00 MiB/s, done.\n", &making);
        assert_eq!(making.progress(), Progress { phase: Phase::Receiving, percent: Some(100) });
        let credentials = git("https://e.org/", Some("s3cret/+")).credentials.unwrap();
        let basic = STANDARD.encode("ann:s3cret/+");
        said.take(format!("remote: you sent s3cret/+, s3cret%2F%2B, {basic}\n").as_bytes(), &making);
        said.take(b"fatal: no\n", &making);
        let error = said.error(Some(&credentials));
        assert_eq!(error, "git clone failed: remote: you sent [token], [token], [token]\nfatal: no");
        said.take(&vec![b'x'; 1 << 20], &making);
        assert!(said.line.len() <= MAX_LINE);
    }
}
