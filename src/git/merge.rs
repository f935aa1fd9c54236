//! Merges and the like: files in conflict.

use super::Command;
use serde::Serialize;
use utoipa::ToSchema;

/// Letters of a conflict marker.
const MARKER: usize = 7;

/// A file in conflict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Conflict {
    /// Where it is; what is no UTF-8 is replaced.
    pub path: String,
    /// Both sides come of a file.
    pub has_base: bool,
    /// It is there on this side; in a rebase that is the branch that is built upon.
    pub has_ours: bool,
    /// It is there on the other side.
    pub has_theirs: bool,
}

impl Command {
    /// What [`parse_unmerged`] reads.
    #[must_use]
    pub fn unmerged() -> Self {
        Self::new("ls-files").options(["--unmerged", "-z"])
    }
}

/// Reads `git ls-files --unmerged -z`: the files in conflict, by path, at most `max` and whether there are more.
#[must_use]
pub fn parse_unmerged(printed: &[u8], max: usize) -> (Vec<Conflict>, bool) {
    let mut conflicts: Vec<Conflict> = Vec::new();
    for record in printed.split(|byte| *byte == 0) {
        let Some(tab) = record.iter().position(|byte| *byte == b'\t') else { continue };
        let (about, path) = (&record[..tab], String::from_utf8_lossy(&record[tab + 1..]));
        let stage = about.last();
        if conflicts.last().is_none_or(|last| last.path != path) {
            if conflicts.len() >= max {
                return (conflicts, true);
            }
            conflicts.push(Conflict { path: path.into_owned(), ..Conflict::default() });
        }
        let Some(conflict) = conflicts.last_mut() else { continue };
        match stage {
            Some(b'1') => conflict.has_base = true,
            Some(b'2') => conflict.has_ours = true,
            Some(b'3') => conflict.has_theirs = true,
            _ => {}
        }
    }
    (conflicts, false)
}

/// Whether a text holds a conflict as git marks it: lines that begin with seven `<`, `=` and `>`, in this order.
#[must_use]
pub fn has_markers(text: &[u8]) -> bool {
    let is_marker = |line: &[u8], sign: u8| {
        let (signs, rest) = line.split_at(line.len().min(MARKER));
        signs.len() == MARKER
            && signs.iter().all(|byte| *byte == sign)
            && matches!(rest.first(), None | Some(b' ' | b'\r'))
    };
    let mut wanted = [b'<', b'=', b'>'].into_iter().peekable();
    for line in text.split(|byte| *byte == b'\n') {
        if wanted.peek().is_some_and(|sign| is_marker(line, *sign)) {
            wanted.next();
        }
    }
    wanted.peek().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_read() {
        let printed = b"100644 aa 1\tboth\x00100644 aa 2\tboth\x00100644 aa 3\tboth\x00100644 aa 1\tgone here\x00100644 aa 3\tgone here\0\
            100644 aa 2\tnew\x00100644 aa 3\tnew\0";
        let of = |path: &str, has_base, has_ours, has_theirs| Conflict {
            path: path.into(),
            has_base,
            has_ours,
            has_theirs,
        };
        let all = vec![
            of("both", true, true, true),
            of("gone here", true, false, true),
            of("new", false, true, true),
        ];
        assert_eq!(parse_unmerged(printed, 10), (all.clone(), false));
        assert_eq!(parse_unmerged(printed, 2), (all[..2].to_vec(), true));
    }

    #[test]
    fn markers_are_seen() {
        assert!(has_markers(b"a\n<<<<<<< HEAD\nx\n=======\ny\n>>>>>>> other\nb\n"));
        assert!(has_markers(b"<<<<<<<\r\n=======\r\n>>>>>>>"));
        for none in [
            &b"a heading\n=======\n"[..],
            b"<<<<<<< HEAD\nx\n=======\n",
            b"<<<<<<<< eight\n=======\n>>>>>>> x\n",
            b" <<<<<<< x\n=======\n>>>>>>> x\n",
            b"",
        ] {
            assert!(!has_markers(none));
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(printed in proptest::collection::vec(proptest::num::u8::ANY, 0..400), max in 0usize..5) {
            proptest::prop_assert!(parse_unmerged(&printed, max).0.len() <= max);
            let _ = has_markers(&printed);
        }

        #[test]
        fn anything_like_it_is_read(records in proptest::collection::vec("[0-9a-f ]{0,9}[123]?\t?[a-c]{0,2}", 0..9)) {
            let _ = parse_unmerged(records.join("\0").as_bytes(), 3);
        }
    }
}
