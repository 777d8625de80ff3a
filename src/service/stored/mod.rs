//! Snapshots on filesystems that have none: backups of the volume's tree into a repository beside it, and what is made of
//! them again.
//!
//! Such a snapshot takes as long as there is to read, so it is taken without the volume's lock ([`super::uses`]): whoever
//! mounts the volume meanwhile does not wait, and the snapshot is then `per-file`. The intent is recorded first, then the
//! backup is made, then the driver's record names it. A crash in between leaves a backup that no record names, with the
//! snapshot's id in its manifest; [`cleaning`] finds it. Removing goes the other way round, with the same remains.
//!
//! While a snapshot is taken, a shared lock on the repository is held from before the backup until after the record:
//! another host that shares the path and looks for backups without a record wants the repository for itself.

mod cleaning;
mod prunes;
mod repository;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::backup_work;
use super::fills::Filling;
use super::jobs::Outcome;
use super::locks::Held;
use super::repositories::{self, Opened};
use super::restores::{BY, Restorable};
use super::uses::{Doing, Registered};
use super::{By, Found, Inner, Result, Service, ServiceError};
use crate::driver::{
    CloneOf, Driver, DriverError, Operation, Source, StoredState, Support, TakeSnapshot, Target,
};
use crate::engine::backup::{self, Request};
use crate::engine::{
    Access, Backup, COMPRESSION_LEVEL, EngineError, Lock, Progress, Repository, Summary, copy, repair,
};
use crate::model::{
    Bytes, Consistency, InvalidValue, Name, Restoring, RootDirectory, Snapshot, SnapshotRef, Time, Volume,
    VolumeId,
};
use crate::state::Effect;
use crate::sys::fault::point;

pub(super) use prunes::Prunes;
pub(super) use repository::{Local, StoredRepositories};

/// So long a repository's lock of another host, which prunes it, is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// The key in a `restoring` record that says which snapshot is meant, whatever has its name later.
const SNAPSHOT: &str = "snapshot";

/// What there was to do, by the event's keys.
type Figures = Vec<(&'static str, String)>;

/// A snapshot that is being taken.
struct Taking {
    driver: Arc<dyn Driver>,
    /// The directory of the repositories.
    below: PathBuf,
    take: TakeSnapshot,
    progress: Arc<Progress>,
    intent: i64,
}

/// What was stored for it, with the lock that keeps it.
struct StoredTree {
    local: Local,
    lock: Lock,
    backup: Backup,
    vanished: u64,
}

/// A backup that is a snapshot.
pub(super) struct StoredBackup {
    local: Local,
    backup: Backup,
}

impl StoredBackup {
    /// For a look at what is in it, while the lock is held.
    pub fn read(self, progress: &Progress) -> Result<(Repository, Backup, Option<Lock>)> {
        let repository = self.local.opened.repository;
        let lock = reading_lock(&repository, progress)?;
        repository.refresh()?;
        Ok((repository, self.backup, lock))
    }

    /// Writes all of it into an empty directory.
    pub fn write(self, target: &Target, progress: &Arc<Progress>) -> Result<Outcome> {
        let Self { local, backup } = self;
        let _lock = reading_lock(&local.opened.repository, progress)?;
        let opened = local.opened;
        let backup = Box::new(backup);
        Restorable::Ours { opened, backup }.write(target, progress)
    }
}

impl Service {
    /// Takes a snapshot of a volume into its repository, and gives `held`, the volume's lock, back meanwhile. Says, for the
    /// event, what there was to do.
    pub(super) async fn store_snapshot(
        &self,
        take: TakeSnapshot,
        driver: Arc<dyn Driver>,
        below: PathBuf,
        progress: Arc<Progress>,
        held: Held,
    ) -> Result<(Volume, Figures)> {
        let (of, id) = (take.volume.name.clone(), take.volume.id);
        DriverError::refuse_restoring(&take.volume, "snapshot")?;
        self.0.uses.reading(&of)?;
        if self.0.uses.is_taking(&of, &take.name) {
            return Err(ServiceError::AlreadyExists {
                what: "snapshot",
                name: format!("{of}@{}", take.name),
                why: ": it is being taken".to_owned(),
            });
        }
        let work = self
            .0
            .uses
            .begin(&of, Doing::Taking(take.name.clone()), &progress);
        drop(held);
        let _turn = self.repository_turn(id).await;
        progress.check()?;
        let (asked, recorded) = (take.clone(), driver.clone());
        let intent = self
            .blocking(move |inner| {
                point("snapshot.asked");
                let intent = inner.state.begin(recorded.name(), &Operation::Snapshot(asked))?;
                point("snapshot.intended");
                Ok(intent)
            })
            .await?;
        let taking = Arc::new(Taking {
            driver,
            below,
            take,
            progress,
            intent,
        });
        let result = self.store_and_record(&taking, &work).await;
        if let Err(error) = &result {
            let _held = self.0.locks.lock(of.as_str()).await;
            if self.undo_snapshot(&taking, error).await {
                self.prune_soon(of, id);
            }
        }
        result
    }

    async fn store_and_record(&self, taking: &Arc<Taking>, work: &Registered) -> Result<(Volume, Figures)> {
        let of = &taking.take.volume.name;
        let begun = Instant::now();
        let mut quiet = self.is_quiet(of, &taking.driver).await?;
        loop {
            let now = taking.clone();
            let consistency = match quiet {
                true => Consistency::PointInTime,
                false => Consistency::PerFile,
            };
            let stored = self
                .blocking(move |inner| inner.store_tree(&now, consistency))
                .await?;
            let _held = self.0.locks.lock(of.as_str()).await;
            let disturbed =
                work.was_mounted() || stored.vanished > 0 || !self.is_quiet(of, &taking.driver).await?;
            let now = taking.clone();
            if quiet && disturbed {
                // The manifest promises too much. Another run reads only what changed.
                quiet = false;
                self.blocking(move |_| Ok(stored.local.opened.repository.forget(&[stored.backup.id])?))
                    .await?;
                continue;
            }
            let summary = stored.backup.record.summary.clone();
            let changed = self
                .blocking(move |inner| inner.record_snapshot(&now, &stored, consistency))
                .await?;
            // Under the lock: what is in memory is what the driver has.
            self.catalog_mut().put(changed.clone());
            return Ok((
                changed,
                summary.map_or_else(Vec::new, |summary| figures(&summary, begun)),
            ));
        }
    }

    /// Says whether something is left for a prune. Under the volume's lock.
    async fn undo_snapshot(&self, taking: &Arc<Taking>, error: &ServiceError) -> bool {
        let (now, why) = (taking.clone(), error.one_line());
        let undone = self.blocking(move |inner| {
            let operation = Operation::Snapshot(now.take.clone());
            inner.recover(&*now.driver, now.intent, &operation)?;
            // The backup itself, where the record could not be written.
            let Ok(local) = inner.stored.open(&now.below, now.take.volume.id) else {
                return Ok(false);
            };
            inner.forget_strays(&local, &*now.driver, &now.take.volume)?;
            Ok(local.written.is_indexed())
        });
        undone.await.unwrap_or_else(|second| {
            let message = format!(
                "a snapshot failed ({why}), and so did the clean-up ({second}); the next start tries again"
            );
            self.events()
                .emit("warning", &taking.take.volume.name, &[("message", message)]);
            false
        })
    }

    /// Waits until this process neither prunes the volume's repository nor adds to it, and keeps it so.
    async fn repository_turn(&self, volume: VolumeId) -> Held {
        self.0.prunes.interrupt(volume);
        self.0.locks.lock(&repository_key(volume)).await
    }

    /// Lets a reader of a volume's repository in. It has registered itself, so that no prune begins again.
    pub(super) async fn stop_pruning(&self, volume: VolumeId) {
        if self.0.prunes.interrupt(volume) {
            drop(self.0.locks.lock(&repository_key(volume)).await);
        }
    }

    /// Puts a volume back to a stored snapshot. Gives `held`, the volume's lock, back while data are copied.
    pub(super) async fn revert_to_stored(
        &self,
        found: &Found,
        driver: Arc<dyn Driver>,
        progress: Arc<Progress>,
        held: Held,
    ) -> Result<()> {
        let (of, snapshot) = (found.volume.name.clone(), found.snapshot.clone());
        let work = self
            .0
            .uses
            .begin(&of, Doing::Reverting(snapshot.name.clone()), &progress);
        drop(held);
        self.stop_pruning(found.volume.id).await;
        let filling = Filling::new(&driver, &found.volume, RootDirectory::default(), &progress);
        let (volume, with, write) = (found.volume.clone(), driver.clone(), filling.clone());
        let built = self
            .blocking(move |inner| {
                let found = inner.stored_backup(&*with, &volume, &snapshot)?;
                write.build(inner, |target, progress| found.write(target, progress))
            })
            .await?;
        let _held = self.0.locks.lock(of.as_str()).await;
        // By other ways than this daemon, it may be used again.
        let free = match progress.check() {
            Ok(()) => self.free(&self.known(&of)?, &driver, By::Admin).await,
            Err(cancelled) => Err(cancelled.into()),
        };
        if let Err(error) = free {
            return Err(self.give_up(&filling, built, error).await);
        }
        self.put_in_place(&filling, built).await?;
        drop(work);
        Ok(())
    }

    /// The snapshot that a volume which is restored from one is to become.
    pub(super) fn stored_origin(&self, volume: &Volume) -> Result<Option<(Arc<Volume>, Snapshot)>> {
        let Some(restoring) = volume.restoring.as_ref().filter(|r| is_snapshot(&r.from)) else {
            return Ok(None);
        };
        let (of, snapshot) = self
            .catalog()
            .find_snapshot(&SnapshotRef::parse(&restoring.from))?;
        let meant = restoring.later.get(SNAPSHOT);
        if meant.is_some_and(|id| *id != json!(snapshot.id.to_string())) {
            return Err(ServiceError::NotFound {
                what: "snapshot",
                name: format!("{}, as it was,", restoring.from),
            });
        }
        Ok(Some((of, snapshot)))
    }

    /// Forgets the backups that interrupted operations on these volumes may have left, in the background.
    pub(super) fn clean_repositories(&self, volumes: Vec<Name>) {
        for name in volumes {
            let this = self.clone();
            tokio::spawn(async move {
                let (again, of) = (this.clone(), name.clone());
                let cleaned = this.change(async move { again.clean_repository(&of).await });
                if let Err(error) = cleaned.await {
                    log::warn!("volume {name}: its repository was not looked through: {error}");
                }
            });
        }
    }

    async fn clean_repository(&self, name: &Name) -> Result<()> {
        let entry = self.known(name)?;
        let driver = self.driver_of(&entry.volume)?;
        let Some(below) = driver.repositories() else {
            return Ok(());
        };
        let _turn = self.repository_turn(entry.volume.id).await;
        let volume = entry.volume.clone();
        let forgotten = self
            .blocking(move |inner| match inner.stored.open(&below, volume.id) {
                Err(ServiceError::Engine(EngineError::NoRepository { .. })) => Ok(0),
                local => inner.forget_strays(&local?, &*driver, &volume),
            })
            .await?;
        if forgotten > 0 {
            self.prune_soon(name.clone(), entry.volume.id);
        }
        Ok(())
    }
}

impl Inner {
    /// Makes the backup. Blocks; after an error, nothing is left of it that takes space.
    fn store_tree(&self, taking: &Taking, consistency: Consistency) -> Result<StoredTree> {
        let Taking {
            driver,
            take,
            progress,
            ..
        } = taking;
        let local = self.stored.open_or_make(&taking.below, &take.volume)?;
        let repository = &local.opened.repository;
        repository.check_owner(take.volume.id.uuid())?;
        if let Err(error) = self.forget_strays(&local, &**driver, &take.volume) {
            log::warn!("volume {}: {error}", take.volume.name);
        }
        repair::begin_uploads_alone(repository, progress)?;
        let lock = patient_lock(repository, progress)?;
        point("snapshot.locked");
        let Source::Tree { path } = driver.open_source(&take.volume, None, &[])? else {
            unreachable!("only drivers of directories leave snapshots to a repository");
        };
        let request = Request {
            manifest: backup_work::manifest(&take.volume, &take.recorded(consistency)),
            hostname: repositories::hostname(),
            level: COMPRESSION_LEVEL,
            adopts: false,
            only_if_changed: false,
        };
        local.written.begin();
        match backup::tree::tree(repository, &request, &path, progress) {
            Ok((report, counts)) => {
                point("snapshot.stored");
                Ok(StoredTree {
                    lock,
                    backup: report.backup,
                    vanished: counts.vanished,
                    local,
                })
            }
            Err(error) => {
                match local.written.take_back() {
                    Ok(()) => repair::end_uploads(repository),
                    Err(second) => log::warn!("volume {}: {second}", take.volume.name),
                }
                Err(error.into())
            }
        }
    }

    /// Has the driver name the backup. Under the volume's lock.
    fn record_snapshot(
        &self,
        taking: &Taking,
        stored: &StoredTree,
        consistency: Consistency,
    ) -> Result<Volume> {
        taking.progress.check()?;
        // Somebody may have removed our lock, and then the backup.
        stored.lock.check()?;
        let take = TakeSnapshot {
            stored: Some(StoredState {
                backup: stored.backup.id.to_string(),
                consistency,
            }),
            ..taking.take.clone()
        };
        let changed = taking.driver.snapshot(&take)?;
        point("snapshot.acted");
        self.state.finish(taking.intent, Effect::Put(changed.clone()))?;
        point("snapshot.finished");
        Ok(changed)
    }

    /// The backup that a snapshot is.
    pub(super) fn stored_backup(
        &self,
        driver: &dyn Driver,
        volume: &Volume,
        snapshot: &Snapshot,
    ) -> Result<StoredBackup> {
        let lost = |why: String| DriverError::NotFound {
            what: format!("the data of snapshot {}@{} ({why})", volume.name, snapshot.name),
        };
        let below = driver
            .repositories()
            .ok_or_else(|| lost(format!("driver {} keeps no repositories", driver.name())))?;
        let stored = snapshot.stored.as_ref();
        let stored = stored.ok_or_else(|| lost("it is not in a repository".to_owned()))?;
        let local = self.stored.open(&below, volume.id)?;
        let repository = &local.opened.repository;
        let found = match repository.find(&stored.backup) {
            // Other programs that change a backup's record give it another id.
            Err(EngineError::NoBackup { .. }) => {
                let of = |backup: &Backup| {
                    let manifest = backup.manifest();
                    manifest.is_some_and(|manifest| manifest.snapshot.id == snapshot.id.uuid())
                };
                let all = repository.backups()?;
                all.into_iter().find(of).ok_or_else(|| {
                    lost(format!(
                        "there is no backup {} in {}",
                        stored.backup,
                        repository.location()
                    ))
                })?
            }
            found => found?,
        };
        Ok(StoredBackup { local, backup: found })
    }

    /// Copies a stored snapshot into another repository, where it is a backup like others.
    pub(super) fn copy_stored(
        &self,
        driver: &dyn Driver,
        volume: &Volume,
        snapshot: &Snapshot,
        to: &Opened,
        progress: &Arc<Progress>,
    ) -> Result<Backup> {
        let found = self.stored_backup(driver, volume, snapshot)?;
        let (from, id) = (&found.local.opened.repository, found.backup.id);
        let report = copy::copy(from, &to.repository, &[id], progress)?;
        let there = report.copied.iter().chain(&report.present).next();
        // A pair is the id here and the id there.
        let id = there.map_or(id, |(_, there)| *there);
        Ok(to.repository.backup(&id)?)
    }

    /// Deletes the backup that a snapshot was; the record names it no more.
    pub(super) fn forget_stored(&self, driver: &dyn Driver, volume: &Volume, snapshot: &Snapshot) {
        let forgotten = self
            .stored_backup(driver, volume, snapshot)
            .and_then(|found| Ok(found.local.opened.repository.forget(&[found.backup.id])?));
        match forgotten {
            Ok(()) => point("remove-snapshot.forgotten"),
            Err(error) => {
                let message = format!(
                    "the snapshot {} is removed, and its data stay until the next snapshot: {error}",
                    snapshot.name
                );
                self.events.emit("warning", &volume.name, &[("message", message)]);
            }
        }
    }
}

/// Completes the record of a volume that begins as a stored snapshot.
pub(super) fn mark_clone(volume: &mut Volume, from: &CloneOf, state: uuid::Uuid) -> Result<()> {
    volume.restoring = Some(Restoring {
        from: format!("{}@{}", from.volume.name, from.snapshot.name),
        since: Time::now(),
        later: [
            (BY.to_owned(), json!(state.to_string())),
            (SNAPSHOT.to_owned(), json!(from.snapshot.id.to_string())),
        ]
        .into(),
    });
    volume.vm = from.volume.vm;
    if volume.vm {
        volume.size = exact_size(volume.size, from.volume.size)?;
    }
    Ok(())
}

/// An image is as large as it is.
fn exact_size(asked: Option<Bytes>, real: Option<Bytes>) -> Result<Option<Bytes>> {
    match (asked, real) {
        (Some(asked), Some(real)) if asked != real => Err(InvalidValue::Value {
            option: "size".to_owned(),
            value: asked.0.to_string(),
            expected: format!(
                "the size of the snapshot's disk image, {} bytes; leave it out",
                real.0
            ),
        }
        .into()),
        _ => Ok(real),
    }
}

/// Whether a volume's data come from a snapshot, and not from a backup's URL.
pub(super) fn is_snapshot(from: &str) -> bool {
    !from.contains("://")
}

/// Where a driver has its snapshots kept in repositories: their directory.
pub(super) fn by_repository(driver: &dyn Driver) -> Option<PathBuf> {
    match driver.capabilities().snapshots {
        Support::ByRepository { path, .. } => Some(path),
        Support::Yes { .. } | Support::No { .. } => None,
    }
}

/// Keeps another host from pruning while a repository is read. On a full filesystem there can be no lock, and what is there
/// must be readable all the same.
fn reading_lock(repository: &Repository, progress: &Progress) -> Result<Option<Lock>> {
    match patient_lock(repository, progress) {
        Ok(lock) => Ok(Some(lock)),
        Err(ServiceError::Engine(EngineError::Store(error))) => {
            log::warn!("{} is read without a lock: {error}", repository.location());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Takes a shared lock; waits a while for whoever has the repository for himself.
fn patient_lock(repository: &Repository, progress: &Progress) -> Result<Lock> {
    let begun = Instant::now();
    loop {
        progress.check()?;
        match Lock::take(repository, Access::Shared) {
            Err(EngineError::Locked { .. }) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(200));
            }
            other => return Ok(other?),
        }
    }
}

fn figures(summary: &Summary, begun: Instant) -> Figures {
    vec![
        ("files", summary.total_files_processed.to_string()),
        ("bytes", summary.total_bytes_processed.to_string()),
        ("bytes-read", summary.windlass_bytes_read.to_string()),
        ("bytes-stored", summary.data_added_packed.to_string()),
        ("seconds", format!("{:.3}", begun.elapsed().as_secs_f64())),
    ]
}

/// The lock of a volume's repository within this process. The colon keeps it apart from every volume's name.
fn repository_key(volume: VolumeId) -> String {
    format!("repository:{volume}")
}
