//! `perch doctor`: what of this machine and these settings is in perch's way, and how to mend it.
//!
//! Each check tries the thing itself where it can: a sandbox is made, a file is written and made durable, the database is
//! asked, the address is listened on. Nothing is changed; a perch that runs on the same data is not disturbed.

use crate::config::Config;
use crate::sandbox::{Cgroups, Level, Standing, landlock_level, probe};
use crate::server::shown_to_sessions;
use crate::store::{Options, Store};
use rustix::fs::{CWD, RenameFlags, StatVfs, renameat_with, statvfs};
use rustix::process::{Resource, geteuid, getrlimit};
use serde::Serialize;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// The database must answer within this.
const DATABASE_WITHIN: Duration = Duration::from_secs(5);
/// Free bytes under which a disk is nearly full, and under which perch can't be expected to run.
const DISK: (u64, u64) = (1 << 30, 64 << 20);
/// A durable write that takes longer makes everybody's acknowledgements late.
const SLOW_DISK: Duration = Duration::from_millis(100);
/// Folders of branches that are open; one watch each.
const WATCHES: u64 = 65_536;
/// The oldest git.
const GIT: (u32, u32) = (2, 38);
/// Seconds that clocks may differ.
const CLOCKS: i64 = 2;
/// Of what sessions run; from folders that a sandbox shows.
const PROGRAMS: [&str; 6] = ["bash", "git", "node", "python3", "unzip", "ssh"];
const PROGRAM_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// perch runs, and lacks something.
    Warning,
    /// perch, or all that sessions run, does not work.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, state: State::Ok, found: found.into(), mend: None }
}

fn bad(name: &'static str, state: State, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name, state, found: found.into(), mend: Some(mend.into()) }
}

/// Looks at everything and prints what was found; `false` when something failed.
///
/// # Errors
/// When nothing can be printed, or no data folder is known.
pub async fn doctor(
    config: &Config,
    standing: Standing,
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let data = config.data_folder()?;
    let runs = is_running(&data);
    let mut checks = vec![isolation(config, standing, &data), cgroups(config), landlock(), seccomp(), git()];
    checks.extend([inotify(), open_files(config), rights(&data), disk(&data)]);
    checks.extend(database(config, &data).await);
    checks.extend([clock(), listening(config, runs)]);
    checks.extend(programs());
    let is_well = checks.iter().all(|check| check.state != State::Failed);
    if as_json {
        let answer = serde_json::json!({ "ok": is_well, "checks": checks });
        writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
        return Ok(is_well);
    }
    for check in &checks {
        let state = match check.state {
            State::Ok => "ok     ",
            State::Warning => "warning",
            State::Failed => "FAILED ",
        };
        writeln!(out, "{state} {}: {}", check.name, check.found)?;
        if let Some(mend) = &check.mend {
            writeln!(out, "        to mend: {mend}")?;
        }
    }
    Ok(is_well)
}

/// Whether a perch has the data folder now.
fn is_running(data: &Path) -> bool {
    File::open(data.join("lock")).is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The nearest folder that is there already.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn isolation(config: &Config, standing: Standing, data: &Path) -> Check {
    let name = "isolation";
    if let Some(folder) = shown_to_sessions(data, &config.session_image) {
        let found = format!(
            "the data folder {} lies in {}, which sessions can read",
            data.display(),
            folder.display()
        );
        return bad(name, State::Failed, found, "give --data another folder");
    }
    // A folder of its own: a perch that starts meanwhile has the usual one.
    let folder = nearest(data).join(format!(".perch-doctor-{}", std::process::id()));
    let standing = probe(standing, &folder, &config.session_limits());
    match (standing.refused, standing.level) {
        (Some(reason), level) => {
            let mend =
                "see docs/isolation.md; without it all works but terminals, commands and git of sessions";
            bad(name, State::Failed, format!("no sandbox can be made (tried {level:?}): {reason}"), mend)
        }
        (None, Level::None) => bad(
            name,
            State::Warning,
            "none: sessions' processes are not kept apart from anything",
            "leave --isolation out, unless nobody but you uses this perch",
        ),
        (None, Level::Nested) => bad(
            name,
            State::Warning,
            "nested: branches share perch's own user",
            "run perch as root, or lend its user ids: `usermod --add-subuids 200000-265535 --add-subgids 200000-265535 USER`",
        ),
        (None, level) => ok(name, format!("{level:?}: a sandbox was made").to_lowercase()),
    }
}

fn cgroups(config: &Config) -> Check {
    let name = "cgroups";
    if config.isolation == crate::sandbox::Isolation::None {
        return ok(name, "not used without isolation");
    }
    match Cgroups::look() {
        Ok(()) => ok(name, "perch may make groups: sums of memory, processes and CPU are held by the kernel"),
        Err(reason) => bad(
            name,
            State::Warning,
            format!("none: {reason}; perch watches the sum of a session's memory itself"),
            "under systemd set Delegate=yes, in Docker use --cgroupns=private with a writable /sys/fs/cgroup",
        ),
    }
}

fn landlock() -> Check {
    match landlock_level() {
        0 => bad(
            "landlock",
            State::Warning,
            "the kernel has none",
            "use Linux 5.13 or later with `landlock` in the boot parameter lsm=",
        ),
        level if level < 6 => bad(
            "landlock",
            State::Warning,
            format!("version {level}: signals and abstract sockets are not kept apart"),
            "use Linux 6.12 or later",
        ),
        level => ok("landlock", format!("version {level}")),
    }
}

fn seccomp() -> Check {
    let offered = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if ["errno", "allow"].iter().all(|action| offered.split_whitespace().any(|has| has == *action)) {
        return ok("seccomp", "filters can be set");
    }
    bad("seccomp", State::Failed, "the kernel has no filters", "use a kernel with CONFIG_SECCOMP_FILTER")
}

fn git() -> Check {
    let name = "git";
    let mend = format!("install git {}.{} or later where perch finds it (PATH)", GIT.0, GIT.1);
    let said = match Command::new("git").arg("--version").stdin(Stdio::null()).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return bad(name, State::Failed, format!("it can't be started: {error}"), mend),
    };
    match version(&said) {
        Some(version) if version >= GIT => ok(name, said),
        Some(_) => bad(name, State::Failed, format!("{said} is too old"), mend),
        None => bad(name, State::Failed, format!("`git --version` says `{said}`"), mend),
    }
}

/// `git version 2.39.5 (…)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.split_whitespace().nth(2)?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn number(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn inotify() -> Check {
    let name = "inotify";
    // A user namespace may have less than the machine.
    let least = |name: &str| {
        let files =
            [format!("/proc/sys/fs/inotify/max_user_{name}"), format!("/proc/sys/user/max_inotify_{name}")];
        files.iter().filter_map(|file| number(file)).min()
    };
    match (least("watches"), least("instances")) {
        (Some(watches), Some(instances)) if watches >= WATCHES && instances >= 16 => {
            ok(name, format!("{watches} watches, {instances} instances"))
        }
        (Some(watches), Some(instances)) => bad(
            name,
            State::Warning,
            format!(
                "{watches} watches, {instances} instances; a watched folder takes one watch, perch one instance"
            ),
            "sysctl -w fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512, and the same in /etc/sysctl.d",
        ),
        _ => bad(
            name,
            State::Failed,
            "the kernel has none",
            "use a kernel with CONFIG_INOTIFY_USER and /proc mounted",
        ),
    }
}

fn open_files(config: &Config) -> Check {
    let needed = u64::from(config.max_connections) + 4_096;
    match getrlimit(Resource::Nofile).maximum {
        Some(most) if most < needed => bad(
            "open files",
            State::Warning,
            format!("at most {most}; --max-connections={} may take {needed}", config.max_connections),
            "LimitNOFILE=65536 in perch.service, --ulimit nofile=65536 in Docker, or a smaller --max-connections",
        ),
        most => ok("open files", most.map_or("no limit".into(), |most| format!("at most {most}"))),
    }
}

fn rights(data: &Path) -> Check {
    let name = "data folder";
    let shown = data.display();
    let (about, at) = match fs::metadata(data) {
        Ok(about) => (about, data.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = nearest(data);
            match fs::metadata(&above) {
                Ok(about) => (about, above),
                Err(error) => {
                    return bad(name, State::Failed, error.to_string(), "give --data another folder");
                }
            }
        }
        Err(error) => {
            return bad(
                name,
                State::Failed,
                format!("{shown}: {error}"),
                "give --data a folder that perch may use",
            );
        }
    };
    if let Err(error) = tempfile::Builder::new().prefix(".perch-doctor-").tempfile_in(&at) {
        let mend =
            format!("chown it to perch's user, or give --data another folder ({})", geteuid().as_raw());
        return bad(name, State::Failed, format!("{} can't be written: {error}", at.display()), mend);
    }
    if at != *data {
        return ok(name, format!("{shown} is not there yet and can be made"));
    }
    if about.uid() != geteuid().as_raw() {
        let found = format!("{shown} belongs to user {}, perch runs as {}", about.uid(), geteuid().as_raw());
        return bad(name, State::Warning, found, format!("chown {} {shown}", geteuid().as_raw()));
    }
    if about.mode() & 0o077 != 0 {
        let found = format!("{shown} is open to others (mode {:o})", about.mode() & 0o777);
        return bad(name, State::Warning, found, format!("chmod 700 {shown}"));
    }
    ok(name, format!("{shown}, only for perch"))
}

fn disk(data: &Path) -> Check {
    let (name, folder) = ("disk", nearest(data));
    let mend = "give --data a local file system that has room";
    let free = match statvfs(&folder) {
        Ok(StatVfs { f_bavail, f_frsize, .. }) => f_bavail.saturating_mul(f_frsize),
        Err(error) => return bad(name, State::Failed, error.to_string(), mend),
    };
    let shown = format!("{} MiB free", free >> 20);
    let took = match durable_write(&folder) {
        Ok(took) => took,
        Err(error) => {
            return bad(name, State::Failed, format!("{shown}; a durable write fails: {error}"), mend);
        }
    };
    let shown = format!("{shown}, a durable write takes {} ms", took.as_millis());
    if free < DISK.1 {
        return bad(name, State::Failed, shown, "make room: edits are refused when the disk is full");
    }
    if let Err(error) = exchange(&folder) {
        let mend =
            "use ext4, xfs, btrfs or tmpfs: else a file that is written by two at once may lose one of them";
        return bad(name, State::Warning, format!("{shown}; files can't be exchanged ({error})"), mend);
    }
    if free < DISK.0 {
        return bad(name, State::Warning, shown, "make room");
    }
    if took > SLOW_DISK {
        return bad(
            name,
            State::Warning,
            shown,
            "each edit is acknowledged after such a write: use a faster disk",
        );
    }
    ok(name, shown)
}

fn durable_write(folder: &Path) -> io::Result<Duration> {
    let mut file = tempfile::Builder::new().prefix(".perch-doctor-").tempfile_in(folder)?;
    let began = Instant::now();
    file.write_all(&[0; 4_096])?;
    file.as_file().sync_all()?;
    Ok(began.elapsed())
}

/// What write-backs need.
fn exchange(folder: &Path) -> io::Result<()> {
    let place = tempfile::Builder::new().prefix(".perch-doctor-").tempdir_in(folder)?;
    let (one, other) = (place.path().join("one"), place.path().join("other"));
    fs::write(&one, "1")?;
    fs::write(&other, "2")?;
    Ok(renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE)?)
}

async fn database(config: &Config, data: &Path) -> Vec<Check> {
    let name = "database";
    let options = Options { database_url: config.database_url.clone(), data: data.to_owned() };
    if config.database_url.is_none() && !data.join("perch.sqlite").exists() {
        return vec![ok(name, "SQLite, made at the first start")];
    }
    let mend = if config.database_url.is_some() {
        "see that Postgres runs, and that host, name, user and password of DATABASE_URL are right"
    } else {
        "see that perch.sqlite in the data folder belongs to perch and is whole; else restore a backup"
    };
    let asked = async {
        let store = Store::open_beside(&options).await?;
        let about = store.about().await;
        store.close().await;
        about
    };
    let about = match tokio::time::timeout(DATABASE_WITHIN, asked).await {
        Ok(Ok(about)) => about,
        Ok(Err(error)) => return vec![bad(name, State::Failed, error.to_string(), mend)],
        Err(_) => return vec![bad(name, State::Failed, "it gives no answer within 5 s", mend)],
    };
    let mut checks = vec![ok(name, about.version.clone())];
    checks.push(match about.steps {
        None => ok("tables", "made at the first start"),
        Some((has, knows)) if has == knows => ok("tables", format!("at step {has}")),
        Some((has, knows)) if has < knows => {
            ok("tables", format!("at step {has}; brought to step {knows} at the next start"))
        }
        Some((has, knows)) => bad(
            "tables",
            State::Failed,
            format!("at step {has}, made by a later perch; this one knows {knows}"),
            "use that perch, or restore a backup that this one made",
        ),
    });
    if let Some(ahead_s) = about.ahead_s.filter(|ahead_s| ahead_s.abs() > CLOCKS) {
        let found = format!("the database's clock is {ahead_s} s ahead of this machine's");
        checks.push(bad("database's clock", State::Warning, found, "set both by NTP"));
    }
    if about.newest_ms > now_ms() + CLOCKS * 1_000 {
        let found = "the database holds what was made in this clock's future";
        checks.push(bad("history", State::Warning, found, "set the clock by NTP; tokens end by it"));
    }
    checks
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// When this perch was at the earliest built, in milliseconds since 1970: 2026.
const BUILT_MS: i64 = 1_767_225_600_000;

fn clock() -> Check {
    if now_ms() < BUILT_MS {
        return bad("clock", State::Failed, "it is before this perch was made", "set it, by NTP for one");
    }
    ok("clock", "after this perch was made")
}

fn listening(config: &Config, runs: bool) -> Check {
    let name = "address";
    let at = config.listen;
    match std::net::TcpListener::bind(at) {
        Ok(_) => ok(name, format!("{at} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs => {
            ok(name, format!("{at} is in use, and a perch runs on this data folder"))
        }
        Err(error) => bad(
            name,
            State::Failed,
            format!("{at}: {error}"),
            "stop what listens there, or give --listen another address",
        ),
    }
}

fn programs() -> Vec<Check> {
    let is_there =
        |program: &str| PROGRAM_FOLDERS.iter().any(|folder| Path::new(folder).join(program).exists());
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|program| !is_there(program)).collect();
    if missing.is_empty() {
        return vec![ok("programs", format!("sessions find {}", PROGRAMS.join(", ")))];
    }
    let found = format!("sessions do not find {}", missing.join(", "));
    let mend =
        format!("apt-get install {}", missing.iter().map(|name| package(name)).collect::<Vec<_>>().join(" "));
    vec![bad("programs", State::Warning, found, mend)]
}

fn package(program: &str) -> &str {
    match program {
        "node" => "nodejs",
        "ssh" => "openssh-client",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_git_are_read() {
        assert_eq!(version("git version 2.39.5"), Some((2, 39)));
        assert_eq!(version("git version 2.50.1 (Apple Git-155)"), Some((2, 50)));
        assert_eq!(version("git"), None);
        assert!((2, 5) < GIT && (3, 0) > GIT);
    }

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(rights(data.path()).state, State::Warning);
        fs::set_permissions(data.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(rights(data.path()).state, State::Ok);
        assert_eq!(rights(&data.path().join("not/there")).state, State::Ok);
        assert_ne!(disk(data.path()).state, State::Failed);
        assert!(fs::read_dir(data.path()).unwrap().next().is_none());
        assert_eq!(rights(Path::new("/proc/nowhere")).state, State::Failed);
    }
}
