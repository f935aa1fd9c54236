//! The envelope: `{"success": true, "data": …}`, or `{"success": false, "errors": ["text"]}`.

use crate::branch::BranchError;
use crate::compat::TemplateError;
use crate::http::ApiError;
use crate::store::StoreError;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use std::any::Any;

/// A success. The SDK wants `data` to be there even where there is nothing to say.
pub(super) struct Data<T>(pub(super) StatusCode, pub(super) T);

impl<T: Serialize> Data<T> {
    pub(super) fn ok(data: T) -> Self {
        Self(StatusCode::OK, data)
    }
}

/// Nothing to say.
#[derive(Serialize)]
pub(super) struct Done {}

/// A success without data.
pub(super) fn done() -> Data<Done> {
    Data::ok(Done {})
}

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "success": true, "data": self.1 }))).into_response()
    }
}

/// A failure; the SDK shows its text.
#[derive(Debug)]
pub(super) struct Refusal(StatusCode, String);

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self(status, text.into())
    }

    /// A value that is not allowed.
    pub(super) fn value(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, text)
    }

    pub(super) fn no_sandbox() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such sandbox")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "success": false, "errors": [self.1] }))).into_response()
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::new(error.status(), error.detail())
    }
}

impl From<BranchError> for Refusal {
    fn from(error: BranchError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<TemplateError> for Refusal {
    fn from(error: TemplateError) -> Self {
        match error {
            TemplateError::NotFound(_) => Self::no_sandbox(),
            TemplateError::Branch(error) => error.into(),
            TemplateError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

/// Gives the framework's own refusals (a method that a route does not have) the envelope.
pub(super) async fn in_envelope(response: Response) -> Response {
    let status = response.status();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_json || status.is_success() {
        return response;
    }
    Refusal::new(status, status.canonical_reason().unwrap_or("refused").to_lowercase()).into_response()
}

/// A handler that panicked is a fault of perch; its caller hears no more than that.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    crate::http::log_panic(&*panic);
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong in perch").into_response()
}
