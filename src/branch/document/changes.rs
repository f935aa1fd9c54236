//! From updates to entries of the history: who changed how much, in runs of positions.
//!
//! An entry ends after a minute, and when somebody writes who is not in it, unless they typed at the same time. What
//! came from the file stands in entries of its own, so that the positions around it can be named.

use super::Author;
use crate::crdt::Applied;
use crate::store::{AuthorChange, ChangeRow};

/// The longest time that one entry covers.
const ENTRY_MS: i64 = 60_000;
/// Another author's change this soon after the last one joins the entry: they type together.
const TOGETHER_MS: i64 = 2_000;
/// Authors in one entry; one more begins the next.
const AUTHORS: usize = 16;

/// See the module's docs.
#[derive(Debug, Default)]
pub(super) struct Changes {
    open: Option<ChangeRow>,
    /// Entries that changed since the last append.
    pending: Vec<ChangeRow>,
    /// Who changed the text since it was last written to the file.
    unwritten: Vec<String>,
}

impl Changes {
    pub(super) fn note(&mut self, position: i64, author: &Author, applied: &Applied, now_ms: i64) {
        let name = author.as_str();
        if *author != Author::Outside
            && self.unwritten.len() < AUTHORS
            && !self.unwritten.iter().any(|known| known == name)
        {
            self.unwritten.push(name.to_owned());
        }
        let inserted =
            applied.inserted.iter().map(|range| i64::from(range.end) - i64::from(range.start)).sum();
        let change = AuthorChange { author: name.to_owned(), inserted, deleted: i64::from(applied.deleted) };
        let entry = match self.open.take_if(|open| joins(open, author, now_ms)) {
            Some(mut entry) => {
                entry.position = position;
                entry.at_ms = entry.at_ms.max(now_ms);
                match entry.authors.iter_mut().find(|of| of.author == name) {
                    Some(of) => {
                        of.inserted += change.inserted;
                        of.deleted += change.deleted;
                    }
                    None => entry.authors.push(change),
                }
                entry
            }
            None => ChangeRow {
                first_position: position,
                position,
                first_at_ms: now_ms,
                at_ms: now_ms,
                authors: vec![change],
            },
        };
        match self.pending.last_mut() {
            Some(last) if last.first_position == entry.first_position => *last = entry.clone(),
            _ => self.pending.push(entry.clone()),
        }
        self.open = Some(entry);
    }

    /// The entries to store.
    pub(super) fn take_pending(&mut self) -> Vec<ChangeRow> {
        std::mem::take(&mut self.pending)
    }

    /// Who changed the text since the last call, but for outside changes: those were on disk first.
    pub(super) fn take_unwritten(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unwritten)
    }
}

fn joins(open: &ChangeRow, author: &Author, now_ms: i64) -> bool {
    let outside = Author::Outside.as_str();
    let is_outside = open.authors.iter().any(|of| of.author == outside);
    let is_in = open.authors.iter().any(|of| of.author == author.as_str());
    // The server's own edits follow somebody else's.
    let together = *author == Author::Server || now_ms - open.at_ms < TOGETHER_MS;
    (0..ENTRY_MS).contains(&(now_ms - open.first_at_ms))
        && is_outside == (*author == Author::Outside)
        && (is_in || (together && open.authors.len() < AUTHORS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crdt::ClockRange;
    use proptest::prelude::*;

    fn typed(inserted: u32, deleted: u32) -> Applied {
        let range = ClockRange { client: 1, start: 0, end: inserted };
        Applied { changed: true, inserted: vec![range], deleted }
    }

    fn author(name: &str) -> Author {
        match name {
            "(disk)" => Author::Outside,
            "(perch)" => Author::Server,
            name => Author::Session(name.parse().unwrap()),
        }
    }

    /// Entries as first and last position and authors, of authors and times.
    fn entries(plan: &[(&str, i64)]) -> Vec<(i64, i64, String)> {
        let mut changes = Changes::default();
        for (position, (name, at_ms)) in (1..).zip(plan) {
            changes.note(position, &author(name), &typed(2, 1), *at_ms);
        }
        let names =
            |row: &ChangeRow| row.authors.iter().map(|of| of.author.as_str()).collect::<Vec<_>>().join("+");
        changes.take_pending().iter().map(|row| (row.first_position, row.position, names(row))).collect()
    }

    #[test]
    fn a_run_of_one_author_is_one_entry_for_a_minute() {
        let plan = [("ann", 0), ("ann", 30_000), ("ann", 59_999), ("ann", 60_000)];
        assert_eq!(entries(&plan), [(1, 3, "ann".into()), (4, 4, "ann".into())]);
    }

    #[test]
    fn those_who_type_together_share_an_entry_and_those_after_do_not() {
        let plan = [("ann", 0), ("bob", 100), ("ann", 200), ("cyn", 5_000), ("ann", 5_100)];
        assert_eq!(entries(&plan), [(1, 3, "ann+bob".into()), (4, 5, "cyn+ann".into())]);
    }

    #[test]
    fn a_change_of_the_file_stands_alone() {
        let plan = [("ann", 0), ("(disk)", 10), ("(disk)", 20), ("ann", 30), ("(perch)", 9_000)];
        let wanted = [(1, 1, "ann".into()), (2, 3, "(disk)".into()), (4, 5, "ann+(perch)".into())];
        assert_eq!(entries(&plan), wanted);
    }

    #[test]
    fn writers_since_the_last_write_are_named_once() {
        let mut changes = Changes::default();
        for name in ["ann", "(disk)", "ann", "bob"] {
            changes.note(1, &author(name), &typed(1, 0), 0);
        }
        assert_eq!(changes.take_unwritten(), ["ann", "bob"]);
        assert!(changes.take_unwritten().is_empty());
    }

    proptest! {
        #[test]
        fn entries_cover_each_position_once_and_count_all(
            plan in proptest::collection::vec((0..4_usize, 0..9_000_i64, 0..9_u32, 0..9_u32), 1..80),
            appends in 1..10_usize,
        ) {
            let names = ["ann", "bob", "(disk)", "(perch)"];
            let mut changes = Changes::default();
            let mut stored = std::collections::BTreeMap::new();
            let mut now_ms = 0;
            for (index, (who, later, inserted, deleted)) in plan.iter().enumerate() {
                now_ms += later;
                let position = i64::try_from(index).unwrap() + 1;
                changes.note(position, &author(names[*who]), &typed(*inserted, *deleted), now_ms);
                if index % appends == 0 {
                    stored.extend(changes.take_pending().into_iter().map(|row| (row.first_position, row)));
                }
            }
            stored.extend(changes.take_pending().into_iter().map(|row| (row.first_position, row)));
            let mut next = 1;
            for row in stored.values() {
                prop_assert_eq!(row.first_position, next);
                prop_assert!(row.at_ms - row.first_at_ms < ENTRY_MS);
                next = row.position + 1;
            }
            prop_assert_eq!(next, i64::try_from(plan.len()).unwrap() + 1);
            for (who, name) in names.iter().enumerate() {
                let wanted: i64 = plan.iter().filter(|step| step.0 == who).map(|step| i64::from(step.2)).sum();
                let of_name = stored.values().flat_map(|row| &row.authors).filter(|of| of.author == *name);
                prop_assert_eq!(of_name.map(|of| of.inserted).sum::<i64>(), wanted);
            }
        }
    }
}
