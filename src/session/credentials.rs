//! A session's tokens for git's remotes. They rest in a file of its `~/.private` and nowhere else; perch holds one only while
//! it hands it over.

use crate::agent::{Agent, AgentError, FileAnswer, FileError, FileOp};
use crate::git::{BadCredential, CREDENTIALS, Credential, MAX_CREDENTIALS, Scope, from_file, to_file};
use serde_bytes::ByteBuf;

/// Why tokens were not taken.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// One is malformed.
    #[error(transparent)]
    Bad(#[from] BadCredential),
    /// The session has as many as it may.
    #[error("a session has at most {MAX_CREDENTIALS} tokens for git; delete one first")]
    TooMany,
    /// There is none for this protocol, host and path.
    #[error("the session has no such token")]
    NotFound,
    /// `~/.private` does not take them.
    #[error("{0}")]
    File(FileError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// The session's tokens.
///
/// # Errors
/// See [`CredentialError`].
pub async fn credentials(agent: &Agent) -> Result<Vec<Credential>, CredentialError> {
    match agent.file(FileOp::PrivateRead(CREDENTIALS.to_owned())).await? {
        FileAnswer::Bytes(bytes) => Ok(from_file(&bytes)),
        FileAnswer::Refused(error) if error != FileError::NotFound => Err(CredentialError::File(error)),
        _ => Ok(Vec::new()),
    }
}

async fn write(agent: &Agent, credentials: &[Credential]) -> Result<(), CredentialError> {
    let bytes = ByteBuf::from(to_file(credentials));
    match agent.file(FileOp::PrivateWrite(CREDENTIALS.to_owned(), bytes)).await? {
        FileAnswer::Refused(error) => Err(CredentialError::File(error)),
        _ => Ok(()),
    }
}

/// Gives the session tokens, each in place of the one for the same remotes. Git that is under way takes them when it asks
/// next.
///
/// # Errors
/// See [`CredentialError`]; nothing changed then.
pub async fn put_credentials(agent: &Agent, new: Vec<Credential>) -> Result<(), CredentialError> {
    let new = new.into_iter().map(Credential::checked).collect::<Result<Vec<_>, _>>()?;
    let _turn = agent.private_turn().await;
    let mut all = credentials(agent).await?;
    for one in new {
        all.retain(|old| old.scope() != one.scope());
        all.push(one);
    }
    if all.len() > MAX_CREDENTIALS {
        return Err(CredentialError::TooMany);
    }
    write(agent, &all).await
}

/// Takes the token for these remotes away.
///
/// # Errors
/// [`CredentialError::NotFound`] where there is none.
pub async fn remove_credential(agent: &Agent, scope: Scope) -> Result<(), CredentialError> {
    let scope = scope.checked()?;
    let _turn = agent.private_turn().await;
    let mut all = credentials(agent).await?;
    let count = all.len();
    all.retain(|one| one.scope() != scope);
    if all.len() == count {
        return Err(CredentialError::NotFound);
    }
    write(agent, &all).await
}
