//! Long work and what becomes of it: the record of a job, as the state database keeps it and the API shows it.
//!
//! A record holds all that is needed to do the work again after a restart, and nothing secret: passwords and keys are
//! looked up when the work begins.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::failure::FailureKind;
use super::{Name, SnapshotId, Time, VolumeId};

/// A job's number: rises, and is never used twice on one state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a job is to do. Destinations and backups are given by their canonical URLs, which hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Work {
    /// Copies a snapshot, or a volume as it is, into a repository.
    Backup {
        /// The volume's name.
        volume: Name,
        /// The volume.
        volume_id: VolumeId,
        /// The snapshot's name.
        snapshot: Name,
        /// The snapshot.
        snapshot_id: SnapshotId,
        /// What is read.
        #[serde(default)]
        reads: Reads,
        /// Where to.
        destination: String,
        /// Take the repository over from the volume that it belongs to.
        #[serde(default)]
        take_over: bool,
        /// No new backup where the volume is as the newest one has it.
        #[serde(default)]
        only_if_changed: bool,
    },
    /// Fills a new volume from a backup.
    Restore {
        /// The volume's name.
        volume: Name,
        /// The volume.
        volume_id: VolumeId,
        /// The backup.
        backup: String,
    },
    /// Restores a volume's newest backup aside, compares it, and throws it away.
    Drill {
        /// The volume's name.
        volume: Name,
        /// The volume.
        volume_id: VolumeId,
        /// Where the backup is.
        destination: String,
        /// A policy wants it.
        #[serde(default)]
        by_schedule: bool,
    },
    /// Looks whether backups can be restored.
    Verify {
        /// A backup, a repository (`…?volume=…`) or a destination.
        target: String,
        /// How much of the data is read: 0 is the structure alone, 100 every byte.
        percent: u8,
    },
    /// Takes away what no backup needs any more.
    Prune {
        /// A repository (`…?volume=…`) or a destination.
        target: String,
    },
    /// Copies a backup to another destination.
    Copy {
        /// The backup.
        backup: String,
        /// Where to.
        destination: String,
    },
    /// Deletes a backup.
    Delete {
        /// The backup.
        backup: String,
    },
}

/// What a backup job reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// A snapshot that a person has taken.
    #[default]
    Snapshot,
    /// One that was taken for the job and goes with it.
    OwnSnapshot,
    /// The volume itself, while it may be written to. The snapshot's name and id are only the backup's.
    Volume,
}

impl Work {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "backup",
            Self::Restore { .. } => "restore",
            Self::Drill { .. } => "drill",
            Self::Verify { .. } => "verify",
            Self::Prune { .. } => "prune",
            Self::Copy { .. } => "copy",
            Self::Delete { .. } => "delete",
        }
    }

    /// The volume of this host that it is about.
    pub fn volume(&self) -> Option<&Name> {
        match self {
            Self::Backup { volume, .. } | Self::Restore { volume, .. } | Self::Drill { volume, .. } => {
                Some(volume)
            }
            _ => None,
        }
    }

    /// What it is about, for events: a volume, `volume@snapshot` or a URL.
    pub fn object(&self) -> String {
        match self {
            Self::Backup {
                volume,
                reads: Reads::Volume,
                ..
            }
            | Self::Restore { volume, .. }
            | Self::Drill { volume, .. } => volume.to_string(),
            Self::Backup { volume, snapshot, .. } => format!("{volume}@{snapshot}"),
            Self::Verify { target, .. } | Self::Prune { target, .. } => target.clone(),
            Self::Copy { backup, .. } | Self::Delete { backup, .. } => backup.clone(),
        }
    }

    /// Its parameters for people, by name.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Backup {
                snapshot,
                destination,
                take_over,
                ..
            } => vec![
                ("Snapshot", snapshot.to_string()),
                ("Destination", destination.clone()),
                ("TakeOver", take_over.to_string()),
            ],
            Self::Restore { backup, .. } | Self::Delete { backup } => vec![("Backup", backup.clone())],
            Self::Verify { target, percent } => {
                vec![("Target", target.clone()), ("Percent", percent.to_string())]
            }
            Self::Drill { destination, .. } => vec![("Destination", destination.clone())],
            Self::Prune { target } => vec![("Target", target.clone())],
            Self::Copy { backup, destination } => {
                vec![("Backup", backup.clone()), ("Destination", destination.clone())]
            }
        }
    }
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for its turn.
    Queued,
    /// It is at work.
    Running,
    /// It did what it was to do.
    Done,
    /// It could not.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl JobState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// As records and answers write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What failed, on which object and why: one line.
    pub message: String,
    /// What to do about it; may be empty.
    #[serde(default)]
    pub hint: String,
}

/// A line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub time: Time,
    /// What happened.
    pub text: String,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What it is to do.
    pub work: Work,
    /// Where it is in its life.
    pub state: JobState,
    /// How often it was begun; more than once after the daemon's end in the middle.
    #[serde(default)]
    pub attempts: u32,
    /// When it was asked for.
    pub created: Time,
    /// When it was begun last.
    #[serde(default)]
    pub started: Option<Time>,
    /// When it ended.
    #[serde(default)]
    pub ended: Option<Time>,
    /// What came of it, by the API's keys.
    #[serde(default)]
    pub result: serde_json::Map<String, serde_json::Value>,
    /// Why it failed.
    #[serde(default)]
    pub failure: Option<JobFailure>,
    /// What happened meanwhile, the latest [`Job::MAX_LOG`] lines.
    #[serde(default)]
    pub log: Vec<LogLine>,
}

impl Job {
    /// So many lines of a log are kept.
    pub const MAX_LOG: usize = 200;

    /// Adds a line to the log.
    pub fn note(&mut self, text: impl Into<String>) {
        if self.log.len() >= Self::MAX_LOG {
            self.log.remove(0);
        }
        self.log.push(LogLine {
            time: Time::now(),
            text: text.into(),
        });
    }
}
