//! The one place where the core's errors become status codes: problem+json (RFC 9457) with a stable `code`.

use crate::agent::{AgentError, FileError};
use crate::branch::{BranchError, DocError, HistoryError, TerminalError};
use crate::session::{AgentsError, KeyError, LinkError, SessionError, TokenError};
use crate::store::StoreError;
use axum::body::to_bytes;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::any::Any;
use utoipa::ToSchema;

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Bytes of a framework's own error text that are kept as `detail`.
const MAX_DETAIL: usize = 4 * 1024;

/// An error: problem+json (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct Problem<'a> {
    /// Always `about:blank`.
    r#type: &'static str,
    /// The status in words.
    #[schema(value_type = String)]
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What is wrong and what to do, for people.
    #[schema(value_type = String)]
    detail: &'a str,
    /// Stable, for programs, such as `not_found`.
    #[schema(value_type = String)]
    code: &'a str,
    /// What programs may need beside, by code.
    #[serde(flatten)]
    #[schema(value_type = HashMap<String, serde_json::Value>)]
    more: serde_json::Map<String, serde_json::Value>,
}

/// An answer that is no success.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    etag: Option<String>,
    /// Seconds after which it is worth another try.
    retry_after: Option<u64>,
    /// Members of the problem beside the usual ones.
    more: serde_json::Map<String, serde_json::Value>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            etag: None,
            retry_after: None,
            more: serde_json::Map::new(),
        }
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Its stable name.
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong and what to do, for people.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Adds a member to the problem, for programs.
    pub(super) fn with(mut self, member: &str, value: impl Into<serde_json::Value>) -> Self {
        self.more.insert(member.to_owned(), value.into());
        self
    }

    /// Says when it is worth another try.
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(crate) fn unauthorized() -> Self {
        let detail = "send a valid token as `Authorization: Bearer …`";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// Whether the same request can succeed later, unchanged.
    pub(super) fn is_passing(&self) -> bool {
        self.status.is_server_error() || self.code == "branch_not_ready"
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }
}

impl ApiError {
    /// The problem itself, for an answer that has begun.
    pub(super) fn problem(self) -> serde_json::Value {
        serde_json::to_value(Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            more: self.more,
        })
        .unwrap_or_default()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            more: self.more,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, PROBLEM)], body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        // What is away, full or busy now mostly is not a moment later.
        let is_passing =
            [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status);
        if let Some(seconds) = self.retry_after.or_else(|| is_passing.then_some(1)) {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(etag) = self.etag.and_then(|etag| header::HeaderValue::from_str(&etag).ok()) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

/// Gives the framework's own refusals (a bad query, a method that a route does not have, a body that is too large)
/// the form of all other errors.
pub(super) async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_plain = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !is_plain || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let said = to_bytes(body, MAX_DETAIL).await.unwrap_or_default();
    let detail = match String::from_utf8_lossy(&said) {
        said if said.is_empty() => status.canonical_reason().unwrap_or("refused").to_lowercase(),
        said => said.into_owned(),
    };
    let problem = ApiError::new(status, code_of(status), detail).into_response();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(problem.headers().clone());
    Response::from_parts(parts, problem.into_body())
}

/// The code of a refusal by the framework.
fn code_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::REQUEST_TIMEOUT => "timeout",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::UPGRADE_REQUIRED => "upgrade_required",
        status if status.is_server_error() => "internal",
        _ => "bad_request",
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        // JSON of another shape is as bad as no JSON.
        let status = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Self::new(status, code_of(status), rejection.body_text())
    }
}

/// A handler that panicked is a fault of perch; its caller hears no more than that.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    log_panic(&*panic);
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong in perch")
        .into_response()
}

/// Logs what a handler that panicked said.
pub(crate) fn log_panic(panic: &(dyn Any + Send)) {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = said.unwrap_or("no text"), "a request panicked");
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request failed in the database");
        match error {
            StoreError::Unavailable(_) | StoreError::InUse => {
                Self::unavailable("the database does not answer; try again")
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong in perch"),
        }
    }
}

impl From<BranchError> for ApiError {
    fn from(error: BranchError) -> Self {
        match error {
            BranchError::NotFound => Self::not_found("there is no such branch"),
            BranchError::NotReady => Self::new(StatusCode::CONFLICT, "branch_not_ready", error.to_string()),
            BranchError::Failed(_) => Self::new(StatusCode::CONFLICT, "branch_failed", error.to_string()),
            BranchError::Url(_) => Self::new(StatusCode::BAD_REQUEST, "git_url_refused", error.to_string()),
            BranchError::TooMany => Self::new(StatusCode::CONFLICT, "too_many_branches", error.to_string()),
            BranchError::Full { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "branch_full", error.to_string())
            }
            BranchError::ArchiveTooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "archive_too_large", error.to_string())
            }
            BranchError::Upload(_) => Self::new(StatusCode::BAD_REQUEST, "upload_failed", error.to_string()),
            BranchError::Busy => Self::unavailable(error.to_string()),
            BranchError::Store(source) => source.into(),
            BranchError::Disk(source) => {
                tracing::error!(error = %source, "a request failed on disk");
                Self::unavailable("the branch's files can't be used now")
            }
        }
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound => Self::not_found(error.to_string()),
            SessionError::TooMany => Self::new(StatusCode::CONFLICT, "too_many_sessions", error.to_string()),
            SessionError::Store(source) => source.into(),
        }
    }
}

impl From<LinkError> for ApiError {
    fn from(error: LinkError) -> Self {
        let gone = |code| Self::new(StatusCode::GONE, code, error.to_string());
        match error {
            LinkError::NotFound => Self::not_found(error.to_string()),
            LinkError::Revoked => gone("link_revoked"),
            LinkError::Expired => gone("link_expired"),
            LinkError::UsedUp => gone("link_used_up"),
            LinkError::TooMany => Self::new(StatusCode::CONFLICT, "too_many_links", error.to_string()),
            LinkError::Session(source) => source.into(),
            LinkError::Store(source) => source.into(),
        }
    }
}

impl From<AgentsError> for ApiError {
    fn from(error: AgentsError) -> Self {
        let detail = error.to_string();
        match error {
            AgentsError::Refused(_) | AgentsError::Network(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "isolation_unavailable", detail)
            }
            AgentsError::TooMany => Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_agents", detail),
            AgentsError::OwnerOnly => Self::new(StatusCode::FORBIDDEN, "isolation_none", detail),
            AgentsError::Store(source) => source.into(),
            AgentsError::Agent(source) => source.into(),
        }
    }
}

impl From<AgentError> for ApiError {
    fn from(error: AgentError) -> Self {
        let detail = error.to_string();
        match error {
            AgentError::Launch(_) => {
                tracing::error!(error = %detail, "a session's sandbox can't be made");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "isolation_unavailable", detail)
            }
            AgentError::Ended => Self::new(StatusCode::CONFLICT, "session_changed", detail),
            AgentError::Refused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "command_refused", detail),
            AgentError::TooMany => Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_commands", detail),
        }
    }
}

impl From<FileError> for ApiError {
    fn from(error: FileError) -> Self {
        let detail = error.to_string();
        match error {
            FileError::NotFound => Self::not_found(detail),
            FileError::WrongKind => Self::new(StatusCode::CONFLICT, "wrong_kind", detail),
            FileError::Denied(_) => Self::forbidden(detail),
            FileError::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail),
            FileError::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_room", detail),
            FileError::Other(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "file_refused", detail),
        }
    }
}

/// Of signing; what does not verify has answers of its own.
impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        tracing::error!(%error, "a token could not be signed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong in perch")
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Name => Self::bad_request(error.to_string()),
            TokenError::TooMany => Self::new(StatusCode::CONFLICT, "too_many_tokens", error.to_string()),
            TokenError::Store(source) => source.into(),
        }
    }
}

impl From<TerminalError> for ApiError {
    fn from(error: TerminalError) -> Self {
        let (status, code) = terminal_code(&error);
        Self::new(status, code, error.to_string())
    }
}

/// The status and code of a refusal, on a socket too.
pub(super) fn terminal_code(error: &TerminalError) -> (StatusCode, &'static str) {
    match error {
        TerminalError::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        TerminalError::TooManyOfSession | TerminalError::TooMany => {
            (StatusCode::CONFLICT, "too_many_terminals")
        }
        TerminalError::Size | TerminalError::TooManyTypists => (StatusCode::BAD_REQUEST, "bad_request"),
        TerminalError::TooManyAsk => (StatusCode::CONFLICT, "too_many_ask"),
        TerminalError::Closed => (StatusCode::CONFLICT, "terminal_closed"),
        TerminalError::StillOpen => (StatusCode::CONFLICT, "terminal_open"),
        TerminalError::ReadOnly => (StatusCode::FORBIDDEN, "forbidden"),
        TerminalError::NotLetIn => (StatusCode::FORBIDDEN, "not_let_in"),
    }
}

impl From<DocError> for ApiError {
    fn from(error: DocError) -> Self {
        let detail = error.to_string();
        match error {
            DocError::NotFound(_) => Self::not_found(detail),
            DocError::Path(_) => Self::new(StatusCode::BAD_REQUEST, "path_refused", detail),
            DocError::NotText { .. } => Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_text", detail),
            DocError::NotAFile(_) => Self::new(StatusCode::CONFLICT, "not_a_file", detail),
            DocError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail),
            DocError::VersionUnknown { present } => Self {
                etag: Some(format!("\"{present}\"")),
                ..Self::new(StatusCode::PRECONDITION_FAILED, "version_unknown", detail)
            },
            DocError::Failed => Self::unavailable(detail),
            DocError::Closed => Self::unavailable("the document closed meanwhile; try again"),
            DocError::Disk(_) | DocError::Log(_) => {
                tracing::error!(error = %detail, "a request failed in a document");
                Self::unavailable("the file can't be used now; try again")
            }
        }
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        let detail = error.to_string();
        match error {
            HistoryError::Document(source) => source.into(),
            HistoryError::File(source) => source.into(),
            HistoryError::Store(source) => source.into(),
            HistoryError::NoDocument(_) => Self::new(StatusCode::NOT_FOUND, "no_history", detail),
            HistoryError::NotFound(_) => Self::not_found(detail),
            HistoryError::Gone { .. } => Self::new(StatusCode::GONE, "position_gone", detail),
            HistoryError::Ahead { .. } => Self::new(StatusCode::NOT_FOUND, "position_unknown", detail),
            HistoryError::Damaged => {
                tracing::error!(error = %detail, "a history can't be read");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong in perch")
            }
        }
    }
}
