//! `fs/search` and the like: through the same searches as the native API, which leave out what git ignores.

use super::method;
use crate::compat::socket::{Answer, Answered, Client, Fault, Method, errno};
use crate::workspace::{FoundLine, Pattern};
use globset::GlobBuilder;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub(super) const METHODS: &[Method] = &[
    method!("fs/search", Read, Free, search),
    method!("fs/pathSearch", Read, Free, path_search),
    method!("fs/streamingSearch", Read, Free, stream),
    method!("fs/cancelStreamingSearch", Read, Free, cancel),
];

/// Lines of an answer, and of a stream where the client names no number, and at most.
const MAX_RESULTS: usize = 10_000;
/// Files of a search by name.
const MAX_PATHS: usize = 1_000;
/// Matches of one notification.
const AT_ONCE: usize = 200;
/// Searches of one client that stream at once.
const MAX_STREAMS: usize = 4;

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Case {
    /// Case matters if there is an upper-case letter.
    #[default]
    Smart,
    Enabled,
    Disabled,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    text: String,
    glob: Option<String>,
    is_regex: Option<bool>,
    case_sensitivity: Option<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Streaming {
    search_id: String,
    max_results: Option<usize>,
    // Not flattened: the format can't skip what it does not know then.
    text: String,
    glob: Option<String>,
    is_regex: Option<bool>,
    case_sensitivity: Option<Case>,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

#[derive(Serialize)]
struct Hit {
    r#match: Text,
    start: usize,
    end: usize,
}

/// A line that matches; offsets are bytes in `lines`, which is cut to 400 UTF-16 units where it is long.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    file_id: String,
    lines: Text,
    #[serde(rename = "lineNumber")]
    number: u64,
    absolute_offset: u64,
    submatches: Vec<Hit>,
}

impl From<FoundLine> for Line {
    fn from(found: FoundLine) -> Self {
        let hit = |hit: std::ops::Range<usize>| {
            let text = found.text.get(hit.clone()).unwrap_or_default().to_owned();
            Hit { r#match: Text { text }, start: hit.start, end: hit.end }
        };
        Self {
            submatches: found.hits.iter().cloned().map(hit).collect(),
            file_id: found.path,
            lines: Text { text: found.text },
            number: found.line,
            absolute_offset: found.offset,
        }
    }
}

impl Search {
    fn pattern(self) -> Result<Pattern, Fault> {
        let match_case = match self.case_sensitivity.unwrap_or_default() {
            Case::Smart => self.text.chars().any(char::is_uppercase),
            Case::Enabled => true,
            Case::Disabled => false,
        };
        let glob = self.glob.filter(|glob| !glob.is_empty());
        let glob = glob.map(|glob| GlobBuilder::new(&glob).literal_separator(false).build()).transpose();
        let glob = glob.map_err(|error| Fault::fs(errno::EINVAL, &error.to_string()))?;
        let files = glob.map(|glob| glob.compile_matcher());
        Ok(Pattern { query: self.text, is_regex: self.is_regex.unwrap_or(false), match_case, files })
    }
}

async fn find(client: &Client, search: Search, limit: usize) -> Result<(Vec<Line>, bool), Fault> {
    let pattern = search.pattern()?;
    let found = client.hub().search(&pattern, None, limit).await?;
    let Some(found) = found else { return Ok((Vec::new(), false)) };
    Ok((found.found.lines.into_iter().map(Line::from).collect(), found.found.is_cut))
}

async fn search(client: &Arc<Client>, search: Search) -> Answered {
    let (lines, _) = find(client, search, MAX_RESULTS).await?;
    Answer::of(&lines)
}

#[derive(Deserialize)]
struct PathSearch {
    text: String,
}

async fn path_search(client: &Arc<Client>, search: PathSearch) -> Answered {
    let found = client.hub().find(&search.text, MAX_PATHS).await?;
    let wanted = search.text.to_lowercase();
    let matches: Vec<_> = found
        .paths
        .into_iter()
        .map(|found| {
            let at = found.path.to_lowercase().find(&wanted).filter(|_| !wanted.is_empty());
            let hit = at.and_then(|at| Some((at, found.path.get(at..at + wanted.len())?.to_owned())));
            let submatches: Vec<_> = hit
                .map(|(start, text)| Hit { start, end: start + text.len(), r#match: Text { text } })
                .into_iter()
                .collect();
            json!({ "path": found.path, "submatches": serde_json::to_value(submatches).unwrap_or_default() })
        })
        .collect();
    Answer::of(&json!({ "matches": matches }))
}

/// Searches of a client that are under way.
#[derive(Default)]
struct Streams(Mutex<HashMap<String, CancellationToken>>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Matches<'a> {
    search_id: &'a str,
    matches: &'a [Line],
}

async fn stream(client: &Arc<Client>, search: Streaming) -> Answered {
    let Streaming { search_id: id, max_results, text, glob, is_regex, case_sensitivity } = search;
    let search = Search { text, glob, is_regex, case_sensitivity };
    let limit = max_results.unwrap_or(MAX_RESULTS).clamp(1, MAX_RESULTS);
    let stop = CancellationToken::new();
    let streams = client.kept::<Streams>();
    {
        let mut streams = streams.0.lock();
        if id.len() > 200 || (streams.len() >= MAX_STREAMS && !streams.contains_key(&id)) {
            let text = format!("a client has {MAX_STREAMS} searches under way; end some");
            return Err(Fault::new(crate::compat::socket::code::RATE_LIMIT, text));
        }
        // The same id again: the first one's matches would be taken for its own.
        if let Some(before) = streams.insert(id.clone(), stop.clone()) {
            before.cancel();
        }
    }
    let answer = Answer::of(&json!({ "searchId": id }))?.holding();
    let this = Arc::clone(client);
    Ok(answer.then(move || {
        let client = Arc::clone(&this);
        this.spawn(async move {
            let told = async {
                let (lines, is_cut) = find(&client, search, limit).await.unwrap_or_default();
                for matches in lines.chunks(AT_ONCE) {
                    client.has_room().await;
                    client.notify("fs/searchMatches", &Matches { search_id: &id, matches });
                }
                client.notify("fs/searchFinished", &json!({ "searchId": id, "hitLimit": is_cut }));
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = told => {
                    let mut streams = streams.0.lock();
                    // Not one that took the id over just then.
                    if !stop.is_cancelled() {
                        streams.remove(&id);
                    }
                }
            }
        });
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancel {
    search_id: String,
}

async fn cancel(client: &Arc<Client>, cancel: Cancel) -> Answered {
    if let Some(stop) = client.kept::<Streams>().0.lock().remove(&cancel.search_id) {
        stop.cancel();
    }
    Answer::of(&json!({ "searchId": cancel.search_id }))
}
