//! System calls that neither std nor rustix has.

use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 {
        let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        return Err(Errno::from_raw_os_error(raw));
    }
    Ok(result)
}

/// Mount attributes (`linux/mount.h`).
pub(super) const RDONLY: u64 = 0x1;
pub(super) const NOSUID: u64 = 0x2;
pub(super) const NODEV: u64 = 0x4;
pub(super) const NOEXEC: u64 = 0x8;

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds attributes to a mount, with `deep` to all mounts beneath it too. Unlike a remount it takes none away, so it never
/// meets flags that the kernel has locked.
#[expect(unsafe_code, reason = "no library has mount_setattr")]
pub(super) fn add_mount_flags(tree: BorrowedFd<'_>, flags: u64, deep: bool) -> Result<(), Errno> {
    let depth = if deep { libc::AT_RECURSIVE } else { 0 };
    let attr = MountAttr { attr_set: flags, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a C string, `attr` lives through the call and its size is its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | depth,
            &raw const attr,
            std::mem::size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// Forks into new namespaces. The child's parent is the caller's own parent, not the caller.
///
/// `None` in the child. The caller must have one thread only: of others, the child would inherit the locks.
#[expect(unsafe_code, reason = "no library forks into a pid namespace for another parent")]
pub(super) fn fork_into(flags: libc::c_int) -> Result<Option<i32>, Errno> {
    let flags = libc::c_long::from(flags | libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack this is fork; the one caller is a fresh single-threaded process.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let id = check(result)?;
    Ok(if id == 0 { None } else { i32::try_from(id).ok() })
}

/// Sets the user and group that this thread's work on files is done as; each is what it was before on failure.
#[expect(unsafe_code, reason = "no library sets them for one thread")]
pub(super) fn set_file_user(uid: u32, gid: u32) {
    // SAFETY: plain numbers, felt by this thread alone.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
    }
}

/// A session keyring of its own, so that no key of whoever started perch is reachable.
#[expect(unsafe_code, reason = "no library in use has keyctl")]
pub(super) fn join_new_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe {
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>());
    }
}

/// Closes the descriptors from `first` to `last`.
#[expect(unsafe_code, reason = "no library in use has close_range")]
pub(super) fn close_range(first: u32, last: u32) {
    // SAFETY: the one caller names descriptors that nothing in this process owns.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, last, 0);
    }
}

/// Leaves namespaces for new ones.
#[expect(
    unsafe_code,
    reason = "rustix marks it so for the sake of descriptor tables, which are never unshared here"
)]
pub(super) fn unshare(flags: rustix::thread::UnshareFlags) -> Result<(), Errno> {
    // SAFETY: the flags name namespaces only, never CLONE_FILES.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// From now on a write past `RLIMIT_FSIZE` fails, here and in what is started from here, and ends nobody.
#[expect(unsafe_code, reason = "no library sets a signal to be ignored without unsafe code")]
pub fn ignore_file_size_signal() {
    // SAFETY: no handler is set, so nothing runs at the signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
