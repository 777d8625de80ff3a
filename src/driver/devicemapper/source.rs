//! What there is to read of a snapshot, and what of it differs from an older one.

use uuid::Uuid;

use super::super::{BlockImage, ChangedSince, DriverError, Result, Source};
use super::kernel::Writable;
use super::metadata::{self, Collected, Metadata};
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
        let wanted = self
            .pool
            .with_metadata(|metadata| wanted(metadata, thin, base.map(|(_, thin)| thin)))?;
        log::debug!(
            "{NAME}: {}@{} has {} blocks {}",
            volume.name,
            snapshot.name,
            wanted.blocks(),
            if base.is_some() {
                "that differ from the base"
            } else {
                ""
            }
        );
        let ranges = metadata::in_bytes(wanted.ranges(), self.pool.block_bytes(), size);
        let (mapped, changed) = match base {
            None => (ranges, None),
            // Whoever has the base reads what changed; where the rest is mapped is not looked up for nothing.
            Some((snapshot, _)) => (
                std::iter::once(0..size).collect(),
                Some(ChangedSince { snapshot, ranges }),
            ),
        };
        Ok(Source::Block(BlockImage {
            path: held.path().to_owned(),
            size,
            filesystem: filesystem::recognise(held.path())?.map(|fs| fs.word().to_owned()),
            mapped,
            changed,
            held: Box::new(held),
        }))
    }
}

/// The blocks that are to be read: those that differ from a base, at the cost of what differs; without one, all that are mapped.
pub(super) fn wanted(metadata: &Metadata, thin: ThinId, base: Option<ThinId>) -> metadata::Result<Collected> {
    match base {
        Some(base) => metadata.difference(base.0, thin.0),
        None => metadata.mapped(thin.0),
    }
}
