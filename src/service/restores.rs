//! Restoring: a new volume that is filled from a backup.
//!
//! The volume is recorded first, as `restoring`, and Create is answered; then a job fills it. The data are built aside by
//! [`open_target`](crate::driver::Driver::open_target) and the engine, without the volume's lock, and put into place by
//! [`fill`](crate::driver::Driver::fill) in one step, with it. A crash before that leaves a volume that is `restoring`, and
//! the next start begins again.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::fills::Filling;
use super::jobs::{JobStatus, Live, Outcome};
use super::repositories::{Opened, Place};
use super::{Result, Service, ServiceError};
use crate::driver::{Content, DriverError, Target};
use crate::engine::restore::{
    self,
    block::{BlockTarget, Holds},
    tree::{Onto, TreeRestore},
};
use crate::engine::{Backup, EngineError, Kind, Manifest, Progress, convoy};
use crate::model::{
    BackupSettings, CreateOptions, InvalidValue, JobState, Name, OnRemove, RestoredFrom, Restoring,
    RootDirectory, Span, Time, Volume, Work,
};

/// How long a create may look for its backup: the engine waits 30 s at the least.
const LOOK_UP: Duration = Duration::from_secs(20);
/// A restore whose destination cannot be reached is tried again after this, and later after more.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// So often.
const ATTEMPTS: u32 = 8;

/// A backup that a volume is to be made of.
pub(super) struct FromBackup {
    url: String,
    /// Absent for what another program made.
    manifest: Option<Manifest>,
    /// The bytes of the image that it is, if it is one.
    image: Option<u64>,
}

/// A backup that was found, in a repository of either kind.
pub(super) enum Restorable {
    Ours {
        opened: Opened,
        backup: Box<Backup>,
    },
    /// Its requests are not counted.
    Convoys {
        reader: convoy::Reader,
        backup: convoy::ConvoyBackup,
    },
}

impl Restorable {
    fn find(inner: &super::Inner, settings: &BackupSettings, place: &Place) -> Result<Self> {
        let (Some(volume), Some(id)) = (&place.volume, &place.backup) else {
            unreachable!("both were asked for when the URL was read");
        };
        if place.is_convoys() {
            let reader = inner.repositories.convoys(settings, &place.destination)?;
            let backup = reader.backup(volume.as_str(), id)?;
            return Ok(Self::Convoys { reader, backup });
        }
        let opened = inner.repositories.open(settings, &place.destination, volume)?;
        let backup = Box::new(opened.repository.find(id)?);
        Ok(Self::Ours { opened, backup })
    }

    /// Writes all of it into an empty directory, or onto a device of zeros, as the backup is of the one or of the other.
    pub(super) fn write(&self, target: &Target, progress: &Arc<Progress>) -> Result<Outcome> {
        if let Self::Ours { opened, .. } = self {
            // Whoever shares the repository may have written, or moved, what is to be read.
            opened.repository.refresh()?;
        }
        match target {
            Target::Tree { path } => self.write_tree(path, progress),
            Target::Block { path, .. } => self.write_image(path, progress),
        }
    }

    fn write_image(&self, path: &Path, progress: &Arc<Progress>) -> Result<Outcome> {
        let failed = |doing: &'static str| {
            move |source| EngineError::Target {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("open"))?;
        let mut outcome = Outcome::new();
        match self {
            Self::Ours { opened, backup } => {
                let target = BlockTarget {
                    file: &file,
                    path,
                    holds: Holds::Zeros,
                };
                let report = restore::block::block(&opened.repository, backup, &target, progress)?;
                outcome.insert("BytesTotal".to_owned(), json!(report.bytes));
                outcome.insert("BytesWritten".to_owned(), json!(report.written_bytes));
                outcome.insert("Requests".to_owned(), json!(opened.spent().requests()));
            }
            Self::Convoys { reader, backup } => {
                let write = |offset: u64, bytes: &[u8]| {
                    let written = std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset);
                    written.map_err(failed("write"))
                };
                reader.restore_block(backup, &write, progress)?;
                file.sync_all().map_err(failed("sync"))?;
                outcome.insert("BytesTotal".to_owned(), json!(backup.volume_size));
            }
        }
        Ok(outcome)
    }

    fn write_tree(&self, path: &Path, progress: &Progress) -> Result<Outcome> {
        let mut outcome = Outcome::new();
        match self {
            Self::Ours { opened, backup } => {
                let onto = TreeRestore {
                    target: path,
                    onto: Onto::Empty,
                    paths: &[],
                };
                let report = restore::tree::tree(&opened.repository, backup, &onto, progress)?;
                outcome.insert("Files".to_owned(), json!(report.files));
                outcome.insert("BytesTotal".to_owned(), json!(report.bytes));
                outcome.insert("Requests".to_owned(), json!(opened.spent().requests()));
            }
            Self::Convoys { reader, backup } => {
                let unpacked = reader.restore_tree(backup, path, progress)?;
                outcome.insert("Files".to_owned(), json!(unpacked.entries));
                outcome.insert("BytesTotal".to_owned(), json!(unpacked.bytes));
            }
        }
        Ok(outcome)
    }
}

impl Service {
    /// Looks at the backup that a volume is to be made of. What cannot become a volume is refused here, before there is
    /// one.
    pub(super) async fn origin(
        &self,
        options: &CreateOptions,
        content: Content,
    ) -> Result<Option<FromBackup>> {
        let Some(url) = &options.backup else {
            return Ok(None);
        };
        let settings = self.settings().backups;
        let (place, volume, _) = Place::of_backup(url, options.s3_endpoint.as_deref(), &settings)?;
        let settings = self.0.backups_of(&volume);
        let at = place.clone();
        let found = self.blocking(move |inner| Restorable::find(inner, &settings, &at));
        let found = tokio::time::timeout(LOOK_UP, found).await.map_err(|_| {
            ServiceError::Unavailable(format!(
                "backup {url}: its destination has not answered for {} s",
                LOOK_UP.as_secs()
            ))
        })??;
        let from = match found {
            Restorable::Ours { backup, .. } => {
                let manifest = backup.manifest().cloned();
                let image = manifest.as_ref().filter(|manifest| manifest.kind == Kind::Block);
                FromBackup {
                    url: place.backup(backup.name()).url(),
                    image: image.map(|manifest| manifest.size),
                    manifest,
                }
            }
            Restorable::Convoys { backup, .. } => FromBackup {
                url: place.url(),
                manifest: None,
                image: (backup.kind == Kind::Block).then_some(backup.volume_size),
            },
        };
        check_kind(from.kind(), content)?;
        check_size(&from, options)?;
        Ok(Some(from))
    }

    /// Begins the job that fills a volume. Under the volume's lock, or before anybody knows the volume.
    pub(super) async fn begin_restore(&self, volume: &Volume) -> Result<Option<JobStatus>> {
        let Some(restoring) = &volume.restoring else {
            return Ok(None);
        };
        if let Some(status) = self.restore_of(&volume.name) {
            return Ok(Some(status));
        }
        self.0.failed_restores().remove(&volume.name);
        let work = Work::Restore {
            volume: volume.name.clone(),
            volume_id: volume.id,
            backup: restoring.from.clone(),
        };
        self.begin_job_now(work).await.map(Some)
    }

    /// Begins the restores that a crash left without a job: between the volume's record and the job's.
    pub(super) async fn resume_restores(&self) -> Result<()> {
        let waiting: Vec<Arc<Volume>> = self
            .catalog()
            .entries()
            .map(|entry| entry.volume.clone())
            .filter(|volume| self.is_ours(volume) && self.restore_of(&volume.name).is_none())
            .collect();
        for volume in waiting {
            self.begin_restore(&volume).await?;
        }
        Ok(())
    }

    /// Whether this host fills the volume; those that share the driver's storage see its record too.
    fn is_ours(&self, volume: &Volume) -> bool {
        volume.restoring.as_ref().is_some_and(|restoring| {
            restoring.later.get(BY).and_then(serde_json::Value::as_str)
                == Some(&self.0.state.id().to_string())
        })
    }

    /// Waits until a volume has its data, at most as long as the settings say.
    ///
    /// # Errors
    /// [`ServiceError::Restoring`] with how far it is, or why it failed.
    pub(super) async fn await_restore(&self, name: &Name) -> Result<()> {
        let patience = self.settings().mount_wait.duration();
        let patient = async {
            tokio::select! {
                () = tokio::time::sleep(patience) => {}
                () = self.stopping() => {}
            }
        };
        self.0.uses.await_revert(name, patient).await?;
        let Ok(entry) = self.known(name) else {
            return Ok(());
        };
        if entry.volume.restoring.is_none() {
            return Ok(());
        }
        let refuse = |how: String| {
            Err(ServiceError::Restoring {
                volume: name.clone(),
                how,
            })
        };
        if !self.is_ours(&entry.volume) {
            return refuse("another host is restoring it".to_owned());
        }
        let failed = self.0.failed_restores().get(name).cloned();
        let status = match (self.restore_of(name), failed) {
            (Some(status), _) => status,
            // Whoever mounts wants it now: what failed a while ago is tried again.
            (None, Some((at, why))) if at.elapsed() < Duration::from_secs(30) => {
                return refuse(failed_in_words(name, &why));
            }
            (None, _) => match self.begin_restore(&entry.volume).await? {
                Some(status) => status,
                None => return Ok(()),
            },
        };
        let status = tokio::select! {
            status = self.wait_for_job(status.job.id, patience) => status?,
            () = self.stopping() => return Err(ServiceError::Stopping),
        };
        match status.job.state {
            JobState::Done => Ok(()),
            JobState::Failed | JobState::Cancelled => {
                let why = status.job.failure.map(|failure| failure.message);
                refuse(failed_in_words(
                    name,
                    &why.unwrap_or_else(|| "it was cancelled".to_owned()),
                ))
            }
            JobState::Queued | JobState::Running => refuse(format!("restoring, {}", status.in_words())),
        }
    }

    /// How the restore of a volume stands, for people; `None` for one that has its data.
    pub fn restoring_in_words(&self, volume: &Volume) -> Option<String> {
        let restoring = volume.restoring.as_ref()?;
        Some(match self.restore_of(&volume.name) {
            Some(status) => format!("restoring, {}", status.in_words()),
            None => match self.0.failed_restores().get(&volume.name) {
                Some((_, why)) => failed_in_words(&volume.name, why),
                None => format!("waiting for its data from {}", restoring.from),
            },
        })
    }

    pub(super) async fn work_restore(&self, live: &Arc<Live>) -> Result<Outcome> {
        let Work::Restore { volume: name, .. } = live.job().work else {
            unreachable!("the caller has looked");
        };
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match self.restore_once(live).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if !error.is_temporary() || attempt == ATTEMPTS {
                if !self.is_stopping() {
                    let said = (Instant::now(), error.one_line());
                    self.0.failed_restores().insert(name, said);
                }
                return Err(error);
            }
            live.note(format!(
                "{}; trying again in {} s",
                error.one_line(),
                pause.as_secs()
            ));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = live.ending() => return Err(EngineError::Cancelled.into()),
            }
            pause = (pause * 2).min(Duration::from_secs(60));
        }
        unreachable!("the last attempt returns")
    }

    async fn restore_once(&self, live: &Arc<Live>) -> Result<Outcome> {
        let Work::Restore {
            volume: name,
            volume_id,
            backup: url,
        } = live.job().work
        else {
            unreachable!("the caller has looked");
        };
        let entry = self.known(&name)?;
        if entry.volume.id != volume_id {
            return Err(super::volumes::not_found(&volume_id.to_string()));
        }
        if entry.volume.restoring.is_none() {
            // The daemon ended between the volume's last step and the job's.
            return Ok(Outcome::new());
        }
        let driver = self.driver_of(&entry.volume)?;
        let settings = self.settings().backups;
        let stored = self.stored_origin(&entry.volume)?;
        if let Some((of, _)) = &stored {
            self.stop_pruning(of.id).await;
        }
        let filling = Filling::new(&driver, &entry.volume, root_of(&entry.volume), &live.progress);
        let (work, from) = (filling.clone(), url.clone());
        let begun = Instant::now();
        // Without the volume's lock: until the fill, nothing of the volume changes.
        let built = self
            .blocking(move |inner| match &stored {
                Some((of, snapshot)) => {
                    let found = inner.stored_backup(&*driver, of, snapshot)?;
                    work.build(inner, |target, progress| found.write(target, progress))
                }
                None => {
                    let (place, volume, _) = Place::of_backup(&from, None, &settings)?;
                    let found = Restorable::find(inner, &inner.backups_of(&volume), &place)?;
                    work.build(inner, |target, progress| found.write(target, progress))
                }
            })
            .await?;
        let mut outcome = built.outcome.clone();
        let _held = self.0.locks.lock(name.as_str()).await;
        self.put_in_place(&filling, built).await?;
        self.events()
            .emit("volume.restore", &name, &[("backup", url.clone())]);
        outcome.insert("VolumeName".to_owned(), json!(name));
        outcome.insert("BackupURL".to_owned(), json!(url));
        outcome.insert(
            "Seconds".to_owned(),
            json!((begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0),
        );
        Ok(outcome)
    }
}

/// The key in a `restoring` record that says which host's daemon fills the volume.
pub(super) const BY: &str = "by";

impl FromBackup {
    fn kind(&self) -> Kind {
        match self.image {
            Some(_) => Kind::Block,
            None => Kind::Tree,
        }
    }

    /// Completes the record of a volume that begins as this backup.
    pub(super) fn mark(&self, volume: &mut Volume, state: uuid::Uuid) {
        let by = (BY.to_owned(), json!(state.to_string()));
        volume.restoring = Some(Restoring {
            from: self.url.clone(),
            since: Time::now(),
            later: [by].into(),
        });
        volume.size = volume.size.or(self.image.map(crate::model::Bytes));
        let Some(manifest) = &self.manifest else {
            return;
        };
        volume.restored_from = Some(RestoredFrom {
            backup: self.url.clone(),
            volume: manifest.volume.id,
            name: manifest.volume.name.clone(),
            later: Default::default(),
        });
        if volume.size.is_none() && manifest.size > 0 {
            volume.size = Some(crate::model::Bytes(manifest.size));
        }
        let had = |name: &str| manifest.volume.options.get(name).map(String::as_str);
        volume.vm = had("vm") == Some("true");
        // What the new volume's own options do not say is as it was.
        let policy = &mut volume.policy;
        policy.on_remove = policy
            .on_remove
            .or(had("on-remove").and_then(|how| OnRemove::parse("on-remove", how).ok()));
        policy.trash_ttl = policy
            .trash_ttl
            .or(had("trash-ttl").and_then(|ttl| Span::parse("trash-ttl", ttl).ok()));
    }
}

/// An image is as large as it is; a tree fits into any size that it fits into.
fn check_size(from: &FromBackup, options: &CreateOptions) -> Result<()> {
    let had = |name: &str| from.manifest.as_ref()?.volume.options.get(name);
    let of_disk = from.manifest.as_ref().map(|manifest| manifest.size);
    let disk = of_disk.filter(|_| had("vm").is_some_and(|vm| vm == "true"));
    match (options.size, from.image.or(disk)) {
        (Some(size), Some(exact)) if size.0 != exact => Err(InvalidValue::Value {
            option: "size".to_owned(),
            value: size.0.to_string(),
            expected: format!("that of the backup, which is an image of {exact} bytes"),
        }
        .into()),
        _ => Ok(()),
    }
}

/// An image fits onto a device, and a tree into a directory.
fn check_kind(kind: Kind, content: Content) -> Result<()> {
    let (what, because) = match (kind, content) {
        (Kind::Block, Content::Block) | (Kind::Tree, Content::Tree) => return Ok(()),
        (Kind::Block, Content::Tree) => (
            "restore of a block volume's backup into a directory",
            "give -o driver=devicemapper, if the daemon has that driver; 'windlass repo restore' writes it to an image",
        ),
        (Kind::Tree, Content::Block) => (
            "restore of a directory's backup onto a device",
            "give -o driver=vfs, or create the volume empty and have 'windlass repo restore' write into its mount point",
        ),
    };
    Err(DriverError::Unsupported {
        what: what.to_owned(),
        because: because.to_owned(),
    }
    .into())
}

/// Owner and permissions that the volume's options ask for, instead of the backup's.
fn root_of(volume: &Volume) -> RootDirectory {
    CreateOptions::parse(&volume.options).map_or_else(|_| RootDirectory::default(), |options| options.root)
}

fn failed_in_words(name: &Name, why: &str) -> String {
    format!(
        "its restore failed: {why}; 'windlass mount {name}' tries again, 'windlass delete {name}' gives it up"
    )
}
