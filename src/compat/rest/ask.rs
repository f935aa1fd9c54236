//! Who asks, and for what.

use super::answer::Refusal;
use crate::base::BranchId;
use crate::compat::Compat;
use crate::http::{Api, AppState, Owner};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// A caller with an API key: the owner token, or an API token.
pub(super) struct Key;

impl FromRequestParts<Compat> for Key {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, compat: &Compat) -> Result<Self, Refusal> {
        let app: &AppState = &compat.app;
        Api::from_request_parts(parts, app).await?;
        Ok(Self)
    }
}

/// A caller with an owner token.
pub(super) struct OwnerKey;

impl FromRequestParts<Compat> for OwnerKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, compat: &Compat) -> Result<Self, Refusal> {
        Owner::from_request_parts(parts, &compat.app).await?;
        Ok(Self)
    }
}

/// The query.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Compat> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, compat: &Compat) -> Result<Self, Refusal> {
        let query = Query::<T>::from_request_parts(parts, compat).await;
        query.map(|Query(value)| Self(value)).map_err(|error| Refusal::value(error.body_text()))
    }
}

/// A body: JSON whatever its type is said to be; none is the same as `{}`. Members that are not known are left alone.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Compat> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, compat: &Compat) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, compat).await;
        let bytes = bytes.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
        let text = if bytes.trim_ascii().is_empty() { &b"{}"[..] } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| {
            let status = match error.classify() {
                serde_json::error::Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::BAD_REQUEST,
            };
            Refusal::new(status, format!("the body can't be read: {error}"))
        })
    }
}

/// A branch by the id that the SDK has of it.
///
/// # Errors
/// 404.
pub(super) fn branch_id(text: &str) -> Result<BranchId, Refusal> {
    text.parse().map_err(|_| Refusal::no_sandbox())
}
