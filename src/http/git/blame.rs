//! Which commit each line of a file is of, and who typed those that are of none.

use super::diff::resolve;
use crate::base::SessionId;
use crate::branch::{Authored, HistoryError, Hub};
use crate::crdt::decode;
use crate::git::{BlameRange, Command, Kind, Revision};
use crate::http::files::rel_path;
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::session::GitError;
use crate::workspace::RelPath;
use axum::Json;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How often a text is read again that changed while its authors were looked up.
const TRIES: usize = 4;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(blame))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Blame {
    /// The file.
    path: String,
    /// As it was in this commit, branch or tag; without it as it is now, with all that was typed.
    revision: Option<String>,
    /// Tell who typed the lines that are not committed, `1`; not of a `revision`.
    #[serde(default)]
    uncommitted: u8,
    /// The first line that is asked for, from 1.
    first: Option<u64>,
    /// The last one.
    last: Option<u64>,
    /// The session; needed with an API token.
    session: Option<SessionId>,
}

/// Who typed some of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
struct TypedBy {
    /// A session's id; `(disk)`: written by a program; `(file)`: it was in the file when that was first opened; `(api)`, `(perch)`.
    author: String,
    /// The session's name.
    name: Option<String>,
    /// When they typed the newest part of it, to the minute.
    at_ms: i64,
}

/// Lines of one origin, in a row.
#[derive(Serialize, ToSchema)]
struct Origin {
    #[serde(flatten)]
    range: BlameRange,
    /// Who typed it, who typed most first; for lines of no commit, where it is asked for and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    typed: Option<Vec<TypedBy>>,
}

/// Which commits a file's lines are of.
#[derive(Serialize, ToSchema)]
struct Blames {
    /// The lines in order, none left out.
    ranges: Vec<Origin>,
}

/// Tell which commit each line of a file is of. Lines that are not committed have none; with `uncommitted=1` it is told who
/// typed them and when, from the document's log: also right after a restart. Git is given 120 s, and 16 MiB of answers: of larger
/// files ask for some lines.
#[utoipa::path(get, path = "/v1/branches/{branch}/git/blame", tag = "git",
    params(("branch" = String, Path), Blame),
    responses((status = OK, body = Blames),
        (status = NOT_FOUND, description = "`git_unknown_revision`; `git_unknown_path`: git does not track the file"),
        (status = BAD_REQUEST, description = "`bad_request`: the file has no such lines")))]
async fn blame(on: On, Params(wanted): Params<Blame>) -> Result<Json<Blames>, ApiError> {
    let path = rel_path(&wanted.path)?;
    let lines = match (wanted.first, wanted.last) {
        (None, None) => None,
        (Some(first), Some(last)) if 1 <= first && first <= last => Some((first, last)),
        _ => return Err(ApiError::bad_request("`first` and `last` are lines from 1, in this order")),
    };
    let is_live = wanted.uncommitted != 0;
    if is_live && wanted.revision.is_some() {
        return Err(ApiError::bad_request("`uncommitted` is of the file as it is now; leave `revision` out"));
    }
    let revision = wanted.revision.as_deref().map(Revision::new).transpose()?;
    let git = on.git(wanted.session.as_ref()).await?;
    let present = if is_live { present(&on.hub, &path).await? } else { None };
    let revision = match revision {
        Some(revision) => Some(resolve(&git, &revision).await?),
        None => None,
    };
    let mut command = Command::blame(revision.as_ref(), lines, &path);
    if let Some((_, bytes)) = &present {
        command = command.option("--contents=-").input(bytes.to_vec());
    }
    let ranges = match git.run(command).await {
        Ok(printed) => BlameRange::read(&printed),
        // Before the first commit, or of a file that is in none, all of it is somebody's typing.
        Err(GitError::Failed(failure))
            if is_of_no_commit(failure.kind, &failure.said) && present.is_some() =>
        {
            let all = present.as_ref().and_then(|(authored, _)| authored.lines.last());
            let count = all.map_or(0, |last| last.line + last.count - 1) as u64;
            let (first, last) = lines.unwrap_or((1, count));
            let count = (last.min(count) + 1).saturating_sub(first);
            let whole = BlameRange { first, count, commit: None };
            if count > 0 { vec![whole] } else { Vec::new() }
        }
        Err(GitError::Failed(failure)) if failure.said.contains("no such path") => {
            return Err(ApiError::new(StatusCode::NOT_FOUND, "git_unknown_path", failure.said));
        }
        Err(GitError::Failed(failure)) if lines.is_some() && failure.said.contains(" has only ") => {
            return Err(ApiError::bad_request(failure.said));
        }
        Err(error) => return Err(error.into()),
    };
    let Some((authored, _)) = present else {
        let plain = ranges.into_iter().map(|range| Origin { range, typed: None });
        return Ok(Json(Blames { ranges: plain.collect() }));
    };
    let authors = authored.lines.iter().flat_map(|lines| &lines.authors).map(|of| of.author.clone());
    let names = on.hub.names(authors.collect()).await?;
    Ok(Json(Blames { ranges: typed(ranges, &authored, &names) }))
}

fn is_of_no_commit(kind: Kind, said: &str) -> bool {
    kind == Kind::UnknownRevision || said.contains("no such path")
}

/// A document's text with its authors, and the bytes of its file, which say the same; `None` where there is no document.
async fn present(hub: &Hub, path: &RelPath) -> Result<Option<(Authored, Bytes)>, ApiError> {
    let mut tries = 0;
    loop {
        let content = hub.read(path, None).await?;
        let authored = match hub.authors(path).await {
            Err(HistoryError::NoDocument(_)) => return Ok(None),
            authored => authored?,
        };
        tries += 1;
        let is_same = decode(&content.bytes).is_ok_and(|(text, _)| text == authored.text);
        if is_same {
            return Ok(Some((authored, content.bytes)));
        }
        // Somebody types all the time: the newest text, with its ends of lines as editors have them.
        if tries == TRIES {
            let bytes = authored.text.clone().into();
            return Ok(Some((authored, bytes)));
        }
    }
}

/// Gives those of the lines that are of no commit to who typed them.
fn typed(ranges: Vec<BlameRange>, authored: &Authored, names: &HashMap<String, String>) -> Vec<Origin> {
    let mut origins = Vec::new();
    let mut parts = authored.lines.iter().peekable();
    for range in ranges {
        if range.commit.is_some() {
            origins.push(Origin { range, typed: None });
            continue;
        }
        let end = range.first + range.count;
        let mut at = range.first;
        while at < end {
            while parts.next_if(|part| (part.line + part.count) as u64 <= at).is_some() {}
            let part = parts.peek().filter(|part| part.line as u64 <= at);
            let until = part.map_or(end, |part| end.min((part.line + part.count) as u64));
            let typed = part.map(|part| {
                let by = part.authors.iter().map(|of| TypedBy {
                    name: names.get(&of.author).cloned(),
                    author: of.author.clone(),
                    at_ms: of.at_ms,
                });
                by.collect()
            });
            origins.push(Origin { range: BlameRange { first: at, count: until - at, commit: None }, typed });
            at = until;
        }
    }
    origins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::branch::{LineAuthor, Lines};
    use crate::git::Blamed;

    #[test]
    fn lines_of_no_commit_are_given_to_who_typed_them() {
        let lines = |line, count, author: &str| Lines {
            line,
            count,
            authors: vec![LineAuthor { author: author.into(), at_ms: 7 }],
        };
        let authored = Authored {
            position: 1,
            text: String::new(),
            lines: vec![lines(1, 2, "(file)"), lines(3, 3, "ann"), lines(6, 1, "bob")],
        };
        let commit = || Some(Blamed { hash: "aa".into(), ..Blamed::default() });
        let range = |first, count, commit| BlameRange { first, count, commit };
        let names = HashMap::from([("ann".to_owned(), "Ann".to_owned())]);
        let all = [range(1, 1, commit()), range(2, 3, None), range(5, 1, commit()), range(6, 2, None)];
        let told: Vec<_> = typed(all.to_vec(), &authored, &names)
            .into_iter()
            .map(|one| {
                (
                    one.range.first,
                    one.range.count,
                    one.typed.map(|by| (by[0].author.clone(), by[0].name.clone())),
                )
            })
            .collect();
        let by = |author: &str, name: Option<&str>| Some((author.to_owned(), name.map(str::to_owned)));
        let expected = [
            (1, 1, None),
            (2, 1, by("(file)", None)),
            (3, 2, by("ann", Some("Ann"))),
            (5, 1, None),
            (6, 1, by("bob", None)),
            (7, 1, None),
        ];
        assert_eq!(told, expected);
    }
}
