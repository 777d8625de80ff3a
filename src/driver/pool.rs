//! The pool that all volumes of a driver share, where it has one: what can be said of it and done to it.
//!
//! A pool at work is asked through its driver ([`Pool`]). Damaged metadata keep a driver from being opened at all, so that what
//! heals them works without it ([`AtRest`]).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Result;
use super::convoy::Adoption;
use crate::model::{Bytes, Name};

/// A pool at work.
pub trait Pool {
    /// What there is to know of it.
    fn status(&self) -> Result<PoolStatus>;

    /// Takes up what its devices have gained; with `room`, makes those larger first that windlass made itself.
    ///
    /// # Errors
    /// [`super::DriverError::Invalid`] for less room than there is, and where the devices are not windlass's own.
    fn extend(&self, room: Option<Room>) -> Result<PoolStatus>;

    /// Looks whether its metadata are sound, while it works.
    ///
    /// # Errors
    /// [`super::DriverError::Corrupt`] where they are not.
    fn check(&self) -> Result<PoolCheck>;

    /// Takes a pool down that has failed, or that writes no more, so that its metadata can be worked on ([`AtRest`]). Nothing can be
    /// done with the driver afterwards.
    ///
    /// # Errors
    /// [`super::DriverError::Busy`] where the pool works, and where somebody uses a volume of it: all of them are named.
    fn give_up(&self) -> Result<()>;
}

/// A pool that no driver has at work.
pub trait AtRest: Send + Sync {
    /// Looks whether its metadata are sound.
    ///
    /// # Errors
    /// As [`Pool::check`].
    fn check(&self) -> Result<PoolCheck>;

    /// Repairs damaged metadata: aside first, and into their place only when what came of it is sound and lacks nothing.
    /// An interrupted repair is finished. With `accept_loss`, what cannot be saved is given up: volumes and snapshots say so.
    ///
    /// # Errors
    /// [`super::DriverError::Corrupt`] where they cannot be repaired, or not without a loss that was not accepted. Nothing was
    /// changed then.
    fn repair(&self, accept_loss: bool) -> Result<PoolRepair>;

    /// Takes over, in place, the pool of the Convoy whose root is `root`; with `dry_run`, says what would be. Names that are
    /// `taken` stay behind.
    ///
    /// # Errors
    /// [`super::DriverError::Busy`] while it is at work, [`super::DriverError::Corrupt`] where it is damaged, and
    /// [`super::DriverError::AlreadyExists`] where there is a pool of windlass's already.
    fn adopt_convoy(&self, root: &Path, taken: &BTreeSet<Name>, dry_run: bool) -> Result<Adoption>;
}

/// How much room a pool is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// So much in all.
    To(Bytes),
    /// So much more.
    By(Bytes),
}

/// What a pool says of itself. All sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// Its name in the kernel.
    pub name: String,
    /// `read-write`, `out of data space`, `read-only` or `failed`.
    pub mode: String,
    /// The kernel wants the metadata checked before it writes again.
    pub needs_check: bool,
    /// How many changes it has seen.
    pub transaction: u64,
    /// Of its blocks.
    pub block_size: u64,
    /// The space for what volumes hold.
    pub data: Space,
    /// The space for what the pool knows.
    pub metadata: Space,
    /// The device for data.
    pub data_device: PathBuf,
    /// The device for metadata.
    pub metadata_device: PathBuf,
    /// The one that metadata are repaired to, where there is one.
    pub spare_device: Option<PathBuf>,
    /// Volumes, without those in the trash.
    pub volumes: usize,
    /// Their snapshots.
    pub snapshots: usize,
    /// Thin devices of all sorts: also of the trash, and what is kept for backups.
    pub thin_devices: usize,
    /// How full it is when a person is warned, in percent, rising.
    pub thresholds: Vec<u64>,
    /// What new volumes and snapshots leave alone, in percent.
    pub reserve: u64,
    /// What becomes of a write without room: `error` or `queue`.
    pub when_full: String,
    /// What a person should know of it now.
    pub warnings: Vec<String>,
    /// It is for trying out only, for this reason.
    pub caveat: Option<String>,
}

/// How much there is of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Taken.
    pub used: u64,
    /// In all.
    pub total: u64,
    /// Taken, in percent, rounded up.
    pub percent: u64,
}

/// Metadata that are sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolCheck {
    /// Where they are.
    pub device: PathBuf,
    /// The pool was at work meanwhile.
    pub at_work: bool,
    /// Thin devices in them.
    pub thin_devices: usize,
    /// Those that no record names. They are left alone, and take space.
    pub unclaimed: Vec<u32>,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRepair {
    /// Where the metadata are.
    pub device: PathBuf,
    /// Where those are now that were damaged; `None` where there was nothing to repair.
    pub damaged: Option<PathBuf>,
    /// What could not be saved, and was given up: `volume pg: ...`.
    pub losses: Vec<String>,
}
