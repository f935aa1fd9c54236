//! Terminals over real sockets, with real programs on real PTYs.

mod world;

use futures_util::{SinkExt, StreamExt};
use perch::base::Permission::{Read, Write};
use perch::branch::{
    Attachment, Exit, INPUT_WAITING, MAX_CLOSED, MAX_OF_SESSION, NewTerminal, Output, Pty, PtyInput, Size,
    TerminalError, Viewer, WriteGrant,
};
use perch::crdt::frame;
use perch::session::SessionChange;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use world::{OWNER, World, size};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{GetString, ReadTxn, Text, Transact};

const BASH: [&str; 4] = ["bash", "--noprofile", "--norc", "-i"];

#[tokio::test]
async fn late_joiner_sees_what_a_live_one_saw() {
    let world = World::new().await;
    let (ann, eve) = (world.session("ann", Write).await, world.session("eve", Read).await);
    let terminal = world.open(&ann, &BASH);
    let mut live = world.attach(&eve, &terminal, "").await;
    let mut typist = world.attach(&ann, &terminal, "").await;
    for line in ["printf '\\033[31mred\\033[m ünï 雛\\n'", "seq 1 3000", "printf '\\033]52;c;aGk=\\007x\\n'"]
    {
        typist.run(line).await;
    }
    typist.until("at rest", |it| it.at() == terminal.end()).await;
    live.until("all", |it| it.at() == terminal.end()).await;
    let mut late = world.attach(&eve, &terminal, "").await;
    late.until("all", |it| it.at() == terminal.end()).await;
    assert_eq!(late.text(), live.text());
    assert!(late.text().contains("\x1b[31mred\x1b[m ünï 雛\r\n") && late.text().contains("\r\n3000\r\n"));
    assert!(late.said("gap").is_empty());
    // The opener comes back and misses nothing, and sees nothing twice.
    let from = typist.at();
    drop(typist);
    let mut again = world.attach(&ann, &terminal, &format!("&from={from}")).await;
    again.run("echo ba''ck").await;
    assert!(again.text().contains("back\r\n") && !again.text().contains("3000"), "{}", again.text());
}

#[tokio::test]
async fn t1_b1_viewers_reach_nothing() {
    let world = World::new().await;
    let (ann, eve) = (world.session("ann", Write).await, world.session("eve", Read).await);
    let bob = world.session("bob", Write).await;
    let terminal = world.open(&ann, &BASH);
    let path = format!("/{}", terminal.id());
    let mut typist = world.attach(&ann, &terminal, "").await;
    typist.run("stty size").await;
    assert!(typist.text().contains("24 80\r\n"));
    for who in [&eve, &bob] {
        let mut viewer = world.attach(who, &terminal, "").await;
        for _ in 0..3 {
            viewer.type_in("touch evil\r").await;
            viewer.type_in("\x1b[?1;2c\x03\x04").await;
        }
        viewer.until("refused", |it| it.said("refused").len() == 1).await;
        assert_eq!(viewer.said("state")[0]["typing"], false);
        viewer.resize(10, 10).await;
        let mut plain = world.attach(who, &terminal, "&plain=true").await;
        plain.socket.send(Message::Text("touch evil\r".into())).await.unwrap();
        plain.socket.close(None).await.unwrap();
        plain.until_closed().await;
        for (method, body) in
            [("PATCH", json!({"title": "evil"})), ("PATCH", json!({"rows": 5})), ("DELETE", Value::Null)]
        {
            assert_eq!(world.ask(who, method, &path, body).await.0, 403, "{method}");
        }
        let me = json!({"typists": [who.id.as_str()]});
        assert_eq!(world.ask(who, "PATCH", &path, me).await.0, 403);
        // All of it has been looked at: the answer to what came last is here.
        viewer.socket.send(Message::Text("no order".into())).await.unwrap();
        viewer.until_closed().await;
        assert_eq!(viewer.closed, Some(4400));
        assert_eq!(viewer.said("refused").len(), 1, "told once");
        assert!(plain.told.is_empty());
    }
    typist.run("stty size; ls").await;
    assert!(typist.text().contains("24 80\r\n"), "{}", typist.text());
    assert!(!world.folder().join("evil").exists());
    // Controls: the opener does all of that, and whom it lets in types.
    typist.resize(30, 100).await;
    typist.run("stty size; touch good").await;
    assert!(typist.text().contains("30 100\r\n"));
    assert!(world.folder().join("good").exists());
    let let_in = json!({"typists": ["bob", "eve"], "title": "ours", "rows": 31});
    let (status, view) = world.ask(&ann, "PATCH", &path, let_in).await;
    assert_eq!((status, &view["title"], &view["rows"]), (200, &json!("ours"), &json!(31)));
    let mut guest = world.attach(&bob, &terminal, "").await;
    guest.run("touch guest; stty size").await;
    assert!(world.folder().join("guest").exists() && guest.text().contains("31 100\r\n"));
    // Who resized last decides.
    guest.resize(20, 50).await;
    typist.until("told", |it| it.said("state").last().is_some_and(|state| state["cols"] == 50)).await;
    guest.run("stty size").await;
    assert!(guest.text().contains("20 50\r\n"));
    assert_eq!(
        world.ask(&bob, "PATCH", &path, json!({"typists": []})).await.0,
        403,
        "let in, but not the opener"
    );
    guest.resize(0, 50).await;
    guest
        .until("refused", |it| it.said("refused").last().is_some_and(|it| it["code"] == "bad_request"))
        .await;
    // Let in or not, a read session only reads.
    let mut reader = world.attach(&eve, &terminal, "").await;
    reader.type_in("touch evil\r").await;
    reader.until("refused", |it| it.said("refused").len() == 1).await;
    assert_eq!(reader.said("refused")[0]["code"], "forbidden");
    assert!(!world.folder().join("evil").exists());
    assert_eq!(world.ask(&eve, "POST", "", json!({})).await.0, 403);
    let (status, problem) = world.ask(&ann, "POST", "", json!({})).await;
    assert_eq!((status, &problem["code"]), (503, &json!("isolation_unavailable")));
}

#[tokio::test]
async fn a7_b5_a_right_that_was_taken_away_ends_at_the_next_message() {
    let world = World::new().await;
    let (ann, eve) = (world.session("ann", Write).await, world.session("eve", Read).await);
    let terminal = world.open(&ann, &BASH);
    let mut typist = world.attach(&ann, &terminal, "").await;
    typist.run("true").await;
    world.change("ann", SessionChange { permission: Some(Read), ..SessionChange::default() }).await;
    typist.type_in("touch evil\r").await;
    typist.until("refused", |it| it.said("refused").len() == 1).await;
    typist.until("told", |it| it.said("state").last().is_some_and(|state| state["typing"] == false)).await;
    world.change("ann", SessionChange { permission: Some(Write), ..SessionChange::default() }).await;
    typist.run("touch good").await;
    let mut viewer = world.attach(&eve, &terminal, "").await;
    viewer.until("at rest", |it| it.at() == terminal.end()).await;
    world.change("ann", SessionChange { is_revoked: true, ..SessionChange::default() }).await;
    for _ in 0..20 {
        let _ = typist.socket.send(Message::Binary(b"touch evil\r".to_vec().into())).await;
    }
    typist.until_closed().await;
    assert!([4403, 1006].contains(&typist.closed.unwrap()), "{:?}", typist.closed);
    assert!(world.folder().join("good").exists() && !world.folder().join("evil").exists());
    assert!(terminal.is_open(), "with new tokens the session goes on");
    // Its end is that of its terminals.
    world.change("ann", SessionChange { is_ended: true, ..SessionChange::default() }).await;
    viewer.until_closed().await;
    assert_eq!(viewer.said("exit").len(), 1);
    assert!(!terminal.is_open() && world.hub.terminals().get(terminal.id()).is_some());
}

#[tokio::test]
async fn a_typed_command_sees_the_text_on_the_screen() {
    let world = World::new().await;
    let ann = world.session("ann", Write).await;
    let file = world.folder().join("a.txt");
    std::fs::write(&file, "old\n").unwrap();
    let url =
        format!("ws://{}/v1/branches/{}/docs/a.txt?token={}", world.address, world.id, world.token(&ann));
    let (mut editor, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let doc = yrs::Doc::with_client_id(7);
    let text = doc.get_or_insert_text("content");
    let terminal = world.open(&ann, &BASH);
    let mut typist = world.attach(&ann, &terminal, "").await;
    typist.run("true").await;
    let mut only_in_the_document = 0;
    for round in 0..20 {
        // Synced, and what was sent before is in the document.
        let vector = doc.transact().state_vector().encode_v1();
        editor.send(Message::Binary(frame::sync_step1(&vector))).await.unwrap();
        'synced: loop {
            let Message::Binary(bytes) = editor.next().await.unwrap().unwrap() else { continue };
            for message in frame::parse(&bytes).unwrap() {
                let (update, is_last) = match message {
                    frame::Message::SyncStep2(update) => (update, true),
                    frame::Message::Update(update) => (update, false),
                    _ => continue,
                };
                doc.transact_mut().apply_update(yrs::Update::decode_v1(update).unwrap()).unwrap();
                if is_last {
                    break 'synced;
                }
            }
        }
        if round > 0 {
            only_in_the_document +=
                usize::from(!std::fs::read_to_string(&file).unwrap().contains(&format!("<{}>", round - 1)));
            typist.run("cat a.txt").await;
            let on_screen = text.get_string(&doc.transact()).replace('\n', "\r\n");
            assert!(typist.text().contains(&on_screen), "{on_screen:?} {:?}", typist.text());
        }
        let before = doc.transact().state_vector();
        text.insert(&mut doc.transact_mut(), 0, &format!("<{round}>\n"));
        let update = doc.transact().encode_diff_v1(&before);
        editor.send(Message::Binary(frame::update(&update))).await.unwrap();
    }
    assert!(only_in_the_document > 5, "the barrier was hardly needed: {only_in_the_document}");
}

#[tokio::test]
async fn exit_code_and_output_are_kept() {
    let world = World::new().await;
    let ann = world.session("ann", Write).await;
    let mut events = world.hub.events().listen(None).unwrap();
    for (command, code, signal) in [
        ("printf 'last wörds'; exit 7", Some(7), None),
        ("kill -9 $$", None, Some(9)),
        ("sleep 60 & exit 3", Some(3), None),
    ] {
        let terminal = world.open(&ann, &["bash", "-c", command]);
        let mut viewer = world.attach(&ann, &terminal, "").await;
        viewer.until_closed().await;
        let mut late = world.attach(&ann, &terminal, "").await;
        late.until_closed().await;
        assert_eq!(late.output, viewer.output);
        assert_eq!(late.closed, Some(1000));
        assert_eq!(
            (&late.said("exit")[0]["code"], &late.said("exit")[0]["signal"]),
            (&json!(code), &json!(signal))
        );
        let (_, view) = world.ask(&ann, "GET", &format!("/{}", terminal.id()), Value::Null).await;
        assert_eq!((&view["exit"]["code"], &view["exit"]["signal"]), (&json!(code), &json!(signal)));
        if code == Some(7) {
            assert_eq!(late.text(), "last wörds");
        }
        let mut told = Vec::new();
        while told.len() < 2 {
            let json: Value = serde_json::from_str(&events.next().await.unwrap().json).unwrap();
            if json["type"].as_str().unwrap().starts_with("terminal.") {
                told.push(json);
            }
        }
        assert_eq!((&told[0]["type"], &told[0]["session"]), (&json!("terminal.opened"), &json!("ann")));
        assert_eq!((&told[1]["type"], &told[1]["code"]), (&json!("terminal.closed"), &json!(code)));
        assert_eq!(told[1]["terminal"], view["id"]);
    }
    // One that runs is hung up and kept; asked again, it is forgotten.
    let terminal = world.open(&ann, &BASH);
    let path = format!("/{}", terminal.id());
    let mut viewer = world.attach(&ann, &terminal, "").await;
    viewer.sees("$ ").await;
    assert!(!world.hub.is_quiet(), "a running program holds the branch open");
    assert_eq!(world.ask(&ann, "DELETE", &path, Value::Null).await.0, 204);
    viewer.until_closed().await;
    assert_eq!(viewer.said("exit")[0]["signal"], 1);
    assert!(world.hub.is_quiet());
    assert_eq!(world.ask(&ann, "GET", &path, Value::Null).await.0, 200);
    assert_eq!(world.ask(&ann, "DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(world.ask(&ann, "GET", &path, Value::Null).await.0, 404);
    let (_, list) = world.ask(&ann, "GET", "", Value::Null).await;
    assert_eq!(list["terminals"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn full_screen_programs_draw_through_it() {
    let world = World::new().await;
    let (ann, eve) = (world.session("ann", Write).await, world.session("eve", Read).await);
    std::fs::write(world.folder().join("a.txt"), "first line\nsecond line\n").unwrap();
    let vim = world.open(&ann, &["vim", "-u", "NONE", "-N", "-i", "NONE", "a.txt"]);
    let mut typist = world.attach(&ann, &vim, "").await;
    typist.sees("second line").await;
    let mut viewer = world.attach(&eve, &vim, "").await;
    viewer.sees("second line").await;
    typist.resize(40, 120).await;
    typist.type_in("Gotyped in vim\x1b:w\r").await;
    viewer.sees("typed in vim").await;
    // A line that only the larger window has.
    viewer.sees("\x1b[39;1H~").await;
    typist.type_in(":q\r").await;
    viewer.until_closed().await;
    assert_eq!(viewer.said("exit")[0]["code"], 0);
    let written = std::fs::read_to_string(world.folder().join("a.txt")).unwrap();
    assert_eq!(written, "first line\nsecond line\ntyped in vim\n");
    let top = world.open(&ann, &["top", "-d", "1"]);
    let mut viewer = world.attach(&eve, &top, "").await;
    let count = |it: &world::Client| it.text().matches("load average").count();
    viewer.until("drawn", |it| count(it) >= 1).await;
    let mut typist = world.attach(&ann, &top, "").await;
    typist.resize(10, 60).await;
    viewer.until("drawn anew", |it| count(it) >= 2).await;
    typist.type_in("q").await;
    viewer.until_closed().await;
    assert_eq!(viewer.said("exit")[0]["code"], 0);
}

#[tokio::test]
async fn questions_are_answered_once_and_old_ones_never() {
    let world = World::new().await;
    let (ann, bob) = (world.session("ann", Write).await, world.session("bob", Write).await);
    // Asks, then shows what it gets.
    let script = "stty raw -echo; printf 'ask\\033[c\\033[6nready'; exec cat -v";
    let terminal = world.open(&ann, &["bash", "-c", script]);
    let path = format!("/{}", terminal.id());
    assert_eq!(world.ask(&ann, "PATCH", &path, json!({"typists": ["bob"]})).await.0, 200);
    // First of all, and yet not the opener.
    let mut bob = world.attach(&bob, &terminal, "").await;
    bob.sees("ready").await;
    bob.type_in("\x1b[?1;2cB1").await;
    bob.sees("^[[?1;2cB1").await;
    let mut ann_too = world.attach(&ann, &terminal, "").await;
    ann_too.sees("ready").await;
    assert!(ann_too.text().contains("askready"), "a replay asks nothing: {:?}", ann_too.text());
    ann_too.output.clear();
    bob.type_in("\x1b[?1;2c\x1b[12;40R\x1b]11;rgb:0/0/0\x07B2").await;
    ann_too.sees("B2").await;
    ann_too.type_in("\x1b[?1;2c\x1b[12;40RA1").await;
    ann_too.sees("A1").await;
    assert_eq!(ann_too.text(), "B2^[[?1;2c^[[12;40RA1");
    // The opener comes back before its old socket is known to be gone.
    let mut back = world.attach(&ann, &terminal, "").await;
    back.sees("A1").await;
    ann_too.type_in("\x1b[?1;2cA2").await;
    back.sees("A2").await;
    back.type_in("\x1b[?6cA3").await;
    back.sees("A3").await;
    assert!(back.text().ends_with("A1A2^[[?6cA3"), "{:?}", back.text());
}

#[tokio::test]
async fn what_is_asked_of_a_terminal_is_looked_at() {
    let world = World::new().await;
    let (ann, _eve) = (world.session("ann", Write).await, world.session("eve", Read).await);
    for bad in [
        json!({"command": []}),
        json!({"command": [""]}),
        json!({"command": ["a\0"]}),
        json!({"command": vec!["x"; 257]}),
        json!({"command": ["x".repeat(40_000)]}),
        json!({"cwd": "../up"}),
        json!({"cwd": "/etc"}),
        json!({"rows": 0}),
        json!({"cols": 1_001}),
        json!({"cols": 70_000}),
        json!({"title": ""}),
        json!({"title": "a\u{1b}b"}),
        json!({"env": {"A=B": ""}}),
        json!({"env": {"1A": ""}}),
        json!({"env": {"A": "\0"}}),
        json!({"other": 1}),
    ] {
        let (status, problem) = world.ask(&ann, "POST", "", bad.clone()).await;
        assert_eq!(status, 400, "{bad} {problem}");
    }
    let good = json!({"command": ["make", "-j"], "cwd": "src", "rows": 50, "cols": 200, "title": "build",
        "env": {"CI": "1"}, "session": "ann"});
    assert_eq!(world.ask(&ann, "POST", "", good.clone()).await.0, 503);
    // API tokens say for whom; nobody opens one for another.
    assert_eq!(world.ask_with(OWNER, "POST", "", good).await.0, 503);
    for (session, status) in
        [(Value::Null, 400), (json!("nobody"), 404), (json!("eve"), 403), (json!("a/b"), 400)]
    {
        let asked = world.ask_with(OWNER, "POST", "", json!({"session": session})).await;
        assert_eq!(asked.0, status, "{session}");
    }
    assert_eq!(world.ask(&ann, "POST", "", json!({"session": "eve"})).await.0, 403);
    // And may do what the opener may.
    let terminal = world.open(&ann, &BASH);
    let path = format!("/{}", terminal.id());
    let (status, view) = world.ask_with(OWNER, "PATCH", &path, json!({"title": "theirs"})).await;
    assert_eq!((status, &view["title"], &view["session"]), (200, &json!("theirs"), &json!("ann")));
    assert_eq!(world.ask_with(OWNER, "DELETE", &path, Value::Null).await.0, 204);
    let many: Vec<_> = (0..101).map(|number| format!("s{number}")).collect();
    assert_eq!(world.ask(&ann, "PATCH", &path, json!({"typists": many})).await.0, 400);
    for absent in ["/tm_00000000000000000000000000000000", "/x"] {
        assert_eq!(world.ask(&ann, "GET", absent, Value::Null).await.0, 404);
    }
}

/// A PTY whose other ends the test holds.
fn held() -> (Pty, mpsc::Receiver<PtyInput>, mpsc::Sender<bytes::Bytes>, oneshot::Sender<Exit>) {
    let (input, typed) = mpsc::channel(INPUT_WAITING);
    let (out, output) = mpsc::channel(4);
    let (ended, exit) = oneshot::channel();
    (Pty { input, output, exit, number: None }, typed, out, ended)
}

#[tokio::test]
async fn c5_a_slow_viewer_holds_nobody_up_and_finds_its_place_again() {
    let world = World::new().await;
    let (ann, eve) = (world.session("ann", Write).await, world.session("eve", Read).await);
    let (pty, _typed, out, _ended) = held();
    let terminal = world.add(&ann, pty);
    let mut slow = world.attach(&eve, &terminal, "").await;
    let mut plain = world.attach(&eve, &terminal, "&plain=true").await;
    // More than sockets, kernel and ring can hold; nobody reads.
    let mut written = 0;
    let line = format!("{}\r\n", "雛".repeat(1_000));
    let write = async {
        while written < 40_000_000 {
            out.send(line.repeat(10).into()).await.unwrap();
            written += line.len() as u64 * 10;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), write).await.expect("the program is not held up");
    out.send("the end".into()).await.unwrap();
    slow.sees("the end").await;
    slow.until("its place", |it| it.at() == written + 7).await;
    let gaps = slow.said("gap");
    assert!(!gaps.is_empty());
    let missed: u64 =
        gaps.iter().map(|gap| gap["offset"].as_u64().unwrap() - gap["from"].as_u64().unwrap()).sum();
    assert_eq!(slow.output.len() as u64 + missed, written + 7);
    for frame in &slow.frames {
        assert!(std::str::from_utf8(frame).is_ok(), "a character was cut");
    }
    plain.sees("the end").await;
    assert!(plain.text().contains("\x1bc") && plain.told.is_empty());
    let mut behind = world.attach(&eve, &terminal, "&from=5").await;
    behind.sees("the end").await;
    assert_eq!(behind.said("gap")[0]["from"], 5);
}

#[tokio::test]
async fn characters_arrive_whole() {
    let world = World::new().await;
    let ann = world.session("ann", Write).await;
    let (pty, _typed, out, ended) = held();
    let terminal = world.add(&ann, pty);
    let mut viewer = world.attach(&ann, &terminal, "").await;
    let mut whole = String::new();
    for character in "ä€😀".chars() {
        whole.push(character);
        for byte in character.to_string().bytes() {
            out.send(vec![byte].into()).await.unwrap();
        }
        viewer.sees(&whole).await;
    }
    viewer.sees("😀").await;
    ended.send(Exit::Lost).unwrap();
    drop(out);
    viewer.until_closed().await;
    assert_eq!(viewer.text(), "ä€😀");
    assert!(viewer.frames.iter().all(|frame| std::str::from_utf8(frame).is_ok()));
}

#[tokio::test]
async fn t1_only_viewers_are_spared_orders() {
    let world = World::new().await;
    let (ann, eve) = (world.session("ann", Write).await, world.session("eve", Read).await);
    let (pty, _typed, out, _ended) = held();
    let terminal = world.add(&ann, pty);
    out.send("old\x1b[c\x1b]52;c;b2xk\x07 half\x1b]52;c;".into()).await.unwrap();
    let mut viewer = world.attach(&eve, &terminal, "").await;
    viewer.sees("half").await;
    let mut typist = world.attach(&ann, &terminal, "").await;
    typist.sees("half").await;
    // What began before is filtered to its end; what comes after is as the program wrote it.
    out.send("b2xk\x07new\x1b[c\x1b]52;c;bmV3\x07end".into()).await.unwrap();
    typist.sees("end").await;
    viewer.sees("end").await;
    assert_eq!(viewer.text(), "old halfnewend");
    assert_eq!(typist.text(), "old halfnew\x1b[c\x1b]52;c;bmV3\x07end");
}

#[tokio::test]
async fn terminals_are_bounded_and_a_full_pty_makes_only_its_typist_wait() {
    let world = World::new().await;
    let (ann, eve) = (world.session("ann", Write).await, world.session("eve", Read).await);
    let mut kept = Vec::new();
    for _ in 0..MAX_OF_SESSION {
        let (pty, typed, out, ended) = held();
        kept.push((world.add(&ann, pty), typed, out, ended));
    }
    let (pty, mut typed, ..) = held();
    let new =
        NewTerminal { opener: ann.id.clone(), title: "t".into(), size: Size::default(), is_pinned: false };
    assert_eq!(world.hub.terminals().add(new, pty).unwrap_err(), TerminalError::TooManyOfSession);
    assert_eq!(typed.recv().await, None, "hung up");
    assert_eq!(world.ask(&ann, "POST", "", json!({})).await.1["code"], "too_many_terminals");
    // Nothing takes the input.
    let (first, mut typed, out, ended) = kept.remove(0);
    let mut typist = world.attach(&ann, &first, "").await;
    for _ in 0..INPUT_WAITING * 2 {
        typist.type_in("x").await;
    }
    let mut viewer = world.attach(&eve, &first, "").await;
    out.send("output".into()).await.unwrap();
    viewer.sees("output").await;
    typist.sees("output").await;
    assert_eq!(world.ask(&ann, "DELETE", &format!("/{}", first.id()), Value::Null).await.0, 204);
    let mut taken = Vec::new();
    while let Some(input) = typed.recv().await {
        taken.push(input);
    }
    assert!(taken.len() >= INPUT_WAITING && taken.contains(&PtyInput::Bytes("x".into())), "then its end");
    drop(ended);
    drop(out);
    viewer.until_closed().await;
    assert!(viewer.said("exit")[0]["code"].is_null());
    // Closed ones are kept, the oldest make room.
    for _ in 0..=MAX_CLOSED {
        let (pty, _typed, out, ended) = held();
        let terminal = world.add(&ann, pty);
        ended.send(Exit::Code(0)).unwrap();
        drop(out);
        while terminal.is_open() {
            tokio::task::yield_now().await;
        }
    }
    let count = || world.hub.terminals().list().iter().filter(|terminal| !terminal.is_open()).count();
    while count() > MAX_CLOSED {
        tokio::task::yield_now().await;
    }
    assert_eq!(count(), MAX_CLOSED);
    assert!(world.hub.terminals().get(first.id()).is_none());
    assert!(Size::new(0, 80).is_err() && Size::new(501, 80).is_err() && Size::new(24, 1_001).is_err());
    assert_eq!(size(500, 1_000).cols(), 1_000);
    drop((kept, typist, viewer, first));
    assert!(world.shut_down().await, "nothing is left behind");
}

#[tokio::test]
async fn a_closed_terminal_runs_again_and_its_output_goes_on() {
    let world = World::new().await;
    let ann = world.session("ann", Write).await;
    let (pty, _typed, out, ended) = held();
    let terminal = world.add(&ann, pty);
    out.send("first\n".into()).await.unwrap();
    let (pty, mut typed, ..) = held();
    assert_eq!(world.hub.terminals().restart(&terminal, pty), Err(TerminalError::StillOpen));
    assert_eq!(typed.recv().await, None, "hung up");
    ended.send(Exit::Code(1)).unwrap();
    drop(out);
    terminal.watch().wait_for(|shape| shape.exit.is_some()).await.unwrap();
    let (pty, mut typed, out, ended) = held();
    world.hub.terminals().restart(&terminal, pty).unwrap();
    assert!(terminal.is_open() && terminal.began_at() == 6);
    out.send("second\n".into()).await.unwrap();
    let mut typist = world.attach(&ann, &terminal, "").await;
    typist.sees("second").await;
    assert_eq!(typist.text(), "first\nsecond\n", "the same terminal");
    typist.type_in("x").await;
    assert_eq!(typed.recv().await, Some(PtyInput::Bytes("x".into())));
    ended.send(Exit::Code(0)).unwrap();
    drop(out);
    typist.until_closed().await;
    assert_eq!(typist.said("exit")[0]["code"], 0);
    world.hub.terminals().remove(terminal.id(), &WriteGrant::for_api_token()).unwrap();
    let (pty, ..) = held();
    assert_eq!(
        world.hub.terminals().restart(&terminal, pty),
        Err(TerminalError::NotFound),
        "it was forgotten"
    );
}

#[tokio::test]
async fn pinned_terminals_make_no_room_and_keep_the_end_of_their_output() {
    let world = World::new().await;
    let ann = world.session("ann", Write).await;
    let close = async |is_pinned| {
        let (pty, _typed, out, ended) = held();
        let new = NewTerminal { opener: ann.id.clone(), title: "t".into(), size: Size::default(), is_pinned };
        let terminal = world.hub.terminals().add(new, pty).unwrap();
        for _ in 0..32 {
            out.send(vec![b'x'; 32 * 1024].into()).await.unwrap();
        }
        ended.send(Exit::Code(0)).unwrap();
        drop(out);
        terminal.watch().wait_for(|shape| shape.exit.is_some()).await.unwrap();
        terminal
    };
    let pinned = close(true).await;
    let first = close(false).await;
    for _ in 0..MAX_CLOSED {
        close(false).await;
    }
    let kept = world.hub.terminals().list();
    assert!(world.hub.terminals().get(first.id()).is_none());
    // A mebibyte each: the bound of all of them is met before their number.
    assert_eq!(kept.len(), 1 + 32, "and the pinned one");
    let mut viewer = world.attach(&ann, &pinned, "").await;
    viewer.until_closed().await;
    let len = viewer.text().len();
    assert!((256 * 1024..=320 * 1024).contains(&len), "{len}");
}

#[tokio::test]
async fn a_program_waits_for_who_reads_all_of_it_and_for_nobody_that_is_gone() {
    let world = World::new().await;
    let ann = world.session("ann", Write).await;
    let (pty, _typed, out, ended) = held();
    let terminal = world.add(&ann, pty);
    let viewer = || Viewer { member: world.hub.members().enter(&ann), token: Write, epoch: ann.epoch };
    let attachment = Attachment::new(Arc::clone(&world.hub), Arc::clone(&terminal), viewer(), 1_001);
    let mut reader = attachment.live_reader();
    let chunk = vec![b'x'; 64 * 1024];
    let program = world.tasks.spawn(async move {
        for _ in 0..128 {
            out.send(chunk.clone().into()).await.unwrap();
        }
    });
    // Until it waits: what is kept is no more than what was read and the bound.
    let mut read = 0_u64;
    while read < 6 << 20 {
        match reader.next(&attachment).await {
            Output::Bytes(bytes) => read += bytes.len() as u64,
            Output::At(_) => {}
            other => panic!("{other:?}"),
        }
        assert!(terminal.end() <= read + (1 << 20) + 64 * 1024, "{} of {}", terminal.end(), read);
    }
    assert!(!program.is_finished());
    drop(reader);
    program.await.unwrap();
    ended.send(Exit::Code(0)).unwrap();
    terminal.watch().wait_for(|shape| shape.exit.is_some()).await.unwrap();
    assert_eq!(terminal.end(), 8 << 20, "all of it");
}

#[tokio::test]
async fn a_replay_and_what_follows_are_the_whole_output() {
    let world = World::new().await;
    let ann = world.session("ann", Write).await;
    let (pty, _typed, out, ended) = held();
    let terminal = world.add(&ann, pty);
    let program = world.tasks.spawn(async move {
        for number in 0..2_000 {
            out.send(format!("line {number} ä\n").into()).await.unwrap();
            tokio::task::yield_now().await;
        }
        ended.send(Exit::Code(0)).unwrap();
    });
    let viewer = || Viewer { member: world.hub.members().enter(&ann), token: Write, epoch: ann.epoch };
    let expected: String = (0..2_000).map(|number| format!("line {number} ä\n")).collect();
    let mut cuts = 0;
    while terminal.is_open() || cuts == 0 {
        let attachment =
            Attachment::new(Arc::clone(&world.hub), Arc::clone(&terminal), viewer(), 2_000 + cuts);
        let mut reader = attachment.reader(Some(terminal.began_at()));
        let mut seen = reader.replay(&attachment).to_vec();
        loop {
            match reader.next(&attachment).await {
                Output::Bytes(bytes) => seen.extend_from_slice(&bytes),
                Output::At(_) => {}
                Output::Ended(_) => break,
                Output::Gap { .. } => panic!("a gap"),
            }
            if seen.len() > expected.len() / 2 && terminal.is_open() && cuts < 3 {
                break;
            }
        }
        assert!(expected.starts_with(std::str::from_utf8(&seen).unwrap()), "nothing twice, nothing missing");
        cuts += 1;
    }
    program.await.unwrap();
}
