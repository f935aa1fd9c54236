//! What a foreign Yjs update (v1) holds, found before yrs may see it.
//!
//! yrs 0.28.1 can be poisoned or stalled by one small frame, so only what real clients send passes: counts within the
//! bytes at hand, no empty blocks, clocks below 2^31, ids below 2^53, checked UTF-8, shallow values, nothing after the
//! end, and of the content kinds only deleted, string, any, binary and the array, map and text types.

use super::lib0::{LibError, Reader};
use super::text::ClockRange;

/// Values inside values, at most.
const MAX_DEPTH: usize = 16;
/// Clients in one state vector, at most.
const MAX_CLIENTS: usize = 100_000;

const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
const HAS_PARENT_SUB: u8 = 0x20;
const CONTENT: u8 = 0x1F;

/// What one update says, without its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateInfo {
    /// The clocks that it holds, per client ascending; neighbours are joined, gaps are gaps.
    pub ranges: Vec<ClockRange>,
    /// The highest clock per client that it refers to as origin or parent.
    pub references: Vec<(u64, u32)>,
    /// What it deletes.
    pub deletes: Vec<ClockRange>,
    /// Whether inserted text holds `\r`.
    pub has_carriage_return: bool,
    /// Whether inserted text holds U+FEFF.
    pub has_bom: bool,
    /// Bytes of inserted text and values.
    pub inserted_bytes: usize,
}

impl UpdateInfo {
    /// Whether it says nothing at all, as a sync step 2 between equals without deletions does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.deletes.is_empty()
    }

    /// Whether it holds clocks beyond the known ones.
    pub fn adds_blocks(&self, known: impl Fn(u64) -> u32) -> bool {
        self.ranges.iter().any(|range| range.end > known(range.client))
    }

    /// Whether clocks are missing before some that it holds. Such an update never reaches yrs, which would take what
    /// comes after the gap and note a hole.
    pub fn has_gap(&self, known: impl Fn(u64) -> u32) -> bool {
        // Ranges of one client stand together, ascending.
        let mut last = (u64::MAX, 0);
        self.ranges.iter().any(|range| {
            let reached = if last.0 == range.client { last.1 } else { known(range.client) };
            last = (range.client, reached.max(range.end));
            range.start > reached
        })
    }

    /// Whether a part of it would have to wait in a document that knows these clocks: a gap before it, or a
    /// reference or deletion of what neither has.
    pub fn missing(&self, known: impl Fn(u64) -> u32) -> bool {
        // Ranges of one client stand together, ascending.
        let mut reached: Vec<(u64, u32)> = Vec::with_capacity(2);
        for range in &self.ranges {
            let end = match reached.last_mut() {
                Some((client, end)) if *client == range.client => end,
                _ => {
                    reached.push((range.client, known(range.client)));
                    let Some((_, end)) = reached.last_mut() else { return true };
                    end
                }
            };
            if range.start > *end {
                return true;
            }
            *end = (*end).max(range.end);
        }
        let has = |client: u64, clock: u32| {
            let end =
                reached.iter().find(|(of, _)| *of == client).map_or_else(|| known(client), |(_, end)| *end);
            clock <= end
        };
        self.references.iter().any(|&(client, clock)| !has(client, clock + 1))
            || self.deletes.iter().any(|range| !has(range.client, range.end))
    }

    fn refer(&mut self, client: u64, clock: u32) {
        match self.references.iter_mut().rev().take(8).find(|(of, _)| *of == client) {
            Some((_, highest)) => *highest = (*highest).max(clock),
            None => self.references.push((client, clock)),
        }
    }
}

/// Checks an update and says what it holds.
///
/// # Errors
/// [`LibError`]: no client of ours sends such bytes; its connection is closed.
pub fn inspect(bytes: &[u8]) -> Result<UpdateInfo, LibError> {
    let mut reader = Reader::new(bytes);
    let mut info = UpdateInfo::default();
    let clients = reader.count()?;
    let mut seen: Vec<u64> = Vec::with_capacity(clients.min(8));
    for _ in 0..clients {
        let blocks = reader.count()?;
        let client = reader.uint()?;
        if blocks == 0 || seen.contains(&client) {
            return Err(LibError::Value);
        }
        seen.push(client);
        let mut clock = reader.clock()?;
        for _ in 0..blocks {
            let (len, is_skip) = block(&mut reader, &mut info)?;
            let end =
                clock.checked_add(len).filter(|end| len > 0 && *end < 1 << 31).ok_or(LibError::Range)?;
            if !is_skip {
                match info.ranges.last_mut() {
                    Some(last) if last.client == client && last.end == clock => last.end = end,
                    _ => info.ranges.push(ClockRange { client, start: clock, end }),
                }
            }
            clock = end;
        }
    }
    let clients = reader.count()?;
    for _ in 0..clients {
        let client = reader.uint()?;
        for _ in 0..reader.count()? {
            let start = reader.clock()?;
            let len = reader.clock()?;
            let end =
                start.checked_add(len).filter(|end| len > 0 && *end < 1 << 31).ok_or(LibError::Range)?;
            info.deletes.push(ClockRange { client, start, end });
        }
    }
    reader.finish()?;
    Ok(info)
}

/// One block: its length in clocks, and whether it only marks a gap.
pub(super) fn block(reader: &mut Reader<'_>, info: &mut UpdateInfo) -> Result<(u32, bool), LibError> {
    let flags = reader.byte()?;
    if flags == 0 || flags == 10 {
        return Ok((reader.clock()?, flags == 10));
    }
    for flag in [HAS_ORIGIN, HAS_RIGHT_ORIGIN] {
        if flags & flag != 0 {
            let client = reader.uint()?;
            info.refer(client, reader.clock()?);
        }
    }
    if flags & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
        match reader.uint()? {
            1 => {
                reader.string()?;
            }
            0 => {
                let client = reader.uint()?;
                info.refer(client, reader.clock()?);
            }
            _ => return Err(LibError::Value),
        }
        if flags & HAS_PARENT_SUB != 0 {
            reader.string()?;
        }
    }
    let before = reader.remaining();
    let len = content(reader, flags & CONTENT, info)?;
    info.inserted_bytes += before - reader.remaining();
    Ok((len, false))
}

fn content(reader: &mut Reader<'_>, kind: u8, info: &mut UpdateInfo) -> Result<u32, LibError> {
    match kind {
        1 => reader.clock(),
        3 => reader.bytes().map(|_| 1),
        4 => {
            let text = reader.string()?;
            info.has_carriage_return |= text.contains('\r');
            info.has_bom |= text.contains('\u{FEFF}');
            Ok(super::diff::utf16_len(text))
        }
        7 => match reader.uint()? {
            0..=2 => Ok(1),
            _ => Err(LibError::Value),
        },
        8 => {
            let count = reader.count()?;
            for _ in 0..count {
                value(reader, MAX_DEPTH)?;
            }
            u32::try_from(count).map_err(|_| LibError::Range)
        }
        _ => Err(LibError::Value),
    }
}

fn value(reader: &mut Reader<'_>, depth: usize) -> Result<(), LibError> {
    let depth = depth.checked_sub(1).ok_or(LibError::Value)?;
    match reader.byte()? {
        126 | 127 | 120 | 121 => Ok(()),
        125 => reader.skip_int(),
        124 => reader.take(4).map(|_| ()),
        122 | 123 => reader.take(8).map(|_| ()),
        119 => reader.string().map(|_| ()),
        118 => {
            for _ in 0..reader.count()? {
                reader.string()?;
                value(reader, depth)?;
            }
            Ok(())
        }
        117 => {
            for _ in 0..reader.count()? {
                value(reader, depth)?;
            }
            Ok(())
        }
        116 => reader.bytes().map(|_| ()),
        _ => Err(LibError::Value),
    }
}

/// Reads an encoded state vector: known clocks per client.
///
/// # Errors
/// [`LibError`] for malformed bytes, or more than 100,000 clients.
pub fn state_vector(bytes: &[u8]) -> Result<Vec<(u64, u32)>, LibError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count()?;
    if count > MAX_CLIENTS {
        return Err(LibError::Range);
    }
    let mut clocks = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let client = reader.uint()?;
        clocks.push((client, reader.clock()?));
    }
    reader.finish()?;
    Ok(clocks)
}

#[cfg(test)]
mod tests {
    use super::super::text::{ApplyError, SharedText};
    use super::super::{Edit, FIRST_SERVER_CLIENT};
    use super::*;
    use proptest::prelude::*;

    fn typed() -> (SharedText, Vec<Vec<u8>>) {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, "hello\n");
        let mut text = SharedText::load([seed.as_ref()]).unwrap();
        let mut updates = vec![seed.to_vec()];
        for (at, delete, insert) in [(5, 0, " wörld"), (0, 2, "😀"), (3, 4, ""), (1, 0, "\r\n")] {
            for (update, _) in text.edit(&[Edit { at, delete, insert: insert.into() }]).unwrap() {
                updates.push(update.to_vec());
            }
        }
        updates.push(text.encode_state().to_vec());
        (text, updates)
    }

    #[test]
    fn real_updates_pass_and_are_understood() {
        let (text, updates) = typed();
        let mut known = std::collections::HashMap::new();
        for update in &updates[..updates.len() - 1] {
            let info = inspect(update).unwrap();
            assert!(!info.missing(|client| known.get(&client).copied().unwrap_or(0)));
            for range in &info.ranges {
                known.insert(range.client, range.end);
            }
        }
        assert_eq!(&known, text.clocks());
        let last = inspect(&updates[4]).unwrap();
        assert!(last.has_carriage_return);
        assert!(last.missing(|_| 0));
        assert!(!inspect(updates.last().unwrap()).unwrap().missing(|_| 0));
    }

    #[test]
    fn known_offenders_are_refused() {
        // Huge counts, an empty block, legacy JSON content, a sub-document, bytes after the end, a repeated client.
        let offenders: [&[u8]; 7] = [
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
            &[1, 1, 96, 0, 0, 0, 0],
            &[1, 1, 96, 0, 10, 0, 0],
            &[1, 1, 5, 0, 2, 1, 1, b'a', 1, 1, b'x', 0],
            &[1, 1, 5, 0, 9, 1, 1, b'a', 1, b'g', 118, 0, 0],
            &[0, 0, 0],
            &[2, 1, 5, 0, 0, 1, 1, 5, 1, 0, 1, 0],
        ];
        for bytes in offenders {
            assert!(inspect(bytes).is_err(), "{bytes:?}");
        }
        assert!(inspect(&[0, 0]).unwrap().is_empty());
    }

    /// Mutated real updates: whatever passes must neither panic in yrs nor leave it in a state that can't be read.
    #[test]
    fn mutated_updates_never_poison_a_document() {
        let (_, updates) = typed();
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).unwrap()
        };
        let mut passed = 0;
        for _ in 0..60_000 {
            let mut bytes = updates[next(updates.len())].clone();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                match next(3) {
                    0 => bytes[at] = u8::try_from(next(256)).unwrap(),
                    1 => bytes.insert(at, u8::try_from(next(256)).unwrap()),
                    _ if bytes.len() > 1 => {
                        bytes.remove(at);
                    }
                    _ => {}
                }
            }
            let Ok(info) = inspect(&bytes) else { continue };
            let mut text = SharedText::load([updates[0].as_slice()]).unwrap();
            // Such updates wait outside yrs, which would take blocks after a gap and note a hole.
            if info.missing(|client| text.known(client)) {
                continue;
            }
            passed += 1;
            assert!(!matches!(text.apply(&bytes), Err(ApplyError::Poisoned)), "yrs panicked on {bytes:?}");
            SharedText::load([text.encode_state().as_ref()]).expect("the state reads back");
        }
        assert!(passed > 1_000, "only {passed} mutated updates reached yrs");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = inspect(&bytes);
            let _ = state_vector(&bytes);
        }
    }
}
