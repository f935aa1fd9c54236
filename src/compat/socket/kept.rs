//! What the files of `methods` keep with a client or a branch: one value of each type, made when it is first asked for.

use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

/// See the module's docs.
#[derive(Default)]
pub(super) struct Kept {
    by_type: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Kept {
    pub(super) fn of<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut by_type = self.by_type.lock();
        let held = by_type.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        Arc::clone(held).downcast().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering};

    #[test]
    fn each_type_has_one_value() {
        let kept = Kept::default();
        kept.of::<AtomicU8>().store(7, Ordering::SeqCst);
        assert_eq!(kept.of::<AtomicU8>().load(Ordering::SeqCst), 7);
        assert!(kept.of::<Mutex<Vec<u8>>>().lock().is_empty());
    }
}
