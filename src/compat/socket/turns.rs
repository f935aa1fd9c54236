//! The order in which a client's requests are worked on: each in a task of its own, and yet as if one after the other
//! where it matters. Places in the queues are taken in the order in which requests arrive.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{
    Mutex as AsyncMutex, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock,
};

/// What a method waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compat) enum Order {
    /// It changes something: after all changes and looks that came before it, alone.
    Changes,
    /// It looks at something: after all changes that came before it, beside other looks.
    Looks,
    /// After all that came before it for the same `shellId`.
    Shell,
    /// Nothing; it may take long.
    Free,
}

/// A request's turn, held until its answer is on its way.
pub(super) enum Turn {
    Changes(#[expect(dead_code, reason = "held")] OwnedRwLockWriteGuard<()>),
    Looks(#[expect(dead_code, reason = "held")] OwnedRwLockReadGuard<()>),
    Shell(#[expect(dead_code, reason = "held")] OwnedMutexGuard<()>),
    Free,
}

pub(super) type Waiting = Pin<Box<dyn Future<Output = Turn> + Send>>;

#[derive(Default)]
pub(super) struct Turns {
    files: Arc<RwLock<()>>,
    shells: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

impl Turns {
    /// Takes a place in the queue; the turn itself comes later.
    pub(super) async fn queue(&self, order: Order, shell: Option<String>) -> Waiting {
        let files = Arc::clone(&self.files);
        let waiting: Waiting = match order {
            Order::Changes => Box::pin(async { Turn::Changes(files.write_owned().await) }),
            Order::Looks => Box::pin(async { Turn::Looks(files.read_owned().await) }),
            Order::Shell => {
                let shell = self.shell(shell.unwrap_or_default());
                Box::pin(async { Turn::Shell(shell.lock_owned().await) })
            }
            Order::Free => return Box::pin(std::future::ready(Turn::Free)),
        };
        // Asked for once, here, its place is behind those that were asked for before. Without tokio's budget, which may
        // say "later" before there is a place.
        let mut waiting: Waiting = Box::pin(tokio::task::unconstrained(waiting));
        match futures_util::poll!(&mut waiting) {
            std::task::Poll::Ready(turn) => Box::pin(std::future::ready(turn)),
            std::task::Poll::Pending => waiting,
        }
    }

    fn shell(&self, id: String) -> Arc<AsyncMutex<()>> {
        let mut shells = self.shells.lock();
        // Those that nobody waits for any more.
        shells.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(shells.entry(id).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;

    #[tokio::test]
    async fn requests_come_in_the_order_in_which_they_arrived() {
        let turns = Turns::default();
        let first = turns.queue(Order::Looks, None).await.await;
        let second = turns.queue(Order::Looks, None).await.await;
        let (mut change, mut look) =
            (turns.queue(Order::Changes, None).await, turns.queue(Order::Looks, None).await);
        assert!(matches!(turns.queue(Order::Free, None).await.await, Turn::Free));
        // Whichever is asked first.
        assert!(poll!(&mut look).is_pending() && poll!(&mut change).is_pending());
        drop((first, second));
        assert!(poll!(&mut look).is_pending());
        let held = change.await;
        assert!(poll!(&mut look).is_pending());
        drop(held);
        look.await;
    }

    #[tokio::test]
    async fn one_shell_waits_for_itself_only() {
        let turns = Turns::default();
        let one = turns.queue(Order::Shell, Some("a".into())).await.await;
        let mut same = turns.queue(Order::Shell, Some("a".into())).await;
        turns.queue(Order::Shell, Some("b".into())).await.await;
        assert!(poll!(&mut same).is_pending());
        drop(one);
        same.await;
        turns.queue(Order::Shell, Some("c".into())).await.await;
        assert_eq!(turns.shells.lock().len(), 1, "what nobody waits for is forgotten");
    }
}
