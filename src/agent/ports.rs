//! Which TCP ports are listened on in a network namespace, and by which process: read from `/proc`.

use super::tree::MARK;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::path::Path;

/// Ports that are told of at most, the lowest first.
pub const MAX_PORTS: usize = 1_000;
/// Bytes of one table of sockets that are read: about 50,000 sockets.
const TABLE: u64 = 8 * 1024 * 1024;
/// Processes that are looked at, and open files of each.
const PROCESSES: usize = 10_000;
const FILES: usize = 10_000;
/// Bytes of a process's environment that are read.
const ENVIRONMENT: u64 = 256 * 1024;
/// The state `TCP_LISTEN` of the kernel's table.
const LISTEN: &str = "0A";

/// From where a port is reached within its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// All addresses: `0.0.0.0` or `::`.
    Any,
    /// `127.0.0.1` or `::1`.
    Loopback,
    /// One other address; not reached by previews.
    Other,
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_unspecified() => Self::Any,
            IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST) => Self::Loopback,
            _ => Self::Other,
        }
    }
}

/// A port that is listened on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    pub port: NonZeroU16,
    /// From where it is reached; of several sockets the one that is reached most.
    pub address: Address,
    /// The short name of the process, at most 15 bytes by the kernel; `None` when no visible process holds the socket.
    pub process: Option<String>,
    /// Its number, as the reader of `/proc` sees it.
    pub pid: Option<u32>,
    /// The command that it came of, see [`super::Process::number`]; what a process says of itself.
    pub command: Option<u32>,
}

/// A socket of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    address: IpAddr,
    port: NonZeroU16,
    inode: u64,
}

/// The ports that are listened on in the network namespace of `proc`'s owner, lowest first, at most [`MAX_PORTS`]; `proc`
/// is a mounted `/proc`. What can't be read is left out: processes come and go while they are looked at.
///
/// Blocks for as long as the reading takes: milliseconds with a hundred processes.
#[must_use]
pub fn listening(proc: &Path) -> Vec<Port> {
    let mut sockets = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        sockets.extend(read(&proc.join(table), TABLE).lines().filter_map(socket));
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let holders = holders(proc, &sockets);
    let mut ports: BTreeMap<NonZeroU16, Port> = BTreeMap::new();
    for Socket { address, port, inode } in sockets {
        let holder = holders.get(&inode);
        let found = Port {
            port,
            address: address.into(),
            process: holder.map(|holder| holder.name.clone()),
            pid: holder.map(|holder| holder.pid),
            command: holder.and_then(|holder| holder.command),
        };
        let known = ports.entry(port).or_insert_with(|| found.clone());
        // One process often listens on both kinds of addresses, and several may share a port.
        known.address = known.address.min(found.address);
        if known.pid.is_none() {
            known.pid = found.pid;
            (known.process, known.command) = (found.process, found.command);
        }
    }
    ports.into_values().take(MAX_PORTS).collect()
}

/// A process that holds a socket.
struct Holder {
    pid: u32,
    name: String,
    command: Option<u32>,
}

/// Which process holds each of the sockets: of several that share one, the first.
fn holders(proc: &Path, sockets: &[Socket]) -> HashMap<u64, Holder> {
    let mut wanted: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let mut found = HashMap::new();
    let mut pids: Vec<u32> = entries(proc).filter_map(|name| name.parse().ok()).take(PROCESSES).collect();
    pids.sort_unstable();
    for pid in pids {
        let folder = proc.join(pid.to_string());
        for file in entries(&folder.join("fd")).take(FILES) {
            let Ok(link) = fs::read_link(folder.join("fd").join(file)) else { continue };
            let Some(inode) = link.to_str().and_then(inode) else { continue };
            if wanted.remove(&inode) {
                let name = read(&folder.join("comm"), 64).trim_end_matches('\n').to_owned();
                let environment = read(&folder.join("environ"), ENVIRONMENT);
                let mut variables = environment.split('\0').filter_map(|one| one.split_once('='));
                let mark = variables.find(|(name, _)| *name == MARK);
                let command = mark.and_then(|(_, number)| number.parse().ok());
                found.insert(inode, Holder { pid, name, command });
            }
        }
        if wanted.is_empty() {
            break;
        }
    }
    found
}

/// Names in a folder; none where it can't be read.
fn entries(folder: &Path) -> impl Iterator<Item = String> {
    let names = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    names.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The first `most` bytes of a file as text; nothing where it can't be read.
fn read(path: &Path, most: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        // What was read before an error counts.
        let _ = file.take(most).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The inode in `socket:[123]`.
fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// A listening socket from a line of `net/tcp` or `net/tcp6` (`man 5 proc_pid_net`); `None` for any other line.
fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace();
    // sl, local_address, rem_address, st, queues, tr:when, retrnsmt, uid, timeout, inode.
    let (address, port) = words.nth(1)?.split_once(':')?;
    if words.nth(1)? != LISTEN {
        return None;
    }
    let inode = words.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(port, 16).ok().and_then(NonZeroU16::new)?;
    Some(Socket { address: address_of(address)?, port, inode })
}

/// An address as the kernel prints it: words of 32 bits, each in the machine's own byte order.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = text.get(at * 8..(at + 1) * 8)?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::TcpListener;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    /// A line as the kernel writes it (`get_tcp4_sock` in `net/ipv4/tcp_ipv4.c`).
    fn line(address: IpAddr, port: u16, state: &str, inode: u64) -> String {
        let bytes = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let words =
            bytes.chunks(4).map(|word| format!("{:08X}", u32::from_ne_bytes(word.try_into().unwrap())));
        let address: String = words.collect();
        let none = "0".repeat(address.len());
        format!(
            "   0: {address}:{port:04X} {none}:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 0000000000000000 100 0 0 10 0\n"
        )
    }

    proptest! {
        #[test]
        fn listening_sockets_are_read_and_nothing_else(
            v4: u32, v6: u128, is_v6: bool, port: u16, inode: u64, is_listening: bool,
        ) {
            let address = if is_v6 { IpAddr::V6(v6.into()) } else { IpAddr::V4(v4.into()) };
            let state = if is_listening { "0A" } else { "01" };
            let read = socket(&line(address, port, state, inode));
            let expected = NonZeroU16::new(port).filter(|_| is_listening);
            prop_assert_eq!(read, expected.map(|port| Socket { address, port, inode }));
        }

        #[test]
        fn no_line_makes_it_fail(line in "\\PC{0,200}", address in "[0-9A-Fa-f:é]{0,40}") {
            socket(&line);
            socket(&format!("0: {address}:0BB8 {address}:0 0A 0 0 0 0 0 1"));
            address_of(&address);
            inode(&line);
        }
    }

    #[test]
    fn sockets_are_matched_to_processes() {
        let proc = tempfile::tempdir().unwrap();
        let at = |path: &str| proc.path().join(path);
        for folder in ["net", "7/fd", "12/fd", "self/fd"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let (any, any6) = (IpAddr::from([0, 0, 0, 0]), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let (loopback, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let v4 = [(loopback, 3000, "0A", 1), (other, 4000, "0A", 2), (any, 22, "0A", 9), (any, 81, "01", 1)];
        let text = v4.map(|(address, port, state, inode)| line(address, port, state, inode)).concat();
        fs::write(at("net/tcp"), format!("{HEAD}{text}")).unwrap();
        fs::write(at("net/tcp6"), format!("{HEAD}{}", line(any6, 3000, "0A", 3))).unwrap();
        for (pid, comm, files) in [("12", "node\n", &[(5, 1), (6, 3)][..]), ("7", "a b)\n", &[(4, 2)])] {
            fs::write(at(&format!("{pid}/comm")), comm).unwrap();
            for (file, inode) in files {
                std::os::unix::fs::symlink(format!("socket:[{inode}]"), at(&format!("{pid}/fd/{file}")))
                    .unwrap();
            }
        }
        let ports = listening(proc.path());
        let seen: Vec<_> =
            ports.iter().map(|p| (p.port.get(), p.address, p.process.as_deref(), p.pid)).collect();
        assert_eq!(
            seen,
            [
                (22, Address::Any, None, None),
                (3000, Address::Any, Some("node"), Some(12)),
                (4000, Address::Other, Some("a b)"), Some(7)),
            ]
        );
        assert!(listening(&at("nowhere")).is_empty());
    }

    #[test]
    fn this_process_is_found_by_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let find = || listening(Path::new("/proc")).into_iter().find(|port| port.port.get() == own);
        let found = find().unwrap();
        assert_eq!((found.address, found.pid), (Address::Loopback, Some(std::process::id())));
        assert!(!found.process.unwrap().is_empty());
        drop(listener);
        assert!(find().is_none());
    }
}
