//! What there is to read of a snapshot, and what of it differs from an older one.

use uuid::Uuid;

use super::super::{BlockImage, ChangedSince, DriverError, Result, Source};
use super::kernel::Writable;
use super::metadata::{self, Collected};
use super::records::ThinId;
use super::{Devicemapper, NAME, filesystem};
use crate::model::{Snapshot, Volume};

impl Devicemapper {
    pub(super) fn find_source(
        &self,
        volume: &Volume,
        snapshot: Option<&Snapshot>,
        bases: &[Uuid],
    ) -> Result<Source> {
        let record = self.records().must_have(&volume.name, volume.id)?;
        let size = Self::size_of(&record.volume)?;
        Self::must_have_data(&record, "backup")?;
        let Some(snapshot) = snapshot else {
            return Err(DriverError::Unsupported {
                what: format!("reading of volume {} while it may be written to", volume.name),
                because:
                    "its device would change meanwhile; take a snapshot, which costs nothing, and read that"
                        .to_owned(),
            });
        };
        let thin = Self::must_have_snapshot(&record, snapshot)?;
        let base = bases
            .iter()
            .find_map(|base| record.state(*base).map(|thin| (*base, thin)));
        let held = self.pin(thin, size, Writable::No)?;
        let (mapped, changed) = self.extents(thin, base.map(|(_, thin)| thin))?;
        log::debug!(
            "{NAME}: {}@{} maps {} blocks, of which {} were not so in the base",
            volume.name,
            snapshot.name,
            mapped.blocks(),
            changed.as_ref().unwrap_or(&mapped).blocks()
        );
        let in_bytes = |found: &Collected| metadata::in_bytes(found.ranges(), self.pool.block_bytes(), size);
        let changed = base.zip(changed).map(|((snapshot, _), changed)| ChangedSince {
            snapshot,
            ranges: in_bytes(&changed),
        });
        Ok(Source::Block(BlockImage {
            path: held.path().to_owned(),
            size,
            filesystem: filesystem::recognise(held.path())?.map(|fs| fs.word().to_owned()),
            mapped: in_bytes(&mapped),
            changed,
            held: Box::new(held),
        }))
    }

    /// The blocks that a device maps, and those that differ from another's, by the pool's metadata of now.
    fn extents(&self, thin: ThinId, base: Option<ThinId>) -> Result<(Collected, Option<Collected>)> {
        self.pool.with_metadata(|metadata| {
            let mapped = metadata.mapped(thin.0)?;
            let changed = base.map(|base| metadata.difference(base.0, thin.0)).transpose()?;
            Ok((mapped, changed))
        })
    }
}
