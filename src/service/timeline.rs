//! A volume's history on one line of time: its snapshots and backups, and what was done to see that they are good.
//!
//! Of volumes that were removed there is what their destination has. Work that left nothing behind (a failed backup, a
//! verification) is known by the jobs that this host remembers.

use std::sync::Arc;

use super::repositories::Place;
use super::travel::Remains;
use super::{JobStatus, Result, Service, ServiceError};
use crate::engine::EngineError;
use crate::model::{JobState, Time, Volume, Work};

/// A volume's history.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// The volume's name.
    pub name: String,
    /// Its record, where it is here or in the trash.
    pub volume: Option<Arc<Volume>>,
    /// When it was removed, if it is in the trash.
    pub removed: Option<Time>,
    /// What there is and what happened, the oldest first.
    pub marks: Vec<Mark>,
    /// What a person should know: one sentence each.
    pub notes: Vec<String>,
}

/// One moment of a volume's history.
#[derive(Debug, Clone)]
pub struct Mark {
    /// When: of a snapshot or a backup, the moment of the data.
    pub at: Time,
    /// What.
    pub kind: MarkKind,
    /// `ok`, `failed` or `running`.
    pub state: &'static str,
    /// `<volume>@<snapshot>`, a URL, or what was looked at.
    pub name: String,
    /// Why it failed, or how far it is; may be empty.
    pub detail: String,
}

/// What a [`Mark`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkKind {
    /// The volume was made.
    Created,
    /// A snapshot.
    Snapshot,
    /// A backup, or one that failed.
    Backup,
    /// A look whether backups can be restored.
    Verification,
    /// A backup that was restored to see that it can be.
    Drill,
    /// The volume was removed.
    Removed,
}

impl MarkKind {
    /// As answers write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Snapshot => "snapshot",
            Self::Backup => "backup",
            Self::Verification => "verification",
            Self::Drill => "drill",
            Self::Removed => "removed",
        }
    }
}

impl Service {
    /// The history of a volume, from `since` on.
    pub async fn timeline(&self, volume: &str, since: Option<Time>) -> Result<Timeline> {
        let remains = self.remains(volume).await?;
        let (mut marks, mut notes) = (Vec::new(), Vec::new());
        if let Some(volume) = &remains.volume {
            marks.push(ok(volume.created, MarkKind::Created, volume.name.to_string()));
            marks.extend(volume.snapshots.iter().map(|snapshot| {
                let name = format!("{}@{}", volume.name, snapshot.name);
                ok(snapshot.created, MarkKind::Snapshot, name)
            }));
        }
        marks.extend(
            remains
                .removed
                .map(|removed| ok(removed, MarkKind::Removed, remains.name.to_string())),
        );
        match self.dated_backups(&remains).await {
            Ok(Some(backups)) => marks.extend(
                backups
                    .into_iter()
                    .map(|dated| ok(dated.at, MarkKind::Backup, dated.listed.url)),
            ),
            Ok(None) => {}
            Err(error) if remains.volume.is_some() || !is_absence(&error) => {
                notes.push(format!("its backups are not shown: {}", error.one_line()));
            }
            Err(_) => {}
        }
        let jobs = self.jobs().await?;
        marks.extend(jobs.iter().filter_map(|status| self.mark_of(status, &remains)));
        if marks.is_empty() && notes.is_empty() {
            return Err(super::volumes::not_found(volume));
        }
        marks.retain(|mark| since.is_none_or(|since| mark.at >= since));
        marks.sort_by(|a, b| (a.at, a.kind, &a.name).cmp(&(b.at, b.kind, &b.name)));
        Ok(Timeline {
            name: remains.name.to_string(),
            volume: remains.volume,
            removed: remains.removed,
            marks,
            notes,
        })
    }

    /// What a job was for a volume; backups that succeeded are there themselves.
    fn mark_of(&self, status: &JobStatus, of: &Remains) -> Option<Mark> {
        let job = &status.job;
        let kind = match &job.work {
            Work::Backup { volume, .. } if *volume == of.name && job.state != JobState::Done => {
                MarkKind::Backup
            }
            Work::Drill { volume, .. } if *volume == of.name => MarkKind::Drill,
            Work::Verify { target, .. } if self.concerns(target, of) => MarkKind::Verification,
            _ => return None,
        };
        let (state, detail) = match (job.state, &job.failure) {
            (JobState::Done, _) => ("ok", String::new()),
            (JobState::Failed, failure) => (
                "failed",
                failure
                    .as_ref()
                    .map_or_else(String::new, |failure| failure.message.clone()),
            ),
            (JobState::Queued | JobState::Running, _) => ("running", status.in_words()),
            (JobState::Cancelled, _) => return None,
        };
        Some(Mark {
            at: job.ended.or(job.started).unwrap_or(job.created),
            kind,
            state,
            name: job.work.object(),
            detail,
        })
    }

    /// Whether a destination, a repository or a backup is the volume's, or has the volume's.
    fn concerns(&self, target: &str, of: &Remains) -> bool {
        let settings = self.settings();
        let Ok(place) = Place::parse(target, None, &settings.backups) else {
            return false;
        };
        if let Some(volume) = &place.volume {
            return *volume == of.name;
        }
        let policy = of.volume.as_ref().map(|volume| self.policy_of(volume));
        let dest = policy.and_then(|policy| policy.backup_dest);
        Place::of_destination(dest.as_deref(), None, &settings.backups)
            .is_ok_and(|its| its.destination == place.destination)
    }
}

fn ok(at: Time, kind: MarkKind, name: String) -> Mark {
    Mark {
        at,
        kind,
        state: "ok",
        name,
        detail: String::new(),
    }
}

fn is_absence(error: &ServiceError) -> bool {
    matches!(error, ServiceError::Engine(EngineError::NoRepository { .. }))
}
