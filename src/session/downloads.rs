//! Signed downloads: whoever has the link reads one file or folder of a branch for a short time, without a token.

use super::keys::{KeyError, Keys};
use crate::base::{BranchId, Permission, SessionId, TokenId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Signed along: the same keys sign session tokens, and neither may pass for the other.
const AUDIENCE: &str = "download";

/// The seat of whoever made the link, which ends with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// The session.
    pub session: SessionId,
    /// Its epoch when the link was made.
    pub epoch: i64,
}

/// What a link allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// The branch.
    pub branch: BranchId,
    /// Relative to the workspace, `/`-separated. Of a folder it may be `''`: the workspace itself.
    pub path: String,
    /// A folder as an archive, and not a file.
    #[serde(default)]
    pub is_folder: bool,
    /// `None`: made with an API token.
    pub maker: Option<Maker>,
    /// The API token that made it; `None`: a session did, or the token of perch's environment.
    pub token: Option<TokenId>,
    /// Seconds since 1970.
    pub exp: i64,
}

/// The same for links of the SDK's.
const SDK_AUDIENCE: &str = "sdk-download";

/// What a link of the SDK's allows: a file, or a folder as an archive, as its session sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdkDownload {
    /// The branch.
    pub branch: BranchId,
    /// Who made it.
    pub maker: Maker,
    /// At most with this right.
    pub permission: Permission,
    /// Absolute, as the session's shells write it.
    pub path: String,
    /// Globs of what is left out of a folder.
    pub excludes: Vec<String>,
    /// Seconds since 1970.
    pub exp: i64,
}

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    aud: String,
    #[serde(flatten)]
    download: T,
}

impl Keys {
    /// Signs a link.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] if the library can't use the key.
    pub fn sign_download(&self, download: &Download) -> Result<SecretString, KeyError> {
        self.seal(&Sealed { aud: AUDIENCE.into(), download })
    }

    /// What a link allows, if one of our keys signed it as one and it has not expired. Whether its maker is still
    /// there is not looked at.
    ///
    /// # Errors
    /// [`KeyError::Token`].
    pub fn verify_download(&self, token: &str) -> Result<Download, KeyError> {
        let Sealed { download, .. } = self.unseal(token, Some(AUDIENCE))?;
        Ok(download)
    }

    /// Signs a link of the SDK's.
    ///
    /// # Errors
    /// As [`Keys::sign_download`].
    pub fn sign_sdk_download(&self, download: &SdkDownload) -> Result<SecretString, KeyError> {
        self.seal(&Sealed { aud: SDK_AUDIENCE.into(), download })
    }

    /// What a link of the SDK's allows; as [`Keys::verify_download`].
    ///
    /// # Errors
    /// [`KeyError::Token`].
    pub fn verify_sdk_download(&self, token: &str) -> Result<SdkDownload, KeyError> {
        let Sealed { download, .. } = self.unseal(token, Some(SDK_AUDIENCE))?;
        Ok(download)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Claims;
    use secrecy::ExposeSecret;

    fn download(exp: i64) -> Download {
        let maker = Some(Maker { session: "ann".parse().unwrap(), epoch: 1 });
        Download {
            branch: BranchId::generate(),
            path: "a b/ä.txt".into(),
            is_folder: false,
            maker,
            token: None,
            exp,
        }
    }

    #[test]
    fn links_and_session_tokens_never_pass_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(&folder.path().join("keys.json")).unwrap();
        let (good, session) = (download(i64::MAX / 2), "ann".parse().unwrap());
        let link = keys.sign_download(&good).unwrap();
        assert_eq!(keys.verify_download(link.expose_secret()).unwrap(), good);
        let of_api = Download { maker: None, token: Some(TokenId::generate()), ..good.clone() };
        let link_of_api = keys.sign_download(&of_api).unwrap();
        assert_eq!(keys.verify_download(link_of_api.expose_secret()).unwrap(), of_api);
        let expired = keys.sign_download(&download(1_000)).unwrap();
        assert!(keys.verify_download(expired.expose_secret()).is_err());
        let of_sdk = SdkDownload {
            branch: good.branch.clone(),
            maker: good.maker.clone().unwrap(),
            permission: Permission::Read,
            path: "/project/workspace/a".into(),
            excludes: vec!["*.log".into()],
            exp: good.exp,
        };
        let sdk_link = keys.sign_sdk_download(&of_sdk).unwrap();
        assert_eq!(keys.verify_sdk_download(sdk_link.expose_secret()).unwrap(), of_sdk);
        assert!(keys.verify_download(sdk_link.expose_secret()).is_err());
        assert!(keys.verify_sdk_download(link.expose_secret()).is_err());
        assert!(keys.verify(sdk_link.expose_secret()).is_err());
        let claims = Claims {
            branch: good.branch.clone(),
            session,
            permission: Permission::Write,
            epoch: 1,
            exp: good.exp,
        };
        let token = keys.sign(&claims).unwrap();
        assert!(keys.verify(token.expose_secret()).is_ok());
        assert!(keys.verify_download(token.expose_secret()).is_err());
        assert!(keys.verify(link.expose_secret()).is_err());
        // Not for want of a field: each with all that the other says.
        let both = |aud: Option<&str>| {
            let mut both = serde_json::to_value(&good).unwrap();
            both.as_object_mut()
                .unwrap()
                .extend(serde_json::to_value(&claims).unwrap().as_object().unwrap().clone());
            if let Some(aud) = aud {
                both["aud"] = aud.into();
            }
            keys.seal(&both).unwrap()
        };
        assert!(keys.verify(both(None).expose_secret()).is_ok());
        assert!(keys.verify_download(both(None).expose_secret()).is_err());
        assert!(keys.verify(both(Some(AUDIENCE)).expose_secret()).is_err());
        assert!(keys.verify_download(both(Some(AUDIENCE)).expose_secret()).is_ok());
        assert!(keys.verify_download(both(Some("other")).expose_secret()).is_err());
    }
}
