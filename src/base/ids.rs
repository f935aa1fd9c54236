//! Ids as types of their own, so that one can't be passed for another.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdError(pub &'static str);

macro_rules! generated_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(Box<str>);

        impl $name {
            /// A new id that sorts by the time it was made (UUID version 7).
            #[must_use]
            pub fn generate() -> Self {
                Self(format!(concat!($prefix, "_{}"), uuid::Uuid::now_v7().simple()).into())
            }

            /// The text form, as on the wire and in the database.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let rest = text
                    .strip_prefix(concat!($prefix, "_"))
                    .ok_or(IdError(concat!("an id of this kind starts with `", $prefix, "_`")))?;
                let is_id = rest.len() == 32
                    && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if !is_id {
                    return Err(IdError(concat!("`", $prefix, "_` is followed by 32 hexadecimal digits")));
                }
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

generated_id!(
    /// Names an entry of the audit log.
    AuditId, "au"
);
generated_id!(
    /// A branch: `br_` and 32 hexadecimal digits.
    BranchId, "br"
);
generated_id!(
    /// One document of a branch; a new generation of the same path has a new one.
    DocumentId, "do"
);
generated_id!(
    /// Bytes kept of a refused writer.
    DraftId, "dr"
);
generated_id!(
    /// A share link.
    LinkId, "li"
);
generated_id!(
    /// A token for previews (its public half; the secret is stored hashed only).
    PreviewTokenId, "pt"
);
generated_id!(
    /// A state of a branch's files that can be gone back to.
    RestoreId, "rp"
);
generated_id!(
    /// A terminal of a branch, open or closed.
    TerminalId, "tm"
);
generated_id!(
    /// An API token (its public half; the secret is stored hashed only).
    TokenId, "tk"
);

/// A session's name on its branch: 1 to 64 of `[A-Za-z0-9._-]`, the first one alphanumeric. Chosen by the caller.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct SessionId(Box<str>);

impl SessionId {
    /// A fresh one for a caller that named none: `s-` and 32 hexadecimal digits.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("s-{}", uuid::Uuid::now_v7().simple()).into())
    }

    /// The text form, as on the wire and in the database.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let ok = (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(IdError(
                "a session id is 1 to 64 of letters, digits, `.`, `_` and `-`, the first a letter or digit",
            ))
        }
    }
}

impl TryFrom<String> for SessionId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_parse_back_and_others_do_not() {
        let id = BranchId::generate();
        assert_eq!(id.as_str().parse::<BranchId>().unwrap(), id);
        assert!(id.as_str().parse::<DocumentId>().is_err());
        assert!("br_../../x".parse::<BranchId>().is_err());
    }

    #[test]
    fn session_ids_are_short_plain_words() {
        for good in ["a", "ann", "0.b_c-d", &"x".repeat(64)] {
            assert!(good.parse::<SessionId>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "ä", "a b", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
