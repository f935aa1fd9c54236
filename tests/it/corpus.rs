//! Stored inputs, and seeded mutations of them, through the functions that `fuzz/` fuzzes. `PERCH_SEED` replays a run;
//! `PERCH_WRITE_CORPUS=1` writes the inputs anew.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "there it is a crate of its own")]
mod targets;

use perch::base::{BranchId, Permission};
use perch::branch::Version;
use perch::crdt::{Edit, FIRST_SERVER_CLIENT, SharedText, frame, hocuspocus, inspect};
use perch::session::Claims;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 11] = [
    ("y_websocket", targets::y_websocket),
    ("hocuspocus", targets::hocuspocus),
    ("update", targets::update),
    ("state_vector", targets::state_vector),
    ("awareness", targets::awareness),
    ("rel_path", targets::rel_path),
    ("token", targets::token),
    ("version", targets::version),
    ("file", targets::file),
    ("terminal", targets::terminal),
    ("sdk_frame", targets::sdk_frame),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn corpus(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
        })
        .collect()
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

#[test]
fn every_stored_input_keeps_the_promises() {
    write_if_asked();
    let mut bytes = 0;
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name}");
        for (file, input) in inputs {
            eprintln!("{name}/{file}");
            bytes += input.len();
            target(&input);
        }
    }
    assert!(bytes < 200_000, "{bytes}");
    // They reach what they are for.
    for (file, input) in corpus("update") {
        assert!(inspect(&input).is_ok(), "{file}");
    }
    let valid = String::from_utf8(corpus("token")["valid"].clone()).unwrap();
    assert!(targets::KEYS.verify(&valid).is_ok());
}

#[test]
fn mutations_of_stored_inputs_keep_the_promises() {
    let given = std::env::var("PERCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    eprintln!("PERCH_SEED={seed}");
    let mut next = random(seed);
    for (name, target) in TARGETS {
        let inputs: Vec<_> = corpus(name).into_values().collect();
        for _ in 0..3_000 {
            let mut input = inputs[next(inputs.len())].clone();
            for _ in 0..=next(4) {
                let at = next(input.len() + 1);
                match next(5) {
                    0 => input.insert(at, u8::try_from(next(256)).unwrap()),
                    1 => input.truncate(at),
                    2 => {
                        let other = &inputs[next(inputs.len())];
                        let from = next(other.len() + 1);
                        input.truncate(at);
                        input.extend(&other[from..]);
                    }
                    _ if at < input.len() && next(2) == 0 => input[at] = u8::try_from(next(256)).unwrap(),
                    _ if at < input.len() => input[at] ^= 1 << next(8),
                    _ => {}
                }
            }
            if let Err(panic) = std::panic::catch_unwind(|| target(&input)) {
                eprintln!("{name}: {input:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Inputs made by our own code, small ones; the corpus of a fuzzing run may be added by hand.
fn write_if_asked() {
    if std::env::var_os("PERCH_WRITE_CORPUS").is_none() {
        return;
    }
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = folder().join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    // Under the generation's own id and small ones: the ids in the log are random.
    let seed = SharedText::seed(FIRST_SERVER_CLIENT, "hello\nworld\n");
    let mut author = SharedText::load([seed.as_ref()]).unwrap();
    let base: Vec<_> = author.clocks().iter().map(|(client, clock)| (*client, *clock)).collect();
    let edits = [(3, 2, "typed"), (0, 0, "😀"), (9, 4, ""), (2, 1, "a\r\nb")];
    for (number, (at, delete, insert)) in edits.into_iter().enumerate() {
        let updates = author.edit(&[Edit { at, delete, insert: insert.into() }]).unwrap();
        write("update", &format!("edit-{number}"), &updates[0].0);
    }
    let whole = author.encode_since(&base);
    write("update", "whole", &author.encode_state());
    write("update", "since", &whole);
    write("update", "empty", &[0, 0]);
    write(
        "update",
        "values",
        b"\x01\x02\x07\x00\x28\x01\x04meta\x03key\x01\x7d\x05\xa8\x07\x00\x01\x77\x03abc\x00",
    );
    write("update", "types", b"\x01\x02\x07\x00\x27\x01\x04meta\x03map\x01\x28\x00\x07\x00\x01k\x01\x78\x00");
    let mut beside = b"\x01\x02\x07\x00\xc4".to_vec();
    let id = |clock: u8| [0x80, 0x80, 0x80, 0x80, 0x10, clock];
    beside.extend([&id(4)[..], &id(5), b"\x01X\x84\x07\x00\x02YZ\x01"].concat());
    beside.extend([&id(0)[..5], &[2, 2, 1, 5, 3]].concat());
    write("update", "beside", &beside);

    let vector = author.state_vector();
    write("state_vector", "whole", &vector);
    write("state_vector", "empty", &[0]);
    write("state_vector", "foreign", &[2, 7, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 3]);

    let ann = b"\x01\x05\x01\x17{\"user\":{\"name\":\"ann\"}}";
    let leaves = b"\x01\x05\x02\x04null";
    let bob = b"\x01\x06\x01\x02{}";
    write("awareness", "comes", ann);
    write("awareness", "late-relay", &[ann.as_slice(), leaves, ann, bob].join(&0xFF));
    write("awareness", "several", b"\x03\x05\x01\x02{}\x06\x01\x04null\x07\x09\x0d{\"cursor\":[]}");

    for (name, bytes) in [
        ("step1", frame::sync_step1(&vector)),
        ("step2", frame::sync_step2(&whole)),
        ("update", frame::update(&whole)),
        ("awareness", frame::awareness(ann)),
    ] {
        write("y_websocket", name, &bytes);
    }
    write(
        "y_websocket",
        "several",
        &[frame::sync_step1(&vector).as_ref(), &[3], &frame::awareness(bob)].concat(),
    );
    for (name, bytes) in [
        ("step1", hocuspocus::sync_step1("src/a.rs", &vector)),
        ("update", hocuspocus::update("src/a.rs\0key", &whole)),
        ("awareness", hocuspocus::awareness("é", ann)),
        ("ping", hocuspocus::ping()),
    ] {
        write("hocuspocus", name, &bytes);
    }
    write("hocuspocus", "token", b"\x01a\x02\x00\x05token\x054.8.0");
    write("hocuspocus", "close", b"\x01a\x07\x00");

    for (name, frame) in [
        ("write", b"\x83\xa6method\xacfs/writeFile\xa6params\x84\xa4path\xa1a\xa7content\xc4\x02Hi\xa6create\xc3\xa9overwrite\xc3\xa2id\x04" as &[u8]),
        ("join", b"\x83\xa6method\xabclient/join\xa6params\x83\xaaclientInfo\x82\xafprotocolVersion\xa90.367.10\xa5appId\xa3sdk\xadasyncProgress\xc2\xadsubscriptions\x80\xa2id\x00" as &[u8]),
        ("operation", b"\x83\xa6method\xb6file/documentOperation\xa6params\x83\xa2id\xa1a\xa9operation\x93\xa5HELLO\xfb\x07\xa8revision\x00\xa2id\xcd\x01\x00" as &[u8]),
        ("nil", b"\x83\xa2id\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xa6method\xaasetup/init\xa6params\xc0" as &[u8]),
        ("types", b"\x83\xa2id\x01\xa6method\xa1x\xa6params\xde\x00\x02\xa1a\xdc\x00\x03\xca?\x80\x00\x00\xd1\xff\x00\xd9\x01y\xa1b\xdf\x00\x00\x00\x00" as &[u8]),
    ] {
        write("sdk_frame", name, frame);
    }

    for (name, path) in [
        ("plain", "src/main.rs"),
        ("odd", "a b/é\u{301}/.gitignore"),
        ("git", "x/.GIT/config"),
        ("up", "a/../b"),
        ("short-name", "git~1/config"),
    ] {
        write("rel_path", name, path.as_bytes());
    }
    let version = format!("\"{}\"", Version::of(b"text"));
    write("version", "quoted", version.as_bytes());
    write("version", "bare", version.trim_matches('"').as_bytes());
    write("version", "weak", format!("W/{version}").as_bytes());

    let claims = Claims {
        branch: "br_0123456789abcdef0123456789abcdef".parse().unwrap_or_else(|_| BranchId::generate()),
        session: "ann".parse().unwrap(),
        permission: Permission::Write,
        epoch: 1,
        exp: i64::MAX / 2,
    };
    let token = targets::KEYS.sign(&claims).unwrap();
    write("token", "valid", token.expose_secret().as_bytes());
    let expired = targets::KEYS.sign(&Claims { exp: 1_000, ..claims }).unwrap();
    write("token", "expired", expired.expose_secret().as_bytes());
    write("token", "none", b"eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTl9.");

    write("file", "plain", b"one\ntwo\n");
    write("file", "mixed", b"\xEF\xBB\xBFa\r\nb\nc\rd");
    write("file", "latin1", b"caf\xE9");

    write(
        "terminal",
        "orders",
        b"a\x1b]52;c;aGk=\x07\x1b[c\x1b[6n\x1b[21t\x1bP$qm\x1b\\\x1b_Gi=1;\x1b\\\x1bZ\x05b",
    );
    write("terminal", "links", b"\x1b]8;;file:///x\x07a\x1b]8;id=1;https://a.b/\x1b\\b\x1b]8;;\x1b\\");
    write("terminal", "draws", "\x1b[?1049h\x1b[2J\x1b[1;31mré\x1b[m\x1b]0;t\x07\x1b(B雛\r\n".as_bytes());
    write("terminal", "controls", b"\x9b6n\xc2\x9d52;c;x\x07\xe2\x80\xae\x1b\x9bc\xe0\x82\x9b\xe2\x1b[m");
}
