//! Clients of one document: who has seen what, and when.

use super::Target;
use super::pen::{FIRST, Pen, clocks, page};
use super::socket::{self, Receiver, Sender};
use super::wire::{Heard, Protocol, Wire};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::Notify;

/// A client that has synced.
pub(crate) struct Client {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) wire: Wire,
    /// What the server sent as all there is.
    pub(crate) state: Vec<u8>,
}

/// Opens a document and waits for all there is of it.
pub(crate) async fn join(target: &Target, doc: &str) -> Client {
    let url = target.url.replace("{doc}", doc);
    let (sender, mut receiver) = socket::open(&url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    let wire = Wire { protocol: target.protocol, doc: doc.to_owned() };
    let mut state = Vec::new();
    match target.protocol {
        Protocol::Hocuspocus => {
            let first = [wire.token(&target.token), wire.step1()];
            assert!(sender.send(&first[0]).await, "the server takes the token");
            loop {
                let message = receiver.next().await.expect("an answer to the token");
                match wire.read(&message) {
                    Heard::Entered => break,
                    Heard::Refused(reason) => panic!("{url}: {reason}"),
                    _ => {}
                }
            }
            assert!(sender.send(&first[1]).await, "the server takes step 1");
        }
        Protocol::Y => assert!(sender.send(&wire.step1()).await, "the server takes step 1"),
        Protocol::Raw => {}
    }
    while target.protocol != Protocol::Raw && state.is_empty() {
        let message = receiver.next().await.expect("an answer to step 1");
        match wire.read(&message) {
            Heard::Step2(update) => state = update.to_vec(),
            Heard::Refused(reason) => panic!("{url}: {reason}"),
            _ => {}
        }
    }
    Client { sender, receiver, wire, state }
}

/// What all clients have sent and seen.
pub(crate) struct Tally {
    /// When each key of each writer was sent.
    pub(crate) sent: RefCell<Vec<Vec<Instant>>>,
    /// How many have seen it.
    seen: RefCell<Vec<Vec<u32>>>,
    /// Of each writer: keys that all others have seen, and what Hocuspocus acknowledged.
    pub(crate) done: Vec<Cell<u32>>,
    pub(crate) taken: Vec<Cell<u32>>,
    /// Something of it changed.
    pub(crate) progress: Vec<Notify>,
    pub(crate) deliveries: Cell<u64>,
    /// Frames that brought them.
    pub(crate) frames: Cell<u64>,
    /// In microseconds.
    pub(crate) latencies: RefCell<Vec<u32>>,
    others: u32,
}

/// A client that types.
pub(crate) struct Writer {
    pub(crate) tally: Rc<Tally>,
    pub(crate) wire: Wire,
    pub(crate) sender: Sender,
    /// Among the writers.
    pub(crate) number: usize,
    pub(crate) pen: Pen,
}

/// A document with a page of lines, its clients, and a pen for each that writes: the first ones.
pub(crate) struct Crowd {
    senders: Vec<Sender>,
    pub(crate) pens: Vec<Pen>,
    pub(crate) tally: Rc<Tally>,
    wire: Wire,
}

impl Crowd {
    pub(crate) async fn gather(target: &Target, clients: usize, writers: usize) -> Self {
        let (lines, pens) = page(writers, 20);
        let first = join(target, &target.doc).await;
        assert!(first.sender.send(&first.wire.update(&lines)).await, "the server takes a page");
        // Whoever comes finds it.
        if target.protocol != Protocol::Raw {
            while join(target, &target.doc).await.state.len() < lines.len() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        let tally = Rc::new(Tally {
            sent: RefCell::new(vec![Vec::new(); writers]),
            seen: RefCell::new(vec![Vec::new(); writers]),
            done: (0..writers).map(|_| Cell::new(0)).collect(),
            taken: (0..writers).map(|_| Cell::new(0)).collect(),
            progress: (0..writers).map(|_| Notify::new()).collect(),
            deliveries: Cell::new(0),
            frames: Cell::new(0),
            latencies: RefCell::default(),
            others: u32::try_from(clients).expect("few") - 1,
        });
        let mut senders = Vec::new();
        for number in 0..clients {
            let client = join(target, &target.doc).await;
            senders.push(client.sender);
            let writer = (number < writers).then_some(number);
            tokio::task::spawn_local(listen(client.receiver, client.wire, writer, Rc::clone(&tally)));
        }
        Self { senders, pens, tally, wire: first.wire }
    }

    /// Those that write.
    pub(crate) fn writers(&self) -> impl Iterator<Item = Writer> {
        self.pens.iter().enumerate().map(|(number, pen)| Writer {
            tally: Rc::clone(&self.tally),
            wire: self.wire.clone(),
            sender: self.senders[number].clone(),
            number,
            pen: pen.clone(),
        })
    }
}

async fn listen(mut receiver: Receiver, wire: Wire, writer: Option<usize>, tally: Rc<Tally>) {
    let mut upto = vec![0; tally.done.len()];
    while let Some(message) = receiver.next().await {
        match wire.read(&message) {
            Heard::Update(update) | Heard::Step2(update) => {
                tally.heard(update, writer, &mut upto);
            }
            Heard::Taken => {
                let Some(writer) = writer else { continue };
                tally.taken[writer].set(tally.taken[writer].get() + 1);
                tally.progress[writer].notify_one();
            }
            Heard::Refused(reason) => panic!("{reason}"),
            Heard::Entered | Heard::Nothing => {}
        }
    }
}

impl Tally {
    fn heard(&self, update: &[u8], writer: Option<usize>, upto: &mut [u32]) {
        let before = self.deliveries.get();
        let mut seen = self.seen.borrow_mut();
        let sent = self.sent.borrow();
        clocks(update, |(client, start, end)| {
            // The page itself, and the seed of a server that makes one, are nobody's typing.
            let of = client.checked_sub(FIRST + 1).and_then(|of| usize::try_from(of).ok());
            let Some(of) = of.filter(|of| *of < upto.len() && Some(*of) != writer) else { return };
            assert!(start <= upto[of], "a key comes before the one before it");
            for clock in upto[of]..end {
                let at = clock as usize;
                if seen[of].len() <= at {
                    seen[of].resize(at + 1, 0);
                }
                seen[of][at] += 1;
                if seen[of][at] == self.others {
                    self.done[of].set(self.done[of].get() + 1);
                    self.progress[of].notify_one();
                }
                self.deliveries.set(self.deliveries.get() + 1);
                let micros = sent[of][at].elapsed().as_micros();
                self.latencies.borrow_mut().push(u32::try_from(micros).unwrap_or(u32::MAX));
            }
            upto[of] = upto[of].max(end);
        });
        // Some servers give a writer its own keys too.
        self.frames.set(self.frames.get() + u64::from(self.deliveries.get() > before));
    }

    /// How many of a writer's keys at least one other client has.
    pub(crate) fn seen_by_another(&self, writer: usize) -> usize {
        self.seen.borrow()[writer].len()
    }

    /// A writer's next key is on its way.
    pub(crate) fn sends(&self, writer: usize) {
        self.sent.borrow_mut()[writer].push(Instant::now());
    }

    pub(crate) fn percentile_ms(&self, part: f64) -> f64 {
        let mut latencies = self.latencies.borrow_mut();
        latencies.sort_unstable();
        let at = (latencies.len() as f64 * part) as usize;
        latencies
            .get(at.min(latencies.len().saturating_sub(1)))
            .map_or(f64::NAN, |at| f64::from(*at) / 1_000.0)
    }
}
