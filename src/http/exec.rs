//! Commands in a session's sandbox, their output streamed.

use super::branches::body;
use super::place::On;
use super::{ApiError, AppState};
use crate::agent::{Event, Exit, Process, Start, Stream};
use crate::base::{SessionId, whole_characters as whole_length};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Milliseconds that a command may take if nothing is said, and at most.
const TIMEOUT_MS: (u64, u64) = (3_600_000, 86_400_000);
/// How long documents may take to reach the disk before a command starts.
const BARRIER: Duration = Duration::from_secs(5);
/// Bytes of an environment.
const MAX_ENVIRONMENT: usize = 64 * 1024;
/// Bytes of arguments, environment and shell line together; the kernel's own bound is 2 MiB.
const MAX_COMMAND: usize = 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(exec))
}

/// A command. It is never logged.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    /// Program and arguments; or `shell`.
    argv: Option<Vec<String>>,
    /// A line for `bash`.
    shell: Option<String>,
    /// Where it runs: beneath the branch's files, or absolute as the session sees it; the branch's root without it.
    cwd: Option<String>,
    /// Its environment, besides the session's.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// What it reads; nothing without it.
    stdin: Option<String>,
    /// Milliseconds until it is ended, 1 to 86,400,000; an hour without it.
    timeout_ms: Option<u64>,
    /// Whether it reaches what is private to the session: `~/.private`, the variables given with the session, the session's other
    /// processes. `false` for programs that are not to be trusted with that (kernels before 5.13 hold none of it back).
    #[serde(default = "yes")]
    private: bool,
    /// `utf8` (the default; what is no UTF-8 is replaced, characters are never cut) or `base64`.
    #[serde(default)]
    output: Output,
    /// Whose command it is; needed with an API token.
    session: Option<SessionId>,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Output {
    #[default]
    Utf8,
    Base64,
}

impl Command {
    fn start(&self) -> Result<Start, ApiError> {
        let argv = match (&self.argv, &self.shell) {
            (Some(argv), None) if !argv.is_empty() => argv.clone(),
            (None, Some(line)) => vec!["/bin/bash".into(), "-c".into(), line.clone()],
            _ => return Err(ApiError::bad_request("give `argv`, with a program at least, or `shell`")),
        };
        let has_nul = |text: &String| text.contains('\0');
        if argv.iter().any(has_nul) || self.cwd.iter().any(has_nul) {
            return Err(ApiError::bad_request("a command holds no NUL"));
        }
        check_environment(&self.env)?;
        let env: Vec<(String, String)> = self.env.clone().into_iter().collect();
        let length: usize = argv.iter().map(String::len).sum::<usize>()
            + env.iter().map(|(a, b)| a.len() + b.len()).sum::<usize>();
        if length > MAX_COMMAND {
            return Err(ApiError::bad_request(
                "a command and its environment have at most 1 MiB; use `stdin` or a file",
            ));
        }
        Ok(Start { argv, cwd: self.cwd.clone(), env, terminal: None, is_trusted: self.private })
    }
}

/// Refuses what can be no environment.
pub(super) fn check_environment(env: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let is_bad = |(name, value): (&String, &String)| {
        name.is_empty() || name.contains('=') || name.contains('\0') || value.contains('\0')
    };
    if env.iter().any(is_bad) {
        return Err(ApiError::bad_request(
            "a variable's name is not empty and holds no `=`; neither it nor its value holds a NUL",
        ));
    }
    if env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_ENVIRONMENT {
        return Err(ApiError::bad_request("an environment has at most 64 KiB"));
    }
    Ok(())
}

/// Run a command in the session's sandbox, with all that was typed on disk. The answer is a stream of JSON lines,
/// `{"stdout": …}`, `{"stderr": …}`, and last `{"exit": {"code": 0}}`, `{"exit": {"signal": 9}}`,
/// `{"exit": {"timed_out": true}}` or `{"exit": {"lost": true}}` (the session was ended or changed). Hanging up ends the
/// command and all that came of it.
#[utoipa::path(post, path = "/v1/branches/{branch}/exec", tag = "sessions",
    params(("branch" = String, Path)), request_body = Command,
    responses((status = OK, description = "its output", content_type = "application/x-ndjson"),
        (status = FORBIDDEN, description = "a session that can only read runs nothing"),
        (status = UNPROCESSABLE_ENTITY, description = "`command_refused`: it can't be started"),
        (status = TOO_MANY_REQUESTS, description = "`too_many_commands`: 64 are under way"),
        (status = SERVICE_UNAVAILABLE, description = "`isolation_unavailable`: the machine refuses sandboxes")))]
async fn exec(on: On, request: Result<Json<Command>, JsonRejection>) -> Result<Response, ApiError> {
    let command = body(request)?;
    let start = command.start()?;
    let timeout = command.timeout_ms.unwrap_or(TIMEOUT_MS.0);
    if !(1..=TIMEOUT_MS.1).contains(&timeout) {
        return Err(ApiError::bad_request("`timeout_ms` is 1 to 86400000"));
    }
    let agent = on.agent(command.session.as_ref(), true).await?;
    on.hub.barrier(BARRIER).await?;
    let process = agent.run(start).await?;
    let input = process.input();
    let stdin = command.stdin.clone().unwrap_or_default();
    on.spawn(async move {
        if input.write(stdin.as_bytes()).await.is_ok() {
            let _ = input.close().await;
        }
    });
    let until = Instant::now() + Duration::from_millis(timeout);
    let running =
        Running { process, output: command.output, tails: [Vec::new(), Vec::new()], until, is_over: false };
    let lines = futures_util::stream::unfold(running, |mut running| async move {
        let lines = running.next().await?;
        Some((Ok::<_, std::convert::Infallible>(lines), running))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

struct Running {
    process: Process,
    output: Output,
    /// Of each stream, a character that has not come whole yet.
    tails: [Vec<u8>; 2],
    until: Instant,
    is_over: bool,
}

fn line(name: &str, value: impl Into<Value>) -> Vec<u8> {
    let mut line = json!({ name: value.into() }).to_string().into_bytes();
    line.push(b'\n');
    line
}

impl Running {
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        loop {
            let event = tokio::select! {
                event = self.process.next() => Some(event),
                () = tokio::time::sleep_until(self.until) => None,
            };
            let end = match event {
                Some(Event::Output(stream, bytes)) => {
                    let text = self.text(stream, &bytes);
                    if text.is_empty() {
                        continue;
                    }
                    return Some(line(name(stream), text).into());
                }
                Some(Event::Exited(Exit::Code(code))) => json!({ "code": code }),
                Some(Event::Exited(Exit::Signal(signal))) => json!({ "signal": signal }),
                Some(Event::Exited(Exit::Lost)) => json!({ "lost": true }),
                None => {
                    let _ = self.process.input().kill().await;
                    json!({ "timed_out": true })
                }
            };
            self.is_over = true;
            let mut lines = Vec::new();
            for stream in [Stream::Stdout, Stream::Stderr] {
                let tail = std::mem::take(&mut self.tails[usize::from(stream == Stream::Stderr)]);
                if !tail.is_empty() {
                    lines.extend(line(name(stream), String::from_utf8_lossy(&tail).into_owned()));
                }
            }
            lines.extend(line("exit", end));
            return Some(lines.into());
        }
    }

    fn text(&mut self, stream: Stream, bytes: &[u8]) -> String {
        match self.output {
            Output::Base64 => STANDARD.encode(bytes),
            Output::Utf8 => whole_characters(&mut self.tails[usize::from(stream == Stream::Stderr)], bytes),
        }
    }
}

fn name(stream: Stream) -> &'static str {
    if stream == Stream::Stdout { "stdout" } else { "stderr" }
}

/// The text up to the last whole character; the rest waits in `tail`. What can be no character is replaced.
fn whole_characters(tail: &mut Vec<u8>, bytes: &[u8]) -> String {
    tail.extend_from_slice(bytes);
    let rest = tail.split_off(whole_length(tail));
    let text = String::from_utf8_lossy(tail).into_owned();
    *tail = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn characters_are_never_cut(text in "\\PC{0,40}", cuts in proptest::collection::vec(0usize..200, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let (mut tail, mut told, mut from) = (Vec::new(), String::new(), 0);
            for cut in cuts {
                told.push_str(&whole_characters(&mut tail, &bytes[from..cut]));
                from = cut;
            }
            proptest::prop_assert_eq!(told, text);
            proptest::prop_assert!(tail.is_empty());
        }
    }

    #[test]
    fn what_can_be_no_character_does_not_wait() {
        let mut tail = Vec::new();
        assert_eq!(whole_characters(&mut tail, b"a\xffb"), "a\u{fffd}b");
        assert_eq!(whole_characters(&mut tail, b"\xe2\x82"), "");
        assert_eq!(whole_characters(&mut tail, b"x"), "\u{fffd}x");
    }
}
