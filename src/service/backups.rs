//! Backups: of a snapshot into a repository, and what can be done with those that are there.
//!
//! Asking and listing are answered at once; what takes long is a job ([`super::jobs`]), and the longest is in
//! [`super::backup_work`]. A volume's lock is held while a snapshot is chosen or taken and while a job is recorded, never
//! while data move: what a job reads is kept from being removed by the record of the job itself.

use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::jobs::{JobStatus, Live, Outcome};
use super::repositories::{self, Opened, Place};
use super::{Found, Hooks, Result, Service, ServiceError, stored};
use crate::driver::DriverError;
use crate::engine::{Backup, EngineError, Id, Kind, Owner, Progress, copy, prune, verify};
use crate::model::{Bytes, InvalidValue, Name, Reads, SnapshotId, SnapshotRef, Task, Time, Volume, Work};

/// A wish for a backup.
#[derive(Debug, Clone)]
pub struct BackupWish {
    /// A snapshot, or a volume of which one is taken first.
    pub of: String,
    /// Where to; the settings' destination without one.
    pub destination: Option<String>,
    /// The S3 service.
    pub endpoint: Option<String>,
    /// Take the repository over from the volume that it belongs to.
    pub take_over: bool,
    /// A policy wants it, and may take it away again.
    pub by_schedule: bool,
    /// Whether the volume's hooks are run for the snapshot that is taken.
    pub hooks: Hooks,
    /// No new backup where the volume is as the newest one has it.
    pub only_if_changed: bool,
}

/// A backup with its URL.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The canonical URL.
    pub url: String,
    /// The volume whose repository it is in.
    pub volume: Name,
    /// The backup.
    pub backup: Backup,
}

impl Listed {
    /// `tree`, `block`, or empty for what another program made.
    pub fn kind(&self) -> &'static str {
        match self.backup.manifest().map(|manifest| manifest.kind) {
            None => "",
            Some(Kind::Tree) => "tree",
            Some(Kind::Block) => "block",
        }
    }
}

impl Service {
    /// Begins a backup.
    pub async fn back_up(&self, wish: BackupWish) -> Result<JobStatus> {
        let this = self.clone();
        self.change(async move {
            // What would fail in a minute is said now, and before a snapshot is taken.
            let volume = this.volume_of(&wish.of).await;
            let usual = volume
                .as_ref()
                .and_then(|volume| this.policy_of(volume).backup_dest);
            let settings = match &volume {
                Some(volume) => this.0.backups_of(&volume.name),
                None => this.settings().backups,
            };
            let destination = wish.destination.clone().or(usual);
            let place = Place::of_destination(destination.as_deref(), wish.endpoint.as_deref(), &settings)?;
            repositories::secret(&settings)?;
            let subject = this.subject(&wish).await?;
            let of = subject.volume.name.clone();
            let _held = this.0.locks.lock(of.as_str()).await;
            // It may have been removed before the lock was ours; from the job's record on, it cannot be.
            let (snapshot, snapshot_id) = match subject.reads {
                Reads::Volume => {
                    let entry = this.known(&of)?;
                    DriverError::refuse_restoring(&entry.volume, "backup")?;
                    (subject.snapshot, SnapshotId::random())
                }
                Reads::Snapshot | Reads::OwnSnapshot => {
                    let reference = SnapshotRef {
                        volume: Some(of.to_string()),
                        snapshot: subject.snapshot.to_string(),
                    };
                    let found = this.find_snapshot(&reference).await?;
                    (found.snapshot.name, found.snapshot.id)
                }
            };
            let status = this
                .begin_job(Work::Backup {
                    volume: of,
                    volume_id: subject.volume.id,
                    snapshot,
                    snapshot_id,
                    reads: subject.reads,
                    destination: place.url(),
                    take_over: wish.take_over,
                    only_if_changed: wish.only_if_changed,
                })
                .await?;
            this.note_job(status.job.id, &subject.remarks);
            Ok(status)
        })
        .await
    }

    /// The volume that a backup would be of, if there is one.
    async fn volume_of(&self, of: &str) -> Option<Arc<Volume>> {
        if let Ok(found) = self.find_snapshot(&SnapshotRef::parse(of)).await {
            return Some(found.volume);
        }
        let name = self.resolve(of).await.ok()?;
        self.known(&name).ok().map(|entry| entry.volume)
    }

    /// What a wish is for. Of a volume, a snapshot is taken now; where that would be a copy in a repository, the volume is
    /// read instead: one copy is enough, and the one that is made has the backup before it to compare with. But not where the
    /// volume has hooks: what they have made ready must be read before they let go, and no application waits for an upload.
    async fn subject(&self, wish: &BackupWish) -> Result<Subject> {
        let of = wish.of.as_str();
        let reference = SnapshotRef::parse(of);
        let missing = match self.find_snapshot(&reference).await {
            Ok(found) => return Ok(Subject::of(found, Reads::Snapshot)),
            Err(error @ ServiceError::NotFound { .. }) if reference.volume.is_none() => error,
            Err(error) => return Err(error),
        };
        let volume = match self.resolve(of).await {
            Ok(volume) => volume,
            Err(ServiceError::NotFound { .. }) => {
                return Err(ServiceError::NotFound {
                    what: "snapshot or volume",
                    name: of.to_owned(),
                });
            }
            Err(_) => return Err(missing),
        };
        let name = match wish.by_schedule {
            true => Task::Backup.name(Time::now()),
            false => snapshot_name(Time::now()),
        };
        let volume = self.known(&volume)?.volume;
        let hooked = wish.hooks == Hooks::Run && self.has_hooks(&volume);
        if stored::by_repository(&*self.driver_of(&volume)?).is_some() && !hooked {
            return Ok(Subject {
                volume,
                snapshot: name,
                reads: Reads::Volume,
                remarks: Vec::new(),
            });
        }
        let taken = self
            .snapshot(volume.name.as_str(), Some(name), wish.hooks)
            .await?;
        let mut subject = Subject::of(taken.found, Reads::OwnSnapshot);
        subject.remarks = taken.remarks;
        Ok(subject)
    }

    /// The backups in a destination, of all volumes or of one.
    pub async fn backups(
        &self,
        destination: Option<&str>,
        endpoint: Option<&str>,
        volume: Option<Name>,
    ) -> Result<Vec<Listed>> {
        let settings = self.settings().backups;
        let place = match destination {
            // A repository's URL is as good as a destination and a volume.
            Some(url) => Place::parse(url, endpoint, &settings)?,
            None => Place::of_destination(None, endpoint, &settings)?,
        };
        let volume = volume.or(place.volume.clone());
        self.blocking(move |inner| {
            let mut listed = Vec::new();
            let (volumes, one) = match volume {
                Some(volume) => (vec![volume], true),
                None => (inner.repositories.volumes(&settings, &place.destination)?, false),
            };
            for volume in volumes {
                let settings = inner.backups_of(&volume);
                let opened = match inner.repositories.open(&settings, &place.destination, &volume) {
                    // Some other directory, or one that a first backup has just begun to fill.
                    Err(ServiceError::Engine(EngineError::NoRepository { .. })) if !one => continue,
                    other => other?,
                };
                let at = place.repository(&volume);
                listed.extend(opened.repository.backups()?.into_iter().map(|backup| Listed {
                    url: at.backup(backup.name()).url(),
                    volume: volume.clone(),
                    backup,
                }));
            }
            Ok(listed)
        })
        .await
    }

    /// One backup.
    pub async fn backup(&self, url: &str, endpoint: Option<&str>) -> Result<Listed> {
        let settings = self.settings().backups;
        let (place, volume, id) = Place::of_backup(url, endpoint, &settings)?;
        let settings = self.0.backups_of(&volume);
        self.blocking(move |inner| {
            let opened = inner.repositories.open(&settings, &place.destination, &volume)?;
            let backup = opened.repository.find(&id)?;
            Ok(Listed {
                url: place.backup(backup.name()).url(),
                volume,
                backup,
            })
        })
        .await
    }

    /// Begins to delete a backup, which must be there.
    pub async fn delete_backup(&self, url: &str, endpoint: Option<&str>) -> Result<JobStatus> {
        let backup = self.backup(url, endpoint).await?.url;
        self.begin_job(Work::Delete { backup }).await
    }

    /// Begins to look whether backups can be restored: `percent` of the data are read.
    pub async fn verify_backups(
        &self,
        target: Option<&str>,
        endpoint: Option<&str>,
        percent: u8,
    ) -> Result<JobStatus> {
        if percent > 100 {
            return Err(InvalidValue::Value {
                option: "percent".to_owned(),
                value: percent.to_string(),
                expected: "between 0 and 100".to_owned(),
            }
            .into());
        }
        let target = self.target(target, endpoint).await?;
        self.begin_job(Work::Verify { target, percent }).await
    }

    /// Begins to take away what no backup needs any more.
    pub async fn prune_backups(&self, target: Option<&str>, endpoint: Option<&str>) -> Result<JobStatus> {
        let target = self.target(target, endpoint).await?;
        self.begin_job(Work::Prune { target }).await
    }

    /// Begins to copy a backup to another destination.
    pub async fn copy_backup(
        &self,
        url: &str,
        endpoint: Option<&str>,
        destination: Option<&str>,
        destination_endpoint: Option<&str>,
    ) -> Result<JobStatus> {
        let to = Place::of_destination(destination, destination_endpoint, &self.settings().backups)?;
        let backup = self.backup(url, endpoint).await?.url;
        let destination = to.url();
        self.begin_job(Work::Copy { backup, destination }).await
    }

    /// The canonical URL of a destination, a repository or a backup; one that is not there is refused.
    async fn target(&self, url: Option<&str>, endpoint: Option<&str>) -> Result<String> {
        let settings = self.settings().backups;
        let place = match url {
            Some(url) => Place::parse(url, endpoint, &settings)?,
            None => Place::of_destination(None, endpoint, &settings)?,
        };
        let settings = match &place.volume {
            Some(volume) => self.0.backups_of(volume),
            None => settings,
        };
        repositories::secret(&settings)?;
        if place.backup.is_some() {
            return Ok(self.backup(&place.url(), None).await?.url);
        }
        let url = place.url();
        if let Some(volume) = place.volume {
            self.blocking(move |inner| {
                inner
                    .repositories
                    .open(&settings, &place.destination, &volume)
                    .map(drop)
            })
            .await?;
        }
        Ok(url)
    }

    /// Does a job's work to its end.
    pub(super) async fn work(&self, live: &Arc<Live>) -> Result<Outcome> {
        match live.job().work {
            Work::Backup { .. } => self.work_backup(live).await,
            Work::Restore { .. } => self.work_restore(live).await,
            Work::Drill { .. } => self.work_drill(live).await,
            Work::Verify { target, percent } => self.work_verify(live, target, percent).await,
            Work::Prune { target } => self.work_prune(live, target).await,
            Work::Copy { backup, destination } => self.work_copy(live, backup, destination).await,
            Work::Delete { backup } => self.work_delete(live, backup).await,
        }
    }

    async fn work_verify(&self, live: &Arc<Live>, target: String, percent: u8) -> Result<Outcome> {
        let depth = match percent {
            0 => verify::Depth::Structure,
            100 => verify::Depth::Everything,
            percent => verify::Depth::Sample(percent),
        };
        let (log, progress) = (live.clone(), live.progress.clone());
        let begun = Instant::now();
        let (mut outcome, damage) = self
            .background(move |inner| {
                let (mut backups, mut blobs, mut packs, mut bytes_read) = (0, 0, 0, 0);
                let mut damage = Vec::new();
                inner.each_repository(&target, |place, opened| {
                    let repository = &opened.repository;
                    let only = place
                        .backup
                        .as_deref()
                        .map(|id| repository.find(id))
                        .transpose()?;
                    let only = only.map(|backup| backup.id);
                    let report = verify::verify(repository, depth, only.as_ref(), &progress)?;
                    let url = place.url();
                    log.note(format!("{url}: {}", report_in_words(&report)));
                    damage.extend(report.problems.iter().map(|problem| {
                        let (object, why) = (&problem.object, &problem.why);
                        format!("{url}: {object}: {why}{}", affected(&problem.backups))
                    }));
                    backups += report.backups;
                    blobs += report.trees + report.data_blobs;
                    packs += report.packs_read;
                    bytes_read += report.bytes_read;
                    Ok(())
                })?;
                let mut outcome = Outcome::new();
                outcome.insert("Verified".to_owned(), json!(damage.is_empty()));
                outcome.insert("Percent".to_owned(), json!(percent));
                outcome.insert("Backups".to_owned(), json!(backups));
                outcome.insert("Blobs".to_owned(), json!(blobs));
                outcome.insert("PacksRead".to_owned(), json!(packs));
                outcome.insert("BytesRead".to_owned(), json!(bytes_read));
                Ok((outcome, damage))
            })
            .await?;
        outcome.insert("Seconds".to_owned(), seconds(begun));
        match damage.first() {
            None => Ok(outcome),
            Some(first) => {
                for what in damage.iter().take(50) {
                    live.note(what.clone());
                }
                Err(ServiceError::Damaged {
                    first: first.clone(),
                    more: damage.len() - 1,
                })
            }
        }
    }

    async fn work_prune(&self, live: &Arc<Live>, target: String) -> Result<Outcome> {
        let (log, progress) = (live.clone(), live.progress.clone());
        let begun = Instant::now();
        let mut outcome = self
            .background(move |inner| {
                let (mut freed, mut unused, mut packs) = (0, 0, 0);
                inner.each_repository(&target, |place, opened| {
                    let options = prune::PruneOptions::default();
                    let report = prune::prune(&opened.repository, &options, &progress)?;
                    log.note(format!("{}: {} freed", place.url(), Bytes(report.freed_bytes)));
                    freed += report.freed_bytes;
                    unused += report.unused_bytes;
                    packs += report.unused_packs + report.repacked_packs + report.unindexed_packs;
                    Ok(())
                })?;
                let mut outcome = Outcome::new();
                outcome.insert("BytesFreed".to_owned(), json!(freed));
                outcome.insert("BytesUnused".to_owned(), json!(unused));
                outcome.insert("PacksDeleted".to_owned(), json!(packs));
                Ok(outcome)
            })
            .await?;
        outcome.insert("Seconds".to_owned(), seconds(begun));
        self.events().emit("backup.prune", live.job().work.object(), &[]);
        Ok(outcome)
    }

    async fn work_copy(&self, live: &Arc<Live>, backup: String, destination: String) -> Result<Outcome> {
        let settings = self.settings().backups;
        let (from, volume, id) = Place::of_backup(&backup, None, &settings)?;
        let to = Place::parse(&destination, None, &settings)?;
        let settings = self.0.backups_of(&volume);
        let progress = live.progress.clone();
        let made = self
            .background(move |inner| {
                let begun = Instant::now();
                let source = inner.repositories.open(&settings, &from.destination, &volume)?;
                let found = source.repository.find(&id)?;
                let owner = copy_owner(&source, &found, &volume);
                let target =
                    inner
                        .repositories
                        .open_for(&settings, &to.destination, &owner, &volume, false)?;
                let copied = copy::copy(&source.repository, &target.repository, &[found.id], &progress)?;
                let (_, id) = copied
                    .copied
                    .iter()
                    .chain(&copied.present)
                    .next()
                    .copied()
                    .unwrap_or((found.id, found.id));
                let made = target.repository.backup(&id)?;
                Ok(Made::new(&to.repository(&volume), made, &target, begun))
            })
            .await?;
        self.events().emit("backup.copy", &made.url, &[("from", backup)]);
        Ok(made.outcome())
    }

    async fn work_delete(&self, live: &Arc<Live>, backup: String) -> Result<Outcome> {
        let settings = self.settings().backups;
        let (place, volume, id) = Place::of_backup(&backup, None, &settings)?;
        let settings = self.0.backups_of(&volume);
        let again = live.job().attempts > 1;
        let progress = live.progress.clone();
        self.blocking(move |inner| {
            let opened = inner.repositories.open(&settings, &place.destination, &volume)?;
            match opened.repository.find(&id) {
                // Deleted by the attempt that was interrupted.
                Err(EngineError::NoBackup { .. }) if again => Ok(()),
                found => delete(&opened, found?.id, &progress),
            }
        })
        .await?;
        self.events().emit("backup.delete", &backup, &[]);
        let mut outcome = Outcome::new();
        outcome.insert("BackupURL".to_owned(), json!(backup));
        Ok(outcome)
    }
}

impl super::Inner {
    /// Does something with the repository that a URL names, or with all of a destination.
    fn each_repository(
        &self,
        target: &str,
        mut work: impl FnMut(&Place, &Opened) -> Result<()>,
    ) -> Result<()> {
        let settings = self.settings().backups;
        let place = Place::parse(target, None, &settings)?;
        let (volumes, one) = match &place.volume {
            Some(volume) => (vec![volume.clone()], true),
            None => (self.repositories.volumes(&settings, &place.destination)?, false),
        };
        for volume in volumes {
            match self
                .repositories
                .open(&self.backups_of(&volume), &place.destination, &volume)
            {
                Err(ServiceError::Engine(EngineError::NoRepository { .. })) if !one => {}
                opened => work(&place.in_volume(&volume), &opened?)?,
            }
        }
        Ok(())
    }
}

fn delete(opened: &Opened, id: Id, progress: &Progress) -> Result<()> {
    progress.check()?;
    Ok(opened.repository.forget(&[id])?)
}

/// What is to be backed up.
struct Subject {
    volume: Arc<Volume>,
    snapshot: Name,
    reads: Reads,
    /// What is to be said of its hooks.
    remarks: Vec<String>,
}

impl Subject {
    fn of(found: Found, reads: Reads) -> Self {
        Self {
            volume: found.volume,
            snapshot: found.snapshot.name,
            reads,
            remarks: Vec::new(),
        }
    }
}

/// A backup that was made.
pub(super) struct Made {
    pub(super) url: String,
    /// The repository's id.
    pub(super) repository: String,
    name: String,
    /// Whether it is an older one, which still is as the volume was.
    pub(super) unchanged: bool,
    result: Outcome,
}

impl Made {
    pub(super) fn new(at: &Place, backup: Backup, opened: &Opened, begun: Instant) -> Self {
        let spent = opened.spent();
        let mut result = Outcome::new();
        let mut say = |key: &str, value| drop(result.insert(key.to_owned(), value));
        if let Some(summary) = &backup.record.summary {
            say("BytesRead", json!(summary.windlass_bytes_read));
            say("BytesNew", json!(summary.data_added));
            say("BytesStored", json!(summary.data_added_packed));
            say("BytesTotal", json!(summary.total_bytes_processed));
            say("Files", json!(summary.total_files_processed));
        }
        say("BytesUploaded", json!(spent.sent_bytes));
        say("Requests", json!(spent.requests()));
        say("Seconds", seconds(begun));
        Self {
            url: at.backup(backup.name()).url(),
            repository: opened.repository.config().id.to_string(),
            name: backup.name(),
            unchanged: false,
            result,
        }
    }

    /// The same, where nothing was made: what was read and written for the older backup is not this job's.
    pub(super) fn but_unchanged(mut self, unchanged: bool) -> Self {
        if unchanged {
            self.unchanged = true;
            for key in ["BytesRead", "BytesNew", "BytesStored"] {
                self.result.insert(key.to_owned(), json!(0));
            }
            self.result.insert("Unchanged".to_owned(), json!(true));
        }
        self
    }

    pub(super) fn outcome(self) -> Outcome {
        let mut outcome = Outcome::new();
        outcome.insert("BackupName".to_owned(), json!(self.name));
        outcome.insert("BackupURL".to_owned(), json!(self.url));
        outcome.extend(self.result);
        outcome
    }
}

fn seconds(begun: Instant) -> serde_json::Value {
    json!((begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0)
}

/// A copied repository belongs to whom the first one belongs to.
fn copy_owner(source: &Opened, backup: &Backup, volume: &Name) -> Owner {
    source.repository.owner().unwrap_or_else(|| Owner {
        volume: backup
            .manifest()
            .map_or_else(uuid::Uuid::nil, |manifest| manifest.volume.id),
        name: volume.to_string(),
        host: backup.record.hostname.clone(),
    })
}

/// `backup-20261121T145800Z`, with a few random digits: several may be asked for in one second.
fn snapshot_name(now: Time) -> Name {
    let time: String = now
        .to_string()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .collect();
    let random = uuid::Uuid::new_v4().simple().to_string();
    Name::snapshot(&format!("backup-{time}-{}", &random[..4])).expect("letters, digits and dashes")
}

fn report_in_words(report: &verify::VerifyReport) -> String {
    let found = format!(
        "{} backups, {} directories, {} pieces of data, {} of {} packs read",
        report.backups, report.trees, report.data_blobs, report.packs_read, report.packs
    );
    match report.problem_count {
        0 => format!("{found}: no damage"),
        count => format!("{found}: {count} problems"),
    }
}

/// ` (in the backups 0123abcd, …)`.
fn affected(backups: &[Id]) -> String {
    let names: Vec<String> = backups
        .iter()
        .take(5)
        .map(|id| id.to_string()[..16].to_owned())
        .collect();
    match backups.len() {
        0 => String::new(),
        1..=5 => format!(" (in the backups {})", names.join(", ")),
        more => format!(" (in the backups {} and {} others)", names.join(", "), more - 5),
    }
}
