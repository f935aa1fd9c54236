//! A file as an answer: whole, in part, or "you have it already"; never as something that a browser would run here.

use super::etag;
use crate::branch::Content;
use crate::http::ApiError;
use crate::workspace::RelPath;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_range_header::parse_range_header;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::ops::RangeInclusive;

/// What users wrote gets no rights on this origin, even if it is opened in a tab of its own.
const POLICY: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";
/// What RFC 8187 lets stand in a file name.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

enum Part {
    Whole,
    Range(RangeInclusive<u64>),
    Nothing,
}

pub(in crate::http) fn answer(
    path: &RelPath,
    content: &Content,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    let tag = etag(content.version);
    let len = content.bytes.len();
    let mut answer = if names(headers.get(header::IF_NONE_MATCH), &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match part(headers, method, &tag, len as u64) {
            Part::Whole => content.bytes.clone().into_response(),
            Part::Range(range) => {
                let within = usize::try_from(*range.start())
                    .ok()
                    .zip(usize::try_from(*range.end()).ok())
                    .filter(|(start, end)| start <= end && *end < len);
                let Some((start, end)) = within else { return past_the_end(len) };
                let described = [(header::CONTENT_RANGE, format!("bytes {start}-{end}/{len}"))];
                (StatusCode::PARTIAL_CONTENT, described, content.bytes.slice(start..=end)).into_response()
            }
            Part::Nothing => return past_the_end(len),
        }
    };
    set(&mut answer, header::ETAG, &tag);
    set(&mut answer, header::ACCEPT_RANGES, "bytes");
    attached(answer, path.file_name(), &content_type(path, &content.bytes))
}

fn set(answer: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// An answer that a browser keeps as a file of this name, and never runs.
pub(in crate::http) fn attached(mut answer: Response, name: &str, kind: &str) -> Response {
    let name = utf8_percent_encode(name, NAME);
    for (header, value) in [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CONTENT_DISPOSITION, &format!("attachment; filename*=UTF-8''{name}")),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        set(&mut answer, header, value);
    }
    answer
}

fn past_the_end(len: usize) -> Response {
    let detail = format!("the range starts past the end of the file, which has {len} bytes");
    let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_refused", detail);
    ([(header::CONTENT_RANGE, format!("bytes */{len}"))], error).into_response()
}

/// Whether a list of entity tags names this one, weak or not, or any.
fn names(list: Option<&HeaderValue>, tag: &str) -> bool {
    let list = list.and_then(|list| list.to_str().ok()).unwrap_or_default();
    list.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

fn part(headers: &HeaderMap, method: &Method, tag: &str, len: u64) -> Part {
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Part::Whole;
    };
    // A part of another version than the caller has the rest of would not fit.
    let is_same = headers.get(header::IF_RANGE).is_none_or(|held| held.as_bytes() == tag.as_bytes());
    if *method != Method::GET || !is_same {
        return Part::Whole;
    }
    // What is no range, and several at once, may be answered with the whole (RFC 9110).
    match parse_range_header(range) {
        Ok(ranges) if ranges.len() == 1 => match ranges.validate(len).map(|ranges| ranges.into_iter().next())
        {
            Ok(Some(range)) => Part::Range(range),
            Ok(None) | Err(_) => Part::Nothing,
        },
        _ => Part::Whole,
    }
}

fn content_type(path: &RelPath, bytes: &[u8]) -> String {
    let guess = mime_guess::from_path(path.as_str()).first_or_octet_stream();
    if guess.type_() == mime_guess::mime::TEXT && std::str::from_utf8(bytes).is_ok() {
        format!("{}; charset=utf-8", guess.essence_str())
    } else {
        guess.essence_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::branch::Version;

    fn ask(name: &str, headers: &[(HeaderName, &str)]) -> Response {
        let bytes = axum::body::Bytes::from_static(b"0123456789");
        let content = Content { version: Version::of(&bytes), bytes };
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        answer(&name.parse().unwrap(), &content, &Method::GET, &headers)
    }

    fn header_of(answer: &Response, name: HeaderName) -> String {
        answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn one_range_is_given_and_what_is_no_range_is_ignored() {
        for (range, expected) in [
            ("bytes=0-3", "bytes 0-3/10"),
            ("bytes=4-", "bytes 4-9/10"),
            ("bytes=-2", "bytes 8-9/10"),
            ("bytes=9-9", "bytes 9-9/10"),
            ("bytes=0-999", "bytes 0-9/10"),
            ("bytes=10-", "bytes */10"),
        ] {
            let answer = ask("a", &[(header::RANGE, range)]);
            let status = if expected.contains('*') { 416 } else { 206 };
            assert_eq!(answer.status().as_u16(), status, "{range}");
            assert_eq!(header_of(&answer, header::CONTENT_RANGE), expected, "{range}");
        }
        for range in ["bytes=3-1", "lines=0-1", "bytes=x", "bytes=0-1,3-4", ""] {
            assert_eq!(ask("a", &[(header::RANGE, range)]).status(), StatusCode::OK, "{range}");
        }
        let other = ask("a", &[(header::RANGE, "bytes=0-3"), (header::IF_RANGE, "\"other\"")]);
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn a_known_version_is_not_sent_again() {
        let tag = header_of(&ask("a", &[]), header::ETAG);
        for list in [tag.clone(), format!("\"x\", W/{tag}"), "*".into()] {
            let answer = ask("a", &[(header::IF_NONE_MATCH, &list)]);
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{list}");
            assert_eq!(header_of(&answer, header::ETAG), tag);
        }
        assert_eq!(ask("a", &[(header::IF_NONE_MATCH, "\"x\"")]).status(), StatusCode::OK);
    }

    #[test]
    fn nothing_runs_on_this_origin() {
        for (name, kind) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("a.rs", "text/x-rust; charset=utf-8"),
            ("none", "application/octet-stream"),
        ] {
            let answer = ask(name, &[]);
            assert_eq!(header_of(&answer, header::CONTENT_TYPE), kind);
            assert_eq!(header_of(&answer, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert!(header_of(&answer, header::CONTENT_SECURITY_POLICY).contains("sandbox"));
            assert!(header_of(&answer, header::CONTENT_DISPOSITION).starts_with("attachment;"));
        }
        let odd = ask("d/ä \"x\r\n.txt", &[]);
        assert_eq!(
            header_of(&odd, header::CONTENT_DISPOSITION),
            "attachment; filename*=UTF-8''%C3%A4%20%22x%0D%0A.txt"
        );
    }
}
