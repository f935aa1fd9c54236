//! What a session or token may do.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The right of a session, token or link. Ordered: `Read < Write`, so `min` is "at most".
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Reads files and documents, watches; changes nothing.
    Read,
    /// Reads and changes.
    Write,
}

impl Permission {
    /// The word used on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            _ => Err("a permission is `read` or `write`"),
        }
    }
}
