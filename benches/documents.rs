//! What a document costs: keystrokes, loads, outside changes, large frames. `docs/performance.md` holds the numbers.
//!
//! `cargo bench --bench documents`; a recorded history is read from the folder `PERCH_TRACES` (or `../shared/data`),
//! else one of the same kind and length is made up. Which one is printed.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use flate2::read::GzDecoder;
use perch::crdt::{Edit, FIRST_SERVER_CLIENT, FileFormat, MAX_CLIENTS, SharedText, diff, frame, inspect};
use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, Transact, Update};

fn main() {
    if let Some(snapshot) = std::env::var_os(LOAD_ALONE) {
        return load_alone(Path::new(&snapshot));
    }
    let History { source, updates, snapshot } = &*HISTORY;
    eprintln!("history: {source}, {} updates, a snapshot of {} bytes", updates.len(), snapshot.len());
    eprintln!("yrs alone loads it as the first thing of a process in {:.1} ms, best of 7", first_load());
    divan::main();
}

/// Names a snapshot to a process that does nothing but load it.
const LOAD_ALONE: &str = "PERCH_LOAD_ALONE";

/// Milliseconds, on a thread that is no more than a server's: its memory is new too. The samples below find memory that
/// was used before, which a server that has just started does not.
#[expect(clippy::print_stdout, reason = "the answer to the process that asks")]
fn load_alone(snapshot: &Path) {
    let snapshot = std::fs::read(snapshot).expect("a snapshot");
    let load = move || {
        let began = Instant::now();
        let doc = Doc::new();
        doc.transact_mut().apply_update(Update::decode_v1(&snapshot).expect("real")).expect("applies");
        println!("{}", began.elapsed().as_secs_f64() * 1_000.0);
    };
    std::thread::spawn(load).join().expect("loads");
}

fn first_load() -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("snapshot");
    std::fs::write(&path, &HISTORY.snapshot).expect("a file");
    let once = || {
        let this = std::env::current_exe().expect("a path");
        let output = Command::new(this).env(LOAD_ALONE, &path).output().expect("runs");
        String::from_utf8_lossy(&output.stdout).trim().parse::<f64>().expect("a number")
    };
    (0..7).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// One author's document, keystroke by keystroke.
struct History {
    source: String,
    updates: Vec<Vec<u8>>,
    snapshot: Vec<u8>,
}

static HISTORY: LazyLock<History> = LazyLock::new(|| {
    let folder = std::env::var_os("PERCH_TRACES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = folder.join("automerge-paper.json.gz");
    let (source, edits) = match std::fs::File::open(&path) {
        Ok(file) => (path.display().to_string(), recorded(file)),
        Err(_) => ("generated".to_owned(), made_up()),
    };
    let mut text = SharedText::load([SharedText::seed(FIRST_SERVER_CLIENT, "").as_ref()]).expect("a seed");
    let mut updates = vec![text.encode_state().to_vec()];
    for edit in edits {
        for (update, _) in text.edit(&[edit]).expect("an edit") {
            updates.push(update.to_vec());
        }
    }
    History { source, updates, snapshot: text.encode_state().to_vec() }
});

fn recorded(file: std::fs::File) -> Vec<Edit> {
    let mut json = String::new();
    GzDecoder::new(file).read_to_string(&mut json).expect("a gzipped trace");
    let trace: serde_json::Value = serde_json::from_str(&json).expect("a trace");
    let number = |value: &serde_json::Value| u32::try_from(value.as_u64().expect("a number")).expect("small");
    let txns = trace["txns"].as_array().expect("txns");
    txns.iter()
        .flat_map(|txn| txn["patches"].as_array().expect("patches"))
        .map(|patch| Edit {
            at: number(&patch[0]),
            delete: number(&patch[1]),
            insert: patch[2].as_str().expect("text").to_owned(),
        })
        .collect()
}

fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("below")
    }
}

/// Typing with corrections, and a jump to somewhere else every 30 keys.
fn made_up() -> Vec<Edit> {
    let mut next = random(0x9E37_79B9_7F4A_7C15);
    let (mut at, mut len) = (0_usize, 0_usize);
    let mut edits = Vec::new();
    for _ in 0..260_000 {
        if next(30) == 0 {
            at = next(len + 1);
        }
        let deletes = at > 0 && next(10) < 3;
        if deletes {
            at -= 1;
            len -= 1;
        }
        edits.push(Edit {
            at: u32::try_from(at).expect("small"),
            delete: u32::from(deletes),
            insert: if deletes { String::new() } else { ["a", "e", " ", "\n"][next(4)].to_owned() },
        });
        if !deletes {
            at += 1;
            len += 1;
        }
    }
    edits
}

/// A document with the whole history, and keystrokes of a client in it that jumps every `run` keys.
fn keystrokes(count: usize, run: usize) -> (SharedText, Vec<Vec<u8>>) {
    let live = SharedText::load([HISTORY.snapshot.as_slice()]).expect("a snapshot");
    let mut author = live.fork().expect("a copy");
    let mut next = random(7);
    let mut at = 0;
    let updates = (0..count)
        .flat_map(|key| {
            if key % run == 0 {
                at = u32::try_from(next(author.len_utf16() as usize)).expect("small");
            }
            let edit = Edit { at, delete: 0, insert: "k".to_owned() };
            at += 1;
            author.edit(&[edit]).expect("an edit")
        })
        .map(|(update, _)| update.to_vec())
        .collect();
    (live, updates)
}

/// All that a keystroke costs up to the frame for the others; `args`: keys between two jumps of the cursor.
#[divan::bench(args = [1_000_000, 30, 1], sample_count = 100, sample_size = 100)]
fn keystroke(bencher: Bencher, run: usize) {
    let (live, updates) = keystrokes(10_000, run);
    let (live, updates) = (RefCell::new(live), RefCell::new(updates.into_iter()));
    bencher.with_inputs(|| updates.borrow_mut().next().expect("enough keys")).bench_local_values(|update| {
        let mut live = live.borrow_mut();
        let info = inspect(&update).expect("real");
        assert!(!info.missing(|client| live.known(client)));
        live.check_room(&update, &info, &FileFormat::default(), 8 << 20).expect("room");
        assert!(live.receive(&update, &info).expect("real").changed);
        frame::update(&update)
    });
}

/// The same with yrs alone.
#[divan::bench(args = [1_000_000, 30], sample_count = 100, sample_size = 100)]
fn keystroke_yrs_alone(bencher: Bencher, run: usize) {
    let (_, updates) = keystrokes(10_000, run);
    let doc = Doc::new();
    doc.transact_mut().apply_update(Update::decode_v1(&HISTORY.snapshot).expect("real")).expect("applies");
    let updates = RefCell::new(updates.into_iter());
    bencher.with_inputs(|| updates.borrow_mut().next().expect("enough keys")).bench_local_values(|update| {
        let update = Update::decode_v1(&update).expect("real");
        doc.transact_mut().apply_update(update).expect("applies");
    });
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn cold_load_of_the_log() -> SharedText {
    SharedText::load(HISTORY.updates.iter().map(Vec::as_slice)).expect("a log")
}

#[divan::bench(sample_count = 50, sample_size = 1)]
fn cold_load_of_the_snapshot() -> SharedText {
    SharedText::load([HISTORY.snapshot.as_slice()]).expect("a snapshot")
}

#[divan::bench(sample_count = 50, sample_size = 1)]
fn cold_load_of_the_snapshot_yrs_alone() -> Doc {
    let doc = Doc::new();
    doc.transact_mut().apply_update(Update::decode_v1(&HISTORY.snapshot).expect("real")).expect("applies");
    doc
}

/// An update whose neighbours can't be looked up one by one is tried on a copy.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn trial_of_a_long_absence(bencher: Bencher) {
    let live = SharedText::load([HISTORY.snapshot.as_slice()]).expect("a snapshot");
    let mut author = live.fork().expect("a copy");
    let known: Vec<_> = live.clocks().iter().map(|(client, clock)| (*client, *clock)).collect();
    let mut next = random(9);
    for _ in 0..1_000 {
        let at = u32::try_from(next(author.len_utf16() as usize)).expect("small");
        author.edit(&[Edit { at, delete: 1, insert: "away".to_owned() }]).expect("an edit");
    }
    let update = author.encode_since(&known);
    bencher.with_inputs(|| live.fork().expect("a copy")).bench_local_values(|mut live| {
        let info = inspect(&update).expect("real");
        live.receive(&update, &info).expect("real");
        live
    });
}

fn megabyte() -> String {
    let mut next = random(3);
    let mut text = String::new();
    while text.len() < 1 << 20 {
        let depth = next(5);
        text.push_str(&"    ".repeat(depth));
        for _ in 0..=next(8) {
            text.push_str(["let", "value", "=", "self.next()", "+", "0x1F;", "// why", "match"][next(8)]);
            text.push_str([" ", "_", "("][next(3)]);
        }
        text.push('\n');
    }
    text
}

/// What a formatter, a `git pull` or a shell did to a file of 1 MB.
#[divan::bench(args = ["five lines", "indent", "everything"], sample_count = 10, sample_size = 1)]
fn outside_change(bencher: Bencher, kind: &str) {
    let old = megabyte();
    let new: String = match kind {
        "five lines" => {
            let every = old.lines().count() / 5;
            old.lines()
                .enumerate()
                .map(
                    |(n, line)| {
                        if n % every == 1 { format!("{line} changed\n") } else { format!("{line}\n") }
                    },
                )
                .collect()
        }
        "indent" => old.lines().map(|line| format!("  {line}\n")).collect(),
        _ => old.lines().rev().map(|line| line.chars().rev().collect::<String>() + "\n").collect(),
    };
    bencher.counter(BytesCount::new(old.len())).bench_local(|| diff(black_box(&old), black_box(&new)));
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7F).expect("7 bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("7 bits"));
}

/// One block, one reference and one deletion of each client.
fn many_clients(count: u64) -> Vec<u8> {
    let mut update = Vec::new();
    put(&mut update, count);
    for client in (0..count).rev() {
        put(&mut update, 1);
        put(&mut update, client);
        update.extend([0, 0x84]);
        put(&mut update, client + count);
        update.extend([0, 1, b'x']);
    }
    put(&mut update, count);
    for client in (0..count).rev() {
        put(&mut update, client);
        update.extend([1, 0, 1]);
    }
    update
}

#[divan::bench(sample_count = 20)]
fn inspect_the_snapshot(bencher: Bencher) {
    let snapshot = &HISTORY.snapshot;
    bencher
        .counter(BytesCount::of_slice(snapshot))
        .bench_local(|| inspect(black_box(snapshot)).expect("real"));
}

#[divan::bench(args = [1_000, 10_000, MAX_CLIENTS], sample_count = 10)]
fn inspect_many_clients(bencher: Bencher, count: usize) {
    let update = many_clients(count as u64);
    bencher.counter(BytesCount::of_slice(&update)).bench_local(|| inspect(black_box(&update)).expect("real"));
}

#[divan::bench(args = [1_000, 10_000, MAX_CLIENTS], sample_count = 10)]
fn missing_many_clients(bencher: Bencher, count: usize) {
    let info = inspect(&many_clients(count as u64)).expect("real");
    bencher.bench_local(|| black_box(&info).missing(|client| u32::from(client >= count as u64)));
}

/// For scale: the text as one string.
#[divan::bench(sample_count = 20)]
fn text_of_the_document(bencher: Bencher) {
    let doc = Doc::new();
    doc.transact_mut().apply_update(Update::decode_v1(&HISTORY.snapshot).expect("real")).expect("applies");
    let text = doc.get_or_insert_text("content");
    bencher.bench_local(|| text.get_string(&doc.transact()));
}
