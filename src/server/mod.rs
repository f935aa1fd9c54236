//! Builds everything once, owns the tasks, stops in order.

mod accept;
mod tls;

use crate::audit;
use crate::base::{Clock, Tasks};
use crate::branch::{BranchOptions, Branches};
use crate::compat::{self, Compat};
use crate::config::Config;
use crate::egress::{self, Target};
use crate::http::{AppState, Bounds, Budgets, Limits, Site, check_preview_domain, router};
use crate::sandbox::{self, Cgroups, Level, Owners, Standing};
use crate::session::{AgentOptions, Agents, Keys, end_link_token, first_owner_token, link_token, token_hash};
use crate::store::{self, Store, StoreError};
use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tls::Tls;
use tracing::{info, warn};

/// How long documents may take to reach the disk when perch stops.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How long closing the database may take after that.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// How long a database may be away when perch starts: under compose or systemd both start at once. Past it perch gives
/// up, so that whoever started it sees that something is wrong.
const DATABASE_WITHIN: Duration = Duration::from_secs(30);
/// A killed perch's lock on Postgres goes when Postgres notices, that on the data folder when a process that it was just
/// starting has begun or ended; another perch keeps it longer.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
/// Between tries.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// How often metrics are drained.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// A running perch.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    link: Option<String>,
    first_token: Option<SecretString>,
    tasks: Tasks,
    store: Store,
    tls: Option<Tls>,
    /// Held as long as this perch owns the data folder; the kernel lets it go however perch ends.
    _lock: File,
}

impl Server {
    /// Starts on the configured address; when it returns, requests are answered.
    ///
    /// # Errors
    /// Says what is in the way: the folder, another perch, the database, the address.
    pub async fn start(config: Config, standing: Standing) -> anyhow::Result<Self> {
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::load(certificate.clone(), key.clone())?),
            _ => None,
        };
        let domain = config.preview_domain.to_ascii_lowercase();
        check_preview_domain(&domain, config.public_url.as_ref()).context("--preview-domain")?;
        raise_open_files();
        let data = config.data_folder()?;
        let branches_folder = data.join("branches");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&branches_folder)
            .with_context(|| format!("--data: can't make the data folder {}", data.display()))?;
        let lock = lock(&data).await?;
        let options = store::Options { database_url: config.database_url.clone(), data: data.clone() };
        let store = open_store(&options).await.with_context(|| match &config.database_url {
            Some(_) => "--database-url (DATABASE_URL): can't open the database".to_owned(),
            None => format!("--data: can't open the database in {}", data.display()),
        })?;
        let keys = Keys::load(&data.join("keys.json"))?;
        let mut standing = standing;
        if let Some(folder) = shown_to_sessions(&data, &config.session_image) {
            let reason = format!(
                "--data: {} lies in {}, which sessions can read; move it",
                data.display(),
                folder.display()
            );
            standing.refused.get_or_insert(reason);
        }
        let (limits, probed) = (config.session_limits(), data.join("probe"));
        let probing = tokio::task::spawn_blocking(move || sandbox::probe(standing, &probed, &limits));
        let standing = probing.await.context("sandboxes could not be tried")?;
        let (clock, tasks) = (Clock::system(), Tasks::new());
        let keys = Arc::new(keys);
        keys.follow(&tasks);
        let listener = accept::listen(config.listen)
            .with_context(|| format!("--listen: can't listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let mut never = vec![Target::from(address)];
        if let Some((host, port)) = options.database_address()? {
            never.extend(NonZeroU16::new(port).and_then(|port| Target::new(&host, port)));
        }
        let options = BranchOptions {
            folder: branches_folder,
            local_git: config.allow_local_git.clone(),
            max_document_bytes: config.max_document_bytes,
            max_branch_bytes: config.max_branch_bytes,
            owners: Owners::new(standing.ids),
            egress: Arc::new(egress::Options {
                reach: config.session_network,
                allow: config.session_network_allow.clone(),
                never,
            }),
            audit: audit::Bounds { entries: config.audit_entries, days: config.audit_days },
        };
        let branches = Branches::new(options, store.clone(), clock.clone(), tasks.clone());
        branches.mend().await?;
        let agents = agents(&config, standing, &data, &tasks);
        let owner = config.owner_token.as_ref().map(|token| token_hash(token.expose_secret()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (mut link, mut first_token) = (None, None);
        if owner.is_none() {
            let base = match &config.public_url {
                Some(url) => url.as_str().trim_end_matches('/').to_owned(),
                None => format!("{scheme}://{}", reachable(address)),
            };
            first_token = first_owner_token(&store, &clock).await?;
            let token = link_token(&store, &clock).await?;
            link = Some(format!("{base}/#token={}", token.expose_secret()));
        } else {
            end_link_token(&store).await?;
        }
        let limits = Limits::new(Bounds {
            per_address: config.rate_per_address,
            per_token: config.rate_per_token,
            requests: usize::try_from(config.max_requests)?,
            branch_requests: usize::try_from(config.max_branch_requests)?,
        });
        let site = Site {
            public_url: config.public_url.clone(),
            allowed_origins: config.allowed_origins.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            metrics_open: config.metrics_open,
            preview_domain: domain,
            limits: limits.clone(),
            messages: Budgets::new(config.max_branch_socket_bytes, config.max_socket_bytes),
        };
        let state = AppState::new(store.clone(), branches, agents, keys, clock, site, owner);
        let options = compat::Options {
            template: config.sdk_template.clone(),
            template_ids: config.sdk_template_ids.clone(),
        };
        let sdk = Compat::open(state.clone(), options).await?;
        let door = accept::Door {
            app: router(state, compat::router(sdk)),
            tls: tls.clone(),
            idle: config.idle(),
            max_connections: usize::try_from(config.max_connections)?,
            per_address: accept::PerAddress::new(
                usize::try_from(config.max_connections_per_address)?,
                config.trusted_proxies.clone(),
            ),
            tasks: tasks.clone(),
        };
        tasks.spawn(accept::serve(listener, door));
        every(&tasks, UPKEEP_EVERY, move || {
            limits.upkeep();
            async { crate::http::upkeep() }
        });
        let watched = store.clone();
        every(&tasks, store::LOCK_CHECKED_EVERY, move || {
            let store = watched.clone();
            async move { store.check_lock().await }
        });
        info!("listening on {scheme}://{address}, data in {}, {}", data.display(), store.kind());
        Ok(Self { address, link, first_token, tasks, store, tls, _lock: lock })
    }

    /// Reads the TLS files again; when they can't be used, the old ones stay.
    pub fn reload(&self) {
        match self.tls.as_ref().map(Tls::reload) {
            None => {}
            Some(Ok(())) => info!("the TLS files were read again"),
            Some(Err(error)) => tracing::error!("the old TLS certificate stays in use: {error:#}"),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A link that opens the page signed in, unless the owner token was given.
    #[must_use]
    pub fn link(&self) -> Option<&str> {
        self.link.as_deref()
    }

    /// The owner token, if this is the first start and none was given: shown this once.
    #[must_use]
    pub fn first_token(&self) -> Option<&SecretString> {
        self.first_token.as_ref()
    }

    /// Stops: no new connections, documents to disk, then the database.
    pub async fn stop(self) {
        info!("stopping");
        if !self.tasks.shutdown(STOP_WITHIN).await {
            warn!(tasks = self.tasks.len(), "some tasks did not end in time; their logs are durable");
        }
        if tokio::time::timeout(CLOSE_WITHIN, self.store.close()).await.is_err() {
            warn!("the database did not let go in time; what was acknowledged is durable");
        }
    }
}

/// What sessions' processes get, and what the log says of it.
fn agents(config: &Config, standing: Standing, data: &Path, tasks: &Tasks) -> Agents {
    match (&standing.refused, standing.level) {
        (Some(reason), _) => warn!("sessions have no terminals and commands on this machine: {reason}"),
        (None, Level::None) => {
            warn!("--isolation=none: sessions' processes are not kept apart from anything");
        }
        (None, level) => info!("isolation of sessions: {level:?}"),
    }
    let cgroups = if standing.level == Level::None || standing.refused.is_some() {
        Cgroups::default()
    } else {
        // One perch per data folder: its groups are its own.
        Cgroups::find(&format!("perch-{:x}", short(data)))
    };
    if let Some(reason) = cgroups.why_not() {
        warn!("the sum of a session's memory is watched by perch, not by the kernel: {reason}");
    }
    let options = AgentOptions {
        standing,
        cgroups,
        limits: config.session_limits(),
        branch_limits: config.branch_limits(),
        max_branch_bytes: config.max_branch_bytes,
        image: config.session_image.clone(),
        trusts_first_ssh: config.git_ssh_trust_first_use,
    };
    Agents::new(options, tasks.clone())
}

/// The folder of the machine's image that the data folder lies in, if it does.
pub(crate) fn shown_to_sessions(data: &Path, image: &[PathBuf]) -> Option<PathBuf> {
    let data = data.canonicalize().ok()?;
    let shown = ["/usr", "/opt"].into_iter().map(PathBuf::from).chain(image.iter().cloned());
    shown.into_iter().find(|folder| folder.canonicalize().is_ok_and(|real| data.starts_with(real)))
}

/// A short name for a folder.
fn short(folder: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher);
    hasher.finish()
}

/// Takes the data folder for this process, as long as the answer is held.
///
/// # Errors
/// When another perch has it, or it can't be written.
pub(crate) async fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("--data: can't write {}", path.display()))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if began.elapsed() < LOCK_WITHIN => {
                tokio::time::sleep(TRY_EVERY / 10).await;
            }
            Err(fs::TryLockError::WouldBlock) => anyhow::bail!(
                "another perch uses the data folder {}; stop it or give --data another folder",
                data.display()
            ),
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).context("--data: can't lock the data folder");
            }
        }
    }
}

/// Opens the database; one that is away, or still held by a perch that was killed, is tried again for a while.
async fn open_store(options: &store::Options) -> Result<Store, StoreError> {
    let began = Instant::now();
    let mut is_told = false;
    loop {
        let error = match Store::open(options).await {
            Ok(store) => return Ok(store),
            Err(error) => error,
        };
        let patience = match &error {
            StoreError::Unavailable(_) if options.database_url.is_some() => DATABASE_WITHIN,
            StoreError::InUse => LOCK_WITHIN,
            _ => Duration::ZERO,
        };
        if began.elapsed() >= patience {
            return Err(error);
        }
        if !std::mem::replace(&mut is_told, true) {
            warn!("{error}; trying again for {} s", patience.as_secs());
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Repeats something until perch stops.
fn every<F>(tasks: &Tasks, pause: Duration, work: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    let stop = tasks.stopping().clone();
    tasks.spawn(async move {
        let mut tick = tokio::time::interval(pause);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = tick.tick() => work().await,
            }
        }
    });
}

/// Each connection, watched folder and open file takes one; what services start with is often 1,024.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files could not be raised");
    }
}

/// An address that a browser on this machine can open.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback: IpAddr =
        if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let ip = if address.ip().is_unspecified() { loopback } else { address.ip() };
    SocketAddr::new(ip, address.port())
}
