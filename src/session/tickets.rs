//! Tickets to previews. A preview lies on a site of its own, which holds no token: a session asks for a ticket, the browser
//! takes it there in the URL and gets a cookie for it. What stands in a URL may be seen by others, so a ticket is good
//! once and for seconds. They are kept in memory: a restart makes them void.

use super::keys::Pass;
use super::secret::{new_secret, token_hash};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a ticket is good.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// Tickets at once.
const MOST: usize = 10_000;

#[derive(Debug)]
struct Ticket {
    pass: Pass,
    until: Instant,
}

/// See the module's docs.
#[derive(Debug, Default)]
pub struct Tickets {
    /// By the hash of the secret.
    held: Mutex<HashMap<Vec<u8>, Ticket>>,
}

impl Tickets {
    /// A ticket for a pass. `None` when 10,000 are out; they end within seconds.
    #[must_use]
    pub fn issue(&self, pass: Pass) -> Option<SecretString> {
        let secret = new_secret("pt");
        let now = Instant::now();
        let mut held = self.held.lock();
        if held.len() >= MOST {
            held.retain(|_, ticket| ticket.until > now);
        }
        if held.len() >= MOST {
            return None;
        }
        held.insert(token_hash(secret.expose_secret()), Ticket { pass, until: now + GOOD_FOR });
        Some(secret)
    }

    /// The pass of a ticket, given once.
    #[must_use]
    pub fn take(&self, secret: &str) -> Option<Pass> {
        let ticket = self.held.lock().remove(&token_hash(secret))?;
        (ticket.until > Instant::now()).then_some(ticket.pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BranchId;

    #[test]
    fn a_ticket_is_good_once_and_not_for_ever() {
        let tickets = Tickets::default();
        let pass = Pass {
            branch: BranchId::generate(),
            port: 3000.try_into().unwrap(),
            session: "ann".parse().unwrap(),
            epoch: 1,
        };
        let ticket = tickets.issue(pass.clone()).unwrap();
        assert_eq!(tickets.take(ticket.expose_secret()), Some(pass.clone()));
        assert_eq!(tickets.take(ticket.expose_secret()), None);
        assert_eq!(tickets.take("pt_made-up"), None);
        let late = tickets.issue(pass.clone()).unwrap();
        tickets.held.lock().values_mut().for_each(|ticket| ticket.until = Instant::now());
        assert_eq!(tickets.take(late.expose_secret()), None);
        for _ in 0..MOST {
            assert!(tickets.issue(pass.clone()).is_some());
        }
        assert!(tickets.issue(pass.clone()).is_none(), "all are still good");
        tickets.held.lock().values_mut().take(1).for_each(|ticket| ticket.until = Instant::now());
        assert!(tickets.issue(pass).is_some(), "what is void makes room");
    }
}
