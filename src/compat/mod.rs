//! The protocol of the CodeSandbox SDK (npm `@codesandbox/sdk`, 0.11.2 and 2.4.2): REST routes at the root of the
//! listener, and a socket. It translates to the sessions, agents, documents and terminals of the native API and has
//! nothing of its own but what that protocol alone knows. A sandbox, or VM, is a branch; a shell is a terminal.
//!
//! | file | idea |
//! |---|---|
//! | `rest/` | the routes, their envelope and errors |
//! | `seats.rs` | tokens of the socket, and what they give |
//! | `sandboxes/` | starting, hibernating, stopping a branch; idle ones sleep |
//! | `socket/` | the socket: frames, order, the barrier |
//! | `methods/` | what clients ask for on it |
//! | `shells.rs` | terminals, as the protocol sees them |
//! | `board.rs` | setup steps and tasks |
//! | `output.rs` | what clients hear of their output |
//! | `gather.rs` | output in few messages |
//! | `tasks_file.rs` | `.codesandbox/tasks.json` |
//! | `view.rs` | files as a session sees them |
//! | `ot.rs` | operations on texts, as the SDK's editors send them |
//! | `bridge.rs` | one of its editors in a live document |
//! | `templates.rs` | what sandboxes are forked from |
//! | `image.rs` | whether sessions have the programs that the SDK runs |

mod board;
mod bridge;
mod gather;
mod image;
mod methods;
mod ot;
mod output;
mod rest;
mod sandboxes;
mod seats;
mod shells;
mod socket;
mod tasks_file;
mod templates;
mod view;

use crate::base::BranchId;
use crate::branch::BranchError;
use crate::http::AppState;
use axum::Router;
use axum::extract::FromRef;
use sandboxes::Sandboxes;
pub use socket::{MAX_DEPTH, MAX_VALUES, Malformed, Request, request};
use std::sync::Arc;
pub use templates::TemplateError;
use tokio::sync::Mutex;

/// Where everybody's files are, as the SDK is told.
const WORKSPACE: &str = "/project/workspace";

/// How the SDK finds what it has built in.
#[derive(Clone, Debug)]
pub struct Options {
    /// The branch that is forked where the SDK names no template; perch makes an empty one without it.
    pub template: Option<BranchId>,
    /// The ids by which the SDK means it.
    pub template_ids: Vec<String>,
}

/// What handlers share; cheap to clone.
#[derive(Clone, Debug)]
pub struct Compat {
    app: AppState,
    sandboxes: Sandboxes,
    options: Arc<Options>,
    template_turn: Arc<Mutex<()>>,
    rooms: socket::Rooms,
}

impl FromRef<Compat> for AppState {
    fn from_ref(compat: &Compat) -> Self {
        compat.app.clone()
    }
}

impl Compat {
    /// Gathers the handles; nothing runs yet.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub async fn open(app: AppState, options: Options) -> Result<Self, TemplateError> {
        let image = app.agents.options().image.clone();
        tokio::task::spawn_blocking(move || image::warn_of_missing(&image));
        app.store.stop_sandboxes().await?;
        templates::check(&app, &options).await?;
        let sandboxes = Sandboxes::new(app.clone());
        Ok(Self {
            app,
            sandboxes,
            options: Arc::new(options),
            template_turn: Arc::default(),
            rooms: socket::Rooms::default(),
        })
    }
}

impl Compat {
    /// Starts or wakes a sandbox, see [`Sandboxes::start`]; what runs by itself in it begins.
    async fn start(
        &self,
        branch: &BranchId,
        change: impl FnOnce(&mut crate::store::Sandbox),
    ) -> Result<(sandboxes::Bootup, Arc<sandboxes::Life>), BranchError> {
        let (bootup, life) = self.sandboxes.start(branch, change).await?;
        let hub = self.app.branches.hub(branch).await?;
        let room = self.rooms.of(&hub, &self.app.tasks);
        board::At { app: self.app.clone(), hub, room }.begin(&life).await;
        Ok((bootup, life))
    }
}

/// All routes.
pub fn router(compat: Compat) -> Router<AppState> {
    rest::routes().merge(socket::routes()).merge(methods::routes()).with_state(compat)
}
