//! What of a terminal's output a viewer may be shown.
//!
//! A program's output is also orders to the emulator that shows it: write to the clipboard, answer with bytes that
//! the shell then reads as typed, open a link. To those who cannot type, and in a replay to anybody (an old question
//! must not be answered anew), goes only what draws:
//!
//! * Sequences that are known to draw, set modes or colours pass; of all others nothing. So OSC 52 (clipboard), 9,
//!   99 and 777 (notifications), 7, 50, 633 and 1337, questions (DA, DSR, DECRQM, DECRQCRA, XTVERSION, `?` colours),
//!   window operations and title reports (CSI t), printing, and all of DCS, APC, PM and SOS (DECRQSS, user-defined
//!   keys, XTGETTCAP, pictures) go. Modes pass, those that make an emulator report its mouse or focus too: without
//!   them it would draw wrongly, and what a viewer's emulator sends never reaches the program.
//! * Links (OSC 8) to other than `http`, `https` and `mailto` become no link.
//! * C1 controls go, as bytes and as U+0080 to U+009F: emulators differ in which they obey. What follows one is text.
//! * Bidi controls go: they have no glyph of their own, and can show a command other than it is.
//! * ENQ (answerback), ESC Z (DECID), ESC % (another encoding) and ESC SP (8-bit answers) go.
//!
//! An own machine, since it must hand on the very bytes of what passes: the `vte` crate reports what a sequence means
//! and keeps no bytes. Works on a stream cut anywhere; holds at most [`MAX_OSC`] bytes.

use super::ring::char_len;

const ESC: u8 = 0x1B;
const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1A;
const ENQ: u8 = 0x05;
/// Bytes of a CSI sequence; a longer one goes.
const MAX_CSI: usize = 256;
/// Bytes of an OSC sequence; a longer one goes.
const MAX_OSC: usize = 4 * 1024;
const NO_LINK: &[u8] = b"\x1b]8;;\x1b\\";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// In a character of several bytes.
    Char,
    Escape,
    Csi,
    Osc,
    /// After ESC in an OSC: its end, or another sequence.
    OscEnd,
    /// A string of which nothing passes.
    Ignored {
        /// It is an OSC, which BEL ends too.
        is_osc: bool,
    },
}

/// See the module's docs.
#[derive(Debug, Default)]
pub struct Filter {
    state: State,
    /// A character or sequence under way, from its first byte.
    held: Vec<u8>,
}

impl Filter {
    /// Whether it stands between characters and sequences.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.state == State::Ground
    }

    /// Takes output, and adds what of it may be shown to `shown`.
    pub fn feed(&mut self, bytes: &[u8], shown: &mut Vec<u8>) {
        for byte in bytes {
            self.step(*byte, shown);
        }
    }

    fn step(&mut self, byte: u8, shown: &mut Vec<u8>) {
        match (self.state, byte) {
            (State::Osc, ESC) => self.state = State::OscEnd,
            (State::OscEnd, b'\\') | (State::Osc, BEL) => self.end_osc(shown),
            (State::OscEnd, _) => {
                self.begin(State::Escape, ESC);
                self.step(byte, shown);
            }
            (State::Char, byte) => self.in_char(byte, shown),
            (_, ESC) => self.begin(State::Escape, ESC),
            (State::Ground, _) => match byte {
                ENQ | 0x80..=0x9F => {}
                0xC2..=0xF4 => self.begin(State::Char, byte),
                _ => shown.push(byte),
            },
            (_, CAN | SUB) | (State::Ignored { is_osc: true }, BEL) => self.drop_held(),
            (State::Escape, b'[') if self.held.len() == 1 => self.go_on(State::Csi, byte),
            (State::Escape, b']') if self.held.len() == 1 => self.go_on(State::Osc, byte),
            // `k`: the title of `screen`, a string too.
            (State::Escape, b'P' | b'X' | b'^' | b'_' | b'k') if self.held.len() == 1 => {
                self.ignore(false);
            }
            // Emulators obey a control in a sequence at once.
            (State::Escape | State::Csi, 0x00..=0x1F) => {
                if byte != ENQ {
                    shown.push(byte);
                }
            }
            (State::Escape | State::Csi, 0x7F) | (State::Ignored { .. }, _) => {}
            (State::Escape, 0x20..=0x2F) => self.go_on(State::Escape, byte),
            (State::Csi, 0x20..=0x3F) => self.go_on(State::Csi, byte),
            (State::Escape, 0x30..=0x7E) => self.end(may_escape(&self.held[1..], byte), byte, shown),
            (State::Csi, 0x40..=0x7E) => self.end(may_csi(&self.held[2..], byte), byte, shown),
            (State::Escape | State::Csi, 0x80..) => {
                self.drop_held();
                self.step(byte, shown);
            }
            (State::Osc, 0x00..=0x1F) => self.ignore(true),
            (State::Osc, _) => {
                self.go_on(State::Osc, byte);
                if self.held.len() > MAX_OSC {
                    self.ignore(true);
                }
            }
        }
    }

    fn begin(&mut self, state: State, byte: u8) {
        self.held.clear();
        self.go_on(state, byte);
    }

    fn go_on(&mut self, state: State, byte: u8) {
        self.state = state;
        // One more than may be, so that it is seen to be too long.
        if state == State::Osc || self.held.len() <= MAX_CSI {
            self.held.push(byte);
        }
    }

    fn drop_held(&mut self) {
        self.state = State::Ground;
        self.held.clear();
    }

    fn ignore(&mut self, is_osc: bool) {
        self.drop_held();
        self.state = State::Ignored { is_osc };
    }

    fn end(&mut self, may_pass: bool, last: u8, shown: &mut Vec<u8>) {
        if may_pass && self.held.len() <= MAX_CSI {
            shown.extend_from_slice(&self.held);
            shown.push(last);
        }
        self.drop_held();
    }

    fn end_osc(&mut self, shown: &mut Vec<u8>) {
        match may_osc(&self.held[2..]) {
            Osc::Passes => {
                shown.extend_from_slice(&self.held);
                shown.extend_from_slice(b"\x1b\\");
            }
            // Not merely left out: what follows would belong to the link before.
            Osc::OtherLink => shown.extend_from_slice(NO_LINK),
            Osc::Goes => {}
        }
        self.drop_held();
    }

    fn in_char(&mut self, byte: u8, shown: &mut Vec<u8>) {
        // Of a longer form than needed, an old decoder would make a control.
        let lowest = match self.held[..] {
            [0xE0] => 0xA0,
            [0xF0] => 0x90,
            _ => 0x80,
        };
        if !(lowest..=0xBF).contains(&byte) {
            // Broken; what could be taken for a C1 control goes as ever.
            shown.extend(self.held.iter().filter(|byte| !(0x80..=0x9F).contains(*byte)));
            self.drop_held();
            return self.step(byte, shown);
        }
        self.held.push(byte);
        if self.held.len() == char_len(self.held[0]) {
            if !is_control(&self.held) {
                shown.extend_from_slice(&self.held);
            }
            self.drop_held();
        }
    }
}

/// Whether a character of several bytes is a C1 or bidi control: U+202A to U+202E, U+2066 to U+2069.
fn is_control(char: &[u8]) -> bool {
    matches!(char, [0xC2, 0x80..=0x9F] | [0xE2, 0x80, 0xAA..=0xAE] | [0xE2, 0x81, 0xA6..=0xA9])
}

/// `between`: the bytes between ESC and the last.
fn may_escape(between: &[u8], last: u8) -> bool {
    match between {
        // Cursor, tab stop, keypad, reset, shifts.
        [] => {
            matches!(last, b'6'..=b'9' | b'=' | b'>' | b'D' | b'E' | b'H' | b'M'..=b'O' | b'c' | b'l'..=b'o' | b'|'..=b'~')
        }
        // Character sets, and screen patterns.
        [b'(' | b')' | b'*' | b'+' | b'-' | b'.' | b'/' | b'#', rest @ ..] => rest.len() <= 1,
        _ => false,
    }
}

/// `between`: the bytes between `CSI` and the last.
fn may_csi(between: &[u8], last: u8) -> bool {
    let split = between.iter().position(|byte| (0x20..=0x2F).contains(byte)).unwrap_or(between.len());
    let (params, intermediates) = between.split_at(split);
    let (private, params) = match params {
        [private @ 0x3C..=0x3F, params @ ..] => (Some(*private), params),
        _ => (None, params),
    };
    if !params.iter().all(|byte| matches!(byte, b'0'..=b';')) {
        return false;
    }
    match (private, intermediates) {
        (None, b"") => {
            matches!(last, b'@'..=b'M' | b'P' | b'S' | b'T' | b'X' | b'Z' | b'`'..=b'b' | b'd'..=b'h' | b'l' | b'm' | b'q'..=b's' | b'u')
        }
        // Modes, kept and brought back too; selective erasing.
        (Some(b'?'), b"") => matches!(last, b'J' | b'K' | b'W' | b'h' | b'l' | b'r' | b's'),
        // How keys are encoded.
        (Some(b'>'), b"") => matches!(last, b'm' | b'n' | b'u'),
        (Some(b'<' | b'='), b"") => last == b'u',
        (None, b" ") => matches!(last, b'@' | b'A' | b'q'),
        (None, b"!") => last == b'p',
        (None, b"\"") => last == b'q',
        // Rectangles.
        (None, b"$") => matches!(last, b'r' | b't' | b'v' | b'x' | b'z' | b'{'),
        (None, b"'") => matches!(last, b'}' | b'~'),
        (None, b"*") => last == b'x',
        (None, b"#") => matches!(last, b'p' | b'q' | b'{' | b'}'),
        _ => false,
    }
}

enum Osc {
    Passes,
    /// A link elsewhere.
    OtherLink,
    Goes,
}

fn may_osc(content: &[u8]) -> Osc {
    let Ok(text) = std::str::from_utf8(content) else { return Osc::Goes };
    let is_bidi = |c| matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    if text.contains(|c: char| c.is_control() || is_bidi(c)) {
        return Osc::Goes;
    }
    let (number, rest) = text.split_once(';').unwrap_or((text, ""));
    let passes = match number {
        // Titles; colours taken back; marks of prompts.
        "0" | "1" | "2" | "104" | "105" | "133" | "110" | "111" | "112" | "113" | "114" | "115" | "116"
        | "117" | "118" | "119" => true,
        // Colours; not the question for one.
        "4" | "5" | "10" | "11" | "12" | "13" | "14" | "15" | "16" | "17" | "18" | "19" => {
            !rest.contains('?')
        }
        "8" => return link(rest),
        _ => false,
    };
    if passes { Osc::Passes } else { Osc::Goes }
}

fn link(rest: &str) -> Osc {
    let Some((_, target)) = rest.split_once(';') else { return Osc::OtherLink };
    let scheme = target.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    let is_web = scheme.is_some_and(|scheme| matches!(scheme.as_str(), "http" | "https" | "mailto"));
    let is_plain = rest.bytes().all(|byte| byte.is_ascii_graphic());
    if target.is_empty() || (is_web && is_plain) { Osc::Passes } else { Osc::OtherLink }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(output: impl AsRef<[u8]>) -> String {
        let mut shown = Vec::new();
        Filter::default().feed(output.as_ref(), &mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    }

    #[test]
    fn what_draws_passes() {
        for output in [
            "plain\r\n\ttext\u{7}\u{8}, ünï çödé 雛 😀 עברית",
            "\x1b[31;1mred\x1b[38:2::1:2:3m\x1b[m\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[1@\x1b[3P",
            "\x1b[?1049h\x1b[?2004h\x1b[?1000;1006h\x1b[?25l\x1b[?1049l\x1b[4h",
            "\x1b7\x1b8\x1b=\x1b>\x1b(B\x1b)0\x1bM\x1bc\x1b#8\x1b[ q\x1b[2 q\x1b[!p\x1b[>4;2m\x1b[>1u\x1b[<u",
            "\x1b]0;a title, 😀\x1b\\\x1b]11;#112233\x1b\\\x1b]104\x1b\\\x1b]133;A\x1b\\",
            "\x1b]8;id=1;https://example.org/?a=1;b\x1b\\link\x1b]8;;\x1b\\",
        ] {
            assert_eq!(shown(output), output);
        }
        assert_eq!(shown("\x1b]0;title\x07"), "\x1b]0;title\x1b\\");
        assert_eq!(shown("\x1b[3\n1m"), "\n\x1b[31m");
    }

    #[test]
    fn what_makes_the_viewers_emulator_act_goes() {
        for order in [
            // Clipboard, notifications, files, settings.
            "\x1b]52;c;aGk=\x07",
            "\x1b]52;c;?\x1b\\",
            "\x1b]9;hello\x07",
            "\x1b]777;notify;a;b\x07",
            "\x1b]99;;hello\x1b\\",
            "\x1b]1337;File=name=YQ==:YQ==\x07",
            "\x1b]50;#1\x07",
            "\x1b]7;file://host/etc\x07",
            "\x1b]633;E;rm\x07",
            // Questions.
            "\x1b[c",
            "\x1b[>c",
            "\x1b[=0c",
            "\x1bZ",
            "\x05",
            "\x1b[6n",
            "\x1b[?6n",
            "\x1b[?996n",
            "\x1b[21t",
            "\x1b[18t",
            "\x1b[8;1;1t",
            "\x1b[x",
            "\x1b[?25$p",
            "\x1b[4$p",
            "\x1b[>q",
            "\x1b[?u",
            "\x1b[1;1;1;1;2;2*y",
            "\x1b[#R",
            "\x1b[5i",
            "\x1b]4;1;?\x07",
            "\x1b]10;?\x1b\\",
            "\x1b]4;1;#fff;2;?\x07",
            "\x1bP$qm\x1b\\",
            "\x1bP+q544e\x1b\\",
            "\x1bP0;1|17/6964\x1b\\",
            "\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\",
            "\x1b_Ga=q;\x1b\\",
            "\x1b^pm\x1b\\",
            "\x1bXsos\x1b\\",
            "\x1bktitle\x1b\\",
            // Another encoding, 8-bit answers.
            "\x1b%@",
            "\x1b G",
            // Bidi controls.
            "\u{202e}\u{2066}",
            // In a title, as well.
            "\x1b]0;a\u{202e}b\x07",
            "\x1b]0;a\u{9b}b\x07",
        ] {
            let left = shown(format!("before{order}after"));
            if order.contains("tmux") {
                // Its own content ends it early for us; that is no order either.
                assert!(left.starts_with("before") && left.ends_with("after"), "{left:?}");
                assert!(!left.contains(['\x1b', '\x07']) || !left.contains("52"), "{left:?}");
            } else {
                assert_eq!(left, "beforeafter", "{order:?}");
            }
        }
    }

    #[test]
    fn links_elsewhere_become_no_link() {
        for target in
            ["file:///etc/passwd", "javascript:alert(1)", "ssh://h", "vscode://x", "relative", "https://a b"]
        {
            let link = format!("\x1b]8;;{target}\x1b\\text");
            assert_eq!(shown(link), "\x1b]8;;\x1b\\text", "{target}");
        }
    }

    #[test]
    fn c1_controls_leave_text_behind() {
        assert_eq!(shown("\u{9d}52;c;aGk=\u{9c}x"), "52;c;aGk=x");
        assert_eq!(shown(b"\x9D52;c;aGk=\x07"), "52;c;aGk=\x07");
        assert_eq!(shown(b"\x9B6n"), "6n");
        assert_eq!(shown(b"\x1b\x9B6n"), "6n");
        assert_eq!(shown(b"\xE0\x82\x9B6n"), "\u{fffd}6n", "overlong");
        // Continuation bytes are no controls.
        assert_eq!(shown("雛𛀀"), "雛𛀀");
    }

    #[test]
    fn what_is_too_long_goes_and_is_not_held() {
        let mut filter = Filter::default();
        let mut left = Vec::new();
        for start in ["\x1b]0;", "\x1b[", "\x1bP", "\x1b "] {
            filter.feed(start.as_bytes(), &mut left);
            for _ in 0..100 {
                filter.feed(&[b'1'; 100], &mut left);
                filter.feed(b"    ", &mut left);
                assert!(filter.held.len() <= MAX_OSC);
            }
            filter.feed(b"m\x1b\\", &mut left);
            left.clear();
            filter.feed(b"text", &mut left);
            assert_eq!(left, b"text", "{start:?}");
        }
    }

    /// Bytes as an attacker would mix them.
    fn output() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => prop::sample::select(vec![
                &b"\x1b"[..], b"[", b"]", b"52;c;aGk=", b"\x07", b"\x1b\\", b"8;;", b"http://a", b"file:", b"\x9b", b"\x9d",
                b"\xc2", b"\xe2\x80", b"\xae", b"6n", b"c", b"$q", b"P", b"?", b"31m", b"0;t", b"\x18", b"\x05", b"\n", b"x",
                b"(B", b"Z", b"\xc2\x9c", "雛".as_bytes(), b"\xe2",
            ]).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_makes_no_difference(output in output()) {
            let mut whole = Vec::new();
            Filter::default().feed(&output, &mut whole);
            for at in 0..=output.len() {
                let (mut filter, mut shown) = (Filter::default(), Vec::new());
                filter.feed(&output[..at], &mut shown);
                filter.feed(&output[at..], &mut shown);
                prop_assert_eq!(&shown, &whole);
            }
        }

        #[test]
        fn what_passed_passes_again_and_holds_no_order(output in output()) {
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            Filter::default().feed(&output, &mut once);
            let mut again = Filter::default();
            again.feed(&once, &mut twice);
            prop_assert!(again.is_between() || again.state == State::Char);
            again.feed(b" ", &mut twice);
            once.push(b' ');
            prop_assert_eq!(&twice, &once);
            prop_assert!(!once.windows(2).any(|two| matches!(two, [0x1B, b'P' | b'_' | b'^' | b'X' | b'Z'])));
            prop_assert!(!once.windows(4).any(|four| four == b"\x1b]52"));
            prop_assert!(!once.windows(2).any(|two| matches!(two, [0xC2, 0x80..=0x9F])));
        }
    }
}
