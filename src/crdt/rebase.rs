//! Three-way: edits made from an older text, moved onto the present one.
//!
//! For writers that name the version they started from (file API, late writes to a replaced file). What somebody
//! inserted meanwhile stays, what both deleted goes once, what both inserted at one place stays, the present text's
//! first; the very same change made by both sides counts once.

use super::diff::{ByteEdit, Edit, byte_edits, to_utf16};

/// The edits on `present` that do what `base` → `new` did, where `present` is what others made of `base`.
#[must_use]
pub fn rebase(base: &str, present: &str, new: &str) -> Vec<Edit> {
    let theirs = byte_edits(base, present);
    let ours = byte_edits(base, new);
    let mut moved: Vec<ByteEdit<'_>> = Vec::new();
    for edit in ours.iter().filter(|edit| !theirs.contains(edit)) {
        if !edit.insert.is_empty() {
            let at = place(&theirs, edit.start);
            moved.push(ByteEdit { start: at, end: at, insert: edit.insert });
        }
        for (start, end) in surviving(&theirs, edit) {
            let at = place(&theirs, start);
            match moved.last_mut() {
                Some(last) if last.end == at => last.end = at + (end - start),
                _ => moved.push(ByteEdit { start: at, end: at + (end - start), insert: "" }),
            }
        }
    }
    to_utf16(present, &moved)
}

/// Where offset `at` of the base lies in the present text: after what was inserted there.
fn place(theirs: &[ByteEdit<'_>], at: usize) -> usize {
    // In two sums, since a deletion before its insertion is counted would go below zero.
    let (mut grown, mut shrunk) = (0, 0);
    for edit in theirs.iter().take_while(|edit| edit.start <= at) {
        grown += edit.insert.len();
        shrunk += edit.end.min(at) - edit.start;
    }
    at + grown - shrunk
}

/// The parts of a deletion that the other side has left, cut where it inserted something.
fn surviving(theirs: &[ByteEdit<'_>], deletion: &ByteEdit<'_>) -> Vec<(usize, usize)> {
    let mut parts = Vec::new();
    let mut from = deletion.start;
    for edit in theirs {
        if edit.end < from || edit.start >= deletion.end {
            continue;
        }
        if edit.start > from {
            parts.push((from, edit.start));
        }
        from = from.max(edit.end);
    }
    if from < deletion.end {
        parts.push((from, deletion.end));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::diff::apply;
    use super::*;
    use proptest::prelude::*;

    fn merged(base: &str, present: &str, new: &str) -> String {
        apply(present, &rebase(base, present, new))
    }

    #[test]
    fn both_sides_survive() {
        assert_eq!(merged("a\nb\nc\n", "a\nb2\nc\n", "a\nb\nc\nd\n"), "a\nb2\nc\nd\n");
        assert_eq!(merged("one two", "one two three", "zero one two"), "zero one two three");
    }

    #[test]
    fn the_same_change_by_both_counts_once() {
        assert_eq!(merged("a\nb\n", "a\nB\n", "a\nB\n"), "a\nB\n");
        assert_eq!(merged("abc", "", ""), "");
    }

    #[test]
    fn what_is_inserted_inside_a_deletion_stays() {
        assert_eq!(merged("1\n2\n3\n", "1\n2\nNEW\n3\n", ""), "NEW\n");
    }

    /// Lines of the base are kept or deleted by each side; each side inserts lines of its own, unlike all others.
    fn side(tag: char) -> impl Strategy<Value = Vec<(bool, Option<String>)>> {
        proptest::collection::vec((any::<bool>(), proptest::option::of("[a-z]{3,6}")), 12).prop_map(
            move |plan| {
                plan.into_iter()
                    .enumerate()
                    .map(|(n, (keep, insert))| (keep, insert.map(|word| format!("{tag}{n}{word}\n"))))
                    .collect()
            },
        )
    }

    fn play(plan: &[(bool, Option<String>)]) -> String {
        plan.iter()
            .enumerate()
            .map(|(n, (keep, insert))| {
                let kept = if *keep { format!("base line {n}\n") } else { String::new() };
                insert.clone().unwrap_or_default() + &kept
            })
            .collect()
    }

    proptest! {
        #[test]
        fn each_insertion_is_there_once(theirs in side('T'), ours in side('O')) {
            let base: String = (0..12).map(|n| format!("base line {n}\n")).collect();
            let result = merged(&base, &play(&theirs), &play(&ours));
            for (_, insert) in theirs.iter().chain(&ours) {
                if let Some(line) = insert {
                    prop_assert_eq!(result.matches(line.trim_end()).count(), 1, "{}", line);
                }
            }
        }

        #[test]
        fn one_sided_changes_are_exact(base in "[ab\n]{0,60}", new in "[ab\n]{0,60}") {
            prop_assert_eq!(merged(&base, &base, &new), new.clone());
            prop_assert_eq!(merged(&base, &new, &base), new);
        }
    }
}
