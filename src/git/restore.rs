//! States of the files that can be gone back to: a commit each, beneath `refs/perch/restore/`, whose message tells the rest.

use super::Command;
use crate::base::{RestoreId, SessionId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where they lie.
const REFS: &str = "refs/perch/restore/";

/// What a state knows besides its files, as JSON in the message of its commit. Whoever writes to the repository may forge it,
/// so all of it is checked when it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Note {
    /// What it was taken for, as `before switch`.
    pub label: String,
    /// The git branch, as `refs/heads/main`; none when a commit itself was checked out.
    pub branch: Option<String>,
    /// The commit that was checked out; none before the first.
    pub head: Option<String>,
    /// What was staged, as a tree; none while files were in conflict.
    pub index: Option<String>,
    /// The session that took it.
    pub by: Option<SessionId>,
    /// When the files were so, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub held_at_ms: Option<i64>,
    /// Of a step that has stopped in a conflict: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub state: Option<String>,
}

impl Note {
    /// The text form, one line.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text.trim()).ok()
    }
}

/// A state of the branch's files that can be gone back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RestorePoint {
    /// Its id.
    pub id: RestoreId,
    /// When it was taken, in milliseconds since 1970.
    pub at_ms: i64,
    /// Its commit: the files are its tree.
    pub commit: String,
    /// What it knows besides.
    #[serde(flatten)]
    pub note: Note,
}

impl Command {
    /// What [`RestorePoint::parse`] reads, the newest first.
    #[must_use]
    pub fn restore_points() -> Self {
        let format = "--format=%(refname)%00%(objectname)%00%(creatordate:unix)%00%(contents:subject)";
        Self::new("for-each-ref").options(["--sort=-refname", format, REFS])
    }
}

impl RestorePoint {
    /// Where it lies.
    #[must_use]
    pub fn name(id: &RestoreId) -> String {
        format!("{REFS}{id}")
    }

    /// Reads the list. What is no restore point is passed over.
    #[must_use]
    pub fn parse(printed: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(printed);
        let points = text.lines().filter_map(|line| {
            let fields: Vec<&str> = line.splitn(4, '\0').collect();
            let [name, commit, at, note] = *fields.as_slice() else { return None };
            Some(Self {
                id: name.strip_prefix(REFS)?.parse().ok()?,
                at_ms: at.parse::<i64>().ok()?.saturating_mul(1_000),
                commit: commit.to_owned(),
                note: Note::parse(note)?,
            })
        });
        points.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read() {
        let note =
            Note { label: "before \"switch\"\n→".into(), head: Some("aa".into()), ..Note::default() };
        let id = RestoreId::generate();
        let printed = format!("{REFS}{id}\0cc\x007\0{}\n{REFS}other\0cc\x007\0{{}}\nrefs/x\0\n", note.text());
        let points = RestorePoint::parse(printed.as_bytes());
        assert_eq!(points, [RestorePoint { id, at_ms: 7_000, commit: "cc".into(), note }]);
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(printed in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = RestorePoint::parse(&printed);
        }

        #[test]
        fn any_label_comes_back(label in "\\PC{0,80}|.{0,9}") {
            let note = Note { label, ..Note::default() };
            proptest::prop_assert!(!note.text().contains('\n'));
            proptest::prop_assert_eq!(Note::parse(&note.text()), Some(note));
        }
    }
}
