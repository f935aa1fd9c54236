//! Times as the SDK writes them.

use super::answer::Refusal;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970 as RFC 3339.
pub(super) fn calendar(at_ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

/// RFC 3339 as milliseconds since 1970.
pub(super) fn since_1970(text: &str) -> Result<i64, Refusal> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok();
    let at_ms = at.and_then(|at| i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
    at_ms.ok_or_else(|| Refusal::value("a time is RFC 3339, such as 2026-01-31T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        assert_eq!(calendar(1_767_225_600_123), "2026-01-01T00:00:00.123Z");
        assert_eq!(since_1970("2026-01-01T01:00:00.123+01:00").unwrap(), 1_767_225_600_123);
        for bad in ["", "2026-01-01", "now", "99999-01-01T00:00:00Z"] {
            assert!(since_1970(bad).is_err(), "{bad}");
        }
    }
}
