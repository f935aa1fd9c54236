//! Replacing parts of a text, for programs that name what they want replaced.
//!
//! All edits of a request speak of the same text and must not overlap, so their order does not matter and none can
//! change what another one finds.

use crate::crdt::{diff, utf16_len};
use std::collections::HashMap;
use std::ops::Range;

/// Lines that an error names at most.
const NAMED_LINES: usize = 20;
/// Places that one request changes at most.
const MAX_PLACES: usize = 100_000;
/// Bytes of the text that edits make; what a document takes is less.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// One replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextEdit {
    /// What stands there now, by its text.
    Text {
        /// Must be there exactly once, unless `all`; line ends as `\n` or `\r\n`, it is the same.
        old: String,
        /// What comes instead.
        new: String,
        /// Each time it is there.
        all: bool,
    },
    /// What stands there now, by its place, in UTF-16 units of the text whose lines end in `\n`.
    Place {
        /// First unit.
        start: u32,
        /// Behind the last one.
        end: u32,
        /// What comes instead.
        new: String,
    },
}

impl TextEdit {
    fn new_text(&self) -> &str {
        match self {
            Self::Text { new, .. } | Self::Place { new, .. } => new,
        }
    }
}

/// Why edits can't be made; `edit` counts from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The old text is not there.
    #[error("edit {edit}: `{old}` is not in this version of the file{}", near_text(.near))]
    NotFound {
        /// Which edit.
        edit: usize,
        /// The start of the text.
        old: String,
        /// Lines that hold its first line, spaces at both ends aside.
        near: Vec<usize>,
    },
    /// The old text is there more than once.
    #[error(
        "edit {edit}: `{old}` is there {count} times (lines {lines:?}); give more of its surroundings, or `all`"
    )]
    Ambiguous {
        /// Which edit.
        edit: usize,
        /// The start of the text.
        old: String,
        /// How often.
        count: usize,
        /// The first lines it starts on, at most 20, from 1.
        lines: Vec<usize>,
    },
    /// Two edits change the same part.
    #[error("edits {first} and {second} overlap; make one of them")]
    Overlap {
        /// One of them.
        first: usize,
        /// The other.
        second: usize,
    },
    /// An edit that can't be meant.
    #[error("edit {edit}: {reason}")]
    Refused {
        /// Which edit.
        edit: usize,
        /// Why.
        reason: &'static str,
    },
}

fn near_text(near: &[usize]) -> String {
    if near.is_empty() { String::new() } else { format!("; its first line is like lines {near:?}") }
}

/// A text with edits made, and where they are in it, in bytes, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) text: String,
    pub(super) places: Vec<Range<usize>>,
}

/// Makes the edits, all or none. Time grows with the text's length times the number of edits: not for the runtime's
/// threads.
pub(super) fn make(text: &str, edits: &[TextEdit]) -> Result<Made, EditError> {
    let at = bytes_at(text, edits);
    let new: Vec<String> = edits.iter().map(|edit| plain(edit.new_text())).collect();
    let mut parts: Vec<(Range<usize>, usize)> = Vec::new();
    let mut len = text.len();
    for (edit, wanted) in edits.iter().enumerate() {
        let refused = |reason| EditError::Refused { edit, reason };
        let found = match wanted {
            TextEdit::Text { old, all, .. } => find(text, edit, &plain(old), *all)?,
            TextEdit::Place { start, end, .. } if start > end => {
                return Err(refused("`end` is before `start`"));
            }
            TextEdit::Place { start, end, .. } => match (at.get(start), at.get(end)) {
                (Some(start), Some(end)) => vec![(*start, *end)],
                _ => {
                    return Err(refused(
                        "`start` or `end` is past the end of the text, or inside a character",
                    ));
                }
            },
        };
        if parts.len() + found.len() > MAX_PLACES {
            return Err(refused("with it more than 100,000 places would change"));
        }
        len += found.len().saturating_mul(new[edit].len());
        parts.extend(found.into_iter().map(|(start, end)| (start..end, edit)));
    }
    if len > MAX_BYTES {
        return Err(EditError::Refused {
            edit: edits.len() - 1,
            reason: "with it the text would be too large",
        });
    }
    parts.sort_by_key(|(range, _)| (range.start, range.end));
    for pair in parts.windows(2) {
        if pair[1].0.start < pair[0].0.end {
            let (one, two) = (pair[0].1, pair[1].1);
            return Err(EditError::Overlap { first: one.min(two), second: one.max(two) });
        }
    }
    let mut made = Made { text: String::with_capacity(len), places: Vec::with_capacity(parts.len()) };
    let mut from = 0;
    for (range, edit) in parts {
        made.text.push_str(&text[from..range.start]);
        let start = made.text.len();
        made.text.push_str(&new[edit]);
        made.places.push(start..made.text.len());
        from = range.end;
    }
    made.text.push_str(&text[from..]);
    Ok(made)
}

/// Where in the text the places that edits name are; those that are none are left out.
fn bytes_at(text: &str, edits: &[TextEdit]) -> HashMap<u32, usize> {
    let mut wanted: Vec<u32> = edits
        .iter()
        .filter_map(|edit| match edit {
            TextEdit::Place { start, end, .. } => Some([*start, *end]),
            TextEdit::Text { .. } => None,
        })
        .flatten()
        .collect();
    wanted.sort_unstable();
    let mut cursor = Cursor::new(text);
    wanted.into_iter().filter_map(|units| Some((units, cursor.at_units(units)?))).collect()
}

/// Goes through a text once, forwards.
struct Cursor<'a> {
    text: &'a str,
    byte: usize,
    units: u32,
    /// From 1.
    line: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, byte: 0, units: 0, line: 1 }
    }

    fn step(&mut self) -> bool {
        let Some(character) = self.text[self.byte..].chars().next() else { return false };
        self.byte += character.len_utf8();
        self.units += if character.len_utf16() == 2 { 2 } else { 1 };
        self.line += usize::from(character == '\n');
        true
    }

    /// The byte at an offset in UTF-16 units; `None` past the end and inside a character.
    fn at_units(&mut self, units: u32) -> Option<usize> {
        while self.units < units && self.step() {}
        (self.units == units).then_some(self.byte)
    }

    fn at_byte(&mut self, byte: usize) -> u32 {
        while self.byte < byte && self.step() {}
        self.units
    }
}

/// Lines end in `\n` in a document, whatever they do in the file.
fn plain(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Where the old text starts and ends.
fn find(text: &str, edit: usize, old: &str, all: bool) -> Result<Vec<(usize, usize)>, EditError> {
    if old.is_empty() {
        return Err(EditError::Refused {
            edit,
            reason: "`old` is empty; name a place by `start`, or write the file",
        });
    }
    if all {
        let found = text.match_indices(old).map(|(at, _)| (at, at + old.len()));
        let found: Vec<_> = found.take(MAX_PLACES + 1).collect();
        return if found.is_empty() { Err(not_found(text, edit, old)) } else { Ok(found) };
    }
    let Some(at) = text.find(old) else { return Err(not_found(text, edit, old)) };
    let step = |at: usize| at + text[at..].chars().next().map_or(1, char::len_utf8);
    let mut count = 1;
    let mut lines = vec![line_of(text, at)];
    let mut from = step(at);
    // Overlapping ones too: each of them may be meant.
    while let Some(next) = text[from..].find(old) {
        count += 1;
        if lines.len() < NAMED_LINES {
            lines.push(line_of(text, from + next));
        }
        from = step(from + next);
        // Enough to say; each search may read all of `old` anew.
        if count > NAMED_LINES {
            break;
        }
    }
    if count > 1 {
        return Err(EditError::Ambiguous { edit, old: start_of(old), count, lines });
    }
    Ok(vec![(at, at + old.len())])
}

fn not_found(text: &str, edit: usize, old: &str) -> EditError {
    let first = old.lines().map(str::trim).find(|line| !line.is_empty());
    let near = first.map(|first| {
        let like = text.lines().enumerate().filter(|(_, line)| line.trim() == first);
        like.map(|(number, _)| number + 1).take(NAMED_LINES).collect()
    });
    EditError::NotFound { edit, old: start_of(old), near: near.unwrap_or_default() }
}

fn start_of(text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    if start.len() < text.len() { format!("{start}…") } else { start }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The lines (from 1, the last one included) in `now` that hold what was made, `now` being what others made of it
/// since. Neighbours are joined.
pub(super) fn lines_in(made: &Made, now: &str) -> Vec<(usize, usize)> {
    let since = diff(&made.text, now);
    let mut since = since.iter().peekable();
    let (mut old, mut new) = (Cursor::new(&made.text), Cursor::new(now));
    // Of the changes before the place: what they added, what they took away; the last may reach into it.
    let (mut grown, mut shrunk, mut last) = (0_u32, 0_u32, (0_u32, 0_u32));
    // What was put in right before a place, or right after it, is not of it.
    let mut moved = |byte: usize, is_start: bool| {
        let at = old.at_byte(byte);
        while let Some(edit) =
            since.next_if(|edit| edit.at < at || (is_start && edit.at == at && edit.delete == 0))
        {
            grown += utf16_len(&edit.insert);
            shrunk += last.1;
            last = (edit.at, edit.delete);
        }
        let gone = shrunk + last.1.min(at.saturating_sub(last.0));
        new.at_units((at + grown).saturating_sub(gone));
        (new.byte, new.line)
    };
    let mut lines: Vec<(usize, usize)> = Vec::new();
    for place in &made.places {
        let ((start, first), (end, mut last)) = (moved(place.start, true), moved(place.end, false));
        // A line end belongs to its line, not to the next.
        if end > start && now.as_bytes()[end - 1] == b'\n' {
            last -= 1;
        }
        match lines.last_mut() {
            Some(before) if before.1 + 1 >= first => before.1 = before.1.max(last),
            _ => lines.push((first, last.max(first))),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(old: &str, new: &str) -> TextEdit {
        TextEdit::Text { old: old.into(), new: new.into(), all: false }
    }

    fn all(old: &str, new: &str) -> TextEdit {
        TextEdit::Text { old: old.into(), new: new.into(), all: true }
    }

    fn place(start: u32, end: u32, new: &str) -> TextEdit {
        TextEdit::Place { start, end, new: new.into() }
    }

    fn made(before: &str, edits: &[TextEdit]) -> String {
        make(before, edits).unwrap().text
    }

    #[test]
    fn edits_speak_of_the_same_text_in_any_order() {
        let before = "one\ntwo\nthree\n";
        assert_eq!(made(before, &[text("three", "one"), text("one", "1")]), "1\ntwo\none\n");
        assert_eq!(made(before, &[text("two\r\n", "")]), "one\nthree\n");
        assert_eq!(made("a b a", &[all("a", "aa")]), "aa b aa");
        assert_eq!(made("😀é", &[place(2, 3, "e"), place(0, 0, "x")]), "x😀e");
        assert_eq!(made("ab", &[place(1, 1, "1"), place(1, 1, "2")]), "a12b");
        assert_eq!(made("", &[place(0, 0, "new\r\n")]), "new\n");
    }

    #[test]
    fn what_is_not_there_once_is_named() {
        let before = "  let a = 1;\nlet b = 2;\naaa\n";
        let error = make(before, &[text("b", "c"), text("let a = 1;\nlet c", "x")]).unwrap_err();
        assert_eq!(error, EditError::NotFound { edit: 1, old: "let a = 1;\nlet c".into(), near: vec![1] });
        let error = make(before, &[text("let", "x")]).unwrap_err();
        assert_eq!(error, EditError::Ambiguous { edit: 0, old: "let".into(), count: 2, lines: vec![1, 2] });
        assert!(matches!(make(before, &[text("aa", "x")]), Err(EditError::Ambiguous { count: 2, .. })));
        assert!(matches!(make(before, &[all("none", "x")]), Err(EditError::NotFound { .. })));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let overlap = make("abcdef", &[text("abc", "x"), text("cd", "y")]).unwrap_err();
        assert_eq!(overlap, EditError::Overlap { first: 0, second: 1 });
        let many = "a".repeat(2_000);
        let large = make(&many, &[all("a", &"x".repeat(1024 * 1024))]);
        assert!(matches!(large, Err(EditError::Refused { .. })));
        let often = make(&"a".repeat(MAX_PLACES + 1), &[all("a", "b")]);
        assert!(matches!(often, Err(EditError::Refused { .. })));
        for bad in [text("", "x"), place(2, 1, ""), place(1, 2, ""), place(0, 9, "")] {
            assert!(
                matches!(make("😀", std::slice::from_ref(&bad)), Err(EditError::Refused { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn changed_lines_are_those_of_the_present_text() {
        let made = make("1\n2\n3\n4\n5\n6\n", &[text("2\n", "two\nlines\n"), text("5", "five")]).unwrap();
        assert_eq!(lines_in(&made, &made.text), [(2, 3), (6, 6)]);
        let now = made.text.replacen("1\n", "0\n1\nmore\n", 1);
        assert_eq!(lines_in(&made, &now), [(4, 5), (8, 8)]);
        let now = made.text.replacen("1\n", "", 1);
        assert_eq!(lines_in(&made, &now), [(1, 2), (5, 5)]);
        let gone = make("1\n2\n3\n", &[text("2\n", "")]).unwrap();
        assert_eq!(lines_in(&gone, &gone.text), [(2, 2)]);
        assert_eq!(lines_in(&made, ""), [(1, 1)]);
    }
}
