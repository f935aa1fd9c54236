//! How much a connection may bring before it has shown a token.

use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::Notify;

/// What may still be read of one connection: all, unless a socket that has shown no token limits it. Made by the listener,
/// which asks before each read, and put into each request.
///
/// WebSocket frames can't be bounded for a part of a connection: tungstenite takes the largest one at the start. What is
/// not read stays in the kernel's buffers, and then with its sender.
#[derive(Clone, Debug, Default)]
pub struct Inflow(Arc<Meter>);

#[derive(Debug)]
struct Meter {
    /// Bytes; `usize::MAX`: all.
    left: AtomicUsize,
    reader: AtomicWaker,
    used_up: Notify,
}

impl Default for Meter {
    fn default() -> Self {
        Self { left: AtomicUsize::new(usize::MAX), reader: AtomicWaker::new(), used_up: Notify::new() }
    }
}

impl Inflow {
    /// From now on at most so many bytes are read.
    pub(super) fn limit(&self, bytes: usize) {
        self.0.left.store(bytes, Ordering::SeqCst);
    }

    /// All may be read again.
    pub(super) fn free(&self) {
        self.0.left.store(usize::MAX, Ordering::SeqCst);
        self.0.reader.wake();
    }

    /// Resolves once there was more than the limit. Cancel-safe.
    pub(super) async fn used_up(&self) {
        self.0.used_up.notified().await;
    }

    /// How many bytes the listener may read now, at least one; `None`: there is no limit. Waits until it is lifted
    /// where the limit is reached.
    pub fn poll_room(&self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        // Before the look, or a limit that is lifted between the two would be missed.
        self.0.reader.register(context.waker());
        match self.0.left.load(Ordering::SeqCst) {
            0 => {
                self.0.used_up.notify_one();
                Poll::Pending
            }
            usize::MAX => Poll::Ready(None),
            left => Poll::Ready(Some(left)),
        }
    }

    /// Tells how much of the room was used.
    pub fn took(&self, bytes: usize) {
        // Only the one that polls takes; a limit that was lifted meanwhile stays lifted.
        let less = |left: usize| (left != usize::MAX).then(|| left.saturating_sub(bytes));
        let _ = self.0.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn reading_stops_at_the_limit_until_it_is_lifted() {
        let inflow = Inflow::default();
        let room = || poll_fn(|context| inflow.poll_room(context));
        assert_eq!(room().await, None);
        inflow.limit(10);
        assert_eq!(room().await, Some(10));
        inflow.took(10);
        let lift = async {
            inflow.used_up().await;
            inflow.free();
            inflow.took(1);
        };
        assert_eq!(tokio::join!(room(), lift).0, None);
        assert_eq!(room().await, None);
    }
}
