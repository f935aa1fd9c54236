//! The network of a branch: a namespace of its own, in which its sessions share a loopback and nothing else.
//!
//! No process holds the namespace. A thread of perch steps into a new one, opens what is needed and ends; the file
//! descriptors that it leaves behind keep the namespace alive, and with the last of them it goes. `unshare` and
//! `setns` change one thread alone, so no other of perch ever leaves perch's own network. Threads of tokio are never
//! used for it: they come back to other work.
//!
//! Whoever makes or enters a namespace needs `CAP_SYS_ADMIN` in its user namespace: perch is root, or has put itself
//! into a user namespace of its own before its first thread began.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// Where a branch's namespace finds perch's proxy, if it has one. The port is the customary one of forward proxies;
/// whatever else of the branch wants it finds it taken.
pub const PROXY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128);

/// A loopback connection is made or refused at once, unless its listener does not accept any more.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What sessions reach of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Reach {
    /// One another, on the branch's loopback.
    None,
    /// That, and hosts outside by perch's proxy.
    #[default]
    Outbound,
    /// All that perch's host reaches, and the host itself: no wall at all.
    Host,
}

/// Why a branch has no network.
#[derive(Debug, thiserror::Error)]
#[error("the branch's network can't be made ({step}: {source}); {}", cure(.source))]
pub struct NetworkError {
    /// The system call, or what else was tried.
    pub step: &'static str,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// What to do about an error of the kernel's.
fn cure(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "perch needs CAP_SYS_ADMIN in its user namespace: run it as root, or let it make user namespaces (a \
             container's seccomp profile may forbid it), or give --session-network=host"
        }
        Some(libc::ENOSPC | libc::EUSERS) => "raise user.max_net_namespaces (sysctl)",
        Some(libc::EMFILE | libc::ENFILE) => {
            "raise the limit of open files (LimitNOFILE of the systemd unit)"
        }
        Some(libc::EINVAL | libc::ENOSYS) => "this kernel has no network namespaces (CONFIG_NET_NS)",
        Some(libc::ENOENT) => "/proc must be mounted",
        _ => "try again, or give --session-network=host",
    }
}

/// Why no connection into a branch was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens there on `127.0.0.1` or `::1`.
    #[error("nothing listens on port {0}")]
    Refused(NonZeroU16),
    /// What listens there does not accept.
    #[error("what listens on port {0} accepts no connection")]
    Silent(NonZeroU16),
    /// The namespace can't be entered.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// See the module's docs.
#[derive(Debug)]
pub struct Network {
    /// `None`: perch's own.
    namespace: Option<File>,
    has_proxy: bool,
}

impl Network {
    /// Perch's own network: no wall.
    #[must_use]
    pub fn host() -> Self {
        Self { namespace: None, has_proxy: false }
    }

    /// A new namespace with a loopback and nothing else.
    ///
    /// # Errors
    /// [`NetworkError`] names the step and the cure.
    pub async fn isolated() -> Result<Self, NetworkError> {
        let namespace = in_thread(new_namespace).await?;
        Ok(Self { namespace: Some(namespace), has_proxy: false })
    }

    /// A new namespace, and a listener in it at [`PROXY`]: what connects there from within is accepted outside.
    ///
    /// # Errors
    /// [`NetworkError`] names the step and the cure.
    pub async fn with_proxy() -> Result<(Self, std::net::TcpListener), NetworkError> {
        let made = in_thread(|| {
            let namespace = new_namespace()?;
            let listener = std::net::TcpListener::bind(PROXY).map_err(at("bind the proxy's listener"))?;
            listener.set_nonblocking(true).map_err(at("set_nonblocking"))?;
            Ok((namespace, listener))
        });
        let (namespace, listener) = made.await?;
        Ok((Self { namespace: Some(namespace), has_proxy: true }, listener))
    }

    /// What processes of the branch are to enter with `setns`; `None`: they stay in perch's own network.
    #[must_use]
    pub fn namespace(&self) -> Option<BorrowedFd<'_>> {
        self.namespace.as_ref().map(AsFd::as_fd)
    }

    /// Where processes of the branch find the proxy, if there is one.
    #[must_use]
    pub fn proxy(&self) -> Option<SocketAddrV4> {
        self.has_proxy.then_some(PROXY)
    }

    /// Whether it is perch's own network.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.namespace.is_none()
    }

    /// Connects to what listens on the branch's loopback: on `127.0.0.1`, else on `::1`. The proxy counts as nothing.
    ///
    /// # Errors
    /// [`ConnectError::Refused`], [`ConnectError::Silent`] after 5 s, [`ConnectError::Network`].
    pub async fn connect(&self, port: NonZeroU16) -> Result<TcpStream, ConnectError> {
        if self.has_proxy && port.get() == PROXY.port() {
            return Err(ConnectError::Refused(port));
        }
        let (v4, v6) = self.sockets().await?;
        let connect = async {
            let first = v4.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port.get()))).await;
            match (first, v6) {
                (Err(_), Some(v6)) => v6.connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port.get()))).await,
                (first, _) => first,
            }
        };
        let stream = tokio::time::timeout(CONNECT_WITHIN, connect).await;
        let stream =
            stream.map_err(|_| ConnectError::Silent(port))?.map_err(|_| ConnectError::Refused(port))?;
        // Answers pass on as they come.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Does something inside, as a process of the branch would.
    #[cfg(test)]
    pub(crate) async fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = self.namespace().unwrap().try_clone_to_owned().unwrap();
        let done = in_thread(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            Ok(work())
        });
        done.await.unwrap()
    }

    /// Sockets that belong to the namespace, whichever thread connects them; no IPv6 one where the kernel has none.
    async fn sockets(&self) -> Result<(TcpSocket, Option<TcpSocket>), NetworkError> {
        let open = || {
            let v4 = TcpSocket::new_v4().map_err(at("socket"))?;
            Ok((v4, TcpSocket::new_v6().ok()))
        };
        let Some(namespace) = &self.namespace else { return open() };
        let namespace = namespace.try_clone().map_err(at("dup"))?;
        in_thread(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map_err(at("setns"))?;
            open()
        })
        .await
    }
}

fn at(step: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError { step, source }
}

/// Runs `work` in a thread that ends with it, so that the namespace it steps into holds nobody else.
async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("perch-network".into()).spawn(move || {
        // Nobody waits any more: what was made goes.
        let _ = answer.send(work());
    });
    thread.map_err(at("start a thread"))?;
    answered.await.map_err(|_| at("the thread")(io::Error::other("it ended without an answer")))?
}

/// Puts this thread into a new namespace whose loopback is up.
fn new_namespace() -> Result<File, NetworkError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map_err(at("unshare(CLONE_NEWNET)"))?;
    let namespace = File::open("/proc/thread-self/ns/net").map_err(at("open /proc/thread-self/ns/net"))?;
    raise_loopback().map_err(at("raise the loopback"))?;
    Ok(namespace)
}

/// Brings `lo` of this thread's namespace up, which gives it `127.0.0.1` and `::1`.
#[expect(unsafe_code, reason = "the ioctl that sets an interface's flags has no safe form")]
fn raise_loopback() -> io::Result<()> {
    let any_socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: `ifreq` is plain data, for which all zeros is a value; its name then ends with a zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    // IFF_UP is 1.
    request.ifr_ifru.ifru_flags = 1;
    // SAFETY: the descriptor is open for the whole call, and SIOCSIFFLAGS reads one `ifreq` through the pointer.
    let outcome = unsafe { libc::ioctl(any_socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(listener: &std::net::TcpListener) -> NonZeroU16 {
        NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap()
    }

    async fn listen(network: &Network, address: &'static str) -> std::net::TcpListener {
        network.within(move || std::net::TcpListener::bind(address).unwrap()).await
    }

    #[tokio::test]
    async fn branches_listen_on_the_same_port_and_do_not_see_each_other() {
        let (one, other) = (Network::isolated().await.unwrap(), Network::isolated().await.unwrap());
        let at_one = listen(&one, "127.0.0.1:3000").await;
        let refused = other.connect(port(&at_one)).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Refused(port) if port.get() == 3000), "{refused}");
        let at_other = listen(&other, "[::1]:3000").await;
        for (network, listener) in [(&one, &at_one), (&other, &at_other)] {
            let stream = network.connect(port(listener)).await.unwrap();
            let (_, from) = listener.accept().unwrap();
            assert_eq!(from, stream.local_addr().unwrap(), "it is this branch's listener that was reached");
        }
        // Nor does the host see them, nor they the host.
        assert!(std::net::TcpStream::connect("127.0.0.1:3000").is_err());
        let at_host = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(one.connect(port(&at_host)).await.is_err());
        assert!(Network::host().connect(port(&at_host)).await.is_ok(), "it does listen");
    }

    #[tokio::test]
    async fn a_namespace_goes_with_its_last_descriptor_and_threads_stay_where_they_were() {
        let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = here();
        let (network, listener) = Network::with_proxy().await.unwrap();
        assert_eq!(here(), before);
        assert_eq!(network.proxy(), Some(PROXY));
        assert_eq!(listener.local_addr().unwrap(), SocketAddr::V4(PROXY));
        let proxy = NonZeroU16::new(PROXY.port()).unwrap();
        assert!(
            matches!(network.connect(proxy).await, Err(ConnectError::Refused(_))),
            "no way in to the proxy"
        );
        drop(network);
        // Another one does not find the port taken.
        let again = Network::with_proxy().await;
        assert!(again.is_ok());
    }

    #[test]
    fn errors_name_the_step_and_the_cure() {
        let error = at("unshare(CLONE_NEWNET)")(io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(error.contains("unshare(CLONE_NEWNET)") && error.contains("CAP_SYS_ADMIN"), "{error}");
    }
}
