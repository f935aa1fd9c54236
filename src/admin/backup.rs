//! `perch backup` and `perch export`, beside a perch that may be running.
//!
//! The database is copied as it is at one moment. Files are read after it, so a document's file may be newer than the
//! copy of its log; restored like that, what perch wrote itself would come back as somebody else's change, and once
//! more from its author. So a document whose file is not what the copy says is copied again, log and file, until the
//! two agree: each document is in the backup as it was at one moment after the backup began. What still differs once
//! nothing moves any more is a change from outside that perch has not looked at, and is in the backup as just that.

use super::open;
use crate::base::{BranchId, Clock};
use crate::branch::{Packed, Packer, Version, present_text, read_beneath};
use crate::config::{BackupCommand, ExportCommand, data_folder};
use crate::crdt::decode;
use crate::store::{Branch, BranchFilter, BranchState, DocumentRow, Store};
use anyhow::{Context, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;
use time::OffsetDateTime;
use time::macros::format_description;

/// Of the archive's layout; a perch refuses one that it does not know.
pub(super) const FORMAT: u32 = 1;
/// Says what the archive is; its first entry.
pub(super) const MANIFEST: &str = "perch-backup.json";
/// The database, a SQLite file; the last entry, so that an archive without it is not whole.
pub(super) const DATABASE: &str = "database.sqlite";
/// The keys that sign tokens, where they were asked for.
pub(super) const KEYS: &str = "keys.json";
/// The folder of all branches.
pub(super) const BRANCHES: &str = "branches";

/// Between looks at documents whose file and log did not agree.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A document whose file, row and log have not moved for this long is at rest; a write-back takes less.
const AT_REST: Duration = Duration::from_secs(3);
/// The longest that documents of one branch are waited for.
const AGREE_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a document's file; larger ones are no documents.
const MAX_DOCUMENT: u64 = 1024 * 1024 * 1024;

/// The first entry of a backup.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// See [`FORMAT`].
    pub(super) format: u32,
    /// The perch that made it.
    pub(super) perch: String,
    /// When it was begun, in milliseconds since 1970 UTC.
    pub(super) began_at_ms: i64,
    /// The database it was made from.
    pub(super) database: String,
    /// Whether the keys that sign tokens are in it.
    pub(super) with_keys: bool,
}

/// An archive under a name of its own beside its place, where it is put once it is whole.
struct Target {
    to: PathBuf,
    spool: tempfile::TempDir,
}

type Archive = Packer<GzEncoder<BufWriter<NamedTempFile>>>;

impl Target {
    /// `name`: of the archive where `to` is a folder.
    fn new(to: &Path, name: &str) -> anyhow::Result<(Self, Archive)> {
        let to = if to.is_dir() { to.join(name) } else { to.to_owned() };
        let is_there = std::fs::symlink_metadata(&to).is_ok();
        ensure!(!is_there, "{} is there already, and is left alone; name another file", to.display());
        let folder = match to.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let failed = || format!("can't write into {}", folder.display());
        // Only its owner may look into it, and files in it are of mode 0600.
        let spool = tempfile::Builder::new().prefix(".perch-").tempdir_in(folder).with_context(failed)?;
        let file = NamedTempFile::new_in(spool.path()).with_context(failed)?;
        let archive = Packer::new(GzEncoder::new(BufWriter::new(file), Compression::fast()));
        Ok((Self { to, spool }, archive))
    }

    fn finish(self, archive: Archive) -> anyhow::Result<()> {
        let file = archive.finish()?.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist_noclobber(&self.to)
            .with_context(|| format!("can't put the archive at {}", self.to.display()))?;
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    }
}

/// Writes a backup; tells of its progress.
///
/// # Errors
/// Says what is in the way; then there is no archive.
pub async fn backup(command: BackupCommand, told: &mut impl Write) -> anyhow::Result<()> {
    let data = data_folder(command.place.data.as_ref())?;
    let began_at_ms = Clock::system().now_ms();
    let (target, mut archive) = Target::new(&command.to, &name_at(began_at_ms)?)?;
    let store = open(&command.place).await?;
    writeln!(told, "copying the database")?;
    let spooled = target.spool.path().join(DATABASE);
    let copy = store.copy_to(&spooled).await.context("can't copy the database")?;
    copy.forget_asides().await?;
    writeln!(told, "the database is copied")?;
    crate::base::pause("copied").await;
    let manifest = Manifest {
        format: FORMAT,
        perch: env!("CARGO_PKG_VERSION").into(),
        began_at_ms,
        database: store.kind().into(),
        with_keys: command.with_keys,
    };
    archive.secret(MANIFEST, &serde_json::to_vec_pretty(&manifest)?)?;
    if command.with_keys {
        let keys = std::fs::read(data.join(KEYS)).context("can't read the keys")?;
        archive.secret(KEYS, &keys)?;
    }
    let ready: Vec<Branch> = copy
        .branches(&BranchFilter { limit: i64::MAX, ..BranchFilter::default() })
        .await?
        .into_iter()
        .filter(|branch| branch.state == BranchState::Ready)
        .collect();
    for (n, branch) in ready.iter().enumerate() {
        let folder = data.join(BRANCHES).join(branch.id.as_str());
        write!(told, "branch {} of {}: {} {}", n + 1, ready.len(), branch.id, shown(&branch.name))?;
        told.flush()?;
        if !folder.join("workspace").is_dir() {
            writeln!(told, ": its files are missing; its documents are in the backup")?;
            continue;
        }
        let before = archive.bytes();
        let within = Path::new(BRANCHES).join(branch.id.as_str());
        files(&store, &copy, &branch.id, &folder.join("workspace"), &within.join("workspace"), &mut archive)
            .await?;
        let home = folder.join("home");
        if home.is_dir() {
            // What is in `~/.private` is a session's secret, wherever it is kept.
            archive.folder(&home, &within.join("home"), &|path| path.starts_with(".private"))?;
        }
        writeln!(told, ": {} KiB", (archive.bytes() - before).div_ceil(1024))?;
    }
    copy.close().await;
    store.close().await;
    archive.secret_file(DATABASE, &mut std::fs::File::open(&spooled)?)?;
    let (to, files) = (target.to.clone(), archive.files());
    target.finish(archive)?;
    writeln!(told, "wrote {}: {} branches, {files} files", to.display(), ready.len())?;
    Ok(())
}

fn name_at(at_ms: i64) -> anyhow::Result<String> {
    let form = format_description!("[year][month][day]-[hour][minute][second]");
    let at = OffsetDateTime::from_unix_timestamp(at_ms / 1_000)?.format(form)?;
    Ok(format!("perch-{at}.tar.gz"))
}

/// A name for a line of its own.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Adds a branch's workspace, documents last; brings `copy` to what their files are.
async fn files(
    store: &Store,
    copy: &Store,
    branch: &BranchId,
    root: &Path,
    within: &Path,
    archive: &mut Archive,
) -> anyhow::Result<()> {
    let documents = copy.live_documents(branch).await?;
    let paths: HashSet<PathBuf> = documents.iter().map(|row| PathBuf::from(&row.path)).collect();
    archive.folder(root, within, &|path| paths.contains(path))?;
    let mut looked: Vec<Looked> = documents.into_iter().map(Looked::new).collect();
    let began = Instant::now();
    while !looked.is_empty() {
        let mut left = Vec::new();
        for mut document in looked {
            match document.look(store, copy, root).await? {
                Look::Moving if began.elapsed() < AGREE_WITHIN => left.push(document),
                Look::Moving => {
                    bail!(
                        "`{}` of {branch} did not come to rest within {} s: file and log never agreed; try again",
                        document.row.path,
                        AGREE_WITHIN.as_secs()
                    );
                }
                Look::Gone | Look::Settled(None) => {}
                Look::Settled(Some(file)) => archive.packed(&within.join(&document.row.path), &file)?,
            }
        }
        looked = left;
        if !looked.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// A document whose file is to be found as its row says.
struct Looked {
    row: DocumentRow,
    /// What was seen last, and since when.
    seen: Option<(Option<Version>, DocumentRow)>,
    since: Instant,
}

enum Look {
    /// The file belongs to the copy of the log; `None`: there is none.
    Settled(Option<Packed>),
    /// The document has ended since.
    Gone,
    Moving,
}

impl Looked {
    fn new(row: DocumentRow) -> Self {
        Self { row, seen: None, since: Instant::now() }
    }

    async fn look(&mut self, store: &Store, copy: &Store, root: &Path) -> anyhow::Result<Look> {
        let file = read_beneath(root, Path::new(&self.row.path), MAX_DOCUMENT)
            .with_context(|| format!("can't read `{}` in {}", self.row.path, root.display()))?;
        let version = file.as_ref().map(|file| Version::of(&file.bytes));
        if agrees(&self.row, version) {
            return Ok(Look::Settled(file));
        }
        // The row is read after the file: if it knows the file, its log holds what is in the file.
        let Some(row) = copy.take_document(store, &self.row.id).await? else { return Ok(Look::Gone) };
        let is_settled = row.path == self.row.path && agrees(&row, version);
        let seen = Some((version, row.clone()));
        if self.seen != seen {
            (self.seen, self.since) = (seen, Instant::now());
        }
        self.row = row;
        let is_at_rest = self.since.elapsed() >= AT_REST;
        Ok(if is_settled || is_at_rest { Look::Settled(file) } else { Look::Moving })
    }
}

/// Whether a file is what the row says was written last.
fn agrees(row: &DocumentRow, version: Option<Version>) -> bool {
    row.disk.synced_hash.as_deref().and_then(Version::from_slice) == version
}

/// Writes an archive of one branch's workspace: documents as their editors see them, as far as that is durable.
///
/// # Errors
/// Says what is in the way; then there is no archive.
pub async fn export(command: ExportCommand, told: &mut impl Write) -> anyhow::Result<()> {
    let data = data_folder(command.place.data.as_ref())?;
    let (target, mut archive) = Target::new(&command.to, &format!("{}.tar.gz", command.branch))?;
    let store = open(&command.place).await?;
    let id = &command.branch;
    let branch = store.branch(id).await?.with_context(|| format!("there is no branch {id}"))?;
    ensure!(branch.state == BranchState::Ready, "the branch {id} is {:?}, not ready", branch.state);
    let root = data.join(BRANCHES).join(id.as_str()).join("workspace");
    let documents = store.live_documents(id).await?;
    let paths: HashSet<PathBuf> = documents.iter().map(|row| PathBuf::from(&row.path)).collect();
    archive
        .folder(&root, Path::new(""), &|path| paths.contains(path))
        .with_context(|| format!("can't pack the branch {id}"))?;
    for row in &documents {
        if let Some(file) = exported(&store, row, &root).await? {
            archive.packed(Path::new(&row.path), &file)?;
        }
    }
    store.close().await;
    let (to, files) = (target.to.clone(), archive.files());
    target.finish(archive)?;
    writeln!(told, "wrote {}: {files} files", to.display())?;
    Ok(())
}

/// A document's file, with what is in its log and not yet in it.
async fn exported(store: &Store, row: &DocumentRow, root: &Path) -> anyhow::Result<Option<Packed>> {
    let file = read_beneath(root, Path::new(&row.path), MAX_DOCUMENT)?;
    let Some(loaded) = store.load(&row.id).await? else { return Ok(file) };
    let is_ahead = loaded.log.last().is_some_and(|last| last.position > loaded.row.disk.synced_position);
    let version = file.as_ref().map(|file| Version::of(&file.bytes));
    if !is_ahead || !agrees(&loaded.row, version) {
        return Ok(file);
    }
    let text =
        present_text(&loaded).with_context(|| format!("the log of `{}` can't be replayed", row.path))?;
    let mut file = file.unwrap_or_default();
    let (old, format) = decode(&file.bytes).map_err(|_| anyhow::anyhow!("`{}` is no text", row.path))?;
    file.bytes = format.follow(&old, &text).encode(&text);
    Ok(Some(file))
}
