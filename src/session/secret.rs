//! Secrets that callers hold: made here, stored as hashes only.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

/// A new secret of 256 random bits, `perch_` or another word before them.
#[must_use]
pub fn new_secret(prefix: &str) -> SecretString {
    format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())).into()
}

/// What is stored of a secret. A plain hash does: what is hashed has 256 random bits, or is the operator's choice.
#[must_use]
pub fn token_hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}
