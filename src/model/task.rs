//! Work that policies ask for again and again, and what has become of it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InvalidValue, Name, Time};

/// A sort of such work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// A snapshot by `snapshot.schedule`.
    Snapshot,
    /// A backup by `backup.schedule` or `backup.rpo`.
    Backup,
    /// A look at the newest backup after it was made, by `backup.verify=sample`.
    Verify,
    /// A look at every byte of all backups, by `backup.verify=full=…`.
    VerifyFull,
    /// The space of removed files back to the pool, by `trim.schedule`.
    Trim,
    /// A restore drill by `backup.drill`.
    Drill,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Snapshot,
        Self::Backup,
        Self::Verify,
        Self::VerifyFull,
        Self::Trim,
        Self::Drill,
    ];

    /// As records, events and answers write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Backup => "backup",
            Self::Verify => "verify",
            Self::VerifyFull => "verify-full",
            Self::Trim => "trim",
            Self::Drill => "drill",
        }
    }

    /// The one that is written so.
    pub fn called(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.word() == word)
    }
}

/// Some of them, as an option lists them: `backup,snapshot`. Where nothing is said, it is backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tasks(BTreeSet<Task>);

impl Tasks {
    /// Reads a list.
    ///
    /// # Errors
    /// A word that is no task, or none at all.
    pub fn parse(option: &str, value: &str) -> Result<Self, InvalidValue> {
        let words = value.split(',').map(|word| Task::called(word.trim()));
        words
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| InvalidValue::Value {
                option: option.to_owned(),
                value: value.to_owned(),
                expected: format!("one or more of {}", Self(Task::ALL.into_iter().collect())),
            })
    }

    /// Whether this is one of them.
    pub fn has(&self, task: Task) -> bool {
        self.0.contains(&task)
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self([Task::Backup].into())
    }
}

impl fmt::Display for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|task| task.word()).collect();
        f.write_str(&words.join(","))
    }
}

impl TryFrom<String> for Tasks {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        Self::parse("tasks", &text)
    }
}

impl From<Tasks> for String {
    fn from(tasks: Tasks) -> Self {
        tasks.to_string()
    }
}

/// What has happened of one task of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Past {
    /// When the last one that succeeded was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<Time>,
    /// When the last one was begun, whatever became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Time>,
    /// How long the last one that succeeded took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// How many have failed since one succeeded.
    #[serde(default)]
    pub failures: u32,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Past {
    /// With one more, begun at `begun`.
    pub fn and(self, begun: Time, result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self {
                succeeded: Some(begun),
                tried: Some(begun),
                took_ms: None,
                failures: 0,
                error: None,
            },
            Err(why) => Self {
                tried: Some(begun),
                failures: self.failures.saturating_add(1),
                error: Some(why),
                ..self
            },
        }
    }
}

impl Task {
    /// The beginning of the names of snapshots that are taken for it, if any are.
    fn prefix(self) -> Option<&'static str> {
        match self {
            Self::Snapshot => Some("scheduled-"),
            Self::Backup => Some("scheduled-backup-"),
            Self::Verify | Self::VerifyFull | Self::Trim | Self::Drill => None,
        }
    }

    /// The name of a snapshot that is taken for it: `scheduled-20261120T083000Z`.
    ///
    /// # Panics
    /// Where no snapshot is taken for such a task.
    pub fn name(self, at: Time) -> Name {
        let moment: String = at
            .to_string()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let prefix = self.prefix().expect("a task that takes snapshots");
        Name::snapshot(&format!("{prefix}{moment}")).expect("letters, digits and dashes")
    }

    /// Whether a snapshot of that name, or a backup of one, was made for it, and is its to take away.
    pub fn has_made(self, name: &str) -> bool {
        let prefix = self.prefix();
        prefix.is_some_and(|prefix| name.strip_prefix(prefix).is_some_and(is_moment))
    }
}

fn is_moment(moment: &str) -> bool {
    let moment = moment.as_bytes();
    moment.len() == 16
        && moment.iter().enumerate().all(|(index, byte)| match index {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_who_took_a_snapshot() {
        let at = Time::from_second(1_795_132_800);
        assert_eq!(Task::Snapshot.name(at).as_str(), "scheduled-20261120T000000Z");
        assert_eq!(
            Task::Backup.name(at).as_str(),
            "scheduled-backup-20261120T000000Z"
        );
        for task in [Task::Snapshot, Task::Backup] {
            let made = Task::ALL.map(|other| other.has_made(task.name(at).as_str()));
            assert_eq!(made, Task::ALL.map(|other| other == task), "each its own");
        }
        for other in [
            "scheduled-",
            "scheduled-before-upgrade",
            "scheduled-20261120T00000Z",
            "20261120T000000Z",
            "monday",
        ] {
            assert!(!Task::Snapshot.has_made(other), "{other}");
        }
    }

    #[test]
    fn each_task_is_found_by_its_word() {
        for task in Task::ALL {
            assert_eq!(Task::called(task.word()), Some(task));
        }
        assert_eq!(Task::called("verify full"), None);
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let at = Time::from_second;
        let past = Past::default()
            .and(at(1), Ok(()))
            .and(at(2), Err("a".into()))
            .and(at(3), Err("b".into()));
        assert_eq!(
            (past.succeeded, past.tried, past.failures),
            (Some(at(1)), Some(at(3)), 2)
        );
        assert_eq!(past.error.as_deref(), Some("b"));
        let past = past.and(at(4), Ok(()));
        assert_eq!(
            (past.succeeded, past.failures, past.error),
            (Some(at(4)), 0, None)
        );
        assert_eq!(Task::called("backup"), Some(Task::Backup));
    }
}
