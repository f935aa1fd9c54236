//! Who typed what of a document's text: by line, and of what changed from one text to another.

use super::credits::Credits;
use super::document::{decode_row, state_at};
use super::history::{HistoryError, replay, turn};
use super::hub::Hub;
use crate::base::DocumentId;
use crate::crdt::{Run, SharedText, inserted, kept, same_lines};
use crate::store::{LogRow, Past};
use crate::workspace::RelPath;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// States of a document's past that are looked into for what was deleted; the oldest ones are not.
const MAX_STATES: usize = 32;
/// Bytes of text that are compared to find those; rows before are passed over.
const MAX_COMPARED: usize = 512 * 1024 * 1024;

/// Who typed a part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineAuthor {
    /// A session's id, or a word in brackets.
    pub author: String,
    /// When they typed the newest part of it, to the minute.
    pub at_ms: i64,
}

/// Neighbouring lines by the same authors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The first, counted from 1.
    pub line: usize,
    /// How many.
    pub count: usize,
    /// Who typed them, who typed most first.
    pub authors: Vec<LineAuthor>,
}

/// A document's newest durable text, and who typed which line.
#[derive(Clone, Debug)]
pub struct Authored {
    /// Its position.
    pub position: i64,
    /// The text, as editors have it.
    pub text: String,
    /// Its lines.
    pub lines: Vec<Lines>,
}

/// What one author typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// A session's id, or a word in brackets.
    pub author: String,
    /// How many characters, in UTF-8 bytes.
    pub bytes: u64,
}

/// The newest durable text in parts, and who wrote which clocks.
struct Traced {
    document: DocumentId,
    position: i64,
    runs: Vec<Run>,
    credits: Credits,
}

impl Hub {
    async fn traced(&self, path: &RelPath) -> Result<Traced, HistoryError> {
        let (document, generation) = self.living_again(path).await?;
        let store = self.store();
        let made_at = store.document_made_at(&document).await?.unwrap_or(0);
        let (position, runs) = self.state(&document, None, SharedText::runs).await?;
        // Read after the text, so that whoever wrote some of it is named.
        let ranges = store.author_ranges(&document).await?;
        Ok(Traced { document, position, runs, credits: Credits::with_file(ranges, generation, made_at) })
    }

    /// Who typed which line of the newest durable text, and when.
    ///
    /// # Errors
    /// [`HistoryError::NoDocument`].
    pub async fn authors(&self, path: &RelPath) -> Result<Authored, HistoryError> {
        let Traced { position, runs, credits, .. } = self.traced(path).await?;
        let work = move || {
            let text = runs.iter().map(|run| run.text.as_str()).collect();
            Some(Authored { position, text, lines: lines(&runs, &credits) })
        };
        replay(turn().await?, work).await
    }

    /// Who typed what is in the text `new` and was not in `old`, as it stands in the newest durable text of the document or,
    /// where it was deleted since, as its lines stood before, as far back as the log is kept; who typed most first.
    ///
    /// # Errors
    /// [`HistoryError::NoDocument`].
    pub async fn typed(&self, path: &RelPath, old: String, new: String) -> Result<Vec<Typed>, HistoryError> {
        let Traced { document, runs, credits, .. } = self.traced(path).await?;
        let now = move || {
            let mut sought = Sought::new(&old, new);
            let stands = kept(&sought.new, &text_of(&runs));
            let is_whole = sought.letters_in(&stands) == sought.letters();
            if is_whole {
                sought.take(&runs, &credits, &stands);
            }
            Some((sought, is_whole, runs, credits, stands))
        };
        let (mut sought, is_whole, runs, credits, stands) = replay(turn().await?, now).await?;
        if is_whole {
            return Ok(sought.found());
        }
        // Some of it was deleted since.
        let turn = turn().await?;
        let past = self.store().all_past(&document).await?;
        let then = move || {
            if let Past::Kept { snapshot, rows } = past {
                // A log that can't be replayed tells no more than the text does.
                let _ = take_from_past(&mut sought, &credits, &snapshot, &rows);
            }
            sought.take(&runs, &credits, &stands);
            Some(sought.found())
        };
        replay(turn, then).await
    }
}

/// Who typed which line: parts of the text joined with the table of who wrote which clocks.
fn lines(runs: &[Run], credits: &Credits) -> Vec<Lines> {
    let mut made: Vec<Lines> = Vec::new();
    let mut number = 0;
    let mut line: Vec<(&str, i64, u32)> = Vec::new();
    let mut end_line = |line: &mut Vec<(&str, i64, u32)>| {
        number += 1;
        // A stable order where shares are equal: who comes first in the line.
        line.sort_by_key(|(_, _, share)| std::cmp::Reverse(*share));
        let authors: Vec<_> = line
            .drain(..)
            .map(|(author, at_ms, _)| LineAuthor { author: author.to_owned(), at_ms })
            .collect();
        match made.last_mut() {
            Some(last) if last.authors == authors => last.count += 1,
            _ => made.push(Lines { line: number, count: 1, authors }),
        }
    };
    for (character, range) in credits.characters(runs) {
        let units = if character.len_utf16() == 2 { 2 } else { 1 };
        match line.iter_mut().find(|(author, ..)| *author == range.session_id) {
            Some((_, at_ms, share)) => {
                *at_ms = (*at_ms).max(range.at_ms);
                *share += units;
            }
            None => line.push((&range.session_id, range.at_ms, units)),
        }
        if character == '\n' {
            end_line(&mut line);
        }
    }
    if !line.is_empty() {
        end_line(&mut line);
    }
    made
}

fn text_of(runs: &[Run]) -> String {
    runs.iter().map(|run| run.text.as_str()).collect()
}

/// A part of one text, and where it begins in another. Of several, both ascend.
type Part = (Range<usize>, usize);

/// What is new in a text, and whose typing that is, as far as it is found. Line ends are nobody's typing: they come with lines
/// that are.
struct Sought {
    new: String,
    open: Vec<Range<usize>>,
    found: Vec<Typed>,
}

impl Sought {
    fn new(old: &str, new: String) -> Self {
        Self { open: inserted(old, &new), new, found: Vec::new() }
    }

    fn count<'a>(&self, parts: impl IntoIterator<Item = &'a Range<usize>>) -> usize {
        let letters =
            |part: &Range<usize>| self.new[part.clone()].bytes().filter(|byte| *byte != b'\n').count();
        parts.into_iter().map(letters).sum()
    }

    /// How much is open.
    fn letters(&self) -> usize {
        self.count(&self.open)
    }

    /// How much of that is among these parts.
    fn letters_in(&self, stands: &[Part]) -> usize {
        self.count(meet(&self.open, stands).iter().map(|(part, _)| part))
    }

    /// Which of its lines are in another text, whole.
    fn lines_in(&self, text: &str) -> Vec<Part> {
        let ranges = |text: &str| -> Vec<Range<usize>> {
            let mut at = 0;
            let range = |line: &str| {
                at += line.len();
                at - line.len()..at - usize::from(line.ends_with('\n'))
            };
            text.split_inclusive('\n').map(range).collect()
        };
        let (own, other) = (ranges(&self.new), ranges(text));
        let same = same_lines(&self.new, text).into_iter();
        same.filter_map(|(line, there)| Some((own.get(line)?.clone(), other.get(there)?.start))).collect()
    }

    /// Credits what is open and stands in a text, in these parts of it, to who typed it there.
    fn take(&mut self, runs: &[Run], credits: &Credits, stands: &[Part]) {
        let met = meet(&self.open, stands);
        let mut places = met.iter().map(|(part, start)| *start..start + part.len()).peekable();
        let mut at = 0;
        for (character, range) in credits.characters(runs) {
            let start = at;
            at += character.len_utf8();
            while places.next_if(|place| place.end <= start).is_some() {}
            if character == '\n' || places.peek().is_none_or(|place| start < place.start) {
                continue;
            }
            let bytes = character.len_utf8() as u64;
            match self.found.iter_mut().find(|typed| typed.author == range.session_id) {
                Some(typed) => typed.bytes += bytes,
                None => self.found.push(Typed { author: range.session_id.clone(), bytes }),
            }
        }
        self.open = without(&self.open, met.into_iter().map(|(part, _)| part));
    }

    fn found(mut self) -> Vec<Typed> {
        self.found.sort_by_key(|typed| std::cmp::Reverse(typed.bytes));
        self.found
    }
}

/// Credits what is sought out of states of the past, whole lines of it: first out of the one that has most of it, the later
/// of two, since what was staged at once stood there at once.
fn take_from_past(sought: &mut Sought, credits: &Credits, snapshot: &[u8], rows: &[LogRow]) -> Option<()> {
    let states = last_states(sought, snapshot, rows)?;
    while let Some((had, position, stands)) = states
        .iter()
        .map(|(position, stands)| (sought.letters_in(stands), *position, stands))
        .max_by_key(|(had, position, _)| (*had, *position))
        && had > 0
    {
        let shared = state_at(snapshot, rows, position)?;
        sought.take(&shared.runs(), credits, stands);
    }
    Some(())
}

/// The newest state and those before one of the lines that are sought went, at the ends of rows: their positions, and what
/// stands in them.
fn last_states(sought: &Sought, snapshot: &[u8], rows: &[LogRow]) -> Option<VecDeque<(i64, Vec<Part>)>> {
    let open = meet(&sought.open, &sought.lines_in(&sought.new));
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for (part, _) in open.iter().filter(|(part, _)| !part.is_empty()) {
        let start = sought.new[..part.start].rfind('\n').map_or(0, |end| end + 1);
        let line = sought.new[start..].split('\n').next().unwrap_or_default();
        let next = numbers.len();
        numbers.entry(line).or_insert(next);
    }
    let count = |text: &str| {
        let mut counts = vec![0_usize; numbers.len()];
        for number in text.split('\n').filter_map(|line| numbers.get(line)) {
            counts[*number] += 1;
        }
        counts
    };
    let passed = rows.len().saturating_sub(MAX_COMPARED / sought.new.len().max(1));
    let mut shared = SharedText::load([snapshot]).ok()?;
    let mut text = shared.text();
    let mut counts = count(&text);
    let mut position = rows.first().map_or(0, |row| row.first_position - 1);
    let mut states = VecDeque::new();
    for (number, row) in rows.iter().enumerate() {
        for update in decode_row(&row.data)? {
            shared.apply(update).ok()?;
        }
        if number < passed {
            continue;
        }
        let now = shared.text();
        let now_counts = count(&now);
        if now_counts.iter().zip(&counts).any(|(now, before)| now < before) {
            states.push_back((position, sought.lines_in(&text)));
            if states.len() >= MAX_STATES {
                states.pop_front();
            }
        }
        (text, counts, position) = (now, now_counts, row.position);
    }
    states.push_back((position, sought.lines_in(&text)));
    Some(states)
}

/// Those of `wanted` that are among the kept parts.
fn meet(wanted: &[Range<usize>], kept: &[Part]) -> Vec<Part> {
    let mut met = Vec::new();
    let mut first = 0;
    for part in wanted {
        while kept.get(first).is_some_and(|(of, _)| of.end <= part.start) {
            first += 1;
        }
        for (of, other) in kept[first..].iter().take_while(|(of, _)| of.start < part.end) {
            let (start, end) = (part.start.max(of.start), part.end.min(of.end));
            met.push((start..end, other + (start - of.start)));
        }
    }
    met
}

/// What is left of `all` without some parts of it; both ascend.
fn without(all: &[Range<usize>], parts: impl IntoIterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut left = Vec::new();
    let mut parts = parts.into_iter().peekable();
    for range in all {
        let mut at = range.start;
        while let Some(part) = parts.next_if(|part| part.start < range.end) {
            left.push(at..part.start);
            at = part.end;
        }
        left.push(at..range.end);
    }
    left.retain(|range| !range.is_empty());
    left
}

#[cfg(test)]
mod tests {
    use super::super::credits::{FILE, UNKNOWN};
    use super::*;
    use crate::crdt::{ClockRange, Edit, FIRST_SERVER_CLIENT};
    use crate::store::AuthorRange;
    use proptest::prelude::*;

    fn range(client_id: i64, clock_start: i64, clock_end: i64, session: &str, at_ms: i64) -> AuthorRange {
        AuthorRange { client_id, clock_start, clock_end, session_id: session.into(), at_ms }
    }

    fn run(client: u64, clock: u32, text: &str) -> Run {
        Run { client, clock, text: text.into() }
    }

    #[test]
    fn lines_name_who_typed_most_of_them_first() {
        let ranges = vec![range(7, 0, 3, "ann", 10), range(7, 3, 9, "ann", 20), range(8, 0, 2, "bob", 30)];
        let credits = Credits::with_file(ranges, 99, 1);
        let runs = [
            run(99, 1, "one\ntwo\nthr"),
            run(7, 2, "AA"),
            run(99, 12, "ee\n"),
            run(8, 0, "b\n"),
            run(8, 2, "?"),
        ];
        let told: Vec<_> = lines(&runs, &credits)
            .into_iter()
            .map(|lines| {
                let who: Vec<_> = lines.authors.into_iter().map(|of| (of.author, of.at_ms)).collect();
                (lines.line, lines.count, who)
            })
            .collect();
        let file = || (FILE.to_owned(), 1);
        assert_eq!(
            told,
            [
                (1, 2, vec![file()]),
                (3, 1, vec![file(), ("ann".into(), 20)]),
                (4, 1, vec![("bob".into(), 30)]),
                (5, 1, vec![(UNKNOWN.into(), 0)]),
            ]
        );
        assert!(lines(&[], &credits).is_empty());
    }

    #[test]
    fn what_is_new_is_credited_to_who_typed_it_and_still_stands() {
        let ranges = vec![range(7, 0, 100, "ann", 1), range(8, 0, 100, "bob", 2)];
        let credits = Credits::with_file(ranges, 99, 0);
        let text = [
            run(99, 1, "one\ntwo "),
            run(7, 0, "words"),
            run(99, 9, "\n"),
            run(8, 0, "bob's\n"),
            run(7, 5, "later\n"),
        ];
        let of = |old: &str, new: &str| -> Vec<(String, u64)> {
            let mut sought = Sought::new(old, new.to_owned());
            sought.take(&text, &credits, &kept(new, &text_of(&text)));
            sought.found().into_iter().map(|typed| (typed.author, typed.bytes)).collect()
        };
        let (ann, bob) = (|bytes| ("ann".to_owned(), bytes), |bytes| ("bob".to_owned(), bytes));
        let committed = "one\ntwo is long \n";
        let now = "one\ntwo is long words\nbob's\nlater\n";
        assert_eq!(of(committed, now), [ann(10), bob(5)]);
        assert_eq!(
            of(committed, "one\ntwo is long words\nbob's\n"),
            [ann(5), bob(5)],
            "what is not staged does not count"
        );
        assert_eq!(
            of("one\ntwo is long words\n", "one\ntwo is long words\nbob's\n"),
            [bob(5)],
            "nor what was committed before"
        );
        assert_eq!(of(committed, "one\ntwo is long \ntyped over since\n"), []);
        assert_eq!(of("", "one\n"), [("(file)".to_owned(), 3)]);
        assert_eq!(of(now, now), []);
    }

    proptest! {
        #[test]
        fn what_was_staged_by_hunks_is_its_typists_whatever_is_deleted_since(
            steps in proptest::collection::vec((0..2_usize, 0..30_usize, any::<bool>()), 4..40),
            staged_at in 0..40_usize,
            picked in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let base: Vec<_> = (0..6).map(|n| (format!("line {n}\n"), None)).collect();
            let text = |lines: &[(String, Option<usize>)]| -> String { lines.iter().map(|(line, _)| &line[..]).collect() };
            let old = text(&base);
            let snapshot = SharedText::seed(FIRST_SERVER_CLIENT, &old);
            let mut shared = SharedText::load([snapshot.as_ref()]).unwrap();
            let (mut lines, mut ranges, mut rows) = (base, Vec::new(), Vec::new());
            let mut staged = Vec::new();
            let stage = |lines: &[(String, Option<usize>)]| -> Vec<(String, Option<usize>)> {
                lines.iter().enumerate().filter(|(n, (_, by))| by.is_none() || picked[n % 40]).map(|(_, line)| line.clone()).collect()
            };
            for (number, (who, at, deletes)) in steps.iter().enumerate() {
                if number == staged_at % steps.len() {
                    staged = stage(&lines);
                }
                let at = at % lines.len();
                let offset = lines[..at].iter().map(|(line, _)| line.len()).sum::<usize>();
                let mut edit = Edit { at: u32::try_from(offset).unwrap(), delete: 0, insert: String::new() };
                if *deletes && lines[at].1.is_some() {
                    edit.delete = u32::try_from(lines.remove(at).0.len()).unwrap();
                } else {
                    edit.insert = format!("{}-{number}\n", ["ann", "bob"][*who]);
                    lines.insert(at, (edit.insert.clone(), Some(*who)));
                }
                for (update, applied) in shared.edit(&[edit]).unwrap() {
                    let of = |of: &ClockRange| {
                        range(i64::try_from(of.client).unwrap(), of.start.into(), of.end.into(), ["ann", "bob"][*who], 1)
                    };
                    ranges.extend(applied.inserted.iter().map(of));
                    let position = i64::try_from(rows.len()).unwrap() + 2;
                    let mut data = u32::try_from(update.len()).unwrap().to_le_bytes().to_vec();
                    data.extend_from_slice(&update);
                    rows.push(LogRow { first_position: position, position, data: data.into(), at_ms: 1 });
                }
            }
            let credits = Credits::with_file(ranges, i64::try_from(FIRST_SERVER_CLIENT).unwrap(), 0);
            let mut sought = Sought::new(&old, text(&staged));
            take_from_past(&mut sought, &credits, &snapshot, &rows).unwrap();
            let mut found: Vec<_> = sought.found().into_iter().map(|typed| (typed.author, typed.bytes)).collect();
            found.sort();
            let of = |who| staged.iter().filter(|(_, by)| *by == Some(who)).map(|(line, _)| line.len() as u64 - 1).sum();
            let mut wanted: Vec<(String, u64)> = vec![("ann".into(), of(0)), ("bob".into(), of(1))];
            wanted.retain(|(_, bytes)| *bytes > 0);
            prop_assert_eq!(found, wanted);
        }
    }
}
