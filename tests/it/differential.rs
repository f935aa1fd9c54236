//! perch's documents against Yjs itself: the same updates lead to the same text and clocks in both, in both directions.
//!
//! `PERCH_SEED` replays a run. The two-author history is read from the folder `PERCH_TRACES` (or `../shared/data`,
//! where that is); without it one of the same kind is made up.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use perch::crdt::{Edit, FIRST_SERVER_CLIENT, FileFormat, SharedText, inspect};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One transaction of a history: what it builds on, whose it is, and `(at, deleted, inserted)`.
struct Txn {
    parents: Vec<usize>,
    agent: u64,
    patches: Vec<(u32, u32, String)>,
}

fn seed() -> u64 {
    let given = std::env::var("PERCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("PERCH_SEED={seed}");
    seed
}

fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    }
}

fn node(arguments: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    assert!(folder.join("node_modules").is_dir(), "the npm clients are not installed: run `make test`");
    let output =
        Command::new("node").current_dir(folder).arg("differential.mjs").args(arguments).output().unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout.ends_with(b"ok\n"), "{complained}");
}

/// The recorded history of two authors, as JSON; `None` where it is not at hand.
fn trace() -> Option<Value> {
    let folder = std::env::var_os("PERCH_TRACES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = folder.join("friendsforever.json.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        assert!(std::env::var_os("PERCH_TRACES").is_none(), "{} is not there", path.display());
        eprintln!("history: generated");
        return None;
    };
    eprintln!("history: {}", path.display());
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// Two authors who type at the same time and now and then hear of each other.
fn made_up(seed: u64) -> Value {
    let mut next = random(seed);
    let mut txns: Vec<Value> = Vec::new();
    // Of each author: the newest transaction known of both, and the length of its copy at least.
    let mut heads: [Vec<usize>; 2] = [vec![], vec![]];
    let mut len = [0_usize; 2];
    for index in 0..4_000 {
        let agent = next(2);
        if next(20) == 0 && !heads[1 - agent].is_empty() {
            let other = heads[1 - agent].clone();
            heads[agent].extend(other);
            heads[agent].sort_unstable();
            heads[agent].dedup();
        }
        // Offsets stay within what the author itself has typed, whatever it heard of.
        let at = next(len[agent] + 1);
        let deleted = if next(5) == 0 { next((len[agent] - at).min(4) + 1) } else { 0 };
        let inserted = if deleted > 0 { "" } else { ["a", "bc", "\n"][next(3)] };
        len[agent] = (len[agent] + inserted.len()).saturating_sub(2 * deleted);
        txns.push(json!({ "parents": heads[agent], "agent": agent, "patches": [[at, deleted, inserted]] }));
        heads[agent] = vec![index];
    }
    json!({ "txns": txns })
}

fn txns(trace: &Value) -> Vec<Txn> {
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let list = trace["txns"].as_array().unwrap();
    list.iter()
        .map(|txn| Txn {
            parents: txn["parents"].as_array().unwrap().iter().map(|p| number(p) as usize).collect(),
            agent: txn["agent"].as_u64().unwrap(),
            patches: txn["patches"]
                .as_array()
                .unwrap()
                .iter()
                .map(|patch| (number(&patch[0]), number(&patch[1]), patch[2].as_str().unwrap().to_owned()))
                .collect(),
        })
        .collect()
}

fn clocks(text: &SharedText) -> Value {
    let clocks: BTreeMap<String, u32> =
        text.clocks().iter().map(|(client, clock)| (client.to_string(), *clock)).collect();
    json!(clocks)
}

/// As a document takes it from a connection.
fn receive(text: &mut SharedText, update: &[u8]) {
    let info = inspect(update).unwrap();
    assert!(!info.missing(|client| text.known(client)));
    text.check_room(update, &info, &FileFormat::default(), 1 << 30).unwrap();
    text.receive(update, &info).unwrap();
}

#[test]
fn what_yjs_writes_reads_the_same_here() {
    let seed = seed();
    let folder = tempfile::tempdir().unwrap();
    let (history, out) = (folder.path().join("trace.json"), folder.path().join("streams.json"));
    let trace = trace().unwrap_or_else(|| made_up(seed));
    std::fs::write(&history, trace.to_string()).unwrap();
    node(&["make", &seed.to_string(), out.to_str().unwrap(), history.to_str().unwrap()]);
    let made: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    let stories = made["stories"].as_array().unwrap();
    assert!(stories.len() > 50);
    for story in stories {
        let name = &story["name"];
        let mut live = SharedText::load([]).unwrap();
        let mut log: Vec<Vec<u8>> = Vec::new();
        for update in story["updates"].as_array().unwrap() {
            let update = STANDARD.decode(update.as_str().unwrap()).unwrap();
            receive(&mut live, &update);
            log.push(update);
        }
        assert!(live.text() == story["text"].as_str().unwrap(), "{name}");
        assert_eq!(clocks(&live), story["clocks"], "{name}");
        assert_eq!(live.len_utf16() as usize, live.text().encode_utf16().count(), "{name}");
        let state = live.encode_checked().expect("the state reads back");
        assert_eq!(SharedText::load([state.as_ref()]).unwrap().text(), live.text(), "{name}");
        assert_eq!(SharedText::load(log.iter().map(Vec::as_slice)).unwrap().text(), live.text(), "{name}");
    }
}

fn story(name: &str, text: &SharedText, updates: &[Vec<u8>]) -> Value {
    let updates: Vec<String> = updates.iter().map(|update| STANDARD.encode(update)).collect();
    json!({ "name": name, "updates": updates, "text": text.text(), "clocks": clocks(text) })
}

fn edit(at: u32, delete: u32, insert: &str) -> Edit {
    Edit { at, delete, insert: insert.into() }
}

/// The length of the prefix of `text` that ends at a character at or before `units`.
fn cut(text: &str, units: usize) -> u32 {
    let mut at = 0;
    for c in text.chars() {
        if at + c.len_utf16() > units {
            break;
        }
        at += c.len_utf16();
    }
    u32::try_from(at).unwrap()
}

fn concurrent(number: usize, next: &mut impl FnMut(usize) -> usize) -> Value {
    const PIECES: [&str; 7] = ["a", "word ", "\n", "é", "😀", "fn main() {\n}\n", "漢字"];
    let seed = SharedText::seed(FIRST_SERVER_CLIENT + number as u64, "one\n😀 two\n");
    let mut server = SharedText::load([seed.as_ref()]).unwrap();
    let mut stream = vec![seed.to_vec()];
    let mut authors: Vec<(SharedText, Vec<Vec<u8>>, usize)> =
        (0..2 + next(3)).map(|_| (server.fork().unwrap(), Vec::new(), 1)).collect();
    for _ in 0..50 + next(200) {
        let who = next(authors.len());
        let (text, pending, seen) = &mut authors[who];
        match next(6) {
            0 => {
                for update in pending.drain(..) {
                    receive(&mut server, &update);
                    stream.push(update);
                }
            }
            1 => {
                for update in &stream[*seen..] {
                    text.apply(update).unwrap();
                }
                *seen = stream.len();
            }
            kind => {
                let whole = text.text();
                let len = text.len_utf16() as usize;
                let at = cut(&whole, next(len + 1));
                let end = if kind == 2 { cut(&whole, at as usize + next(12)) } else { at };
                let insert = if kind == 3 { "" } else { PIECES[next(PIECES.len())] };
                for (update, _) in text.edit(&[edit(at, end - at, insert)]).unwrap() {
                    pending.push(update.to_vec());
                }
            }
        }
    }
    for (_, pending, _) in &mut authors {
        for update in pending.drain(..) {
            receive(&mut server, &update);
            stream.push(update);
        }
    }
    for (text, _, seen) in &mut authors {
        for update in &stream[*seen..] {
            text.apply(update).unwrap();
        }
        assert_eq!(text.text(), server.text(), "yrs agrees with itself");
    }
    story(&format!("concurrent {number}"), &server, &stream)
}

fn recorded(trace: &Value) -> Value {
    let txns = txns(trace);
    let agents: BTreeSet<u64> = txns.iter().map(|txn| txn.agent).collect();
    let mut texts: Vec<SharedText> = agents.iter().map(|_| SharedText::load([]).unwrap()).collect();
    // Of what two insert at one place the lower id's comes first, as in the recorded end.
    texts.sort_by_key(SharedText::client);
    let mut authors: BTreeMap<u64, (SharedText, HashSet<usize>)> =
        agents.into_iter().zip(texts).map(|(agent, text)| (agent, (text, HashSet::new()))).collect();
    let mut stream: Vec<Vec<Vec<u8>>> = Vec::new();
    for txn in &txns {
        let (text, seen) = authors.get_mut(&txn.agent).unwrap();
        let mut wanted = Vec::new();
        let mut stack = txn.parents.clone();
        while let Some(index) = stack.pop() {
            if seen.insert(index) {
                wanted.push(index);
                stack.extend(&txns[index].parents);
            }
        }
        wanted.sort_unstable();
        for update in wanted.iter().flat_map(|index| &stream[*index]) {
            text.apply(update).unwrap();
        }
        let mut made = Vec::new();
        for (at, deleted, inserted) in &txn.patches {
            let updates = text.edit(&[edit(*at, *deleted, inserted)]).unwrap();
            made.extend(updates.into_iter().map(|(update, _)| update.to_vec()));
        }
        seen.insert(stream.len());
        stream.push(made);
    }
    let stream: Vec<_> = stream.into_iter().flatten().collect();
    let mut all = SharedText::load([]).unwrap();
    for update in &stream {
        receive(&mut all, update);
    }
    if let Some(end) = trace["endContent"].as_str() {
        assert!(all.text() == end, "the recorded end is another");
    }
    story("recorded", &all, &stream)
}

#[test]
fn what_is_written_here_reads_the_same_in_yjs() {
    let seed = seed();
    let mut next = random(seed);
    let mut stories: Vec<_> = (0..60).map(|number| concurrent(number, &mut next)).collect();
    stories.push(recorded(&trace().unwrap_or_else(|| made_up(seed))));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streams.json");
    std::fs::write(&path, json!({ "stories": stories }).to_string()).unwrap();
    node(&["check", path.to_str().unwrap()]);
}
