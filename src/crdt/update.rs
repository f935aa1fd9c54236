//! What a foreign Yjs update (v1) holds, found before yrs may see it.
//!
//! yrs 0.28.1 can be poisoned or stalled by one small frame, so only what real clients send passes: counts within the
//! bytes at hand, no empty blocks, clocks below 2^31, ids below 2^53, checked UTF-8, shallow values, nothing after the
//! end, and of the content kinds only deleted, string, any, binary and the array, map and text types. A block refers
//! to its own client's earlier clocks only, a client stands once in each half, and what it deletes is in order without
//! overlaps.
//!
//! The work is linear in the bytes (client ids are sorted once), and one update is bounded: [`MAX_CLIENTS`] clients and
//! [`MAX_PARTS`] blocks and deleted ranges. Past that it is refused as malformed.

use super::lib0::{LibError, Reader};
use super::text::{ClockRange, TEXT_NAME};
use std::collections::HashMap;

/// Values inside values, at most.
const MAX_DEPTH: usize = 16;
/// Client ids that one update, and one document, may have. A state vector may name twice as many.
pub const MAX_CLIENTS: usize = 100_000;
/// Blocks and deleted ranges of one update, together. Each costs yrs some 200 bytes, whatever its size on the wire.
pub const MAX_PARTS: usize = 1_000_000;
/// What a value, a type or a name counts beside its bytes: about what it takes in memory.
const VALUE_BYTES: usize = 64;

const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
const HAS_PARENT_SUB: u8 = 0x20;
const CONTENT: u8 = 0x1F;

/// A clock of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    /// The Yjs client id.
    pub client: u64,
    /// The clock.
    pub clock: u32,
}

/// Where a block says that it was inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The block's first clock.
    pub start: Id,
    /// One past its last clock.
    pub end: u32,
    /// What it was inserted after; `None` at the start.
    pub left: Option<Id>,
    /// What it was inserted before; `None` at the end.
    pub right: Option<Id>,
}

/// What one update says, without its payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateInfo {
    /// The clocks that it holds, by client, then clock, ascending; neighbours are joined, gaps are gaps.
    pub ranges: Vec<ClockRange>,
    /// The highest clock that it refers to as origin or parent, once per client, by client ascending.
    pub references: Vec<(u64, u32)>,
    /// What it deletes; ascending within each client.
    pub deletes: Vec<ClockRange>,
    /// Where its blocks go that hold text or tombstones, in the order in which they stand.
    pub places: Vec<Place>,
    /// Whether inserted text holds `\r`.
    pub has_carriage_return: bool,
    /// Whether inserted text holds U+FEFF.
    pub has_bom: bool,
    /// Whether it holds anything but text and deletions: values, types, collected blocks, keys, other roots.
    pub has_values: bool,
    /// Bytes of inserted text, and of values, keys and names of other roots with 64 for each.
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
        // Ranges stand by client, ascending.
        let mut last = (u64::MAX, 0);
        self.ranges.iter().any(|range| {
            let reached = if last.0 == range.client { last.1 } else { known(range.client) };
            last = (range.client, reached.max(range.end));
            range.start > reached
        })
    }

    /// How many client ids it brings that are not known.
    pub fn new_clients(&self, known: impl Fn(u64) -> u32) -> usize {
        let groups = self.ranges.chunk_by(|one, next| one.client == next.client);
        groups.filter(|group| known(group[0].client) == 0).count()
    }

    /// Whether a part of it would have to wait in a document that knows these clocks: a gap before it, or a
    /// reference or deletion of what neither has.
    pub fn missing(&self, mut known: impl FnMut(u64) -> u32) -> bool {
        // The end of each client's clocks with this update, by client ascending as the ranges are.
        let mut reached: Vec<(u64, u32)> = Vec::with_capacity(self.ranges.len().min(2));
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
        let mut has = |client: u64, clock: u32| {
            let end = match reached.binary_search_by_key(&client, |(of, _)| *of) {
                Ok(at) => reached[at].1,
                Err(_) => known(client),
            };
            clock <= end
        };
        if self.references.iter().any(|&(client, clock)| !has(client, clock + 1)) {
            return true;
        }
        // Ascending within a client: the last range reaches furthest.
        let mut groups = self.deletes.chunk_by(|one, next| one.client == next.client);
        groups.any(|group| group.last().is_some_and(|last| !has(last.client, last.end)))
    }
}

/// The highest clock per client: a few in a list, many in a map.
#[derive(Default)]
pub(super) struct Highest {
    few: Vec<(u64, u32)>,
    many: HashMap<u64, u32>,
}

impl Highest {
    const FEW: usize = 8;

    fn note(&mut self, client: u64, clock: u32) {
        if let Some((_, highest)) = self.few.iter_mut().find(|(of, _)| *of == client) {
            *highest = (*highest).max(clock);
        } else if self.few.len() < Self::FEW {
            self.few.push((client, clock));
        } else {
            let highest = self.many.entry(client).or_insert(clock);
            *highest = (*highest).max(clock);
        }
    }

    fn sorted(mut self) -> Vec<(u64, u32)> {
        self.few.extend(self.many);
        self.few.sort_unstable();
        self.few
    }
}

/// Whether a value stands twice.
fn has_repeated(mut values: Vec<u64>) -> bool {
    values.sort_unstable();
    values.windows(2).any(|pair| pair[0] == pair[1])
}

/// Checks an update and says what it holds.
///
/// # Errors
/// [`LibError`]: no client of ours sends such bytes; its connection is closed.
pub fn inspect(bytes: &[u8]) -> Result<UpdateInfo, LibError> {
    read(bytes, |_| 0, MAX_CLIENTS, MAX_PARTS)
}

/// [`inspect`], where [`UpdateInfo::inserted_bytes`] counts only blocks that reach beyond the known clocks.
///
/// # Errors
/// As for [`inspect`].
pub fn inspect_beyond(bytes: &[u8], known: impl Fn(u64) -> u32) -> Result<UpdateInfo, LibError> {
    read(bytes, known, MAX_CLIENTS, MAX_PARTS)
}

/// Bytes of live content in a document's own encoded state, as [`UpdateInfo::inserted_bytes`] counts them.
pub(super) fn content_bytes(state: &[u8]) -> usize {
    read(state, |_| 0, usize::MAX, usize::MAX).map_or(state.len(), |info| info.inserted_bytes)
}

fn read(
    bytes: &[u8],
    known: impl Fn(u64) -> u32,
    max_clients: usize,
    max_parts: usize,
) -> Result<UpdateInfo, LibError> {
    let mut reader = Reader::new(bytes);
    let mut info = UpdateInfo::default();
    let mut references = Highest::default();
    let mut parts = 0;
    let mut has_room_for = |more: usize| {
        parts += more;
        if parts > max_parts { Err(LibError::Range) } else { Ok(()) }
    };
    let clients = reader.count()?;
    if clients > max_clients {
        return Err(LibError::Range);
    }
    let mut seen = Vec::with_capacity(clients.min(MAX_CLIENTS));
    for _ in 0..clients {
        let blocks = reader.count()?;
        has_room_for(blocks)?;
        let client = reader.uint()?;
        if blocks == 0 {
            return Err(LibError::Value);
        }
        seen.push(client);
        let known = known(client);
        let mut clock = reader.clock()?;
        for _ in 0..blocks {
            let block = block(&mut reader, Id { client, clock }, &mut references, &mut info)?;
            let end = clock
                .checked_add(block.len)
                .filter(|end| block.len > 0 && *end < 1 << 31)
                .ok_or(LibError::Range)?;
            if end > known {
                info.inserted_bytes += block.bytes;
            }
            if block.is_placed {
                let start = Id { client, clock };
                info.places.push(Place { start, end, left: block.left, right: block.right });
            }
            if !block.is_skip {
                match info.ranges.last_mut() {
                    Some(last) if last.client == client && last.end == clock => last.end = end,
                    _ => info.ranges.push(ClockRange { client, start: clock, end }),
                }
            }
            clock = end;
        }
    }
    if has_repeated(seen) {
        return Err(LibError::Value);
    }
    // Clients stand in descending order in what Yjs and yrs write.
    info.ranges.sort_unstable_by_key(|range| (range.client, range.start));
    info.references = references.sorted();
    info.deletes = deletes(&mut reader, max_clients, has_room_for)?;
    reader.finish()?;
    Ok(info)
}

fn deletes(
    reader: &mut Reader<'_>,
    max_clients: usize,
    mut has_room_for: impl FnMut(usize) -> Result<(), LibError>,
) -> Result<Vec<ClockRange>, LibError> {
    let mut deletes: Vec<ClockRange> = Vec::new();
    let clients = reader.count()?;
    if clients > max_clients {
        return Err(LibError::Range);
    }
    let mut seen = Vec::with_capacity(clients.min(MAX_CLIENTS));
    for _ in 0..clients {
        let client = reader.uint()?;
        seen.push(client);
        let ranges = reader.count()?;
        has_room_for(ranges)?;
        let mut previous = 0;
        for _ in 0..ranges {
            let start = reader.clock()?;
            let len = reader.clock()?;
            let end =
                start.checked_add(len).filter(|end| len > 0 && *end < 1 << 31).ok_or(LibError::Range)?;
            // All Yjs versions sort and merge before they write; touching ranges do occur in merged updates.
            if start < previous {
                return Err(LibError::Value);
            }
            previous = end;
            deletes.push(ClockRange { client, start, end });
        }
    }
    if has_repeated(seen) { Err(LibError::Value) } else { Ok(deletes) }
}

/// What one block says of itself.
#[derive(Default)]
pub(super) struct Block {
    /// In clocks.
    len: u32,
    /// Whether it only marks a gap.
    is_skip: bool,
    /// What it counts in [`UpdateInfo::inserted_bytes`].
    bytes: usize,
    /// Whether it is text or a tombstone.
    is_placed: bool,
    left: Option<Id>,
    right: Option<Id>,
}

pub(super) fn block(
    reader: &mut Reader<'_>,
    own: Id,
    references: &mut Highest,
    info: &mut UpdateInfo,
) -> Result<Block, LibError> {
    let flags = reader.byte()?;
    if flags == 0 || flags == 10 {
        info.has_values |= flags == 0;
        return Ok(Block { len: reader.clock()?, is_skip: flags == 10, ..Block::default() });
    }
    let mut id = |reader: &mut Reader<'_>| {
        let id = Id { client: reader.uint()?, clock: reader.clock()? };
        // Nobody inserts beside what they have not written yet.
        if id.client == own.client && id.clock >= own.clock {
            return Err(LibError::Value);
        }
        references.note(id.client, id.clock);
        Ok(id)
    };
    let mut block = Block::default();
    if flags & HAS_ORIGIN != 0 {
        block.left = Some(id(reader)?);
    }
    if flags & HAS_RIGHT_ORIGIN != 0 {
        block.right = Some(id(reader)?);
    }
    if block.left.is_none() && block.right.is_none() {
        let mut is_text = false;
        match reader.uint()? {
            1 => {
                let root = reader.string()?;
                is_text = root == TEXT_NAME;
                if !is_text {
                    block.bytes += root.len() + VALUE_BYTES;
                }
            }
            0 => {
                id(reader)?;
            }
            _ => return Err(LibError::Value),
        }
        if flags & HAS_PARENT_SUB != 0 {
            block.bytes += reader.string()?.len() + VALUE_BYTES;
            is_text = false;
        }
        info.has_values |= !is_text;
    }
    content(reader, flags & CONTENT, &mut block, info)?;
    Ok(block)
}

fn content(
    reader: &mut Reader<'_>,
    kind: u8,
    block: &mut Block,
    info: &mut UpdateInfo,
) -> Result<(), LibError> {
    info.has_values |= kind != 1 && kind != 4;
    block.is_placed = matches!(kind, 1 | 4);
    let before = reader.remaining();
    match kind {
        1 => {
            block.len = reader.clock()?;
            return Ok(());
        }
        4 => {
            let text = reader.string()?;
            info.has_carriage_return |= text.contains('\r');
            info.has_bom |= text.contains('\u{FEFF}');
            block.len = super::diff::utf16_len(text);
            block.bytes += text.len();
            return Ok(());
        }
        3 => {
            reader.bytes()?;
            block.len = 1;
        }
        7 => {
            if reader.uint()? > 2 {
                return Err(LibError::Value);
            }
            block.len = 1;
        }
        8 => {
            let count = reader.count()?;
            for _ in 0..count {
                value(reader, MAX_DEPTH)?;
            }
            block.len = u32::try_from(count).map_err(|_| LibError::Range)?;
        }
        _ => return Err(LibError::Value),
    }
    block.bytes += before - reader.remaining() + VALUE_BYTES * block.len as usize;
    Ok(())
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
/// [`LibError`] for malformed bytes, or more than 200,000 clients.
pub fn state_vector(bytes: &[u8]) -> Result<Vec<(u64, u32)>, LibError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count()?;
    if count > 2 * MAX_CLIENTS {
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
pub(super) mod tests {
    use super::super::lib0::put_uint;
    use super::super::text::{ApplyError, SharedText};
    use super::super::{Edit, FIRST_SERVER_CLIENT};
    use super::*;
    use proptest::prelude::*;

    /// A seeded source of numbers below a bound.
    pub(in super::super) fn random(seed: u64) -> impl FnMut(usize) -> usize {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ seed;
        move |below| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).unwrap()
        }
    }

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
        // Then: a block after itself, after a later one of its own, in itself; a client deleting twice; ranges that
        // overlap or go back.
        let offenders: [&[u8]; 13] = [
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
            &[1, 1, 96, 0, 0, 0, 0],
            &[1, 1, 96, 0, 10, 0, 0],
            &[1, 1, 5, 0, 2, 1, 1, b'a', 1, 1, b'x', 0],
            &[1, 1, 5, 0, 9, 1, 1, b'a', 1, b'g', 118, 0, 0],
            &[0, 0, 0],
            &[2, 1, 5, 0, 0, 1, 1, 5, 1, 0, 1, 0],
            &[1, 1, 5, 3, 0x84, 5, 3, 1, b'x', 0],
            &[1, 2, 5, 3, 0x44, 5, 4, 1, b'x', 0x84, 5, 3, 1, b'y', 0],
            &[1, 1, 5, 3, 4, 0, 5, 3, 1, b'x', 0],
            &[0, 2, 5, 1, 0, 1, 5, 1, 3, 1],
            &[0, 1, 5, 2, 0, 3, 2, 1],
            &[0, 1, 5, 2, 4, 1, 0, 1],
        ];
        for bytes in offenders {
            assert!(inspect(bytes).is_err(), "{bytes:?}");
        }
        assert!(inspect(&[0, 0]).unwrap().is_empty());
    }

    /// One block of each of many clients, each beside the next one's, and a deletion of each.
    fn many_clients(count: u64, order: impl Fn(u64) -> u64) -> Vec<u8> {
        let mut update = Vec::new();
        put_uint(&mut update, count);
        for client in (0..count).map(&order) {
            put_uint(&mut update, 1);
            put_uint(&mut update, client);
            update.extend([0, 0x84]);
            put_uint(&mut update, client + count);
            update.extend([0, 1, b'x']);
        }
        put_uint(&mut update, count);
        for client in (0..count).map(&order) {
            put_uint(&mut update, client);
            update.extend([1, 0, 1]);
        }
        update
    }

    /// Each of these looked at all clients for each client: 100,000 of them in one frame stood still for minutes.
    #[test]
    fn many_clients_in_one_update_are_read_in_linear_work() {
        const COUNT: u64 = MAX_CLIENTS as u64;
        for update in [many_clients(COUNT, |n| COUNT - 1 - n), many_clients(COUNT, |n| (n * 99_991) % COUNT)]
        {
            let info = inspect(&update).unwrap();
            assert_eq!(info.ranges.len(), MAX_CLIENTS);
            assert_eq!(info.references.len(), MAX_CLIENTS, "one per client");
            let mut asked = 0;
            let mut known = |client| {
                asked += 1;
                u32::from(client >= COUNT)
            };
            assert!(!info.missing(&mut known));
            assert!(asked <= 2 * MAX_CLIENTS, "{asked}");
            assert!(info.missing(|_| 0));
            assert_eq!(info.new_clients(|client| u32::from(client % 2 == 0)), MAX_CLIENTS / 2);
        }
        assert!(inspect(&many_clients(COUNT, |n| n / 2)).is_err(), "clients stand once");
        assert!(inspect(&many_clients(COUNT + 1, |n| n)).is_err());
    }

    #[test]
    fn blocks_and_deleted_ranges_of_one_update_are_bounded() {
        let many = u64::try_from(MAX_PARTS).unwrap();
        let deleting = |count: u64| {
            let mut update = vec![0, 1, 5];
            put_uint(&mut update, count);
            for n in 0..count {
                put_uint(&mut update, n * 2);
                update.push(1);
            }
            update
        };
        assert_eq!(inspect(&deleting(many)).unwrap().deletes.len(), MAX_PARTS);
        assert_eq!(inspect(&deleting(many + 1)), Err(LibError::Range));
    }

    /// Mutated real updates: whatever passes must neither panic in yrs nor leave it in a state that can't be read.
    #[test]
    fn mutated_updates_never_poison_a_document() {
        let (_, updates) = typed();
        let mut next = random(0);
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
            let mut log = vec![updates[0].clone()];
            match text.receive(&bytes, &info) {
                Ok(_) => log.push(bytes),
                Err(ApplyError::Unresolvable(Some((part, _)))) => log.push(part.to_vec()),
                Err(ApplyError::Poisoned) => panic!("yrs panicked on {bytes:?}"),
                Err(_) => {}
            }
            let again = SharedText::load([text.encode_state().as_ref()]).expect("the state reads back");
            assert_eq!(again.text(), text.text(), "{log:?}");
            assert_eq!(
                SharedText::load(log.iter().map(Vec::as_slice)).unwrap().text(),
                text.text(),
                "{log:?}"
            );
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
