//! Commands that make a volume's application quiet for the moment of a snapshot, and let it go on afterwards.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InvalidValue, Span};

/// The longest command.
const LONGEST: usize = 8_192;

/// The policy `hook.on-error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnHookError {
    /// Without the hook no snapshot. The default.
    #[default]
    Fail,
    /// The snapshot is taken all the same, and says so.
    Continue,
}

impl OnHookError {
    /// Reads `fail` or `continue`.
    ///
    /// # Errors
    /// [`InvalidValue::Value`], naming `option`.
    pub fn parse(option: &str, text: &str) -> Result<Self, InvalidValue> {
        match text {
            "fail" => Ok(Self::Fail),
            "continue" => Ok(Self::Continue),
            _ => Err(refused(option, text, "fail or continue")),
        }
    }
}

impl fmt::Display for OnHookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fail => "fail",
            Self::Continue => "continue",
        })
    }
}

/// What became of the hooks before a snapshot, as its record keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookOutcome {
    /// The application was made ready.
    Done,
    /// It was not, and the snapshot was taken all the same.
    Failed,
    /// No container ran that it could have been run in: nobody wrote.
    NoContainer,
    /// Whoever asked for the snapshot wanted none.
    LeftOut,
}

impl HookOutcome {
    /// The word that answers use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::NoContainer => "no-container",
            Self::LeftOut => "left-out",
        }
    }
}

/// A shell command. It is not read here: the container's shell is.
pub(super) fn script(option: &str, value: &str) -> Result<String, InvalidValue> {
    let plain = value.trim();
    match !plain.is_empty() && plain.len() <= LONGEST && !plain.contains('\0') {
        true => Ok(plain.to_owned()),
        false => Err(refused(option, value, "a shell command of at most 8192 bytes")),
    }
}

/// The name of a container or of a user.
pub(super) fn word(option: &str, value: &str) -> Result<String, InvalidValue> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:$".contains(&byte);
    match !value.is_empty() && value.len() <= 255 && value.bytes().all(plain) {
        true => Ok(value.to_owned()),
        false => Err(refused(option, value, "a name")),
    }
}

/// How long a hook may take.
pub(super) fn limit(option: &str, value: &str) -> Result<Span, InvalidValue> {
    match Span::parse(option, value)? {
        span if (Span::seconds(1)..=Span::seconds(3_600)).contains(&span) => Ok(span),
        _ => Err(refused(option, value, "between 1s and 1h")),
    }
}

fn refused(option: &str, value: &str, expected: &str) -> InvalidValue {
    InvalidValue::Value {
        option: option.to_owned(),
        value: value.chars().take(80).collect(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Policy;

    #[test]
    fn hooks_are_read_and_nonsense_is_refused() {
        let mut policy = Policy::default();
        for (name, value) in [
            ("hook.container", "db"),
            ("hook.on-error", "continue"),
            ("hook.post", "rm -f /tmp/quiet"),
            ("hook.pre", "psql -c 'CHECKPOINT'"),
            ("hook.timeout", "90s"),
            ("hook.user", "postgres"),
        ] {
            assert!(policy.set(name, value).expect(name), "{name}");
            assert_eq!(
                policy
                    .given()
                    .get(name)
                    .map(|value| value.trim_end_matches("m30s")),
                Some(if name == "hook.timeout" { "1" } else { value })
            );
        }
        for (name, value) in [
            ("hook.container", "a b"),
            ("hook.on-error", "ignore"),
            ("hook.pre", "  "),
            ("hook.post", "a\0b"),
            ("hook.timeout", "0s"),
            ("hook.timeout", "2h"),
            ("hook.user", ""),
        ] {
            assert!(policy.set(name, value).is_err(), "{name}={value:?}");
        }
    }
}
