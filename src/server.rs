//! Builds everything once, owns the tasks, stops in order.

use crate::base::{Clock, Tasks, TokenId};
use crate::branch::Branches;
use crate::config::Config;
use crate::http::{AppState, Site, router, token_hash};
use crate::session::Keys;
use crate::store::{self, ApiToken, Store};
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long documents may take to reach the disk when perch stops.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// The token behind the link that each start prints; the last start's is revoked.
const LINK_TOKEN: &str = "link printed at start";

/// A running perch.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    link: Option<String>,
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
        let branches = Branches::new(
            branches_folder,
            config.allow_local_git.clone(),
            store.clone(),
            clock.clone(),
            tasks.clone(),
            config.max_document_bytes,
        );
        branches.mend().await?;
        let listener = tokio::net::TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("can't listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let owner = config.owner_token.as_ref().map(|token| token_hash(token.expose_secret()));
        let link = if owner.is_none() { Some(make_link(&store, &clock, address).await?) } else { None };
        let site = Site { public_url: config.public_url, allowed_origins: config.allowed_origins };
        let state = AppState::new(store.clone(), branches, Arc::new(keys), clock, site, owner, tasks.clone());
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
        Ok(Self { address, link, tasks, store, _lock: lock })
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

async fn make_link(store: &Store, clock: &Clock, address: SocketAddr) -> anyhow::Result<String> {
    let now_ms = clock.now_ms();
    for old in store.tokens().await? {
        if old.name == LINK_TOKEN && old.revoked_at_ms.is_none() {
            store.revoke_token(&old.id, now_ms).await?;
        }
    }
    let secret = format!("perch_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let token = ApiToken {
        id: TokenId::generate(),
        name: LINK_TOKEN.to_owned(),
        hash: token_hash(&secret),
        is_owner: true,
        created_at_ms: now_ms,
        revoked_at_ms: None,
    };
    store.insert_token(&token).await?;
    Ok(format!("http://{address}/#token={secret}"))
}
