//! What pid 1 of a session gives up before it serves: limits, rights, system calls. All of it holds for each process
//! that it starts, and none of it can be taken back.

use super::launch::{Failed, step};
use super::spec::Limits;
use super::sys;
use caps::CapSet;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    Scope, path_beneath_rules,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::UnshareFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Must be set inside the session's own user namespace: there the count of processes is the session's own.
pub(super) fn limit(limits: &Limits) -> Result<(), Failed> {
    let set = |resource, most: u64| {
        // A limit can only be lowered here; whoever started perch may have set a lower one.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |held| held.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    step("setrlimit", set(Resource::Nproc, limits.processes))?;
    step("setrlimit", set(Resource::Core, 0))?;
    step("setrlimit", set(Resource::Nofile, limits.open_files))?;
    step("setrlimit", set(Resource::Memlock, 8 * 1024 * 1024))?;
    step("setrlimit", set(Resource::Msgqueue, 1024 * 1024))?;
    step("setrlimit", set(Resource::Sigpending, 8_192))?;
    step("setrlimit", set(Resource::Fsize, limits.file_bytes))?;
    Ok(())
}

/// When the machine is out of memory, a session goes before perch does. Said while it is still the machine's root, where
/// it ever is: then it can't be taken back.
pub(super) fn go_first() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

/// Gives up all rights but those of the session's own user.
pub(super) fn give_up() -> Result<(), Failed> {
    step("no_new_privs", rustix::thread::set_no_new_privs(true))?;
    scope()?;
    for capability in caps::all() {
        // One that this kernel does not know can't be held either.
        let _ = caps::drop(None, CapSet::Bounding, capability);
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        step("capset", caps::clear(None, set))?;
    }
    step("dumpable", rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
    filter()
}

/// Abstract sockets are not bound to a mount namespace: sessions that share a network would meet there.
fn scope() -> Result<(), Failed> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::AbstractUnixSocket | Scope::Signal);
    // Kernels before 6.12 have none; there sessions of one branch can meet in abstract sockets.
    held(ruleset.and_then(Ruleset::create).and_then(RulesetCreated::restrict_self))
}

/// What a kernel does not know can't be held.
fn held<T>(outcome: Result<T, landlock::RulesetError>) -> Result<(), Failed> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if error.to_string().contains("unsupported") => Ok(()),
        Err(error) => Err(Failed::new("landlock", error)),
    }
}

/// The version of Landlock that the kernel has; 0 where it has none.
#[must_use]
pub fn landlock_level() -> u8 {
    let known = [(6, ABI::V6), (5, ABI::V5), (4, ABI::V4), (3, ABI::V3), (2, ABI::V2), (1, ABI::V1)];
    let has = |abi: ABI| {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let ruleset = ruleset.handle_access(AccessFs::from_all(abi));
        // What version 6 adds are scopes.
        let ruleset = if abi == ABI::V6 {
            ruleset.and_then(|ruleset| ruleset.scope(Scope::AbstractUnixSocket | Scope::Signal))
        } else {
            ruleset
        };
        ruleset.and_then(Ruleset::create).is_ok()
    };
    known.into_iter().find(|(_, abi)| has(*abi)).map_or(0, |(level, _)| level)
}

/// From here on this thread, and what it starts, reaches nothing in the `hidden` folders, whatever way leads there, and no
/// process that is not confined so: neither its memory, environment and descriptors, nor by signals. Nothing new can be made
/// in the folders on the way to them, and of what lies there beside the way 4,096 names are reached, the rest is not. Kernels
/// before 5.13 hold none of it.
///
/// # Errors
/// [`Failed`], where the kernel should.
pub fn hide(hidden: &[&Path]) -> Result<(), Failed> {
    let rights = AccessFs::from_all(ABI::V5);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(rights)
        .and_then(|ruleset| ruleset.scope(Scope::Signal))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(all_but(hidden), rights)));
    held(ruleset.and_then(RulesetCreated::restrict_self))
}

/// Names in one folder on the way to what is hidden.
const MAX_BESIDE: usize = 4_096;

/// What lies beside the ways to some folders: with all below it, everything but those folders.
fn all_but(hidden: &[&Path]) -> Vec<PathBuf> {
    let is_on_the_way = |path: &PathBuf| hidden.iter().any(|hidden| hidden.starts_with(path));
    let ways: BTreeSet<&Path> = hidden.iter().flat_map(|hidden| hidden.ancestors().skip(1)).collect();
    let beside = |way: &Path| {
        let entries = std::fs::read_dir(way).into_iter().flatten().flatten().map(|entry| entry.path());
        // Others may fill such a folder; each name costs a rule.
        entries.filter(|path| !is_on_the_way(path)).take(MAX_BESIDE).collect::<Vec<_>>()
    };
    ways.into_iter().flat_map(beside).collect()
}

// The time namespace is missing: its bit is part of clone's exit signal, and only clone3 and unshare know it.
const NEW_NAMESPACES: [UnshareFlags; 7] = [
    UnshareFlags::NEWNS,
    UnshareFlags::NEWCGROUP,
    UnshareFlags::NEWUTS,
    UnshareFlags::NEWIPC,
    UnshareFlags::NEWUSER,
    UnshareFlags::NEWPID,
    UnshareFlags::NEWNET,
];

fn filter() -> Result<(), Failed> {
    let refused = [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_open_by_handle_at,
        libc::SYS_name_to_handle_at,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_syslog,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_chroot,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        refused.into_iter().map(|call| (call, Vec::new())).collect();
    let mut clone = Vec::new();
    for flag in NEW_NAMESPACES {
        let operation = SeccompCmpOp::MaskedEq(u64::from(flag.bits()));
        let holds = SeccompCondition::new(0, SeccompCmpArgLen::Qword, operation, u64::from(flag.bits()));
        clone.push(step("seccomp", SeccompRule::new(vec![step("seccomp", holds)?]))?);
    }
    rules.insert(libc::SYS_clone, clone);
    let mut ioctl = Vec::new();
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        let equal = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request);
        ioctl.push(step("seccomp", SeccompRule::new(vec![step("seccomp", equal)?]))?);
    }
    rules.insert(libc::SYS_ioctl, ioctl);
    let permission = u32::try_from(libc::EPERM).unwrap_or(1);
    apply(rules, permission)?;
    // Its flags lie in memory, out of a filter's sight; told that there is none, libraries use clone.
    let missing = u32::try_from(libc::ENOSYS).unwrap_or(38);
    apply(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), missing)?;
    // The same calls by the numbers of x32, where the kernel has it.
    #[cfg(target_arch = "x86_64")]
    step("seccomp", seccompiler::apply_filter(&from(0x4000_0000, missing)))?;
    Ok(())
}

/// Refuses each call whose number is `first` or above.
#[cfg(target_arch = "x86_64")]
fn from(first: u32, errno: u32) -> [seccompiler::sock_filter; 4] {
    let instruction =
        |code: u32, jt, jf, k| seccompiler::sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k };
    [
        // The number is the first word of what a filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, first),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: u32) -> Result<(), Failed> {
    let arch = step("seccomp", std::env::consts::ARCH.try_into())?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch);
    let program: BpfProgram = step("seccomp", step("seccomp", filter)?.try_into())?;
    step("seccomp", seccompiler::apply_filter(&program))
}

/// What only the owner of the user namespace may set, through a `/proc` that is not yet covered.
pub(super) fn bound_namespace(proc: BorrowedFd<'_>) -> Result<(), Failed> {
    for (name, value) in [("sys/user/max_user_namespaces", "0"), ("sys/user/max_inotify_instances", "64")] {
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        let file = step("sysctl", rustix::fs::openat(proc, name, flags, rustix::fs::Mode::empty()))?;
        step("sysctl", rustix::io::write(&file, value.as_bytes()))?;
    }
    Ok(())
}

/// Before anything else: nothing of whoever started perch comes along. Of the descriptors beyond the standard ones only
/// `kept` stay open.
pub(super) fn detach(kept: &[BorrowedFd<'_>]) {
    let _ = rustix::process::setsid();
    sys::join_new_keyring();
    let mut kept: Vec<u32> = kept.iter().filter_map(|kept| u32::try_from(kept.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut next = 3;
    for one in kept.into_iter().filter(|one| *one >= 3) {
        if one > next {
            sys::close_range(next, one - 1);
        }
        next = one + 1;
    }
    sys::close_range(next, u32::MAX);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    #[test]
    fn what_is_hidden_is_reached_by_no_way_and_all_else_is() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let (hidden, open) = (root.join("home/hidden"), root.join("home/open"));
        for folder in [&hidden, &open] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("file"), "content").unwrap();
        }
        symlink(&hidden, open.join("way")).unwrap();
        let reads = |path: &Path| fs::read_to_string(path).is_ok();
        let ways = [
            hidden.join("file"),
            open.join("way/file"),
            open.join("../hidden/file"),
            Path::new("/proc/self/root").join(hidden.strip_prefix("/").unwrap()).join("file"),
        ];
        for way in &ways {
            assert!(reads(way), "{}", way.display());
        }
        // A thread of its own is confined, and what it starts.
        let confined = std::thread::spawn(move || {
            // As in a session: with rights of the machine's root a process looks into others whatever confines it.
            rustix::thread::set_no_new_privs(true).unwrap();
            for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
                caps::clear(None, set).unwrap();
            }
            hide(&[&hidden]).unwrap();
            let starts =
                |script: String| Command::new("sh").args(["-c", &script]).output().unwrap().status.success();
            for way in &ways {
                assert!(!reads(way), "{}", way.display());
                assert!(!starts(format!("cat {}", way.display())));
            }
            assert!(
                fs::write(hidden.join("new"), "").is_err() && fs::remove_file(hidden.join("file")).is_err()
            );
            assert!(
                reads(&open.join("file"))
                    && starts(format!("echo more >> {0}/file && cat {0}/file", open.display()))
            );
            // Of the test's process, which is not confined.
            let outside = std::process::id();
            assert!(!starts(format!("cat /proc/{outside}/environ")), "environ");
            assert!(!starts(format!("kill -0 {outside}")), "signal");
        });
        confined.join().unwrap();
        assert!(reads(&root.join("home/hidden/file")), "nobody else is");
    }
}
