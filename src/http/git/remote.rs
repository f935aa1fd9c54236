//! Remotes: which there are, fetch, pull and push, as oneself.

use super::Whose;
use super::merge::{Answer, Operation, join};
use super::stream::{Told, stream};
use crate::base::SessionId;
use crate::branch::Event;
use crate::git::{
    BadRemote, BranchName, Command, How, Oid, Remote, RemoteName, RemoteUrl, Tips, Update,
    fetch as fetch_command, integrate, list_remotes, push as push_command, pushed, update_refs,
};
use crate::http::branches::body;
use crate::http::place::{On, Params};
use crate::http::{ApiError, AppState};
use crate::sandbox::Network;
use crate::session::{Git, GitError, Outside, Ssh};
use crate::store::SessionRow;
use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// References that one answer names.
const MAX_UPDATES: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(remotes))
        .routes(routes!(set_remote, remove_remote))
        .routes(routes!(fetch))
        .routes(routes!(pull))
        .routes(routes!(push))
}

/// Where a repository's branches come from and go to.
#[derive(Serialize, ToSchema)]
struct Remotes {
    remotes: Vec<Remote>,
}

/// Where a remote is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetRemote {
    /// `https://…`, `http://…`, `ssh://…` or `user@host:path`, at most 2,048 characters; no user or password with http.
    url: String,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

/// What is to be fetched.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct Fetch {
    /// From where: the one of the branch that is checked out without it, or `origin`.
    remote: Option<String>,
    /// Forget branches that the remote has no more.
    prune: bool,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

/// What is to be pulled.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Pull {
    /// From where, as of `fetch`.
    remote: Option<String>,
    /// Which of its branches: the upstream of the one that is checked out without it, or the one of the same name.
    branch: Option<String>,
    /// What becomes of it.
    how: How,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

impl Pull {
    /// A merge of a branch of the usual remote.
    pub(super) fn merging(branch: Option<String>) -> Self {
        Self { branch, how: How::Merge, ..Self::default() }
    }
}

/// What is to be pushed.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Push {
    /// To where, as of `fetch`.
    remote: Option<String>,
    /// Which branch; the one that is checked out without it. It has the same name there.
    branch: Option<String>,
    /// Make it the branch's upstream.
    set_upstream: bool,
    /// Replace what is there, if it is this commit (its whole hash) and nothing else.
    force_with_lease: Option<String>,
    /// Push all tags too.
    tags: bool,
    /// Whose git it is; needed with an API token.
    session: Option<SessionId>,
}

/// Nothing is as good as `{}`.
fn wish<T: Default>(request: Result<Option<Json<T>>, JsonRejection>) -> Result<T, ApiError> {
    Ok(request?.map(|Json(wish)| wish).unwrap_or_default())
}

/// List the repository's remotes.
#[utoipa::path(get, path = "/v1/branches/{branch}/git/remotes", tag = "git",
    params(("branch" = String, Path), Whose),
    responses((status = OK, body = Remotes), (status = CONFLICT, description = "`git_no_repository`")))]
async fn remotes(on: On, Params(whose): Params<Whose>) -> Result<Json<Remotes>, ApiError> {
    let git = on.git(whose.session.as_ref()).await?;
    Ok(Json(Remotes { remotes: listed(&git).await? }))
}

/// Make a remote, or set where it is.
#[utoipa::path(put, path = "/v1/branches/{branch}/git/remotes/{name}", tag = "git",
    params(("branch" = String, Path), ("name" = String, Path)), request_body = SetRemote,
    responses((status = OK, body = Remote),
        (status = BAD_REQUEST, description = "`git_url_refused`: it holds a user or password, or is none that perch speaks to")))]
async fn set_remote(
    on: On,
    names: Path<(String, String)>,
    request: Result<Json<SetRemote>, JsonRejection>,
) -> Result<Json<Remote>, ApiError> {
    let SetRemote { url, session } = body(request)?;
    let Path((_, name)) = names;
    let (name, url) = (RemoteName::new(&name)?, RemoteUrl::new(&url)?);
    let turn = on.git_turn(session.as_ref()).await?;
    let git = &turn.git;
    let name = name.as_str();
    let set = |key: &str, value: &str| {
        let command = Command::new("config").options(["--local", "--replace-all"]);
        command.option(format!("remote.{name}.{key}")).option(value)
    };
    git.run(set("url", url.as_str())).await?;
    git.run(set("fetch", &format!("+refs/heads/*:refs/remotes/{name}/*"))).await?;
    if listed(git).await?.iter().any(|one| one.name == name && one.push_url.is_some()) {
        let unset = Command::new("config").options(["--local", "--unset-all"]);
        git.run(unset.option(format!("remote.{name}.pushurl"))).await?;
    }
    let (name, url) = (name.to_owned(), url.as_str().to_owned());
    Ok(Json(Remote { name, url, push_url: None, is_usable: true }))
}

/// Forget a remote, and what is known of its branches.
#[utoipa::path(delete, path = "/v1/branches/{branch}/git/remotes/{name}", tag = "git",
    params(("branch" = String, Path), ("name" = String, Path), Whose),
    responses((status = NO_CONTENT), (status = NOT_FOUND, description = "`git_unknown_revision`")))]
async fn remove_remote(
    on: On,
    names: Path<(String, String)>,
    Params(whose): Params<Whose>,
) -> Result<StatusCode, ApiError> {
    let Path((_, name)) = names;
    let name = RemoteName::new(&name)?;
    let turn = on.git_turn(whose.session.as_ref()).await?;
    if !listed(&turn.git).await?.iter().any(|one| one.name == name.as_str()) {
        return Err(unknown(format!("there is no remote `{}`", name.as_str())));
    }
    turn.git.run(Command::new("remote").option("remove").option(name.as_str())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fetch all branches of a remote, with the session's own token or key. Open documents are not held up. The answer is a stream
/// of JSON lines, `{"progress": {"phase", "percent"?, "done"?, "total"?}}`, `{"remote": "what the server says"}`, and last
/// `{"done": {"remote", "updates": [{"name", "from", "to"}], "count"}}` or `{"error": …}` with the members of a problem.
/// Hanging up ends it.
#[utoipa::path(post, path = "/v1/branches/{branch}/git/fetch", tag = "git",
    params(("branch" = String, Path)), request_body = Option<Fetch>,
    responses((status = OK, description = "what happens", content_type = "application/x-ndjson"),
        (status = NOT_FOUND, description = "`git_unknown_revision`: there is no such remote"),
        (status = FORBIDDEN, description = "a session that can only read fetches nothing")))]
async fn fetch(on: On, request: Result<Option<Json<Fetch>>, JsonRejection>) -> Result<Response, ApiError> {
    let Fetch { remote, prune, session } = wish(request)?;
    let way = on.way(session.as_ref(), remote.as_deref(), Direction::From).await?;
    Ok(stream(move |told| async move {
        let (updates, _) = on.bring(&way, prune, &told).await?;
        Ok(done(&way, &updates, json!({})))
    }))
}

/// Fetch, then take what came into the branch that is checked out: `ff_only`, `merge` or `rebase`. While it fetches nobody
/// is held up; then all that was typed is on disk first, and open documents change as git changes the files. The answer is a
/// stream as of `fetch`; `done` has `from` and `to`, the commits before and after, besides, and what an answer of `merge` has: a
/// conflict is no error there either.
#[utoipa::path(post, path = "/v1/branches/{branch}/git/pull", tag = "git",
    params(("branch" = String, Path)), request_body = Option<Pull>,
    responses((status = OK, description = "what happens; its `error` may be `git_diverged`, `git_under_way`, `git_would_overwrite`",
            content_type = "application/x-ndjson"),
        (status = NOT_FOUND, description = "`git_unknown_revision`: there is no such remote"),
        (status = CONFLICT, description = "`git_detached`: no branch is checked out"),
        (status = UNPROCESSABLE_ENTITY, description = "`git_identity_missing`: the session has no email address")))]
pub(super) async fn pull(
    on: On,
    request: Result<Option<Json<Pull>>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Pull { remote, branch, how, session } = wish(request)?;
    let branch = branch.as_deref().map(BranchName::new).transpose()?;
    let way = on.way(session.as_ref(), remote.as_deref(), Direction::From).await?;
    let into = way.head.clone().ok_or_else(detached)?;
    let identity = if how == How::FfOnly { None } else { Some(way.git.identity()?.clone()) };
    let branch = match branch {
        Some(branch) => branch,
        None => upstream(&way.git, &into).await?.unwrap_or_else(|| into.clone()),
    };
    Ok(stream(move |told| async move {
        let (updates, refs) = on.bring(&way, false, &told).await?;
        let missing = || unknown(format!("{} has no branch `{}`", way.remote.as_str(), branch.as_str()));
        let commit = refs.get(&branch.tracking(&way.remote)).cloned().ok_or_else(missing)?;
        let text = format!("Merge branch '{}' of {}", branch.as_str(), way.url.as_str());
        let turn = on.git_turn(Some(&way.row.id)).await?;
        if head(&turn.git).await?.as_ref() != Some(&into) {
            let detail = format!("`{}` is not checked out any more; nothing was changed", into.as_str());
            return Err(ApiError::new(StatusCode::CONFLICT, "git_head_moved", detail));
        }
        // From here on it is not cut short: a client that hangs up leaves no half of it.
        let work = async move {
            let from = tip(&turn.git).await?;
            Operation::now(&turn.hub, &turn.git).await?.none()?;
            // Where nothing is committed yet there is nothing to make anew.
            let how = if from.is_none() { How::FfOnly } else { how };
            let command = integrate(how, &commit, &into, identity.as_ref(), &text);
            let Json(answer) = join(&turn, "before pull", command, Some(commit.as_str())).await?;
            Ok::<_, ApiError>((from, answer))
        };
        let (from, answer) = on.to_its_end(work).await?;
        let Answer { outcome, commit: to, conflicts, is_truncated, restore_point } = answer;
        let more = json!({
            "from": from, "to": to, "outcome": outcome, "conflicts": conflicts, "is_truncated": is_truncated,
            "restore_point": restore_point,
        });
        Ok(done(&way, &updates, more))
    }))
}

/// Push a branch, with the session's own token or key. The answer is a stream as of `fetch`; `done` has `branch`, `commit`
/// and `pushed`, the remote's references that changed.
#[utoipa::path(post, path = "/v1/branches/{branch}/git/push", tag = "git",
    params(("branch" = String, Path)), request_body = Option<Push>,
    responses((status = OK, description = "what happens; its `error` may be `git_push_rejected`, `git_credentials_missing`, \
            `git_credentials_refused`", content_type = "application/x-ndjson"),
        (status = NOT_FOUND, description = "`git_unknown_revision`: there is no such remote or branch"),
        (status = CONFLICT, description = "`git_detached`: no branch is checked out")))]
pub(super) async fn push(
    on: On,
    request: Result<Option<Json<Push>>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Push { remote, branch, set_upstream, force_with_lease, tags, session } = wish(request)?;
    let branch = branch.as_deref().map(BranchName::new).transpose()?;
    let lease = force_with_lease.as_deref().map(Oid::new).transpose()?;
    let way = on.way(session.as_ref(), remote.as_deref(), Direction::To).await?;
    let branch = branch.or_else(|| way.head.clone()).ok_or_else(detached)?;
    let commit = look(&way.git, &branch.reference()).await?;
    let commit = commit.ok_or_else(|| unknown(format!("there is no branch `{}`", branch.as_str())))?;
    Ok(stream(move |told| async move {
        let outside = on.outside(&way).await?;
        let command = push_command(&way.url, &commit, &branch, lease.as_ref(), tags);
        let printed = outside.run(command, &way.url, |line| told.tell(line)).await?;
        drop(outside);
        let to = Some(commit.clone());
        let known = Update { name: branch.tracking(&way.remote), from: None, to };
        let (turn, hub) = (on.hub.git_turn().await, Arc::clone(&on.hub));
        let work = async move {
            let _turn = turn;
            for command in update_refs(&[known]) {
                // It is at the remote; what is known here is put right by the next fetch.
                let _ = way.git.run(command).await;
            }
            hub.events().publish(&Event::GitChanged);
            if set_upstream {
                for (key, value) in
                    [("remote", way.remote.as_str().to_owned()), ("merge", branch.reference())]
                {
                    let set = Command::new("config").options(["--local", "--replace-all"]);
                    way.git
                        .run(set.option(format!("branch.{}.{key}", branch.as_str())).option(value))
                        .await?;
                }
            }
            let done = json!({ "remote": way.remote.as_str(), "branch": branch.as_str(), "commit": commit });
            Ok::<_, ApiError>(done)
        };
        let mut done = on.to_its_end(work).await?;
        done["pushed"] = pushed(&printed).into_iter().take(MAX_UPDATES).collect();
        Ok(done)
    }))
}

enum Direction {
    From,
    To,
}

/// A session's way to a remote.
struct Way {
    row: SessionRow,
    agent: crate::agent::Agent,
    git: Git,
    /// The branch that is checked out.
    head: Option<BranchName>,
    remote: RemoteName,
    url: RemoteUrl,
}

impl On {
    /// Finds the remote that is meant. The URL that is looked at here is the one that is spoken to, whatever becomes of the
    /// configuration meanwhile.
    async fn way(
        &self,
        session: Option<&SessionId>,
        remote: Option<&str>,
        direction: Direction,
    ) -> Result<Way, ApiError> {
        let (row, is_owner) = self.runner(session, true).await?;
        let agent = self.state.agents.get(&self.hub, &row, is_owner).await?;
        let git = Git::open(agent.clone(), &row).await?;
        let head = head(&git).await?;
        let remotes = listed(&git).await?;
        let name = match (remote, &head) {
            (Some(name), _) => name.to_owned(),
            (None, Some(head)) => {
                let set = setting(&git, &format!("branch.{}.remote", head.as_str())).await?;
                set.unwrap_or_else(|| "origin".to_owned())
            }
            (None, None) => "origin".to_owned(),
        };
        let found = remotes.into_iter().find(|one| one.name == name);
        let found = found.ok_or_else(|| unknown(format!("there is no remote `{name}`")))?;
        let url = match direction {
            Direction::From => found.url,
            Direction::To => found.push_url.unwrap_or(found.url),
        };
        let (remote, url) = (RemoteName::new(&name)?, RemoteUrl::new(&url)?);
        Ok(Way { row, agent, git, head, remote, url })
    }

    async fn outside(&self, way: &Way) -> Result<Outside, ApiError> {
        let ssh = Ssh {
            proxy: self.hub.present_network().and_then(Network::proxy),
            trusts_first: self.state.agents.options().trusts_first_ssh,
        };
        Ok(Outside::open(&way.git, &way.agent, &way.row, &self.state.tasks, ssh).await?)
    }

    /// Does what is not to be cut short, nor held up by a client that does not read.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let lost = |_| ApiError::unavailable("perch stops; look at the status when it is back");
        self.state.tasks.spawn(work).await.map_err(lost)?
    }

    /// Fetches; gives what changed, and all references as they are now.
    async fn bring(&self, way: &Way, prunes: bool, told: &Told) -> Result<(Vec<Update>, Tips), ApiError> {
        let outside = self.outside(way).await?;
        let command = fetch_command(&way.url, &way.remote, prunes);
        outside.run(command, &way.url, |line| told.tell(line)).await?;
        let refs = outside.refs().await?;
        let updates = Update::between(&outside.before, &refs, &way.remote);
        if !updates.is_empty() {
            let (turn, git, commands) = (self.hub.git_turn().await, way.git.clone(), update_refs(&updates));
            let hub = Arc::clone(&self.hub);
            self.to_its_end(async move {
                let _turn = turn;
                for command in commands {
                    git.run(command).await?;
                }
                // Not each remote's references are watched.
                hub.events().publish(&Event::GitChanged);
                Ok(())
            })
            .await?;
        }
        Ok((updates, refs))
    }
}

fn done(way: &Way, updates: &[Update], more: Value) -> Value {
    let named = &updates[..updates.len().min(MAX_UPDATES)];
    let mut done = json!({ "remote": way.remote.as_str(), "updates": named, "count": updates.len() });
    if let (Value::Object(done), Value::Object(more)) = (&mut done, more) {
        done.extend(more);
    }
    done
}

fn unknown(detail: String) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "git_unknown_revision", detail)
}

fn detached() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "git_detached",
        "no branch is checked out; name one, or check one out",
    )
}

/// What a command prints that fails in silence where there is nothing.
async fn if_any(git: &Git, command: Command) -> Result<Option<Vec<u8>>, ApiError> {
    match git.run(command).await {
        Ok(printed) => Ok(Some(printed)),
        Err(GitError::Failed(failure)) if failure.said.is_empty() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn listed(git: &Git) -> Result<Vec<Remote>, ApiError> {
    Ok(if_any(git, list_remotes()).await?.map(|printed| Remote::parse(&printed)).unwrap_or_default())
}

async fn setting(git: &Git, name: &str) -> Result<Option<String>, ApiError> {
    let command = Command::new("config").options(["--null", "--includes", "--get"]).option(name);
    let printed = if_any(git, command).await?;
    Ok(printed.map(|printed| String::from_utf8_lossy(&printed).trim_end_matches('\0').to_owned()))
}

async fn head(git: &Git) -> Result<Option<BranchName>, ApiError> {
    let printed = if_any(git, Command::new("symbolic-ref").options(["--quiet", "HEAD"])).await?;
    let name = printed.map(|printed| String::from_utf8_lossy(&printed).trim_end().to_owned());
    Ok(name.and_then(|name| BranchName::new(name.strip_prefix("refs/heads/")?).ok()))
}

/// The commit that a reference stands at.
async fn look(git: &Git, reference: &str) -> Result<Option<Oid>, ApiError> {
    let command = Command::new("rev-parse").options(["--verify", "--quiet", "--end-of-options"]);
    let printed = if_any(git, command.option(format!("{reference}^{{commit}}"))).await?;
    Ok(printed.and_then(|printed| Oid::new(String::from_utf8_lossy(&printed).trim()).ok()))
}

async fn tip(git: &Git) -> Result<Option<Oid>, ApiError> {
    look(git, "HEAD").await
}

/// The branch at the remote that a branch follows.
async fn upstream(git: &Git, branch: &BranchName) -> Result<Option<BranchName>, ApiError> {
    let name = setting(git, &format!("branch.{}.merge", branch.as_str())).await?;
    Ok(name.and_then(|name| BranchName::new(name.strip_prefix("refs/heads/")?).ok()))
}

impl From<BadRemote> for ApiError {
    fn from(error: BadRemote) -> Self {
        match error {
            BadRemote::Url(why) => Self::new(StatusCode::BAD_REQUEST, "git_url_refused", why),
            BadRemote::Name(why) => Self::bad_request(why),
        }
    }
}
