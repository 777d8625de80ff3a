//! The driver `vfs`: a directory per volume below one path.
//!
//! The path may be on a local filesystem or on any shared one that is mounted there; then every host that mounts it sees
//! the same volumes. Records lie beside the data (see [`layout`]), so that a path that moves to another machine
//! brings its volumes along. Where the filesystem has subvolumes or reflinks there are snapshots, elsewhere there is a place
//! for a repository that others keep them in. Where it has quotas there are sizes; elsewhere they are refused with the
//! reason.
//!
//! How a crash is survived: nothing is at a volume's place before it is complete and durable in `staging`; a single file,
//! the record, decides whether a thing exists. Each operation's comment says what a crash between its steps leaves,
//! and `recover` decides by what it finds.

mod area;
mod create;
mod fill;
mod grow;
mod layout;
mod mounts;
mod options;
mod quotas;
mod records;
mod remove;
mod snapshots;
mod undelete;

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{
    Capabilities, Content, Create, Created, Driver, DriverError, DriverOptions, Fill, Grow, Listing,
    Operation, Outcome, Purge, Remove, RemoveSnapshot, Result, Revert, Scope, Source, Support, TakeSnapshot,
    Target, Undelete, Usage, Users,
};
use crate::model::{Bytes, Name, OnRemove, Policy, Snapshot, Trashed, Volume};
use crate::sys::{durable, filesystem};
use area::Trees;
use layout::Layout;
use options::Options;
use quotas::Quotas;

/// The driver's name in options and records.
pub const NAME: &str = "vfs";

/// The driver, open on one path.
#[derive(Debug)]
pub struct Vfs {
    layout: Layout,
    scope: Scope,
    default_size: Option<Bytes>,
    trees: Trees,
    quotas: Quotas,
    /// The filesystem and the directory in it that the path was when it was opened. Mounts made then are
    /// recognised by it after the path's own filesystem was unmounted.
    home: Option<mounts::Place>,
}

impl Vfs {
    /// Opens the store at the option `path`, or at `default_path` without it.
    ///
    /// With `expected_store`, the store that this host's records speak of, nothing is made: a path without it is a path
    /// whose filesystem is not mounted. Without it, a path that has no store gets one.
    ///
    /// # Errors
    /// [`DriverError::Unavailable`] when the expected store is not there; [`DriverError::Invalid`] for options.
    pub fn open(default_path: &Path, options: &DriverOptions, expected_store: Option<Uuid>) -> Result<Self> {
        let options = Options::parse(options)?;
        let path = options.path.as_deref().unwrap_or(default_path);
        let layout = Layout::open(path, expected_store)?;
        let trees = Trees::probe(&layout)?;
        let quotas = Quotas::probe(&layout, &trees);
        if let Trees::Copies { .. } = trees {
            // For root alone, as all that is private.
            layout::make_dir(&layout.repositories())?;
            sync_dir(&layout.private())?;
        }
        if let (Some(_), Support::No { because }) = (options.default_size, quotas.support()) {
            log::info!("vfs.defaultvolumesize has no effect: {because}");
        }
        Ok(Self {
            scope: options.scope,
            default_size: options.default_size,
            home: mounts::Place::of(layout.path())?,
            layout,
            trees,
            quotas,
        })
    }

    /// The store's identity, for the host to remember.
    pub fn store_id(&self) -> Uuid {
        self.layout.store()
    }

    /// The path, canonical.
    pub fn path(&self) -> &Path {
        self.layout.path()
    }
}

impl Driver for Vfs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            scope: self.scope,
            content: Content::Tree,
            snapshots: self.trees.support(&self.layout),
            size: self.quotas.support(),
        }
    }

    fn repositories(&self) -> Option<PathBuf> {
        Some(self.layout.repositories())
    }

    fn info(&self) -> Result<Vec<(String, String)>> {
        let shown = |support| match support {
            Support::Yes { by } | Support::ByRepository { by, .. } => by,
            Support::No { because } => format!("none: {because}"),
        };
        let facts = filesystem::facts(self.layout.path())?;
        let lines = [
            ("Root", self.layout.private().display().to_string()),
            ("Path", self.layout.path().display().to_string()),
            (
                "DefaultVolumeSize",
                self.default_size
                    .map_or("none".to_owned(), |size| size.to_string()),
            ),
            ("Scope", self.scope.word().to_owned()),
            ("Filesystem", facts.kind.to_string()),
            ("Snapshots", shown(self.trees.support(&self.layout))),
            ("Quotas", shown(self.quotas.support())),
            ("Total", Bytes(facts.total_bytes).to_string()),
            ("Free", Bytes(facts.available_bytes).to_string()),
            ("StoreID", self.store_id().to_string()),
        ];
        Ok(lines.map(|(key, value)| (key.to_owned(), value)).into())
    }

    fn volumes(&self) -> Result<Listing> {
        self.layout.list()
    }

    fn volume(&self, name: &Name) -> Result<Option<Volume>> {
        self.layout.read_volume(name)
    }

    fn generation(&self) -> Result<Option<u64>> {
        self.layout.generation().map(Some)
    }

    fn create(&self, create: &Create) -> Result<Created> {
        self.create_volume(create)
    }

    fn remove(&self, remove: &Remove) -> Result<()> {
        self.layout.check_present()?;
        let volume = self.layout.must_read(&remove.volume.name, remove.volume.id)?;
        match remove.how {
            OnRemove::Keep => self.let_go(remove, volume),
            OnRemove::Trash | OnRemove::Delete => self.move_to_trash(remove, volume),
        }
    }

    fn mount(&self, volume: &Volume, target: &Path) -> Result<()> {
        self.bind(volume, target)
    }

    fn unmount(&self, volume: &Volume, target: &Path) -> Result<()> {
        self.unbind(volume, target)
    }

    fn is_mounted(&self, volume: &Volume, target: &Path) -> Result<bool> {
        self.is_bound(volume, target)
    }

    fn users(&self, volume: &Volume, ours: &[PathBuf]) -> Result<Users> {
        self.find_users(volume, ours)
    }

    fn snapshot(&self, take: &TakeSnapshot) -> Result<Volume> {
        self.take_snapshot(take)
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

    fn open_source(&self, volume: &Volume, snapshot: Option<&Snapshot>, _bases: &[Uuid]) -> Result<Source> {
        self.find_source(volume, snapshot)
    }

    fn open_target(&self, fill: &Fill) -> Result<Target> {
        self.make_target(fill)
    }

    fn room(&self) -> Result<Option<Bytes>> {
        let facts = filesystem::facts(self.layout.path())?;
        Ok(Some(Bytes(facts.available_bytes)))
    }

    fn fill(&self, fill: &Fill) -> Result<Volume> {
        self.fill_volume(fill)
    }

    fn set_policy(&self, volume: &Volume, policy: Policy) -> Result<Volume> {
        self.layout.check_present()?;
        let mut volume = self.layout.must_read(&volume.name, volume.id)?;
        volume.policy = policy;
        self.layout.write_volume(&volume)?;
        Ok(volume)
    }

    fn usage(&self, volume: &Volume) -> Result<Usage> {
        self.measure(volume)
    }

    fn location(&self, volume: &Volume) -> Vec<(String, String)> {
        vec![(
            "Path".to_owned(),
            self.layout.data(&volume.name).display().to_string(),
        )]
    }

    fn trash(&self) -> Result<Vec<Trashed>> {
        self.layout.list_trash()
    }

    fn undelete(&self, undelete: &Undelete) -> Result<Volume> {
        self.bring_back(undelete)
    }

    fn purge(&self, purge: &Purge) -> Result<()> {
        self.destroy(purge)
    }

    fn recover(&self, operation: &Operation) -> Result<Outcome> {
        self.layout.check_present()?;
        self.make_durable(operation)?;
        match operation {
            Operation::Create(create) => self.recover_create(create),
            Operation::Remove(remove) => self.recover_remove(remove),
            Operation::Snapshot(take) => self.recover_snapshot(take),
            Operation::RemoveSnapshot(remove) => self.recover_remove_snapshot(remove),
            Operation::Revert(revert) => self.recover_exchange(&revert.volume, revert.id),
            Operation::Grow(grow) => self.recover_grow(grow),
            Operation::Fill(fill) => self.recover_exchange(&fill.volume, fill.id),
            Operation::Undelete(undelete) => self.recover_undelete(undelete),
            Operation::Purge(purge) => self.recover_purge(purge),
        }
    }
}

/// Gives an I/O error its place: `.map_err(doing("read", &path))`.
fn doing<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> DriverError + 'a {
    move |source| DriverError::System {
        doing: format!("cannot {what} {}", path.display()),
        source,
    }
}

impl Vfs {
    /// Makes durable what the interrupted operation did to names. Recovery decides by what it sees, and destroys by
    /// it; a power cut must not take that back afterwards.
    fn make_durable(&self, operation: &Operation) -> Result<()> {
        let layout = &self.layout;
        let (volume, staged) = match operation {
            Operation::Create(create) => (create.volume.id, create.volume.id.uuid()),
            Operation::Remove(remove) => (remove.volume.id, remove.volume.id.uuid()),
            Operation::Snapshot(take) => (take.volume.id, take.id.uuid()),
            Operation::RemoveSnapshot(remove) => (remove.volume.id, remove.snapshot.id.uuid()),
            Operation::Revert(revert) => (revert.volume.id, revert.id.uuid()),
            Operation::Grow(grow) => (grow.volume.id, grow.volume.id.uuid()),
            Operation::Fill(fill) => (fill.volume.id, fill.id.uuid()),
            Operation::Undelete(undelete) => (undelete.id, undelete.id.uuid()),
            Operation::Purge(purge) => (purge.id, purge.id.uuid()),
        };
        let staging = layout.staging(staged);
        let can = layout.trashed(volume);
        let own = [staging.dir(), can.dir(), &layout.snapshots(volume)].map(Path::to_owned);
        for dir in layout.rooms().chain([layout.path().to_owned()]).chain(own) {
            match durable::sync_dir(dir) {
                Err(error) if error.is_not_found() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// After an error: what the disk could not confirm, it may have done, and what was begun must not stay. So recovery
    /// decides, as after a crash.
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
                log::error!("vfs: the remains of a failed operation stay behind: {second}");
                Err(error)
            }
        }
    }
}

/// Makes the names in a directory durable; it is there.
fn sync_dir(path: &Path) -> Result<()> {
    Ok(durable::sync_dir(path)?)
}

#[cfg(test)]
mod tests;
