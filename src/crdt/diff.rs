//! From two texts to the edits between them, in two levels: lines first, then words inside changed lines.
//! imara-diff's heuristics bound the work for hostile texts.

use imara_diff::{Algorithm, Diff, InternedInput};

/// More edits than this are not worth their cost in a document; whole hunks are replaced instead.
const MAX_EDITS: usize = 2_000;

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
    let hunks = token_hunks(old_middle, new_middle, lines, prefix);
    for hunk in &hunks {
        refine(old, hunk, &mut edits);
        if edits.len() > MAX_EDITS {
            return if hunks.len() <= MAX_EDITS {
                hunks
            } else {
                vec![ByteEdit { start: prefix, end: prefix + old_middle.len(), insert: new_middle }]
            };
        }
    }
    edits
}

/// Words, and of each changed run of words only what differs at its ends. Not characters throughout: those find
/// chance likenesses in unrelated text, and a merge then tears words that were inserted as one.
fn refine<'a>(old: &str, hunk: &ByteEdit<'a>, edits: &mut Vec<ByteEdit<'a>>) {
    let old_part = &old[hunk.start..hunk.end];
    if old_part.is_empty() || hunk.insert.is_empty() {
        edits.push(*hunk);
        return;
    }
    // A line may be as long as the file: what is the same at its ends costs nothing.
    let is_one_line = |part: &str| part.find('\n').is_none_or(|at| at + 1 == part.len());
    let (skip, drop) = if is_one_line(old_part) && is_one_line(hunk.insert) {
        common_words(old_part, hunk.insert)
    } else {
        (0, 0)
    };
    let (old_part, new_part) =
        (&old_part[skip..old_part.len() - drop], &hunk.insert[skip..hunk.insert.len() - drop]);
    for edit in token_hunks(old_part, new_part, words, hunk.start + skip) {
        let (prefix, suffix) = common_ends(&old[edit.start..edit.end], edit.insert);
        edits.push(ByteEdit {
            start: edit.start + prefix,
            end: edit.end - suffix,
            insert: &edit.insert[prefix..edit.insert.len() - suffix],
        });
    }
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

fn token_hunks<'n>(
    old: &str,
    new: &'n str,
    tokens: fn(&str) -> Vec<&str>,
    offset: usize,
) -> Vec<ByteEdit<'n>> {
    let (old, new_tokens) = (tokens(old), tokens(new));
    let mut input: InternedInput<&str> = InternedInput::default();
    input.update_before(old.iter().copied());
    input.update_after(new_tokens.iter().copied());
    let mut difference = Diff::compute(Algorithm::Histogram, &input);
    difference.postprocess_no_heuristic(&input);
    let (old_at, new_at) = (offsets(&old), offsets(&new_tokens));
    difference
        .hunks()
        .map(|hunk| ByteEdit {
            start: offset + old_at[hunk.before.start as usize],
            end: offset + old_at[hunk.before.end as usize],
            insert: &new[new_at[hunk.after.start as usize]..new_at[hunk.after.end as usize]],
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
    fn hostile_texts_stay_bounded() {
        let line = "x".repeat(300_000);
        let other = "yx".repeat(150_000);
        assert_eq!(apply(&line, &diff(&line, &other)), other);
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
            prop_assert_eq!(apply(&old, &edits), new);
            for pair in edits.windows(2) {
                prop_assert!(pair[0].at + pair[0].delete <= pair[1].at);
            }
        }
    }
}
