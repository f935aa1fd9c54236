//! Which processes of the sandbox belong to what, as `/proc` tells.

use rustix::process::{Pid, Signal};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

/// Marks all processes that come of one command, also those that leave its group; a program may drop it, on purpose.
pub(super) const MARK: &str = "PERCH_PROCESS";

fn processes(proc: &Path) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether pid 1 is the only process.
pub(super) fn is_alone(proc: &Path) -> bool {
    processes(proc).all(|pid| pid == 1)
}

/// The parent and the process group, out of `stat`; the name before them may hold anything.
fn parent_and_group(stat: &str) -> Option<(i32, i32)> {
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
    Some((after_name.next()?.parse().ok()?, after_name.next()?.parse().ok()?))
}

/// All that came of a command whose first process is or was `first`.
fn members(proc: &Path, first: i32, mark: &str) -> HashSet<i32> {
    let mark = format!("{MARK}={mark}");
    let mut found = HashSet::from([first]);
    let mut others = Vec::new();
    for pid in processes(proc).filter(|pid| *pid != 1) {
        let folder = proc.join(pid.to_string());
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        let Some((parent, group)) = parent_and_group(&stat) else { continue };
        let is_marked = || {
            let environ = fs::read(folder.join("environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|one| one == mark.as_bytes())
        };
        if group == first || is_marked() {
            found.insert(pid);
        } else {
            others.push((pid, parent));
        }
    }
    // Children of members are members, whatever they call themselves.
    loop {
        let before = found.len();
        for (pid, parent) in &others {
            if found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Sends a signal to all that came of a command. How many there were.
pub(super) fn signal_all(first: i32, mark: &str, signal: Signal) -> usize {
    let members = members(Path::new("/proc"), first, mark);
    let mut told = 0;
    for pid in members.into_iter().filter_map(Pid::from_raw) {
        told += usize::from(rustix::process::kill_process(pid, signal).is_ok());
    }
    told
}

/// Passes over all processes: one that is started during a pass has its parent's bound, old or new.
const PASSES: usize = 16;

/// Lets all processes of the sandbox write to files, as far as they could at first, or to none. Only the lower of their
/// two bounds moves: nobody needs a right to raise it again. Who raises it on purpose is ended by perch.
pub(super) fn let_write(proc: &Path, may: bool) {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let most = getrlimit(Resource::Fsize).maximum;
    let current = if may { most } else { Some(0) };
    for _ in 0..PASSES {
        let mut changed = false;
        for pid in processes(proc).filter_map(Pid::from_raw) {
            let before = prlimit(Some(pid), Resource::Fsize, Rlimit { current, maximum: most });
            changed |= before.is_ok_and(|before| before.current != current);
        }
        if !changed {
            return;
        }
    }
}

/// Bytes that the processes of the sandbox hold in sum, and the process that holds most.
pub(super) fn memory(proc: &Path) -> (u64, Option<i32>) {
    let (mut sum, mut most) = (0, (0, None));
    for pid in processes(proc).filter(|pid| *pid != 1) {
        let status = fs::read_to_string(proc.join(pid.to_string()).join("status")).unwrap_or_default();
        let bytes = held(&status);
        sum += bytes;
        if bytes >= most.0 {
            most = (bytes, Some(pid));
        }
    }
    (sum, most.1)
}

/// What some processes, and all that came of them, hold and have used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Seconds of one core, of those that still run.
    pub cpu_seconds: f64,
}

/// Looks at a mounted `/proc`, in which the first processes have the numbers `roots`. Blocks.
#[must_use]
pub fn taken(proc: &Path, roots: &[i32]) -> Taken {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let mut ticks = HashMap::new();
    for pid in processes(proc) {
        let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).unwrap_or_default();
        let Some((parent, _)) = parent_and_group(&stat) else { continue };
        children.entry(parent).or_default().push(pid);
        ticks.insert(pid, cpu_ticks(&stat).unwrap_or(0));
    }
    let mut taken = Taken::default();
    let mut seen = HashSet::new();
    let mut next: Vec<i32> = roots.to_vec();
    while let Some(pid) = next.pop() {
        if !seen.insert(pid) {
            continue;
        }
        next.extend(children.get(&pid).into_iter().flatten());
        let status = fs::read_to_string(proc.join(pid.to_string()).join("status")).unwrap_or_default();
        taken.memory_bytes += held(&status);
        taken.cpu_seconds += ticks.get(&pid).map_or(0.0, |ticks| seconds(*ticks));
    }
    taken
}

#[expect(clippy::cast_precision_loss, reason = "no process ran for so long")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Ticks in user and system mode, out of `stat`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(after_name.next()?.parse::<u64>().ok()? + after_name.next()?.parse::<u64>().ok()?)
}

/// What a process holds without what it shares with files: libraries would be counted for each process.
fn held(status: &str) -> u64 {
    let kilobytes = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    let counted = status.lines().filter(|line| line.starts_with("RssAnon:") || line.starts_with("RssShmem:"));
    counted.filter_map(kilobytes).sum::<u64>() * 1_024
}

/// Children of pid 1 that nobody waits for: left behind by others that ended.
pub(super) fn reap_orphans(awaited: &HashSet<i32>) {
    let mut children = String::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        children.push_str(&fs::read_to_string(task.path().join("children")).unwrap_or_default());
        children.push(' ');
    }
    for pid in children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()) {
        if !awaited.contains(&pid)
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_hides_nothing() {
        assert_eq!(parent_and_group("12 (a) b (c) S 7 9 9 0"), Some((7, 9)));
        assert_eq!(parent_and_group("12 (a"), None);
    }

    #[test]
    fn what_is_taken_is_of_the_roots_and_their_children() {
        let proc = tempfile::tempdir().unwrap();
        let add = |pid: i32, parent: i32, ticks: u64, kilobytes: u64| {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            let stat = format!("{pid} (a) b) S {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 50 9 9 20 0");
            fs::write(folder.join("stat"), stat).unwrap();
            fs::write(folder.join("status"), format!("RssAnon:\t {kilobytes} kB\n")).unwrap();
        };
        add(10, 1, 150, 100);
        add(11, 10, 0, 20);
        add(12, 11, 50, 3);
        add(20, 1, 1_000, 5_000);
        let found = taken(proc.path(), &[10, 99]);
        assert_eq!(found.memory_bytes, 123 * 1_024);
        assert!((found.cpu_seconds - seconds(350)).abs() < 1e-9, "{found:?}");
        assert_eq!(taken(proc.path(), &[]), Taken::default());
    }

    #[test]
    fn memory_shared_between_processes_counts() {
        assert_eq!(
            held("Name:\tx\nVmRSS:\t9 kB\nRssAnon:\t      3 kB\nRssFile:\t 2 kB\nRssShmem:\t 4 kB\n"),
            7 * 1_024
        );
        assert_eq!(held(""), 0);
    }

    #[test]
    fn members_are_found_by_group_mark_and_descent() {
        let proc = tempfile::tempdir().unwrap();
        let add = |pid: i32, parent: i32, group: i32, environ: &str| {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("stat"), format!("{pid} (x) S {parent} {group} 1")).unwrap();
            fs::write(folder.join("environ"), environ).unwrap();
        };
        add(1, 0, 1, "PERCH_PROCESS=4\0");
        add(10, 1, 10, "");
        add(11, 10, 10, "");
        add(12, 1, 12, "A=b\0PERCH_PROCESS=4\0");
        add(13, 12, 13, "");
        add(14, 1, 14, "PERCH_PROCESS=44\0");
        let mut found: Vec<_> = members(proc.path(), 10, "4").into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, [10, 11, 12, 13]);
    }
}
