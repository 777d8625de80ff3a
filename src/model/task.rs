//! Work that policies ask for again and again, and what has become of it.

use serde::{Deserialize, Serialize};

use super::{Name, Span, Time};

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

/// What has happened of one task of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Past {
    /// When the last one that succeeded was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<Time>,
    /// When the last one was begun, whatever became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Time>,
    /// How many have failed since one succeeded.
    #[serde(default)]
    pub failures: u32,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long the last one took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<Span>,
}

impl Past {
    /// With one more, begun at `begun`.
    pub fn and(self, begun: Time, result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self {
                succeeded: Some(begun),
                tried: Some(begun),
                failures: 0,
                error: None,
                took: None,
            },
            Err(why) => Self {
                tried: Some(begun),
                failures: self.failures.saturating_add(1),
                error: Some(why),
                took: None,
                ..self
            },
        }
    }

    /// With the time that the last one took.
    pub fn lasting(self, took: Span) -> Self {
        Self {
            took: Some(took),
            ..self
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
