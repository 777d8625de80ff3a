//! What becomes of a volume's data when the volume is removed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// The policy `on-remove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRemove {
    /// Moved aside for a time (`trash-ttl`), restorable by `windlass undelete`. The default.
    #[default]
    Trash,
    /// Destroyed.
    Delete,
    /// Left where it is; a later create of that name takes it up again.
    Keep,
}

impl OnRemove {
    /// Reads `trash`, `delete` or `keep`.
    ///
    /// # Errors
    /// [`InvalidValue::Value`], naming `option`.
    pub fn parse(option: &str, text: &str) -> Result<Self, InvalidValue> {
        match text {
            "trash" => Ok(Self::Trash),
            "delete" => Ok(Self::Delete),
            "keep" => Ok(Self::Keep),
            _ => Err(InvalidValue::Value {
                option: option.to_owned(),
                value: text.to_owned(),
                expected: "trash, delete or keep".to_owned(),
            }),
        }
    }
}

impl fmt::Display for OnRemove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trash => "trash",
            Self::Delete => "delete",
            Self::Keep => "keep",
        })
    }
}
