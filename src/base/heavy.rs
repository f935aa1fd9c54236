//! Work that takes more than an instant, off the way of other tasks.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Bytes of text up to which hashing, comparing and encoding take well under a millisecond.
const LIGHT_BYTES: usize = 64 * 1024;

/// Runs `work` on something of `len_bytes`; where that is much, this thread's other tasks go on elsewhere meanwhile.
///
/// For work that borrows what a task owns; what can be moved belongs on a blocking thread.
pub fn heavy<T>(len_bytes: usize, work: impl FnOnce() -> T) -> T {
    let can_step_aside =
        || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if len_bytes > LIGHT_BYTES && can_step_aside() { tokio::task::block_in_place(work) } else { work() }
}
