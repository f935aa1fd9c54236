//! What an outside change takes away and another one brings back stays its typists': a stash and its pop, a rebase that
//! puts uncommitted work aside, a branch and the way back, whoever's git does it.
//!
//! Nothing is kept but positions: the log has the text, and the table of clocks who typed it. Lines are what comes back,
//! whole, and in their order; so nobody is credited with a line that they did not type as it stands there.

use super::actor::Actor;
use super::log::state_at;
use super::open::OpenContext;
use crate::base::{DocumentId, heavy};
use crate::branch::credits::{Credits, is_typed};
use crate::crdt::{Applied, ClockRange, Run, same_lines};
use crate::store::{AuthorRange, Past, State, StoreError};
use bytes::Bytes;
use std::collections::HashSet;
use tracing::warn;

/// States that are kept of one path; past it the oldest go.
const MAX_TAKEN: usize = 8;
/// Bytes of log that are replayed for one outside change; what would take more is not looked at.
const MAX_REPLAYED: usize = 32 * 1024 * 1024;

/// A character of a text that came from outside: its clock, and whether it is still nobody's.
struct Came {
    client: u64,
    clock: u32,
    units: u32,
    is_open: bool,
}

/// A text of now in lines.
pub(super) struct Now {
    text: String,
    lines: Vec<Vec<Came>>,
}

impl Now {
    /// `fresh`: the clocks that the outside change brought.
    pub(super) fn new(runs: &[Run], fresh: &[ClockRange]) -> Self {
        let mut lines = vec![Vec::new()];
        for run in runs {
            let mut clock = run.clock;
            for character in run.text.chars() {
                let units = if character.len_utf16() == 2 { 2 } else { 1 };
                let is_in = |of: &ClockRange| of.client == run.client && (of.start..of.end).contains(&clock);
                let is_open = fresh.iter().any(is_in);
                let line = lines.last_mut().expect("it begins with one");
                line.push(Came { client: run.client, clock, units, is_open });
                clock += units;
                if character == '\n' {
                    lines.push(Vec::new());
                }
            }
        }
        Self { text: text_of(runs), lines }
    }

    /// Gives lines that came, that are in the `past` and were not in the text `before`, to who typed them then. `true`:
    /// all that was typed then is in the text now.
    fn give(&mut self, past: &[Run], credits: &Credits, before: &str, given: &mut Vec<AuthorRange>) -> bool {
        let past_text = text_of(past);
        let were_there: HashSet<_> =
            same_lines(&past_text, before).into_iter().map(|(line, _)| line).collect();
        let mut pairs = same_lines(&past_text, &self.text).into_iter().peekable();
        let mut characters = credits.characters(past).peekable();
        let (mut number, mut is_whole) = (0, true);
        while characters.peek().is_some() {
            let now = pairs.next_if(|(line, _)| *line == number).map(|(_, now)| now);
            let mut came =
                now.filter(|_| !were_there.contains(&number)).map(|now| self.lines[now].iter_mut());
            for (character, range) in characters.by_ref() {
                let came = came.as_mut().and_then(Iterator::next);
                if is_typed(range) {
                    is_whole &= now.is_some();
                    if let Some(came) = came.filter(|came| came.is_open) {
                        came.is_open = false;
                        add(given, came, range);
                    }
                }
                if character == '\n' {
                    break;
                }
            }
            number += 1;
        }
        is_whole
    }
}

/// Makes the last one longer where it is the same typist's, at the same time.
fn add(given: &mut Vec<AuthorRange>, came: &Came, of: &AuthorRange) {
    let client_id = i64::try_from(came.client).unwrap_or(i64::MAX);
    let (clock_start, clock_end) = (i64::from(came.clock), i64::from(came.clock + came.units));
    match given.last_mut() {
        Some(last)
            if (last.client_id, last.clock_end, last.at_ms) == (client_id, clock_start, of.at_ms)
                && last.session_id == of.session_id =>
        {
            last.clock_end = clock_end;
        }
        _ => given.push(AuthorRange { client_id, clock_start, clock_end, ..of.clone() }),
    }
}

fn text_of(runs: &[Run]) -> String {
    runs.iter().map(|run| run.text.as_str()).collect()
}

fn typed_count(runs: &[Run], credits: &Credits) -> usize {
    credits.characters(runs).filter(|(_, range)| is_typed(range)).count()
}

/// A state of before, and who typed it; `None` where it is not kept any more.
async fn state(
    context: &OpenContext,
    of: &State,
    bytes: &mut usize,
) -> Result<Option<(Vec<Run>, Credits)>, StoreError> {
    let past = match context.store.past(&of.document, of.position).await {
        // The document itself is gone.
        Err(StoreError::Damaged(_)) => return Ok(None),
        past => past?,
    };
    let Past::Kept { snapshot, rows } = past else { return Ok(None) };
    let size = snapshot.len() + rows.iter().map(|row| row.data.len()).sum::<usize>();
    let Some(left) = bytes.checked_sub(size) else { return Ok(None) };
    *bytes = left;
    let ranges = context.store.author_ranges(&of.document).await?;
    let runs = heavy(size, || state_at(&snapshot, &rows, of.position).map(|shared| shared.runs()));
    Ok(runs.map(|runs| (runs, Credits::of(ranges))))
}

/// Who typed what came, out of the states; those of which all is there again, or that are not kept any more, go.
pub(super) async fn whose(
    context: &OpenContext,
    states: &mut Vec<State>,
    before: &str,
    mut now: Now,
) -> Vec<AuthorRange> {
    let mut given = Vec::new();
    let mut bytes = MAX_REPLAYED;
    let mut left = Vec::new();
    for of in states.drain(..) {
        match state(context, &of, &mut bytes).await {
            Ok(Some((runs, credits))) => {
                let is_whole = heavy(now.text.len(), || now.give(&runs, &credits, before, &mut given));
                left.extend((!is_whole).then_some(of));
            }
            Ok(None) => {}
            Err(error) => {
                warn!(document.id = %of.document, %error, "who typed what came back can't be looked up");
                left.push(of);
            }
        }
    }
    *states = left;
    given.sort_by_key(|range| (range.client_id, range.clock_start));
    given
}

/// The states of the document that was at a path last, and its last one.
pub(super) async fn predecessor(context: &OpenContext, path: &str) -> Result<Vec<State>, StoreError> {
    let Some(row) = context.store.last_ended(&context.branch, path).await? else { return Ok(Vec::new()) };
    let mut states = row.disk.taken;
    if let Some((_, position)) = context.store.positions(&row.id).await? {
        note(&mut states, State { document: row.id, position });
    }
    Ok(states)
}

fn note(states: &mut Vec<State>, state: State) {
    states.insert(0, state);
    states.truncate(MAX_TAKEN);
}

/// The state to which somebody brings the files back just now.
async fn then(context: &OpenContext, document: &DocumentId) -> Option<State> {
    let at_ms = (*context.back_to.lock())?;
    let position = context.store.position_at(document, at_ms).await.ok()??;
    Some(State { document: document.clone(), position })
}

impl Actor {
    /// Who typed what of an outside change that is in the text, and not in the log yet. `before`: the text's parts before it.
    pub(super) async fn recall(&mut self, before: &[Run], updates: &[(Bytes, Applied)]) -> Vec<AuthorRange> {
        let fresh: Vec<_> =
            updates.iter().flat_map(|(_, applied)| applied.inserted.iter().copied()).collect();
        let after = heavy(self.live.len_utf16() as usize, || self.live.runs());
        let mut given = Vec::new();
        let then = if fresh.is_empty() { None } else { then(&self.context, &self.id).await };
        let mut states: Vec<_> = then.iter().cloned().chain(std::mem::take(&mut self.disk.taken)).collect();
        if !fresh.is_empty() && !states.is_empty() {
            let now = heavy(self.live.len_utf16() as usize, || Now::new(&after, &fresh));
            given = whose(&self.context, &mut states, &text_of(before), now).await;
        }
        states.retain(|state| Some(state) != then.as_ref());
        self.disk.taken = states;
        match self.context.store.author_ranges(&self.id).await {
            Ok(ranges) => {
                let credits = Credits::of(ranges);
                // What is fresh is in no range yet.
                let count = |runs| heavy(self.live.len_utf16() as usize, || typed_count(runs, &credits));
                if count(before) > count(&after) {
                    let state = State { document: self.id.clone(), position: self.log.position() };
                    note(&mut self.disk.taken, state);
                }
            }
            Err(error) => {
                warn!(document.id = %self.id, %error, "whose text an outside change took can't be looked up");
            }
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crdt::{Edit, FIRST_SERVER_CLIENT, SharedText, diff};
    use proptest::prelude::*;

    /// A document without its task: its text, who wrote which clocks, and the states from which something was taken.
    struct Model {
        shared: SharedText,
        ranges: Vec<AuthorRange>,
        taken: Vec<(Vec<Run>, Vec<AuthorRange>)>,
        /// Each character of a session's that ever stood there: in which line, where in it.
        ever: HashSet<(String, usize, String)>,
    }

    impl Model {
        fn new() -> Self {
            let seed = SharedText::seed(FIRST_SERVER_CLIENT, "one\n}\n\ntwo\n}\n");
            let shared = SharedText::load([seed.as_ref()]).unwrap();
            Self { shared, ranges: Vec::new(), taken: Vec::new(), ever: HashSet::new() }
        }

        /// Each line, and who typed its characters; empty where no session did.
        fn lines(&self) -> Vec<(String, Vec<String>)> {
            let (runs, credits) = (self.shared.runs(), Credits::of(self.ranges.clone()));
            let mut lines = vec![(String::new(), Vec::new())];
            for (character, range) in credits.characters(&runs) {
                if character == '\n' {
                    lines.push((String::new(), Vec::new()));
                    continue;
                }
                let (text, who) = lines.last_mut().unwrap();
                text.push(character);
                who.push(if is_typed(range) { range.session_id.clone() } else { String::new() });
            }
            lines
        }

        fn credit(&mut self, mut ranges: Vec<AuthorRange>) {
            self.ranges.append(&mut ranges);
            self.ranges.sort_by_key(|range| (range.client_id, range.clock_start));
        }

        fn type_in(&mut self, session: &str, edit: Edit) -> Vec<(String, usize, String)> {
            let now = self.shared.edit(&[edit]).unwrap();
            let of = |range: &ClockRange| AuthorRange {
                client_id: i64::try_from(range.client).unwrap(),
                clock_start: range.start.into(),
                clock_end: range.end.into(),
                session_id: session.into(),
                at_ms: 1,
            };
            let ranges = now.iter().flat_map(|(_, applied)| &applied.inserted).map(of).collect();
            self.credit(ranges);
            self.remember();
            Vec::new()
        }

        fn typed(&self) -> HashSet<(String, usize, String)> {
            let of_line = |(text, who): (String, Vec<String>)| {
                let typed = who.into_iter().enumerate().filter(|(_, who)| !who.is_empty());
                typed.map(|(at, who)| (text.clone(), at, who)).collect::<Vec<_>>()
            };
            self.lines().into_iter().flat_map(of_line).collect()
        }

        fn remember(&mut self) {
            let typed = self.typed();
            self.ever.extend(typed);
        }

        /// As `ingest` does it; what is credited to sessions by it.
        fn outside(&mut self, text: &str) -> Vec<(String, usize, String)> {
            let before = self.shared.runs();
            let updates = self.shared.edit(&diff(&self.shared.text(), text)).unwrap();
            let after = self.shared.runs();
            let fresh: Vec<_> = updates.iter().flat_map(|(_, applied)| applied.inserted.clone()).collect();
            let mut now = Now::new(&after, &fresh);
            let mut given = Vec::new();
            let before_text = text_of(&before);
            self.taken.retain(|(runs, ranges)| {
                !now.give(runs, &Credits::of(ranges.clone()), &before_text, &mut given)
            });
            let credits = Credits::of(self.ranges.clone());
            if typed_count(&before, &credits) > typed_count(&after, &credits) {
                self.taken.insert(0, (before, self.ranges.clone()));
                self.taken.truncate(MAX_TAKEN);
            }
            let kept = self.typed();
            self.credit(given);
            self.typed().difference(&kept).cloned().collect()
        }
    }

    #[test]
    fn what_comes_back_is_its_typists_again_and_a_copy_of_it_is_not() {
        let mut model = Model::new();
        let of = |model: &Model, line: &str| -> Vec<Vec<String>> {
            let lines = model.lines().into_iter().filter(|(text, _)| text == line);
            lines
                .map(|(_, mut who)| {
                    who.dedup();
                    who
                })
                .collect()
        };
        let empty = model.shared.text();
        model.type_in("ann", Edit { at: 4, delete: 0, insert: "ann's\n".into() });
        model.type_in("bob", Edit { at: 9, delete: 0, insert: " bob".into() });
        let full = model.shared.text();
        assert_eq!(full, "one\nann's bob\n}\n\ntwo\n}\n");
        let both = || vec!["ann".to_owned(), "bob".to_owned()];
        model.outside(&empty);
        assert_eq!(model.taken.len(), 1);
        model.outside(&format!("merged\n{full}"));
        assert_eq!(of(&model, "ann's bob"), [both()]);
        assert!(model.taken.is_empty(), "all of it is there");
        model.outside(&format!("ann's bob\n{full}"));
        assert_eq!(of(&model, "ann's bob").iter().filter(|who| **who == both()).count(), 1, "it came once");
        model.outside(&empty);
        model.outside(&full.replace("ann's bob", "ann's bobby"));
        assert_eq!(of(&model, "ann's bobby"), [vec![String::new()]], "another line");
    }

    proptest! {
        #[test]
        fn nobody_is_credited_with_a_line_that_was_not_theirs(
            steps in proptest::collection::vec((0..4_usize, 0..40_u32, 0..4_u32, "[a}\n😀 ]{0,6}"), 1..40),
        ) {
            let mut model = Model::new();
            let mut texts = vec![model.shared.text()];
            for (kind, at, count, text) in steps {
                let old = &texts[at as usize % texts.len()];
                let at = at % (model.shared.len_utf16() + 1);
                let given = match kind {
                    0 => model.type_in("ann", Edit { at, delete: count, insert: text }),
                    1 => model.type_in("bob", Edit { at, delete: count, insert: text }),
                    // A text of before, as it was or with something new in it.
                    2 => model.outside(old),
                    _ => {
                        let mut lines: Vec<_> = old.split('\n').map(str::to_owned).collect();
                        lines.insert(count as usize % lines.len(), text);
                        model.outside(&lines.join("\n"))
                    }
                };
                for one in given {
                    prop_assert!(model.ever.contains(&one), "{:?}", one);
                }
                model.remember();
                texts.push(model.shared.text());
            }
        }

        #[test]
        fn what_is_put_aside_and_brought_back_is_whose_it_was(
            typed in proptest::collection::vec((0..2_usize, 0..60_u32, 0..6_u32, "[a-z]{1,5}\n?"), 1..20),
            aside in proptest::collection::vec(0..3_usize, 30),
        ) {
            let mut model = Model::new();
            let numbered: String = (0..8).map(|n| format!("line {n} of the file\n")).collect();
            model.outside(&numbered);
            for (who, at, delete, insert) in typed {
                let at = at % (model.shared.len_utf16() + 1);
                model.type_in(["ann", "bob"][who], Edit { at, delete, insert });
            }
            let (text, lines) = (model.shared.text(), model.lines());
            let distinct: HashSet<_> = lines.iter().map(|(line, _)| line).collect();
            prop_assume!(distinct.len() == lines.len());
            let left: Vec<_> = lines.iter().zip(aside.iter().cycle()).enumerate()
                .filter_map(|(n, ((line, _), how))| match how {
                    0 => None,
                    1 => Some(line.clone()),
                    _ => Some(format!("<{n}>")),
                })
                .collect();
            model.outside(&left.join("\n"));
            model.outside(&text);
            prop_assert_eq!(model.lines(), lines);
            prop_assert!(model.taken.is_empty());
        }
    }
}
