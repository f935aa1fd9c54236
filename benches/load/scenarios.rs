//! What is measured.

use super::Target;
use super::crowd::{Client, Crowd, Writer, join};
use super::pen::{known, page};
use super::server::Server;
use super::socket::{Sender, put};
use super::wire::{Heard, Protocol};
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

fn seconds(of: f64) -> Duration {
    Duration::from_secs_f64(of)
}

/// Types a key every so often until `end`.
async fn type_on(mut writer: Writer, begin: Instant, rate: f64, end: Instant) -> u32 {
    let mut due = begin;
    while due < end {
        tokio::time::sleep_until(due.into()).await;
        let key = writer.wire.update(&writer.pen.key());
        writer.tally.sends(writer.number);
        if !writer.sender.send(&key).await {
            break;
        }
        due += seconds(1.0 / rate);
    }
    writer.pen.clock
}

pub(super) async fn typing(target: &Target, clients: usize, writers: usize, rate: f64, long: f64) -> Value {
    let server = Server(target.pid);
    let crowd = Crowd::gather(target, clients, writers).await;
    // What joining left to do is done.
    tokio::time::sleep(seconds(1.0)).await;
    let (cpu, began) = (server.cpu(), Instant::now());
    let end = began + seconds(long);
    let typists = crowd.writers().map(|writer| {
        let begin = began + seconds(writer.number as f64 / (rate * writers as f64));
        type_on(writer, begin, rate, end)
    });
    let keys: u32 = join_all(typists).await.iter().sum();
    let all = u64::from(keys) * (clients as u64 - 1);
    while crowd.tally.deliveries.get() < all {
        tokio::time::sleep(seconds(0.01)).await;
    }
    let cpu = server.cpu_since(cpu);
    json!({
        "deliveries": all,
        "cpu_us_per_delivery": cpu.as_secs_f64() * 1e6 / all as f64,
        "deliveries_per_cpu_second": all as f64 / cpu.as_secs_f64(),
        "p50_ms": crowd.tally.percentile_ms(0.5),
        "p99_ms": crowd.tally.percentile_ms(0.99),
        "rss_mb": server.resident() / 1e6,
    })
}

/// Sends keys, at most `window` that not all others have seen (and Hocuspocus has not acknowledged), until told that
/// there are enough.
async fn flood(writer: Writer, window: u32, is_enough: impl Fn(u32) -> bool) -> u32 {
    let Writer { tally, wire, sender, number: writer, mut pen } = writer;
    let has_answers = wire.protocol == Protocol::Hocuspocus;
    let mut frames = Vec::new();
    loop {
        let done = tally.done[writer].get();
        let done = if has_answers { done.min(tally.taken[writer].get()) } else { done };
        while pen.clock < done + window && !is_enough(pen.clock) {
            put(&mut frames, &wire.update(&pen.key()));
            tally.sends(writer);
        }
        if !frames.is_empty() {
            assert!(sender.write(&frames).await, "the server takes keys");
            frames.clear();
        } else if done == pen.clock {
            return pen.clock;
        } else {
            tally.progress[writer].notified().await;
        }
    }
}

pub(super) async fn window(target: &Target, updates: u32, window: u32) -> Value {
    let server = Server(target.pid);
    let crowd = Crowd::gather(target, 2, 1).await;
    tokio::time::sleep(seconds(0.5)).await;
    let (cpu, began) = (server.cpu(), Instant::now());
    let writer = crowd.writers().next().expect("one writes");
    flood(writer, window, |sent| sent == updates).await;
    let (took, cpu) = (began.elapsed(), server.cpu_since(cpu));
    json!({
        "updates_per_second": f64::from(updates) / took.as_secs_f64(),
        "cpu_us_per_update": cpu.as_secs_f64() * 1e6 / f64::from(updates),
        "updates_a_frame": f64::from(updates) / crowd.tally.frames.get() as f64,
    })
}

pub(super) async fn saturate(
    target: &Target,
    clients: usize,
    writers: usize,
    in_flight: u32,
    long: f64,
) -> Value {
    let server = Server(target.pid);
    let crowd = Crowd::gather(target, clients, writers).await;
    tokio::time::sleep(seconds(0.5)).await;
    let (cpu, began) = (server.cpu(), Instant::now());
    let end = began + seconds(long);
    let floods = crowd.writers().map(|writer| flood(writer, in_flight, move |_| Instant::now() >= end));
    let keys: u32 = join_all(floods).await.iter().sum();
    let (took, cpu) = (began.elapsed(), server.cpu_since(cpu));
    let deliveries = crowd.tally.deliveries.get() as f64;
    assert!(
        (deliveries - f64::from(keys) * (clients as f64 - 1.0)).abs() < 0.5,
        "each key once to each other"
    );
    json!({
        "deliveries_per_second": deliveries / took.as_secs_f64(),
        "cpu_us_per_delivery": cpu.as_secs_f64() * 1e6 / deliveries,
        "updates_a_frame": deliveries / crowd.tally.frames.get() as f64,
        "p99_ms": crowd.tally.percentile_ms(0.99),
        "rss_mb": server.resident() / 1e6,
    })
}

/// Connections that listen to nothing but the end.
fn keep(clients: Vec<Client>) -> Vec<Sender> {
    let keep_one = |mut client: Client| {
        tokio::task::spawn_local(async move { while client.receiver.next().await.is_some() {} });
        client.sender
    };
    clients.into_iter().map(keep_one).collect()
}

async fn join_many(target: &Target, docs: &[String]) -> Vec<Client> {
    let mut clients = Vec::new();
    for some in docs.chunks(50) {
        clients.extend(join_all(some.iter().map(|doc| join(target, doc))).await);
    }
    clients
}

async fn write(target: &Target, doc: &str, lines: usize) -> Client {
    let client = join(target, doc).await;
    assert!(client.sender.send(&client.wire.update(&page(lines, 50).0)).await, "the server takes a page");
    client
}

pub(super) async fn documents(target: &Target, count: usize) -> Value {
    let server = Server(target.pid);
    let one = format!("0-{}", target.doc);
    let mut kept = keep(vec![write(target, &one, 40).await]);
    // Buffers and caches that stay whatever the count.
    let names = vec![one; count];
    drop(join_many(target, &names[..count.min(100)]).await);
    let empty = server.settled().await;
    kept.extend(keep(join_many(target, &names).await));
    let connected = server.settled().await;
    let names: Vec<String> = (1..=count).map(|number| format!("{number}-{}", target.doc)).collect();
    for some in names.chunks(50) {
        kept.extend(keep(join_all(some.iter().map(|doc| write(target, doc, 40))).await));
    }
    kept.extend(keep(join_many(target, &names).await));
    let opened = server.settled().await;
    assert_eq!(kept.len(), 1 + 3 * count);
    json!({
        "kb_per_connection": (connected - empty) / count as f64 / 1024.0,
        "kb_per_document": (opened - connected) / count as f64 / 1024.0,
    })
}

pub(super) async fn storm(target: &Target, clients: usize) -> Value {
    let kept = keep(vec![write(target, &target.doc, 2_000).await]);
    let want = 100_000;
    while join(target, &target.doc).await.state.len() < want {
        tokio::time::sleep(seconds(0.1)).await;
    }
    tokio::time::sleep(seconds(1.0)).await;
    let server = Server(target.pid);
    let (cpu, began) = (server.cpu(), Instant::now());
    let all = join_all((0..clients).map(|_| join(target, &target.doc))).await;
    let took = began.elapsed();
    assert!(all.iter().all(|client| client.state.len() >= want), "each has all of it");
    drop(kept);
    json!({
        "ms": took.as_secs_f64() * 1e3,
        "cpu_ms": (server.cpu_since(cpu)).as_secs_f64() * 1e3,
        "rss_mb": server.resident() / 1e6,
    })
}

/// Updates of a file in which each is led by its length: four bytes, little endian.
fn read_updates(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).expect("a file of updates");
    let mut rest = bytes.as_slice();
    let mut updates = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let (update, after) = after.split_at(u32::from_le_bytes(*len) as usize);
        updates.push(update.to_vec());
        rest = after;
    }
    updates
}

pub(super) async fn history(target: &Target, file: &Path) -> Value {
    let updates = read_updates(file);
    let count = updates.len();
    let server = Server(target.pid);
    let mut client = join(target, &target.doc).await;
    let (cpu, began) = (server.cpu(), Instant::now());
    let (wire, sender) = (client.wire.clone(), client.sender.clone());
    let writing = tokio::task::spawn_local(async move {
        let mut frames = Vec::new();
        for some in updates.chunks(1_000) {
            for update in some {
                put(&mut frames, &wire.update(update));
            }
            assert!(sender.write(&frames).await, "the server takes the history");
            frames.clear();
        }
        // Answered after all that came before it.
        assert!(sender.send(&wire.step1()).await, "the server takes step 1");
    });
    let state = loop {
        let message = client.receiver.next().await.expect("an answer");
        match client.wire.read(&message) {
            Heard::Step2(state) => break state.to_vec(),
            Heard::Refused(reason) => panic!("{reason}"),
            _ => {}
        }
    };
    let (took, cpu) = (began.elapsed(), server.cpu_since(cpu));
    writing.await.expect("all was written");
    assert!(!state.is_empty(), "an answer with a state");
    json!({
        "updates_per_second": count as f64 / took.as_secs_f64(),
        "cpu_us_per_update": cpu.as_secs_f64() * 1e6 / count as f64,
    })
}

/// How long a server may send nothing more before what it sent counts as all.
const LATE: f64 = 1.0;

/// Some answer at once with less than they hold, and send the rest as updates: the time is that of the last news.
pub(super) async fn sync(target: &Target) -> Value {
    let began = Instant::now();
    let mut client = join(target, &target.doc).await;
    let mut took = began.elapsed();
    let mut all: HashMap<u64, u32> = known(&client.state).into_iter().collect();
    let mut bytes = client.state.len();
    while let Ok(Some(message)) = tokio::time::timeout(seconds(LATE), client.receiver.next()).await {
        let (Heard::Update(more) | Heard::Step2(more)) = client.wire.read(&message) else { continue };
        let before = all.clone();
        for (of, clock) in known(more) {
            let known = all.entry(of).or_default();
            *known = clock.max(*known);
        }
        if all != before {
            took = began.elapsed();
            bytes += more.len();
        }
    }
    let clocks: serde_json::Map<_, _> =
        all.into_iter().map(|(client, clock)| (client.to_string(), Value::from(clock))).collect();
    json!({ "ms": took.as_secs_f64() * 1e3, "bytes": bytes, "clocks": clocks })
}

pub(super) async fn kill(target: &Target, long: f64) -> Value {
    let crowd = Crowd::gather(target, 3, 2).await;
    let began = Instant::now();
    let end = began + seconds(long * 10.0);
    for writer in crowd.writers() {
        let begin = began + seconds(writer.number as f64 / 20.0);
        tokio::task::spawn_local(type_on(writer, begin, 10.0, end));
    }
    tokio::time::sleep(seconds(long)).await;
    let pid = Pid::from_raw(i32::try_from(target.pid).expect("a process")).expect("a process");
    kill_process(pid, Signal::KILL).expect("the server is ours");
    // What is on its way still arrives.
    tokio::time::sleep(seconds(0.3)).await;
    let writers = crowd.pens.iter().enumerate().map(|(writer, pen)| {
        json!({
            "client": pen.client.to_string(),
            "seen": crowd.tally.seen_by_another(writer),
            "acknowledged": crowd.tally.taken[writer].get(),
        })
    });
    writers.collect::<Vec<_>>().into()
}
