//! Fairness: how often one address and one token may ask, and how many requests are answered at once. What is past it is
//! refused before anything is looked up, with `Retry-After`.
//!
//! This covers all routes of the listener, previews and those of other protocols too. A socket counts once, when it is
//! opened; an answer that goes on for long counts until it has begun.

use super::auth::bearer;
use super::client::ClientAddress;
use super::{ApiError, AppState};
use crate::base::BranchId;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use metrics::counter;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Addresses, or tokens, that are told apart. Those that have not asked for a while are forgotten; past the bound all are
/// counted together.
const MAX_KEYS: usize = 100_000;
/// Seconds' worth of requests that may come at once.
const BURST: u32 = 20;
/// What a request with a token that is not valid counts for.
const REFUSED_WORTH: u32 = 20;
/// Asked by machines that look whether perch is well; never refused.
const CHECKS: [&str; 2] = ["/healthz", "/readyz"];

/// How much is let through.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Requests per second of one address; 0 is no bound.
    pub per_address: u32,
    /// Requests per second with one token; 0 is no bound.
    pub per_token: u32,
    /// Requests answered at once.
    pub requests: usize,
    /// Requests on one branch answered at once.
    pub branch_requests: usize,
}

/// One bucket for each key, leaking evenly.
struct Rate<K: Hash + Eq + Clone> {
    buckets: DefaultKeyedRateLimiter<K>,
    others: K,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    /// `others`: what all are counted under when there are too many.
    fn new(per_second: u32, others: K) -> Option<Self> {
        let rate = NonZeroU32::new(per_second)?;
        let burst = rate.saturating_mul(NonZeroU32::new(BURST)?);
        Some(Self { buckets: RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst)), others })
    }

    /// Seconds to wait, if this one is too many.
    fn take(&self, key: K) -> Result<(), u64> {
        let key = if self.buckets.len() < MAX_KEYS { key } else { self.others.clone() };
        self.buckets.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            wait.as_secs() + 1
        })
    }
}

struct Inner {
    bounds: Bounds,
    addresses: Option<Rate<IpAddr>>,
    tokens: Option<Rate<u64>>,
    hasher: RandomState,
    requests: Semaphore,
    branches: Mutex<HashMap<BranchId, usize>>,
}

/// The counters; cheap to clone.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("bounds", &self.0.bounds).finish_non_exhaustive()
    }
}

/// A request on a branch that is being answered.
struct OnBranch<'a>(&'a Inner, BranchId);

impl Drop for OnBranch<'_> {
    fn drop(&mut self) {
        let mut branches = self.0.branches.lock();
        if let Some(count) = branches.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                branches.remove(&self.1);
            }
        }
    }
}

impl Limits {
    /// Nothing has been asked yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Inner {
            bounds,
            addresses: Rate::new(bounds.per_address, Ipv6Addr::UNSPECIFIED.into()),
            tokens: Rate::new(bounds.per_token, 0),
            hasher: RandomState::new(),
            requests: Semaphore::new(bounds.requests),
            branches: Mutex::default(),
        }))
    }

    /// Forgets addresses and tokens that have not asked for a while.
    pub fn upkeep(&self) {
        if let Some(addresses) = &self.0.addresses {
            addresses.buckets.retain_recent();
            addresses.buckets.shrink_to_fit();
        }
        if let Some(tokens) = &self.0.tokens {
            tokens.buckets.retain_recent();
            tokens.buckets.shrink_to_fit();
        }
    }

    fn rate(&self, address: Option<IpAddr>, headers: &HeaderMap) -> Result<(), ApiError> {
        let Inner { addresses, tokens, hasher, .. } = &*self.0;
        if let (Some(rate), Some(address)) = (addresses, address) {
            rate.take(address).map_err(|wait| too_fast("address", wait))?;
        }
        if let (Some(rate), Some(token)) = (tokens, bearer(headers)) {
            rate.take(hasher.hash_one(token)).map_err(|wait| too_fast("token", wait))?;
        }
        Ok(())
    }

    /// A token that is not valid costs a search of the database, and may be one of many that are tried.
    fn refused(&self, address: Option<IpAddr>) {
        if let (Some(rate), Some(address)) = (&self.0.addresses, address) {
            for _ in 1..REFUSED_WORTH {
                if rate.take(address).is_err() {
                    return;
                }
            }
        }
    }

    fn on_branch(&self, path: &str) -> Result<Option<OnBranch<'_>>, ApiError> {
        let Some(id) = path.strip_prefix("/v1/branches/").and_then(|rest| rest.split('/').next()) else {
            return Ok(None);
        };
        let Ok(id) = id.parse::<BranchId>() else { return Ok(None) };
        let mut branches = self.0.branches.lock();
        let count = branches.entry(id.clone()).or_default();
        if *count >= self.0.bounds.branch_requests {
            return Err(busy("branch", "too many requests on this branch are being answered"));
        }
        *count += 1;
        Ok(Some(OnBranch(&self.0, id)))
    }
}

fn too_fast(what: &'static str, wait: u64) -> ApiError {
    counter!("perch_requests_refused_total", "reason" => what).increment(1);
    let detail = format!("too many requests from this {what}; try again in {wait} s");
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail).retry_after(wait)
}

fn busy(reason: &'static str, detail: &str) -> ApiError {
    counter!("perch_requests_refused_total", "reason" => reason).increment(1);
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", format!("{detail}; try again"))
}

/// What an address is counted as: an IPv6 host has a whole /64. Programs of this machine, and a proxy that is not
/// trusted to name its clients, are not counted: they would stand for everybody.
fn counted(address: IpAddr) -> Option<IpAddr> {
    if address.is_loopback() {
        return None;
    }
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    })
}

/// The layer; the one that settles who asks is outside of it.
pub(super) async fn limited(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let limits = &state.site.limits;
    let path = request.uri().path();
    if CHECKS.contains(&path) {
        return next.run(request).await;
    }
    let address = request.extensions().get::<ClientAddress>().and_then(|client| counted(client.0));
    if let Err(error) = limits.rate(address, request.headers()) {
        return error.into_response();
    }
    let Ok(_turn) = limits.0.requests.try_acquire() else {
        return busy("requests", "too many requests are being answered").into_response();
    };
    let _on_branch = match limits.on_branch(path) {
        Ok(on_branch) => on_branch,
        Err(error) => return error.into_response(),
    };
    let response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        limits.refused(address);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderValue, header};

    fn bounds() -> Bounds {
        Bounds { per_address: 1, per_token: 2, requests: 1, branch_requests: 2 }
    }

    fn with(token: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[test]
    fn an_address_and_a_token_are_each_held_to_their_own() {
        let limits = Limits::new(bounds());
        let (one, other) = (Some(IpAddr::from([1, 1, 1, 1])), Some(IpAddr::from([2, 2, 2, 2])));
        let let_through = |address, headers: &HeaderMap| {
            // The bucket fills while it is emptied; never by as much as it holds.
            (0..u64::from(BURST) * 100).take_while(|_| limits.rate(address, headers).is_ok()).count()
        };
        let nobody = HeaderMap::new();
        assert!((20..1_000).contains(&let_through(one, &nobody)));
        assert!(limits.rate(other, &nobody).is_ok(), "others are not held up");
        assert!((40..2_000).contains(&let_through(None, &with("a"))));
        assert!(limits.rate(None, &with("b")).is_ok());
        let refused = limits.rate(None, &with("a"));
        if let Err(error) = refused {
            assert!(error.into_response().headers().contains_key(header::RETRY_AFTER));
        }
        limits.refused(other);
        assert!((0..2).any(|_| limits.rate(other, &nobody).is_err()), "a wrong token counts for many");
        let off = Limits::new(Bounds { per_address: 0, per_token: 0, ..bounds() });
        assert!((0..10_000).all(|_| off.rate(one, &with("a")).is_ok()));
    }

    #[test]
    fn a_branch_has_its_own_bound_and_nothing_is_kept_of_it() {
        let limits = Limits::new(bounds());
        let path = format!("/v1/branches/br_{}/tree", "0".repeat(32));
        let first = limits.on_branch(&path).unwrap();
        let second = limits.on_branch(&path).unwrap();
        assert!(limits.on_branch(&path).is_err());
        assert!(limits.on_branch(&path.replace('0', "1")).unwrap().is_some());
        drop((first, second));
        assert!(limits.on_branch(&path).unwrap().is_some());
        assert!(limits.0.branches.lock().is_empty());
    }

    #[test]
    fn an_ipv6_host_is_its_network_and_this_machine_is_not_counted() {
        let one: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        assert_eq!(counted(one), counted("2001:db8:1:2::9".parse().unwrap()));
        assert_ne!(counted(one), counted("2001:db8:1:3::9".parse().unwrap()));
        assert_eq!(counted("127.0.0.1".parse().unwrap()), None);
        assert_eq!(counted("::1".parse().unwrap()), None);
    }
}
