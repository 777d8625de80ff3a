//! The name of a backup, or of all backups at a place: `<destination>?volume=<name>&backup=<id>`.

use std::fmt;

use super::{EngineError, Result};
use crate::store::Destination;
use crate::store::destination::with_query;

/// The longest name of a volume or backup in a URL: that of a file.
const MAX_NAME_BYTES: usize = 255;

/// A backup's URL, taken apart. Convoy's URLs are read too; only their names may begin with another character than a
/// letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackupUrl {
    /// Where the repositories are.
    pub destination: Destination,
    /// The volume: of `[a-zA-Z0-9_.-]`, and neither `.` nor `..`.
    pub volume: Option<String>,
    /// The backup's id, or as much of it as was given; of the same alphabet.
    pub backup: Option<String>,
}

impl BackupUrl {
    /// Reads a URL; both names may be missing. `endpoint` is that of `--s3-endpoint`; it goes before one in the URL.
    ///
    /// # Errors
    /// [`EngineError::Store`] for what is wrong with the destination, [`EngineError::Invalid`] for the rest.
    pub fn parse(url: &str, endpoint: Option<&str>) -> Result<Self> {
        let (destination, mut rest) = Destination::parse_with_query(url, endpoint)?;
        let volume = rest.remove("volume");
        let backup = rest.remove("backup");
        for (what, name) in [("volume", &volume), ("backup", &backup)] {
            if let Some(name) = name {
                check(what, name)?;
            }
        }
        if let Some(stray) = rest.keys().next() {
            return Err(EngineError::Invalid(format!(
                "{destination}: a backup's URL has no parameter {stray:?}; it is {destination}?volume=NAME&backup=ID"
            )));
        }
        Ok(Self {
            destination,
            volume,
            backup,
        })
    }

    /// The URL of one backup.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for a name that cannot be one.
    pub fn of(destination: Destination, volume: &str, backup: &str) -> Result<Self> {
        check("volume", volume)?;
        check("backup", backup)?;
        Ok(Self {
            destination,
            volume: Some(volume.to_owned()),
            backup: Some(backup.to_owned()),
        })
    }

    /// The volume and the backup, where both must be named.
    ///
    /// # Errors
    /// [`EngineError::Invalid`], which says what is missing.
    pub fn names(&self) -> Result<(&str, &str)> {
        match (&self.volume, &self.backup) {
            (Some(volume), Some(backup)) => Ok((volume, backup)),
            (volume, _) => Err(EngineError::Invalid(format!(
                "{self} names no {}; `windlass backup list` shows the URLs of the backups at a destination",
                if volume.is_some() { "backup" } else { "volume" }
            ))),
        }
    }
}

impl fmt::Display for BackupUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [("volume", &self.volume), ("backup", &self.backup)];
        let names = names
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)));
        f.write_str(&with_query(self.destination.url(), names))
    }
}

/// A path is built from the names, so they are checked here, once.
fn check(what: &str, name: &str) -> Result<()> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if fits {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(EngineError::Invalid(format!(
        "{shown:?} cannot be the name of a {what} in a backup's URL: letters, digits, '_', '.' and '-' can"
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_of_both_programs_are_read_and_ours_are_written() {
        for (given, written) in [
            ("vfs:///b?volume=v&backup=0123", "vfs:///b?volume=v&backup=0123"),
            (
                "vfs:///b?backup=backup-1\\u0026volume=_v",
                "vfs:///b?volume=_v&backup=backup-1",
            ),
            (
                "s3://b@r/p?backup=x&endpoint=http://h:1&volume=v",
                "s3://b@r/p?endpoint=http://h:1&volume=v&backup=x",
            ),
            ("vfs:///b", "vfs:///b"),
            ("vfs:///b?volume=v", "vfs:///b?volume=v"),
        ] {
            let read = BackupUrl::parse(given, None).unwrap_or_else(|error| panic!("{given}: {error}"));
            assert_eq!(read.to_string(), written);
        }
        let read = BackupUrl::parse("s3://b/?volume=v&backup=x", Some("http://h:1")).expect("valid");
        assert_eq!(read.to_string(), "s3://b?endpoint=http://h:1&volume=v&backup=x");
        assert_eq!(read.names().expect("both"), ("v", "x"));
    }

    #[test]
    fn names_that_could_leave_the_destination_and_strays_are_refused() {
        for bad in [
            "vfs:///b?volume=..&backup=x",
            "vfs:///b?volume=a%2Fb",
            "vfs:///b?volume=",
            "vfs:///b?volume=v&backup=.",
            "vfs:///b?volume=v&bakcup=x",
            "vfs://b?volume=v",
        ] {
            assert!(BackupUrl::parse(bad, None).is_err(), "{bad} was accepted");
        }
        let said = BackupUrl::parse("vfs:///b?volume=v", None)
            .expect("valid")
            .names()
            .expect_err("half a name")
            .to_string();
        assert!(said.contains("names no backup"), "{said}");
    }

    proptest! {
        #[test]
        fn printing_and_reading_gives_the_same(
            volume in prop::option::of("[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,30}"),
            backup in prop::option::of("[a-f0-9]{1,64}"),
            endpoint in prop::option::of("http://[a-z]{1,8}(:8[0-9]{3})?"),
        ) {
            let destination = Destination::parse("s3://bucket@region/p", endpoint.as_deref()).expect("valid");
            let url = BackupUrl { destination, volume, backup };
            let read = BackupUrl::parse(&url.to_string(), None).map_err(|error| error.to_string());
            prop_assert_eq!(read, Ok(url));
        }
    }
}
