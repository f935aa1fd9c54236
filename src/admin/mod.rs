//! What is done beside a perch that may be running: `perch token` and `perch keys`, backups,
//! `perch doctor`.

mod backup;
mod doctor;
mod restore;

pub use backup::{backup, export};
pub use doctor::doctor;
pub use restore::restore;

use crate::audit::{By, Noted};
use crate::base::{Clock, TokenId};
use crate::config::{KeysAction, KeysCommand, Place, TokenAction, TokenCommand, data_folder};
use crate::session::{Keys, create_token};
use crate::store::{Options, Store};
use anyhow::Context;
use secrecy::ExposeSecret;
use std::io::Write;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

async fn open(place: &Place) -> anyhow::Result<Store> {
    let data = data_folder(place.data.as_ref())?;
    let options = Options { database_url: place.database_url.clone(), data: data.clone() };
    let store = Store::open_beside(&options).await.with_context(|| {
        format!("can't open the database of {}; has perch been started there once?", data.display())
    })?;
    store
        .tokens()
        .await
        .context("the database has no tables of perch, or of another version; start perch on it once")?;
    Ok(store)
}

/// Makes, lists or revokes API tokens, and prints what came of it.
///
/// # Errors
/// Says what is in the way.
pub async fn token(command: TokenCommand, out: &mut impl Write) -> anyhow::Result<()> {
    let store = open(&command.place).await?;
    let clock = Clock::system();
    match command.action {
        TokenAction::Create { name, owner } => {
            let (token, secret) = create_token(&store, &clock, &name, owner).await?;
            note(&store, &clock, "token.made", &token.id).await?;
            writeln!(out, "{} {}", token.id, secret.expose_secret())?;
        }
        TokenAction::List => {
            for token in store.tokens().await? {
                let kind = if token.is_owner { "owner" } else { "api" };
                let state = if token.revoked_at_ms.is_some() { "revoked" } else { "valid" };
                let made =
                    OffsetDateTime::from_unix_timestamp(token.created_at_ms / 1_000)?.format(&Rfc3339)?;
                writeln!(out, "{} {kind} {made} {state} {}", token.id, token.name)?;
            }
        }
        TokenAction::Revoke { id } => {
            let id: TokenId = id.parse()?;
            let was_valid = store.revoke_token(&id, clock.now_ms()).await?;
            anyhow::ensure!(was_valid, "there is no valid token {id}; see `perch token list`");
            note(&store, &clock, "token.revoked", &id).await?;
            writeln!(out, "revoked {id}")?;
        }
    }
    store.close().await;
    Ok(())
}

async fn note(store: &Store, clock: &Clock, action: &'static str, id: &TokenId) -> anyhow::Result<()> {
    let (subject, detail) = (Some(id.to_string()), serde_json::Map::new());
    let noted = Noted { action, by: By::Command, branch: None, address: None, subject, detail };
    Ok(store.add_audit(&[noted.row(clock.now_ms())]).await?)
}

/// Rotates the keys that sign session tokens.
///
/// # Errors
/// Says what is in the way.
pub fn keys(command: &KeysCommand, out: &mut impl Write) -> anyhow::Result<()> {
    let KeysAction::Rotate { drop_old } = command.action;
    let path = data_folder(command.place.data.as_ref())?.join("keys.json");
    Keys::rotate(&path, drop_old).with_context(|| format!("can't rotate the keys in {}", path.display()))?;
    writeln!(
        out,
        "a new key signs session tokens{}",
        if drop_old { "; all older tokens are invalid" } else { "" }
    )?;
    Ok(())
}
