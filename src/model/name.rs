//! Names of volumes and snapshots, validated once, so that no path is ever built from an unchecked string.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// The name of a volume or of a snapshot: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 255 bytes.
///
/// It is a single path component that is neither `.` nor `..` nor hidden, on every filesystem that Linux mounts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The longest name: `NAME_MAX` of Linux' filesystems.
    pub const MAX_BYTES: usize = 255;

    /// Checks the name of a volume.
    pub fn volume(name: &str) -> Result<Self, InvalidValue> {
        Self::checked("volume", name)
    }

    /// Checks the name of a snapshot.
    pub fn snapshot(name: &str) -> Result<Self, InvalidValue> {
        Self::checked("snapshot", name)
    }

    /// A name for a volume that came without one: `volume-` and 8 hexadecimal digits.
    pub fn random_volume() -> Self {
        Self(format!("volume-{}", random_digits()))
    }

    /// A name for a snapshot that came without one: `snapshot-` and 8 hexadecimal digits.
    pub fn random_snapshot() -> Self {
        Self(format!("snapshot-{}", random_digits()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn checked(what: &'static str, name: &str) -> Result<Self, InvalidValue> {
        if name.is_empty() {
            return Err(InvalidValue::EmptyName { what });
        }
        let stray = name
            .char_indices()
            .find(|&(at, c)| !(c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '_' | '.' | '-'))));
        if let Some((at, found)) = stray {
            let name = name.chars().take(80).collect();
            return Err(InvalidValue::NameAlphabet {
                what,
                name,
                found,
                at,
            });
        }
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidValue::LongName {
                what,
                length: name.len(),
            });
        }
        Ok(Self(name.to_owned()))
    }
}

fn random_digits() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<std::path::Path> for Name {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidValue;

    fn try_from(name: String) -> Result<Self, InvalidValue> {
        Self::checked("object", &name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

/// How a person points at a snapshot: `snapshot` where that is unambiguous, `volume@snapshot` always.
/// Either part may be a name, a UUID or the beginning of a UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRef {
    /// The part before `@`.
    pub volume: Option<String>,
    /// The part after `@`, or the whole.
    pub snapshot: String,
}

impl SnapshotRef {
    /// Splits `volume@snapshot`; neither part is looked up or checked here.
    pub fn parse(text: &str) -> Self {
        match text.split_once('@') {
            Some((volume, snapshot)) => Self {
                volume: Some(volume.to_owned()),
                snapshot: snapshot.to_owned(),
            },
            None => Self {
                volume: None,
                snapshot: text.to_owned(),
            },
        }
    }
}

impl fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.volume {
            Some(volume) => write!(f, "{volume}@{}", self.snapshot),
            None => f.write_str(&self.snapshot),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_could_leave_the_directory_or_hide_in_it() {
        for bad in [
            "", ".", "..", "../x", "a/b", ".hidden", "-rf", "_x", "a\0b", "naïve", "a b", "a@b", "a\n",
        ] {
            assert!(Name::volume(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(Name::volume(&"x".repeat(256)).is_err());
    }

    #[test]
    fn accepts_docker_s_alphabet_up_to_the_longest() {
        for good in ["a", "0", "pg_data-1.2", "A..B"] {
            assert_eq!(Name::volume(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        assert!(Name::volume(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn says_which_character_and_where() {
        let said = Name::volume("pg data").expect_err("a blank").to_string();
        assert!(said.contains("' '") && said.contains("byte 2"), "{said}");
    }

    #[test]
    fn random_names_are_valid_names() {
        assert!(Name::volume(Name::random_volume().as_str()).is_ok());
        assert!(Name::snapshot(Name::random_snapshot().as_str()).is_ok());
    }

    #[test]
    fn a_snapshot_reference_splits_at_the_first_at_sign() {
        assert_eq!(SnapshotRef::parse("s").volume, None);
        let both = SnapshotRef::parse("v@s");
        assert_eq!((both.volume.as_deref(), both.snapshot.as_str()), (Some("v"), "s"));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_one_ordinary_path_component(name in any::<String>()) {
            if let Ok(name) = Name::volume(&name) {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(matches!(path.components().next(), Some(std::path::Component::Normal(_))));
                prop_assert!(name.as_str().len() <= 255 && !name.as_str().starts_with('.'));
            }
        }

        #[test]
        fn every_name_of_the_alphabet_is_accepted(name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}") {
            prop_assert!(Name::volume(&name).is_ok());
        }
    }
}
