//! What an open branch adds to the work of its documents: one update on its way to all readers, one text on its way to
//! its file. `docs/performance.md` holds the numbers.
//!
//! `cargo bench --bench branch`; files and database are in a temporary folder (`TMPDIR`).

use bytes::Bytes;
use divan::Bencher;
use perch::base::{BranchId, Clock, Permission, Tasks};
use perch::branch::{
    BranchOptions, Branches, Document, Hub, Incoming, Join, NewBranch, Outbox, Source, Wire,
};
use perch::crdt::frame::{self, Message};
use perch::sandbox::Owners;
use perch::store::{Options, SessionRow, Store};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use yrs::updates::decoder::Decode;
use yrs::{Doc, Text, TextRef, Transact, Update};

fn main() {
    divan::main();
}

const FILE: &str = "notes.txt";
/// By then the watcher has told of a write.
const ECHO: Duration = Duration::from_millis(150);
/// The connection that types.
const AUTHOR: u64 = 0;

/// A branch with one open document, an author, and readers.
struct Live {
    runtime: Runtime,
    document: Document,
    readers: Vec<Arc<Outbox>>,
    doc: Doc,
    text: TextRef,
    hub: Arc<Hub>,
    _folder: tempfile::TempDir,
}

impl Live {
    fn open(content: &str, readers: u64) -> Self {
        // One thread: what is measured is the work, and no task waits for a core.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let (hub, document, readers, author) = runtime.block_on(async {
            let (clock, tasks) = (Clock::system(), Tasks::new());
            let options = Options { database_url: None, data: folder.path().to_owned() };
            let store = Store::open(&options).await.expect("a store");
            let options = BranchOptions {
                folder: folder.path().join("branches"),
                local_git: Vec::new(),
                max_document_bytes: 8 << 20,
                max_branch_bytes: 1 << 30,
                owners: Owners::default(),
                egress: Arc::default(),
                audit: perch::audit::Bounds { entries: 1_000, days: 1 },
            };
            let branches = Branches::new(options, store, clock, tasks);
            let new = NewBranch { name: "bench".into(), source: Source::Empty };
            let branch = branches.create(new).await.expect("a branch");
            let hub = branches.hub(&branch.id).await.expect("a hub");
            fs::write(hub.workspace().folder().join(FILE), content).expect("a file");
            let path = FILE.parse().expect("a path");
            let document = hub.document(&path, false).await.expect("a document");
            let mut outboxes = Vec::new();
            for connection in AUTHOR..=readers {
                outboxes.push(join(&hub, &branch.id, &document, connection).await);
            }
            let author = outboxes.remove(0);
            (hub, document, outboxes, author)
        });
        let doc = Doc::with_client_id(7);
        let text = doc.get_or_insert_text("content");
        for frame in runtime.block_on(author.take()).frames {
            for message in frame::parse(&frame).expect("a frame") {
                if let Message::SyncStep2(update) = message {
                    let update = Update::decode_v1(update).expect("an update");
                    doc.transact_mut().apply_update(update).expect("applies");
                }
            }
        }
        let live = Self { runtime, document, readers, doc, text, hub, _folder: folder };
        live.received();
        live
    }

    /// An update that puts `insert` in front, in the place of the first `delete` characters.
    fn typed(&self, delete: u32, insert: &str) -> Bytes {
        let mut edit = self.doc.transact_mut();
        self.text.remove_range(&mut edit, 0, delete);
        self.text.insert(&mut edit, 0, insert);
        edit.encode_update_v1().into()
    }

    fn send(&self, update: Bytes) {
        let message = Incoming::Update { update, is_step2: false };
        self.runtime.block_on(self.document.incoming(AUTHOR, message));
    }

    /// What waits for each reader, once something waits for each.
    fn received(&self) -> Vec<Bytes> {
        self.runtime.block_on(async {
            let mut received = Vec::with_capacity(self.readers.len());
            for reader in &self.readers {
                received.extend(reader.take().await.frames);
            }
            received
        })
    }

    /// The barrier: all is durable and in the file.
    fn written(&self) {
        self.runtime.block_on(self.document.flush()).expect("a flush");
    }
}

async fn join(hub: &Hub, branch: &BranchId, document: &Document, connection: u64) -> Arc<Outbox> {
    let row = SessionRow {
        branch_id: branch.clone(),
        id: format!("user{connection}").parse().expect("an id"),
        permission: Permission::Write,
        name: None,
        email: None,
        color: "#1f77b4".into(),
        credited: true,
        may_fork: false,
        epoch: 1,
        created_at_ms: 0,
        updated_at_ms: 0,
        ended_at_ms: None,
    };
    let outbox = Arc::new(Outbox::default());
    let (member, outbox_of) = (hub.members().enter(&row), Arc::clone(&outbox));
    let (token, wire) = (Permission::Write, Wire::YWebsocket);
    let join = Join { connection, member, token, outbox: outbox_of, channel: 0, wire };
    document.join(join).await.expect("joins");
    document.incoming(connection, Incoming::SyncStep1(Vec::new())).await;
    outbox
}

/// From one update of an author to its frame in each reader's outbox. The frame is encoded once: all readers are given
/// the same bytes, at the same address.
fn broadcast(bencher: Bencher, readers: u64, len: usize) {
    let live = Live::open("", readers);
    let typed = RefCell::new(0);
    let next = || {
        // What the one before left to do is done outside of the measured time.
        live.written();
        live.typed(typed.replace(u32::try_from(len).expect("small")), &"x".repeat(len))
    };
    bencher.with_inputs(next).bench_local_values(|update| {
        live.send(update);
        let frames = live.received();
        assert_eq!(frames.len(), live.readers.len());
        assert!(frames.iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()), "encoded once");
        frames
    });
}

#[divan::bench(args = [1, 10, 100], sample_count = 100, sample_size = 1)]
fn broadcast_of_a_keystroke(bencher: Bencher, readers: u64) {
    broadcast(bencher, readers, 1);
}

#[divan::bench(args = [1, 10, 100], sample_count = 100, sample_size = 1)]
fn broadcast_of_64_kib(bencher: Bencher, readers: u64) {
    broadcast(bencher, readers, 64 * 1024);
}

/// For scale: what each reader would cost if it were given a frame of its own.
#[divan::bench(sample_count = 100, sample_size = 10)]
fn frame_of_64_kib(bencher: Bencher) {
    let update = vec![0; 64 * 1024];
    bencher.bench_local(|| frame::update(&update));
}

fn lines(len_bytes: usize) -> String {
    let line = "a line of text, not too long, as source files have it\n";
    line.chars().cycle().take(len_bytes).collect()
}

/// From a keystroke to the file: the log's commit, the new file beside the old one, the intent, the exchange, the record.
///
/// What the watcher says of the write before is waited for outside of the measured time: a barrier that meets it waits
/// until the file was quiet for 100 ms.
#[divan::bench(args = [2_000, 100_000, 1_000_000], sample_count = 20, sample_size = 1)]
fn write_back(bencher: Bencher, len_bytes: usize) {
    let live = Live::open(&lines(len_bytes), 0);
    let file = live.hub.workspace().folder().join(FILE);
    let next = || {
        live.runtime.block_on(async { tokio::time::sleep(ECHO).await });
        live.written();
        live.typed(0, "k")
    };
    bencher.with_inputs(next).bench_local_values(|update| {
        live.send(update);
        live.written();
    });
    assert_eq!(fs::read_to_string(file).expect("a file").as_bytes()[0], b'k');
}

/// The same bytes put into the file's place by hand, as durable but without a log: write, sync, rename, sync.
#[divan::bench(args = [2_000, 100_000, 1_000_000], sample_count = 50, sample_size = 1)]
fn write_back_file_alone(bencher: Bencher, len_bytes: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let content = lines(len_bytes);
    bencher.bench_local(|| put(folder.path(), content.as_bytes()).expect("written"));
}

fn put(folder: &Path, content: &[u8]) -> std::io::Result<()> {
    let temp = folder.join("new");
    let mut file = File::create(&temp)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temp, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}
