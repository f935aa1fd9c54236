//! Bounds on the sum of what a session, and a branch, take: memory, processes, CPU.
//!
//! One folder per branch and one per session beneath it, in each hierarchy that the kernel has (version 2, or the
//! version 1 controllers `memory`, `pids` and `cpu`), beneath the group that perch itself was put into. Where perch may
//! not make groups there, the agent's own limits remain and [`Cgroups::why_not`] says so.

use super::spec::Limits;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Groups of sessions made until now.
static MADE: AtomicU64 = AtomicU64::new(0);

/// One hierarchy in which perch may make groups.
#[derive(Debug)]
enum Tree {
    /// All controllers in one.
    Unified(PathBuf),
    /// One controller of version 1.
    Single(&'static str, PathBuf),
}

impl Tree {
    fn folder(&self) -> &Path {
        match self {
            Self::Unified(folder) | Self::Single(_, folder) => folder,
        }
    }
}

/// Makes groups for branches and sessions.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    trees: Arc<Vec<Tree>>,
    why_not: Option<Arc<str>>,
}

/// One session's groups; gone with the value, when their last process is.
#[derive(Debug)]
pub struct Cgroup {
    folders: Vec<PathBuf>,
}

impl Cgroups {
    /// Looks where perch may make groups, in a folder with this name; groups that a killed perch left there are removed.
    #[must_use]
    pub fn find(name: &str) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        match find(name, &own, &mounts) {
            Ok(trees) if trees.is_empty() => Self::refused("the kernel offers none".into()),
            Ok(trees) => Self { trees: Arc::new(trees), why_not: None },
            Err(error) => Self::refused(error),
        }
    }

    /// Looks whether perch could make groups here, and makes none.
    ///
    /// # Errors
    /// Says why not.
    pub fn look() -> Result<(), String> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        looked(&own, &mounts)
    }

    fn refused(reason: String) -> Self {
        Self { trees: Arc::default(), why_not: Some(reason.into()) }
    }

    /// Why sums are not bounded by the kernel; `None` where they are.
    #[must_use]
    pub fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    /// The groups of one session of one branch. Blocks.
    ///
    /// # Errors
    /// When the kernel refuses them.
    pub fn session(
        &self,
        branch: &str,
        session: &str,
        limits: &Limits,
        per_branch: &Limits,
    ) -> io::Result<Cgroup> {
        // An older one of the session may be about to go.
        let name = format!("{session}-{}", MADE.fetch_add(1, Ordering::Relaxed));
        let mut made = Cgroup { folders: Vec::new() };
        for tree in self.trees.iter() {
            let above = tree.folder().join(branch);
            let folder = above.join(&name);
            made.folders.push(folder.clone());
            let make = || {
                fs::create_dir_all(&folder)?;
                bound(tree, &above, per_branch)?;
                bound(tree, &folder, limits)
            };
            // The last other session of the branch may take the branch's own group with it meanwhile.
            make().or_else(|_| make())?;
        }
        Ok(made)
    }
}

fn set(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    fs::write(folder.join(file), value)
}

fn bound(tree: &Tree, folder: &Path, limits: &Limits) -> io::Result<()> {
    // Threads of the agent count too.
    let processes = (limits.processes + 16).to_string();
    let memory = limits.memory_bytes.to_string();
    let quota = limits.cpu_percent * 1_000;
    match tree {
        Tree::Unified(_) => {
            // Only a branch's group passes its controllers on; a session's has none beneath.
            let _ = set(folder, "cgroup.subtree_control", "+memory +pids +cpu");
            set(folder, "memory.max", &memory)?;
            let _ = set(folder, "memory.swap.max", "0");
            set(folder, "pids.max", &processes)?;
            set(folder, "cpu.max", &format!("{quota} 100000"))
        }
        Tree::Single("memory", _) => {
            set(folder, "memory.limit_in_bytes", &memory)?;
            // Missing where the kernel does not count swap.
            let _ = set(folder, "memory.memsw.limit_in_bytes", &memory);
            Ok(())
        }
        Tree::Single("pids", _) => set(folder, "pids.max", &processes),
        Tree::Single(..) => {
            set(folder, "cpu.cfs_period_us", "100000")?;
            set(folder, "cpu.cfs_quota_us", &quota.to_string())
        }
    }
}

/// Where perch's own groups are: each hierarchy with the version 1 controller that it is for, or version 2's if it offers
/// what is needed.
fn places(own: &str, mounts: &str) -> Vec<(Option<&'static str>, PathBuf)> {
    let mut places = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let single =
            ["memory", "pids", "cpu"].into_iter().find(|one| controllers.split(',').any(|is| is == *one));
        let mounted = mounts.lines().find_map(|line| {
            let mut parts = line.split(' ');
            let (at, kind, options) = (parts.nth(1)?, parts.next()?, parts.next()?);
            let is_it = match single {
                Some(one) => kind == "cgroup" && options.split(',').any(|is| is == one),
                None => controllers.is_empty() && kind == "cgroup2",
            };
            is_it.then(|| PathBuf::from(at))
        });
        let Some(mounted) = mounted else { continue };
        let above = mounted.join(path.trim_start_matches('/'));
        if single.is_some() || controllers.is_empty() && offers(&above) {
            places.push((single, above));
        }
    }
    places
}

fn find(name: &str, own: &str, mounts: &str) -> Result<Vec<Tree>, String> {
    let mut trees = Vec::new();
    for (single, above) in places(own, mounts) {
        let folder = above.join(name);
        match single {
            Some(controller) => {
                make(&folder)?;
                trees.push(Tree::Single(controller, folder));
            }
            None => {
                lead(&above)?;
                make(&folder)?;
                let passed = set(&folder, "cgroup.subtree_control", "+memory +pids +cpu");
                passed.map_err(|error| format!("cgroup.subtree_control of {}: {error}", folder.display()))?;
                trees.push(Tree::Unified(folder));
            }
        }
    }
    Ok(trees)
}

fn looked(own: &str, mounts: &str) -> Result<(), String> {
    let places = places(own, mounts);
    if places.is_empty() {
        return Err("the kernel offers none".into());
    }
    for (_, above) in places {
        rustix::fs::access(&above, rustix::fs::Access::WRITE_OK)
            .map_err(|error| format!("{} is not perch's to divide ({error})", above.display()))?;
    }
    Ok(())
}

fn offers(folder: &Path) -> bool {
    let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    ["memory", "pids", "cpu"].iter().all(|one| controllers.split_whitespace().any(|is| is == *one))
}

/// A version 2 group that passes controllers on may hold no process: perch moves into a leaf of its own.
fn lead(above: &Path) -> Result<(), String> {
    let told = |error: io::Error| {
        format!("{} is not perch's to divide ({error}): under systemd set Delegate=yes", above.display())
    };
    let leaf = above.join("perch-server");
    fs::create_dir_all(&leaf).map_err(told)?;
    set(&leaf, "cgroup.procs", &std::process::id().to_string()).map_err(told)?;
    set(above, "cgroup.subtree_control", "+memory +pids +cpu").map_err(told)
}

fn make(folder: &Path) -> Result<(), String> {
    sweep(folder, 3);
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

/// Removes groups without processes; others stay.
fn sweep(folder: &Path, depth: u8) {
    if depth > 0
        && let Ok(entries) = fs::read_dir(folder)
    {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            sweep(&entry.path(), depth - 1);
        }
    }
    let _ = fs::remove_dir(folder);
}

impl Cgroup {
    /// Puts a process into it; its children follow.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn join(&self, pid: u32) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| set(folder, "cgroup.procs", &pid.to_string()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let folders = std::mem::take(&mut self.folders);
        if folders.is_empty() {
            return;
        }
        // The last process may be gone a moment later than its parent heard of it.
        let remove = move || {
            for _ in 0..50 {
                if folders.iter().all(|folder| fs::remove_dir(folder).is_ok() || !folder.exists()) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            for above in folders.iter().filter_map(|folder| folder.parent()) {
                // Others of the branch may be there still.
                let _ = fs::remove_dir(above);
            }
        };
        let _ = std::thread::Builder::new().name("cgroup".into()).spawn(remove);
    }
}
