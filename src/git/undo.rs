//! Undoing a step in a text that people have gone on typing in.

use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

fn hunks(before: &str, after: &str) -> Vec<Hunk> {
    let input = InternedInput::new(before, after);
    // Bounded for texts that repeat themselves, as the finer one is not.
    let mut diff = Diff::compute(Algorithm::Myers, &input);
    diff.postprocess_lines(&input);
    diff.hunks().collect()
}

/// The text before a step, with what people typed since it stopped. `stopped`: as the step left it, `now`: as it is, `before`:
/// as it was. Lines typed beside what the step had changed stay; where they changed its own lines, which is what a conflict is
/// solved by, and lines inside those, the state before wins.
#[must_use]
pub fn undone(stopped: &str, now: &str, before: &str) -> String {
    let undo = hunks(stopped, before);
    let (stopped_lines, now_lines, before_lines): (Vec<_>, Vec<_>, Vec<_>) = (
        stopped.split_inclusive('\n').collect(),
        now.split_inclusive('\n').collect(),
        before.split_inclusive('\n').collect(),
    );
    let stays = |typed: &Hunk| {
        undo.iter().all(|undo| {
            // One that takes nothing away stands between two lines.
            let is_apart = typed.before.end <= undo.before.start || typed.before.start >= undo.before.end;
            let is_inside = undo.before.is_empty()
                && typed.before.start < undo.before.start
                && typed.before.end > undo.before.start;
            is_apart && !is_inside
        })
    };
    let mut edits: Vec<(Hunk, &[&str])> = Vec::new();
    edits.extend(hunks(stopped, now).into_iter().filter(stays).map(|hunk| (hunk, now_lines.as_slice())));
    edits.extend(undo.iter().cloned().map(|hunk| (hunk, before_lines.as_slice())));
    edits.sort_by_key(|(hunk, _)| (hunk.before.start, hunk.before.end));
    let mut text = String::with_capacity(now.len().max(before.len()));
    let mut push = |lines: Option<&[&str]>| {
        for line in lines.unwrap_or_default() {
            // The last line of one text may not be the last one here.
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(line);
        }
    };
    let mut at = 0;
    for (hunk, from) in edits {
        push(stopped_lines.get(at..hunk.before.start as usize));
        push(from.get(hunk.after.start as usize..hunk.after.end as usize));
        at = at.max(hunk.before.end as usize);
    }
    push(stopped_lines.get(at..));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_lines_stay_and_the_step_goes() {
        let before = "a\nb\nk\nours\nc\nd\n";
        let stopped = "a\nB\nk\n<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> x\nc\nd\nnew\n";
        assert_eq!(undone(stopped, stopped, before), before);
        // Beside each of the changed places.
        let now = "1\na\n2\nB\n3\nk\n<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> x\n4\nc\nd\n5\nnew\n6\n";
        let left = undone(stopped, now, before);
        for typed in ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n"] {
            assert_eq!(left.matches(typed).count(), 1, "{typed:?} in {left:?}");
        }
        let rest: String =
            left.lines().filter(|line| line.parse::<u8>().is_err()).map(|line| format!("{line}\n")).collect();
        assert_eq!(rest, before);
        // Solved, or half so.
        let now = "a\nB\nk\nboth\nc\nd\nnew\ntyped\n";
        assert_eq!(undone(stopped, now, before), "a\nb\nk\nours\nc\nd\ntyped\n");
        assert_eq!(undone("x\n", "x\ny", "z\n"), "z\ny");
    }

    fn text() -> impl proptest::strategy::Strategy<Value = String> {
        proptest::collection::vec("[a-d]{1,2}", 0..9)
            .prop_map(|lines| lines.iter().map(|line| format!("{line}\n")).collect())
    }
    use proptest::strategy::Strategy;

    proptest::proptest! {
        #[test]
        fn without_typing_it_is_as_before(stopped in text(), before in text()) {
            proptest::prop_assert_eq!(undone(&stopped, &stopped, &before), before);
        }

        #[test]
        fn without_a_step_it_is_as_now(stopped in text(), now in text()) {
            proptest::prop_assert_eq!(undone(&stopped, &now, &stopped), now);
        }

        #[test]
        fn any_texts_are_taken(stopped in "\\PC{0,9}\n?\\PC{0,9}", now in "(\\PC{0,9}\n){0,4}\\PC{0,9}", before in "(\\PC{0,9}\r?\n){0,4}") {
            let _ = undone(&stopped, &now, &before);
        }
    }
}
