//! The pool at work, for those who look after it: what it says, what it gains, whether its metadata are sound.

use super::super::pool::{Pool as Care, PoolCheck, PoolStatus, Room, Space};
use super::super::{Driver, Result};
use super::metadata::BLOCK_BYTES;
use super::status::Blocks;
use super::{Devicemapper, repair, storage};

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
}
