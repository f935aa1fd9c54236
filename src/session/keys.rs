//! Signed session tokens, and the keys that sign them and whatever else perch signs. They lie in the data folder,
//! readable by perch alone, so what is signed outlives a restart.

use crate::base::{BranchId, Permission, SessionId, Tasks};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroU16;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a session token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The branch.
    pub branch: BranchId,
    /// The session on it.
    pub session: SessionId,
    /// At most this right.
    pub permission: Permission,
    /// The session's epoch when it was made.
    pub epoch: i64,
    /// Seconds since 1970.
    pub exp: i64,
}

/// What lets a browser look at one preview: the session that asked for it, as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The branch.
    pub branch: BranchId,
    /// The port.
    pub port: NonZeroU16,
    /// The session on the branch.
    pub session: SessionId,
    /// The session's epoch when it was made.
    pub epoch: i64,
}

/// A pass as it is signed. Session tokens have no audience, so neither is taken for the other.
#[derive(Serialize, Deserialize)]
struct PassClaims {
    aud: String,
    #[serde(flatten)]
    pass: Pass,
    exp: i64,
}

/// The audience of passes.
const PREVIEW: &str = "preview";

/// Why a token or the key file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not one of ours, not meant for this, changed, or expired.
    #[error("the token is not valid")]
    Token,
    /// The key file can't be read or written.
    #[error("the key file can't be used: {0}")]
    File(#[from] io::Error),
    /// The key file is damaged.
    #[error("the key file is damaged; restore it, or remove it to make all session tokens invalid")]
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    id: String,
    secret: String,
}

/// Keys kept; a rotation drops the oldest one past it, and with it the tokens it signed.
const MAX_KEYS: usize = 8;
/// How often a running perch looks whether the file changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

type Ring = Arc<[(String, SecretString)]>;

/// The signing keys: the last one signs, all verify.
pub struct Keys {
    path: PathBuf,
    ring: RwLock<Ring>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("count", &self.ring().len()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the keys at `path`; makes the first one if there is none.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Damaged`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let ring = match read(path) {
            Err(KeyError::File(error)) if error.kind() == io::ErrorKind::NotFound => {
                write(path, &[new_key()])?;
                read(path)?
            }
            other => other?,
        };
        Ok(Self { path: path.to_owned(), ring: RwLock::new(ring) })
    }

    /// Adds a key to the file at `path`, which signs from then on; a running perch takes it up within seconds.
    /// `drop_old`: all others go, and with them every session token signed so far.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Damaged`].
    pub fn rotate(path: &Path, drop_old: bool) -> Result<(), KeyError> {
        let mut stored: Vec<StoredKey> = match fs::read(path) {
            Ok(_) if drop_old => Vec::new(),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| KeyError::Damaged)?,
            Err(error) => return Err(error.into()),
        };
        stored.push(new_key());
        stored.drain(..stored.len().saturating_sub(MAX_KEYS));
        write(path, &stored)
    }

    /// Takes up rotations of the file until perch stops.
    pub fn follow(self: &Arc<Self>, tasks: &Tasks) {
        let (this, stop) = (Arc::clone(self), tasks.stopping().clone());
        tasks.spawn(async move {
            while tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await.is_err() {
                let path = this.path.clone();
                match tokio::task::spawn_blocking(move || read(&path)).await {
                    Ok(Ok(ring))
                        if !ring.iter().map(|(id, _)| id).eq(this.ring().iter().map(|(id, _)| id)) =>
                    {
                        *this.ring.write() = ring;
                        tracing::info!("took up rotated session keys");
                    }
                    // The keys in memory go on while the file can't be read.
                    _ => {}
                }
            }
        });
    }

    fn ring(&self) -> Ring {
        Arc::clone(&self.ring.read())
    }

    /// Signs a session token.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] if the library can't use the key.
    pub fn sign(&self, claims: &Claims) -> Result<SecretString, KeyError> {
        self.seal(claims)
    }

    /// What a session token says, if one of our keys signed it and it has not expired.
    ///
    /// # Errors
    /// [`KeyError::Token`].
    pub fn verify(&self, token: &str) -> Result<Claims, KeyError> {
        // No audience: what was signed for one is no session token.
        self.unseal(token, None)
    }

    /// Signs a pass to a preview, good until `exp`, in seconds since 1970.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] if the library can't use the key.
    pub fn sign_pass(&self, pass: &Pass, exp: i64) -> Result<SecretString, KeyError> {
        self.seal(&PassClaims { aud: PREVIEW.to_owned(), pass: pass.clone(), exp })
    }

    /// What a pass to a preview says, if one of our keys signed it and it has not expired.
    ///
    /// # Errors
    /// [`KeyError::Token`].
    pub fn verify_pass(&self, token: &str) -> Result<Pass, KeyError> {
        self.unseal(token, Some(PREVIEW)).map(|claims: PassClaims| claims.pass)
    }

    pub(super) fn seal(&self, claims: &impl Serialize) -> Result<SecretString, KeyError> {
        let ring = self.ring();
        let (id, secret) = ring.last().ok_or(KeyError::Damaged)?;
        let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
        jsonwebtoken::encode(&header, claims, &key).map(Into::into).map_err(|_| KeyError::Damaged)
    }

    /// `audience`: what must stand in `aud`; without it there must be none.
    pub(super) fn unseal<T: DeserializeOwned>(
        &self,
        token: &str,
        audience: Option<&str>,
    ) -> Result<T, KeyError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| KeyError::Token)?;
        let ring = self.ring();
        let (_, secret) =
            ring.iter().find(|(id, _)| header.kid.as_deref() == Some(id)).ok_or(KeyError::Token)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            validation.set_required_spec_claims(&["exp", "aud"]);
        }
        let key = DecodingKey::from_secret(secret.expose_secret().as_bytes());
        let data = jsonwebtoken::decode(token, &key, &validation).map_err(|_| KeyError::Token)?;
        Ok(data.claims)
    }
}

fn new_key() -> StoredKey {
    let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    StoredKey { id: format!("{:016x}", rand::random::<u64>()), secret }
}

fn read(path: &Path) -> Result<Ring, KeyError> {
    let stored: Vec<StoredKey> = serde_json::from_slice(&fs::read(path)?).map_err(|_| KeyError::Damaged)?;
    if stored.is_empty() {
        return Err(KeyError::Damaged);
    }
    Ok(stored.into_iter().map(|key| (key.id, key.secret.into())).collect())
}

fn write(path: &Path, keys: &[StoredKey]) -> Result<(), KeyError> {
    let temp = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    file.write_all(&serde_json::to_vec(keys).map_err(|_| KeyError::Damaged)?)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(exp: i64) -> Claims {
        let session = "ann".parse().unwrap();
        Claims { branch: BranchId::generate(), session, permission: Permission::Write, epoch: 1, exp }
    }

    #[test]
    fn tokens_verify_until_they_expire_or_are_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let keys = Keys::load(&path).unwrap();
        let good = claims(i64::MAX / 2);
        let token = keys.sign(&good).unwrap();
        let again = Keys::load(&path).unwrap();
        assert_eq!(again.verify(token.expose_secret()).unwrap(), good, "keys survive a restart");
        let expired = keys.sign(&claims(1_000)).unwrap();
        assert!(keys.verify(expired.expose_secret()).is_err());
        let mut changed = token.expose_secret().to_owned();
        let at = changed.find('.').unwrap() + 3;
        changed.replace_range(at..=at, if &changed[at..=at] == "A" { "B" } else { "A" });
        assert!(keys.verify(&changed).is_err());
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), "e30");
        assert!(keys.verify(&unsigned).is_err());
        let other = Keys::load(&folder.path().join("other.json")).unwrap();
        assert!(other.verify(token.expose_secret()).is_err());
    }

    #[test]
    fn a_pass_is_no_token_and_a_token_is_no_pass() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(&folder.path().join("keys.json")).unwrap();
        let Claims { branch, session, epoch, exp, .. } = claims(i64::MAX / 2);
        let pass = Pass { branch, port: NonZeroU16::new(3000).unwrap(), session, epoch };
        let signed = keys.sign_pass(&pass, exp).unwrap();
        assert_eq!(keys.verify_pass(signed.expose_secret()).unwrap(), pass);
        assert!(keys.verify(signed.expose_secret()).is_err());
        let token = keys.sign(&claims(exp)).unwrap();
        assert!(keys.verify_pass(token.expose_secret()).is_err());
        // Nor by what is in it: the audience alone tells them apart.
        let both = serde_json::json!({"aud": "preview", "branch": pass.branch, "session": "ann", "permission": "write",
            "epoch": 1, "port": 3000, "exp": exp});
        let both = keys.seal(&both).unwrap();
        assert!(keys.verify(both.expose_secret()).is_err() && keys.verify_pass(both.expose_secret()).is_ok());
        let late = keys.sign_pass(&pass, 1_000).unwrap();
        assert!(keys.verify_pass(late.expose_secret()).is_err());
    }

    #[test]
    fn a_rotation_signs_anew_and_keeps_old_tokens_unless_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let before = Keys::load(&path).unwrap();
        let token = before.sign(&claims(i64::MAX / 2)).unwrap();
        Keys::rotate(&path, false).unwrap();
        let after = Keys::load(&path).unwrap();
        assert!(after.verify(token.expose_secret()).is_ok(), "old tokens stay");
        let fresh = after.sign(&claims(i64::MAX / 2)).unwrap();
        assert!(before.verify(fresh.expose_secret()).is_err(), "a new key signs");
        for _ in 0..MAX_KEYS + 2 {
            Keys::rotate(&path, false).unwrap();
        }
        assert_eq!(Keys::load(&path).unwrap().ring().len(), MAX_KEYS);
        Keys::rotate(&path, true).unwrap();
        let anew = Keys::load(&path).unwrap();
        assert_eq!(anew.ring().len(), 1);
        assert!(anew.verify(fresh.expose_secret()).is_err(), "dropped");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
