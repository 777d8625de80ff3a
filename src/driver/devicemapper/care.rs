//! The pool at work, for those who look after it: what it says, what it gains, whether its metadata are sound. And its end, where it
//! works no more and is to be repaired.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::pool::{Pool as Care, PoolCheck, PoolStatus, Room, Space};
use super::super::{Driver, DriverError, Result};
use super::kernel::Info;
use super::metadata::BLOCK_BYTES;
use super::records::ThinId;
use super::status::{Blocks, Mode};
use super::{Devicemapper, NAME, repair, storage};
use crate::sys::{holders, mountinfo};

impl Care for Devicemapper {
    fn status(&self) -> Result<PoolStatus> {
        let status = self.pool.status()?;
        let devices = self.pool.devices();
        let block = self.pool.block_bytes();
        let space = |blocks: Blocks, bytes: u64| Space {
            used: blocks.used * bytes,
            total: blocks.total * bytes,
            percent: blocks.percent(),
        };
        let volumes = self.records().list()?.volumes;
        Ok(PoolStatus {
            name: self.pool.name().to_owned(),
            mode: status.mode.word().to_owned(),
            needs_check: status.needs_check,
            transaction: status.transaction,
            block_size: block,
            data: space(status.data, block),
            metadata: space(status.metadata, BLOCK_BYTES as u64),
            data_device: devices.data,
            metadata_device: devices.metadata,
            spare_device: devices.spare,
            snapshots: volumes.iter().map(|volume| volume.snapshots.len()).sum(),
            volumes: volumes.len(),
            thin_devices: self.records().all_thins()?.len(),
            thresholds: self.options.thresholds.clone(),
            reserve: self.options.reserve,
            when_full: self.options.no_space.word().to_owned(),
            warnings: self.warnings().into_iter().map(|warning| warning.text).collect(),
            caveat: devices.caveat.map(str::to_owned),
        })
    }

    fn extend(&self, room: Option<Room>) -> Result<PoolStatus> {
        let (kernel, records) = (self.pool.kernel(), self.records());
        let devices = storage::make_room(kernel, records, &self.options, &self.marker, room)?;
        self.pool.take_up(devices, self.options.no_space)?;
        Care::status(self)
    }

    fn check(&self) -> Result<PoolCheck> {
        self.pool.check_at_work().map_err(repair::with_remedy)?;
        let there = self.pool.with_metadata(|metadata| metadata.devices())?;
        let there: Vec<u32> = there.into_keys().collect();
        let device = self.pool.devices().metadata;
        // What other changes do between the two looks is theirs: only what stays missing counts.
        match repair::compare(&self.ledger, &device, true, &there) {
            Ok(report) => Ok(report),
            Err(_) => {
                let there = self.pool.with_metadata(|metadata| metadata.devices())?;
                let there: Vec<u32> = there.into_keys().collect();
                repair::compare(&self.ledger, &device, true, &there).map_err(repair::with_remedy)
            }
        }
    }

    fn give_up(&self) -> Result<()> {
        let status = self.pool.status()?;
        let busy = |by: String, remedy: &str| DriverError::Busy {
            what: format!("the pool {}", self.pool.name()),
            by,
            remedy: remedy.to_owned(),
        };
        if matches!(status.mode, Mode::ReadWrite | Mode::OutOfData) && !status.needs_check {
            return Err(busy(
                format!("the driver {NAME}, which has it at work"),
                "only one that has failed or is read-only is taken down for a repair. 'windlass pool check' says whether its metadata \
                 are sound; if not, end what uses its volumes, and start the daemon again, which leaves it at rest then",
            ));
        }
        let remedy = "end that first, and unmount them ('windlass umount'): its metadata can be worked on only while it does not run";
        let mut users = Vec::new();
        let known = self.records().all_thins()?;
        for thin in self.thins.active()? {
            self.thins.wake(thin)?;
            if !self.thins.deactivate(thin)?
                && let Some(info) = self.thins.find(thin)?
            {
                users.push(self.described(thin, &info, &known)?);
            }
        }
        if !users.is_empty() {
            return Err(busy(users.join("; "), remedy));
        }
        match self.pool.take_down()? {
            true => Ok(()),
            false => Err(busy("something that has a device of it open".to_owned(), remedy)),
        }
    }
}

impl Devicemapper {
    /// Who has a thin device in use: `volume pg, mounted at /a, by postgres (pid 7)`.
    fn described(&self, thin: ThinId, info: &Info, known: &BTreeMap<ThinId, String>) -> Result<String> {
        let what = match known.get(&thin).map(|place| place.split_once('/')) {
            Some(Some(("volumes", name))) => format!("volume {name}"),
            Some(Some((room, name))) => format!("{room}/{name}"),
            _ => self.thins.name(thin),
        };
        let places: Vec<PathBuf> = mountinfo::read_self()?
            .into_iter()
            .filter(|mount| mount.device == info.device)
            .map(|mount| mount.mount_point)
            .collect();
        let mut by: Vec<String> = places
            .iter()
            .map(|place| format!("mounted at {}", place.display()))
            .collect();
        let found = holders::find_device(info.device, &places)?;
        by.extend(found.holders.iter().map(|holder| {
            format!(
                "{} (pid {}) at {}",
                holder.comm,
                holder.pid,
                holder.mount_point.display()
            )
        }));
        by.extend(self.openers(thin, info.device)?);
        if by.is_empty() {
            by.push(format!("something that has {} open", self.thins.name(thin)));
        }
        Ok(format!("{what} ({})", by.join(", ")))
    }
}
