//! Searching by content and by name, with ripgrep's searcher and a fuzzy matcher, over our own walk of the tree: what
//! git ignores is left out, no link is followed, `.git` never appears.

use super::list::{Start, Walk, shown};
use super::{FsError, Kind, RelPath, Workspace};
use crate::crdt::{decode, utf16_len};
use globset::GlobMatcher;
use grep_matcher::Matcher as _;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{Searcher, SearcherBuilder, Sink, SinkMatch};
use nucleo_matcher::pattern::{AtomKind, CaseMatching, Normalization, Pattern as Fuzzy};
use nucleo_matcher::{Config, Matcher, Utf32Str};
use std::ops::Range;
use std::time::{Duration, Instant};

/// The longest a search goes on; then it answers with what it has, and says so.
const WITHIN: Duration = Duration::from_secs(10);
/// Larger files are not searched.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of a query.
const MAX_QUERY: usize = 1_000;
/// UTF-16 units of a line that are given.
const MAX_LINE: u32 = 400;
/// Matches of a line that are told.
const MAX_HITS: usize = 100;
/// Of these, units before the match, if the line is cut.
const BEFORE: u32 = 100;
/// Memory for a compiled expression: its size times that of a chunk bounds the time between two looks at the clock.
const MAX_REGEX_BYTES: usize = 256 * 1024;
/// Memory for what makes an expression fast.
const MAX_DFA_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a file that are searched between two looks at the clock, except in one line.
const CHUNK: usize = 8 * 1024;
/// Bytes of a line that an expression is tried on; a file with a longer one is not searched for expressions.
const MAX_REGEX_LINE: usize = 64 * 1024;

/// What to look for in files.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// 1 to 1,000 bytes, in one line.
    pub query: String,
    /// A regular expression in the syntax of Rust's `regex`, not plain text.
    pub is_regex: bool,
    /// Whether case matters.
    pub match_case: bool,
    /// Only in files whose path matches.
    pub files: Option<GlobMatcher>,
}

/// A line that holds a match. Lines and columns are those of the document that editors see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLine {
    /// The file.
    pub path: String,
    /// From 1.
    pub line: u64,
    /// Where its first match starts, in UTF-16 units, from 1.
    pub column: u32,
    /// The match's length in UTF-16 units.
    pub length: u32,
    /// The line, at most 400 units of it around the match.
    pub text: String,
    /// Where `text` starts in the line; 1 if it is not cut there.
    pub text_column: u32,
    /// Where `text` starts in the file's text, in bytes.
    pub offset: u64,
    /// Where the first 100 matches are in `text`, in bytes.
    pub hits: Vec<Range<usize>>,
}

/// What a search by content gives.
#[derive(Clone, Debug, Default)]
pub struct FoundLines {
    /// In the order of paths and lines.
    pub lines: Vec<FoundLine>,
    /// There may be more: the limit or the time was reached.
    pub is_cut: bool,
    /// Files that were too large to search, or for an expression held too long a line.
    pub too_large: usize,
}

/// A file whose path is like the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPath {
    /// The file.
    pub path: String,
    /// How alike; more is better.
    pub score: u32,
}

/// What a search by name gives.
#[derive(Clone, Debug, Default)]
pub struct FoundPaths {
    /// The best first.
    pub paths: Vec<FoundPath>,
    /// Not all files were looked at: the time was reached.
    pub is_cut: bool,
}

impl Pattern {
    fn compile(&self) -> Result<RegexMatcher, FsError> {
        if self.query.is_empty() || self.query.len() > MAX_QUERY {
            return Err(FsError::Query(format!("it has 1 to {MAX_QUERY} bytes")));
        }
        if self.query.contains(['\n', '\r', '\0']) {
            return Err(FsError::Query("it holds a line end or a NUL; a search finds within lines".into()));
        }
        RegexMatcherBuilder::new()
            .fixed_strings(!self.is_regex)
            .case_insensitive(!self.match_case)
            .line_terminator(Some(b'\n'))
            .size_limit(MAX_REGEX_BYTES)
            .dfa_size_limit(MAX_DFA_BYTES)
            .nest_limit(100)
            .build(&self.query)
            .map_err(|error| FsError::Query(error.to_string()))
    }
}

impl Workspace {
    /// Lines that match, in a folder or file, links on the way to it followed. `None`: nothing is there.
    ///
    /// # Errors
    /// [`FsError::Query`] for an expression that can't be used.
    pub async fn search(
        &self,
        pattern: &Pattern,
        within: Option<&RelPath>,
        limit: usize,
    ) -> Result<Option<FoundLines>, FsError> {
        let matcher = pattern.compile()?;
        let max_line = pattern.is_regex.then_some(MAX_REGEX_LINE);
        let (this, within, files) = (self.clone(), within.cloned(), pattern.files.clone());
        let turn = self.turn().await?;
        self.off_runtime(move || {
            let _turn = turn;
            let until = Instant::now() + WITHIN;
            this.search_now(&matcher, max_line, within.as_ref(), files.as_ref(), limit, until)
        })
        .await
    }

    fn search_now(
        &self,
        matcher: &RegexMatcher,
        max_line: Option<usize>,
        within: Option<&RelPath>,
        files: Option<&GlobMatcher>,
        limit: usize,
        until: Instant,
    ) -> Result<Option<FoundLines>, FsError> {
        let real = match within {
            None => None,
            Some(path) => self.resolve_folder(path)?,
        };
        let mut search =
            Search { matcher, max_line, limit, until, path: String::new(), found: FoundLines::default() };
        let is_meant = |path: &str| files.is_none_or(|files| files.is_match(path));
        if let Some(file) = &real {
            match self.stat_now(file)? {
                None => return Ok(None),
                Some(stat) if stat.kind != Kind::Folder => {
                    search.path = within.unwrap_or(file).to_string();
                    self.search_file(&mut search, file);
                    return Ok(Some(search.found));
                }
                Some(_) => {}
            }
        }
        let start = Start { with_ignored: false, is_marked: true, ..Start::folder(real.clone()) };
        let mut walk = match Walk::new(self, start) {
            Err(FsError::Absent(_) | FsError::WrongKind { .. }) => return Ok(None),
            walk => walk?,
        };
        while let Some(found) = walk.next()? {
            if search.found.lines.len() >= limit || Instant::now() > until {
                search.found.is_cut = true;
                break;
            }
            if found.stat.kind == Kind::File && is_meant(found.real.as_str()) {
                search.path = shown(within, real.as_ref(), &found.real);
                self.search_file(&mut search, &found.real);
            }
        }
        Ok(Some(search.found))
    }

    fn search_file(&self, search: &mut Search<'_>, file: &RelPath) {
        let data = match self.read_now(file, MAX_FILE_BYTES) {
            Ok(Some(data)) => data,
            Err(FsError::TooLarge { .. }) => {
                search.found.too_large += 1;
                return;
            }
            // Gone or changed meanwhile, or not ours to read.
            _ => return,
        };
        if data.bytes.contains(&0) {
            return;
        }
        let mut searcher =
            SearcherBuilder::new().line_number(true).bom_sniffing(false).heap_limit(search.max_line).build();
        // As editors see it where it is a document's text; as it is where it is some other encoding.
        let text = decode(&data.bytes).map(|(text, _)| text);
        let bytes = text.as_ref().map_or(&*data.bytes, |text| text.as_bytes());
        let (matcher, reader) = (search.matcher, Timed { bytes, until: search.until });
        match searcher.search_reader(matcher, reader, &mut *search) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => search.found.is_cut = true,
            // Reading from memory fails for one other reason: a line that is too long.
            Err(_) => search.found.too_large += 1,
        }
    }

    /// Files whose path is most like the query, in the order of letters but with gaps. An empty query gives the first
    /// files.
    ///
    /// # Errors
    /// [`FsError::Query`] for a query that is too long.
    pub async fn find(&self, query: &str, limit: usize) -> Result<FoundPaths, FsError> {
        if query.len() > MAX_QUERY {
            return Err(FsError::Query(format!("it has at most {MAX_QUERY} bytes")));
        }
        let (this, query) = (self.clone(), query.to_owned());
        let turn = self.turn().await?;
        self.off_runtime(move || {
            let _turn = turn;
            this.find_now(&query, limit, Instant::now() + WITHIN)
        })
        .await
    }

    fn find_now(&self, query: &str, limit: usize, until: Instant) -> Result<FoundPaths, FsError> {
        let fuzzy = Fuzzy::new(query, CaseMatching::Smart, Normalization::Smart, AtomKind::Fuzzy);
        let mut matcher = Matcher::new(Config::DEFAULT.match_paths());
        let mut found = FoundPaths::default();
        let mut walk =
            Walk::new(self, Start { with_ignored: false, is_marked: true, ..Start::folder(None) })?;
        let mut buffer = Vec::new();
        while let Some(file) = walk.next()? {
            if Instant::now() > until {
                found.is_cut = true;
                break;
            }
            if file.stat.kind != Kind::File {
                continue;
            }
            let path = file.real.as_str();
            if let Some(score) = fuzzy.score(Utf32Str::new(path, &mut buffer), &mut matcher) {
                found.paths.push(FoundPath { path: path.to_owned(), score });
                if found.paths.len() > limit * 2 + 1_000 {
                    keep_best(&mut found.paths, limit);
                }
            }
        }
        keep_best(&mut found.paths, limit);
        Ok(found)
    }
}

fn keep_best(paths: &mut Vec<FoundPath>, limit: usize) {
    paths.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.path.cmp(&b.path)));
    paths.truncate(limit);
}

/// Bytes that are given until the time is over: an expression may take long where nothing matches.
struct Timed<'a> {
    bytes: &'a [u8],
    until: Instant,
}

impl std::io::Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if Instant::now() > self.until {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let len = self.bytes.len().min(CHUNK).min(buffer.len());
        let (now, later) = self.bytes.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.bytes = later;
        Ok(len)
    }
}

struct Search<'a> {
    matcher: &'a RegexMatcher,
    max_line: Option<usize>,
    limit: usize,
    until: Instant,
    path: String,
    found: FoundLines,
}

impl Sink for &mut Search<'_> {
    type Error = std::io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, Self::Error> {
        if self.found.lines.len() >= self.limit || Instant::now() > self.until {
            self.found.is_cut = true;
            return Ok(false);
        }
        let line = found.bytes();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let at = self.matcher.find(line).map_err(std::io::Error::other)?;
        let (start, end) = at.map_or((0, 0), |at| (at.start(), at.end().min(line.len())));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (before, hit, after) = (text(&line[..start]), text(&line[start..end]), text(&line[end..]));
        let column = utf16_len(&before) + 1;
        let length = utf16_len(&hit);
        let is_long = column.saturating_add(length).saturating_add(utf16_len(&after)) > MAX_LINE;
        let kept = if is_long { last_units(&before, BEFORE) } else { &before };
        let text = first_units(&format!("{kept}{hit}{after}"), MAX_LINE);
        let mut hits: Vec<Range<usize>> = Vec::new();
        if std::str::from_utf8(line).is_err() {
            // Of text that is none, only the first is where it says.
            hits.push(kept.len()..kept.len() + hit.len());
        } else {
            let cut = start - kept.len();
            let matches = self.matcher.find_iter_at(line, start, |at| {
                hits.push(at.start().saturating_sub(cut)..at.end().min(line.len()).saturating_sub(cut));
                hits.len() < MAX_HITS
            });
            matches.map_err(std::io::Error::other)?;
        }
        hits.retain(|hit| hit.end <= text.len());
        self.found.lines.push(FoundLine {
            path: self.path.clone(),
            line: found.line_number().unwrap_or(1),
            column,
            length,
            text_column: column - utf16_len(kept),
            offset: found.absolute_byte_offset() + (before.len() - kept.len()) as u64,
            text,
            hits,
        });
        Ok(true)
    }
}

fn units(character: char) -> u32 {
    if character.len_utf16() == 2 { 2 } else { 1 }
}

fn first_units(text: &str, max: u32) -> String {
    let mut left = max;
    text.chars().take_while(|c| left.checked_sub(units(*c)).map(|rest| left = rest).is_some()).collect()
}

fn last_units(text: &str, max: u32) -> &str {
    let mut left = max;
    let mut from = text.len();
    for (at, character) in text.char_indices().rev() {
        let Some(rest) = left.checked_sub(units(character)) else { break };
        (left, from) = (rest, at);
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{path, workspace};
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn plain(query: &str) -> Pattern {
        Pattern { query: query.into(), is_regex: false, match_case: true, files: None }
    }

    fn later() -> Instant {
        Instant::now() + WITHIN
    }

    fn search(files: &Workspace, pattern: &Pattern, within: Option<&str>, limit: usize) -> FoundLines {
        let within = within.map(path);
        let max_line = pattern.is_regex.then_some(MAX_REGEX_LINE);
        files
            .search_now(&pattern.compile().unwrap(), max_line, within.as_ref(), None, limit, later())
            .unwrap()
            .unwrap()
    }

    #[test]
    fn lines_and_columns_are_those_of_editors() {
        let (_temp, root, files) = workspace();
        fs::write(root.join("mixed.txt"), "\u{FEFF}one\rtwo\r\n😀é needle x\nlast").unwrap();
        fs::write(root.join("latin"), b"caf\xe9 needle\n").unwrap();
        fs::write(root.join("binary"), b"needle\0").unwrap();
        let found = search(&files, &plain("needle"), None, 10);
        let line = FoundLine {
            path: "latin".into(),
            line: 1,
            column: 6,
            length: 6,
            text: "caf\u{FFFD} needle".into(),
            text_column: 1,
            offset: 0,
            // The replaced byte has three now.
            hits: std::iter::once(7..13).collect(),
        };
        let text = FoundLine {
            path: "mixed.txt".into(),
            line: 3,
            column: 5,
            text: "😀é needle x".into(),
            offset: 8,
            ..line.clone()
        };
        assert_eq!(found.lines, [line, text]);
        assert!(!found.is_cut);
        let at_start = search(&files, &Pattern { is_regex: true, ..plain("^one$") }, None, 10);
        assert_eq!((at_start.lines[0].line, at_start.lines[0].column), (1, 1));
        assert_eq!(search(&files, &plain("."), None, 10).lines.len(), 0);
        assert_eq!(search(&files, &plain("NEEDLE"), None, 10).lines.len(), 0);
        let any_case = Pattern { match_case: false, ..plain("NEEDLE") };
        assert_eq!(search(&files, &any_case, None, 10).lines.len(), 2);
    }

    #[test]
    fn results_lines_files_and_time_are_bounded() {
        let (_temp, root, files) = workspace();
        fs::write(root.join("a"), "needle\n".repeat(50)).unwrap();
        let line = format!("{}needle{}", "😀".repeat(500), "y".repeat(5_000));
        fs::write(root.join("b"), line).unwrap();
        let large = fs::File::create(root.join("large")).unwrap();
        large.set_len(MAX_FILE_BYTES + 1).unwrap();
        let cut = search(&files, &plain("needle"), None, 7);
        assert!(cut.is_cut && cut.lines.len() == 7);
        let all = search(&files, &plain("needle"), None, 1_000);
        assert_eq!((all.lines.len(), all.is_cut, all.too_large), (51, false, 1));
        let long = &all.lines[50];
        assert_eq!((long.column, long.text_column, utf16_len(&long.text)), (1_001, 901, MAX_LINE));
        assert!(long.text.starts_with('😀') && long.text.contains("needley"));
        let matcher = plain("needle").compile().unwrap();
        let late = files.search_now(&matcher, None, None, None, 10, Instant::now()).unwrap().unwrap();
        assert!(late.is_cut && late.lines.is_empty());
        // An expression that is slow and matches nothing: many states alive at every byte, for seconds of any machine's time.
        fs::write(root.join("slow"), format!("{}\n", "ab".repeat(500)).repeat(8_000)).unwrap();
        let slow =
            Pattern { query: "([ab]{1,99}){8}[cd]".into(), is_regex: true, match_case: true, files: None };
        let (compiled, began) = (slow.compile().unwrap(), Instant::now());
        let until = began + Duration::from_millis(20);
        let cut = files.search_now(&compiled, None, Some(&path("slow")), None, 10, until).unwrap().unwrap();
        assert!(cut.is_cut && cut.lines.is_empty());
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        fs::write(root.join("long"), "ab".repeat(MAX_REGEX_LINE)).unwrap();
        let long = search(&files, &Pattern { is_regex: true, ..plain("ab") }, Some("long"), 10);
        assert_eq!((long.lines.len(), long.too_large), (0, 1));
        assert_eq!(search(&files, &plain("ab"), Some("long"), 10).lines.len(), 1, "the control");
    }

    #[test]
    fn git_links_and_what_git_ignores_are_left_out() {
        let (temp, root, files) = workspace();
        for folder in [".git", "src", "target"] {
            fs::create_dir(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("config"), "needle").unwrap();
        }
        fs::write(temp.path().join("secret"), "needle").unwrap();
        fs::write(root.join(".gitignore"), "target\n").unwrap();
        symlink(".git", root.join("git")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("src", root.join("way")).unwrap();
        let paths = |within| -> Vec<String> {
            search(&files, &plain("needle"), within, 10).lines.into_iter().map(|line| line.path).collect()
        };
        assert_eq!(paths(None), ["src/config"]);
        assert_eq!(paths(Some("way")), ["way/config"]);
        assert_eq!(paths(Some("way/config")), ["way/config"]);
        // Named outright, an ignored folder is searched.
        assert_eq!(paths(Some("target")), ["target/config"]);
        let matcher = plain("needle").compile().unwrap();
        for link in ["git", "git/config", "out"] {
            assert!(
                files.search_now(&matcher, None, Some(&path(link)), None, 10, later()).is_err(),
                "{link}"
            );
        }
        assert!(files.search_now(&matcher, None, Some(&path("none")), None, 10, later()).unwrap().is_none());
        let found = files.find_now("conf", 10, later()).unwrap();
        assert_eq!(found.paths.iter().map(|found| &*found.path).collect::<Vec<_>>(), ["src/config"]);
    }

    #[test]
    fn the_best_paths_come_first() {
        let (_temp, root, files) = workspace();
        for file in ["a_long/way/to/main_file.rs", "main.rs", "src/main.rs", "none.txt"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        let found = files.find_now("main.rs", 2, later()).unwrap();
        let paths: Vec<_> = found.paths.iter().map(|found| &*found.path).collect();
        assert_eq!(paths, ["main.rs", "src/main.rs"]);
        let gaps = files.find_now("almf", 10, later()).unwrap();
        assert_eq!(gaps.paths[0].path, "a_long/way/to/main_file.rs");
        assert_eq!(files.find_now("", 3, later()).unwrap().paths.len(), 3);
    }

    #[test]
    fn a_query_that_cannot_be_used_is_named() {
        for (query, is_regex) in
            [("", false), ("a\nb", false), ("(", true), (r"\n", true), ("((a{99}){99}){99}", true)]
        {
            let pattern = Pattern { query: query.into(), is_regex, match_case: true, files: None };
            assert!(matches!(pattern.compile(), Err(FsError::Query(_))), "{query}");
        }
        assert!(plain(&"x".repeat(MAX_QUERY + 1)).compile().is_err());
        for usual in [r"\b\w+\s*=\s*\w+", r"^\s*(pub )?fn \w+\(.*\) -> \S+ \{$", r"[\p{L}_]+\d{1,8}"] {
            let pattern = Pattern { query: usual.into(), is_regex: true, match_case: false, files: None };
            assert!(pattern.compile().is_ok(), "{usual}: {:?}", pattern.compile());
        }
    }
}
