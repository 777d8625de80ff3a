//! How it is seen to that backups can be restored: `sample`, `full=@weekly`, or both.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InvalidValue, Schedule};

/// What is verified, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Verification {
    /// After each backup by schedule: its structure, and a sample of its data.
    pub sample: bool,
    /// When every byte of the repository is read.
    pub full: Option<Schedule>,
}

impl Verification {
    /// Reads `sample`, `full=<schedule>` or `sample,full=<schedule>`.
    ///
    /// # Errors
    /// [`InvalidValue::Value`], naming `option`.
    pub fn parse(option: &str, text: &str) -> Result<Self, InvalidValue> {
        let refuse = || InvalidValue::Value {
            option: option.to_owned(),
            value: text.chars().take(200).collect(),
            expected: "'sample' (after each backup), 'full=@weekly', or both: 'sample,full=@weekly'"
                .to_owned(),
        };
        // Cron expressions have commas too.
        let (sample, rest) = match text.trim().strip_prefix("sample") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text.trim()),
        };
        let full = match (sample, rest) {
            (true, "") => None,
            (true, rest) => Some(rest.strip_prefix(',').ok_or_else(refuse)?),
            (false, rest) => Some(rest),
        };
        let full = match full {
            None => None,
            Some(full) => {
                let when = full.trim().strip_prefix("full=").ok_or_else(refuse)?;
                Some(Schedule::parse(option, when)?)
            }
        };
        Ok(Self { sample, full })
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.sample, &self.full) {
            (true, None) => f.write_str("sample"),
            (false, None) => f.write_str("none"),
            (true, Some(full)) => write!(f, "sample,full={full}"),
            (false, Some(full)) => write!(f, "full={full}"),
        }
    }
}

impl From<Verification> for String {
    fn from(verification: Verification) -> Self {
        verification.to_string()
    }
}

impl TryFrom<String> for Verification {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        Self::parse("backup.verify", &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "sample",
            "full=@weekly",
            "sample,full=@monthly",
            "sample,full=0 3 * * 1,4",
        ] {
            let read = Verification::parse("backup.verify", text).expect(text);
            assert_eq!(read.to_string(), text);
            let record = serde_json::to_string(&read).expect("written");
            assert_eq!(serde_json::from_str::<Verification>(&record).expect("read"), read);
        }
        for text in [
            "",
            "always",
            "sample full=@weekly",
            "full",
            "full=sometimes",
            "sample,",
            "full=@weekly,sample",
        ] {
            let said = Verification::parse("backup.verify", text)
                .expect_err(text)
                .to_string();
            assert!(said.contains("backup.verify"), "{said}");
        }
    }
}
