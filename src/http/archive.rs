//! Folders as zip archives, made while they are sent: a walk gives files, a thread packs them, the connection takes
//! chunks, and each waits for the next. Broken off, the answer has no proper end.

use super::ApiError;
use crate::base::Tasks;
use crate::branch::{Hub, Member};
use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::stream;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use zip::write::SimpleFileOptions;

/// Files and folders of one archive; more of them break it off.
const MAX_ENTRIES: usize = 100_000;
/// Bytes that are handed to the connection at once.
const CHUNK: usize = 64 * 1024;
/// A client that takes nothing for this long is given up.
const STALLED: Duration = Duration::from_secs(30);
/// Paths that the archive's comment names.
const NAMED: usize = 100;

/// What may be had of a place.
pub(crate) enum Had<T> {
    /// All of it.
    There(T),
    /// Nothing is there any more, or nothing that an archive holds.
    Gone,
    /// It can't be read; the archive's comment names it.
    Unreadable,
}

/// Something in a folder.
pub(crate) struct Child<P> {
    pub(crate) name: String,
    pub(crate) place: P,
    pub(crate) is_folder: bool,
}

/// A file's content.
pub(crate) struct Packed {
    /// Its permission bits.
    pub(crate) mode: u32,
    pub(crate) bytes: Bytes,
}

/// Where the files are. An error breaks the archive off.
pub(crate) trait Source: Send + Sync + 'static {
    /// Where something is in it.
    type Place: Send + Sync + 'static;

    /// What is in a folder and belongs into the archive. `path`: from the archive's root, `''` is that.
    fn list(
        &self,
        folder: &Self::Place,
        path: &str,
    ) -> impl Future<Output = io::Result<Had<Vec<Child<Self::Place>>>>> + Send;

    /// A file.
    fn read(&self, file: &Self::Place) -> impl Future<Output = io::Result<Had<Packed>>> + Send;
}

/// Who an archive is made for: it ends with the session.
pub(crate) struct For {
    member: Option<(Arc<Member>, i64)>,
    _turn: OwnedSemaphorePermit,
}

impl For {
    /// Takes a turn on the branch. `member`: the session and the epoch of its link; none where an API token made it.
    ///
    /// # Errors
    /// 503 `busy` when four archives of the branch are being sent.
    pub(crate) fn take(hub: &Hub, member: Option<(Arc<Member>, i64)>) -> Result<Self, ApiError> {
        let turn = hub.archive_turn().ok_or_else(|| {
            let detail = "too many archives of this branch are being sent; try again";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
        })?;
        Ok(Self { member, _turn: turn })
    }

    fn is_welcome(&self) -> bool {
        self.member.as_ref().is_none_or(|(member, epoch)| {
            let standing = member.standing();
            standing.epoch == *epoch && !standing.is_ended
        })
    }
}

/// Something of an archive.
enum Entry {
    Folder(String),
    File(String, Packed),
    LeftOut(String),
}

/// The folder `root` as an answer's body.
pub(crate) fn zip<S: Source>(tasks: &Tasks, source: S, root: S::Place, made_for: For) -> Body {
    let (give, entries) = mpsc::channel(1);
    let (send, chunks) = mpsc::channel(4);
    let (tell, outcome) = oneshot::channel();
    let stopping = tasks.stopping().clone();
    let walking = tasks.spawn(async move {
        let is_wanted = || made_for.is_welcome() && !stopping.is_cancelled();
        let walked = walk(&source, root, &is_wanted, &give).await;
        // The turn is given back once all is packed.
        (walked, made_for)
    });
    let pipe = Pipe { send, buffer: Vec::new(), tokio: tokio::runtime::Handle::current() };
    tasks.spawn(async move {
        let packed = tokio::task::spawn_blocking(move || pack(entries, pipe)).await;
        let whole = match (walking.await, packed) {
            (Ok((walked, _)), Ok(packed)) => walked.and(packed),
            (Err(error), _) | (_, Err(error)) => Err(io::Error::other(error)),
        };
        let _ = tell.send(whole);
    });
    Body::from_stream(stream::unfold((chunks, Some(outcome)), async |(mut chunks, outcome)| {
        if let Some(chunk) = chunks.recv().await {
            return Some((Ok(chunk), (chunks, outcome)));
        }
        // A client that came back too late must not take a part for the whole.
        match outcome?.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((Err(error), (chunks, None))),
            Err(error) => Some((Err(io::Error::other(error)), (chunks, None))),
        }
    }))
}

/// Gives what is in a folder, a folder before what is in it.
async fn walk<S: Source>(
    source: &S,
    root: S::Place,
    is_wanted: &(impl Fn() -> bool + Sync),
    give: &mpsc::Sender<Entry>,
) -> io::Result<()> {
    let mut left = vec![(root, String::new())];
    let mut count = 0;
    while let Some((folder, path)) = left.pop() {
        let children = match source.list(&folder, &path).await? {
            Had::There(children) => children,
            Had::Gone => continue,
            Had::Unreadable => {
                if give.send(Entry::LeftOut(path)).await.is_err() {
                    return Ok(());
                }
                continue;
            }
        };
        for Child { name, place, is_folder } in children {
            if !is_wanted() {
                return Err(io::Error::other("whoever asked for the archive may not have it any more"));
            }
            count += 1;
            if count > MAX_ENTRIES {
                return Err(io::Error::other(format!("the folder holds more than {MAX_ENTRIES} files")));
            }
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let entry = if is_folder {
                left.push((place, path.clone()));
                Entry::Folder(path)
            } else {
                match source.read(&place).await? {
                    Had::There(packed) => Entry::File(path, packed),
                    Had::Gone => continue,
                    Had::Unreadable => Entry::LeftOut(path),
                }
            };
            if give.send(entry).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Packs entries until there are no more; blocks.
fn pack(mut entries: mpsc::Receiver<Entry>, pipe: Pipe) -> io::Result<()> {
    let mut zip = zip::ZipWriter::new_stream(pipe);
    let plain = SimpleFileOptions::default();
    let mut left_out = LeftOut::default();
    while let Some(entry) = entries.blocking_recv() {
        match entry {
            Entry::Folder(path) => zip.add_directory(path, plain.unix_permissions(0o755))?,
            Entry::File(path, Packed { mode, bytes }) => {
                zip.start_file(path, plain.unix_permissions(mode & 0o777))?;
                zip.write_all(&bytes)?;
            }
            Entry::LeftOut(path) => left_out.add(path),
        }
    }
    if let Some(comment) = left_out.in_words() {
        zip.set_comment(comment)?;
    }
    zip.finish()?.into_inner().flush()
}

/// What an archive lacks; a folder that it can't read, and so can't delete, must not cost somebody the rest.
#[derive(Default)]
struct LeftOut {
    paths: Vec<String>,
    more: usize,
}

impl LeftOut {
    fn add(&mut self, path: String) {
        if self.paths.len() < NAMED { self.paths.push(path) } else { self.more += 1 }
    }

    /// For the archive's comment, which holds less than 64 KiB.
    fn in_words(&self) -> Option<String> {
        let mut words = "perch could not read these, they are not in this archive:\n".to_owned();
        let mut more = self.more;
        for path in &self.paths {
            if words.len() + path.len() < 60_000 {
                words.push_str(path);
                words.push('\n');
            } else {
                more += 1;
            }
        }
        if more > 0 {
            words = format!("{words}and {more} more\n");
        }
        (!self.paths.is_empty()).then_some(words)
    }
}

/// Writes into the answer.
struct Pipe {
    send: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
    tokio: tokio::runtime::Handle,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        let sent = self.tokio.block_on(tokio::time::timeout(STALLED, self.send.send(chunk)));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_named_within_a_comments_bounds() {
        let mut left_out = LeftOut::default();
        assert_eq!(left_out.in_words(), None);
        left_out.add("a b/ä".into());
        assert!(left_out.in_words().unwrap().ends_with(":\na b/ä\n"));
        for _ in 0..200 {
            left_out.add("x".repeat(4_096));
        }
        let words = left_out.in_words().unwrap();
        assert!(words.len() < 64 * 1024 - 1 && words.contains("a b/ä\n"), "{}", words.len());
        let named = words.matches('\n').count() - 2;
        assert!(words.ends_with(&format!("and {} more\n", 201 - named)));
    }
}
