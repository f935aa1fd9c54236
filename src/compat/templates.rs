//! Templates: branches that are there to be forked. The SDK has ids of one built in, and knows no other way to make a
//! sandbox than to fork something; so a default template is there whenever it is asked for.

use super::sandboxes::unused;
use super::{Compat, Options};
use crate::base::BranchId;
use crate::branch::{BranchError, NewBranch, Source};
use crate::http::AppState;
use crate::store::{BranchState, StoreError};

/// The name of the template that perch makes.
const NAME: &str = "default template";

/// Why there is no default template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The one that was named is not there.
    #[error("--sdk-template: there is no branch {0}; give the id of one, or leave the flag out")]
    NotFound(BranchId),
    /// It could not be made.
    #[error("the default template of the SDK could not be made: {0}")]
    Branch(#[from] BranchError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks that the branch that was named as the default template is there.
pub(super) async fn check(app: &AppState, options: &Options) -> Result<(), TemplateError> {
    let Some(id) = &options.template else { return Ok(()) };
    let found = app.store.branch(id).await?.filter(|branch| branch.state != BranchState::Deleting);
    found.map(|_| ()).ok_or_else(|| TemplateError::NotFound(id.clone()))
}

impl Compat {
    /// The default template, if there is one yet: what was named, or what perch made.
    pub(super) async fn default_template(&self) -> Result<Option<BranchId>, StoreError> {
        match &self.options.template {
            Some(id) => Ok(Some(id.clone())),
            None => self.app.store.default_template().await,
        }
    }

    /// The default template; the first time, where none was named, an empty branch is made. Who never uses the SDK has none
    /// among their branches.
    async fn template(&self) -> Result<BranchId, TemplateError> {
        let _turn = self.template_turn.lock().await;
        if let Some(id) = self.default_template().await? {
            return Ok(id);
        }
        let app = &self.app;
        let branch = app.branches.create(NewBranch { name: NAME.to_owned(), source: Source::Empty }).await?;
        let marked = app.store.change_sandbox(&branch.id, unused(), |sandbox| {
            // Forks take after it: what the SDK calls unlisted.
            (sandbox.is_template, sandbox.is_default, sandbox.privacy) = (true, true, 1);
        });
        marked.await?;
        Ok(branch.id)
    }

    /// What an id means that something is to be copied from: a branch, or a template by one of the SDK's
    /// own ids or, as `namespace@alias`, by its alias.
    pub(super) async fn template_or_branch(&self, id: &str) -> Result<Option<BranchId>, TemplateError> {
        if let Ok(branch) = id.parse() {
            return Ok(Some(branch));
        }
        if self.options.template_ids.iter().any(|known| known == id) {
            return self.template().await.map(Some);
        }
        let Some((namespace, alias)) = id.split_once('@') else { return Ok(None) };
        for branch in self.app.store.aliased(namespace, alias).await? {
            if self.app.store.branch(&branch).await?.is_some_and(|branch| branch.state == BranchState::Ready)
            {
                return Ok(Some(branch));
            }
        }
        Ok(None)
    }
}
