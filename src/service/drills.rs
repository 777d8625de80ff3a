//! Restore drills: the newest backup of a volume is restored to see that it can be, held against its own record, and thrown away.
//!
//! The throw-away copy is what a restore builds before it takes the place of the volume's data, and it never takes that place: a
//! [`Fill`](crate::driver::Fill) that is given up. So it has no name, is in no list, in no backup and under no policy; it is within
//! the volume's own size; and its intent is on disk before it is begun, so that the next start removes what a crash leaves.
//! The volume may be in use meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::fills::Filling;
use super::jobs::{JobStatus, Live, Outcome};
use super::repositories::{Opened, Place};
use super::restores::Restorable;
use super::{Inner, Result, Service, ServiceError};
use crate::driver::{Driver, DriverError, Target};
use crate::engine::compare::{self, Compared};
use crate::engine::{Backup, Kind};
use crate::model::{Bytes, RootDirectory, Task, Time, Volume, Work};

/// What of a filesystem's free space a drill leaves alone, in percent of its need.
const MARGIN: u64 = 5;

impl Service {
    /// Begins a drill of a volume; one that is at work is that one.
    pub async fn drill(&self, volume: &str) -> Result<JobStatus> {
        let (this, volume) = (self.clone(), volume.to_owned());
        self.change(async move {
            let name = this.resolve(&volume).await?;
            let entry = this.known(&name)?;
            this.begin_drill(&entry.volume, false).await
        })
        .await
    }

    pub(super) async fn begin_drill(&self, volume: &Volume, by_schedule: bool) -> Result<JobStatus> {
        let of_volume =
            |work: &Work| matches!(work, Work::Drill { volume_id, .. } if *volume_id == volume.id);
        if let Some(job) = self.0.jobs.find(of_volume) {
            return self.job(job).await;
        }
        let _held = self.0.locks.lock(volume.name.as_str()).await;
        let entry = self.known(&volume.name)?;
        DriverError::refuse_restoring(&entry.volume, "drill")?;
        let policy = self.policy_of(&entry.volume);
        let place = Place::of_destination(policy.backup_dest.as_deref(), None, &self.settings().backups)?;
        self.begin_job(Work::Drill {
            volume: volume.name.clone(),
            volume_id: volume.id,
            destination: place.url(),
            by_schedule,
        })
        .await
    }

    /// Does a drill, and records what became of it where no policy's turn does.
    pub(super) async fn work_drill(&self, live: &Arc<Live>) -> Result<Outcome> {
        let Work::Drill {
            volume,
            volume_id,
            by_schedule,
            ..
        } = live.job().work
        else {
            unreachable!("the caller has looked");
        };
        let (begun, clock) = (Time::now(), Instant::now());
        let result = self.drill_once(live).await;
        let cut_off = self.is_stopping() || live.progress.is_cancelled();
        if !by_schedule && !cut_off {
            let done = result.as_ref().map(drop).map_err(ServiceError::one_line);
            self.remember_past(volume_id, Task::Drill, begun, clock.elapsed(), done)
                .await;
            if let Ok(entry) = self.known(&volume) {
                self.tell_health_of(&entry.volume);
            }
        }
        if !cut_off {
            let mut about = vec![("state", if result.is_ok() { "ok" } else { "failed" }.to_owned())];
            match &result {
                Ok(outcome) => {
                    let text = |key: &str| {
                        outcome
                            .get(key)
                            .and_then(|v| v.as_str())
                            .unwrap_or_default()
                            .to_owned()
                    };
                    about.push(("backup", text("BackupURL")));
                }
                Err(error) => about.push(("error", error.one_line())),
            }
            self.events().emit("volume.drill", &volume, &about);
        }
        result
    }

    async fn drill_once(&self, live: &Arc<Live>) -> Result<Outcome> {
        let Work::Drill {
            volume: name,
            volume_id,
            destination,
            ..
        } = live.job().work
        else {
            unreachable!("the caller has looked");
        };
        let entry = self.known(&name)?;
        if entry.volume.id != volume_id {
            return Err(super::volumes::not_found(&volume_id.to_string()));
        }
        DriverError::refuse_restoring(&entry.volume, "drill")?;
        let driver = self.driver_of(&entry.volume)?;
        let settings = self.0.backups_of(&name);
        let place = Place::parse(&destination, None, &settings)?.in_volume(&name);
        let (live, volume, begun) = (live.clone(), entry.volume.clone(), Instant::now());
        let mut outcome = self
            .background(move |inner| {
                let opened = inner.repositories.open(&settings, &place.destination, &name)?;
                opened.repository.refresh()?;
                let backup = newest(&opened, &volume)?.ok_or_else(|| ServiceError::NotFound {
                    what: "backup",
                    name: format!("of volume {name} at {destination}"),
                })?;
                let url = place.backup(backup.name()).url();
                live.note(format!("restoring {url}"));
                let mut outcome = inner.rehearse(&driver, &volume, opened, backup, &live)?;
                outcome.insert("BackupURL".to_owned(), json!(url));
                outcome.insert("VolumeName".to_owned(), json!(name));
                Ok(outcome)
            })
            .await?;
        let seconds = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        outcome.insert("Seconds".to_owned(), json!(seconds));
        Ok(outcome)
    }

    /// Ends the drill of a volume and waits for its end.
    pub(super) async fn cancel_drill_of(&self, volume: &Volume) {
        let of_volume =
            |work: &Work| matches!(work, Work::Drill { volume_id, .. } if *volume_id == volume.id);
        if let Some(job) = self.0.jobs.find(of_volume) {
            // What comes of it, the job itself says.
            let _ = self.cancel_job(job).await;
            let _ = self.wait_for_job(job, Duration::from_secs(3600)).await;
        }
    }
}

impl Inner {
    /// Restores a backup aside, compares it, and throws it away. Blocks.
    fn rehearse(
        &self,
        driver: &Arc<dyn Driver>,
        volume: &Volume,
        opened: Opened,
        backup: Backup,
        live: &Arc<Live>,
    ) -> Result<Outcome> {
        let progress = &live.progress;
        let kind = backup.manifest().map_or(Kind::Tree, |manifest| manifest.kind);
        self.check_room(driver, volume, &opened, &backup, kind)?;
        let filling = Filling::new(driver, volume, RootDirectory::default(), progress);
        let (looked, log) = (driver.clone(), live.clone());
        let built = filling.build(self, move |target, progress| {
            let repository = opened.repository.clone();
            let found = Restorable::Ours {
                opened,
                backup: Box::new(backup.clone()),
            };
            let mut outcome = found.write(target, progress)?;
            progress.phase("comparing");
            let compared = match target {
                Target::Tree { path } => compare::tree(&repository, &backup, path, progress)?,
                Target::Block { path, .. } => compare::image(&repository, &backup, path, progress)?,
            };
            judge(&compared, target, &log)?;
            progress.phase("checking the filesystem");
            if let Some(words) = looked.check_target(target)? {
                log.note(words);
            }
            progress.check()?;
            outcome.insert("Verified".to_owned(), json!(true));
            outcome.insert("BytesRead".to_owned(), json!(compared.bytes));
            Ok(outcome)
        })?;
        let outcome = built.outcome.clone();
        filling.discard(self, built)?;
        Ok(outcome)
    }

    /// Refuses a drill for which the driver has too little room: other volumes need it.
    fn check_room(
        &self,
        driver: &Arc<dyn Driver>,
        volume: &Volume,
        opened: &Opened,
        backup: &Backup,
        kind: Kind,
    ) -> Result<()> {
        let room = match driver.pool() {
            Some(pool) => {
                let status = pool.status()?;
                let kept = status.data.total / 100 * status.reserve;
                Some(
                    status
                        .data
                        .total
                        .saturating_sub(status.data.used)
                        .saturating_sub(kept),
                )
            }
            None => driver.room()?.map(|room| room.0),
        };
        let Some(room) = room else { return Ok(()) };
        let need = match kind {
            Kind::Tree => backup
                .record
                .summary
                .as_ref()
                .map_or(0, |summary| summary.total_bytes_processed),
            Kind::Block => compare::bytes_of_image(&opened.repository, backup)?,
        };
        let need = need.saturating_add(need / 100 * MARGIN);
        match need <= room {
            true => Ok(()),
            false => Err(ServiceError::Unavailable(format!(
                "a drill of volume {} needs {} for the restored copy, and driver {} has {}; make room, or set its backup.drill to none",
                volume.name,
                Bytes(need),
                driver.name(),
                Bytes(room)
            ))),
        }
    }
}

/// The newest backup of that volume, or of the one that it was restored from.
fn newest(opened: &Opened, volume: &Volume) -> Result<Option<Backup>> {
    let before = volume.restored_from.as_ref().map(|from| from.volume);
    let ids = [Some(volume.id.uuid()), before];
    let is_its = |backup: &Backup| {
        let manifest = backup.manifest();
        manifest.is_some_and(|manifest| ids.contains(&Some(manifest.volume.id)))
    };
    Ok(opened.repository.backups()?.into_iter().rev().find(is_its))
}

/// Differences are damage, each with its path below the volume's root.
fn judge(compared: &Compared, target: &Target, live: &Arc<Live>) -> Result<()> {
    let (Target::Tree { path } | Target::Block { path, .. }) = target;
    let root = format!("{}/", path.display());
    let shown = |what: &String| what.strip_prefix(&root).unwrap_or(what).to_owned();
    let Some(first) = compared.differences.first() else {
        return Ok(());
    };
    compared
        .differences
        .iter()
        .for_each(|what| live.note(shown(what)));
    Err(ServiceError::Damaged {
        first: format!("what was restored is not what was backed up: {}", shown(first)),
        more: usize::try_from(compared.different.saturating_sub(1)).unwrap_or(usize::MAX),
    })
}

impl Service {
    /// Records what became of a task that was begun at `begun`.
    pub(super) async fn remember_past(
        &self,
        volume: crate::model::VolumeId,
        task: Task,
        begun: Time,
        took: Duration,
        done: std::result::Result<(), String>,
    ) {
        let past = self.0.care.locked().add(volume, task, begun, took, done);
        let put = move |inner: &Inner| Ok(inner.state.put_past(volume, task, &past)?);
        if let Err(error) = self.blocking(put).await {
            log::error!("{error}");
        }
    }
}
