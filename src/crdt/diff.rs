//! From two texts to the edits between them, in two levels: lines first, then words inside changed lines.
//! imara-diff's heuristics bound the work for hostile texts.

use imara_diff::{Algorithm, Diff, InternedInput};
use std::collections::HashMap;
use std::ops::Range;

/// More edits than this are not worth their cost in a document; whole hunks are replaced instead.
const MAX_EDITS: usize = 2_000;
/// Pairs of lines that are compared to find out which became which; past it, as many old as new lines are taken in turn.
const MAX_COMPARED: usize = 4_096;
/// Bytes of lines that are compared so; past it lines go whole.
const MAX_COMPARED_BYTES: usize = 4 * 1024 * 1024;
/// Tokens that the finer algorithm is given.
const MAX_HISTOGRAM: usize = 20_000;

/// Replace `delete` units at `at` by `insert`. Offsets and lengths in UTF-16 units of the *old* text; a list of edits is
/// ascending, edits do not overlap, and every cut is at a character boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Offset in the old text.
    pub at: u32,
    /// How many units go.
    pub delete: u32,
    /// What comes instead.
    pub insert: String,
}

/// The same in bytes of the old text, borrowing the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteEdit<'a> {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) insert: &'a str,
}

/// Length in UTF-16 units.
#[must_use]
pub fn utf16_len(text: &str) -> u32 {
    // One unit for each character, one more for those of four bytes.
    let units: usize =
        text.bytes().map(|byte| usize::from(byte & 0xC0 != 0x80) + usize::from(byte >= 0xF0)).sum();
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// The edits that make `new` of `old`.
#[must_use]
pub fn diff(old: &str, new: &str) -> Vec<Edit> {
    to_utf16(old, &byte_edits(old, new))
}

/// The parts of `new`, in bytes, that are not in `old`.
#[must_use]
pub fn inserted(old: &str, new: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    // How far the new text is ahead of the old one.
    let (mut more, mut less) = (0, 0);
    for edit in byte_edits(old, new) {
        let start = edit.start + more - less;
        if !edit.insert.is_empty() {
            parts.push(start..start + edit.insert.len());
        }
        more += edit.insert.len();
        less += edit.end - edit.start;
    }
    parts
}

/// The parts of `old`, in bytes, that are in `new` too, each with where it begins there.
#[must_use]
pub fn kept(old: &str, new: &str) -> Vec<(Range<usize>, usize)> {
    let mut parts = Vec::new();
    let (mut at, mut new_at) = (0, 0);
    let mut keep = |range: Range<usize>, begins: usize| {
        if !range.is_empty() {
            parts.push((range, begins));
        }
    };
    for edit in byte_edits(old, new) {
        keep(at..edit.start, new_at);
        new_at += edit.start - at + edit.insert.len();
        at = edit.end;
    }
    keep(at..old.len(), new_at);
    parts
}

/// Which whole lines of `old` are in `new` too, each as its numbers there and there, from 0; ascending in both. Whether a
/// last line has its end makes no difference.
#[must_use]
pub fn same_lines(old: &str, new: &str) -> Vec<(usize, usize)> {
    let bare = |text| lines(text).into_iter().map(|line| line.strip_suffix('\n').unwrap_or(line));
    let (mut pairs, mut at, mut new_at) = (Vec::new(), 0, 0);
    let count = lines(old).len();
    for hunk in compare(bare(old), bare(new)).hunks() {
        pairs.extend((at..hunk.before.start as usize).zip(new_at..));
        (at, new_at) = (hunk.before.end as usize, hunk.after.end as usize);
    }
    pairs.extend((at..count).zip(new_at..));
    pairs
}

/// Applies edits to the text they were made for; offsets past its end are taken as its end.
#[must_use]
pub fn apply(text: &str, edits: &[Edit]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut at = 0;
    for edit in edits {
        let (kept, tail) = split_utf16(rest, edit.at.saturating_sub(at));
        let (_, tail) = split_utf16(tail, edit.delete);
        result.push_str(kept);
        result.push_str(&edit.insert);
        rest = tail;
        at = edit.at + edit.delete;
    }
    result.push_str(rest);
    result
}

fn split_utf16(text: &str, units: u32) -> (&str, &str) {
    let mut passed = 0;
    for (at, character) in text.char_indices() {
        if passed >= units {
            return text.split_at(at);
        }
        passed += u32::try_from(character.len_utf16()).unwrap_or(2);
    }
    (text, "")
}

pub(super) fn to_utf16(old: &str, edits: &[ByteEdit<'_>]) -> Vec<Edit> {
    let (mut units, mut bytes) = (0, 0);
    edits
        .iter()
        .map(|edit| {
            units += utf16_len(&old[bytes..edit.start]);
            let delete = utf16_len(&old[edit.start..edit.end]);
            let made = Edit { at: units, delete, insert: edit.insert.to_owned() };
            units += delete;
            bytes = edit.end;
            made
        })
        .collect()
}

pub(super) fn byte_edits<'a>(old: &str, new: &'a str) -> Vec<ByteEdit<'a>> {
    let (prefix, suffix) = common_lines(old, new);
    let old_middle = &old[prefix..old.len() - suffix];
    let new_middle = &new[prefix..new.len() - suffix];
    let mut edits = Vec::new();
    if old_middle.is_empty() && new_middle.is_empty() {
        return edits;
    }
    if old_middle.is_empty() || new_middle.is_empty() {
        edits.push(ByteEdit { start: prefix, end: prefix + old_middle.len(), insert: new_middle });
        return edits;
    }
    let edit = |change: &Change| ByteEdit {
        start: prefix + change.old.start,
        end: prefix + change.old.end,
        insert: &new_middle[change.new.clone()],
    };
    let hunks = changes(old_middle, new_middle, lines);
    let mut refined = Vec::new();
    for hunk in &hunks {
        refine(old_middle, new_middle, hunk, &mut refined);
        if refined.len() > MAX_EDITS {
            if hunks.len() > MAX_EDITS {
                edits.push(ByteEdit { start: prefix, end: prefix + old_middle.len(), insert: new_middle });
                return edits;
            }
            refined = hunks;
            break;
        }
    }
    edits.extend(refined.iter().map(edit));
    edits
}

/// Bytes of the old text that other bytes of the new one stand for.
#[derive(Clone, Debug)]
struct Change {
    old: Range<usize>,
    new: Range<usize>,
}

/// Adds a change to those before it, as one with the last where nothing is kept between them.
fn add(changes: &mut Vec<Change>, old: Range<usize>, new: Range<usize>) {
    if old.is_empty() && new.is_empty() {
        return;
    }
    match changes.last_mut() {
        Some(last) if last.old.end == old.start && last.new.end == new.start => {
            (last.old.end, last.new.end) = (old.end, new.end);
        }
        _ => changes.push(Change { old, new }),
    }
}

/// A line that became another keeps the words that both have; lines that were replaced go whole. Never characters
/// throughout, nor words across line ends: those find chance likenesses in unrelated text, and a merge then puts a line
/// that somebody typed between two others into the middle of a third.
fn refine(old: &str, new: &str, hunk: &Change, refined: &mut Vec<Change>) {
    let (old_lines, new_lines) = (lines(&old[hunk.old.clone()]), lines(&new[hunk.new.clone()]));
    let (old_at, new_at) = (offsets(&old_lines), offsets(&new_lines));
    let (mut from, mut new_from) = (hunk.old.start, hunk.new.start);
    for (line, new_line) in pairs(&old_lines, &new_lines) {
        let (at, until) = (hunk.old.start + old_at[line], hunk.old.start + old_at[line + 1]);
        let (new_at, new_until) = (hunk.new.start + new_at[new_line], hunk.new.start + new_at[new_line + 1]);
        add(refined, from..at, new_from..new_at);
        // A line may be as long as the file: what is the same at its ends costs nothing.
        let (skip, drop) = common_words(&old[at..until], &new[new_at..new_until]);
        let (at, new_at) = (at + skip, new_at + skip);
        for change in changes(&old[at..until - drop], &new[new_at..new_until - drop], words) {
            let (start, end) = (at + change.old.start, at + change.old.end);
            let (new_start, new_end) = (new_at + change.new.start, new_at + change.new.end);
            let (prefix, suffix) = common_ends(&old[start..end], &new[new_start..new_end]);
            add(refined, start + prefix..end - suffix, new_start + prefix..new_end - suffix);
        }
        (from, new_from) = (until, new_until);
    }
    add(refined, from..hunk.old.end, new_from..hunk.new.end);
}

/// Which of the old lines became which of the new ones, ascending in both.
fn pairs(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    if let ([line], [new_line]) = (old, new) {
        // Nothing else it can have become; it may be as long as the file, and what is the same at its ends costs nothing.
        let (prefix, suffix) = common_ends(line, new_line);
        let is_alike = 2 * (prefix + suffix) >= line.len().max(new_line.len());
        return if is_alike || are_alike(line, new_line, &mut { MAX_COMPARED_BYTES }) {
            vec![(0, 0)]
        } else {
            vec![]
        };
    }
    let mut bytes = MAX_COMPARED_BYTES;
    let mut pairs = Vec::new();
    if old.len().saturating_mul(new.len()) > MAX_COMPARED {
        if old.len() == new.len() {
            let alike = |line: &usize| are_alike(old[*line], new[*line], &mut bytes);
            pairs.extend((0..old.len()).filter(alike).map(|line| (line, line)));
        }
        return pairs;
    }
    let mut next = 0;
    for (line, text) in old.iter().enumerate() {
        if let Some(found) = (next..new.len()).find(|new_line| are_alike(text, new[*new_line], &mut bytes)) {
            pairs.push((line, found));
            next = found + 1;
        }
    }
    pairs
}

/// Whether at least half of the longer line are words that both have. What is read is taken from `bytes`.
fn are_alike(line: &str, new_line: &str, bytes: &mut usize) -> bool {
    let (longer, shorter) = (line.len().max(new_line.len()), line.len().min(new_line.len()));
    if 2 * shorter < longer {
        return false;
    }
    let Some(left) = bytes.checked_sub(longer + shorter) else { return false };
    *bytes = left;
    let new_bag = bag(new_line);
    let shared = bag(line)
        .into_iter()
        .map(|(word, count)| word.len() * count.min(new_bag.get(word).copied().unwrap_or(0)));
    2 * shared.sum::<usize>() >= longer
}

/// How often each word is in a line.
fn bag(line: &str) -> HashMap<&str, usize> {
    let mut bag = HashMap::new();
    for word in words(line) {
        *bag.entry(word).or_default() += 1;
    }
    bag
}

/// Bytes of whole lines that are the same at both ends. Cut inside a line, an inserted line would borrow the first
/// characters of its neighbour, and lose them when somebody deletes that neighbour at the same time.
fn common_lines(old: &str, new: &str) -> (usize, usize) {
    let (prefix, suffix) = common_ends(old, new);
    let prefix = if prefix == old.len() && prefix == new.len() {
        prefix
    } else {
        old[..prefix].rfind('\n').map_or(0, |at| at + 1)
    };
    let starts_line = |text: &str, at: usize| at == prefix || text[..at].ends_with('\n');
    if starts_line(old, old.len() - suffix) && starts_line(new, new.len() - suffix) {
        return (prefix, suffix);
    }
    let rest = &old[old.len() - suffix..];
    (prefix, rest.find('\n').map_or(0, |at| rest.len() - at - 1))
}

/// The same for words.
fn common_words(old: &str, new: &str) -> (usize, usize) {
    let (prefix, suffix) = common_ends(old, new);
    let other = |c: char| !c.is_alphanumeric() && c != '_' && !c.is_whitespace();
    let prefix =
        old[..prefix].rfind(other).map_or(0, |at| at + old[at..].chars().next().map_or(0, char::len_utf8));
    let rest = &old[old.len() - suffix..];
    (prefix, rest.find(other).map_or(0, |at| rest.len() - at))
}

/// Bytes that are the same at both ends, cut at characters.
fn common_ends(old: &str, new: &str) -> (usize, usize) {
    let mut prefix = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    while !old.is_char_boundary(prefix) || !new.is_char_boundary(prefix) {
        prefix -= 1;
    }
    let (old, new) = (&old[prefix..], &new[prefix..]);
    let mut suffix = old.bytes().rev().zip(new.bytes().rev()).take_while(|(a, b)| a == b).count();
    while !old.is_char_boundary(old.len() - suffix) || !new.is_char_boundary(new.len() - suffix) {
        suffix -= 1;
    }
    (prefix, suffix)
}

/// Lines with their ends.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Runs of letters and digits, runs of blanks, and single other characters.
fn words(text: &str) -> Vec<&str> {
    let class = |c: char| (c.is_alphanumeric() || c == '_', c.is_whitespace());
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match class(first) {
            (false, false) => first.len_utf8(),
            kind => rest.find(|c| class(c) != kind).unwrap_or(rest.len()),
        };
        let (token, tail) = rest.split_at(end);
        found.push(token);
        rest = tail;
    }
    found
}

/// Which tokens differ. Histogram tells more of what was meant, but takes a round for each unchanged run, each as long
/// as the texts; from a size on Myers with its bounds is used.
pub(crate) fn compare<'a>(
    old: impl IntoIterator<Item = &'a str>,
    new: impl IntoIterator<Item = &'a str>,
) -> Diff {
    let mut input: InternedInput<&str> = InternedInput::default();
    input.update_before(old.into_iter());
    input.update_after(new.into_iter());
    let is_small = input.before.len() + input.after.len() <= MAX_HISTOGRAM;
    let mut difference =
        Diff::compute(if is_small { Algorithm::Histogram } else { Algorithm::Myers }, &input);
    difference.postprocess_no_heuristic(&input);
    difference
}

/// The changes between two texts cut into tokens.
fn changes(old: &str, new: &str, tokens: fn(&str) -> Vec<&str>) -> Vec<Change> {
    let (old, new) = (tokens(old), tokens(new));
    let difference = compare(old.iter().copied(), new.iter().copied());
    let (old_at, new_at) = (offsets(&old), offsets(&new));
    difference
        .hunks()
        .map(|hunk| Change {
            old: old_at[hunk.before.start as usize]..old_at[hunk.before.end as usize],
            new: new_at[hunk.after.start as usize]..new_at[hunk.after.end as usize],
        })
        .collect()
}

/// Where each token starts, and where the last one ends.
fn offsets(tokens: &[&str]) -> Vec<usize> {
    let mut at = 0;
    let mut found = Vec::with_capacity(tokens.len() + 1);
    found.push(0);
    for token in tokens {
        at += token.len();
        found.push(at);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_changed_word_is_one_small_edit() {
        let old = "fn main() {\n    println!(\"😀 one\");\n}\n";
        let new = old.replace("one", "two");
        let edits = diff(old, &new);
        assert_eq!(apply(old, &edits), new);
        assert!(edits.iter().map(|edit| edit.delete).sum::<u32>() <= 3, "{edits:?}");
    }

    #[test]
    fn an_inserted_line_borrows_nothing_from_its_neighbours() {
        let edits = diff("base\n<e2>\n<e3>\n", "base\n<e1>\n<e2>\n<e4>\n<e3>\n");
        let inserted: Vec<_> = edits.iter().map(|edit| (edit.delete, edit.insert.as_str())).collect();
        assert_eq!(inserted, [(0, "<e1>\n"), (0, "<e4>\n")]);
    }

    #[test]
    fn replaced_lines_go_whole_and_changed_ones_keep_their_words() {
        let edits = |old: &str, new: &str| -> Vec<(u32, u32, String)> {
            diff(old, new).into_iter().map(|edit| (edit.at, edit.delete, edit.insert)).collect()
        };
        assert_eq!(edits("a\n<disk67>\n<e90>\nb\n", "a\n<disk116>\nb\n"), [(2, 15, "<disk116>\n".into())]);
        assert_eq!(
            edits("let one = 1;\nlet two = 2;\n", "let one = 1;\n// both\nlet two = 22;\n"),
            [(13, 0, "// both\n".into()), (24, 0, "2".into())]
        );
        assert_eq!(edits("abc", "abc\ndef"), [(3, 0, "\ndef".into())]);
    }

    #[test]
    fn hostile_texts_stay_bounded() {
        let line = "x".repeat(300_000);
        let other = "yx".repeat(150_000);
        assert_eq!(apply(&line, &diff(&line, &other)), other);
        let many = |fill: &str, separator: &str| -> String {
            (0..30_000).map(|n| format!("{n}{separator}{fill}{n}{separator}")).collect()
        };
        for separator in ["\n", " "] {
            let (old, new) = (many("x", separator), many("y", separator));
            assert_eq!(apply(&old, &diff(&old, &new)), new);
        }
        let (old, new) = ("a\n".repeat(1 << 17), "b\n".repeat(1 << 17));
        assert_eq!(apply(&old, &diff(&old, &new)), new);
        let up: String = (0..40_000).map(|n| format!("{n}\n")).collect();
        let down: String = (0..40_000).rev().map(|n| format!("{n}\n")).collect();
        let edits = diff(&up, &down);
        assert!(edits.len() <= MAX_EDITS * 2);
        assert_eq!(apply(&up, &edits), down);
    }

    proptest! {
        #[test]
        fn edits_lead_from_old_to_new(old in "[a-c\n😀é ]{0,200}", new in "[a-c\n😀é ]{0,200}") {
            let edits = diff(&old, &new);
            prop_assert_eq!(&apply(&old, &edits), &new);
            for pair in edits.windows(2) {
                prop_assert!(pair[0].at + pair[0].delete <= pair[1].at);
            }
            for (line, new_line) in same_lines(&old, &new) {
                prop_assert_eq!(old.lines().nth(line), new.lines().nth(new_line));
            }
            prop_assert_eq!(same_lines(&old, &old).len(), lines(&old).len());
            // What is kept stands in both, and with what was inserted makes all of the new text.
            let mut parts = inserted(&old, &new);
            for (range, begins) in kept(&old, &new) {
                let there = begins..begins + range.len();
                prop_assert_eq!(&old[range], &new[there.clone()]);
                parts.push(there);
            }
            parts.sort_by_key(|part| part.start);
            prop_assert_eq!(parts.into_iter().map(|part| &new[part]).collect::<String>(), new);
        }
    }
}
