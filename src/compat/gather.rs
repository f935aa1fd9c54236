//! Output of a shell on its way to the SDK, gathered into few messages.
//!
//! Version 2.4.2 of the SDK puts a line end between the messages of a command's output, so they are cut at line ends
//! wherever one comes soon, and never inside a character.

use crate::base::whole_characters;
use std::time::Duration;
use tokio::time::Instant;

/// How long output is gathered, and how long the begin of a line waits for more where nothing else does: somebody types.
const GATHER: Duration = Duration::from_millis(10);
/// How long the begin of a line that follows on others waits for its rest, from the last piece of it on.
const REST: Duration = Duration::from_millis(60);
/// No piece waits longer.
const AT_MOST: Duration = Duration::from_millis(250);
/// Bytes of one message; more goes at once.
pub(super) const MAX_OUT: usize = 64 * 1024;

/// Output that waits to be sent.
#[derive(Debug)]
pub(super) struct Gather {
    held: Vec<u8>,
    /// When the oldest and the newest of it came.
    first: Instant,
    last: Instant,
    /// It goes on behind lines that were sent just now, or came with it.
    follows: bool,
}

impl Gather {
    pub(super) fn new(now: Instant) -> Self {
        Self { held: Vec::new(), first: now, last: now, follows: false }
    }

    /// More output.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant) {
        if self.held.is_empty() {
            self.first = now;
            self.follows = self.follows && now < self.last + AT_MOST;
        }
        self.last = now;
        self.held.extend_from_slice(bytes);
    }

    /// Whether a message is full: take it before more is pushed.
    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= MAX_OUT
    }

    /// When something is to be sent; nothing waits without it.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.held.is_empty() {
            return None;
        }
        if self.held.contains(&b'\n') {
            return Some(self.first + GATHER);
        }
        let rest = if self.follows { REST } else { GATHER };
        Some((self.last + rest).min(self.first + AT_MOST))
    }

    /// What is to be sent now: whole lines where there are any, or else whole characters.
    pub(super) fn take(&mut self, now: Instant) -> Option<String> {
        let within = &self.held[..self.held.len().min(MAX_OUT)];
        let line = within.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let whole = line.unwrap_or_else(|| match whole_characters(within) {
            // It waits for its rest no longer.
            0 => within.len(),
            whole => whole,
        });
        self.follows = line.is_some();
        let taken = self.split(whole)?;
        self.first = now;
        Some(taken)
    }

    /// All that is left: no more comes.
    pub(super) fn rest(&mut self) -> Option<String> {
        self.split(self.held.len().min(MAX_OUT))
    }

    fn split(&mut self, at: usize) -> Option<String> {
        if at == 0 {
            return None;
        }
        let rest = self.held.split_off(at);
        let taken = std::mem::replace(&mut self.held, rest);
        Some(String::from_utf8_lossy(&taken).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn lines_go_together_and_the_begin_of_one_waits_for_its_rest() {
        let start = Instant::now();
        let mut gather = Gather::new(start);
        assert_eq!(gather.due(), None);
        gather.push(b"one\r\ntw", at(start, 1));
        assert_eq!(gather.due(), Some(at(start, 11)));
        gather.push(b"o\r\nthr", at(start, 5));
        assert_eq!(gather.take(at(start, 11)).unwrap(), "one\r\ntwo\r\n");
        assert_eq!(gather.due(), Some(at(start, 65)), "after its last piece");
        gather.push(b"ee", at(start, 60));
        assert_eq!(gather.due(), Some(at(start, 120)));
        gather.push(b"\n", at(start, 100));
        assert_eq!(gather.take(at(start, 110)).unwrap(), "three\n");
        assert_eq!(gather.due(), None);
    }

    #[test]
    fn what_is_typed_comes_soon_and_no_begin_waits_for_ever() {
        let start = Instant::now();
        let mut gather = Gather::new(start);
        gather.push(b"$", at(start, 1));
        assert_eq!(gather.due(), Some(at(start, 11)));
        let mut now = 1;
        while gather.due() > Some(at(start, now)) {
            now += 5;
            gather.push(b".", at(start, now));
        }
        assert!(now <= 255, "{now}");
        assert!(gather.take(at(start, now)).unwrap().starts_with("$."));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_doubled_or_cut_inside_a_character(
            text in "(\\PC|\r\n){0,400}",
            cuts in prop::collection::vec(1_usize..60, 1..40),
            takes in prop::collection::vec(any::<bool>(), 1..20),
        ) {
            let text = text.repeat(1 + 3 * MAX_OUT / 8 / text.len().max(1));
            let now = Instant::now();
            let mut gather = Gather::new(now);
            let (mut sent, mut rest) = (Vec::new(), text.as_bytes());
            let (mut cuts, mut takes) = (cuts.iter().cycle(), takes.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap() * 131).min(rest.len()));
                rest = later;
                gather.push(piece, now);
                // As its user does: a begin of a character alone is not due yet.
                while gather.is_full() || (*takes.next().unwrap() && whole_characters(&gather.held) > 0) {
                    sent.push(gather.take(now).unwrap());
                }
            }
            while let Some(last) = gather.rest() {
                sent.push(last);
            }
            prop_assert!(sent.iter().all(|one| one.len() <= MAX_OUT));
            prop_assert_eq!(sent.concat(), text);
        }

        #[test]
        fn bytes_that_are_no_text_pass_too(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..30)) {
            let now = Instant::now();
            let mut gather = Gather::new(now);
            for piece in &pieces {
                gather.push(piece, now);
            }
            while gather.take(now).is_some() {}
            prop_assert_eq!(gather.due(), None);
        }
    }
}
