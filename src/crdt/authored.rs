//! Which client typed which part of a text.

use super::text::SharedText;
use yrs::types::text::YChange;
use yrs::{Any, Out, ReadTxn, Snapshot, Text, Transact};

/// A part of the text that one client inserted in one go: its clocks are `clock..clock + length in UTF-16 units`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The Yjs client id.
    pub client: u64,
    /// The clock of its first unit.
    pub clock: u32,
    /// The part.
    pub text: String,
}

impl SharedText {
    /// The text in parts, in order, each with the client and clocks that inserted it.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        let mut txn = self.doc.transact_mut();
        let now = txn.snapshot();
        // Against nothing, all that is there now was added by somebody.
        let parts = self.text.diff_range(&mut txn, Some(&now), Some(&Snapshot::default()), YChange::identity);
        parts
            .into_iter()
            .filter_map(|part| match (part.insert, part.ychange) {
                (Out::Any(Any::String(text)), Some(change)) => Some(Run {
                    client: change.id.client.get(),
                    clock: change.id.clock,
                    text: text.to_string(),
                }),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Edit, FIRST_SERVER_CLIENT};
    use super::*;

    #[test]
    fn runs_name_who_inserted_what_and_make_the_text() {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, "one\ntwo\n");
        let mut ann = SharedText::load([seed.as_ref()]).unwrap();
        let mut bob = ann.fork().unwrap();
        let edit = |at, delete, insert: &str| [Edit { at, delete, insert: insert.into() }];
        for (update, _) in ann.edit(&edit(4, 0, "A😀A")).unwrap() {
            bob.apply(&update).unwrap();
        }
        for (update, _) in bob.edit(&edit(5, 2, "b")).unwrap() {
            ann.apply(&update).unwrap();
        }
        let runs = ann.runs();
        let whole: String = runs.iter().map(|run| run.text.as_str()).collect();
        assert_eq!((whole.as_str(), ann.text().as_str()), ("one\nAbAtwo\n", "one\nAbAtwo\n"));
        let of: Vec<_> = runs.iter().map(|run| (run.client, run.clock, run.text.as_str())).collect();
        let (a, b, file) = (ann.client(), bob.client(), FIRST_SERVER_CLIENT);
        // The mark of the generation is clock 0 of the seed.
        assert_eq!(of, [(file, 1, "one\n"), (a, 0, "A"), (b, 0, "b"), (a, 3, "A"), (file, 5, "two\n")]);
    }
}
