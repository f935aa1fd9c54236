//! From a fresh process to pid 1 of a session.
//!
//! Three processes take part. perch starts *stage 0*, the same binary with nothing of perch's environment, memory or
//! descriptors but a socket (standard input) and the branch's network namespace (standard output). Stage 0 forks *pid 1*
//! into new namespaces, as a child of perch itself, stays outside to write its id map, and ends. Pid 1 builds its mounts,
//! leaves perch's user namespace last of all, gives up what it does not need, and serves the socket.

use super::spec::Spec;
use super::{confine, mounts, sys};
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// How long a sandbox may take to come up.
const WITHIN: Duration = Duration::from_secs(20);
/// Bytes of one message of the launch.
const MAX_MESSAGE: usize = 256 * 1024;

/// A step that the machine refused.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct Failed {
    /// Which one.
    pub step: String,
    /// What it said, and what to do about it where that is known.
    pub reason: String,
}

impl Failed {
    /// That `step` said `reason`.
    pub fn new(step: &str, reason: impl std::fmt::Display) -> Self {
        Self { step: step.to_owned(), reason: reason.to_string() }
    }
}

pub(super) fn step<T, E: std::fmt::Display>(name: &str, result: Result<T, E>) -> Result<T, Failed> {
    result.map_err(|error| Failed::new(name, error))
}

#[derive(Serialize, Deserialize)]
enum Report {
    /// Of stage 0: pid 1 as perch counts it.
    Forked(i32),
    /// Of pid 1: it serves from now on.
    Ready,
    Failed(Failed),
}

/// A session's pid 1, serving.
#[derive(Debug)]
pub struct Launched {
    /// Speaks with it; when it closes, pid 1 ends.
    pub socket: UnixStream,
    /// It and, through it, all of the session's processes.
    pub process: Pid1,
    /// Its number as perch counts.
    pub pid: i32,
}

/// Starts a sandbox; blocks until it serves. `join` gets stage 0's number before it does anything.
///
/// # Errors
/// [`Failed`] names the step, and what to do where that is known.
pub fn launch(
    spec: &Spec,
    network: Option<OwnedFd>,
    join: impl FnOnce(u32) -> io::Result<()>,
) -> Result<Launched, Failed> {
    let (socket, theirs) = step("socketpair", UnixStream::pair())?;
    let mut stage = step(
        "start",
        Command::new("/proc/self/exe")
            .arg("agent")
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(network.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::inherit())
            .spawn(),
    )?;
    let outcome = step("cgroup", join(stage.id())).and_then(|()| follow(spec, &socket, stage.id()));
    if outcome.is_err() {
        let _ = stage.kill();
    }
    // A bare agent is the stage itself and lives on.
    if !spec.is_bare || outcome.is_err() {
        let _ = stage.wait();
    }
    let (pid, process) = outcome?;
    Ok(Launched { socket, process: Pid1 { process }, pid })
}

/// A session's pid 1, held so that its number can't come to mean another process.
#[derive(Debug)]
pub struct Pid1 {
    process: OwnedFd,
}

impl Pid1 {
    /// Ends it, and with it all of the session's processes, at once.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.process, rustix::process::Signal::KILL);
    }

    /// Waits for its end; blocks. Instead of [`Pid1::ended`].
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn wait(&self) -> io::Result<()> {
        reap(self.process.as_fd())
    }

    /// Waits for its end. Call it once: the kernel forgets the process then.
    ///
    /// # Errors
    /// When the runtime can't watch it.
    #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
    pub async fn ended(&self) -> io::Result<()> {
        // SAFETY: the descriptor is owned by `self`, which outlives what watches it.
        let watched = unsafe { AsyncFd::register(self.process.as_fd()) }?;
        let _ready = watched.readable().await?;
        reap(self.process.as_fd())
    }
}

fn follow(spec: &Spec, socket: &UnixStream, stage: u32) -> Result<(i32, OwnedFd), Failed> {
    step("socket", socket.set_read_timeout(Some(WITHIN)))?;
    send(socket, spec)?;
    let mut forked = None;
    let outcome = loop {
        match receive::<Report>(socket) {
            Ok(Report::Forked(pid)) => forked = Some(pid),
            Ok(Report::Ready) => break Ok(()),
            Ok(Report::Failed(failed)) | Err(failed) => break Err(failed),
        }
    };
    let pid = if spec.is_bare { i32::try_from(stage).ok() } else { forked };
    let process =
        pid.and_then(Pid::from_raw).map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK));
    let process = match process {
        Some(process) => Some(step("pidfd_open", process)?),
        None => None,
    };
    match (outcome, pid, process) {
        (Ok(()), Some(pid), Some(process)) => {
            step("socket", socket.set_read_timeout(None))?;
            Ok((pid, process))
        }
        (outcome, _, process) => {
            // A half-made pid 1 is perch's child: it must be waited for, or it stays as a zombie.
            if let Some(process) = process.filter(|_| !spec.is_bare) {
                let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
                let _ = reap(process.as_fd());
            }
            Err(outcome.err().unwrap_or_else(|| Failed::new("start", "the process ended without a word")))
        }
    }
}

/// Waits for the end of a child that is held by `process`; at once where the descriptor does not block.
///
/// # Errors
/// `EAGAIN` while it runs.
fn reap(process: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        let options = rustix::process::WaitIdOptions::EXITED;
        match rustix::process::waitid(rustix::process::WaitId::PidFd(process), options) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut wait =
                    [rustix::event::PollFd::from_borrowed_fd(process, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut wait, None)?;
            }
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
}

fn send<T: Serialize>(mut socket: &UnixStream, value: &T) -> Result<(), Failed> {
    let bytes = step("encode", postcard::to_stdvec(value))?;
    let length = step("encode", u32::try_from(bytes.len()))?;
    step("socket", socket.write_all(&length.to_be_bytes()).and_then(|()| socket.write_all(&bytes)))
}

fn receive<T: serde::de::DeserializeOwned>(mut socket: &UnixStream) -> Result<T, Failed> {
    let mut length = [0; 4];
    step("start", socket.read_exact(&mut length))?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(Failed::new("start", "a message of the launch is too long"));
    }
    let mut bytes = vec![0; length];
    step("start", socket.read_exact(&mut bytes))?;
    step("decode", postcard::from_bytes(&bytes))
}

/// Turns this fresh process into a session's pid 1; returns in pid 1 alone, with the socket to serve.
///
/// # Errors
/// When it was not started by [`launch`]; what goes wrong later is told over the socket, and the process ends.
pub fn become_agent() -> io::Result<(UnixStream, Spec)> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let network = io::stdout().as_fd().try_clone_to_owned()?;
    let nothing = fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    confine::detach(&[socket.as_fd(), network.as_fd(), nothing.as_fd()]);
    let spec: Spec = receive(&socket).map_err(io::Error::other)?;
    let outcome = if spec.is_bare { Ok(()) } else { stage(&socket, &network, &spec) };
    drop(network);
    // Perch's log is not the session's to read; nothing is told there from now on.
    rustix::stdio::dup2_stderr(&nothing)?;
    drop(nothing);
    let outcome = outcome.and_then(|()| send(&socket, &Report::Ready));
    match outcome {
        Ok(()) => Ok((socket, spec)),
        Err(failed) => {
            let _ = send(&socket, &Report::Failed(failed));
            std::process::exit(1)
        }
    }
}

fn stage(socket: &UnixStream, network: &OwnedFd, spec: &Spec) -> Result<(), Failed> {
    if spec.has_network {
        let kind = Some(LinkNameSpaceType::Network);
        step("setns", rustix::thread::move_into_link_name_space(network.as_fd(), kind))?;
    }
    confine::go_first();
    // Two pipes: pid 1 says that it has left perch's user namespace, stage 0 that its ids are mapped.
    let (left, has_left) = step("pipe", rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC))?;
    let (mapped, is_mapped) = step("pipe", rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC))?;
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    if let Some(pid) = step("clone", sys::fork_into(flags))? {
        drop((has_left, mapped));
        let outcome = send(socket, &Report::Forked(pid)).and_then(|()| map(pid, spec.uid, &left, &is_mapped));
        if let Err(failed) = outcome {
            let _ = send(socket, &Report::Failed(failed));
            std::process::exit(1);
        }
        std::process::exit(0);
    }
    drop((left, is_mapped));
    let bare_proc = mounts::build(spec)?;
    step("sethostname", rustix::system::sethostname(spec.hostname.as_bytes()))?;
    // Where perch's own user namespace forbids it there are no groups to drop but perch's own.
    let _ = rustix::thread::set_thread_groups(&[]);
    sys::unshare(UnshareFlags::NEWUSER).map_err(|errno| {
        Failed::new(
            "unshare",
            format!("a user namespace is refused ({errno}): {}", super::level::NO_NAMESPACES),
        )
    })?;
    step("pipe", rustix::io::write(&has_left, b"x"))?;
    let mut word = [0; 1];
    if step("pipe", rustix::io::read(&mapped, &mut word))? != 1 {
        // Stage 0 has said why.
        std::process::exit(1);
    }
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    step("setgid", rustix::thread::set_thread_res_gid(gid, gid, gid))?;
    step("setuid", rustix::thread::set_thread_res_uid(uid, uid, uid))?;
    confine::bound_namespace(bare_proc.as_fd())?;
    drop(bare_proc);
    confine::limit(&spec.limits)?;
    confine::give_up()
}

/// Waits until pid 1 is in a user namespace of its own, and maps its root to the branch's user.
fn map(pid: i32, uid: u32, left: &OwnedFd, is_mapped: &OwnedFd) -> Result<(), Failed> {
    let mut word = [0; 1];
    if step("pipe", rustix::io::read(left, &mut word))? != 1 {
        // Pid 1 has said why.
        std::process::exit(1);
    }
    for (name, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {uid} 1")),
    ] {
        step(name, fs::write(format!("/proc/{pid}/{name}"), text))?;
    }
    step("pipe", rustix::io::write(is_mapped, b"x")).map(drop)
}
