//! Identities that outlive names: a volume keeps its id when it goes to the trash and comes back.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random identity.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The UUID itself.
            pub fn uuid(&self) -> Uuid {
                self.0
            }

            /// Whether `text` is this id or the beginning of it, hyphens and case aside.
            /// Fewer than 2 digits never match: they would point at nearly anything.
            pub fn starts_with(&self, text: &str) -> bool {
                let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
                digits.len() >= 2 && self.0.simple().to_string().starts_with(&digits)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

identity! {
    /// The identity of a volume.
    VolumeId
}
identity! {
    /// The identity of a snapshot.
    SnapshotId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_id_matches_from_its_beginning_only() {
        let id: VolumeId = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d".parse().expect("a UUID");
        assert!(id.starts_with("0a1b2c3d4e") && id.starts_with("0A1B2C3D-4E5F") && id.starts_with("0a"));
        assert!(!id.starts_with("1b2c") && !id.starts_with("0") && !id.starts_with(""));
    }
}
