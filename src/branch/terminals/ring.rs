//! The last output of a terminal, found by its offset: bytes since the terminal was opened.
//!
//! Kept in blocks that begin and end between characters, so that neither a late joiner nor a frame ever starts inside
//! one. Bytes that are no UTF-8 are kept as they are.

use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes of output kept per terminal for late joiners. 2 MiB holds about 25,000 full 80-column lines.
pub const SCROLLBACK_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of a block; what is dropped goes a block at a time, so up to this much more is kept.
const BLOCK_BYTES: usize = 64 * 1024;
/// After a gap, reading goes on at the next line if one begins within this many bytes: what the gap cut may be the
/// rest of an escape sequence.
const LINE_WITHIN: usize = 4 * 1024;

/// Output at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Larger than what was asked for where output was dropped.
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

/// See the module's docs.
#[derive(Debug, Default)]
pub(super) struct Ring {
    blocks: VecDeque<Vec<u8>>,
    /// The offset of the first byte that is kept.
    start: u64,
    len: usize,
    /// The begin of a character whose rest has not come yet.
    half: Vec<u8>,
}

/// How many bytes the character has that begins with this one; 1 for what begins none.
pub(super) fn char_len(lead: u8) -> usize {
    match lead {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    }
}

fn continues(byte: u8) -> bool {
    (0x80..=0xBF).contains(&byte)
}

/// How many bytes before `at` belong to a character that goes on behind it.
fn cut_by(bytes: &[u8], at: usize) -> usize {
    for back in 1..=at.min(3) {
        let byte = bytes[at - back];
        if !continues(byte) {
            return if char_len(byte) > back { back } else { 0 };
        }
    }
    0
}

impl Ring {
    /// The offset behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.len as u64
    }

    /// Adds output; the begin of a character waits for its rest.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let mut joined = std::mem::take(&mut self.half);
        joined.extend_from_slice(bytes);
        self.half = joined.split_off(joined.len() - cut_by(&joined, joined.len()));
        self.keep(&joined);
    }

    /// No more comes: half a character is kept as it is.
    pub(super) fn finish(&mut self) {
        let half = std::mem::take(&mut self.half);
        self.keep(&half);
    }

    fn keep(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            let room = self.blocks.back().map_or(0, |last| BLOCK_BYTES - last.len());
            let mut take = room.min(rest.len());
            if take < rest.len() {
                take -= cut_by(rest, take);
            }
            if take == 0 {
                self.blocks.push_back(Vec::new());
                continue;
            }
            let (now, later) = rest.split_at(take);
            if let Some(last) = self.blocks.back_mut() {
                last.extend_from_slice(now);
            }
            self.len += take;
            rest = later;
            // A character did not fit in: the next block takes it.
            if !rest.is_empty() {
                self.blocks.push_back(Vec::new());
            }
        }
        self.cut_to(SCROLLBACK_BYTES);
    }

    /// Drops what is older than the last `keep` bytes, a block at a time.
    pub(super) fn cut_to(&mut self, keep: usize) {
        while let Some(first) = self.blocks.front().map(Vec::len)
            && self.len - first >= keep
        {
            self.blocks.pop_front();
            self.len -= first;
            self.start += first as u64;
        }
    }

    /// Bytes that are kept.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The block with the byte at `offset`, and where in it that is.
    fn find(&self, offset: u64) -> Option<(&[u8], usize)> {
        let mut at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        for block in &self.blocks {
            if at < block.len() {
                return Some((block, at));
            }
            at -= block.len();
        }
        None
    }

    /// An offset that a client names, moved back to the begin of the character it lies in, and not past the end.
    pub(super) fn align(&self, offset: u64) -> u64 {
        match self.find(offset) {
            Some((block, at)) => offset - cut_by(block, at) as u64,
            None => offset.min(self.end()),
        }
    }

    /// Output from `from` on, at most a block and not past `to`; none at the end. Where `from` is not kept any more, from
    /// the first line that is.
    pub(super) fn read(&self, from: u64, to: u64) -> Option<Piece> {
        let offset = if from < self.start { self.start + self.first_line() } else { from };
        let (block, at) = self.find(offset)?;
        let upto = usize::try_from(to.saturating_sub(offset)).unwrap_or(usize::MAX).max(1);
        let end = block.len().min(at.saturating_add(upto));
        Some(Piece { offset, bytes: Bytes::copy_from_slice(&block[at..end]) })
    }

    fn first_line(&self) -> u64 {
        let first = self.blocks.front().map_or(&[][..], |block| &block[..block.len().min(LINE_WITHIN)]);
        first.iter().position(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(ring: &Ring, mut from: u64) -> Vec<u8> {
        let mut read = Vec::new();
        while let Some(piece) = ring.read(from, u64::MAX) {
            from = piece.offset + piece.bytes.len() as u64;
            read.extend_from_slice(&piece.bytes);
        }
        read
    }

    #[test]
    fn the_last_two_mebibytes_are_kept_and_a_gap_is_seen() {
        let mut ring = Ring::default();
        let line = format!("{}\n", "ä".repeat(49));
        let mut written = String::new();
        while written.len() < 3 * SCROLLBACK_BYTES {
            ring.append(line.as_bytes());
            written.push_str(&line);
        }
        assert_eq!(ring.end(), written.len() as u64);
        assert!((SCROLLBACK_BYTES..SCROLLBACK_BYTES + BLOCK_BYTES).contains(&ring.len));
        let first = ring.read(0, u64::MAX).unwrap();
        assert!(first.offset > 0);
        assert!(first.bytes.starts_with("ä".as_bytes()), "begins with a line");
        let from = usize::try_from(first.offset).unwrap();
        assert_eq!(all(&ring, 0), written.as_bytes()[from..]);
        assert_eq!(ring.read(ring.end(), u64::MAX), None);
        assert_eq!(ring.align(u64::MAX), ring.end());
    }

    #[test]
    fn half_a_character_waits_for_its_rest() {
        let mut ring = Ring::default();
        ring.append(b"a\xE2\x82");
        assert_eq!(all(&ring, 0), b"a");
        ring.append(b"\xAC!");
        assert_eq!(all(&ring, 0), "a€!".as_bytes());
        assert_eq!([0, 1, 2, 3, 4].map(|at| ring.align(at)), [0, 1, 1, 1, 4]);
        ring.append(b"\xF0\x9F");
        ring.finish();
        assert!(all(&ring, 4).ends_with(b"\xF0\x9F"));
    }

    proptest! {
        #[test]
        fn every_piece_of_text_is_text(text in "\\PC{0,200}", cuts in prop::collection::vec(1_usize..7, 1..40)) {
            let text = text.repeat(1 + BLOCK_BYTES / text.len().max(1));
            let mut ring = Ring::default();
            let (mut rest, mut cut) = (text.as_bytes(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cut.next().unwrap() * 999 + 1).min(rest.len()));
                ring.append(now);
                rest = later;
            }
            let mut from = 0;
            while let Some(piece) = ring.read(from, u64::MAX) {
                prop_assert!(std::str::from_utf8(&piece.bytes).is_ok());
                from += piece.bytes.len() as u64;
            }
            prop_assert_eq!(from, text.len() as u64);
        }

        #[test]
        fn other_bytes_are_kept_as_they_are(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..50)) {
            let mut ring = Ring::default();
            for part in &parts {
                ring.append(part);
            }
            ring.finish();
            prop_assert_eq!(all(&ring, 0), parts.concat());
        }
    }
}
