//! Operations of the SDK's collaborative documents: compose, transform, and the ledger that keeps one client and a live
//! text together.
//!
//! An operation walks over a whole text: keep so many units, insert a string, delete so many units. Units are those of
//! UTF-16. Each client has a [`Ledger`] of its own: the live document orders everybody's edits, so all that is left to
//! settle here is between it and that client.

use crate::crdt::{Edit, utf16_len};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;
use std::fmt;

/// Operations that a client is sent ahead of its acknowledgements; what comes meanwhile is made one with what waits.
pub(super) const MAX_AHEAD: u64 = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Keep(u32),
    Insert(String),
    Delete(u32),
}

impl Part {
    fn len(&self) -> u32 {
        match self {
            Self::Keep(len) | Self::Delete(len) => *len,
            Self::Insert(text) => utf16_len(text),
        }
    }

    /// The first `len` units and the rest; `None` where a cut would go through a character.
    fn cut(self, len: u32) -> Option<(Self, Self)> {
        Some(match self {
            Self::Keep(all) => (Self::Keep(len), Self::Keep(all - len)),
            Self::Delete(all) => (Self::Delete(len), Self::Delete(all - len)),
            Self::Insert(text) => {
                let at = byte_at(&text, len)?;
                let rest = text[at..].to_owned();
                let mut text = text;
                text.truncate(at);
                (Self::Insert(text), Self::Insert(rest))
            }
        })
    }
}

/// The byte at an offset in units; `None` past the end and inside a character.
fn byte_at(text: &str, units: u32) -> Option<usize> {
    let mut passed = 0;
    for (at, character) in text.char_indices() {
        if passed >= units {
            return (passed == units).then_some(at);
        }
        passed += if character.len_utf16() == 2 { 2 } else { 1 };
    }
    (passed == units).then_some(text.len())
}

/// Two operations that are not about the same text, or one that is not about this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operation does not fit the text")]
pub(super) struct Misfit;

/// See the module's docs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Operation {
    parts: Vec<Part>,
    before: u32,
    after: u32,
}

impl Operation {
    fn keep(&mut self, len: u32) {
        if len == 0 {
            return;
        }
        self.before += len;
        self.after += len;
        match self.parts.last_mut() {
            Some(Part::Keep(last)) => *last += len,
            _ => self.parts.push(Part::Keep(len)),
        }
    }

    fn insert(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.after += utf16_len(text);
        match &mut self.parts[..] {
            [.., Part::Insert(last)] | [.., Part::Insert(last), Part::Delete(_)] => last.push_str(text),
            [.., Part::Delete(_)] => {
                let at = self.parts.len() - 1;
                self.parts.insert(at, Part::Insert(text.to_owned()));
            }
            _ => self.parts.push(Part::Insert(text.to_owned())),
        }
    }

    fn delete(&mut self, len: u32) {
        if len == 0 {
            return;
        }
        self.before += len;
        match self.parts.last_mut() {
            Some(Part::Delete(last)) => *last += len,
            _ => self.parts.push(Part::Delete(len)),
        }
    }

    /// The edits of a text of `len` units as one operation.
    pub(super) fn of_edits(edits: &[Edit], len: u32) -> Self {
        let (mut operation, mut at) = (Self::default(), 0);
        for edit in edits {
            operation.keep(edit.at - at);
            operation.insert(&edit.insert);
            operation.delete(edit.delete);
            at = edit.at + edit.delete;
        }
        operation.keep(len.saturating_sub(at));
        operation
    }

    /// The same as edits.
    pub(super) fn edits(&self) -> Vec<Edit> {
        let mut edits: Vec<Edit> = Vec::new();
        let mut at = 0;
        for part in &self.parts {
            match part {
                Part::Keep(len) => at += len,
                Part::Insert(text) => edits.push(Edit { at, delete: 0, insert: text.clone() }),
                Part::Delete(len) => {
                    match edits.last_mut() {
                        // An insertion stands before what is deleted at the same place.
                        Some(last) if last.at == at && last.delete == 0 => last.delete = *len,
                        _ => edits.push(Edit { at, delete: *len, insert: String::new() }),
                    }
                    at += len;
                }
            }
        }
        edits
    }

    /// Whether it changes nothing.
    pub(super) fn is_nothing(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Keep(_)))
    }

    /// The text after it.
    ///
    /// # Errors
    /// [`Misfit`] for another length, and for cuts inside a character.
    pub(super) fn apply(&self, text: &str) -> Result<String, Misfit> {
        let (mut rest, mut made) = (text, String::with_capacity(text.len()));
        for part in &self.parts {
            match part {
                Part::Insert(text) => made.push_str(text),
                Part::Keep(len) | Part::Delete(len) => {
                    let (here, after) = rest.split_at(byte_at(rest, *len).ok_or(Misfit)?);
                    if matches!(part, Part::Keep(_)) {
                        made.push_str(here);
                    }
                    rest = after;
                }
            }
        }
        if rest.is_empty() { Ok(made) } else { Err(Misfit) }
    }

    /// One operation that does what this and then `next` do.
    ///
    /// # Errors
    /// [`Misfit`].
    pub(super) fn compose(self, next: Self) -> Result<Self, Misfit> {
        if self.after != next.before {
            return Err(Misfit);
        }
        let mut made = Self::default();
        let (mut first, mut second) = (self.parts.into_iter(), next.parts.into_iter());
        let (mut one, mut two) = (first.next(), second.next());
        loop {
            (one, two) = match (one, two) {
                (None, None) => return Ok(made),
                (Some(Part::Delete(len)), two) => {
                    made.delete(len);
                    (first.next(), two)
                }
                (one, Some(Part::Insert(text))) => {
                    made.insert(&text);
                    (one, second.next())
                }
                (Some(one), Some(two)) => {
                    let len = one.len().min(two.len());
                    let ((here, one), (there, two)) =
                        (one.cut(len).ok_or(Misfit)?, two.cut(len).ok_or(Misfit)?);
                    match (here, there) {
                        (Part::Keep(len), Part::Keep(_)) => made.keep(len),
                        (Part::Insert(text), Part::Keep(_)) => made.insert(&text),
                        (Part::Keep(len), Part::Delete(_)) => made.delete(len),
                        // What was inserted is deleted again.
                        _ => {}
                    }
                    (
                        Some(one).filter(|one| one.len() > 0).or_else(|| first.next()),
                        Some(two).filter(|two| two.len() > 0).or_else(|| second.next()),
                    )
                }
                (Some(_), None) | (None, Some(_)) => return Err(Misfit),
            };
        }
    }

    /// Two operations made for the same text, each for the text after the other. At the same place this one's insertion
    /// goes first.
    ///
    /// # Errors
    /// [`Misfit`].
    pub(super) fn transform(self, other: Self) -> Result<(Self, Self), Misfit> {
        if self.before != other.before {
            return Err(Misfit);
        }
        let (mut mine, mut theirs) = (Self::default(), Self::default());
        let (mut first, mut second) = (self.parts.into_iter(), other.parts.into_iter());
        let (mut one, mut two) = (first.next(), second.next());
        loop {
            (one, two) = match (one, two) {
                (None, None) => return Ok((mine, theirs)),
                (Some(Part::Insert(text)), two) => {
                    theirs.keep(utf16_len(&text));
                    mine.insert(&text);
                    (first.next(), two)
                }
                (one, Some(Part::Insert(text))) => {
                    mine.keep(utf16_len(&text));
                    theirs.insert(&text);
                    (one, second.next())
                }
                (Some(one), Some(two)) => {
                    let len = one.len().min(two.len());
                    let ((here, one), (there, two)) =
                        (one.cut(len).ok_or(Misfit)?, two.cut(len).ok_or(Misfit)?);
                    match (here, there) {
                        (Part::Keep(len), Part::Keep(_)) => {
                            mine.keep(len);
                            theirs.keep(len);
                        }
                        (Part::Delete(len), Part::Keep(_)) => mine.delete(len),
                        (Part::Keep(_), Part::Delete(len)) => theirs.delete(len),
                        // Both delete it.
                        _ => {}
                    }
                    (
                        Some(one).filter(|one| one.len() > 0).or_else(|| first.next()),
                        Some(two).filter(|two| two.len() > 0).or_else(|| second.next()),
                    )
                }
                (Some(_), None) | (None, Some(_)) => return Err(Misfit),
            };
        }
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.parts.len()))?;
        for part in &self.parts {
            match part {
                Part::Keep(len) => list.serialize_element(len)?,
                Part::Insert(text) => list.serialize_element(text)?,
                Part::Delete(len) => list.serialize_element(&-i64::from(*len))?,
            }
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Float(f64),
            Text(String),
        }
        /// A whole number may be written as a float.
        #[expect(clippy::cast_possible_truncation, reason = "it is small enough to be whole")]
        fn whole(written: Written) -> Written {
            match written {
                Written::Float(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
                    Written::Number(number as i64)
                }
                other => other,
            }
        }
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Operation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers and strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Operation, A::Error> {
                let mut operation = Operation::default();
                // Sums stay far from what a `u32` holds.
                let mut total = 0_u64;
                while let Some(written) = list.next_element()? {
                    let part = match whole(written) {
                        Written::Number(0) => continue,
                        Written::Number(len) => {
                            let units = u32::try_from(len.unsigned_abs());
                            let units = units.map_err(|_| A::Error::custom("a number is too large"))?;
                            if len > 0 { Part::Keep(units) } else { Part::Delete(units) }
                        }
                        Written::Text(text) => Part::Insert(text),
                        Written::Float(_) => return Err(A::Error::custom("a number is not whole")),
                    };
                    total += u64::from(part.len());
                    if total > u64::from(u32::MAX / 2) {
                        return Err(A::Error::custom("the operation is too long"));
                    }
                    match part {
                        Part::Keep(len) => operation.keep(len),
                        Part::Insert(text) => operation.insert(&text),
                        Part::Delete(len) => operation.delete(len),
                    }
                }
                Ok(operation)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// Why an operation of the client's is not taken; it asks for the whole text then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// It was made for a revision that is not known (any more).
    #[error("there is no revision {0} to build on")]
    Revision(u64),
    /// It was not made for the text of its revision.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

/// One client of a document, and what it was told. A revision is how many operations of either side it has seen.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Operations since [`Ledger::acked`], the last one makes [`Ledger::revision`].
    history: VecDeque<Operation>,
    revision: u64,
    /// The client has reached this one.
    acked: u64,
    /// Changes of the live text that the client has not been told.
    waiting: Option<Operation>,
    /// The revision at which the client was given the whole text last.
    given: u64,
}

impl Ledger {
    /// Of a client that was given the live text at a revision: one that it did not come across before, be it on another
    /// connection, or what it made there might pass for made here.
    pub(super) fn new(revision: u64) -> Self {
        Self { revision, given: revision, acked: revision, ..Self::default() }
    }

    /// The revision that the client is at once it has read all that it was sent.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes an operation of the client's, made at `revision`; gives what it comes to on the live `text`, and that text.
    /// `None`: the client made it before it was given the whole text, and makes it anew on that. Until its answer is on
    /// its way the client is to be told nothing: it would take what it hears for what came before.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    pub(super) fn take(
        &mut self,
        operation: Operation,
        revision: u64,
        text: &str,
    ) -> Result<Option<(Operation, String)>, Refused> {
        if revision < self.given {
            return Ok(None);
        }
        let first = self.revision - self.history.len() as u64;
        if revision < first || revision > self.revision {
            return Err(Refused::Revision(revision));
        }
        let since = usize::try_from(revision - first).map_err(|_| Refused::Revision(revision))?;
        let mut operation = operation;
        for done in self.history.iter().skip(since) {
            (operation, _) = operation.transform(done.clone())?;
        }
        let (live, waiting) = match &self.waiting {
            None => (operation.clone(), None),
            Some(waiting) => {
                let (live, waiting) = operation.clone().transform(waiting.clone())?;
                (live, Some(waiting))
            }
        };
        let made = live.apply(text)?;
        self.waiting = waiting;
        self.history.push_back(operation);
        self.revision += 1;
        Ok(Some((live, made)))
    }

    /// The live text changed otherwise.
    ///
    /// # Errors
    /// [`Misfit`] if it was another text.
    pub(super) fn changed(&mut self, operation: Operation) -> Result<(), Misfit> {
        self.waiting = Some(match self.waiting.take() {
            Some(waiting) => waiting.compose(operation)?,
            None => operation,
        });
        Ok(())
    }

    /// What the client is to be told now, and the revision it makes.
    pub(super) fn next(&mut self) -> Option<(Operation, u64)> {
        if self.revision - self.acked >= MAX_AHEAD { None } else { self.rest() }
    }

    /// The same however much the client was sent already.
    pub(super) fn rest(&mut self) -> Option<(Operation, u64)> {
        let operation = self.waiting.take().filter(|operation| !operation.is_nothing())?;
        self.history.push_back(operation.clone());
        self.revision += 1;
        Some((operation, self.revision))
    }

    /// The client has reached a revision.
    pub(super) fn acknowledge(&mut self, revision: u64) {
        // Never the newest ones alone: it may say so before it sends what it made earlier.
        let revision = revision.min(self.revision);
        self.acked = self.acked.max(revision);
        let first = self.revision - self.history.len() as u64;
        let spent = usize::try_from(self.acked.saturating_sub(first)).unwrap_or(0);
        self.history.drain(..spent.min(self.history.len()));
    }

    /// The client gets the whole live text, and makes what is not taken yet anew on that: it is at a revision of its
    /// own, and nothing waits for it.
    pub(super) fn resynced(&mut self) {
        self.waiting = None;
        self.history.clear();
        self.revision += 1;
        self.given = self.revision;
        self.acked = self.revision;
    }
}

/// A file's fingerprint, by which clients tell whether it is saved: `MurmurHash2` as the SDK has it, over the low byte of
/// each UTF-16 unit, in base 36.
pub(super) fn saved_hash(text: &str) -> String {
    let bytes: Vec<u8> = text.encode_utf16().map(|unit| unit.to_le_bytes()[0]).collect();
    hash_bytes(&bytes)
}

/// The same of a file that is no text.
pub(super) fn hash_bytes(bytes: &[u8]) -> String {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0_u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = words.remainder();
    for (at, byte) in tail.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^= hash >> 15;
    base36(hash)
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crdt::diff;
    use proptest::prelude::*;

    fn op(json: &str) -> Operation {
        serde_json::from_str(json).unwrap()
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof!["[a-c]", Just("😀".to_owned()), Just("\n".to_owned())], 0..12)
            .prop_map(|parts| parts.concat())
    }

    fn between(old: &str, new: &str) -> Operation {
        Operation::of_edits(&diff(old, new), utf16_len(old))
    }

    #[test]
    fn operations_are_written_as_lists() {
        let text = "hello wörld\n";
        let (one, two) = (op(r#"["HELLO",-5,7]"#), op(r#"[11,"!!",1]"#));
        assert_eq!(one.apply(text).unwrap(), "HELLO wörld\n");
        let (two, _) = two.transform(one.clone()).unwrap();
        assert_eq!(two.apply("HELLO wörld\n").unwrap(), "HELLO wörld!!\n");
        assert_eq!(serde_json::to_string(&one).unwrap(), r#"["HELLO",-5,7]"#);
        assert_eq!(op(r#"["HELLO",-5.0,7.0]"#), one);
        assert_eq!(op(r#"[1,0,2,-1,"a","",-2,"b"]"#), op(r#"[3,"ab",-3]"#));
        assert_eq!(one.edits(), [Edit { at: 0, delete: 5, insert: "HELLO".into() }]);
        for bad in ["[1.5]", "[1e300]", "[4294967296]", "[2147483647,2147483647]", "[true]", "{}"] {
            assert!(serde_json::from_str::<Operation>(bad).is_err(), "{bad}");
        }
        // Through a character, and of another length.
        for bad in ["[1,\"x\",1]", "[1]", "[3]", "[]"] {
            assert!(op(bad).apply("😀").is_err(), "{bad}");
        }
    }

    #[test]
    fn the_fingerprint_is_the_sdks() {
        for (text, hash) in [("", "0"), ("a", "acqbnw"), ("hello wörld\n", "bn03ji"), ("😀abc", "10ghvlu")]
        {
            assert_eq!(saved_hash(text), hash, "{text}");
        }
    }

    proptest! {
        #[test]
        fn both_ways_lead_to_one_text(base in text(), one in text(), two in text()) {
            let (a, b) = (between(&base, &one), between(&base, &two));
            prop_assert_eq!(a.apply(&base).unwrap(), one.clone());
            let (a2, b2) = a.transform(b).unwrap();
            prop_assert_eq!(a2.apply(&two).unwrap(), b2.apply(&one).unwrap());
        }

        #[test]
        fn two_in_a_row_are_one(base in text(), one in text(), two in text()) {
            let both = between(&base, &one).compose(between(&one, &two)).unwrap();
            prop_assert_eq!(both.apply(&base).unwrap(), two);
        }

        #[test]
        fn an_operation_is_its_edits(base in text(), one in text()) {
            let a = between(&base, &one);
            prop_assert_eq!(crate::crdt::apply(&base, &a.edits()), one);
            prop_assert_eq!(Operation::of_edits(&a.edits(), a.before), a.clone());
            let written = rmp_serde::to_vec_named(&a).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<Operation>(&written).unwrap(), a);
        }

        #[test]
        fn any_list_is_read_or_refused(list in proptest::collection::vec(any::<i64>(), 0..8)) {
            if let Ok(operation) = serde_json::from_value::<Operation>(serde_json::json!(list)) {
                let _ = operation.clone().transform(operation.clone());
                let _ = operation.clone().compose(operation);
            }
        }

        /// Clients as the SDK's are, each with a ledger, on one live text; messages arrive whenever.
        #[test]
        fn clients_and_the_live_text_come_to_one(
            base in text(),
            plan in proptest::collection::vec((0..3_usize, 0..7_u8, text()), 0..60),
        ) {
            let mut live = base.clone();
            let mut seats: Vec<Seat> = (0..3).map(|_| Seat::new(&base)).collect();
            for (who, what, text) in plan {
                match what {
                    0 => seats[who].client.types(&text),
                    1 => {
                        let made = seats[who].arrives(&live);
                        spread(&mut live, made, who, &mut seats);
                    }
                    2 => seats[who].hears(),
                    // After a reconnect it goes on meanwhile, after an error it hears nothing until it has the text.
                    3 => seats[who].client.resyncs(text.len() % 2 == 0),
                    4 => seats[who].client.outbox.push_back(Sent::Look),
                    // Somebody else's edit, as of a shell.
                    _ => {
                        let made = text.clone();
                        spread(&mut live, Some(made), usize::MAX, &mut seats);
                    }
                }
            }
            // Everything arrives.
            for _ in 0..400 {
                for who in 0..seats.len() {
                    seats[who].hears();
                    let made = seats[who].arrives(&live);
                    spread(&mut live, made, who, &mut seats);
                }
            }
            for seat in &seats {
                prop_assert_eq!(&seat.client.text, &live);
                prop_assert!(seat.ledger.history.len() as u64 <= 2 * MAX_AHEAD);
            }
        }
    }

    fn spread(live: &mut String, made: Option<String>, by: usize, seats: &mut [Seat]) {
        let Some(made) = made else { return };
        let change = between(live, &made);
        for (who, seat) in seats.iter_mut().enumerate() {
            if who != by {
                seat.ledger.changed(change.clone()).unwrap();
            }
        }
        *live = made;
    }

    enum Sent {
        Operation(Operation, u64),
        Ack(u64),
        Resync,
        /// Opens what it has open already, and goes on as it is.
        Look,
    }

    enum Said {
        Answer,
        /// An answer that names another file.
        None,
        Operation(Operation, u64),
        Text(String, u64),
    }

    struct Seat {
        client: Model,
        ledger: Ledger,
        to_server: VecDeque<Sent>,
        to_client: VecDeque<Said>,
    }

    /// What the SDK's client does: one operation under way, the rest gathered.
    struct Model {
        text: String,
        /// What the server told, with what it answered.
        told: String,
        is_deaf: bool,
        revision: u64,
        pending: Option<Operation>,
        queued: Option<Operation>,
        outbox: VecDeque<Sent>,
    }

    impl Model {
        fn types(&mut self, text: &str) {
            let operation = between(&self.text, text);
            if operation.is_nothing() {
                return;
            }
            self.text = text.to_owned();
            self.queued = Some(match self.queued.take() {
                Some(queued) => queued.compose(operation).unwrap(),
                None => operation,
            });
            self.send();
        }

        fn send(&mut self) {
            if self.pending.is_none()
                && let Some(queued) = self.queued.take()
            {
                self.outbox.push_back(Sent::Operation(queued.clone(), self.revision));
                self.pending = Some(queued);
            }
        }

        fn resyncs(&mut self, is_deaf: bool) {
            self.is_deaf |= is_deaf;
            self.outbox.push_back(Sent::Resync);
        }

        fn hear(&mut self, said: Said) {
            match said {
                Said::Answer => {
                    let pending = self.pending.take().unwrap();
                    self.told = pending.apply(&self.told).unwrap();
                    self.revision += 1;
                    self.outbox.push_back(Sent::Ack(self.revision));
                    self.send();
                }
                Said::Operation(operation, revision) if !self.is_deaf => {
                    assert_eq!(revision, self.revision + 1);
                    self.follow(operation);
                }
                Said::Text(text, revision) => {
                    if let Some(pending) = self.pending.take() {
                        self.queued = Some(match self.queued.take() {
                            Some(queued) => pending.compose(queued).unwrap(),
                            None => pending,
                        });
                    }
                    self.is_deaf = false;
                    let change = between(&self.told, &text);
                    if change.is_nothing() {
                        self.revision = revision;
                        self.send();
                    } else {
                        self.revision = revision - 1;
                        self.follow(change);
                    }
                }
                Said::None | Said::Operation(..) => {}
            }
        }

        fn follow(&mut self, operation: Operation) {
            self.revision += 1;
            self.told = operation.apply(&self.told).unwrap();
            let mut incoming = operation;
            for own in [&mut self.pending, &mut self.queued] {
                if let Some(held) = own.take() {
                    let (mine, theirs) = held.transform(incoming).unwrap();
                    (*own, incoming) = (Some(mine), theirs);
                }
            }
            self.text = incoming.apply(&self.text).unwrap();
            self.send();
            self.outbox.push_back(Sent::Ack(self.revision));
        }
    }

    impl Seat {
        fn new(text: &str) -> Self {
            let client = Model {
                text: text.to_owned(),
                told: text.to_owned(),
                is_deaf: false,
                revision: 7,
                pending: None,
                queued: None,
                outbox: VecDeque::new(),
            };
            let (to_server, to_client) = (VecDeque::new(), VecDeque::new());
            Self { client, ledger: Ledger::new(7), to_server, to_client }
        }

        /// The server takes one message of the client's; gives the live text it makes.
        fn arrives(&mut self, live: &str) -> Option<String> {
            self.to_server.append(&mut self.client.outbox);
            let made = match self.to_server.pop_front() {
                Some(Sent::Operation(operation, revision)) => {
                    let made = self.ledger.take(operation, revision, live).unwrap().map(|(_, made)| made);
                    self.to_client.push_back(if made.is_some() { Said::Answer } else { Said::None });
                    made
                }
                Some(Sent::Resync) => {
                    self.ledger.resynced();
                    self.to_client.push_back(Said::Text(live.to_owned(), self.ledger.revision()));
                    None
                }
                Some(Sent::Look) => {
                    if let Some((operation, revision)) = self.ledger.rest() {
                        self.to_client.push_back(Said::Operation(operation, revision));
                    }
                    None
                }
                Some(Sent::Ack(revision)) => {
                    self.ledger.acknowledge(revision);
                    None
                }
                None => None,
            };
            while let Some((operation, revision)) = self.ledger.next() {
                self.to_client.push_back(Said::Operation(operation, revision));
            }
            made
        }

        fn hears(&mut self) {
            if let Some(said) = self.to_client.pop_front() {
                self.client.hear(said);
            }
        }
    }
}
