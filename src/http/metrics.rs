//! `GET /metrics` in Prometheus' text form. What is counted is counted where it happens, by the `metrics` macros.

use super::auth::Caller;
use super::{ApiError, AppState};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics::Unit::{self, Count, Seconds};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

/// From half a millisecond (a lone commit) to ten seconds (a client's patience).
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Appends in one group commit.
const SIZES: [f64; 7] = [1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 512.0];

/// The process has one recorder, however many servers run in it.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder if there is none yet; before it, what is counted is lost.
pub(super) fn recorder() -> Option<&'static PrometheusHandle> {
    RECORDER
        .get_or_init(|| {
            let handle = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
                .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_size".into()), &SIZES))
                .and_then(PrometheusBuilder::install_recorder)
                .inspect_err(|error| tracing::warn!(%error, "nothing is measured"))
                .ok()?;
            describe();
            Some(handle)
        })
        .as_ref()
}

fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    counter!("perch_http_requests_total", Count, "Requests by method, route template and status.");
    histogram!("perch_http_request_seconds", Seconds, "From a request's head to its answer's.");
    gauge!("perch_connections", Count, "Open connections, document sockets among them.");
    gauge!("perch_sockets", Count, "Open document sockets by protocol.");
    gauge!(
        "perch_socket_held_bytes",
        Unit::Bytes,
        "Held by messages of sockets that are not whole, past 64 KiB each."
    );
    gauge!("perch_documents", Count, "Open documents.");
    counter!("perch_frames_refused_total", Count, "Frames that were no valid message; each ends its socket.");
    histogram!("perch_log_group_size", Count, "Appends in one group commit.");
    histogram!("perch_log_commit_seconds", Seconds, "Time of one group commit.");
    gauge!("perch_database_stuck", Count, "1 while the database takes no edits, else 0.");
    counter!("perch_write_backs_total", Count, "Documents written to their files.");
    counter!("perch_write_back_failures_total", Count, "Tries to write a file that the disk refused.");
    gauge!("perch_sessions", Count, "Sessions that have a socket or stream open.");
    gauge!("perch_branches_open", Count, "Branches that are open.");
    gauge!("perch_agents", Count, "Sessions whose processes run.");
    gauge!("perch_log_waiting", Count, "Appends that wait for the database; past 1,024 documents wait.");
    gauge!("perch_audit_waiting", Count, "Entries of the audit log that wait; past 4,096 new ones are lost.");
    counter!("perch_audit_lost_total", Count, "Entries of the audit log that were lost.");
    histogram!("perch_log_append_seconds", Seconds, "From an edit's way to the log to its being durable.");
    histogram!("perch_write_back_lag_seconds", Seconds, "From an edit to its being in the file.");
    counter!("perch_socket_bytes_total", Unit::Bytes, "Bytes of frames on document sockets, by direction.");
    counter!("perch_requests_refused_total", Count, "Requests past a bound, by which it was.");
    counter!("perch_connections_refused_total", Count, "Connections past the bound of their address.");
    gauge!("perch_tasks", Count, "Tasks that run.");
    gauge!("perch_threads", Count, "Threads of perch.");
    gauge!("perch_open_files", Count, "Descriptors that perch has open.");
    gauge!("perch_resident_bytes", Unit::Bytes, "Memory of perch.");
    counter!("perch_git_commands_total", Count, "Processes of git that the API started, by command.");
    counter!("perch_outside_merges_total", Count, "Changes of files by others that were merged.");
}

/// Drains what has gathered; without it histograms of a server that nobody asks grow.
pub fn upkeep() {
    if let Some(recorder) = recorder() {
        recorder.run_upkeep();
    }
}

/// Figures that are read when they are asked for.
async fn look(state: &AppState) {
    use metrics::gauge;
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let (open, waiting) = state.branches.figures();
    gauge!("perch_branches_open").set(count(open));
    gauge!("perch_log_waiting").set(count(waiting));
    gauge!("perch_audit_waiting").set(count(state.audit.waiting()));
    gauge!("perch_agents").set(count(state.agents.count()));
    // KiB, since more bytes than 4 GiB may be allowed.
    gauge!("perch_socket_held_bytes").set(count(state.site.messages.held_bytes() / 1024) * 1024.0);
    gauge!("perch_tasks").set(count(tokio::runtime::Handle::current().metrics().num_alive_tasks()));
    let read = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse::<u32>().ok())
        };
        // One of them reads the folder.
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1));
        (field("Threads:"), field("VmRSS:"), files)
    };
    if let Ok((threads, resident_kib, files)) = tokio::task::spawn_blocking(read).await {
        gauge!("perch_threads").set(f64::from(threads.unwrap_or_default()));
        gauge!("perch_resident_bytes").set(f64::from(resident_kib.unwrap_or_default()) * 1024.0);
        gauge!("perch_open_files").set(count(files));
    }
}

/// Prometheus metrics. Needs an API token unless perch runs with `--metrics-open`.
#[utoipa::path(get, path = "/metrics", tag = "operating",
    responses((status = OK, description = "Prometheus' text form", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    if !state.site.metrics_open {
        let (mut parts, _) = request.into_parts();
        if !matches!(Caller::from_request_parts(&mut parts, &state).await?, Caller::Api { .. }) {
            return Err(ApiError::forbidden("this needs an API token"));
        }
    }
    look(&state).await;
    let recorder = recorder().ok_or_else(|| ApiError::unavailable("nothing is measured"))?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, recorder.render()).into_response())
}
