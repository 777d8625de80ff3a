//! The driver `devicemapper`: each volume a thin device with a filesystem of its own, all of them in one pool.
//!
//! A snapshot is another thin device that shares what has not been written since; it is made in an instant and costs what
//! changes. What changed between two of them is read from the pool's metadata ([`metadata`]), so that an incremental backup
//! costs what changed too.
//!
//! How a crash is survived: the pool and the records change together in one step, or not at all ([`ledger`]). An operation
//! that takes more than that, because a filesystem is made or filled in between, works on a device that only a record in
//! `staging` names, and puts it into place in one such step; `recover` undoes what was not put into place.

mod adopt;
mod care;
mod create;
mod empty;
mod filesystem;
mod fill;
mod grow;
mod kernel;
mod ledger;
mod look;
mod losses;
pub mod metadata;
mod mounts;
mod options;
mod pool;
mod records;
mod remove;
mod repair;
mod snapshots;
mod source;
mod status;
mod storage;
#[cfg(test)]
mod tests;
mod thins;
mod usage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::{
    Capabilities, Content, Create, Created, Driver, DriverError, DriverOptions, Files, Fill, Grow, Listing,
    News, Operation, Outcome, Purge, Remove, RemoveSnapshot, Result, Revert, Scope, Source, Support,
    TakeSnapshot, Target, Undelete, Usage, Users, Warning,
};
use crate::model::{Bytes, Name, Policy, Snapshot, Trashed, Volume};
use kernel::{Kernel, Writable};
use ledger::{Change, Entry, Ledger};
use options::Options;
use pool::Pool;
use records::{Place, Record, Records, ThinId};
pub use repair::Healer;
use storage::Marker;
use thins::{Pinned, Thins};

/// The driver's name in options and records.
pub const NAME: &str = "devicemapper";

/// What its options begin with: Convoy's prefix.
pub const PREFIX: &str = "dm";

/// The driver, its pool running.
#[derive(Debug)]
pub struct Devicemapper {
    options: Options,
    marker: Marker,
    ledger: Ledger,
    pool: Pool,
    thins: Arc<Thins>,
}

impl Devicemapper {
    /// Makes the pool run, or finds it running, with its records below `root`. The first time, the devices in the options
    /// must be empty.
    ///
    /// # Errors
    /// [`DriverError::Invalid`] for options; [`DriverError::Unavailable`] where the kernel has no thin pools, where the pool
    /// is not the one that the records are about, and where its metadata are damaged. Nothing was touched then.
    pub fn open(root: &Path, options: &DriverOptions) -> Result<Self> {
        let options = Options::parse(options)?;
        let kernel = Arc::new(Kernel::open()?);
        let records = Records::new(root.to_owned());
        let is_unused = Ledger::open(records.clone())?.journal().transaction == 0;
        let (marker, devices) = storage::open(&kernel, &records, &options, is_unused)?;
        let ledger = Ledger::open(records)?;
        let pool = Pool::start(kernel.clone(), &ledger, &marker, devices, &options)?;
        let thins = Arc::new(Thins::new(kernel, pool.name(), pool.store()));
        let this = Self {
            options,
            marker,
            ledger,
            pool,
            thins,
        };
        this.clean_up()?;
        Ok(this)
    }

    /// What the pool would be made of, in lines for a person: the devices are looked at, and nothing is touched.
    ///
    /// # Errors
    /// As [`Self::open`], for options and devices.
    pub fn plan(root: &Path, options: &DriverOptions) -> Result<Vec<String>> {
        storage::plan(&Records::new(root.to_owned()), &Options::parse(options)?)
    }

    /// What a crash can have left: suspended devices, devices that nobody uses, a change half made.
    fn clean_up(&self) -> Result<()> {
        for thin in self.thins.active()? {
            self.thins.wake(thin)?;
            self.thins.deactivate(thin)?;
        }
        match self.ledger.settle(&self.pool) {
            // What is in the pool can still be read.
            Err(error) if self.pool.check_writable().is_err() => {
                log::warn!("{NAME}: an interrupted change waits for the pool to be writable again: {error}");
                Ok(())
            }
            settled => settled,
        }
    }

    fn records(&self) -> &Records {
        self.ledger.records()
    }

    fn commit(&self, change: Change) -> Result<()> {
        self.ledger.commit(&self.pool, change)
    }

    /// Makes a volume's device active until the answer is dropped.
    fn pin(&self, thin: ThinId, size: u64, writable: Writable) -> Result<Pinned> {
        self.thins.pin(thin, size, self.pool.number()?, writable)
    }

    /// Makes sure that a device is not active, so that it can be exchanged or deleted.
    fn retire(&self, thin: ThinId, volume: &Volume) -> Result<()> {
        if self.thins.retire(thin)? {
            return Ok(());
        }
        let by = match self.find_users(volume, &[]) {
            Ok(Users::Known(users)) if !users.is_empty() => users.join(", "),
            _ => format!("something that has its device {} open", self.thins.name(thin)),
        };
        Err(DriverError::Busy {
            what: format!("volume {}", volume.name),
            by,
            remedy: "end that first".to_owned(),
        })
    }

    /// After an error: what was begun must not stay. So recovery decides, as after a crash.
    fn settle<T>(
        &self,
        result: Result<T>,
        recover: impl FnOnce() -> Result<Outcome>,
        finished: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Err(error) = result else {
            return result;
        };
        match recover() {
            Ok(Outcome::Finished) => finished(),
            Ok(Outcome::Undone) => Err(error),
            Err(second) => {
                log::error!("{NAME}: the remains of a failed operation stay behind: {second}");
                Err(error)
            }
        }
    }

    /// A volume's size, which all of this driver's have.
    fn size_of(volume: &Volume) -> Result<u64> {
        volume
            .size
            .map(|size| size.0)
            .ok_or_else(|| DriverError::Corrupt {
                path: PathBuf::from(volume.name.as_str()),
                why: "the record of the volume says no size".to_owned(),
            })
    }
}

impl Driver for Devicemapper {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let by = |by: &str| Support::Yes { by: by.to_owned() };
        Capabilities {
            scope: Scope::Local,
            content: Content::Block,
            snapshots: by("thin snapshots"),
            size: by("thin devices"),
        }
    }

    fn info(&self) -> Result<Vec<(String, String)>> {
        let status = self.pool.status()?;
        let devices = self.pool.devices();
        let block = self.pool.block_bytes();
        let share = |blocks: status::Blocks, bytes: u64| {
            let (used, total) = (Bytes(blocks.used * bytes), Bytes(blocks.total * bytes));
            format!("{used} of {total} ({} %)", blocks.percent())
        };
        let mut lines = vec![
            ("Driver", NAME.to_owned()),
            ("Root", self.records().root().display().to_string()),
            ("DataDevice", devices.data.display().to_string()),
            ("MetadataDevice", devices.metadata.display().to_string()),
            ("ThinpoolDevice", format!("/dev/mapper/{}", self.pool.name())),
            ("ThinpoolSize", (status.data.total * block).to_string()),
            ("ThinpoolBlockSize", block.to_string()),
            ("DefaultVolumeSize", self.options.default_size.0.to_string()),
            ("Filesystem", self.options.filesystem.word().to_owned()),
            ("DataUsed", share(status.data, block)),
            (
                "MetadataUsed",
                share(status.metadata, metadata::BLOCK_BYTES as u64),
            ),
            ("PoolMode", status.mode.word().to_owned()),
            ("WhenFull", self.options.no_space.word().to_owned()),
            ("Transaction", status.transaction.to_string()),
            ("StoreID", self.pool.store().to_string()),
        ];
        lines.extend(devices.caveat.map(|caveat| ("Caveat", caveat.to_owned())));
        Ok(lines
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect())
    }

    fn pool(&self) -> Option<&dyn super::pool::Pool> {
        Some(self)
    }

    fn news(&self) -> Result<Option<Box<dyn News>>> {
        Ok(Some(Box::new(kernel::Events::open()?)))
    }

    fn warnings(&self) -> Vec<Warning> {
        self.pool.warnings()
    }

    fn volumes(&self) -> Result<Listing> {
        self.records().list()
    }

    fn volume(&self, name: &Name) -> Result<Option<Volume>> {
        Ok(self.records().volume(name)?.map(|record| record.volume))
    }

    fn generation(&self) -> Result<Option<u64>> {
        // The pool is this host's alone.
        Ok(None)
    }

    fn create(&self, create: &Create) -> Result<Created> {
        self.create_volume(create)
    }

    fn remove(&self, remove: &Remove) -> Result<()> {
        self.remove_volume(remove)
    }

    fn mount(&self, volume: &Volume, target: &Path) -> Result<()> {
        self.mount_volume(volume, target)
    }

    fn unmount(&self, volume: &Volume, target: &Path) -> Result<()> {
        self.unmount_volume(volume, target)
    }

    fn is_mounted(&self, volume: &Volume, target: &Path) -> Result<bool> {
        self.is_shown(volume, target)
    }

    fn users(&self, volume: &Volume, ours: &[PathBuf]) -> Result<Users> {
        self.find_users(volume, ours)
    }

    fn snapshot(&self, take: &TakeSnapshot) -> Result<Volume> {
        let mut taken = self.take_snapshots(std::slice::from_ref(take))?;
        Ok(taken.remove(0))
    }

    fn takes_together(&self) -> bool {
        true
    }

    fn snapshot_together(&self, takes: &[TakeSnapshot]) -> Result<Vec<Volume>> {
        self.take_snapshots(takes)
    }

    fn remove_snapshot(&self, remove: &RemoveSnapshot) -> Result<Volume> {
        self.forget_snapshot(remove)
    }

    fn show_snapshot(&self, volume: &Volume, snapshot: &Snapshot, target: &Path) -> Result<()> {
        self.look_at(volume, snapshot, target)
    }

    fn hide_snapshot(&self, volume: &Volume, snapshot: &Snapshot, target: &Path) -> Result<()> {
        self.look_away(volume, snapshot, target)
    }

    fn shown_snapshots(&self, volume: &Volume) -> Result<Vec<(Name, PathBuf)>> {
        self.shown(volume)
    }

    fn revert(&self, revert: &Revert) -> Result<Volume> {
        self.revert_volume(revert)
    }

    fn grow(&self, grow: &Grow) -> Result<Volume> {
        self.grow_volume(grow)
    }

    fn trim(&self, volume: &Volume) -> Result<Bytes> {
        self.trim_volume(volume)
    }

    fn open_source(&self, volume: &Volume, snapshot: Option<&Snapshot>, bases: &[Uuid]) -> Result<Source> {
        self.find_source(volume, snapshot, bases)
    }

    fn keep_base(&self, volume: &Volume, snapshot: &Snapshot, repository: &str) -> Result<Option<Volume>> {
        self.keep_state(volume, snapshot, repository).map(Some)
    }

    fn open_target(&self, fill: &Fill) -> Result<Target> {
        self.make_target(fill)
    }

    fn files(&self, volume: &Volume, snapshot: Option<&Snapshot>) -> Result<Files> {
        self.files_of(volume, snapshot)
    }

    fn check_target(&self, target: &Target) -> Result<Option<String>> {
        match target {
            Target::Block { path, .. } => filesystem::judge(path).map(Some),
            Target::Tree { .. } => Ok(None),
        }
    }

    fn fill(&self, fill: &Fill) -> Result<Volume> {
        self.fill_volume(fill)
    }

    fn set_policy(&self, volume: &Volume, policy: Policy) -> Result<Volume> {
        let mut record = self.records().must_have(&volume.name, volume.id)?;
        record.volume.policy = policy;
        self.put(record)
    }

    fn usage(&self, volume: &Volume) -> Result<Usage> {
        self.measure(volume)
    }

    fn usage_of_all(&self, volumes: &[&Volume]) -> Option<Vec<Result<Usage>>> {
        self.measure_all(volumes)
    }

    fn location(&self, volume: &Volume) -> Vec<(String, String)> {
        let Some(thin) = self.records().thin_of(volume) else {
            let mut lines = vec![("Device".to_owned(), "none yet".to_owned())];
            if let Some(lost) = losses::told_by(volume) {
                lines = vec![("Device".to_owned(), "lost".to_owned()), lost];
            }
            return lines;
        };
        let device = self.thins.node(thin).map_or_else(
            || format!("/dev/mapper/{}", self.thins.name(thin)),
            |path| path.display().to_string(),
        );
        let mut lines = vec![
            ("Device".to_owned(), device),
            ("DevID".to_owned(), thin.to_string()),
        ];
        lines.extend(losses::told_by(volume));
        lines
    }

    fn trash(&self) -> Result<Vec<Trashed>> {
        self.records().list_trash()
    }

    fn undelete(&self, undelete: &Undelete) -> Result<Volume> {
        self.bring_back(undelete)
    }

    fn purge(&self, purge: &Purge) -> Result<()> {
        self.destroy(purge)
    }

    fn recover(&self, operation: &Operation) -> Result<Outcome> {
        self.ledger.settle(&self.pool)?;
        match operation {
            Operation::Create(create) => self.recover_create(create),
            Operation::Remove(remove) => self.recover_remove(remove),
            Operation::Snapshot(take) => self.recover_snapshot(take),
            Operation::RemoveSnapshot(remove) => self.recover_remove_snapshot(remove),
            Operation::Revert(revert) => self.recover_exchange(&revert.volume, revert.id.uuid()),
            Operation::Grow(grow) => self.recover_grow(grow),
            Operation::Fill(fill) => self.recover_exchange(&fill.volume, fill.id.uuid()),
            Operation::Undelete(undelete) => self.recover_undelete(undelete),
            Operation::Purge(purge) => self.recover_purge(purge),
        }
    }
}

impl Devicemapper {
    /// Replaces a volume's record.
    fn put(&self, record: Record) -> Result<Volume> {
        let volume = record.volume.clone();
        self.commit(Change {
            puts: vec![entry(record)],
            ..Change::default()
        })?;
        Ok(volume)
    }
}

/// A volume's record, and its place under its name.
fn entry(record: Record) -> (Place, Entry) {
    let place = Place::Volume(record.volume.name.clone());
    (place, Entry::Volume(Box::new(record)))
}

/// Gives an I/O error its place: `.map_err(failed("read", &path))`.
fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> DriverError + 'a {
    move |source| DriverError::System {
        doing: format!("cannot {what} {}", path.display()),
        source,
    }
}
