//! Previews of real servers in the networks of two branches, looked at with node's `http` and `ws`. Needs to be root.

use perch::agent::{Port, listening};
use perch::base::{BranchId, Clock, Tasks};
use perch::branch::{BranchOptions, Branches, Hub, NewBranch, Source};
use perch::http::{AppState, Site, router};
use perch::sandbox::Owners;
use perch::session::{Keys, token_hash};
use perch::store::{self, Store};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const OWNER: &str = "owner-token-of-the-tests";

fn node(script: &str) -> Command {
    let mut node = Command::new("node");
    node.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")).arg(script);
    node
}

/// A process that is killed with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts a process and waits until it has said `word`.
    fn new(command: &mut Command, word: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be started");
        let said = child.stdout.take().expect("its output is piped");
        let mut running = Self(child);
        let is_said = BufReader::new(said).lines().map_while(Result::ok).any(|line| line == word);
        assert!(is_said, "it ended without saying {word}: {:?}", running.0.wait());
        running
    }

    /// A development server inside a branch's network.
    async fn serving(hub: &Hub, name: &str) -> Self {
        let network = hub.network().await.expect("a network: be root");
        let namespace = network.namespace().expect("one of its own").as_raw_fd();
        let mut server = Command::new("nsenter");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/dev-server.mjs");
        server
            .arg(format!("--net=/proc/{}/fd/{namespace}", std::process::id()))
            .arg("node")
            .arg(script)
            .arg(name);
        Self::new(&mut server, "listening")
    }

    /// What an agent beside it would see: a `/proc` with this process alone, and its network.
    fn ports(&self) -> Vec<Port> {
        let (proc, pid) = (tempfile::tempdir().unwrap(), self.0.id());
        std::os::unix::fs::symlink(format!("/proc/{pid}/net"), proc.path().join("net")).unwrap();
        std::os::unix::fs::symlink(format!("/proc/{pid}"), proc.path().join(pid.to_string())).unwrap();
        listening(proc.path())
    }
}

async fn branch(branches: &Branches) -> (BranchId, Arc<Hub>) {
    let new = NewBranch { name: "b".into(), source: Source::Empty };
    let id = branches.create(new).await.unwrap().id;
    let hub = branches.hub(&id).await.unwrap();
    (id, hub)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn previews_of_two_branches() {
    let data = tempfile::tempdir().unwrap();
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let store =
        Store::open(&store::Options { database_url: None, data: data.path().to_owned() }).await.unwrap();
    let options = BranchOptions {
        folder: data.path().join("branches"),
        local_git: Vec::new(),
        max_document_bytes: 1_000,
        max_branch_bytes: 1_000_000,
        owners: Owners::default(),
        egress: Arc::default(),
        audit: perch::audit::Bounds { entries: 1_000, days: 1 },
    };
    let branches = Branches::new(options, store.clone(), clock.clone(), tasks.clone());
    let keys = Arc::new(Keys::load(&data.path().join("keys.json")).unwrap());
    let site = Site {
        public_url: None,
        allowed_origins: Vec::new(),
        trusted_proxies: Vec::new(),
        metrics_open: false,
        preview_domain: "localhost".into(),
        limits: crate::agents::unlimited(),
        messages: perch::http::Budgets::new(1 << 28, 1 << 30),
    };
    let owner = Some(token_hash(OWNER));
    let state = AppState::new(store, branches.clone(), crate::agents::none(&tasks), keys, clock, site, owner);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(std::future::IntoFuture::into_future(axum::serve(
        listener,
        router(state, axum::Router::new()),
    )));

    let ((one, hub), (other, other_hub)) = (branch(&branches).await, branch(&branches).await);
    let mut events = hub.events().listen(None).unwrap();
    let server = Running::serving(&hub, "one").await;
    let others = Running::serving(&other_hub, "other").await;
    hub.ports().report(&"ann".parse().unwrap(), server.ports());
    let told = events.next().await.unwrap();
    assert!(
        told.json.contains(r#""type":"port.opened","port":3000,"process":"node","session":"ann""#),
        "{}",
        told.json
    );

    let mut looks = node("looks.mjs");
    looks.args([&url, OWNER, one.as_str(), other.as_str()]);
    let mut looks = Running::new(&mut looks, "looked");

    // What a server's end means for who looks at it.
    drop(others);
    let ended = tokio::task::spawn_blocking(move || looks.0.wait().map(|status| status.success()));
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("its socket closes");
    assert!(ended.unwrap().unwrap());
    drop(server);
    hub.ports().report(&"ann".parse().unwrap(), Vec::new());
    let closed =
        async { while !events.next().await.unwrap().json.contains(r#""type":"port.closed","port":3000"#) {} };
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("it is told");
    assert!(hub.ports().list().is_empty());
}
