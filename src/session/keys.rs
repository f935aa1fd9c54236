//! Signed session tokens. The keys lie in the data folder, readable by perch alone, so tokens outlive a restart.

use crate::base::{BranchId, Permission, SessionId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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

/// Why a token or the key file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not one of ours, changed, or expired.
    #[error("the session token is not valid")]
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

/// The signing keys: the last one signs, all verify.
pub struct Keys {
    keys: Vec<(String, SecretString)>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("count", &self.keys.len()).finish()
    }
}

impl Keys {
    /// Reads the keys at `path`; makes the first one if there is none.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Damaged`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let stored: Vec<StoredKey> = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| KeyError::Damaged)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
                let id = format!("{:016x}", rand::random::<u64>());
                let keys = vec![StoredKey { id, secret }];
                let temp = path.with_extension("new");
                let mut options = fs::OpenOptions::new();
                let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
                file.write_all(&serde_json::to_vec(&keys).map_err(|_| KeyError::Damaged)?)?;
                file.sync_all()?;
                fs::rename(&temp, path)?;
                keys
            }
            Err(error) => return Err(error.into()),
        };
        if stored.is_empty() {
            return Err(KeyError::Damaged);
        }
        Ok(Self { keys: stored.into_iter().map(|key| (key.id, key.secret.into())).collect() })
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] if the library can't use the key.
    pub fn sign(&self, claims: &Claims) -> Result<SecretString, KeyError> {
        let (id, secret) = self.keys.last().ok_or(KeyError::Damaged)?;
        let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
        jsonwebtoken::encode(&header, claims, &key).map(Into::into).map_err(|_| KeyError::Damaged)
    }

    /// What a token says, if one of our keys signed it and it has not expired.
    ///
    /// # Errors
    /// [`KeyError::Token`].
    pub fn verify(&self, token: &str) -> Result<Claims, KeyError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| KeyError::Token)?;
        let (_, secret) =
            self.keys.iter().find(|(id, _)| header.kid.as_deref() == Some(id)).ok_or(KeyError::Token)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        let key = DecodingKey::from_secret(secret.expose_secret().as_bytes());
        let data = jsonwebtoken::decode(token, &key, &validation).map_err(|_| KeyError::Token)?;
        Ok(data.claims)
    }
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
}
