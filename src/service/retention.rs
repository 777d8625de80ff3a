//! What is kept of what schedules made, and the taking away of the rest.
//!
//! Only what a schedule made is ever taken away, and nothing that somebody reads: a snapshot that a job reads stays until the next
//! time, and a backup shares its data with those that need them too (a prune takes away what none needs).

use std::time::{Duration, Instant};

use super::repositories::Place;
use super::{Result, Service, ServiceError};
use crate::engine::{Backup, EngineError, Id};
use crate::model::{Policy, SnapshotRef, Task, Time, Volume, VolumeId, Work};

/// The least time between two prunes of a volume's backups.
const PRUNE: Duration = Duration::from_secs(86_400);

/// A snapshot or a backup, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The snapshot's name, or the backup's URL.
    pub name: String,
    /// When it was taken.
    pub created: Time,
    /// Why it is kept: rules by their words, or `not by schedule`, `no rule`. Empty: it goes.
    pub why: Vec<&'static str>,
}

/// What a policy keeps of a volume's snapshots and backups, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// Its snapshots.
    pub snapshots: Vec<Judged>,
    /// Its backups at the policy's destination.
    pub backups: Vec<Judged>,
}

/// A backup, and why it is kept.
struct JudgedBackup {
    id: Id,
    judged: Judged,
}

impl Service {
    /// What the policy in force keeps of a volume's snapshots and backups now, and what it would take away. Changes nothing.
    pub async fn retention(&self, volume: &str) -> Result<Retention> {
        let name = self.resolve(volume).await?;
        let volume = self.known(&name)?.volume;
        let policy = self.policy_of(&volume);
        let wants_backups = policy.backup_dest.is_some()
            || policy.backup_keep.is_some()
            || policy.backup_schedule.is_some()
            || policy.backup_rpo.is_some();
        let backups = match wants_backups {
            true => self.judged_backups(&volume, &policy).await?,
            false => Vec::new(),
        };
        Ok(Retention {
            snapshots: self.judged_snapshots(&volume, &policy),
            backups: backups.into_iter().map(|backup| backup.judged).collect(),
        })
    }

    fn judged_snapshots(&self, volume: &Volume, policy: &Policy) -> Vec<Judged> {
        let all = volume.snapshots.iter().map(|snapshot| {
            let name = snapshot.name.to_string();
            let scheduled = Task::Snapshot.has_made(&name);
            (name, snapshot.created, scheduled)
        });
        self.judge(policy.snapshot_keep, all.collect())
    }

    async fn judged_backups(&self, volume: &Volume, policy: &Policy) -> Result<Vec<JudgedBackup>> {
        let settings = self.0.backups_of(&volume.name);
        let place = Place::of_destination(policy.backup_dest.as_deref(), None, &settings)?;
        let (name, id) = (volume.name.clone(), volume.id.to_string());
        let at = place.repository(&name);
        let own: Vec<Backup> = self
            .blocking(move |inner| {
                let opened = match inner.repositories.open(&settings, &place.destination, &name) {
                    Err(ServiceError::Engine(EngineError::NoRepository { .. })) => return Ok(Vec::new()),
                    opened => opened?,
                };
                let mut backups = opened.repository.backups()?;
                backups.retain(|backup| {
                    let manifest = backup.manifest();
                    manifest.is_some_and(|made| made.volume.id.to_string() == id)
                });
                Ok(backups)
            })
            .await?;
        let all = own.iter().map(|backup| {
            let made = backup.manifest();
            let scheduled = made.is_some_and(|made| Task::Backup.has_made(&made.snapshot.name));
            let created = Time::from_second(backup.record.time.as_second());
            (at.backup(backup.name()).url(), created, scheduled)
        });
        let judged = self.judge(policy.backup_keep, all.collect());
        let with_ids = own.iter().map(|backup| backup.id).zip(judged);
        Ok(with_ids.map(|(id, judged)| JudgedBackup { id, judged }).collect())
    }

    /// Judges things by name, moment and whether a schedule made them; only those are subject to the rules.
    fn judge(&self, keep: Option<crate::model::Keep>, all: Vec<(String, Time, bool)>) -> Vec<Judged> {
        let scheduled = all.iter().filter(|(_, _, scheduled)| *scheduled);
        let moments: Vec<Time> = scheduled.map(|(_, created, _)| *created).collect();
        let mut reasons = match keep {
            Some(keep) => keep.judge(&moments, &self.settings().time_zone),
            None => vec![vec!["no rule"]; moments.len()],
        }
        .into_iter();
        let judged = all.into_iter().map(|(name, created, scheduled)| Judged {
            name,
            created,
            why: match scheduled {
                true => reasons.next().unwrap_or_default(),
                false => vec!["not by schedule"],
            },
        });
        judged.collect()
    }

    /// Removes the snapshots taken by schedule that need not be kept. One that somebody reads stays until the next time.
    pub(super) async fn thin_out_snapshots(&self, volume: &Volume, policy: &Policy) -> Result<()> {
        let volume = self.known(&volume.name)?.volume;
        let judged = self.judged_snapshots(&volume, policy);
        for idle in judged.into_iter().filter(|judged| judged.why.is_empty()) {
            let reference = SnapshotRef {
                volume: Some(volume.name.to_string()),
                snapshot: idle.name,
            };
            match self.remove_snapshot(&reference).await {
                Ok(_) | Err(ServiceError::NotFound { .. } | ServiceError::Read { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets the backups made by schedule that need not be kept, and has what only they needed pruned once a day.
    pub(super) async fn thin_out_backups(&self, volume: &Volume, policy: &Policy) -> Result<()> {
        if policy.backup_keep.is_none() {
            return Ok(());
        }
        let judged = self.judged_backups(volume, policy).await?;
        let idle: Vec<Id> = judged
            .iter()
            .filter(|backup| backup.judged.why.is_empty())
            .map(|backup| backup.id)
            .collect();
        if idle.is_empty() {
            return Ok(());
        }
        let settings = self.0.backups_of(&volume.name);
        let place = Place::of_destination(policy.backup_dest.as_deref(), None, &settings)?;
        let (name, target) = (volume.name.clone(), place.in_volume(&volume.name).url());
        self.blocking(move |inner| {
            let opened = inner.repositories.open(&settings, &place.destination, &name)?;
            Ok(opened.repository.forget(&idle)?)
        })
        .await?;
        if self.may_prune(volume.id) {
            self.begin_job(Work::Prune { target }).await?;
        }
        Ok(())
    }

    /// Whether the last prune of a volume's backups is a day ago, or was made by a former run of the daemon.
    fn may_prune(&self, volume: VolumeId) -> bool {
        let mut known = self.0.care.locked();
        let last = known.pruned.get(&volume);
        let may = last.is_none_or(|last| last.elapsed() >= PRUNE);
        if may {
            known.pruned.insert(volume, Instant::now());
        }
        may
    }
}
