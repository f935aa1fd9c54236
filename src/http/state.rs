//! What handlers share: handles, and how clients reach perch.

use super::{ApiError, Budgets, Limits};
use crate::audit::Audit;
use crate::base::{Clock, Tasks};
use crate::branch::Branches;
use crate::session::{Agents, Keys, Tickets};
use crate::store::Store;
use axum::http::{HeaderMap, header};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How clients reach perch.
#[derive(Clone, Debug)]
pub struct Site {
    /// The URL in front of perch, if it is not what clients ask for.
    pub public_url: Option<url::Url>,
    /// Other origins whose pages may use the API, open sockets and frame `/embed`.
    pub allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-…` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Whether `/metrics` needs no token.
    pub metrics_open: bool,
    /// The domain beneath which previews are.
    pub preview_domain: String,
    /// How often, and how many at once, may ask.
    pub limits: Limits,
    /// What messages of sockets may hold until they are whole.
    pub messages: Budgets,
}

impl Site {
    /// What a client puts before a route: `http://…` or `https://…`, without a slash at the end. `headers`: of the
    /// request that it asks with.
    pub(crate) fn base_url(&self, headers: &HeaderMap) -> Result<String, ApiError> {
        if let Some(url) = &self.public_url {
            return Ok(url.as_str().trim_end_matches('/').to_owned());
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.filter(|host| url::Url::parse(&format!("http://{host}/")).is_ok());
        let host = host.ok_or_else(|| ApiError::bad_request("the request has no valid Host"))?;
        // Set by the listener or a trusted proxy, see `client`.
        let is_tls = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
        Ok(format!("{}://{host}", if is_tls { "https" } else { "http" }))
    }
}

/// See the module's docs; cheap to clone: each layer of a request does.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Handles>);

impl Deref for AppState {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

/// What an [`AppState`] leads to.
#[derive(Debug)]
pub struct Handles {
    pub(crate) store: Store,
    pub(crate) branches: Branches,
    pub(crate) audit: Audit,
    pub(crate) agents: Agents,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Clock,
    pub(crate) site: Site,
    /// Hash of the owner token of the environment.
    pub(crate) owner: Option<Vec<u8>>,
    pub(crate) tasks: Tasks,
    pub(crate) tickets: Tickets,
    connections: AtomicU64,
}

impl AppState {
    /// Gathers the handles.
    #[must_use]
    pub fn new(
        store: Store,
        branches: Branches,
        agents: Agents,
        keys: Arc<Keys>,
        clock: Clock,
        site: Site,
        owner: Option<Vec<u8>>,
    ) -> Self {
        let tasks = agents.tasks().clone();
        Self(Arc::new(Handles {
            store,
            audit: branches.audit().clone(),
            branches,
            agents,
            keys,
            clock,
            site,
            owner,
            tasks,
            tickets: Tickets::default(),
            connections: AtomicU64::default(),
        }))
    }

    /// A number that no other connection of this process has.
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }
}
