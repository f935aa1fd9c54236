//! The room that messages share which are not whole yet.

use super::UNIT;
use crate::base::BranchId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What messages past their first 64 KiB may hold, all together and those of each branch; cheap to clone.
#[derive(Clone, Debug)]
pub struct Budgets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: Arc<Budget>,
    branch_units: usize,
    branches: Mutex<HashMap<BranchId, Weak<Budget>>>,
}

#[derive(Debug)]
struct Budget {
    /// A permit for each unit.
    room: Arc<Semaphore>,
    /// One permit: who has it goes on without room.
    pass: Arc<Semaphore>,
    /// How many wait for either.
    waiting: AtomicUsize,
    /// Units that are held, those without room too.
    held: AtomicUsize,
}

impl Budget {
    fn new(units: usize) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::new(Semaphore::new(units)),
            pass: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
        })
    }
}

impl Budgets {
    /// `bytes`: of all branches together; both are rounded down to 64 KiB, and are that at least.
    #[must_use]
    pub fn new(branch_bytes: u64, bytes: u64) -> Self {
        let units = |bytes: u64| {
            let units = usize::try_from(bytes / UNIT as u64).unwrap_or(usize::MAX);
            units.clamp(1, Semaphore::MAX_PERMITS)
        };
        Self(Arc::new(Inner {
            all: Budget::new(units(bytes)),
            branch_units: units(branch_bytes),
            branches: Mutex::default(),
        }))
    }

    /// For one socket of a branch; nothing is drawn yet.
    pub(super) fn share(&self, branch: &BranchId) -> Share {
        let mut branches = self.0.branches.lock();
        let of_branch = branches.get(branch).and_then(Weak::upgrade).unwrap_or_else(|| {
            branches.retain(|_, budget| budget.strong_count() > 0);
            let budget = Budget::new(self.0.branch_units);
            branches.insert(branch.clone(), Arc::downgrade(&budget));
            budget
        });
        Share { units: 0, of_branch: Part::of(of_branch), of_all: Part::of(Arc::clone(&self.0.all)) }
    }

    /// Bytes that are held now.
    pub(crate) fn held_bytes(&self) -> usize {
        self.0.all.held.load(Relaxed) * UNIT
    }
}

/// What one socket's message holds; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    units: usize,
    of_branch: Part,
    of_all: Part,
}

impl Share {
    /// Draws room for one more unit; waits for its turn where there is none. Cancel-safe, but for the turn.
    pub(super) async fn draw(&mut self) {
        let units = self.units + 1;
        // The module's docs say why not in both.
        if self.of_all.pass.is_none() {
            self.of_branch.reach(units).await;
            self.of_all.reach(units).await;
        }
        self.units = units;
        self.of_all.budget.held.fetch_add(1, Relaxed);
    }

    /// Whether others wait for what this one holds.
    pub(super) fn is_wanted(&self) -> bool {
        [&self.of_branch, &self.of_all].iter().any(|part| part.budget.waiting.load(Relaxed) > 0)
    }

    pub(super) fn give_back(&mut self) {
        self.of_all.budget.held.fetch_sub(std::mem::take(&mut self.units), Relaxed);
        self.of_all.give_back();
        self.of_branch.give_back();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// What is held of one budget.
#[derive(Debug)]
struct Part {
    budget: Arc<Budget>,
    room: Option<OwnedSemaphorePermit>,
    pass: Option<OwnedSemaphorePermit>,
}

/// Counts somebody who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Part {
    fn of(budget: Arc<Budget>) -> Self {
        Self { budget, room: None, pass: None }
    }

    /// Draws until it holds so many units, or the pass.
    async fn reach(&mut self, units: usize) {
        while self.pass.is_none() && self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) < units {
            let budget = Arc::clone(&self.budget);
            // None is left over while somebody waits: what comes free goes to whoever is first.
            let one = Arc::clone(&budget.room).try_acquire_owned();
            let one = if let Ok(one) = one { Some(one) } else { self.wait(&budget).await };
            match (&mut self.room, one) {
                (_, None) => {}
                (Some(room), Some(one)) => room.merge(one),
                (room @ None, one) => *room = one,
            }
        }
    }

    /// Waits for a unit; takes the pass where that comes first.
    async fn wait(&mut self, budget: &Budget) -> Option<OwnedSemaphorePermit> {
        budget.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&budget.waiting);
        // Neither is ever closed.
        tokio::select! {
            biased;
            one = Arc::clone(&budget.room).acquire_owned() => one.ok(),
            pass = Arc::clone(&budget.pass).acquire_owned() => {
                self.pass = pass.ok();
                None
            }
        }
    }

    fn give_back(&mut self) {
        self.room = None;
        self.pass = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;

    const UNIT_BYTES: u64 = UNIT as u64;

    fn branch() -> BranchId {
        BranchId::generate()
    }

    #[tokio::test]
    async fn what_is_drawn_is_given_back_also_on_drop() {
        let budgets = Budgets::new(2 * UNIT_BYTES, 3 * UNIT_BYTES);
        let branch = branch();
        let mut share = budgets.share(&branch);
        for _ in 0..2 {
            share.draw().await;
        }
        assert_eq!(budgets.held_bytes(), 2 * UNIT);
        share.give_back();
        assert_eq!(budgets.held_bytes(), 0);
        share.draw().await;
        drop(share);
        assert_eq!(budgets.held_bytes(), 0);
        assert_eq!(budgets.0.all.room.available_permits(), 3);
        assert_eq!(budgets.0.branches.lock()[&branch].strong_count(), 0, "nothing is kept of who is gone");
    }

    #[tokio::test]
    async fn one_passes_and_the_others_wait_in_turn() {
        let budgets = Budgets::new(UNIT_BYTES, 100 * UNIT_BYTES);
        let branch = branch();
        let [mut first, mut passes, mut second, mut third] = [(); 4].map(|()| budgets.share(&branch));
        first.draw().await;
        for _ in 0..10 {
            passes.draw().now_or_never().expect("it has the pass");
        }
        assert!(!first.is_wanted());
        let mut second_draws = pin!(second.draw());
        assert!(second_draws.as_mut().now_or_never().is_none());
        let mut third_draws = pin!(third.draw());
        assert!(third_draws.as_mut().now_or_never().is_none());
        assert!(first.is_wanted() && passes.is_wanted());
        // Another branch is held up by nothing here.
        budgets.share(&self::branch()).draw().now_or_never().expect("there is room");
        drop(first);
        assert!(third_draws.as_mut().now_or_never().is_none(), "first come, first served");
        second_draws.now_or_never().expect("what came free is the second one's");
        assert!(third_draws.as_mut().now_or_never().is_none());
        drop(passes);
        third_draws.now_or_never().expect("the pass comes free too");
    }

    /// Were the branch's room asked of the one who has the process's pass, each of the two would wait for the other.
    #[tokio::test]
    async fn the_holders_of_two_passes_never_wait_for_each_other() {
        let budgets = Budgets::new(2 * UNIT_BYTES, 2 * UNIT_BYTES);
        let branch = branch();
        let [mut first, mut of_branch] = [(); 2].map(|()| budgets.share(&branch));
        let mut elsewhere = budgets.share(&self::branch());
        first.draw().await;
        elsewhere.draw().await;
        first.draw().now_or_never().expect("it gets the process's pass");
        // This one gets the branch's pass, and waits for the other.
        let mut waits = pin!(of_branch.draw());
        assert!(waits.as_mut().now_or_never().is_none());
        for _ in 0..5 {
            first.draw().now_or_never().expect("it waits for nobody");
        }
        drop(first);
        waits.now_or_never().expect("and then it is the other's turn");
    }
}
