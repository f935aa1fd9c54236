//! One shared text: a Yjs document whose `Y.Text` named `content` is a file's text.
//!
//! yrs stays behind this type. Three habits of it are handled here once (all tried, see the tests):
//! - offsets are UTF-16 units, as in Yjs; edits are clamped and cut at characters;
//! - many operations in one transaction are quadratic, so edits are made in portions;
//! - pending data (an update with a gap before it) is never left inside: callers ask
//!   [`crate::crdt::UpdateInfo::missing`] first, and what hostile bytes leave pending all the same is pruned.

use super::diff::Edit;
use bytes::Bytes;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use yrs::updates::decoder::Decode;
use yrs::{
    ClientID, Doc, GetString, Map, OffsetKind, Options, ReadTxn, StateVector, Text, TextRef, Transact,
};
use yrs::{Update, WriteTxn};

/// Name of the shared text; clients outside this repository rely on it.
pub const TEXT_NAME: &str = "content";
/// Name of the map that holds the generation's mark.
const MARK_NAME: &str = "perch";
/// Client ids from here up are the server's; Yjs clients use 32 bits.
pub const FIRST_SERVER_CLIENT: u64 = 1 << 32;
/// Client ids have 53 bits.
const END_OF_CLIENTS: u64 = 1 << 53;
/// Operations per transaction: yrs merges them at commit in quadratic time (1,000 take about a millisecond).
const EDITS_PER_TRANSACTION: usize = 500;

/// Clocks `start..end` of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRange {
    /// The Yjs client id.
    pub client: u64,
    /// First clock.
    pub start: u32,
    /// One past the last clock.
    pub end: u32,
}

/// What an update did to a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whether anything was new, deletions counted: only then is it worth logging and handing on.
    pub changed: bool,
    /// The clocks that were new.
    pub inserted: Vec<ClockRange>,
    /// UTF-16 units of text that went.
    pub deleted: u32,
}

/// Why an update could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// yrs refused the bytes; nothing was applied.
    #[error("the update is malformed")]
    Malformed,
    /// Parts of it refer to what cannot be there; what could be applied was, and is given as an update of its own.
    #[error("the update refers to operations that do not exist")]
    Unresolvable(Option<(Bytes, Applied)>),
    /// yrs panicked; this text must be dropped and loaded anew from its log.
    #[error("the document library failed on the update; the document is loaded anew")]
    Poisoned,
}

/// A fresh client id of the server's own, never given to a browser.
#[must_use]
pub fn server_client() -> u64 {
    rand::random_range(FIRST_SERVER_CLIENT..END_OF_CLIENTS)
}

/// See the module's docs.
pub struct SharedText {
    pub(super) doc: Doc,
    pub(super) text: TextRef,
    clocks: HashMap<u64, u32>,
    len_utf16: u32,
}

impl SharedText {
    fn with_client(client: u64) -> Self {
        let mut options = Options::with_client_id(ClientID::new(client));
        options.offset_kind = OffsetKind::Utf16;
        // Rich-text marks are no concern of a plain file, and the clean-up makes edits of its own.
        options.cleanup_formatting = false;
        let doc = Doc::with_options(options);
        let text = doc.get_or_insert_text(TEXT_NAME);
        Self { doc, text, clocks: HashMap::new(), len_utf16: 0 }
    }

    /// The first state of a new generation: its mark and `text` under the id `generation`, as one encoded update.
    /// Holds at least one operation, so that an empty file's history can be told from another's.
    #[must_use]
    pub fn seed(generation: u64, text: &str) -> Bytes {
        let seed = Self::with_client(generation);
        let mut txn = seed.doc.transact_mut();
        let mark = txn.get_or_insert_map(MARK_NAME);
        mark.insert(&mut txn, "generation", generation.to_string());
        if !text.is_empty() {
            seed.text.insert(&mut txn, 0, text);
        }
        txn.encode_diff_v1(&StateVector::default()).into()
    }

    /// A replica made from encoded updates of our own log, under a fresh server client id.
    ///
    /// # Errors
    /// [`ApplyError`] when the log is damaged.
    pub fn load<'a>(updates: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ApplyError> {
        let mut replica = Self::with_client(server_client());
        for update in updates {
            replica.apply(update)?;
        }
        Ok(replica)
    }

    /// A second replica with the same content and a client id of its own.
    ///
    /// # Errors
    /// [`ApplyError`] if yrs can't read its own state.
    pub fn fork(&self) -> Result<Self, ApplyError> {
        Self::load([self.encode_state().as_ref()])
    }

    /// The client id under which [`SharedText::edit`] writes.
    #[must_use]
    pub fn client(&self) -> u64 {
        self.doc.client_id().get()
    }

    /// How many clocks of `client` are known.
    #[must_use]
    pub fn known(&self, client: u64) -> u32 {
        self.clocks.get(&client).copied().unwrap_or(0)
    }

    /// The state vector, encoded (lib0 v1), as sync step 1 sends it.
    #[must_use]
    pub fn state_vector(&self) -> Vec<u8> {
        use yrs::updates::encoder::Encode;
        self.doc.transact().state_vector().encode_v1()
    }

    /// A copy of the known clocks, as a base for [`SharedText::encode_since`].
    #[must_use]
    pub fn clocks(&self) -> &HashMap<u64, u32> {
        &self.clocks
    }

    /// Length of the text in UTF-16 units.
    #[must_use]
    pub fn len_utf16(&self) -> u32 {
        self.len_utf16
    }

    /// The text. May hold `\r` or a leading U+FEFF that a client typed.
    #[must_use]
    pub fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// The whole state as one update.
    #[must_use]
    pub fn encode_state(&self) -> Bytes {
        self.doc.transact().encode_diff_v1(&StateVector::default()).into()
    }

    /// All that a replica with the clocks `known` lacks, as one update (it always holds the delete set).
    #[must_use]
    pub fn encode_since(&self, known: &[(u64, u32)]) -> Bytes {
        let mut vector = StateVector::default();
        for &(client, clock) in known {
            vector.set_max(ClientID::new(client), clock);
        }
        self.doc.transact().encode_diff_v1(&vector).into()
    }

    /// Applies a Yjs v1 update that has passed [`crate::crdt::inspect`] (or comes from our log).
    ///
    /// # Errors
    /// See [`ApplyError`]; after [`ApplyError::Poisoned`] this replica must not be used again.
    pub fn apply(&mut self, update: &[u8]) -> Result<Applied, ApplyError> {
        catch_unwind(AssertUnwindSafe(|| self.apply_inner(update))).unwrap_or(Err(ApplyError::Poisoned))
    }

    fn apply_inner(&mut self, update: &[u8]) -> Result<Applied, ApplyError> {
        let update = Update::decode_v1(update).map_err(|_| ApplyError::Malformed)?;
        let mut txn = self.doc.transact_mut();
        let outcome = txn.apply_update(update);
        let mut applied = applied(&txn);
        let stuck = txn.has_missing_updates();
        if stuck {
            txn.prune_pending();
        }
        let partly =
            (outcome.is_err() || stuck).then(|| applied.changed.then(|| txn.encode_update_v1().into()));
        drop(txn);
        self.note(&mut applied);
        match partly {
            None => Ok(applied),
            Some(update) => Err(ApplyError::Unresolvable(update.map(|update| (update, applied)))),
        }
    }

    /// Makes `edits` (offsets in the present text) under this replica's own client id. Returns the updates that
    /// carry them, in order, each with the clocks it brought.
    ///
    /// # Errors
    /// [`ApplyError::Poisoned`] as for [`SharedText::apply`].
    pub fn edit(&mut self, edits: &[Edit]) -> Result<Vec<(Bytes, Applied)>, ApplyError> {
        catch_unwind(AssertUnwindSafe(|| self.edit_inner(edits))).map_err(|_| ApplyError::Poisoned)
    }

    fn edit_inner(&mut self, edits: &[Edit]) -> Vec<(Bytes, Applied)> {
        let mut updates = Vec::new();
        // From the end to the start, so that earlier offsets stay true.
        for portion in edits.rchunks(EDITS_PER_TRANSACTION) {
            let mut txn = self.doc.transact_mut();
            for edit in portion.iter().rev() {
                let len = self.text.len(&txn);
                let at = edit.at.min(len);
                let delete = edit.delete.min(len - at);
                if delete > 0 {
                    self.text.remove_range(&mut txn, at, delete);
                }
                if !edit.insert.is_empty() {
                    self.text.insert(&mut txn, at, &edit.insert);
                }
            }
            let mut applied = applied(&txn);
            let update = applied.changed.then(|| Bytes::from(txn.encode_update_v1()));
            drop(txn);
            self.note(&mut applied);
            if let Some(update) = update {
                updates.push((update, applied));
            }
        }
        updates
    }

    fn note(&mut self, applied: &mut Applied) {
        if !applied.changed {
            return;
        }
        let mut len = self.len_utf16;
        for range in &applied.inserted {
            let clock = self.clocks.entry(range.client).or_insert(0);
            *clock = (*clock).max(range.end);
            len = len.saturating_add(range.end - range.start);
        }
        self.len_utf16 = self.text.len(&self.doc.transact());
        applied.deleted = len.saturating_sub(self.len_utf16);
    }
}

fn applied(txn: &yrs::TransactionMut<'_>) -> Applied {
    let mut inserted = Vec::new();
    for (client, ranges) in txn.insert_set().iter() {
        for range in ranges.iter() {
            inserted.push(ClockRange { client: client.get(), start: range.start, end: range.end });
        }
    }
    Applied { changed: txn.has_changes(), inserted, deleted: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(at: u32, delete: u32, insert: &str) -> Edit {
        Edit { at, delete, insert: insert.into() }
    }

    #[test]
    fn a_seed_marks_its_generation_even_when_empty() {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT + 5, "");
        let text = SharedText::load([seed.as_ref()]).unwrap();
        assert_eq!(text.text(), "");
        assert!(text.known(FIRST_SERVER_CLIENT + 5) > 0);
    }

    #[test]
    fn edits_count_utf16_and_travel_as_updates() {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, "a😀b\nc");
        let mut one = SharedText::load([seed.as_ref()]).unwrap();
        let mut two = SharedText::load([seed.as_ref()]).unwrap();
        let updates = one.edit(&[edit(1, 2, "X"), edit(5, 1, "end")]).unwrap();
        assert_eq!(one.text(), "aXb\nend");
        for (update, _) in &updates {
            assert!(two.apply(update).unwrap().changed);
            assert!(!two.apply(update).unwrap().changed, "the second time it is known");
        }
        assert_eq!(two.text(), one.text());
        assert_eq!(two.len_utf16(), 7);
    }

    #[test]
    fn a_pure_deletion_counts_as_change_once() {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, "abc");
        let mut one = SharedText::load([seed.as_ref()]).unwrap();
        let mut two = one.fork().unwrap();
        let updates = one.edit(&[edit(0, 2, "")]).unwrap();
        assert_eq!(
            two.apply(&updates[0].0).unwrap(),
            Applied { changed: true, inserted: vec![], deleted: 2 }
        );
        assert_eq!(two.apply(&updates[0].0).unwrap(), Applied::default());
    }

    #[test]
    fn an_update_with_a_gap_leaves_nothing_pending() {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, "");
        let mut one = SharedText::load([seed.as_ref()]).unwrap();
        let mut two = one.fork().unwrap();
        one.edit(&[edit(0, 0, "a")]).unwrap();
        let second = one.edit(&[edit(1, 0, "b")]).unwrap();
        assert!(matches!(two.apply(&second[0].0), Err(ApplyError::Unresolvable(_))));
        assert!(two.apply(&one.encode_state()).unwrap().changed);
        assert_eq!(two.text(), "ab");
    }

    #[test]
    fn thousands_of_edits_are_made_in_portions() {
        let source = "x\n".repeat(3_000);
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, &source);
        let mut text = SharedText::load([seed.as_ref()]).unwrap();
        let edits: Vec<Edit> = (0..3_000).map(|line| edit(line * 2, 1, "yy")).collect();
        assert!(text.edit(&edits).unwrap().len() > 1);
        assert_eq!(text.text(), "yy\n".repeat(3_000));
    }
}
