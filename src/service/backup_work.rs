//! The work of a backup: a snapshot's tree, or a volume's as it is, into the volume's repository at a destination.
//!
//! A volume is read as it is where its driver has no snapshots but copies in a repository. It is then registered as read
//! ([`super::uses`]) and can be mounted and written to meanwhile. Whether anybody may have written decides what the backup says of
//! itself, `point-in-time` or `per-file`; one that promised too much is forgotten and made again, from what it has stored.

use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::backups::Made;
use super::jobs::{Live, Outcome};
use super::repositories::{self, Opened, Place};
use super::uses::{Doing, Registered};
use super::{Inner, Result, Service, ServiceError};
use crate::driver::{BlockImage, Content, Driver, DriverError, Source};
use crate::engine::backup::block::{BlockSource, Changed};
use crate::engine::backup::{self, BackupReport, Request};
use crate::engine::image::chunk_for;
use crate::engine::{
    Backup, COMPRESSION_LEVEL, EngineError, Kind, Manifest, Owner, Progress, Repository, SnapshotIdentity,
    VolumeIdentity,
};
use crate::model::{BackupSettings, Consistency, Name, Reads, Snapshot, SnapshotRef, Volume, Work};

/// A backup that is being made.
struct Making {
    volume: Arc<Volume>,
    driver: Arc<dyn Driver>,
    /// What it is of, by the backup's own record; not the driver's where the volume is read.
    snapshot: Snapshot,
    reads: Reads,
    settings: Arc<BackupSettings>,
    place: Place,
    take_over: bool,
    only_if_changed: bool,
    /// An earlier attempt may have finished it.
    again: bool,
    live: Arc<Live>,
    begun: Instant,
}

impl Service {
    /// Makes the backup of a job.
    pub(super) async fn work_backup(&self, live: &Arc<Live>) -> Result<Outcome> {
        let making = self.making(live).await;
        let result = match making {
            Ok(making) if making.reads == Reads::Volume => {
                let made = self.back_volume_up(making).await;
                made.map(|made| (made, None))
            }
            Ok(making) => {
                self.stop_pruning(making.volume.id).await;
                self.background(move |inner| {
                    let made = inner.back_snapshot_up(&making)?;
                    Ok((made, Some(making.snapshot)))
                })
                .await
            }
            Err(error) => Err(error),
        };
        if let Ok((made, _)) = &result
            && made.unchanged
        {
            live.note("nothing has changed since the last backup, which stays the newest");
        } else if let Ok((made, Some(snapshot))) = &result {
            self.keep_base(live, snapshot, &made.repository).await;
        }
        self.drop_own_snapshot(live, result.is_ok()).await;
        let (made, _) = result?;
        if !made.unchanged {
            let about = [("snapshot", live.job().work.object())];
            self.events().emit("backup.create", &made.url, &about);
        }
        Ok(made.outcome())
    }

    async fn making(&self, live: &Arc<Live>) -> Result<Making> {
        let job = live.job();
        let Work::Backup {
            volume,
            volume_id,
            snapshot,
            snapshot_id,
            reads,
            destination,
            take_over,
            only_if_changed,
        } = job.work
        else {
            unreachable!("the caller has looked");
        };
        let gone = |what, name| ServiceError::NotFound { what, name };
        let entry = self
            .known(&volume)
            .ok()
            .filter(|entry| entry.volume.id == volume_id)
            .ok_or_else(|| gone("volume", volume.to_string()))?;
        let snapshot = match reads {
            Reads::Volume => Snapshot {
                id: snapshot_id,
                name: snapshot,
                created: job.created,
                consistency: Consistency::PerFile,
                stored: None,
                hooks: None,
                checkpoint: None,
                later: Default::default(),
            },
            Reads::Snapshot | Reads::OwnSnapshot => {
                let found = entry.volume.snapshots.iter().find(|s| s.id == snapshot_id);
                found
                    .cloned()
                    .ok_or_else(|| gone("snapshot", format!("{volume}@{snapshot}")))?
            }
        };
        let settings = self.0.backups_of(&volume);
        if !settings.encrypt {
            live.note("not encrypted (backup-encrypt=none, or backup.encrypt=false): whoever can read the destination can read this backup");
        }
        Ok(Making {
            driver: self.driver_of(&entry.volume)?,
            volume: entry.volume,
            snapshot,
            reads,
            place: Place::parse(&destination, None, &settings)?,
            settings,
            take_over,
            only_if_changed,
            again: job.attempts > 1,
            live: live.clone(),
            begun: Instant::now(),
        })
    }

    /// Backs the volume itself up.
    async fn back_volume_up(&self, mut making: Making) -> Result<Made> {
        let of = making.volume.name.clone();
        let work = {
            let _held = self.0.locks.lock(of.as_str()).await;
            making.volume = self.known(&of)?.volume;
            DriverError::refuse_restoring(&making.volume, "backup")?;
            self.0.uses.reading(&of)?;
            self.0.uses.begin(&of, Doing::BackingUp, &making.live.progress)
        };
        let quiet = self.is_quiet(&of, &making.driver).await?;
        if quiet {
            making.snapshot.consistency = Consistency::PointInTime;
        }
        let (mut making, mut made) = self.store_source(making).await?;
        if quiet && (made.vanished > 0 || self.was_disturbed(&work, &of, &making.driver).await?) {
            // It promises too much. Another run has it for its parent, and so reads only what changed.
            making.snapshot.consistency = Consistency::PerFile;
            let promised = (!made.unchanged).then_some((made.opened, made.backup.id));
            let again = self.store_source(making).await;
            if let Some((opened, id)) = promised {
                self.blocking(move |_| Ok(opened.repository.forget(&[id])?))
                    .await?;
            }
            (making, made) = again?;
        }
        if making.snapshot.consistency == Consistency::PerFile {
            let live = &making.live;
            live.note("the volume was in use: each file is of one moment, but not all of the same");
        }
        let at = making.place.repository(&of);
        Ok(Made::new(&at, made.backup, &made.opened, making.begun).but_unchanged(made.unchanged))
    }

    async fn store_source(&self, making: Making) -> Result<(Making, Stored)> {
        self.background(move |inner| {
            let made = inner.store_source(&making)?;
            Ok((making, made))
        })
        .await
    }

    /// Whether somebody may have written to the volume since the work began. Under the lock, so that no mount is half done.
    async fn was_disturbed(&self, work: &Registered, of: &Name, driver: &Arc<dyn Driver>) -> Result<bool> {
        let _held = self.0.locks.lock(of.as_str()).await;
        Ok(work.was_mounted() || !self.is_quiet(of, driver).await?)
    }

    /// Has the driver keep the state that was backed up, for the next backup into the same repository to be compared with. Where
    /// that fails, the next one reads everything.
    async fn keep_base(&self, live: &Arc<Live>, snapshot: &Snapshot, repository: &str) {
        let Work::Backup { volume: of, .. } = live.job().work else {
            unreachable!("the caller has looked");
        };
        let _held = self.0.locks.lock(of.as_str()).await;
        let Ok(entry) = self.known(&of) else { return };
        let Ok(driver) = self.driver_of(&entry.volume) else {
            return;
        };
        let (snapshot, repository) = (snapshot.clone(), repository.to_owned());
        let kept = self
            .blocking(move |inner| {
                let kept = driver.keep_base(&entry.volume, &snapshot, &repository)?;
                kept.iter().try_for_each(|volume| inner.state.put(volume))?;
                Ok(kept)
            })
            .await;
        match kept {
            Ok(Some(volume)) => self.catalog_mut().put(volume),
            Ok(None) => {}
            Err(error) => live.note(format!("the next backup will read everything again: {error}")),
        }
    }

    /// The snapshot that was taken for a job goes with it, unless the next start begins the job again.
    async fn drop_own_snapshot(&self, live: &Arc<Live>, done: bool) {
        let Work::Backup {
            volume,
            snapshot,
            reads: Reads::OwnSnapshot,
            ..
        } = live.job().work
        else {
            return;
        };
        if self.is_stopping() && !done {
            return;
        }
        let reference = SnapshotRef {
            volume: Some(volume.to_string()),
            snapshot: snapshot.to_string(),
        };
        if let Err(error) = self.drop_snapshot(&reference).await {
            live.note(format!(
                "the snapshot {volume}@{snapshot}, taken for this backup, stays: {error}"
            ));
        }
    }
}

/// A directory or an image that was backed up.
struct Stored {
    opened: Opened,
    backup: Backup,
    /// Whether it is an older one, which still is as the source is now.
    unchanged: bool,
    /// Entries that went away while they were looked at.
    vanished: u64,
}

impl Inner {
    fn open_for(&self, making: &Making) -> Result<Opened> {
        let volume = &making.volume;
        self.repositories
            .open_for(
                &making.settings,
                &making.place.destination,
                &owner(volume),
                &volume.name,
                making.take_over,
            )
            .map_err(|error| with_descent(error, volume))
    }

    fn back_snapshot_up(&self, making: &Making) -> Result<Made> {
        if making.snapshot.stored.is_none() {
            let made = self.store_source(making)?;
            let at = making.place.repository(&making.volume.name);
            let done = Made::new(&at, made.backup, &made.opened, making.begun);
            return Ok(done.but_unchanged(made.unchanged));
        }
        let opened = self.open_for(making)?;
        let backup = match making.made_before(&opened)? {
            Some(backup) => backup,
            None => {
                let (volume, snapshot) = (&making.volume, &making.snapshot);
                self.copy_stored(&*making.driver, volume, snapshot, &opened, &making.live.progress)?
            }
        };
        let at = making.place.repository(&making.volume.name);
        Ok(Made::new(&at, backup, &opened, making.begun))
    }

    /// Backs up what the driver shows: the snapshot, or the volume.
    fn store_source(&self, making: &Making) -> Result<Stored> {
        let opened = self.open_for(making)?;
        if let Some(backup) = making.made_before(&opened)? {
            return Ok(Stored {
                opened,
                backup,
                unchanged: false,
                vanished: 0,
            });
        }
        let snapshot = (making.reads != Reads::Volume).then_some(&making.snapshot);
        let bases = bases(&opened, &making.volume, making.driver.capabilities().content)?;
        let source = making.driver.open_source(&making.volume, snapshot, &bases)?;
        let (report, vanished) = making.store(&opened, source)?;
        Ok(Stored {
            opened,
            backup: report.backup,
            unchanged: report.unchanged,
            vanished,
        })
    }
}

impl Making {
    /// Says how many entries vanished, too.
    fn store(&self, opened: &Opened, source: Source) -> Result<(BackupReport, u64)> {
        let request = Request {
            manifest: manifest_of(manifest(&self.volume, &self.snapshot), &source),
            hostname: repositories::hostname(),
            level: COMPRESSION_LEVEL,
            adopts: true,
            only_if_changed: self.only_if_changed,
        };
        let (repository, progress) = (&opened.repository, &self.live.progress);
        let path = match source {
            Source::Tree { path } => path,
            Source::Block(image) => {
                let report = back_image_up(repository, &request, image, progress)?;
                return Ok((report, 0));
            }
        };
        let (report, counts) = backup::tree::tree(repository, &request, &path, progress)?;
        if counts.mount_points > 0 {
            self.live.note(format!(
                "{} directories in which something else is mounted are empty in the backup",
                counts.mount_points
            ));
        }
        Ok((report, counts.vanished))
    }

    /// The backup that an interrupted attempt has finished: the daemon ended between the backup's last write and the job's.
    /// Of a volume, one that promises a moment goes: nobody has looked whether it keeps the promise.
    fn made_before(&self, opened: &Opened) -> Result<Option<Backup>> {
        if !self.again {
            return Ok(None);
        }
        let of_this = |backup: &Backup| {
            let manifest = backup.manifest();
            manifest.is_some_and(|manifest| manifest.snapshot.id == self.snapshot.id.uuid())
        };
        let promises = |backup: &Backup| {
            let manifest = backup.manifest();
            self.reads == Reads::Volume
                && manifest
                    .is_some_and(|manifest| manifest.snapshot.consistency != Consistency::PerFile.word())
        };
        let mut all = opened.repository.backups()?;
        all.retain(of_this);
        let (promising, mut kept): (Vec<_>, Vec<_>) = all.into_iter().partition(promises);
        if !promising.is_empty() {
            let ids: Vec<_> = promising.iter().map(|backup| backup.id).collect();
            opened.repository.forget(&ids)?;
        }
        Ok(kept.pop())
    }
}

/// The snapshots of a volume that a backup can build on, the one of the newest backup first: in chunks of the size that the new one
/// will have, which grows with the volume.
fn bases(opened: &Opened, volume: &Volume, content: Content) -> Result<Vec<Uuid>> {
    if content == Content::Tree {
        // A tree is compared with its parent by what the files say.
        return Ok(Vec::new());
    }
    let backups = opened.repository.backups()?;
    let of_volume = |backup: &Backup| {
        let manifest = backup.manifest()?;
        let is_alike = manifest.chunk_bytes == volume.size.map(|size| chunk_for(size.0));
        (manifest.kind == Kind::Block && is_alike && manifest.volume.id == volume.id.uuid())
            .then_some(manifest.snapshot.id)
    };
    Ok(backups.iter().rev().filter_map(of_volume).collect())
}

/// The manifest with what only the source knows.
fn manifest_of(mut manifest: Manifest, source: &Source) -> Manifest {
    if let Source::Block(image) = source {
        manifest.kind = Kind::Block;
        manifest.size = image.size;
        manifest.chunk_bytes = Some(chunk_for(image.size));
        manifest.filesystem = image.filesystem.clone();
    }
    manifest
}

fn back_image_up(
    repository: &Repository,
    request: &Request,
    image: BlockImage,
    progress: &Arc<Progress>,
) -> Result<BackupReport> {
    let file = File::open(&image.path).map_err(|source| EngineError::Source {
        path: image.path.clone(),
        source,
    })?;
    let source = BlockSource {
        bytes: &file,
        path: image.path,
        size: image.size,
        mapped: Some(image.mapped),
        changed: image.changed.map(|changed| Changed {
            since: changed.snapshot,
            ranges: changed.ranges,
        }),
    };
    let report = backup::block::block(repository, request, &source, progress);
    // The device is let go of after the file on it.
    drop(file);
    drop(image.held);
    Ok(report?)
}

/// Whose a volume's repository is.
pub(super) fn owner(volume: &Volume) -> Owner {
    Owner {
        volume: volume.id.uuid(),
        name: volume.name.to_string(),
        host: repositories::hostname(),
    }
}

/// The refusal of a foreign repository says more where the volume was restored from it.
fn with_descent(error: ServiceError, volume: &Volume) -> ServiceError {
    let ServiceError::Engine(EngineError::Foreign {
        location,
        owner,
        remedy,
    }) = error
    else {
        return error;
    };
    let remedy = match &volume.restored_from {
        Some(from) if owner.contains(&from.volume.to_string()) => format!(
            "{} was restored from a backup of that volume; if that volume is no more, --take-over gives the repository to this one",
            volume.name
        ),
        _ => remedy,
    };
    EngineError::Foreign {
        location,
        owner,
        remedy,
    }
    .into()
}

/// What a backup is of, as `windlass.json` says it.
pub(super) fn manifest(volume: &Volume, snapshot: &crate::model::Snapshot) -> Manifest {
    let mut options = std::collections::BTreeMap::new();
    let policy = &volume.policy;
    options.extend(
        policy
            .on_remove
            .map(|how| ("on-remove".to_owned(), how.to_string())),
    );
    options.extend(
        policy
            .trash_ttl
            .map(|ttl| ("trash-ttl".to_owned(), ttl.to_string())),
    );
    options.extend(volume.vm.then(|| ("vm".to_owned(), "true".to_owned())));
    Manifest {
        version: Manifest::VERSION,
        kind: Kind::Tree,
        driver: volume.driver.clone(),
        size: volume.size.map_or(0, |size| size.0),
        chunk_bytes: None,
        filesystem: None,
        volume: VolumeIdentity {
            id: volume.id.uuid(),
            name: volume.name.to_string(),
            created: volume.created,
            options,
        },
        snapshot: SnapshotIdentity {
            id: snapshot.id.uuid(),
            name: snapshot.name.to_string(),
            created: snapshot.created,
            consistency: snapshot.consistency.word().to_owned(),
        },
    }
}
