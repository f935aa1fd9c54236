//! What a file's bytes are beside its text: byte order mark and line ends.
//!
//! Inside a document all lines end in `\n` (editors shift offsets on `\r\n`); the file gets back what it had.

use super::diff::compare;
use super::diff::{Edit, utf16_len};
use serde::{Deserialize, Serialize};

const BOM: char = '\u{FEFF}';

/// How one line ends in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Ending {
    Lf,
    CrLf,
    Cr,
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
            Self::Cr => "\r",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Endings {
    /// All lines, also new ones.
    Uniform(Ending),
    /// Line by line, and what new lines get.
    Mixed(Vec<Ending>, Ending),
}

/// See the module's docs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFormat {
    bom: bool,
    endings: Endings,
}

impl Default for FileFormat {
    /// A new file: no mark, `\n`.
    fn default() -> Self {
        Self { bom: false, endings: Endings::Uniform(Ending::Lf) }
    }
}

/// Bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not UTF-8 at byte {offset}")]
pub struct NotText {
    /// Where the first bad byte is.
    pub offset: usize,
}

/// The text of a file, and what its bytes are beside it. `encode` of the same text gives the same bytes.
///
/// # Errors
/// [`NotText`] where the bytes are not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<(String, FileFormat), NotText> {
    let text = std::str::from_utf8(bytes).map_err(|error| NotText { offset: error.valid_up_to() })?;
    let (text, bom) = text.strip_prefix(BOM).map_or((text, false), |rest| (rest, true));
    if !text.contains('\r') {
        return Ok((text.to_owned(), FileFormat { bom, endings: Endings::Uniform(Ending::Lf) }));
    }
    let mut plain = String::with_capacity(text.len());
    let mut endings = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\r', '\n']) {
        let ending = match &rest.as_bytes()[at..] {
            [b'\r', b'\n', ..] => Ending::CrLf,
            [b'\r', ..] => Ending::Cr,
            _ => Ending::Lf,
        };
        plain.push_str(&rest[..at]);
        plain.push('\n');
        endings.push(ending);
        rest = &rest[at + ending.as_str().len()..];
    }
    plain.push_str(rest);
    let first = endings[0];
    let endings = if endings.iter().all(|ending| *ending == first) {
        Endings::Uniform(first)
    } else {
        let most = [Ending::Lf, Ending::CrLf, Ending::Cr]
            .into_iter()
            .max_by_key(|kind| endings.iter().filter(|ending| *ending == kind).count())
            .unwrap_or(Ending::Lf);
        Endings::Mixed(endings, most)
    };
    Ok((plain, FileFormat { bom, endings }))
}

impl FileFormat {
    /// Whether lines end in different ways, so that [`FileFormat::follow`] needs the old text.
    #[must_use]
    pub fn is_mixed(&self) -> bool {
        matches!(self.endings, Endings::Mixed(..))
    }

    /// Whether a line end may take two bytes.
    pub(super) fn is_wide(&self) -> bool {
        matches!(self.endings, Endings::Uniform(Ending::CrLf) | Endings::Mixed(..))
    }

    /// At most how many bytes the file has for a text of so many bytes, line ends among them.
    pub(super) fn most_bytes(&self, text_bytes: u64, line_ends: u64) -> u64 {
        let mark = if self.bom { BOM.len_utf8() as u64 } else { 0 };
        mark + text_bytes + if self.is_wide() { line_ends } else { 0 }
    }

    /// The file's bytes for a text that this format is for.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len() + text.len() / 16 + 3);
        if self.bom {
            bytes.extend_from_slice(BOM.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if self.endings == Endings::Uniform(Ending::Lf) {
            bytes.extend_from_slice(text.as_bytes());
            return bytes;
        }
        let mut previous = None;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let Some(body) = line.strip_suffix('\n') else {
                bytes.extend_from_slice(line.as_bytes());
                break;
            };
            let mut ending = match &self.endings {
                Endings::Uniform(ending) => *ending,
                Endings::Mixed(endings, usual) => endings.get(number).copied().unwrap_or(*usual),
            };
            // `\r` and then an empty line's `\n` would read back as one line end.
            if previous == Some(Ending::Cr) && body.is_empty() && ending == Ending::Lf {
                ending = Ending::Cr;
            }
            bytes.extend_from_slice(body.as_bytes());
            bytes.extend_from_slice(ending.as_str().as_bytes());
            previous = Some(ending);
        }
        bytes
    }

    /// The format for `new`, where this one is for `old`: untouched lines keep their ends, new ones get the usual.
    #[must_use]
    pub fn follow(&self, old: &str, new: &str) -> Self {
        let Endings::Mixed(endings, usual) = &self.endings else { return self.clone() };
        let difference = compare(old.split_inclusive('\n'), new.split_inclusive('\n'));
        let lines = new.matches('\n').count();
        let mut followed = vec![*usual; lines];
        let (mut before, mut after) = (0, 0);
        let mut copy = |before: usize, after: usize, count: usize| {
            for step in 0..count {
                if let (Some(to), Some(from)) = (followed.get_mut(after + step), endings.get(before + step)) {
                    *to = *from;
                }
            }
        };
        for hunk in difference.hunks() {
            copy(before, after, hunk.before.start as usize - before);
            (before, after) = (hunk.before.end as usize, hunk.after.end as usize);
        }
        let rest = lines.saturating_sub(after);
        copy(before, after, rest);
        Self { bom: self.bom, endings: Endings::Mixed(followed, *usual) }
    }
}

/// The edits that make a text survive a round trip through a file: no `\r`, no U+FEFF at the start.
#[must_use]
pub fn normalise(text: &str) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let marks = text.chars().take_while(|c| *c == BOM).count();
    if marks > 0 {
        edits.push(Edit { at: 0, delete: u32::try_from(marks).unwrap_or(u32::MAX), insert: String::new() });
    }
    let (mut units, mut from) = (0, 0);
    for (at, _) in text.match_indices('\r') {
        units += utf16_len(&text[from..at]);
        from = at;
        let insert = if text.as_bytes().get(at + 1) == Some(&b'\n') { "" } else { "\n" };
        edits.push(Edit { at: units, delete: 1, insert: insert.to_owned() });
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::super::diff::apply;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_files_come_back_byte_by_byte() {
        let odd: [&[u8]; 9] = [
            b"",
            b"\r",
            b"\r\r\n",
            b"a\r\nb\nc\rd",
            b"\xEF\xBB\xBF",
            b"\xEF\xBB\xBF\xEF\xBB\xBFx\r\n",
            b"no newline",
            b"\0\r\n\0",
            b"a\r\n\r\n\n\r\r",
        ];
        for bytes in odd {
            let (text, format) = decode(bytes).unwrap();
            assert!(!text.contains('\r'));
            assert_eq!(format.encode(&text), bytes, "{bytes:?}");
        }
    }

    #[test]
    fn other_encodings_are_no_text() {
        assert_eq!(decode(b"ab\xFFc"), Err(NotText { offset: 2 }));
        assert_eq!(decode(b"\xFF\xFEa\0"), Err(NotText { offset: 0 }));
        assert_eq!(decode(b"caf\xE9"), Err(NotText { offset: 3 }));
    }

    #[test]
    fn untouched_lines_keep_their_ends() {
        let (old, format) = decode(b"one\r\ntwo\nthree\r\n").unwrap();
        let new = "zero\none\nTWO\nthree\n";
        assert_eq!(format.follow(&old, new).encode(new), b"zero\r\none\r\nTWO\r\nthree\r\n");
        let (old, format) = decode(b"one\r\n").unwrap();
        let new = format!("{old}two\n");
        assert_eq!(format.follow(&old, &new).encode(&new), b"one\r\ntwo\r\n");
    }

    proptest! {
        #[test]
        fn decode_then_encode_is_exact(text in "\\PC{0,8}[\r\na\u{FEFF}😀\0]{0,60}") {
            let (plain, format) = decode(text.as_bytes()).unwrap();
            prop_assert_eq!(format.encode(&plain), text.as_bytes());
        }

        #[test]
        fn edited_text_reads_back(file in "[\r\nab]{0,40}", new in "[\nab]{0,40}") {
            let (old, format) = decode(file.as_bytes()).unwrap();
            let bytes = format.follow(&old, &new).encode(&new);
            prop_assert_eq!(decode(&bytes).unwrap().0, new);
        }

        #[test]
        fn normalised_text_reads_back(text in "[\r\na\u{FEFF}😀]{0,40}") {
            let clean = apply(&text, &normalise(&text));
            prop_assert_eq!(&decode(&FileFormat::default().encode(&clean)).unwrap().0, &clean);
            prop_assert!(normalise(&clean).is_empty());
        }
    }
}
