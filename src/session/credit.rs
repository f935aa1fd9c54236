//! Who else typed what a commit holds.

use super::git::{Git, GitError};
use crate::base::SessionId;
use crate::branch::{HistoryError, Hub};
use crate::crdt::decode;
use crate::git::{Command, StagedFile, objects, staged};
use crate::store::SessionRow;
use std::collections::{BTreeMap, HashSet};

/// Files of one commit whose typists are looked for; those after it are nobody's.
const MAX_FILES: usize = 1_000;

/// A person whose typing is in what is to be committed.
#[derive(Clone, Debug)]
pub struct Typist {
    /// Their session.
    pub session: SessionRow,
    /// How much, in bytes of UTF-8.
    pub bytes: u64,
}

/// What is to be committed.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Nothing differs from HEAD.
    pub is_empty: bool,
    /// Who typed what of it, by how much they typed.
    pub typists: Vec<Typist>,
}

/// Why typists are not known.
#[derive(Debug, thiserror::Error)]
pub enum CreditError {
    /// Git.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The documents' history.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Git {
    /// What is staged, and whose typed characters are in it and not in HEAD, from the documents' logs. The caller's own
    /// session is among them.
    ///
    /// # Errors
    /// See [`CreditError`].
    pub async fn staged(&self, hub: &Hub) -> Result<Staged, CreditError> {
        let head = match self
            .run(Command::new("rev-parse").options(["--verify", "--quiet", "HEAD^{commit}"]))
            .await
        {
            Ok(head) => String::from_utf8_lossy(&head).trim().to_owned(),
            // The first commit: all is new to the empty tree, whose hash depends on the repository's kind.
            Err(GitError::Failed(_)) => {
                let empty = self.run(Command::new("hash-object").options(["-t", "tree", "--stdin"])).await?;
                String::from_utf8_lossy(&empty).trim().to_owned()
            }
            Err(error) => return Err(error.into()),
        };
        let printed = self.run(Command::staged_since(&head)).await?;
        let files = staged(&printed);
        let documents = hub.document_paths().await?;
        let mut typed: BTreeMap<SessionId, u64> = BTreeMap::new();
        for file in files.iter().filter(|file| documents.contains(&file.path)).take(MAX_FILES) {
            let Some((old, new)) = self.texts(file).await? else { continue };
            let of_file = match hub.typed(&file.path, old, new).await {
                Ok(of_file) => of_file,
                // It ended just now: what was typed there goes with it.
                Err(HistoryError::NoDocument(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            for one in of_file {
                // Words in brackets are no sessions.
                if let Ok(session) = one.author.parse() {
                    *typed.entry(session).or_default() += one.bytes;
                }
            }
        }
        let mut typists = Vec::new();
        for (id, bytes) in typed {
            if let Some(session) = hub.session_now(&id).await.map_err(HistoryError::from)? {
                typists.push(Typist { session, bytes });
            }
        }
        typists.sort_by_key(|typist| std::cmp::Reverse(typist.bytes));
        Ok(Staged { is_empty: printed.is_empty(), typists })
    }

    /// What a file held and holds, as editors would have it; `None` where it holds no text now.
    async fn texts(&self, file: &StagedFile) -> Result<Option<(String, String)>, GitError> {
        let Some(new) = &file.new else { return Ok(None) };
        let hashes = file.old.iter().chain([new]).map(String::as_str);
        let printed = match self.run(Command::objects(hashes)).await {
            Ok(printed) => printed,
            // Larger than any document.
            Err(GitError::TooLarge) => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = |object: Option<&[u8]>| Some(decode(object?).ok()?.0);
        let objects = objects(&printed).unwrap_or_default();
        let (old, new) = match objects[..] {
            [new] => (Some(String::new()), text(new)),
            [old, new] => (text(old), text(new)),
            _ => (None, None),
        };
        Ok(new.map(|new| (old.unwrap_or_default(), new)))
    }
}

/// Those of the typists that a commit names beside its author: each address once, the author's never, and only who has
/// one and wants to be named.
#[must_use]
pub fn co_authors<'a>(typists: &'a [Typist], author: &SessionRow) -> Vec<&'a Typist> {
    let lower = |email: &Option<String>| email.as_ref().map(|email| email.to_lowercase());
    let mut named: HashSet<String> = lower(&author.email).into_iter().collect();
    let is_other = |typist: &&Typist| typist.session.id != author.id && typist.session.credited;
    let mut co_authors: Vec<_> = typists.iter().filter(is_other).collect();
    co_authors.retain(|typist| lower(&typist.session.email).is_some_and(|email| named.insert(email)));
    co_authors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BranchId, Permission};

    #[test]
    fn each_address_is_named_once_and_the_authors_never() {
        let typist = |id: &str, email: Option<&str>, credited| Typist {
            session: SessionRow {
                branch_id: BranchId::generate(),
                id: id.parse().unwrap(),
                permission: Permission::Write,
                name: None,
                email: email.map(str::to_owned),
                color: "#000000".into(),
                credited,
                may_fork: false,
                epoch: 1,
                created_at_ms: 0,
                updated_at_ms: 0,
                ended_at_ms: None,
            },
            bytes: 1,
        };
        let typists = [
            typist("ann", Some("ann@x"), true),
            typist("ann-phone", Some("Ann@X"), true),
            typist("bob", Some("bob@x"), true),
            typist("bob-phone", Some("bob@x"), true),
            typist("shy", Some("shy@x"), false),
            typist("guest", None, true),
            typist("eve", Some("eve@x"), true),
        ];
        let named: Vec<_> =
            co_authors(&typists, &typists[0].session).iter().map(|one| one.session.id.to_string()).collect();
        assert_eq!(named, ["bob", "eve"]);
    }
}
