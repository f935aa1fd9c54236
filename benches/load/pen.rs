//! Updates as Yjs makes them for somebody who types, without a document behind each: one character after the other, each
//! typist on a line of their own. A real document makes the lines.

use super::wire::{Reader, put_bytes, put_uint};
use std::fmt::Write;
use yrs::updates::decoder::Decode;
use yrs::{Doc, Text, Transact, Update};

/// Who wrote the lines.
pub(crate) const FIRST: u64 = 1_000_000;

/// Clocks of one client, from the first to one past the last.
pub(crate) type Clocks = (u64, u32, u32);

/// A typist.
#[derive(Clone, Debug)]
pub(crate) struct Pen {
    pub(crate) client: u64,
    pub(crate) clock: u32,
    /// What stands on both sides of the cursor.
    left: (u64, u32),
    right: (u64, u32),
}

/// A text of lines as one update, each of at least `len` characters with its end, and a typist at the end of each.
pub(crate) fn page(lines: usize, len: usize) -> (Vec<u8>, Vec<Pen>) {
    let doc = Doc::with_client_id(FIRST);
    let text = doc.get_or_insert_text("content");
    let mut typed = String::new();
    let mut pens = Vec::new();
    for line in 0..lines {
        write!(typed, "{line:<width$}", width = len.saturating_sub(1).max(1)).expect("a string takes all");
        let at = u32::try_from(typed.len()).expect("small");
        typed.push('\n');
        let client = FIRST + 1 + line as u64;
        pens.push(Pen { client, clock: 0, left: (FIRST, at - 1), right: (FIRST, at) });
    }
    let mut txn = doc.transact_mut();
    text.insert(&mut txn, 0, &typed);
    (txn.encode_update_v1(), pens)
}

impl Pen {
    /// Types one character.
    pub(crate) fn key(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.extend_from_slice(&[1, 1]);
        put_uint(&mut out, self.client);
        put_uint(&mut out, u64::from(self.clock));
        // A string with something on both sides.
        out.push(0xC4);
        for (client, clock) in [self.left, self.right] {
            put_uint(&mut out, client);
            put_uint(&mut out, u64::from(clock));
        }
        put_bytes(&mut out, b"x");
        out.push(0);
        self.left = (self.client, self.clock);
        self.clock += 1;
        out
    }
}

/// The clocks that an update of typed characters brings, whoever merged them.
pub(crate) fn clocks(update: &[u8], mut tell: impl FnMut(Clocks)) {
    let mut reader = Reader(update);
    for _ in 0..reader.uint() {
        let blocks = reader.uint();
        let client = reader.uint();
        let start = reader.clock();
        let mut end = start;
        for _ in 0..blocks {
            let flags = reader.byte();
            match flags & 0x1F {
                // Collected, or a gap.
                0 | 10 => {
                    end += reader.clock();
                    continue;
                }
                _ => {}
            }
            for side in [0x80, 0x40] {
                if flags & side != 0 {
                    reader.uint();
                    reader.uint();
                }
            }
            if flags & 0xC0 == 0 {
                if reader.uint() == 1 {
                    reader.bytes();
                } else {
                    reader.uint();
                    reader.uint();
                }
            }
            end += match flags & 0x1F {
                1 => reader.clock(),
                4 => {
                    let text = std::str::from_utf8(reader.bytes()).expect("text");
                    u32::try_from(text.encode_utf16().count()).expect("small")
                }
                kind => panic!("nobody typed content of kind {kind}"),
            };
        }
        tell((client, start, end));
    }
}

/// How many clocks of each client a whole state has.
pub(crate) fn known(state: &[u8]) -> Vec<(u64, u32)> {
    let state = Update::decode_v1(state).expect("an update");
    state.state_vector().iter().map(|(client, clock)| (client.get(), *clock)).collect()
}
