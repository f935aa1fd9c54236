//! How far this machine lets perch go. Decided once, before perch has a thread: entering a user namespace needs that.

use super::sys;
use caps::{CapSet, Capability};
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// What `--isolation` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Isolation {
    /// The best that the machine allows.
    #[default]
    Auto,
    /// As root: each branch has a user of its own.
    Root,
    /// As an ordinary user with a range of sub-ids, or as a container's root: the same.
    Subuid,
    /// As an ordinary user without: all branches run as perch's own user, apart from each other by namespaces alone.
    Nested,
    /// No isolation at all: only for the owner's own machine and sessions.
    None,
}

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Perch is root; each branch has a user of its own.
    Root,
    /// Perch is root of its own user namespace; each branch has a user of its own.
    Subuid,
    /// Perch is root of its own user namespace; all branches run as perch's user.
    Nested,
    /// None, as was asked for.
    None,
}

/// How perch stands on this machine.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What is in force; of no worth where something is refused.
    pub level: Level,
    /// First id and count of the users that branches may get.
    pub ids: Option<(u32, u32)>,
    /// Why there are no sessions' processes, and what to do about it.
    pub refused: Option<String>,
}

/// Ids for branches where perch is root: beside what distributions, systemd and container engines give away.
const ROOT_IDS: (u32, u32) = (1_900_000_000, 100_000);

/// The ids that root may give away in a user namespace with this map: those above, or the upper half where a container's
/// end far below them.
fn root_ids(map: &str) -> Option<(u32, u32)> {
    let (first, count) = ROOT_IDS;
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
        let (start, _, length) = (fields.next()?, fields.next(), fields.next()?);
        if start <= u64::from(first) && u64::from(first) + u64::from(count) <= start + length {
            return Some(ROOT_IDS);
        }
        let half = u32::try_from(length / 2).ok()?;
        (start == 0 && half >= 1_000).then_some((half, half))
    })
}

/// Puts perch where it can make sandboxes. Call it before the first thread.
///
/// What the machine refuses is no error: everything but sessions' processes works without.
#[must_use]
pub fn prepare(wanted: Isolation) -> Standing {
    let refused = |level, reason: String| Standing { level, ids: None, refused: Some(reason) };
    let is_root = geteuid().is_root();
    let ids = root_ids(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default());
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let needed =
        [Capability::CAP_SYS_ADMIN, Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_CHOWN];
    let is_mighty = is_root && ids.is_some() && needed.into_iter().all(has);
    let levels: &[Level] = match wanted {
        Isolation::None => return Standing { level: Level::None, ids: None, refused: None },
        Isolation::Root => &[Level::Root],
        Isolation::Auto if is_mighty => &[Level::Root],
        Isolation::Subuid => &[Level::Subuid],
        // Never nested: root inside would be root outside.
        Isolation::Auto if is_root => &[Level::Subuid],
        Isolation::Auto if sub_ids("/etc/subuid").is_some() => &[Level::Subuid, Level::Nested],
        Isolation::Nested | Isolation::Auto => &[Level::Nested],
    };
    let mut outcome = None;
    for &level in levels {
        let entered = match level {
            Level::Root if is_mighty => {
                // Else work on files as a branch's user would keep the rights of root's groups.
                let _ = rustix::thread::set_thread_groups(&[]);
                Ok(ids)
            }
            Level::Root => Err(
                "--isolation=root: perch needs to be root with CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID and \
                 CAP_CHOWN"
                    .to_owned(),
            ),
            // In a process of its own first: there is no way back out of a half-made user namespace.
            level => tried(level).and_then(|()| enter(level)),
        };
        match entered {
            Ok(ids) => return Standing { level, ids, refused: None },
            Err(reason) => outcome = Some(refused(level, reason)),
        }
    }
    outcome.unwrap_or_else(|| refused(Level::Nested, "no level was tried".into()))
}

/// Enters perch's own user namespace; the ids that branches may get.
///
/// # Errors
/// Says which step is refused, and the cure.
pub fn enter(level: Level) -> Result<Option<(u32, u32)>, String> {
    match level {
        Level::Subuid => enter_with_ids(geteuid().is_root()).map(|count| Some((1, count))),
        Level::Nested if geteuid().is_root() => {
            Err("--isolation=nested: not as root, who would be root inside as well; use an ordinary user"
                .into())
        }
        Level::Nested => enter_alone().map(|()| None),
        Level::Root | Level::None => Ok(None),
    }
}

fn tried(level: Level) -> Result<(), String> {
    let name = if level == Level::Subuid { "subuid" } else { "nested" };
    let output = Command::new("/proc/self/exe").args(["try-isolation", name]).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("perch can't start itself: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(said.trim().to_owned()) }
}

const REFUSED: &str = "unshare: the machine refuses user namespaces";

pub(super) const NO_NAMESPACES: &str = "set user.max_user_namespaces above 0 (sysctl)";

fn unshare_user() -> Result<(), String> {
    sys::unshare(UnshareFlags::NEWUSER).map_err(|errno| {
        let cure = match errno {
            rustix::io::Errno::NOSPC | rustix::io::Errno::USERS => NO_NAMESPACES,
            _ => {
                "in a container, start it with --security-opt seccomp=unconfined, apparmor=unconfined and \
                 systempaths=unconfined; on a host set kernel.unprivileged_userns_clone=1 (sysctl) or give perch's \
                 binary an AppArmor profile with `userns,`"
            }
        };
        format!("{REFUSED} ({errno}): {cure}")
    })
}

fn become_root_inside() -> Result<(), String> {
    let root = |_| "setuid: root of perch's user namespace is refused; see /proc/self/uid_map".to_owned();
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(root)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(root)
}

/// Maps perch's own user to root, and nobody else.
fn enter_alone() -> Result<(), String> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare_user()?;
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text).map_err(|error| {
            format!(
                "{file}: refused ({error}); AppArmor may take all rights from new user namespaces: give perch's binary a \
                 profile with `userns,`"
            )
        })
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))?;
    become_root_inside()
}

/// First id and count that the system lends this user.
fn sub_ids(file: &str) -> Option<(u32, u32)> {
    let uid = geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)? == uid).then(|| name.to_owned())
    });
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        let owner = parts.next()?;
        let first = parts.next()?.parse().ok()?;
        let count = parts.next()?.parse().ok()?;
        (owner == uid || Some(owner) == name.as_deref()).then_some((first, count))
    })
}

/// Maps perch's own user to root and a range of ids to 1, 2, …; the count of the range.
///
/// An ordinary user is lent the range by `newuidmap`. A container's root writes the maps itself, from a process that
/// stays behind in the namespace above.
fn enter_with_ids(is_root: bool) -> Result<u32, String> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let map = |file: &str| root_ids(&fs::read_to_string(file).unwrap_or_default()).unwrap_or(ROOT_IDS);
    let ids = if is_root {
        (map("/proc/self/uid_map"), map("/proc/self/gid_map"))
    } else {
        let missing = |file: &str| {
            format!(
                "{file} lends this user no ids: `usermod --add-subuids 200000-265535 --add-subgids 200000-265535 USER`"
            )
        };
        (
            sub_ids("/etc/subuid").ok_or_else(|| missing("/etc/subuid"))?,
            sub_ids("/etc/subgid").ok_or_else(|| missing("/etc/subgid"))?,
        )
    };
    let ((first_uid, uids), (first_gid, gids)) = ids;
    let count = uids.min(gids);
    let own = std::process::id();
    let script = if is_root {
        format!(
            "read _ && printf '0 {uid} 1\\n1 {first_uid} {count}\\n' >/proc/{own}/uid_map && \
             printf '0 {gid} 1\\n1 {first_gid} {count}\\n' >/proc/{own}/gid_map"
        )
    } else {
        format!(
            "read _ && newuidmap {own} 0 {uid} 1 1 {first_uid} {count} && newgidmap {own} 0 {gid} 1 1 {first_gid} {count}"
        )
    };
    // It stays in the namespace above, and waits there until this process has left it.
    let mut mapper = Command::new("/bin/sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("/bin/sh can't be started: {error}"))?;
    let entered = unshare_user();
    if entered.is_ok()
        && let Some(mut stdin) = mapper.stdin.take()
    {
        let _ = stdin.write_all(b"go\n");
    } else {
        drop(mapper.stdin.take());
    }
    let output = mapper.wait_with_output().map_err(|error| error.to_string())?;
    entered?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "newuidmap: the ids are refused ({}); install Debian's `uidmap`, or use --isolation=nested",
            said.trim()
        ));
    }
    become_root_inside()?;
    let _ = rustix::thread::set_thread_groups(&[]);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_where_they_exist() {
        assert_eq!(root_ids("         0          0 4294967295\n"), Some(ROOT_IDS));
        assert_eq!(root_ids("0 100000 65536\n"), Some((32_768, 32_768)));
        assert_eq!(root_ids("0 1000 1\n"), None);
        assert_eq!(root_ids("0 1000 1\n1 100000 65536"), None);
        assert_eq!(root_ids("junk"), None);
    }
}
