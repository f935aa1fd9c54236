//! A server on a port of its own, with terminals whose programs run on real PTYs of this machine, and their clients.

use futures_util::{SinkExt, StreamExt};
use perch::base::{BranchId, Clock, Permission, SessionId, Tasks};
use perch::branch::{
    BranchOptions, Branches, Exit, Hub, INPUT_WAITING, NewBranch, NewTerminal, Pty, PtyInput, Size, Source,
    Terminal,
};
use perch::http::{AppState, Site, router};
use perch::sandbox::Owners;
use perch::session::{Claims, Keys, SessionChange, Wanted, change_session, create_or_find, token_hash};
use perch::store::{Options, SessionRow, Store};
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

/// An API token.
pub(super) const OWNER: &str = "owner-token-of-the-tests";

pub(super) struct World {
    data: tempfile::TempDir,
    store: Store,
    keys: Arc<Keys>,
    clock: Clock,
    pub(super) id: BranchId,
    pub(super) hub: Arc<Hub>,
    pub(super) tasks: Tasks,
    pub(super) address: std::net::SocketAddr,
}

pub(super) fn size(rows: u16, cols: u16) -> Size {
    Size::new(rows, cols).unwrap()
}

impl World {
    pub(super) async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let options = Options { database_url: None, data: data.path().to_owned() };
        let store = Store::open(&options).await.unwrap();
        let keys = Arc::new(Keys::load(&data.path().join("keys.json")).unwrap());
        let (clock, tasks) = (Clock::system(), Tasks::new());
        let options = BranchOptions {
            folder: data.path().join("branches"),
            local_git: Vec::new(),
            max_document_bytes: 1 << 20,
            max_branch_bytes: 1 << 30,
            owners: Owners::default(),
            egress: Arc::default(),
            audit: perch::audit::Bounds { entries: 1_000, days: 1 },
        };
        let branches = Branches::new(options, store.clone(), clock.clone(), tasks.clone());
        let new = NewBranch { name: "b".into(), source: Source::Empty };
        let id = branches.create(new).await.unwrap().id;
        let hub = branches.hub(&id).await.unwrap();
        let (site, known) = (
            Site {
                public_url: None,
                allowed_origins: Vec::new(),
                trusted_proxies: Vec::new(),
                metrics_open: false,
                preview_domain: "localhost".into(),
                limits: crate::agents::unlimited(),
                messages: perch::http::Budgets::new(1 << 28, 1 << 30),
            },
            Arc::clone(&keys),
        );
        let state = AppState::new(
            store.clone(),
            branches,
            crate::agents::none(&tasks),
            known,
            clock.clone(),
            site,
            Some(token_hash(OWNER)),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = tasks.stopping().clone();
        tasks.spawn(async move {
            axum::serve(listener, router(state, axum::Router::new()))
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
                .unwrap();
        });
        Self { data, store, keys, clock, id, hub, tasks, address }
    }

    /// Whether nothing goes on after that.
    pub(super) async fn shut_down(self) -> bool {
        drop(self.hub);
        self.tasks.shutdown(Duration::from_secs(10)).await
    }

    pub(super) fn folder(&self) -> std::path::PathBuf {
        self.data.path().join("branches").join(self.id.as_str()).join("workspace")
    }

    pub(super) async fn session(&self, id: &str, permission: Permission) -> SessionRow {
        let wanted = Wanted {
            id: id.parse().unwrap(),
            permission,
            name: None,
            email: None,
            color: None,
            may_fork: false,
        };
        create_or_find(&self.store, &self.clock, &self.id, &wanted).await.unwrap()
    }

    pub(super) async fn change(&self, id: &str, change: SessionChange) {
        let id: SessionId = id.parse().unwrap();
        let row = change_session(&self.store, &self.clock, &self.id, &id, &change).await.unwrap();
        self.hub.session_changed(&row);
    }

    pub(super) fn token(&self, row: &SessionRow) -> String {
        let claims = Claims {
            branch: self.id.clone(),
            session: row.id.clone(),
            permission: row.permission,
            epoch: row.epoch,
            exp: i64::MAX / 2,
        };
        self.keys.sign(&claims).unwrap().expose_secret().to_owned()
    }

    /// A terminal whose program runs on this machine.
    pub(super) fn open(&self, opener: &SessionRow, command: &[&str]) -> Arc<Terminal> {
        self.add(opener, self.start(command))
    }

    pub(super) fn add(&self, opener: &SessionRow, pty: Pty) -> Arc<Terminal> {
        let new = NewTerminal {
            opener: opener.id.clone(),
            title: "t".into(),
            size: Size::default(),
            is_pinned: false,
        };
        self.hub.terminals().add(new, pty).unwrap()
    }

    fn start(&self, command: &[&str]) -> Pty {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(pty_process::Size::new(24, 80)).unwrap();
        let mut program = pty_process::Command::new(command[0])
            .args(&command[1..])
            .current_dir(self.folder())
            .env("PS1", "$ ")
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .kill_on_drop(true)
            .spawn(pts)
            .unwrap();
        let group = Pid::from_raw(i32::try_from(program.id().unwrap()).unwrap()).unwrap();
        let (mut from, mut to) = pty.into_split();
        let (input, mut typed) = mpsc::channel(INPUT_WAITING);
        let (out, output) = mpsc::channel(16);
        let (ended, exit) = oneshot::channel();
        self.tasks.spawn(async move {
            let mut bytes = vec![0; 4_096];
            while let Ok(len @ 1..) = from.read(&mut bytes).await {
                if out.send(bytes[..len].to_vec().into()).await.is_err() {
                    return;
                }
            }
        });
        self.tasks.spawn(async move {
            loop {
                match typed.recv().await {
                    Some(PtyInput::Bytes(bytes)) => {
                        let _ = to.write_all(&bytes).await;
                    }
                    Some(PtyInput::Resize(size)) => {
                        to.resize(pty_process::Size::new(size.rows(), size.cols())).unwrap();
                    }
                    Some(PtyInput::Close) | None => {
                        let _ = kill_process_group(group, Signal::HUP);
                        return;
                    }
                }
            }
        });
        self.tasks.spawn(async move {
            let status = program.wait().await.unwrap();
            let exit = status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or(0)), Exit::Code);
            let _ = ended.send(exit);
        });
        Pty { input, output, exit, number: None }
    }

    pub(super) async fn attach(&self, row: &SessionRow, terminal: &Terminal, query: &str) -> Client {
        let (host, branch, terminal, token) = (self.address, &self.id, terminal.id(), self.token(row));
        let url =
            format!("ws://{host}/v1/branches/{branch}/terminals/{terminal}/socket?token={token}{query}");
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        Client { socket, output: Vec::new(), told: Vec::new(), frames: Vec::new(), closed: None }
    }

    /// A request of a session: status and JSON.
    pub(super) async fn ask(&self, row: &SessionRow, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask_with(&self.token(row), method, path, body).await
    }

    pub(super) async fn ask_with(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} /v1/branches/{}/terminals{path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.id,
            token,
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer[9..12].parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A client of a terminal's socket.
pub(super) struct Client {
    pub(super) socket: Socket,
    /// All output until now.
    pub(super) output: Vec<u8>,
    /// The frames it came in.
    pub(super) frames: Vec<Vec<u8>>,
    /// All text frames until now.
    pub(super) told: Vec<Value>,
    pub(super) closed: Option<u16>,
}

impl Client {
    pub(super) async fn type_in(&mut self, text: impl AsRef<[u8]>) {
        self.socket.send(Message::Binary(text.as_ref().to_vec().into())).await.unwrap();
    }

    pub(super) async fn resize(&mut self, rows: u16, cols: u16) {
        let order = json!({"type": "resize", "rows": rows, "cols": cols});
        self.socket.send(Message::Text(order.to_string().into())).await.unwrap();
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    pub(super) fn said(&self, kind: &str) -> Vec<&Value> {
        self.told.iter().filter(|told| told["type"] == kind).collect()
    }

    /// The offset told last.
    pub(super) fn at(&self) -> u64 {
        self.said("at").last().map_or(0, |told| told["offset"].as_u64().unwrap())
    }

    async fn hear(&mut self) -> bool {
        match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                self.output.extend_from_slice(&bytes);
                self.frames.push(bytes.to_vec());
            }
            Some(Ok(Message::Text(text))) => self.told.push(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(why))) => self.closed = Some(why.map_or(1005, |why| why.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                self.closed.get_or_insert(1006);
            }
        }
        self.closed.is_none()
    }

    /// Reads until `is_there`; fails after 20 s, or when the socket closes before.
    pub(super) async fn until(&mut self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_there(self) {
                if !self.hear().await {
                    return is_there(self);
                }
            }
            true
        };
        let seen = tokio::time::timeout(Duration::from_secs(20), wait).await;
        let tail: String =
            self.text().chars().rev().take(400).collect::<Vec<_>>().into_iter().rev().collect();
        assert!(
            seen == Ok(true),
            "never: {what}; {seen:?} {:?} {:?} {tail:?}",
            self.closed,
            self.told.last()
        );
    }

    pub(super) async fn sees(&mut self, text: &str) {
        self.until(text, |client| client.text().contains(text)).await;
    }

    /// Types a line, and waits until its output ends with a mark that the line does not hold.
    pub(super) async fn run(&mut self, line: &str) {
        self.until("all that was", |client| !client.said("at").is_empty()).await;
        self.output.clear();
        self.type_in(format!("{line}; echo do''ne\r")).await;
        self.sees("done\r\n").await;
    }

    pub(super) async fn until_closed(&mut self) {
        self.until("closed", |client| client.closed.is_some()).await;
    }
}
