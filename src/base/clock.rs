//! Wall-clock time, given to whoever needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of wall-clock time, cheap to clone. Tests hand out one that stands still until told.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that shows `at_ms` until [`Clock::advance`] is called on it or a clone.
    #[must_use]
    pub fn manual(at_ms: i64) -> Self {
        Self { manual: Some(Arc::new(AtomicI64::new(at_ms))) }
    }

    /// Milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match &self.manual {
            Some(at) => at.load(Ordering::Relaxed),
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// Moves a manual clock forward; does nothing to the machine's.
    pub fn advance(&self, by_ms: i64) {
        if let Some(at) = &self.manual {
            at.fetch_add(by_ms, Ordering::Relaxed);
        }
    }
}
