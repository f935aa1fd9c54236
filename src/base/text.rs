//! Text that arrives in pieces.

/// How many of the bytes are whole characters: what follows is the begin of one that goes on in the next piece. What can
/// become no character counts as whole.
#[must_use]
pub fn whole_characters(bytes: &[u8]) -> usize {
    bytes.utf8_chunks().last().map_or(0, |last| {
        let rest = last.invalid();
        // Only a begin that may still become a character waits; `error_len` tells it from what is wrong.
        let may_become = std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
        bytes.len() - if may_become { rest.len() } else { 0 }
    })
}
