//! The audit log's entries for requests, and the routes by which it is read.
//!
//! What a request that succeeded did is told by its route, so a handler can't forget it; who did it is told by the
//! extractors that look at tokens. A handler adds what only it knows with [`Subject`].

use super::auth::{Caller, Owner};
use super::branches::{branch_id, query};
use super::client::ClientAddress;
use super::{ApiError, AppState};
use crate::audit::{By, Noted};
use crate::base::{AuditId, BranchId, Permission};
use crate::store::{AuditFilter, AuditRow};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, MatchedPath, Path, Query, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(all)).routes(routes!(of_branch))
}

/// What each changing route does. Not here: work on files, which documents' histories tell; commands and terminals.
const ACTIONS: [(&str, &str, &str); 33] = [
    ("POST", "/v1/branches", "branch.made"),
    ("PATCH", "/v1/branches/{branch}", "branch.changed"),
    ("DELETE", "/v1/branches/{branch}", "branch.deleted"),
    ("POST", "/v1/branches/{branch}/fork", "branch.forked"),
    ("POST", "/v1/branches/{branch}/sessions", "session.made"),
    ("PATCH", "/v1/branches/{branch}/sessions/{session}", "session.changed"),
    ("DELETE", "/v1/branches/{branch}/sessions/{session}", "session.ended"),
    ("POST", "/v1/branches/{branch}/sessions/{session}/revoke", "session.revoked"),
    ("POST", "/v1/branches/{branch}/sessions/{session}/token", "session.token_made"),
    ("PUT", "/v1/branches/{branch}/sessions/{session}/git-credentials", "session.credentials_set"),
    ("DELETE", "/v1/branches/{branch}/sessions/{session}/git-credentials", "session.credentials_removed"),
    ("POST", "/v1/branches/{branch}/links", "link.made"),
    ("DELETE", "/v1/branches/{branch}/links/{id}", "link.revoked"),
    ("POST", "/v1/links/{secret}/session", "link.opened"),
    ("POST", "/v1/branches/{branch}/downloads", "download.made"),
    ("POST", "/v1/tokens", "token.made"),
    ("DELETE", "/v1/tokens/{id}", "token.revoked"),
    ("POST", "/v1/branches/{branch}/history/{*path}", "file.restored"),
    ("POST", "/v1/branches/{branch}/deleted/{document}/restore", "file.restored"),
    ("POST", "/v1/branches/{branch}/git/commit", "git.committed"),
    ("POST", "/v1/branches/{branch}/git/push", "git.pushed"),
    ("POST", "/v1/branches/{branch}/git/pull", "git.pulled"),
    ("POST", "/v1/branches/{branch}/git/merge", "git.merged"),
    ("POST", "/v1/branches/{branch}/git/rebase", "git.rebased"),
    ("POST", "/v1/branches/{branch}/git/switch", "git.switched"),
    ("POST", "/v1/branches/{branch}/git/discard", "git.discarded"),
    ("POST", "/v1/branches/{branch}/git/branches", "git.branch_made"),
    ("DELETE", "/v1/branches/{branch}/git/branches/{*name}", "git.branch_deleted"),
    ("POST", "/v1/branches/{branch}/git/tags", "git.tag_made"),
    ("DELETE", "/v1/branches/{branch}/git/tags/{*name}", "git.tag_deleted"),
    ("PUT", "/v1/branches/{branch}/git/remotes/{name}", "git.remote_set"),
    ("DELETE", "/v1/branches/{branch}/git/remotes/{name}", "git.remote_removed"),
    ("POST", "/v1/branches/{branch}/git/restore-points/{name}/restore", "git.restored"),
];

/// The same of the SDK's routes.
const SDK_ACTIONS: [(&str, &str, &str); 12] = [
    ("POST", "/sandbox", "branch.made"),
    ("POST", "/templates", "branch.made"),
    ("POST", "/sandbox/{id}/fork", "branch.forked"),
    ("DELETE", "/vm/{id}", "branch.deleted"),
    ("POST", "/vm/{id}/start", "branch.started"),
    ("POST", "/vm/{id}/hibernate", "branch.hibernated"),
    ("POST", "/vm/{id}/shutdown", "branch.shut_down"),
    ("POST", "/vm/{id}/sessions", "session.made"),
    ("POST", "/sandbox/{id}/tokens", "preview_token.made"),
    ("PATCH", "/sandbox/{id}/tokens/{token_id}", "preview_token.changed"),
    ("DELETE", "/sandbox/{id}/tokens", "preview_token.revoked"),
    ("POST", "/org/workspace/{team_id}/tokens", "token.made"),
];

/// Parameters of paths that say what something was done to.
const SUBJECTS: [&str; 7] = ["session", "token_id", "id", "document", "name", "path", "branch"];

fn action(method: &Method, route: &str) -> Option<&'static str> {
    ACTIONS
        .iter()
        .chain(&SDK_ACTIONS)
        .find(|(of, at, _)| method == of && route == *at)
        .map(|(.., action)| *action)
}

/// Who asks, as it becomes known while a request is answered.
#[derive(Clone, Debug, Default)]
struct Asker(Arc<Mutex<Option<By>>>);

/// Notes who asks; called by what looks at tokens.
pub(super) fn asked_by(parts: &Parts, by: impl FnOnce() -> By) {
    if let Some(asker) = parts.extensions.get::<Asker>() {
        asker.0.lock().get_or_insert_with(by);
    }
}

/// What a request was about, beside its path; put into the answer's extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// What came of it.
    pub(super) id: Option<String>,
    /// On which branch, where the path does not name it.
    pub(super) branch: Option<BranchId>,
    /// The right that was given.
    pub(super) permission: Option<Permission>,
}

impl Subject {
    /// What came of it.
    pub(crate) fn of(id: &impl ToString) -> axum::Extension<Self> {
        axum::Extension(Self { id: Some(id.to_string()), ..Self::default() })
    }

    /// A branch that was made.
    pub(super) fn on(branch: &BranchId) -> axum::Extension<Self> {
        axum::Extension(Self { id: Some(branch.to_string()), branch: Some(branch.clone()), permission: None })
    }

    /// The same with a right that was given.
    pub(crate) fn may(id: &impl ToString, permission: Permission) -> axum::Extension<Self> {
        axum::Extension(Self { id: Some(id.to_string()), permission: Some(permission), branch: None })
    }
}

/// Told at the end of an answer that has begun, whether all went well.
#[derive(Clone, Default)]
pub(super) struct AtEnd(Arc<Mutex<Option<Note>>>);

type Note = Box<dyn FnOnce(Option<String>) + Send>;

impl AtEnd {
    /// All went well; `subject`: what came of it.
    pub(super) fn succeeded(&self, subject: Option<String>) {
        let note = self.0.lock().take();
        if let Some(note) = note {
            note(subject);
        }
    }
}

/// The layer: inside of what lets requests run to their end.
pub(super) async fn audit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let Some(action) = matched.and_then(|matched| action(request.method(), matched.as_str())) else {
        return next.run(request).await;
    };
    let (mut parts, body) = request.into_parts();
    let names: Result<Path<HashMap<String, String>>, _> = Path::from_request_parts(&mut parts, &state).await;
    let names = names.map(|Path(names)| names).unwrap_or_default();
    let address = parts.extensions.get::<ClientAddress>().map(|client| client.0);
    let asker = Asker::default();
    parts.extensions.insert(asker.clone());
    let response = next.run(Request::from_parts(parts, body)).await;
    if !response.status().is_success() {
        return response;
    }
    let subject = response.extensions().get::<Subject>().cloned().unwrap_or_default();
    let named = SUBJECTS.iter().find_map(|name| names.get(*name)).cloned();
    // The SDK has a branch's id in `id`, where other routes have ids of other kinds.
    let branch = ["branch", "id"].iter().find_map(|name| names.get(*name)?.parse().ok()).or(subject.branch);
    let mut detail = Map::new();
    if let Some(permission) = subject.permission {
        detail.insert("permission".into(), Value::from(permission.to_string()));
    }
    let by = asker.0.lock().clone().unwrap_or(By::Link);
    let noted = Noted { action, by, branch, address, subject: subject.id.or(named), detail };
    match response.extensions().get::<AtEnd>() {
        Some(at_end) => {
            let audit = state.audit.clone();
            *at_end.0.lock() = Some(Box::new(move |subject| {
                audit.note(Noted { subject: subject.or_else(|| noted.subject.clone()), ..noted });
            }));
        }
        None => state.audit.note(noted),
    }
    response
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// `session.made` and the like; `session.` for all that begin so.
    action: Option<String>,
    /// The id of a token (`tk_…`) or session that did it.
    by: Option<String>,
    /// The `next` of the page before.
    before: Option<AuditId>,
    /// 1 to 1,000; 100 without it.
    limit: Option<i64>,
}

/// One entry.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditView {
    id: AuditId,
    /// Milliseconds since 1970 UTC.
    at_ms: i64,
    branch: Option<BranchId>,
    /// What was done, such as `session.made`.
    action: String,
    /// `environment` (the owner token of perch's environment), `token`, `session`, `link` or `command`
    /// (one of perch's own, run on its machine).
    by_kind: String,
    /// The token's or session's id.
    by: Option<String>,
    /// Where the request came from.
    address: Option<String>,
    /// What it was done to, or what came of it: an id, a commit, a path.
    subject: Option<String>,
    /// Beside, such as `permission`.
    #[schema(value_type = HashMap<String, serde_json::Value>)]
    detail: Value,
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at_ms: row.at_ms,
            branch: row.branch_id,
            action: row.action,
            by_kind: row.by_kind,
            by: row.by_id,
            address: row.address,
            subject: row.subject,
            detail: serde_json::from_str(&row.detail).unwrap_or_default(),
        }
    }
}

/// A page of the audit log, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditPage {
    entries: Vec<AuditView>,
    /// `before` of the next page; absent on the last.
    next: Option<AuditId>,
}

async fn page(
    state: &AppState,
    branch: Option<BranchId>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<AuditPage>, ApiError> {
    let Listing { action, by, before, limit } = query(listing)?;
    let limit = limit.unwrap_or(100).clamp(1, 1_000);
    let rows = state.store.audit(&AuditFilter { branch, action, by, before, limit }).await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
    let next = rows.last().filter(|_| is_full).map(|row| row.id.clone());
    Ok(Json(AuditPage { entries: rows.into_iter().map(Into::into).collect(), next }))
}

/// Read the audit log: who joined, made and ended sessions, tokens and links, changed rights, committed, pushed, forked,
/// deleted and restored. Needs an owner token. An entry is there within a moment of what it tells.
#[utoipa::path(get, operation_id = "audit", path = "/v1/audit", tag = "operating", params(Listing),
    responses((status = OK, body = AuditPage)))]
async fn all(
    State(state): State<AppState>,
    _: Owner,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<AuditPage>, ApiError> {
    page(&state, None, listing).await
}

/// Read the audit log of one branch, also of one that was deleted. Needs an API token: sessions are refused.
#[utoipa::path(get, operation_id = "audit_of_branch", path = "/v1/branches/{branch}/audit", tag = "operating",
    params(("branch" = String, Path), Listing), responses((status = OK, body = AuditPage)))]
async fn of_branch(
    State(state): State<AppState>,
    caller: Caller,
    Path(branch): Path<String>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<AuditPage>, ApiError> {
    let branch = branch_id(&branch)?;
    caller.on(&branch)?;
    if caller.session().is_some() {
        return Err(ApiError::forbidden("this needs an API token"));
    }
    page(&state, Some(branch), listing).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_is_of_a_route_that_exists() {
        let document = super::super::described(None).split_for_parts().1;
        for (method, route, action) in ACTIONS {
            let path = document.paths.paths.get(route);
            let item = path.unwrap_or_else(|| panic!("{action}: no route {route}"));
            let operation = match method {
                "POST" => &item.post,
                "PUT" => &item.put,
                "PATCH" => &item.patch,
                _ => &item.delete,
            };
            assert!(operation.is_some(), "{action}: no {method} {route}");
        }
    }
}
