//! The SDK's REST routes.
//!
//! | file | idea |
//! |---|---|
//! | `answer.rs` | the envelope, and errors in it |
//! | `ask.rs` | who asks, and what: the API key, bodies with and without a type |
//! | `life.rs` | start, sessions, hibernate, shutdown, delete |
//! | `fork.rs` | sandboxes and templates copied |
//! | `made.rs` | sandboxes made of files; templates and their names |
//! | `list.rs` | sandboxes looked at |
//! | `settings.rs` | size and hibernation timeout |
//! | `tokens.rs` | preview tokens |
//! | `around.rs` | what is not about one sandbox |
//! | `time.rs` | times as the SDK writes them |
//! | `text.rs` | bounds of titles, descriptions and tags |

mod answer;
mod around;
mod ask;
mod fork;
mod life;
mod list;
mod made;
mod settings;
mod text;
mod time;
mod tokens;

use super::Compat;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use tower_http::catch_panic::CatchPanicLayer;

/// Bytes of a body.
const MAX_BODY: usize = 1024 * 1024;

pub(super) fn routes() -> Router<Compat> {
    Router::new()
        .merge(life::routes())
        .merge(fork::routes())
        .merge(list::routes())
        .merge(settings::routes())
        .merge(tokens::routes())
        .merge(around::routes())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .merge(made::routes())
        .layer(map_response(answer::in_envelope))
        .layer(CatchPanicLayer::custom(answer::panicked))
}
