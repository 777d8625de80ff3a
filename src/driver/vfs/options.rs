//! The driver's options, `vfs.<key>` in the configuration.

use std::path::PathBuf;

use super::super::{DriverOptions, Scope};
use crate::model::{Bytes, InvalidValue, nearest};

/// All keys.
const KEYS: [&str; 3] = ["defaultvolumesize", "path", "scope"];

/// The options in their own types.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) path: Option<PathBuf>,
    pub(super) scope: Scope,
    /// The size of volumes that name none; it has an effect only where the filesystem has quotas.
    pub(super) default_size: Option<Bytes>,
}

impl Options {
    pub(super) fn parse(given: &DriverOptions) -> Result<Self, InvalidValue> {
        let mut options = Self {
            path: None,
            scope: Scope::Local,
            default_size: None,
        };
        for (key, value) in given {
            match key.as_str() {
                "path" => options.path = Some(path(value)?),
                "scope" => options.scope = scope(value)?,
                "defaultvolumesize" => {
                    options.default_size = Some(Bytes::parse("vfs.defaultvolumesize", value)?);
                }
                _ => return Err(unknown(key)),
            }
        }
        Ok(options)
    }
}

fn path(value: &str) -> Result<PathBuf, InvalidValue> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(refused("vfs.path", value, "an absolute path"))
    }
}

fn scope(value: &str) -> Result<Scope, InvalidValue> {
    [Scope::Local, Scope::Global]
        .into_iter()
        .find(|scope| scope.word() == value)
        .ok_or_else(|| refused("vfs.scope", value, "local or global"))
}

fn refused(option: &str, value: &str, expected: &str) -> InvalidValue {
    InvalidValue::Value {
        option: option.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

fn unknown(key: &str) -> InvalidValue {
    InvalidValue::UnknownOption {
        name: format!("vfs.{}", key.chars().take(80).collect::<String>()),
        nearest: nearest(key, KEYS).map(|key| format!("vfs.{key}")),
        valid: KEYS.map(|key| format!("vfs.{key}")).join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<Options, InvalidValue> {
        Options::parse(
            &given
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn reads_all_of_them() {
        let options = parse(&[
            ("path", "/srv/volumes"),
            ("scope", "global"),
            ("defaultvolumesize", "10G"),
        ]);
        let expected = Options {
            path: Some("/srv/volumes".into()),
            scope: Scope::Global,
            default_size: Some(Bytes(10 << 30)),
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn refuses_others_with_the_nearest_and_all() {
        let said = parse(&[("pth", "/x")]).expect_err("misspelt").to_string();
        assert!(
            said.contains("did you mean \"vfs.path\"") && said.contains("vfs.scope"),
            "{said}"
        );
        for (key, value) in [
            ("path", "relative"),
            ("scope", "world"),
            ("defaultvolumesize", "big"),
        ] {
            let said = parse(&[(key, value)]).expect_err(key).to_string();
            assert!(said.contains(&format!("vfs.{key}")), "{said}");
        }
    }
}
