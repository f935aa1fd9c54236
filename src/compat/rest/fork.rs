//! Sandboxes and templates copied. The SDK makes a sandbox in no other way.

use super::answer::{Data, Refusal};
use super::ask::{Asked, Key};
use super::life::{StartData, StartOptions, started};
use super::text::{check_description, check_tags, check_title};
use crate::base::BranchId;
use crate::branch::{BranchChange, BranchError};
use crate::compat::Compat;
use crate::compat::sandboxes::unused;
use crate::http::Subject;
use crate::store::{Branch, Previews, Sandbox, SandboxState};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long a copy may take before the caller hears that it goes on; clients wait for an answer for five minutes.
const COPIED_WITHIN: Duration = Duration::from_secs(240);

pub(super) fn routes() -> Router<Compat> {
    Router::new().route("/sandbox/{id}/fork", post(fork))
}

/// How the copy is to be.
#[derive(Deserialize)]
struct Fork {
    #[serde(flatten)]
    copy: Copy,
    start_options: Option<StartOptions>,
}

/// What of it is not as in the origin.
#[derive(Deserialize)]
pub(super) struct Copy {
    pub(super) privacy: Option<i64>,
    pub(super) private_preview: Option<bool>,
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) tags: Option<Vec<String>>,
}

/// The copy.
#[derive(Serialize)]
struct Forked {
    id: BranchId,
    alias: BranchId,
    title: String,
    start_response: Option<StartData>,
}

/// Who may look at the previews of a sandbox: with `private_preview: false`, the SDK's `public-hosts`, whoever knows the
/// address, though its files are private.
pub(super) fn previews_of(privacy: i64, private_preview: Option<bool>) -> Previews {
    if privacy < 2 || private_preview == Some(false) { Previews::Public } else { Previews::Members }
}

pub(super) fn check_privacy(privacy: Option<i64>) -> Result<(), Refusal> {
    if privacy.is_some_and(|privacy| !(0..=2).contains(&privacy)) {
        return Err(Refusal::value("`privacy` is 0 (public), 1 (unlisted) or 2 (private)"));
    }
    Ok(())
}

async fn fork(
    State(compat): State<Compat>,
    _: Key,
    Path(id): Path<String>,
    headers: HeaderMap,
    Asked(wanted): Asked<Fork>,
) -> Result<(Extension<Subject>, Data<Forked>), Refusal> {
    if let Some(options) = &wanted.start_options {
        options.check()?;
    }
    let branch = copy(&compat, &id, wanted.copy, false).await?;
    let start_response = match wanted.start_options {
        None => None,
        Some(options) => Some(started(&compat, &headers, branch.id.clone(), options).await?),
    };
    let subject = Subject::of(&branch.id);
    let forked = Forked { alias: branch.id.clone(), id: branch.id, title: branch.name, start_response };
    Ok((subject, Data(StatusCode::CREATED, forked)))
}

/// Copies a sandbox or template, and waits until its files are there.
pub(super) async fn copy(
    compat: &Compat,
    origin: &str,
    how: Copy,
    is_template: bool,
) -> Result<Branch, Refusal> {
    check_privacy(how.privacy)?;
    let title = how.title.filter(|title| !title.is_empty());
    check_title(title.as_deref())?;
    check_description(how.description.as_deref())?;
    let tags = how.tags.unwrap_or_default();
    check_tags(&tags)?;
    let app = &compat.app;
    let origin = compat.template_or_branch(origin).await?.ok_or_else(Refusal::no_sandbox)?;
    let from = app.branches.ready(&origin).await?;
    let known = app.store.sandbox(&origin).await?.unwrap_or_else(unused);
    let title = title.unwrap_or_else(|| forked_title(&from.name));
    let privacy = how.privacy.unwrap_or(known.privacy);
    let previews = match how.privacy {
        None => from.previews,
        Some(privacy) => previews_of(privacy, how.private_preview),
    };
    let branch = app.branches.fork(&origin, Some(title)).await?;
    let change = BranchChange {
        description: Some(how.description.unwrap_or(from.description)),
        tags: Some(tags),
        previews: Some(previews),
        ..BranchChange::default()
    };
    app.branches.describe(&branch.id, change).await?;
    let fresh = Sandbox { privacy, is_template, state: SandboxState::New, ..unused() };
    app.store.change_sandbox(&branch.id, fresh, |_| {}).await?;
    copied(compat, &branch.id).await?;
    Ok(branch)
}

/// The origin's title and ` (forked)`, once, in the bounds of a title.
fn forked_title(of: &str) -> String {
    const MARK: &str = " (forked)";
    let of = of.strip_suffix(MARK).unwrap_or(of);
    let end = of.floor_char_boundary(super::text::MAX_TITLE - MARK.len());
    format!("{}{MARK}", &of[..end])
}

/// Waits for the copy's files.
pub(super) async fn copied(compat: &Compat, branch: &BranchId) -> Result<(), Refusal> {
    let began = Instant::now();
    loop {
        match compat.app.branches.ready(branch).await {
            Err(BranchError::NotReady) if began.elapsed() < COPIED_WITHIN => {}
            outcome => return Ok(outcome.map(|_| ())?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forks_title_is_marked_once_and_stays_in_bounds() {
        assert_eq!(forked_title("a"), "a (forked)");
        assert_eq!(forked_title("a (forked)"), "a (forked)");
        let long = forked_title(&"ä".repeat(100));
        assert!(long.len() <= 200 && long.ends_with("ä (forked)"), "{long}");
    }
}
