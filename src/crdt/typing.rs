//! Keys of one hand that wait together, as one update.
//!
//! An editor sends an update for each key. Where several of one client have arrived before the first is taken, and each
//! types on where the one before it ended, they are what the editor would have sent had all of it been typed at once: one
//! block. Everything that is done for an update (checks, the document, the log, a frame to each reader) is then done
//! once for all of them.

use super::diff::utf16_len;
use super::lib0::{LibError, Reader, put_bytes};
use super::update::Id;
use bytes::Bytes;

/// Longer updates are taken as they are: pastes, and whatever else is no typing.
const MAX_BYTES: usize = 256;

/// An update that holds one block of text and nothing else.
#[derive(Clone, Copy, Debug)]
struct Typed<'a> {
    client: u64,
    clock: u32,
    left: Option<Id>,
    right: Option<Id>,
    text: &'a str,
    /// Bytes before the text with its length.
    lead: usize,
}

/// A block of text, in no map and with a neighbour, so that it names no parent.
const IS_TEXT: u8 = 4;
const HAS_LEFT: u8 = 0x80;
const HAS_RIGHT: u8 = 0x40;

impl<'a> Typed<'a> {
    /// `None` for whatever is anything else; the bytes need not have passed [`super::inspect`].
    fn read(update: &'a [u8]) -> Option<Self> {
        if update.len() > MAX_BYTES { None } else { Self::parse(update).ok().flatten() }
    }

    fn parse(update: &'a [u8]) -> Result<Option<Self>, LibError> {
        let mut reader = Reader::new(update);
        if (reader.byte()?, reader.byte()?) != (1, 1) {
            return Ok(None);
        }
        let (client, clock) = (reader.uint()?, reader.clock()?);
        let flags = reader.byte()?;
        // Without neighbours it would name what it is in; with a key it would be in a map.
        if flags & !(HAS_LEFT | HAS_RIGHT) != IS_TEXT || flags & (HAS_LEFT | HAS_RIGHT) == 0 {
            return Ok(None);
        }
        let mut side = |bit| {
            let is_there = flags & bit != 0;
            is_there.then(|| Ok(Id { client: reader.uint()?, clock: reader.clock()? })).transpose()
        };
        let (left, right) = (side(HAS_LEFT)?, side(HAS_RIGHT)?);
        let lead = update.len() - reader.remaining();
        let text = reader.string()?;
        // Nothing is deleted.
        let is_all = reader.byte()? == 0 && reader.is_empty();
        Ok((is_all && !text.is_empty()).then_some(Self { client, clock, left, right, text, lead }))
    }
}

/// Updates of one connection in the order in which they came, those that type on joined.
#[derive(Debug, Default)]
pub struct Typing {
    /// The first of them.
    first: Bytes,
    /// The text of all, and where it stands in the first; empty while there is one.
    text: String,
    lead: usize,
    /// What the next must build on; `None`: nothing can be joined.
    next: Option<(Id, Option<Id>)>,
}

impl Typing {
    /// Begins with an update.
    #[must_use]
    pub fn new(update: Bytes) -> Self {
        let mut typing = Self { first: update, ..Self::default() };
        if let Some(typed) = Typed::read(&typing.first) {
            typing.lead = typed.lead;
            typing.next = after(&typed);
        }
        typing
    }

    /// Takes an update that types on; `false`: it is something else, and not taken.
    pub fn join(&mut self, update: &[u8]) -> bool {
        let Some((last, right)) = self.next else { return false };
        let Some(typed) = Typed::read(update) else { return false };
        let follows = typed.client == last.client
            && typed.clock == last.clock + 1
            && typed.left == Some(last)
            && typed.right == right;
        if !follows {
            return false;
        }
        if self.text.is_empty() {
            let first = Typed::read(&self.first).map_or("", |first| first.text);
            self.text.push_str(first);
        }
        self.text.push_str(typed.text);
        self.next = after(&typed);
        true
    }

    /// All of it as one update: the first as it came, where it is the only one.
    #[must_use]
    pub fn into_update(self) -> Bytes {
        if self.text.is_empty() {
            return self.first;
        }
        let mut update = Vec::with_capacity(self.lead + self.text.len() + 6);
        update.extend_from_slice(&self.first[..self.lead]);
        put_bytes(&mut update, self.text.as_bytes());
        update.push(0);
        update.into()
    }
}

/// The last character that an update types, and what stands to its right.
fn after(typed: &Typed<'_>) -> Option<(Id, Option<Id>)> {
    let clock = typed.clock.checked_add(utf16_len(typed.text) - 1)?;
    Some((Id { client: typed.client, clock }, typed.right))
}

#[cfg(test)]
mod tests {
    use super::super::{Edit, FIRST_SERVER_CLIENT, SharedText, inspect};
    use super::*;
    use proptest::prelude::*;

    fn joined(updates: &[Bytes]) -> Vec<Bytes> {
        let mut done = Vec::new();
        let mut updates = updates.iter();
        let Some(first) = updates.next() else { return done };
        let mut typing = Typing::new(first.clone());
        for update in updates {
            if !typing.join(update) {
                done.push(std::mem::replace(&mut typing, Typing::new(update.clone())).into_update());
            }
        }
        done.push(typing.into_update());
        done
    }

    fn edits(text: &mut SharedText, edits: &[(u32, u32, &str)]) -> Vec<Bytes> {
        let one = |(at, delete, insert): &(u32, u32, &str)| {
            text.edit(&[Edit { at: *at, delete: *delete, insert: (*insert).to_owned() }]).unwrap()
        };
        edits.iter().flat_map(one).map(|(update, _)| update).collect()
    }

    #[test]
    fn a_word_is_one_update_and_what_is_no_typing_stays() {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, "(\n)");
        let mut ann = SharedText::load([seed.as_ref()]).unwrap();
        let word = edits(&mut ann, &[(1, 0, "w"), (2, 0, "ö"), (3, 0, "😀"), (5, 0, "d")]);
        let [one] = joined(&word).try_into().unwrap();
        let info = inspect(&one).unwrap();
        assert_eq!((info.ranges.len(), info.places.len()), (1, 1));
        let mut bob = SharedText::load([seed.as_ref()]).unwrap();
        bob.receive(&one, &info).unwrap();
        assert_eq!(bob.text(), "(wö😀d\n)");
        let other = edits(&mut ann, &[(0, 1, ""), (0, 0, "a"), (0, 0, "b"), (2, 0, "c")]);
        assert_eq!(joined(&other), other);
    }

    /// Bytes in which `inspect` finds a fault are left to it.
    #[test]
    fn what_is_malformed_is_not_joined() {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, "\n");
        let mut ann = SharedText::load([seed.as_ref()]).unwrap();
        let word = edits(&mut ann, &[(0, 0, "a"), (1, 0, "b")]);
        for cut in 0..word[1].len() {
            assert!(!Typing::new(word[0].clone()).join(&word[1][..cut]), "{cut}");
        }
        let longer = [word[1].as_ref(), &[0]].concat();
        assert!(!Typing::new(word[0].clone()).join(&longer));
        assert!(!Typing::new(word[1].clone()).join(&word[1]), "again");
    }

    proptest! {
        #[test]
        fn replicas_come_to_the_same_state(
            plan in proptest::collection::vec((0..3_u8, 0..40_u32, 0..3_u32, "[aé😀\r\n]{0,2}"), 1..60),
        ) {
            let seed = SharedText::seed(FIRST_SERVER_CLIENT, "one\ntwo\n");
            let mut ann = SharedText::load([seed.as_ref()]).unwrap();
            let mut updates = Vec::new();
            let mut cursor = 0;
            for (kind, at, delete, insert) in plan {
                // Mostly typing on.
                let (at, delete) = if kind == 0 { (at, delete) } else { (cursor, 0) };
                let at = at.min(ann.len_utf16());
                let before = ann.len_utf16();
                for (update, _) in ann.edit(&[Edit { at, delete, insert }]).unwrap() {
                    updates.push(update);
                }
                cursor = at + ann.len_utf16().saturating_sub(before);
            }
            let joined = joined(&updates);
            prop_assert!(joined.len() <= updates.len());
            let [mut one, mut all] = [(); 2].map(|()| SharedText::load([seed.as_ref()]).unwrap());
            for update in &updates {
                one.receive(update, &inspect(update).unwrap()).unwrap();
            }
            for update in &joined {
                all.receive(update, &inspect(update).unwrap()).unwrap();
            }
            prop_assert_eq!(one.text(), all.text());
            prop_assert_eq!(one.encode_state(), all.encode_state());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), more in any::<Vec<u8>>()) {
            let mut typing = Typing::new(bytes.clone().into());
            let is_joined = typing.join(&more);
            if !is_joined {
                prop_assert_eq!(typing.into_update(), Bytes::from(bytes));
            }
        }
    }
}
