//! Many blobs read pack by pack, in bounded memory: what verifying, repacking and copying have in common.
//!
//! An index is sorted by blobs. For reading, what is wanted is gathered by packs, some hundred thousand blobs at a time,
//! with one pass over the index each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::index::{Location, Table};
use super::pack::PackedBlob;
use super::{Id, Progress, Repository, Result};

/// Blobs that are gathered at a time: about 40 MiB.
const BATCH: u64 = 500_000;

/// Threads that read packs; each holds one range of a pack.
const THREADS: usize = 4;

/// Blobs of a pack are read with one request where the gaps between them are below this, in bytes.
const GAP: u64 = 256 << 10;

/// … and as long as the range is below this.
const RANGE: u64 = 16 << 20;

/// Calls `each` for these packs, from several threads, with those of their blobs that are `wanted`, in the order in
/// which they lie there. `packs` come with about how many blobs each has.
pub(super) fn by_pack(
    table: &Table,
    packs: &[(Id, u64)],
    wanted: impl Fn(u64, &Location) -> bool,
    each: impl Fn(&Id, &[PackedBlob]) -> Result<()> + Sync,
) -> Result<()> {
    let mut rest = packs;
    while !rest.is_empty() {
        let mut blobs = 0;
        let fit = rest
            .iter()
            .take_while(|(_, count)| {
                blobs += count;
                blobs <= BATCH
            })
            .count()
            .max(1);
        let (now, later) = rest.split_at(fit);
        rest = later;
        let mut batch: HashMap<Id, Vec<PackedBlob>> = now.iter().map(|(id, _)| (*id, Vec::new())).collect();
        let mut number = 0;
        table.for_each(|location| {
            if let Some(blobs) = batch.get_mut(&location.pack)
                && wanted(number, location)
            {
                blobs.push(location.blob);
            }
            number += 1;
            Ok(())
        })?;
        let mut batch: Vec<(Id, Vec<PackedBlob>)> = batch.into_iter().collect();
        for (_, blobs) in &mut batch {
            blobs.sort_unstable_by_key(|blob| (blob.offset, blob.id));
            blobs.dedup();
        }
        batch.sort_unstable_by_key(|(id, _)| *id);
        super::parallel::map(&batch, THREADS, |(id, blobs)| each(id, blobs))?;
    }
    Ok(())
}

/// Blobs to be read.
pub(super) struct Haul<'a> {
    /// From where.
    pub(super) repository: &'a Repository,
    /// Counts what is read, and ends it.
    pub(super) progress: &'a Progress,
    /// Held while something is in memory that is far larger than packs usually are.
    pub(super) large: Mutex<()>,
}

impl Haul<'_> {
    /// Calls `each` with blobs of one pack, as they are stored and as they are meant, checked against their ids. They are
    /// in the order of their places.
    pub(super) fn read(
        &self,
        pack: &Id,
        blobs: &[PackedBlob],
        mut each: impl FnMut(&PackedBlob, &[u8], Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        for range in ranges(blobs) {
            self.progress.check()?;
            let (begin, end) = extent(range);
            let _alone =
                (end - begin > 4 * RANGE).then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
            let bytes = self.repository.read_pack(pack, begin, end - begin)?;
            self.progress.read(end - begin);
            for blob in range {
                let at = (u64::from(blob.offset) - begin) as usize;
                let sealed = &bytes[at..at + blob.length as usize];
                let location = Location {
                    pack: *pack,
                    blob: *blob,
                };
                each(blob, sealed, self.repository.unseal(&location, sealed)?)?;
            }
        }
        Ok(())
    }
}

/// Cuts a pack's blobs into runs that are read with one request each.
fn ranges(blobs: &[PackedBlob]) -> Vec<&[PackedBlob]> {
    let mut runs = Vec::new();
    let (mut first, mut begin, mut end) = (0, 0, 0);
    for (number, blob) in blobs.iter().enumerate() {
        let offset = u64::from(blob.offset);
        let blob_end = offset + u64::from(blob.length);
        if number > first && (offset > end + GAP || blob_end.max(end) - begin > RANGE) {
            runs.push(&blobs[first..number]);
            first = number;
        }
        if number == first {
            (begin, end) = (offset, blob_end);
        }
        end = end.max(blob_end);
    }
    if first < blobs.len() {
        runs.push(&blobs[first..]);
    }
    runs
}

/// From where to where blobs lie, in bytes.
fn extent(blobs: &[PackedBlob]) -> (u64, u64) {
    let begin = blobs.first().map_or(0, |blob| u64::from(blob.offset));
    let end = blobs
        .iter()
        .map(|blob| u64::from(blob.offset) + u64::from(blob.length))
        .max();
    (begin, end.unwrap_or(begin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pack::BlobKind;

    #[test]
    fn blobs_that_lie_together_are_read_together() {
        let blob = |offset: u64, length: u64| PackedBlob {
            kind: BlobKind::Data,
            id: Id::of(&offset.to_le_bytes()),
            offset: offset as u32,
            length: length as u32,
            uncompressed: 0,
        };
        let lengths = |blobs: &[PackedBlob]| ranges(blobs).iter().map(|run| run.len()).collect::<Vec<_>>();
        assert!(lengths(&[]).is_empty());
        assert_eq!(lengths(&[blob(0, 100), blob(100, 100), blob(200 + GAP, 1)]), [3]);
        assert_eq!(lengths(&[blob(0, 100), blob(101 + GAP, 1)]), [1, 1]);
        assert_eq!(lengths(&[blob(0, RANGE), blob(RANGE, 1)]), [1, 1]);
        assert_eq!(lengths(&[blob(0, RANGE * 2)]), [1], "one blob is never cut");
        assert_eq!(
            lengths(&[blob(0, 1000), blob(10, 10)]),
            [2],
            "a hostile index may let them overlap"
        );
    }
}
