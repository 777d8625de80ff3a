//! What volumes hold: from the pool's metadata, in one look for all that are asked about.

use super::super::{DriverError, Result, Usage};
use super::kernel::Writable;
use super::metadata;
use super::records::ThinId;
use super::{Devicemapper, NAME};
use crate::model::{Bytes, Volume};

/// What a volume shares with nobody is counted up to so many blocks, which takes a thousand reads of 4 KiB: some milliseconds.
const COUNTED: u64 = 1 << 18;

impl Devicemapper {
    /// What a volume holds.
    pub(super) fn measure(&self, volume: &Volume) -> Result<Usage> {
        let found = self.measure_all(&[volume]).and_then(|mut found| found.pop());
        found.unwrap_or_else(|| self.mapped(volume))
    }

    /// What volumes hold, in their order. `None` where the metadata cannot be looked at, which is tried with a pool that can be written
    /// to alone.
    pub(super) fn measure_all(&self, volumes: &[&Volume]) -> Option<Vec<Result<Usage>>> {
        self.pool.check_writable().ok()?;
        let thins: Vec<Result<Option<ThinId>>> = volumes
            .iter()
            .map(|volume| Ok(self.records().must_have(&volume.name, volume.id)?.thin))
            .collect();
        let counted = self.pool.with_metadata(|metadata| {
            let devices = metadata.devices()?;
            let count = |thin: ThinId| {
                let details = devices.get(&thin.0).ok_or_else(|| metadata.no_device(thin.0))?;
                let few = details.mapped_blocks <= COUNTED;
                Ok(Counted {
                    mapped: details.mapped_blocks,
                    unshared: few.then(|| metadata.unshared(thin.0, details)).transpose()?,
                })
            };
            let known = thins.iter().map(|thin| thin.as_ref().ok().copied().flatten());
            Ok(known.map(|thin| thin.map(count)).collect::<Vec<_>>())
        });
        let counted = counted
            .inspect_err(|error| log::warn!("{NAME}: what volumes hold is not known: {error}"))
            .ok()?;
        let all = volumes.iter().zip(thins).zip(counted);
        Some(
            all.map(|((volume, thin), counted)| self.usage_of(volume, thin, counted))
                .collect(),
        )
    }

    fn usage_of(
        &self,
        volume: &Volume,
        thin: Result<Option<ThinId>>,
        counted: Option<metadata::Result<Counted>>,
    ) -> Result<Usage> {
        thin?;
        // Without a device yet, it holds nothing.
        let counted = counted.unwrap_or(Ok(Counted::default()));
        match counted {
            Ok(Counted { mapped, unshared }) => {
                let bytes = |blocks: u64| Bytes(blocks * self.pool.block_bytes());
                Ok(Usage {
                    used: bytes(mapped),
                    exclusive: unshared.map(bytes),
                    limit: volume.size,
                })
            }
            // The kernel knows what it maps all the same.
            Err(error) => {
                log::warn!("{NAME}: volume {}: {error}", volume.name);
                self.mapped(volume)
            }
        }
    }

    /// What the volume maps, which the kernel knows without a look at the metadata.
    pub(super) fn mapped(&self, volume: &Volume) -> Result<Usage> {
        let record = self.records().must_have(&volume.name, volume.id)?;
        let limit = record.volume.size;
        let Some(thin) = record.thin else {
            return Ok(Usage {
                used: Bytes(0),
                exclusive: None,
                limit,
            });
        };
        let _device = self.pin(thin, Self::size_of(&record.volume)?, Writable::Yes)?;
        let status = self.pool.kernel().status(&self.thins.name(thin))?;
        // `<mapped sectors> <highest mapped sector>`, or `Fail`.
        let sectors = status
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        let sectors = sectors.ok_or_else(|| DriverError::System {
            doing: format!(
                "cannot understand the status {status:?} of volume {}",
                volume.name
            ),
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        Ok(Usage {
            used: Bytes(sectors * super::options::SECTOR),
            exclusive: None,
            limit,
        })
    }
}

/// Blocks of a thin device.
#[derive(Debug, Default)]
struct Counted {
    mapped: u64,
    /// `None` where counting would take long.
    unshared: Option<u64>,
}
