//! The OpenAPI document, made from the handlers, and a page to read it that needs nothing from outside.

use super::AppState;
use super::error::Problem;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum::{Router, body::Bytes};
use serde_json::{Value, json};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// The parts of the document that no handler knows.
#[derive(OpenApi)]
#[openapi(
    info(title = "perch", description = "A self-hosted backend for editing code together. \
        Errors are problem+json (RFC 9457) with a stable `code`."),
    security(("token" = [])),
    components(schemas(Problem)),
    modifiers(&BearerToken),
    tags(
        (name = "branches", description = "Working trees with their files, documents and sessions."),
        (name = "sessions", description = "Seats on a branch, `read` or `write`, and the signed tokens for them."),
        (name = "links", description = "Links by which visitors make a session of their own: the anonymous preview."),
        (name = "tokens", description = "API tokens, for owners."),
        (name = "files", description = "Files of a branch, as editors and shells see them."),
        (name = "history", description = "What a document was, and who wrote what."),
        (name = "drafts", description = "Edits that were refused, kept for those who made them."),
        (name = "events", description = "Changes of a branch as they happen."),
        (name = "previews", description = "Ports that a branch's processes listen on. They are looked at on hosts of their own, \
            `{port}-br-{32 hex}.{domain}`, where nothing else of perch answers."),
        (name = "documents", description = "Sockets on which unmodified Yjs clients edit files together. Close codes \
            from 4400 to 4499 are final (4400 malformed, 4403 ended, 4404 deleted or absent, 4409 another history of \
            the file, 4413 too large, 4415 no text); all others mean: come back."),
        (name = "git", description = "The real git, run as the caller's own session, with that person's name."),
        (name = "terminals", description = "Programs on a PTY, shared: all of a branch may watch, who is let in may type. \
            The socket is described in docs/terminals.md."),
        (name = "operating", description = "For machines that look after perch."),
    )
)]
pub(super) struct Description;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some(
            "An API token (any route), or a session token (routes of its branch, with its session's right)."
                .into(),
        );
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document at `/v1/openapi.json` and its reader at `/docs`.
pub(super) fn routes(document: &utoipa::openapi::OpenApi) -> Router<AppState> {
    let document = Bytes::from(finished(document).to_string());
    let json = [(header::CONTENT_TYPE, "application/json")];
    let script = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")];
    let policy = [(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    )];
    let style = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    Router::new()
        .route("/v1/openapi.json", get(async move || (json, document.clone())))
        .route("/docs", get(async move || (policy, Html(include_str!("docs/index.html"))).into_response()))
        .route("/docs/reader.js", get(async move || (script, include_str!("docs/reader.js"))))
        .route("/docs/reader.css", get(async move || (style, include_str!("docs/reader.css"))))
}

/// What the handlers' descriptions lack: names that are unique, paths without the router's star, and the error that
/// each may answer with.
fn finished(document: &utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for (path, mut item) in std::mem::take(paths) {
        for operation in item.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
            if let (Some(tag), Some(name)) =
                (operation["tags"][0].as_str(), operation["operationId"].as_str())
            {
                operation["operationId"] = json!(format!("{tag}_{name}"));
                operation["responses"]["default"] = json!({
                    "description": "an error",
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                });
            }
        }
        paths.insert(path.replace("{*", "{"), item);
    }
    document
}
