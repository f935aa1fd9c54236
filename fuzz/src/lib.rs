//! What is fuzzed: all that reads bytes or text from the network. `tests/it/corpus.rs` includes this file and replays
//! `tests/corpus/` through the same functions, which panic where a promise is broken.

use perch::branch::{Filter, Version};
use perch::crdt::{ApplyError, Awareness, Edit, FIRST_SERVER_CLIENT, FileFormat, Identity, SharedText};
use perch::crdt::{decode, frame, hocuspocus, inspect, normalise};
use perch::session::Keys;
use perch::workspace::RelPath;
use std::sync::LazyLock;

/// Frames of y-websocket clients.
pub fn y_websocket(data: &[u8]) {
    let Ok(messages) = frame::parse(data) else { return };
    assert!(messages.len() <= frame::MAX_MESSAGES);
    let again: Vec<u8> = messages
        .iter()
        .flat_map(|message| match message {
            frame::Message::SyncStep1(vector) => frame::sync_step1(vector).to_vec(),
            frame::Message::SyncStep2(update) => frame::sync_step2(update).to_vec(),
            frame::Message::Update(update) => frame::update(update).to_vec(),
            frame::Message::Awareness(payload) => frame::awareness(payload).to_vec(),
            frame::Message::QueryAwareness => vec![3],
        })
        .collect();
    assert_eq!(frame::parse(&again).as_ref(), Ok(&messages));
}

/// Frames of Hocuspocus clients.
pub fn hocuspocus(data: &[u8]) {
    let Ok(frame) = hocuspocus::parse(data) else { return };
    if let hocuspocus::Frame::Named { name, body } = frame {
        assert!(name.len() < 8_192);
        if let hocuspocus::Body::Message(frame::Message::Update(update)) = body {
            let again = hocuspocus::update(name, update);
            assert!(matches!(hocuspocus::parse(&again), Ok(hocuspocus::Frame::Named { .. })));
        }
    }
}

/// The updates of a small document that the next two work on: seed, typing, deletions, an emoji.
pub static LOG: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut log = vec![SharedText::seed(FIRST_SERVER_CLIENT, "hello\nworld\n").to_vec()];
    let mut text = SharedText::load([log[0].as_slice()]).expect("a seed");
    for (at, delete, insert) in [(5, 0, " wörld"), (0, 2, "😀"), (3, 4, ""), (1, 0, "x\ny"), (4, 0, "!")] {
        for (update, _) in text.edit(&[Edit { at, delete, insert: insert.into() }]).expect("an edit") {
            log.push(update.to_vec());
        }
    }
    log
});

/// Updates from a connection, as a document takes them. The server's random client ids in [`LOG`] are not in stored
/// inputs, the generation's is.
pub fn update(data: &[u8]) {
    let Ok(info) = inspect(data) else { return };
    let mut live = SharedText::load(LOG.iter().map(Vec::as_slice)).expect("our own log");
    if info.missing(|client| live.known(client))
        || live.check_room(data, &info, &FileFormat::default(), 1 << 20).is_err()
    {
        return;
    }
    let mut log: Vec<&[u8]> = LOG.iter().map(Vec::as_slice).collect();
    let part;
    match live.receive(data, &info) {
        Ok(_) => log.push(data),
        Err(ApplyError::Unresolvable(Some((applied, _)))) => {
            part = applied;
            log.push(&part);
        }
        Err(ApplyError::Poisoned) => panic!("yrs panicked, or disagreed with itself"),
        Err(_) => {}
    }
    let text = live.text();
    assert_eq!(SharedText::load(log).expect("the log reads back").text(), text);
    let state = SharedText::load([live.encode_state().as_ref()]).expect("the state reads back");
    assert_eq!(state.clocks(), live.clocks());
    assert_eq!(live.len_utf16() as usize, text.encode_utf16().count());
}

/// State vectors, and the differences they ask for.
pub fn state_vector(data: &[u8]) {
    let Ok(clocks) = perch::crdt::state_vector(data) else { return };
    let mut live = SharedText::load(LOG.iter().map(Vec::as_slice)).expect("our own log");
    inspect(&live.encode_since(&clocks)).expect("our own update");
}

/// Presence from two sessions on three connections, with time passing.
pub fn awareness(data: &[u8]) {
    let identity =
        |session: &str| Identity { session: session.into(), name: session.into(), color: "#112233".into() };
    let mut awareness = Awareness::default();
    for (step, part) in data.split(|byte| *byte == 0xFF).enumerate() {
        let connection = step as u64 % 3;
        let session = identity(["ann", "bob"][usize::from(connection == 2)]);
        let now_ms = i64::try_from(step).expect("short") * 1_500;
        let author = |client| (client == 7).then_some("ann");
        let _ = awareness.apply(connection, &session, part, author, now_ms);
        if step % 5 == 4 {
            awareness.disconnected(connection, now_ms);
        }
        awareness.sweep(now_ms);
        // What is handed on is what a client could have sent.
        if let Some(all) = awareness.encode_all() {
            Awareness::default().apply(9, &session, &all, |_| None, 0).expect("our own payload");
        }
        assert!(awareness.len() <= 3 + step);
    }
}

/// Paths in URLs.
pub fn rel_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(path) = text.parse::<RelPath>() else { return };
    assert_eq!(path.as_str(), text);
    for part in text.split('/') {
        assert!(!matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git"));
    }
    if let Some(folder) = path.parent() {
        assert_eq!(folder.as_str().parse(), Ok(folder.clone()));
    }
}

/// Keys with which the stored inputs were signed.
pub static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.json");
    let stored = br#"[{"id":"0000000000000001","secret":"not-a-secret-only-for-the-fuzz-corpus-00001"}]"#;
    std::fs::write(&path, stored).expect("a file");
    Keys::load(&path).expect("a key")
});

/// Session tokens.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(claims) = KEYS.verify(text) else { return };
    KEYS.sign(&claims).expect("our own key");
}

/// Versions in `If-Match`.
pub fn version(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(version) = Version::parse(text) else { return };
    assert_eq!(Version::from_slice(&version.to_vec()), Some(version));
    assert_eq!(Version::parse(&format!("\"{version}\"")), Some(version));
}

/// Files' bytes.
pub fn file(data: &[u8]) {
    let Ok((text, format)) = decode(data) else { return };
    assert_eq!(format.encode(&text), data);
    let clean = perch::crdt::apply(&text, &normalise(&text));
    assert_eq!(decode(&FileFormat::default().encode(&clean)).expect("text").0, clean);
}

/// Output of terminals, as viewers are shown it.
pub fn terminal(data: &[u8]) {
    let shown = |parts: &[&[u8]]| {
        let (mut filter, mut shown) = (Filter::default(), Vec::new());
        for part in parts {
            filter.feed(part, &mut shown);
        }
        shown
    };
    let whole = shown(&[data]);
    for at in 0..=data.len().min(64) {
        assert_eq!(shown(&[&data[..at], &data[at..]]), whole);
    }
    // A character may be left open at the end.
    let closed = [&whole, &b" "[..]].concat();
    assert_eq!(shown(&[&closed]), closed);
    let orders: [&[u8]; 9] = [
        b"\x1b]52",
        b"\x1b]9;",
        b"\x1b]777",
        b"\x1bP",
        b"\x1b_",
        b"\x1bZ",
        b"\x1b[c",
        b"\x1b[6n",
        b"\x1b[21t",
    ];
    for order in orders {
        assert!(!whole.windows(order.len()).any(|part| part == order), "{order:?}");
    }
}

/// Frames of the SDK's clients.
pub fn sdk_frame(data: &[u8]) {
    let Ok(request) = perch::compat::request(data) else { return };
    assert!(request.method.len() <= data.len());
    let params = &data[request.params];
    if !params.is_empty() {
        // All that was walked over can be built, and is all there is.
        let mut rest = params;
        rmpv::decode::read_value(&mut rest).expect("a value");
        assert!(rest.is_empty());
    }
}
