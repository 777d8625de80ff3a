//! The thin pool: made to run, asked and told.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::super::{DriverError, Result, Warning};
use super::kernel::{Kernel, Table, Writable};
use super::ledger::Ledger;
use super::metadata::{self, Metadata, MetadataError, Superblock, View};
use super::options::{NoSpace, Options, SECTOR};
use super::records::ThinId;
use super::status::{Mode, Status};
use super::storage::{self, Devices, Marker};
use super::{NAME, failed, repair};
use crate::model::Bytes;
use crate::sys::exec::Exec;
use crate::sys::fault::point;

/// How long thin_check may look at the metadata of a large pool.
const CHECK_LIMIT: Duration = Duration::from_secs(600);

/// A pool that runs.
#[derive(Debug)]
pub(super) struct Pool {
    kernel: Arc<Kernel>,
    name: String,
    store: Uuid,
    block_sectors: u32,
    /// They are exchanged for the same ones, grown.
    devices: Mutex<Devices>,
    /// In percent of the pool.
    reserve: u64,
    /// The same, rising.
    thresholds: Vec<u64>,
    /// Held while the pool holds a metadata snapshot: there is one at a time.
    metadata: Mutex<()>,
}

impl Pool {
    /// Makes the pool run, or finds it running, and checks that it is the one that the records are about.
    pub(super) fn start(
        kernel: Arc<Kernel>,
        ledger: &Ledger,
        marker: &Marker,
        devices: Devices,
        options: &Options,
    ) -> Result<Self> {
        let pool = Self::new(kernel, marker, devices, options);
        let uuid = pool.uuid();
        let found = pool.kernel.info(&pool.name)?;
        let is_ours = found
            .as_ref()
            .is_some_and(|info| info.uuid == uuid && info.is_live);
        let found = match is_ours && pool.let_go_of_failed()? {
            true => None,
            false => found,
        };
        match found {
            Some(info) if info.uuid != uuid => return Err(storage::foreign(&pool.name)),
            Some(info) if info.is_live => {
                if info.is_suspended {
                    pool.kernel.resume(&pool.name)?;
                }
                pool.extend(options.no_space)?;
            }
            found => {
                pool.check_at_rest(ledger)?;
                let table = pool.table(options.no_space)?;
                match found {
                    // Made, and then a crash.
                    Some(_) => pool.kernel.reload(&pool.name, &table)?,
                    None => pool.kernel.create(&pool.name, &uuid, &table, Writable::Yes)?,
                };
            }
        }
        point("pool.started");
        // A crash may have left one, and it keeps blocks from being used again.
        pool.release_metadata()?;
        let status = pool.status()?;
        if status.mode != Mode::Failed {
            ledger.agrees_with(status.transaction)?;
        }
        Ok(pool)
    }

    /// The pool on those devices, whether it runs or not.
    pub(super) fn new(kernel: Arc<Kernel>, marker: &Marker, devices: Devices, options: &Options) -> Self {
        Self {
            kernel,
            name: options.pool_name.clone(),
            store: marker.id,
            block_sectors: marker.block_sectors,
            devices: Mutex::new(devices),
            reserve: options.reserve,
            thresholds: options.thresholds.clone(),
            metadata: Mutex::default(),
        }
    }

    fn uuid(&self) -> String {
        format!("WINDLASS-{}-pool", self.store.simple())
    }

    /// Stops the pool, if it runs and nobody uses a volume of it.
    ///
    /// # Errors
    /// [`DriverError::Busy`] where somebody does.
    pub(super) fn stop(&self) -> Result<()> {
        match self.kernel.info(&self.name)? {
            None => return Ok(()),
            Some(info) if info.uuid != self.uuid() => return Err(storage::foreign(&self.name)),
            Some(_) => {}
        }
        match self.remove_all()? {
            true => Ok(()),
            false => Err(DriverError::Busy {
                what: format!("the pool {}", self.name),
                by: "whoever has a volume of it mounted or its device open".to_owned(),
                remedy: "end that first: its metadata can be worked on only while it does not run".to_owned(),
            }),
        }
    }

    /// Removes it from the kernel; false when somebody uses a volume of it.
    pub(super) fn take_down(&self) -> Result<bool> {
        let removed = self.remove_all()?;
        if removed {
            log::warn!("{NAME}: the pool {} was taken down to be repaired", self.name);
        }
        Ok(removed)
    }

    /// Removes its devices and then itself from the kernel; false when somebody uses one.
    fn remove_all(&self) -> Result<bool> {
        let prefix = format!("{}-", self.name);
        for name in self.kernel.names()? {
            let thin = name.strip_prefix(&prefix).and_then(|id| id.parse::<u32>().ok());
            if thin.is_some() && !self.kernel.remove(&name)? {
                return Ok(false);
            }
        }
        self.kernel.remove(&self.name)
    }

    /// Stops a pool that writes no more, if nobody uses a volume of it: made to run again, it may. True when it was stopped.
    fn let_go_of_failed(&self) -> Result<bool> {
        if !matches!(self.status()?.mode, Mode::ReadOnly | Mode::Failed) {
            return Ok(false);
        }
        let removed = self.remove_all()?;
        if removed {
            log::warn!(
                "{NAME}: the pool {} had stopped writing, and is started anew",
                self.name
            );
        }
        Ok(removed)
    }

    fn table(&self, no_space: NoSpace) -> Result<Table> {
        let devices = self.devices();
        let sectors = devices.pool_sectors(self.block_sectors)?;
        let number = |device| storage::number_of(device).map(|(major, minor)| format!("{major}:{minor}"));
        let low_water = low_water(sectors / u64::from(self.block_sectors), &self.thresholds);
        let features = match no_space {
            NoSpace::Error => "1 error_if_no_space",
            NoSpace::Queue => "0",
        };
        // Zeroing of new blocks stays on: without it, a volume could read what a removed one had written.
        let parameters = format!(
            "{} {} {} {low_water} {features}",
            number(&devices.metadata)?,
            number(&devices.data)?,
            self.block_sectors,
        );
        Ok(Table {
            sectors,
            target: "thin-pool",
            parameters,
        })
    }

    /// Lets the running pool have what its devices have gained; true when that is something.
    fn extend(&self, no_space: NoSpace) -> Result<bool> {
        let table = self.table(no_space)?;
        let status = self.status()?;
        let now = status.data.total * u64::from(self.block_sectors);
        let metadata = storage::usable_metadata(&self.devices().metadata)? / metadata::BLOCK_BYTES as u64;
        // A failed pool says 0, and takes no other table.
        if now == 0 || (table.sectors <= now && metadata <= status.metadata.total) {
            return Ok(false);
        }
        self.kernel.reload(&self.name, &table)?;
        point("pool.extended");
        log::info!(
            "{NAME}: the pool {} was extended from {} to {}",
            self.name,
            Bytes(now * SECTOR),
            Bytes(table.sectors * SECTOR)
        );
        Ok(true)
    }

    /// The same after its devices have grown.
    pub(super) fn take_up(&self, devices: Devices, no_space: NoSpace) -> Result<bool> {
        *self.devices.lock().unwrap_or_else(PoisonError::into_inner) = devices;
        self.check_writable()?;
        self.extend(no_space)
    }

    /// Looks at metadata that no kernel works on: are they ours, and sound?
    pub(super) fn check_at_rest(&self, ledger: &Ledger) -> Result<()> {
        if repair::is_under_way(ledger.records()) {
            return Err(self.unsound("a repair of them was interrupted"));
        }
        let found = match Metadata::open(&self.devices().metadata, View::Current) {
            Ok(found) => found,
            Err(MetadataError::Empty { .. }) => return self.check_new(ledger),
            Err(error) => return Err(self.unsound(&error.to_string())),
        };
        let Superblock {
            transaction,
            data_block_sectors,
            needs_check,
            ..
        } = *found.superblock();
        ledger.agrees_with(transaction)?;
        if data_block_sectors != self.block_sectors {
            return Err(self.not_ours(&format!(
                "its blocks have {data_block_sectors} sectors and not {}",
                self.block_sectors
            )));
        }
        self.run_check(needs_check)?;
        let devices = found
            .devices()
            .map_err(|error| self.unsound(&error.to_string()))?;
        // What is under way may have been made, or deleted, or not.
        let change = ledger.journal().change.unwrap_or_default();
        let records = ledger.records().all_thins()?;
        let missing = records
            .iter()
            .find(|(thin, _)| !devices.contains_key(&thin.0) && !change.deletes.contains(thin));
        match missing {
            None => Ok(()),
            Some((thin, what)) => Err(self.not_ours(&format!(
                "it has no thin device {thin}, which the record {what} names"
            ))),
        }
    }

    /// There are no metadata yet. That is right only for a pool that has never held anything.
    fn check_new(&self, ledger: &Ledger) -> Result<()> {
        let journal = ledger.journal();
        if journal.transaction == 0 && ledger.records().all_thins()?.is_empty() {
            return Ok(());
        }
        Err(self.not_ours("it is empty, and the records speak of volumes"))
    }

    /// With `is_wanted`, the kernel stopped writing until somebody has looked; metadata that are sound lose that flag.
    fn run_check(&self, is_wanted: bool) -> Result<()> {
        let check = Exec::new("thin_check")
            .arg("-q")
            .args(is_wanted.then_some("--clear-needs-check-flag"))
            .arg(&self.devices().metadata)
            .time_limit(CHECK_LIMIT);
        match check.run() {
            Ok(_) if is_wanted => {
                log::warn!(
                    "{NAME}: the kernel wanted the metadata of the pool {} checked, and they are sound",
                    self.name
                );
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => {
                log::warn!(
                    "{NAME}: thin_check is not installed: the pool's metadata are used without a check"
                );
                Ok(())
            }
            Err(error) => Err(self.unsound(&error.to_string())),
        }
    }

    fn unsound(&self, why: &str) -> DriverError {
        DriverError::Unavailable {
            driver: NAME,
            why: format!(
                "the metadata of the pool {} on {} are damaged ({why}); nothing was touched; 'windlass pool repair' \
                 repairs them with thin_repair (docs/devicemapper.md)",
                self.name,
                self.devices().metadata.display()
            ),
        }
    }

    fn not_ours(&self, why: &str) -> DriverError {
        DriverError::Unavailable {
            driver: NAME,
            why: format!(
                "the pool on {} is not the one that the records are about: {why}; nothing was touched; give the right devices",
                self.devices().metadata.display()
            ),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    pub(super) fn store(&self) -> Uuid {
        self.store
    }

    pub(super) fn devices(&self) -> Devices {
        self.devices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The size of a data block, in sectors.
    pub(super) fn block_sectors(&self) -> u32 {
        self.block_sectors
    }

    /// The size of a data block, in bytes.
    pub(super) fn block_bytes(&self) -> u64 {
        u64::from(self.block_sectors) * SECTOR
    }

    /// The pool's number, as thin devices' tables name it.
    pub(super) fn number(&self) -> Result<(u32, u32)> {
        let info = self.kernel.info(&self.name)?;
        info.map(|info| info.device)
            .ok_or_else(|| DriverError::Unavailable {
                driver: NAME,
                why: format!("the pool {} is gone; start the daemon again", self.name),
            })
    }

    pub(super) fn status(&self) -> Result<Status> {
        let line = self.kernel.status_as_written(&self.name)?;
        Status::parse(&line).ok_or_else(|| DriverError::System {
            doing: format!("cannot understand the status {line:?} of the pool {}", self.name),
            source: io::ErrorKind::InvalidData.into(),
        })
    }

    pub(super) fn transaction(&self) -> Result<u64> {
        let status = self.status()?;
        match status.mode {
            // Nothing it says counts.
            Mode::Failed => status.check_writable(&self.name).map(|()| 0),
            _ => Ok(status.transaction),
        }
    }

    /// Refuses changes that the pool cannot make now.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.status()?.check_writable(&self.name)
    }

    /// What a person should know of it now.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        match self.status() {
            Ok(status) => status.warnings(&self.name, &self.thresholds),
            Err(error) => vec![Warning {
                key: "status".to_owned(),
                text: error.to_string(),
            }],
        }
    }

    /// Refuses `what` where the pool is nearly full.
    pub(super) fn check_room(&self, what: &str) -> Result<()> {
        self.status()?.check_room(&self.name, self.reserve, what)
    }

    /// Makes a thin device, empty or as another is now.
    pub(super) fn make_thin(&self, thin: ThinId, origin: Option<ThinId>) -> Result<()> {
        let message = match origin {
            None => format!("create_thin {thin}"),
            Some(origin) => format!("create_snap {thin} {origin}"),
        };
        self.tell(&message, &[])
    }

    /// Deletes a thin device, if it is there.
    pub(super) fn delete_thin(&self, thin: ThinId) -> Result<()> {
        self.tell(&format!("delete {thin}"), &[libc::ENODATA])
    }

    /// Counts a transaction, if the pool is where it is thought to be, and commits the metadata.
    pub(super) fn set_transaction(&self, from: u64, to: u64) -> Result<()> {
        self.tell(&format!("set_transaction_id {from} {to}"), &[])
    }

    /// Lets `read` look at the metadata as they are now, while the pool works on.
    pub(super) fn with_metadata<T>(&self, read: impl FnOnce(&Metadata) -> metadata::Result<T>) -> Result<T> {
        self.while_held(|device| {
            let result = Metadata::open(device, View::Held).and_then(|found| read(&found));
            result.map_err(|error| match error {
                MetadataError::Read { path, source, .. } => failed("read", &path)(source),
                other => self.unsound(&other.to_string()),
            })
        })
    }

    /// Has the pool hold its metadata, as they are now, on their device, while `look` looks at them.
    fn while_held<T>(&self, look: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let _one = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        self.release_metadata()?;
        self.tell("reserve_metadata_snap", &[])?;
        point("pool.reserved");
        let result = look(&self.devices().metadata);
        let released = self.release_metadata();
        let result = result?;
        released?;
        Ok(result)
    }

    /// Whether what a pool at work has written of its metadata is sound.
    pub(super) fn check_at_work(&self) -> Result<()> {
        self.check_writable()?;
        self.while_held(|device| repair::thin_check(device, &["-m"]))
    }

    /// Gives up the metadata snapshot, if one is held.
    fn release_metadata(&self) -> Result<()> {
        self.tell("release_metadata_snap", &[libc::EINVAL])
    }

    fn tell(&self, message: &str, fine: &[i32]) -> Result<()> {
        match self.kernel.message(&self.name, message)? {
            Err(error) if !error.raw_os_error().is_some_and(|number| fine.contains(&number)) => {
                // A pool that has failed refuses everything; its state says more than the message's.
                self.check_writable()?;
                Err(DriverError::System {
                    doing: format!("the pool {} refused {message:?}", self.name),
                    source: error,
                })
            }
            _ => Ok(()),
        }
    }
}

/// With so few blocks left the kernel tells of it: when the first threshold is passed. It looks before it takes a block, so that it
/// is one more than are left then.
fn low_water(blocks: u64, thresholds: &[u64]) -> u64 {
    let first = thresholds.first().copied().unwrap_or(100).min(100);
    (u128::from(blocks) * u128::from(100 - first) / 100) as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::super::status::Blocks;
    use super::*;

    /// When the kernel tells, and has taken the block that it was asked for, there is a warning to be given.
    #[test]
    fn the_kernel_tells_when_the_first_threshold_is_passed() {
        for total in [100, 1_000, 12_799, 12_800, 12_801, 1 << 24, 1 << 40] {
            for first in [1, 50, 80, 99, 100] {
                let told = total - low_water(total, &[first, 100]);
                let used = told + 1;
                assert!(
                    Blocks { used, total }.percent() >= first,
                    "{first} percent of {total}"
                );
                let before = told.saturating_sub(total / 100 + 1);
                assert!(
                    Blocks { used: before, total }.percent() <= first,
                    "{first} percent of {total}"
                );
            }
        }
        assert_eq!(low_water(1_000, &[]), 1);
    }
}
