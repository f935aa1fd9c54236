//! Writes of files that are no documents: merged where the caller started from another version than what is there.

use super::document::{Content, DocError};
use super::versions::{Version, Versions};
use crate::base::heavy;
use crate::crdt::{apply, decode, rebase};
use crate::workspace::{FsError, RelPath, Workspace};
use bytes::Bytes;
use std::sync::Arc;

/// Tries to get a file's content in under a writer that keeps changing it.
const TRIES: usize = 16;

/// A write: the new bytes, and the version they were made from with its text, as far as they are known.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) base: Option<Version>,
    pub(super) base_text: Option<Arc<str>>,
    pub(super) bytes: Bytes,
}

/// Writes a file whose content is `present`. What somebody else wrote between the look and the write comes out of the
/// exchange and is merged too; with no version named the write means "make it so". `true`: the file is new.
pub(super) async fn write(
    workspace: &Workspace,
    versions: &Versions,
    path: &RelPath,
    request: &Request,
    mut present: Option<Content>,
) -> Result<(Content, bool), DocError> {
    let failed = |error: FsError| match error {
        FsError::WrongKind { .. } => DocError::NotAFile(path.clone()),
        error => DocError::Disk(error.to_string()),
    };
    let mut expected = present.as_ref().map(|content| content.version);
    for _ in 0..TRIES {
        let bytes = merged(present.as_ref(), request)?;
        let version = heavy(bytes.len(), || Version::of(&bytes));
        let staged = workspace.stage(path, bytes.clone()).await.map_err(failed)?;
        let swapped = match workspace.install(&staged, path).await {
            Ok(swapped) => swapped,
            Err(error) => {
                // Only what certainly was not put in place is ours to remove.
                if let Ok(Some(temp)) = workspace.inspect_temp(&staged.name).await
                    && temp.stat.inode == staged.inode
                {
                    workspace.remove_temp(&staged.name).await.map_err(failed)?;
                }
                return Err(failed(error));
            }
        };
        let came_out =
            if swapped { workspace.inspect_temp(&staged.name).await.map_err(failed)? } else { None };
        let unseen = came_out
            .map(|file| Content {
                version: heavy(file.bytes.len(), || Version::of(&file.bytes)),
                bytes: file.bytes,
            })
            .filter(|content| request.base.is_some() && expected != Some(content.version));
        let Some(unseen) = unseen else {
            if swapped {
                workspace.remove_temp(&staged.name).await.map_err(failed)?;
            }
            if let Ok((text, _)) = decode(&bytes) {
                versions.remember(version, &text);
            }
            return Ok((Content { bytes, version }, !swapped));
        };
        workspace.remove_temp(&staged.name).await.map_err(failed)?;
        (present, expected) = (Some(unseen), Some(version));
    }
    Err(DocError::Disk(format!("`{path}` is being written by somebody else all the time; try again")))
}

/// What a write puts there.
fn merged(present: Option<&Content>, request: &Request) -> Result<Bytes, DocError> {
    let bytes = request.bytes.clone();
    let (Some(present), Some(base)) = (present, request.base) else { return Ok(bytes) };
    if present.version == base || present.version == Version::of(&bytes) {
        return Ok(bytes);
    }
    let unknown = || DocError::VersionUnknown { present: present.version };
    let base_text = request.base_text.as_deref().ok_or_else(unknown)?;
    let (now, _) = decode(&present.bytes).map_err(|_| unknown())?;
    let (new, format) = decode(&bytes).map_err(|_| unknown())?;
    Ok(heavy(now.len(), || {
        let merged = apply(&now, &rebase(base_text, &now, &new));
        format.follow(&new, &merged).encode(&merged).into()
    }))
}
