//! Inside the sandbox: pid 1, which answers requests and reaps whom others left behind.

use super::process::{Ground, Word, fresh_credit, run};
use super::wire::{Reply, Request, codec};
use super::{Inside, files, tree};
use crate::sandbox::{Spec, become_agent};
use futures_util::{SinkExt, StreamExt};
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::codec::{FramedRead, FramedWrite};

/// Replies that wait for the socket; past it processes and files wait.
const QUEUE: usize = 64;
/// How often the sum of memory is looked at where the kernel does not bound it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where sessions' processes look for programs.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/perch/bin";

/// The environment of all of the session's processes.
fn environment(inside: &Inside, spec: &Spec) -> Vec<(String, String)> {
    let Inside { home, private, .. } = inside;
    let fixed = [
        ("HOME", home.as_str()),
        ("PATH", PATH),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
        ("XDG_RUNTIME_DIR", &format!("{private}/.run")),
        // Else its socket lies in `/tmp`, where each session of the branch may type into this one's shells.
        ("TMUX_TMPDIR", &format!("{private}/.run")),
        ("GIT_CONFIG_GLOBAL", &format!("{private}/.gitconfig")),
        ("HISTFILE", &format!("{private}/.bash_history")),
        // One id is mapped: owners in archives can't be restored.
        ("TAR_OPTIONS", "--no-same-owner"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    fixed.into_iter().chain(spec.environment.iter().cloned()).collect()
}

/// Becomes the agent that this process was started as, and serves until perch hangs up.
///
/// # Errors
/// When it was not started by perch.
pub fn serve() -> std::io::Result<()> {
    let (socket, spec) = become_agent()?;
    let lifeline = socket.try_clone()?;
    // Whatever the agent is at: when perch hangs up, the session ends.
    std::thread::Builder::new()
        .name("lifeline".into())
        .stack_size(32 * 1024)
        .spawn(move || hang_on(&lifeline))?;
    // Where files may not grow any more, a write fails with "File too large" instead of ending who writes.
    crate::sandbox::ignore_file_size_signal();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    tokio::task::LocalSet::new().block_on(&runtime, talk(socket, spec));
    // Not orderly: what runs here must not outlive the talk.
    std::process::exit(0)
}

fn hang_on(socket: &UnixStream) {
    let mut wait = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::RDHUP)];
    while let Ok(0) | Err(rustix::io::Errno::INTR) = rustix::event::poll(&mut wait, None) {}
    std::process::exit(0);
}

struct Process {
    words: mpsc::UnboundedSender<Word>,
    credit: Arc<Semaphore>,
}

async fn talk(socket: UnixStream, spec: Spec) {
    let Ok(()) = socket.set_nonblocking(true) else { return };
    let Ok(socket) = tokio::net::UnixStream::from_std(socket) else { return };
    let (read, write) = socket.into_split();
    let mut requests = FramedRead::new(read, codec());
    let (replies, mut waiting) = mpsc::channel::<Reply>(QUEUE);
    tokio::task::spawn_local(async move {
        let mut write = FramedWrite::new(write, codec());
        while let Some(reply) = waiting.recv().await {
            let Ok(bytes) = postcard::to_stdvec(&reply) else { continue };
            if write.send(bytes::Bytes::from(bytes)).await.is_err() {
                std::process::exit(0);
            }
        }
    });
    let inside = Inside::of(&spec);
    let environment = environment(&inside, &spec);
    let private = PathBuf::from(inside.private);
    files::lay_out(&private, &spec.git_config);
    let ground = Ground {
        replies,
        awaited: Rc::default(),
        environment: Rc::new(environment),
        private: private.as_path().into(),
        hidden: [private.clone(), Path::new(&inside.home).join(".private")].into(),
        workspace: inside.workspace.into(),
    };
    if !spec.is_bare {
        tokio::task::spawn_local(reap(Rc::clone(&ground.awaited)));
    }
    tokio::task::spawn_local(watch_ports(ground.replies.clone()));
    if spec.watches_memory {
        tokio::task::spawn_local(watch_memory(spec.limits.memory_bytes));
    }
    let processes: Rc<RefCell<HashMap<u32, Process>>> = Rc::default();
    while let Some(Ok(frame)) = requests.next().await {
        let Ok(request) = postcard::from_bytes::<Request>(&frame) else { return };
        let word = |id, word| {
            if let Some(process) = processes.borrow().get(&id) {
                let _ = process.words.send(word);
            }
        };
        match request {
            Request::Start(id, start) => {
                let (words, told) = mpsc::unbounded_channel();
                let credit = fresh_credit();
                processes.borrow_mut().insert(id, Process { words, credit: Arc::clone(&credit) });
                let (ground, processes) = (ground.clone(), Rc::clone(&processes));
                tokio::task::spawn_local(async move {
                    run(id, start, ground, told, credit).await;
                    processes.borrow_mut().remove(&id);
                });
            }
            Request::Input(id, bytes) => word(id, Word::Input(bytes)),
            Request::Resize(id, size) => word(id, Word::Resize(size)),
            Request::Kill(id) => word(id, Word::Kill),
            Request::Credit(id, bytes) => {
                if let Some(process) = processes.borrow().get(&id) {
                    process.credit.add_permits(bytes as usize);
                }
            }
            Request::Writing(may) => {
                let _ = tokio::task::spawn_blocking(move || tree::let_write(Path::new("/proc"), may)).await;
            }
            Request::File(id, op) => {
                let (replies, private) = (ground.replies.clone(), private.clone());
                tokio::task::spawn_local(async move {
                    let answer = tokio::task::spawn_blocking(move || files::work(&private, op)).await;
                    if let Ok(answer) = answer {
                        let _ = replies.send(Reply::File(id, answer)).await;
                    }
                });
            }
        }
    }
}

/// As pid 1 it is the parent of all whose parents ended.
async fn reap(awaited: Rc<RefCell<std::collections::HashSet<i32>>>) {
    let kind = tokio::signal::unix::SignalKind::child();
    let Ok(mut ended) = tokio::signal::unix::signal(kind) else { return };
    while ended.recv().await.is_some() {
        tree::reap_orphans(&awaited.borrow());
    }
}

/// Tells perch which ports are listened on. Looks while anything but the agent runs.
async fn watch_ports(replies: mpsc::Sender<Reply>) {
    let mut told = Vec::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // Others of the branch may listen too; each is told of by its own agent.
        if told.is_empty() && tree::is_alone(Path::new("/proc")) {
            continue;
        }
        let looked = tokio::task::spawn_blocking(|| super::ports::listening(Path::new("/proc"))).await;
        let Ok(seen) = looked else { continue };
        if seen != told {
            told.clone_from(&seen);
            if replies.send(Reply::Ports(seen)).await.is_err() {
                return;
            }
        }
    }
}

/// Ends the largest process of a session that holds more than it may.
async fn watch_memory(most: u64) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (sum, largest) = tree::memory(Path::new("/proc"));
        if sum > most
            && let Some(pid) = largest.and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
