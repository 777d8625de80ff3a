//! The superblock: where everything is, and what the pool is.

use super::block::{Blocks, Kind};
use super::{Details, Result};

/// The superblock's place.
pub(super) const PLACE: u64 = 0;

/// struct thin_disk_superblock, by its offsets.
mod at {
    pub(super) const FLAGS: usize = 4;
    pub(super) const MAGIC: usize = 32;
    pub(super) const VERSION: usize = 40;
    pub(super) const TIME: usize = 44;
    pub(super) const TRANSACTION: usize = 48;
    pub(super) const HELD_ROOT: usize = 56;
    pub(super) const MAPPING_ROOT: usize = 320;
    pub(super) const DETAILS_ROOT: usize = 328;
    pub(super) const DATA_BLOCK_SECTORS: usize = 336;
    pub(super) const METADATA_BLOCK_SECTORS: usize = 340;
    pub(super) const METADATA_BLOCKS: usize = 344;
    pub(super) const INCOMPATIBLE: usize = 360;
}

const MAGIC: u64 = 27_022_010;
/// Sectors of 512 bytes in a block of metadata: nothing else was ever written.
const METADATA_BLOCK_SECTORS: u32 = 8;
const NEEDS_CHECK: u32 = 1;

/// What the superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// The kernel found the metadata inconsistent and wants them checked before it writes again.
    pub needs_check: bool,
    /// The format's version, 1 or 2.
    pub version: u32,
    /// Goes up by one with each snapshot.
    pub time: u32,
    /// What userspace's transactions set.
    pub transaction: u64,
    /// The block of the metadata snapshot's superblock; 0 where none is held.
    pub held_root: u64,
    /// The size of a data block, in sectors of 512 bytes.
    pub data_block_sectors: u32,
    /// How many blocks of metadata the pool knows.
    pub metadata_blocks: u64,
    pub(super) mapping_root: u64,
    pub(super) details_root: u64,
}

impl Superblock {
    /// The one at its place, or the copy that a metadata snapshot is.
    pub(super) fn read(blocks: &Blocks, place: u64) -> Result<Self> {
        let block = blocks.read(place, Kind::Superblock)?;
        let magic = block.u64(at::MAGIC);
        if magic != MAGIC {
            return Err(blocks.damaged(place, format!("{magic} is not a thin pool's magic number")));
        }
        let version = block.u32(at::VERSION);
        let incompatible = block.u32(at::INCOMPATIBLE);
        if !(1..=2).contains(&version) || incompatible != 0 {
            let why = format!(
                "version {version} with the incompatible features {incompatible:#x} is newer than this program"
            );
            return Err(blocks.damaged(place, why));
        }
        let superblock = Self {
            needs_check: block.u32(at::FLAGS) & NEEDS_CHECK != 0,
            version,
            time: block.u32(at::TIME),
            transaction: block.u64(at::TRANSACTION),
            held_root: block.u64(at::HELD_ROOT),
            data_block_sectors: block.u32(at::DATA_BLOCK_SECTORS),
            metadata_blocks: block.u64(at::METADATA_BLOCKS),
            mapping_root: block.u64(at::MAPPING_ROOT),
            details_root: block.u64(at::DETAILS_ROOT),
        };
        let sectors = superblock.data_block_sectors;
        if sectors < 128 || !sectors.is_multiple_of(128) || sectors > 2_097_152 {
            return Err(blocks.damaged(place, format!("a data block of {sectors} sectors cannot be")));
        }
        if block.u32(at::METADATA_BLOCK_SECTORS) != METADATA_BLOCK_SECTORS {
            return Err(blocks.damaged(place, "its blocks are not of 4 KiB".to_owned()));
        }
        Ok(superblock)
    }
}

/// struct disk_device_details; `value` has its 24 bytes.
pub(super) fn details(value: &[u8]) -> Details {
    let wide = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&value[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let both = wide(16);
    Details {
        mapped_blocks: wide(0),
        transaction: wide(8),
        // Two numbers of 32 bits, the first one lower.
        created: both as u32,
        snapshotted: (both >> 32) as u32,
    }
}
