//! One command inside the sandbox, with pipes or a terminal.

use super::tree::{self, MARK};
use super::wire::{CHUNK, CREDIT, Exit, Reply, Start, Stream, TermSize, cost};
use rustix::process::Signal;
use serde_bytes::ByteBuf;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::{Semaphore, mpsc};

/// How long a command that is to end may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// How long after its end a command's output is waited for, while those it left behind hold it open.
const TAIL: Duration = Duration::from_millis(300);

/// What reaches a running command.
pub(super) enum Word {
    Input(Option<ByteBuf>),
    Resize(TermSize),
    Kill,
}

/// What all commands share.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) replies: mpsc::Sender<Reply>,
    pub(super) awaited: Rc<RefCell<HashSet<i32>>>,
    pub(super) environment: Rc<Vec<(String, String)>>,
    /// Holds what the session's own environment is, see [`ENVIRONMENT`].
    pub(super) private: Rc<Path>,
    /// All ways to it.
    pub(super) hidden: Rc<[PathBuf]>,
    /// Where a command runs that names no folder, and what relative ones are beneath.
    pub(super) workspace: Rc<str>,
}

type Reader = Box<dyn AsyncRead + Unpin>;
type Writer = Box<dyn AsyncWrite + Unpin>;

struct Running {
    child: Child,
    input: Option<Writer>,
    outputs: Vec<(Stream, Reader)>,
    resize: Option<Box<dyn Fn(TermSize)>>,
}

fn size(size: TermSize) -> pty_process::Size {
    pty_process::Size::new(size.rows, size.cols)
}

struct SharedPty(Rc<RefCell<pty_process::OwnedWritePty>>);

impl AsyncWrite for SharedPty {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

/// Of `~/.private`: `NAME=value` of each variable that was given with the session, a NUL after each.
pub(super) const ENVIRONMENT: &str = ".environment";

fn own_environment(private: &Path) -> Vec<(String, String)> {
    let Ok(text) = std::fs::read_to_string(private.join(ENVIRONMENT)) else { return Vec::new() };
    let pairs = text.split('\0').filter_map(|one| one.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn spawn(id: u32, start: Start, ground: &Ground) -> Result<Running, String> {
    let (program, arguments) = start.argv.split_first().ok_or("no program is named")?;
    let cwd = match start.cwd.as_deref() {
        None | Some("") => ground.workspace.to_string(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("{}/{path}", ground.workspace),
    };
    if !std::fs::metadata(&cwd).is_ok_and(|meta| meta.is_dir()) {
        return Err(format!("there is no folder {cwd}"));
    }
    let name = program.clone();
    let told = move |error: &dyn std::fmt::Display| format!("{name} can't be started: {error}");
    let mark = (MARK.to_owned(), id.to_string());
    let own = if start.is_trusted { own_environment(&ground.private) } else { Vec::new() };
    let environment = ground.environment.iter().cloned().chain(own).chain(start.env).chain([mark]);
    if let Some(wanted) = start.terminal {
        let (pty, pts) = pty_process::open().map_err(|error| told(&error))?;
        pty.resize(size(wanted)).map_err(|error| told(&error))?;
        let child = pty_process::Command::new(program)
            .args(arguments)
            .env_clear()
            .env("TERM", "xterm-256color")
            .envs(environment)
            .current_dir(cwd)
            .spawn(pts)
            .map_err(|error| told(&error))?;
        let (output, input) = pty.into_split();
        let input = Rc::new(RefCell::new(input));
        let resized = Rc::clone(&input);
        return Ok(Running {
            child,
            input: Some(Box::new(SharedPty(input))),
            outputs: vec![(Stream::Stdout, Box::new(output))],
            resize: Some(Box::new(move |wanted| {
                let _ = resized.borrow().resize(size(wanted));
            })),
        });
    }
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(cwd)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let spawned = if start.is_trusted { command.spawn() } else { spawn_untrusted(command, ground) };
    let mut child = spawned.map_err(|error| told(&error))?;
    let mut outputs: Vec<(Stream, Reader)> = Vec::new();
    if let Some(output) = child.stdout.take() {
        outputs.push((Stream::Stdout, Box::new(output)));
    }
    if let Some(output) = child.stderr.take() {
        outputs.push((Stream::Stderr, Box::new(output)));
    }
    let input = child.stdin.take().map(|input| Box::new(input) as Writer);
    Ok(Running { child, input, outputs, resize: None })
}

/// Starts a command from a thread that has given up what is private to the session: what a thread starts is confined as it is.
fn spawn_untrusted(mut command: tokio::process::Command, ground: &Ground) -> std::io::Result<Child> {
    let runtime = tokio::runtime::Handle::current();
    let hidden: Vec<_> = ground.hidden.iter().map(PathBuf::as_path).collect();
    std::thread::scope(|scope| {
        let spawning = scope.spawn(|| {
            let _runtime = runtime.enter();
            crate::sandbox::hide(&hidden).map_err(std::io::Error::other)?;
            command.spawn()
        });
        spawning.join().unwrap_or_else(|_| Err(std::io::Error::other("its thread ended")))
    })
}

/// Runs a command to its end.
pub(super) async fn run(
    id: u32,
    start: Start,
    ground: Ground,
    words: mpsc::UnboundedReceiver<Word>,
    credit: Arc<Semaphore>,
) {
    let Running { mut child, input, outputs, resize } = match spawn(id, start, &ground) {
        Ok(running) => running,
        Err(reason) => {
            let _ = ground.replies.send(Reply::Refused(id, reason)).await;
            return;
        }
    };
    let first = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    ground.awaited.borrow_mut().insert(first);
    let _ = ground.replies.send(Reply::Started(id)).await;
    let mut readers = tokio::task::JoinSet::new();
    for (stream, output) in outputs {
        readers.spawn_local(forward(id, stream, output, ground.replies.clone(), Arc::clone(&credit)));
    }
    let is_killed = Rc::new(Cell::new(false));
    let feeding = Feeding { id, input, replies: ground.replies.clone() };
    let steering = tokio::task::spawn_local(steer(first, words, feeding, resize, Rc::clone(&is_killed)));
    let status = child.wait().await;
    ground.awaited.borrow_mut().remove(&first);
    if is_killed.get() {
        tree::signal_all(first, &id.to_string(), Signal::KILL);
    }
    // What it wrote before its end is still to be read, as fast as perch takes it; those it left behind may write on.
    let mut quiet = tokio::time::interval(TAIL);
    quiet.tick().await;
    let mut seen = credit.available_permits();
    loop {
        tokio::select! {
            next = readers.join_next() => if next.is_none() { break },
            _ = quiet.tick() => {
                let now = credit.available_permits();
                // With the credit used up perch is slow, not the command.
                if now == seen && now >= cost(CHUNK) as usize {
                    break;
                }
                seen = now;
            }
        }
    }
    readers.shutdown().await;
    steering.abort();
    let exit = status.map_or(Exit::Lost, exit);
    let _ = ground.replies.send(Reply::Exited(id, exit)).await;
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Lost,
    }
}

async fn forward(
    id: u32,
    stream: Stream,
    mut output: Reader,
    replies: mpsc::Sender<Reply>,
    credit: Arc<Semaphore>,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        // The credit for a whole chunk is taken first, and what was not used given back.
        let whole = cost(CHUNK);
        let Ok(taken) = credit.acquire_many(whole).await else { return };
        // The end of a terminal is an error, EIO.
        let Ok(read @ 1..) = output.read(&mut chunk).await else { return };
        taken.forget();
        credit.add_permits(usize::try_from(whole - cost(read)).unwrap_or(0));
        let bytes = ByteBuf::from(&chunk[..read]);
        if replies.send(Reply::Output(id, stream, bytes)).await.is_err() {
            return;
        }
    }
}

struct Feeding {
    id: u32,
    input: Option<Writer>,
    replies: mpsc::Sender<Reply>,
}

impl Feeding {
    /// Writes what comes, as fast as the command reads, and tells perch of it; the end of the queue is the end of input.
    async fn run(self, mut fed: mpsc::UnboundedReceiver<ByteBuf>) {
        let Some(mut input) = self.input else { return };
        while let Some(bytes) = fed.recv().await {
            if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                return;
            }
            let _ = self.replies.send(Reply::Took(self.id, u32::try_from(bytes.len()).unwrap_or(0))).await;
        }
    }
}

/// Passes on what perch says to a command. Input that it does not read waits here, at most what perch has credit for.
async fn steer(
    first: i32,
    mut words: mpsc::UnboundedReceiver<Word>,
    feeding: Feeding,
    resize: Option<Box<dyn Fn(TermSize)>>,
    is_killed: Rc<Cell<bool>>,
) {
    let mark = feeding.id.to_string();
    let (feed, fed) = mpsc::unbounded_channel::<ByteBuf>();
    let mut feed = Some(feed);
    let steering = async move {
        while let Some(word) = words.recv().await {
            match word {
                Word::Input(Some(bytes)) => {
                    if let Some(feed) = &feed {
                        let _ = feed.send(bytes);
                    }
                }
                Word::Input(None) => feed = None,
                Word::Resize(size) => {
                    if let Some(resize) = &resize {
                        resize(size);
                    }
                }
                Word::Kill => {
                    is_killed.set(true);
                    for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
                        tree::signal_all(first, &mark, signal);
                    }
                    tokio::time::sleep(GRACE).await;
                    tree::signal_all(first, &mark, Signal::KILL);
                }
            }
        }
    };
    tokio::join!(feeding.run(fed), steering);
}

/// A command's whole credit at its start.
pub(super) fn fresh_credit() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CREDIT as usize))
}
