//! Builds everything once, owns the tasks, stops in order.

use crate::base::{Clock, Tasks};
use crate::branch::{BranchOptions, Branches};
use crate::config::Config;
use crate::http::{AppState, Site, router};
use crate::session::{Keys, first_owner_token, link_token, token_hash};
use crate::store::{self, Store};
use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long documents may take to reach the disk when perch stops.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A running perch.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    link: Option<String>,
    first_token: Option<SecretString>,
    tasks: Tasks,
    store: Store,
    /// Held as long as this perch owns the data folder; the kernel lets it go however perch ends.
    _lock: File,
}

impl Server {
    /// Starts on the configured address; when it returns, requests are answered.
    ///
    /// # Errors
    /// Says what is in the way: the folder, another perch, the database, the address.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let data = config.data_folder()?;
        let branches_folder = data.join("branches");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&branches_folder)
            .with_context(|| format!("can't make the data folder {}", data.display()))?;
        let lock = lock(&data)?;
        let options = store::Options { database_url: config.database_url.clone(), data: data.clone() };
        let store = Store::open(&options).await.context("can't open the database")?;
        let keys = Keys::load(&data.join("keys.json"))?;
        let (clock, tasks) = (Clock::system(), Tasks::new());
        let keys = Arc::new(keys);
        keys.follow(&tasks);
        let options = BranchOptions {
            folder: branches_folder,
            local_git: config.allow_local_git.clone(),
            max_document_bytes: config.max_document_bytes,
            max_branch_bytes: config.max_branch_bytes,
        };
        let branches = Branches::new(options, store.clone(), clock.clone(), tasks.clone());
        branches.mend().await?;
        let listener = tokio::net::TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("can't listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let owner = config.owner_token.as_ref().map(|token| token_hash(token.expose_secret()));
        let (mut link, mut first_token) = (None, None);
        if owner.is_none() {
            first_token = first_owner_token(&store, &clock).await?;
            let token = link_token(&store, &clock).await?;
            link = Some(format!("http://{address}/#token={}", token.expose_secret()));
        }
        let site = Site { public_url: config.public_url, allowed_origins: config.allowed_origins };
        let state = AppState::new(store.clone(), branches, keys, clock, site, owner, tasks.clone());
        let app = router(state);
        let stop = tasks.stopping().clone();
        tasks.spawn(async move {
            use axum::serve::ListenerExt;
            let listener = listener.tap_io(|stream| {
                // Keystrokes are small; waiting to gather them costs tens of milliseconds.
                let _ = stream.set_nodelay(true);
            });
            let serve = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = serve.await {
                warn!(%error, "the listener ended");
            }
        });
        info!("listening on http://{address}, data in {}, {}", data.display(), store.kind());
        Ok(Self { address, link, first_token, tasks, store, _lock: lock })
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
        self.store.close().await;
    }
}

fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("can't write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            anyhow::bail!("another perch uses the data folder {}; stop it or give --data", data.display())
        }
        Err(fs::TryLockError::Error(error)) => Err(error).context("can't lock the data folder"),
    }
}
