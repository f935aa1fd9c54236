//! What emulators send by themselves: answers to questions of the program.
//!
//! Each emulator that shows a terminal answers; the program must hear one of them. Looks at one message at a time, as
//! emulators send an answer in one: half a sequence is a key (Escape, Alt and a key) and must not wait for more.

use std::borrow::Cow;

const ESC: u8 = 0x1B;
const BEL: u8 = 0x07;

/// The input without answers. Keys stay, also such as look like answers: `CSI 1 ; 2 R` is Shift-F3.
pub(super) fn without_replies(input: &[u8]) -> Cow<'_, [u8]> {
    let mut left: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < input.len() {
        match reply(&input[at..]) {
            Some(len) => {
                left.get_or_insert_with(|| input[..at].to_vec());
                at += len;
            }
            None => {
                if let Some(left) = &mut left {
                    left.push(input[at]);
                }
                at += 1;
            }
        }
    }
    left.map_or(Cow::Borrowed(input), Cow::Owned)
}

/// How long the answer is that the input begins with.
fn reply(input: &[u8]) -> Option<usize> {
    match input {
        [ESC, b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| !(0x20..=0x3F).contains(byte))?;
            is_reply(&rest[..end], rest[end]).then_some(2 + end + 1)
        }
        // Nobody types these: colours, settings, capabilities.
        [ESC, b']' | b'P', rest @ ..] => {
            let end = rest.iter().position(|byte| matches!(*byte, BEL | ESC))?;
            match rest[end..] {
                [BEL, ..] => Some(2 + end + 1),
                [ESC, b'\\', ..] => Some(2 + end + 2),
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_reply(between: &[u8], last: u8) -> bool {
    let is_private = matches!(between, [b'?' | b'>' | b'=', ..]);
    match last {
        // Device attributes, keyboard state.
        b'c' | b'u' => is_private,
        // Cursor position; F3 with Shift, Alt, Ctrl and Meta has row 1, and a sum of them as its column.
        b'R' => {
            let is_f3 = between.strip_prefix(b"1;").is_some_and(|column| {
                std::str::from_utf8(column)
                    .ok()
                    .and_then(|column| column.parse().ok())
                    .is_some_and(|it| (2..=16).contains(&it))
            });
            !between.is_empty() && !is_f3
        }
        // Status; window; modes; parameters.
        b'n' | b't' | b'x' => !between.is_empty(),
        b'y' => between.ends_with(b"$"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go() {
        for reply in [
            "\x1b[?1;2c",
            "\x1b[>0;276;0c",
            "\x1b[12;40R",
            "\x1b[?12;40R",
            "\x1b[0n",
            "\x1b[?997;1n",
            "\x1b[8;24;80t",
            "\x1b[?25;1$y",
            "\x1b[?0u",
            "\x1b]10;rgb:ffff/ffff/ffff\x07",
            "\x1b]11;rgb:0000/0000/0000\x1b\\",
            "\x1b]4;1;rgb:cdcd/0000/0000\x1b\\",
            "\x1bP1$r0m\x1b\\",
            "\x1bP>|xterm.js\x1b\\",
        ] {
            assert_eq!(without_replies(format!("a{reply}b{reply}").as_bytes()), &b"ab"[..], "{reply:?}");
        }
    }

    #[test]
    fn keys_stay() {
        for key in [
            "text\r",
            "\x1b",
            "\x1b[A",
            "\x1bOA",
            "\x1b[1;5C",
            "\x1b[3~",
            "\x1b[200~pasted\x1b[201~",
            "\x1b[1;2R",
            "\x1bOR",
            "\x1b]",
            "\x1bP",
            "\x1b[",
            "\x1b[97;5u",
            "\x1b[<0;3;4M",
            "\x1b[I",
            "\x1b[Z",
            "é\x1b[",
            "\x1b]x\x1b[A",
        ] {
            assert_eq!(without_replies(key.as_bytes()), key.as_bytes(), "{key:?}");
        }
    }
}
