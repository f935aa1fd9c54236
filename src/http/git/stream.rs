//! Answers of commands that take long: JSON lines, as they come.

use crate::git::SaidLine;
use crate::http::ApiError;
use crate::http::audit::AtEnd;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::Pin;
use tokio::sync::mpsc;

/// Lines that wait for a client; past it they are dropped: each is outdated by the next.
const QUEUE: usize = 256;

/// Where a command tells how far it is.
#[derive(Clone)]
pub(super) struct Told(mpsc::Sender<SaidLine>);

impl Told {
    pub(super) fn tell(&self, line: SaidLine) {
        let _ = self.0.try_send(line);
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Value, ApiError>> + Send>>;

struct Stream {
    work: Work,
    lines: mpsc::Receiver<SaidLine>,
    is_over: bool,
    at_end: AtEnd,
}

/// Does the work while somebody reads of it: `{"progress": …}` and `{"remote": …}` as they come, last `{"done": …}` or
/// `{"error": …}`. A client that hangs up drops it.
pub(super) fn stream<F>(work: impl FnOnce(Told) -> F) -> Response
where
    F: Future<Output = Result<Value, ApiError>> + Send + 'static,
{
    let (told, lines) = mpsc::channel(QUEUE);
    let at_end = AtEnd::default();
    let stream = Stream { work: Box::pin(work(Told(told))), lines, is_over: false, at_end: at_end.clone() };
    let body = futures_util::stream::unfold(stream, |mut stream| async move {
        let lines = stream.next().await?;
        Some((Ok::<_, Infallible>(lines), stream))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    (headers, Extension(at_end), Body::from_stream(body)).into_response()
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let outcome = tokio::select! {
            biased;
            Some(line) = self.lines.recv() => return Some(text(&of(line)).into()),
            outcome = &mut self.work => outcome,
        };
        self.is_over = true;
        let mut lines = Vec::new();
        while let Ok(line) = self.lines.try_recv() {
            lines.extend(text(&of(line)));
        }
        lines.extend(text(&match outcome {
            Ok(done) => {
                let commit = done["commit"].as_str().or_else(|| done["to"].as_str());
                self.at_end.succeeded(commit.map(str::to_owned));
                json!({ "done": done })
            }
            Err(error) => json!({ "error": error.problem() }),
        }));
        Some(lines.into())
    }
}

fn of(line: SaidLine) -> Value {
    match line {
        SaidLine::Progress(progress) => json!({ "progress": progress }),
        SaidLine::Remote(text) => json!({ "remote": text }),
    }
}

fn text(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}
