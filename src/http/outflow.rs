//! Large answers on their way to slow clients: together they hold a bounded part of perch's memory, and none for ever.

use super::ApiError;
use crate::base::Tasks;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Answers of fewer bytes are not counted: the bound on connections holds them.
const LARGE: u64 = 256 * 1024;
/// KiB of all larger ones that are under way; one that would pass it is answered with 503 `busy`.
const UNDER_WAY: u32 = 512 * 1024;
/// Bytes that are handed to a connection at once.
const CHUNK: usize = 64 * 1024;
/// A client that takes nothing for this long is given up.
const STALLED: Duration = Duration::from_secs(30);

/// What large answers may hold.
#[derive(Clone, Debug)]
pub(super) struct Outflow {
    /// A permit for each KiB.
    room: Arc<Semaphore>,
    stalled: Duration,
    tasks: Tasks,
}

impl Outflow {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { room: Arc::new(Semaphore::new(UNDER_WAY as usize)), stalled: STALLED, tasks }
    }
}

pub(super) async fn bounded(State(outflow): State<Outflow>, request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    // Without a known length it is a stream, which brings its own bound.
    let Some(len_bytes) = answer.body().size_hint().exact().filter(|len| *len >= LARGE) else {
        return answer;
    };
    // One that alone has more takes all of it.
    let kib = u32::try_from(len_bytes / 1024).unwrap_or(u32::MAX).min(UNDER_WAY);
    let Ok(place) = Arc::clone(&outflow.room).try_acquire_many_owned(kib) else {
        let detail = "too many large files are on their way to slow clients; try again";
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).into_response();
    };
    let (mut parts, body) = answer.into_parts();
    // It is there already, in one piece.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        let detail = "something went wrong in perch";
        return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response();
    };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len_bytes));
    Response::from_parts(parts, Body::from_stream(feed(bytes, place, &outflow)))
}

/// Hands bytes on as they are taken. Ended early, the answer is shorter than it says, and its connection is cut.
fn feed(
    mut bytes: Bytes,
    place: OwnedSemaphorePermit,
    outflow: &Outflow,
) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let (sender, chunks) = mpsc::channel(1);
    let stalled = outflow.stalled;
    outflow.tasks.spawn(async move {
        let _place = place;
        while !bytes.is_empty() {
            let chunk = bytes.split_to(CHUNK.min(bytes.len()));
            match tokio::time::timeout(stalled, sender.send(chunk)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    });
    stream::unfold(chunks, async |mut chunks| chunks.recv().await.map(|chunk| (Ok(chunk), chunks)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use futures_util::StreamExt;
    use tower::ServiceExt;

    const LEN: usize = 1024 * 1024;

    async fn ask(outflow: &Outflow, method: &str) -> Response {
        let router: Router = Router::new()
            .route("/", get(async || vec![7_u8; LEN]))
            .layer(from_fn_with_state(outflow.clone(), bounded));
        router.oneshot(Request::builder().method(method).body(Body::empty()).unwrap()).await.unwrap()
    }

    fn outflow(stalled: Duration) -> Outflow {
        Outflow { room: Arc::new(Semaphore::new(LEN / 1024)), stalled, tasks: Tasks::default() }
    }

    #[tokio::test]
    async fn large_answers_share_their_room() {
        let outflow = outflow(STALLED);
        let first = ask(&outflow, "GET").await;
        assert_eq!(first.headers()[header::CONTENT_LENGTH], LEN.to_string());
        assert_eq!(ask(&outflow, "GET").await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(to_bytes(first.into_body(), LEN).await.unwrap(), vec![7_u8; LEN]);
        // Who hangs up gives it back, and so does who asks for no body.
        for method in ["GET", "HEAD", "GET"] {
            while outflow.room.available_permits() == 0 {
                tokio::task::yield_now().await;
            }
            let answer = ask(&outflow, method).await;
            assert_eq!(answer.headers()[header::CONTENT_LENGTH], LEN.to_string());
        }
    }

    #[tokio::test]
    async fn a_stalled_client_is_given_up() {
        let outflow = outflow(Duration::from_millis(50));
        let stalled = ask(&outflow, "GET").await;
        while outflow.room.available_permits() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let rest = stalled.into_body().into_data_stream().map(|chunk| chunk.unwrap().len());
        let rest: usize = rest.fold(0, async |sum, len| sum + len).await;
        assert!(rest < LEN, "it is seen to be cut");
        assert_eq!(ask(&outflow, "GET").await.status(), StatusCode::OK, "there is room again");
    }
}
