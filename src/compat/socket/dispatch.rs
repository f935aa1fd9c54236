//! From a frame to a method and its answer.

use super::client::Client;
use super::codec;
use super::fault::{Fault, code};
use super::turns::Order;
use crate::base::Permission;
use crate::compat::methods;
use bytes::Bytes;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

/// Requests of one client under way; past it its socket is not read.
pub(super) const MAX_REQUESTS: usize = 64;

/// What a request is answered with, once it went well.
pub(in crate::compat) struct Answer {
    /// Encoded.
    result: Vec<u8>,
    holds: bool,
    in_line: bool,
    then: Option<Box<dyn FnOnce() + Send>>,
}

/// What becomes of a request.
pub(in crate::compat) type Answered = Result<Answer, Fault>;

impl Answer {
    /// With a result.
    pub(in crate::compat) fn of(result: &impl Serialize) -> Answered {
        let result = codec::encode(result).map_err(|error| Fault::internal(&error))?;
        Ok(Self { result, holds: false, in_line: false, then: None })
    }

    /// With `nil`.
    pub(in crate::compat) fn nil() -> Answered {
        Self::of(&())
    }

    /// With `{}`.
    pub(in crate::compat) fn empty() -> Answered {
        Self::of(&serde_json::json!({}))
    }

    /// What this client is notified of from here on waits until it has read the answer.
    #[must_use]
    pub(in crate::compat) fn holding(self) -> Self {
        Self { holds: true, ..self }
    }

    /// Stays behind what was notified before it, even if that is held back.
    #[must_use]
    pub(in crate::compat) fn in_line(self) -> Self {
        Self { in_line: true, ..self }
    }

    /// Does something once the answer, and the barrier if it holds, is on its way: what it notifies comes after it.
    #[must_use]
    pub(in crate::compat) fn then(self, work: impl FnOnce() + Send + 'static) -> Self {
        Self { then: Some(Box::new(work)), ..self }
    }
}

/// Does what a request asks for; `Bytes` are its params, see [`super::parse`].
pub(in crate::compat) type Run = fn(Arc<Client>, Bytes) -> Pin<Box<dyn Future<Output = Answered> + Send>>;

/// One line of the table of methods.
pub(in crate::compat) struct Method {
    pub(in crate::compat) name: &'static str,
    /// The right that it needs, looked at before anything else.
    pub(in crate::compat) needs: Permission,
    pub(in crate::compat) order: Order,
    pub(in crate::compat) run: Run,
}

/// Places of a request among those of its client and of its branch.
struct Place {
    _client: OwnedSemaphorePermit,
    _branch: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// What a client has under way.
pub(super) struct UnderWay(Arc<Semaphore>);

impl Default for UnderWay {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_REQUESTS)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfShell {
    shell_id: String,
}

/// Takes a frame in: finds its method, looks whether the client may, and gives it a task of its own. Waits while too much
/// is under way.
pub(super) async fn take(client: &Arc<Client>, frame: Bytes) {
    let request = match codec::request(&frame) {
        Ok(request) => request,
        Err((malformed, id)) => {
            metrics::counter!("perch_frames_refused_total", "protocol" => "sdk").increment(1);
            let fault = Fault::new(code::CRITICAL, format!("the frame is refused: {malformed}"));
            return refuse(client, id, "", &fault);
        }
    };
    let (id, name) = (request.id, request.method);
    let method = match allowed(client, name) {
        Ok(method) => method,
        Err(fault) => return refuse(client, Some(id), name, &fault),
    };
    client.life.active();
    let params = frame.slice(request.params);
    let shell = match method.order {
        Order::Shell => codec::params::<OfShell>(&params).ok().map(|of| of.shell_id),
        _ => None,
    };
    let Some(place) = place(client, frame.len()).await else { return };
    let turn = client.turns.queue(method.order, shell).await;
    let client = Arc::clone(client);
    let tasks = client.app().tasks.clone();
    let work = async move {
        let turn = turn.await;
        let outcome = AssertUnwindSafe((method.run)(Arc::clone(&client), params)).catch_unwind().await;
        let answered = outcome.unwrap_or_else(|_| Err(Fault::internal(&format!("{} panicked", method.name))));
        match answered {
            Ok(Answer { result, in_line: true, then, .. }) => {
                client.out.in_line(codec::success(id, method.name, &result).into());
                if let Some(then) = then {
                    then();
                }
            }
            Ok(Answer { result, holds, then, .. }) => {
                client.out.answer(codec::success(id, method.name, &result), holds);
                if let Some(then) = then {
                    then();
                }
            }
            Err(fault) if method.name.starts_with("fs/") => {
                refuse(&client, Some(id), method.name, &fault.of_fs());
            }
            Err(fault) => refuse(&client, Some(id), method.name, &fault),
        }
        drop((turn, place));
    };
    tasks.spawn(work.in_current_span());
}

/// The method of a name, if the client may ask for it now.
fn allowed(client: &Client, name: &str) -> Result<&'static Method, Fault> {
    // Refusals repeat what was asked for; not more of it than says something.
    let shown: String = name.chars().take(80).collect();
    let method = methods::find(name)
        .ok_or_else(|| Fault::new(code::UNAVAILABLE, format!("`{shown}` is not offered here")))?;
    if !client.has_joined() && name != "client/join" {
        return Err(Fault::new(code::CRITICAL, "the first request of a connection is `client/join`"));
    }
    if method.needs == Permission::Write {
        client.writer()?;
    }
    Ok(method)
}

async fn place(client: &Client, len_bytes: usize) -> Option<Place> {
    let kib = u32::try_from(len_bytes / 1024 + 1).unwrap_or(u32::MAX);
    let room = client.room();
    // None of the three is ever closed.
    Some(Place {
        _client: Arc::clone(&client.under_way.0).acquire_owned().await.ok()?,
        _branch: Arc::clone(&room.requests).acquire_owned().await.ok()?,
        _bytes: Arc::clone(&room.request_kib).acquire_many_owned(kib).await.ok()?,
    })
}

fn refuse(client: &Client, id: Option<u64>, name: &str, fault: &Fault) {
    // Numbers and texts always encode.
    let error = codec::encode(fault).unwrap_or_default();
    let name: String = name.chars().take(80).collect();
    client.out.answer(codec::failure(id, &name, &error), false);
}
