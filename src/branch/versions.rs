//! Versions of files as the file API names them, and the texts that were handed out under them.

use crate::base::{BranchId, SessionId};
use crate::workspace::RelPath;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Bytes of text kept per branch as bases of later writes. Past it the oldest goes, and a write that names it is
/// answered with 412 and the present version.
const KEPT_BYTES: usize = 16 * 1024 * 1024;
/// (session, path) pairs per branch whose last read version is remembered; past it the oldest is forgotten.
const KEPT_READS: usize = 10_000;
/// About what one such pair takes.
const READ_BYTES: usize = 256;
/// Bytes kept for branches that are closed; past it those that were opened longest ago are forgotten.
const SHELF_BYTES: usize = 64 * 1024 * 1024;

/// The SHA-256 of a file's bytes. Its text form is the `ETag` without quotes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version([u8; 32]);

impl Version {
    /// The version of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From what [`Version::to_vec`] gave.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// For the database.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Reads the text form, with or without the quotes of an `ETag`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Default)]
struct Kept {
    texts: HashMap<Version, Arc<str>>,
    order: VecDeque<Version>,
    bytes: usize,
    reads: HashMap<(SessionId, RelPath), Version>,
    read_order: VecDeque<(SessionId, RelPath)>,
}

/// Texts that were handed out on one branch, so that a write made from one can be merged with what came since.
#[derive(Debug, Default)]
pub struct Versions {
    kept: Mutex<Kept>,
}

impl Versions {
    /// Remembers the text (line ends as in the document) of a version that somebody now has.
    pub fn remember(&self, version: Version, text: &str) {
        let mut kept = self.kept.lock();
        if text.len() > KEPT_BYTES / 4 || kept.texts.contains_key(&version) {
            return;
        }
        kept.texts.insert(version, text.into());
        kept.order.push_back(version);
        kept.bytes += text.len();
        while kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(text) = kept.texts.remove(&oldest) {
                kept.bytes -= text.len();
            }
        }
    }

    /// The text of a version, if it is still known.
    #[must_use]
    pub fn text(&self, version: Version) -> Option<Arc<str>> {
        self.kept.lock().texts.get(&version).cloned()
    }

    /// Remembers which version of a file a session last read or wrote.
    pub fn note_read(&self, session: &SessionId, path: &RelPath, version: Version) {
        let mut kept = self.kept.lock();
        let key = (session.clone(), path.clone());
        if kept.reads.insert(key.clone(), version).is_none() {
            kept.read_order.push_back(key);
            if kept.read_order.len() > KEPT_READS
                && let Some(oldest) = kept.read_order.pop_front()
            {
                kept.reads.remove(&oldest);
            }
        }
    }

    /// Which version of a file a session last read or wrote.
    #[must_use]
    pub fn last_read(&self, session: &SessionId, path: &RelPath) -> Option<Version> {
        self.kept.lock().reads.get(&(session.clone(), path.clone())).copied()
    }

    /// About what is kept.
    fn len_bytes(&self) -> usize {
        let kept = self.kept.lock();
        kept.bytes + kept.reads.len() * READ_BYTES
    }
}

/// The versions of all branches, those opened last at the end. A branch that is closed while nobody uses it finds its
/// own again: what a session read is the base of its next write, however long it thinks.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    branches: Mutex<VecDeque<(BranchId, Arc<Versions>)>>,
}

impl Shelf {
    /// Those of a branch that is being opened.
    pub(super) fn take(&self, branch: &BranchId) -> Arc<Versions> {
        let mut branches = self.branches.lock();
        let at = branches.iter().position(|(of, _)| of == branch);
        let known = at.and_then(|at| branches.remove(at));
        let versions = known.map(|(_, versions)| versions).unwrap_or_default();
        branches.push_back((branch.clone(), Arc::clone(&versions)));
        versions
    }

    /// Forgets those of a branch that is deleted.
    pub(super) fn forget(&self, branch: &BranchId) {
        self.branches.lock().retain(|(of, _)| of != branch);
    }

    /// Forgets those of closed branches that are empty, or past the bound.
    pub(super) fn trim(&self) {
        let mut left = SHELF_BYTES;
        let mut branches = self.branches.lock();
        let mut kept: VecDeque<_> = branches
            .drain(..)
            .rev()
            .filter(|(_, versions)| {
                if Arc::strong_count(versions) > 1 {
                    return true;
                }
                let len_bytes = versions.len_bytes();
                let fits = len_bytes > 0 && len_bytes <= left;
                left = if fits { left - len_bytes } else { left };
                fits
            })
            .collect();
        kept.make_contiguous().reverse();
        *branches = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_back_with_and_without_quotes() {
        let version = Version::of(b"x");
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        assert_eq!(Version::parse(&format!("\"{version}\"")), Some(version));
        for bad in ["", "\"", "W/\"x\"", &"é".repeat(32), &"g".repeat(64)] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn closed_branches_are_bounded_open_ones_stay() {
        let shelf = Shelf::default();
        let full = |branch: &BranchId, with: u8| {
            let versions = shelf.take(branch);
            for n in 0..4 {
                versions.remember(Version::of(&[with, n]), &"x".repeat(KEPT_BYTES / 4));
            }
            versions
        };
        let branches: Vec<_> = (0..8).map(|_| BranchId::generate()).collect();
        let open = full(&branches[0], 0);
        for (branch, with) in branches[1..].iter().zip(1..) {
            full(branch, with);
        }
        shelf.take(&BranchId::generate());
        shelf.trim();
        let left: Vec<_> = shelf.branches.lock().iter().map(|(branch, _)| branch.clone()).collect();
        assert_eq!(
            left,
            [&branches[..1], &branches[4..]].concat(),
            "64 MiB of closed ones, and nothing empty"
        );
        assert!(Arc::ptr_eq(&open, &shelf.take(&branches[0])));
        assert!(shelf.take(&branches[4]).text(Version::of(&[4, 0])).is_some());
        shelf.forget(&branches[4]);
        assert!(shelf.take(&branches[4]).text(Version::of(&[4, 0])).is_none());
    }

    #[test]
    fn kept_texts_are_bounded_oldest_first() {
        let versions = Versions::default();
        let text = "x".repeat(KEPT_BYTES / 4);
        let all: Vec<Version> = (0..6_u8).map(|n| Version::of(&[n])).collect();
        for version in &all {
            versions.remember(*version, &text);
        }
        assert!(versions.text(all[0]).is_none());
        assert!(versions.text(all[5]).is_some());
    }
}
