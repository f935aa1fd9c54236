//! Who wrote which clocks of a document.

use crate::crdt::Run;
use crate::store::AuthorRange;
use std::ops::Range;

/// The author of text that was in the file when it was opened.
pub(super) const FILE: &str = "(file)";
/// The author of text whose session is not known.
pub(super) const UNKNOWN: &str = "(unknown)";

/// See the module's docs.
pub(super) struct Credits {
    /// By client id and clock, without overlaps.
    ranges: Vec<AuthorRange>,
    unknown: AuthorRange,
}

/// Whether a session wrote it, and not a program or nobody who is known.
pub(super) fn is_typed(range: &AuthorRange) -> bool {
    // No session's id begins so.
    !range.session_id.starts_with('(')
}

fn range(client_id: i64, author: &str, at_ms: i64, clocks: Range<i64>) -> AuthorRange {
    let (clock_start, clock_end, session_id) = (clocks.start, clocks.end, author.to_owned());
    AuthorRange { client_id, clock_start, clock_end, session_id, at_ms }
}

impl Credits {
    /// Of a document's ranges, as the store gives them.
    pub(super) fn of(ranges: Vec<AuthorRange>) -> Self {
        Self { ranges, unknown: range(0, UNKNOWN, 0, 0..0) }
    }

    /// The same with what was in its file, which came under the client id `generation` at `made_at_ms`.
    pub(super) fn with_file(mut ranges: Vec<AuthorRange>, generation: i64, made_at_ms: i64) -> Self {
        let at = ranges.partition_point(|range| range.client_id < generation);
        let count = ranges[at..].partition_point(|range| range.client_id == generation);
        let mut filled = Vec::with_capacity(2 * count + 1);
        let mut clock = 0;
        for known in ranges.drain(at..at + count) {
            filled.push(range(generation, FILE, made_at_ms, clock..known.clock_start));
            clock = known.clock_end;
            filled.push(known);
        }
        filled.push(range(generation, FILE, made_at_ms, clock..i64::MAX));
        ranges.splice(at..at, filled);
        Self::of(ranges)
    }

    fn find(&self, client: i64, clock: i64) -> &AuthorRange {
        let is_before = |range: &AuthorRange| (range.client_id, range.clock_start) <= (client, clock);
        let range = self.ranges.partition_point(is_before).checked_sub(1).map(|at| &self.ranges[at]);
        range.filter(|range| range.client_id == client && clock < range.clock_end).unwrap_or(&self.unknown)
    }

    /// Each character of the text with who typed it.
    pub(super) fn characters<'a>(&'a self, runs: &'a [Run]) -> impl Iterator<Item = (char, &'a AuthorRange)> {
        runs.iter().flat_map(move |run| {
            let client = i64::try_from(run.client).unwrap_or(i64::MAX);
            let mut clock = i64::from(run.clock);
            let mut range = self.find(client, clock);
            run.text.chars().map(move |character| {
                let is_of =
                    client == range.client_id && clock >= range.clock_start && clock < range.clock_end;
                // Where the table has a hole, what comes after it is looked up at each step.
                if !is_of || range.session_id == UNKNOWN {
                    range = self.find(client, clock);
                }
                clock += if character.len_utf16() == 2 { 2 } else { 1 };
                (character, range)
            })
        })
    }
}
