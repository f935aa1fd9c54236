//! The file system that a session sees: built from an allow-list, never from the machine's root.
//!
//! All sources are opened before the new root is laid over a folder of the old one, so no source can be hidden by it.

use super::launch::{Failed, step};
use super::spec::Spec;
use super::sys::{self, NODEV, NOEXEC, NOSUID, RDONLY};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where the new root is laid while it is built; any folder that each machine has.
const STAGE: &str = "/tmp";
/// The system's folders; links are made as they are there (`/bin` is one on most).
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32", "/opt"];
/// What of `/etc` says how programs work, and nothing of the machine.
const ETC: [&str; 26] = [
    "alternatives",
    "bash.bashrc",
    "bash_completion.d",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "os-release",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "services",
    "ssl",
    "terminfo",
];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Of `/proc` what is covered by nothing, and what can only be read.
const PROC_HIDDEN: [&str; 12] = [
    "kcore",
    "keys",
    "key-users",
    "kallsyms",
    "kmsg",
    "kpagecount",
    "kpageflags",
    "sched_debug",
    "sysrq-trigger",
    "timer_list",
    "latency_stats",
    "acpi",
];
const PROC_READ_ONLY: [&str; 5] = ["sys", "bus", "fs", "irq", "scsi"];

/// Where the session's own tmpfs lies besides `~/.private`: on the session's own root, which nobody shares.
pub const PRIVATE: &str = "/run/perch/private";
/// Where perch's own program lies, to be read only: git asks it for credentials.
pub const PERCH: &str = "/run/perch/bin/perch";

/// Perch's own program, if its file is still there; one that took its place meanwhile does as well.
#[must_use]
pub fn own_program() -> Option<PathBuf> {
    let path = fs::read_link("/proc/self/exe").ok()?;
    let text = path.to_string_lossy();
    let path = text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from);
    fs::metadata(&path).is_ok_and(|meta| meta.is_file()).then_some(path)
}

struct Bind {
    tree: OwnedFd,
    target: String,
    is_folder: bool,
}

/// Where a link leads, and its own place.
type Link = (PathBuf, String);

fn clone_tree(source: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    open_tree(CWD, source, flags)
}

fn attach(tree: &OwnedFd, target: &str) -> rustix::io::Result<()> {
    move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn staged(target: &str) -> String {
    format!("{STAGE}{target}")
}

fn bind(source: &Path, target: &str, flags: u64) -> Result<Bind, Failed> {
    let named = |error: rustix::io::Errno| Failed::new("mount", format!("{}: {error}", source.display()));
    let is_folder = fs::metadata(source)
        .map_err(|error| Failed::new("mount", format!("{}: {error}", source.display())))?
        .is_dir();
    let tree = clone_tree(source).map_err(named)?;
    sys::add_mount_flags(tree.as_fd(), flags, true).map_err(named)?;
    Ok(Bind { tree, target: target.to_owned(), is_folder })
}

fn folder(target: &str) -> Result<(), Failed> {
    step("mkdir", fs::create_dir_all(staged(target)))
}

fn file(target: &str, content: &str) -> Result<(), Failed> {
    step("write", fs::write(staged(target), content))
}

fn fresh(kind: &'static str, target: &str, flags: MountFlags, data: &str) -> Result<(), Failed> {
    let data = step("mount", CString::new(data))?;
    let name = |errno: rustix::io::Errno| {
        let cure = if kind == "proc" && errno == rustix::io::Errno::PERM {
            "; the container covers parts of /proc: start it with --security-opt systempaths=unconfined"
        } else {
            ""
        };
        Failed::new("mount", format!("{kind} on {target}: {errno}{cure}"))
    };
    mount(kind, staged(target), kind, flags, Some(data.as_c_str())).map_err(name)
}

fn place(bind: &Bind) -> Result<(), Failed> {
    let at = staged(&bind.target);
    if bind.is_folder {
        step("mkdir", fs::create_dir_all(&at))?;
    } else if fs::symlink_metadata(&at).is_err() {
        step("write", fs::write(&at, ""))?;
    }
    attach(&bind.tree, &at).map_err(|error| Failed::new("mount", format!("{}: {error}", bind.target)))
}

/// The system's folders and links, in the machine's own layout.
fn system(spec: &Spec) -> Result<(Vec<Bind>, Vec<Link>), Failed> {
    let (mut binds, mut links) = (Vec::new(), Vec::new());
    let extra = spec.image.iter().map(|path| path.to_string_lossy().into_owned());
    for name in SYSTEM.into_iter().map(str::to_owned).chain(extra) {
        match fs::symlink_metadata(&name) {
            Ok(meta) if meta.is_symlink() => links.push((step("readlink", fs::read_link(&name))?, name)),
            Ok(_) => binds.push(bind(Path::new(&name), &name, RDONLY | NOSUID | NODEV)?),
            Err(_) => {}
        }
    }
    for name in ETC {
        // Links are followed: what they lead to may lie outside (`os-release`, `localtime`).
        if let Ok(source) = fs::canonicalize(format!("/etc/{name}")) {
            binds.push(bind(&source, &format!("/etc/{name}"), RDONLY | NOSUID | NODEV)?);
        }
    }
    Ok((binds, links))
}

/// Builds the root and moves into it. What is returned is a `/proc` without covers, for the last settings.
pub(super) fn build(spec: &Spec) -> Result<OwnedFd, Failed> {
    step("mount", mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC))?;
    let shared = NOSUID | NODEV | if spec.is_read_only { RDONLY } else { 0 };
    let (mut binds, links) = system(spec)?;
    binds.push(bind(&spec.places.workspace, "/project/workspace", shared)?);
    binds.push(bind(&spec.places.home, "/root", shared)?);
    binds.push(bind(&spec.places.scratch, "/tmp", shared)?);
    if let Some(program) = own_program() {
        binds.push(bind(&program, PERCH, RDONLY | NOSUID | NODEV)?);
    }
    let mut devices = Vec::new();
    for name in DEVICES {
        // A device that may not be opened here would be of no use: no `nodev` on these.
        devices.push(bind(Path::new(&format!("/dev/{name}")), &format!("/dev/{name}"), NOSUID | NOEXEC)?);
    }
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    fresh("tmpfs", "", plain, "size=1m,nr_inodes=1k,mode=0755")?;
    for (to, name) in links {
        step("symlink", symlink(to, staged(&name)))?;
    }
    for path in ["/etc", "/run/perch/bin", "/proc", "/dev", "/var/tmp", "/home", "/mnt"] {
        folder(path)?;
    }
    etc(spec)?;
    for bind in &binds {
        place(bind)?;
    }
    if fs::symlink_metadata("/usr/bin/python").is_err() && fs::metadata("/usr/bin/python3").is_ok() {
        step("symlink", symlink("/usr/bin/python3", staged("/run/perch/bin/python")))?;
    }
    for path in ["/etc/ssl/private", "/etc/pki/tls/private"] {
        if fs::metadata(staged(path)).is_ok_and(|meta| meta.is_dir()) {
            fresh("tmpfs", path, MountFlags::RDONLY, "size=4k,nr_inodes=2")?;
        }
    }
    private(spec)?;
    device_folder(&devices)?;
    let bare = proc()?;
    step("chdir", rustix::process::chdir(STAGE))?;
    step("pivot_root", rustix::process::pivot_root(".", "."))?;
    step("umount", unmount(".", UnmountFlags::DETACH))?;
    let root = step("open", rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
    step("mount", sys::add_mount_flags(root.as_fd(), RDONLY, false))?;
    step("chdir", rustix::process::chdir("/"))?;
    Ok(bare)
}

fn etc(spec: &Spec) -> Result<(), Failed> {
    let host = &spec.hostname;
    file(
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    )?;
    file("/etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")?;
    file("/etc/hostname", &format!("{host}\n"))?;
    file("/etc/hosts", &format!("127.0.0.1 localhost {host}\n::1 localhost {host}\n"))?;
    // Names are resolved by perch's proxy; a resolver of the machine could not be reached.
    file("/etc/resolv.conf", "# perch resolves names in its proxy\n")?;
    file(
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    )?;
    file("/etc/shells", "/bin/sh\n/bin/bash\n")
}

/// The session's own tmpfs: once where only this session's root leads, once as `~/.private`.
fn private(spec: &Spec) -> Result<(), Failed> {
    folder(PRIVATE)?;
    let (bytes, uid) = (spec.limits.private_bytes, spec.uid);
    let data = format!("size={bytes},nr_inodes=8k,mode=0700,uid={uid},gid={uid}");
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    // Kernels before 6.3 have no `noswap`, and a user namespace may not ask for it.
    if fresh("tmpfs", PRIVATE, plain, &format!("{data},noswap")).is_err() {
        fresh("tmpfs", PRIVATE, plain, &data)?;
    }
    let tree = step("mount", clone_tree(Path::new(&staged(PRIVATE))))?;
    attach(&tree, &staged("/root/.private"))
        .map_err(|error| Failed::new("mount", format!("~/.private of the branch is not a folder ({error})")))
}

fn device_folder(devices: &[Bind]) -> Result<(), Failed> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC;
    fresh("tmpfs", "/dev", plain, "size=64k,nr_inodes=64,mode=0755")?;
    for name in ["/dev/pts", "/dev/shm"] {
        folder(name)?;
    }
    for device in devices {
        file(&device.target, "")?;
    }
    for (to, name) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ] {
        step("symlink", symlink(to, staged(name)))?;
    }
    let at = staged("/dev");
    let dev = step("open", rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
    step("mount", sys::add_mount_flags(dev.as_fd(), RDONLY, false))?;
    for device in devices {
        let at = staged(&device.target);
        attach(&device.tree, &at)
            .map_err(|error| Failed::new("mount", format!("{}: {error}", device.target)))?;
    }
    fresh("devpts", "/dev/pts", plain, "newinstance,ptmxmode=0666,mode=0620,max=64")?;
    fresh("tmpfs", "/dev/shm", plain | MountFlags::NODEV, "size=64m,nr_inodes=4k,mode=1777")
}

fn proc() -> Result<OwnedFd, Failed> {
    fresh("proc", "/proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, "")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let bare = step("mount", open_tree(CWD, staged("/proc"), flags))?;
    for name in PROC_HIDDEN {
        let at = staged(&format!("/proc/{name}"));
        match fs::metadata(&at) {
            Ok(meta) if meta.is_dir() => {
                fresh("tmpfs", &format!("/proc/{name}"), MountFlags::RDONLY, "size=4k,nr_inodes=2")?;
            }
            Ok(_) => step("mount", clone_tree(Path::new("/dev/null")).and_then(|tree| attach(&tree, &at)))?,
            Err(_) => {}
        }
    }
    for name in PROC_READ_ONLY {
        let at = staged(&format!("/proc/{name}"));
        if fs::metadata(&at).is_ok() {
            let tree = step("mount", clone_tree(Path::new(&at)))?;
            step("mount", sys::add_mount_flags(tree.as_fd(), RDONLY, true))?;
            step("mount", attach(&tree, &at))?;
        }
    }
    Ok(bare)
}
