//! A reader of thin-pool metadata: which parts of a thin device are mapped, and which differ from another's.
//!
//! It reads what the kernel wrote (drivers/md/dm-thin-metadata.c and drivers/md/persistent-data in Linux) and never writes.
//! It works on metadata that stand still: those of a pool that is not active, or a metadata snapshot that an active pool holds
//! ([`View::Held`]). What it reads comes from a disk that may be damaged: every block's checksum, place and shape is verified,
//! every walk is bounded by the size of the metadata, and no answer grows beyond a few MiB.
//!
//! The layout: a superblock names two B-trees. One says for each thin device how much it maps, the other has for each thin
//! device the root of a B-tree of its own, from virtual to data blocks. Snapshots share subtrees until one side is written
//! to, so that comparing two devices costs what differs and not what they hold.

mod block;
mod btree;
mod difference;
mod ranges;
mod superblock;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use block::BLOCK_BYTES;
use block::Blocks;
use btree::{Tree, Walk};
pub use ranges::Collected;
pub use superblock::Superblock;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, MetadataError>;

/// Why metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The disk refused.
    #[error("cannot read block {block} of the pool's metadata {path}: {source}")]
    Read {
        /// The metadata device.
        path: PathBuf,
        /// The number of the block, of 4 KiB.
        block: u64,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// There are no metadata: the first block is zeros.
    #[error("{path} holds no pool metadata")]
    Empty {
        /// The metadata device.
        path: PathBuf,
    },
    /// What is there is not what the kernel writes.
    #[error("block {block} of the pool's metadata {path} is damaged: {why}")]
    Damaged {
        /// The metadata device.
        path: PathBuf,
        /// The number of the block, of 4 KiB.
        block: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A metadata snapshot was to be read, and none is held.
    #[error("the pool of the metadata {path} holds no metadata snapshot")]
    NoSnapshot {
        /// The metadata device.
        path: PathBuf,
    },
    /// The pool has no such thin device.
    #[error("the pool's metadata {path} know no thin device {thin}")]
    NoDevice {
        /// The metadata device.
        path: PathBuf,
        /// The thin device's id.
        thin: u32,
    },
}

/// Which state of the metadata is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// The current one. Only while no pool is active on it.
    Current,
    /// The one that an active pool holds as its metadata snapshot.
    Held,
}

/// What the pool's metadata say of a thin device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Details {
    /// Data blocks that it maps, shared ones included.
    pub mapped_blocks: u64,
    /// The pool's transaction when it was made.
    pub transaction: u64,
    /// The pool's time when it was made.
    pub created: u32,
    /// The pool's time when it was last a snapshot's origin.
    pub snapshotted: u32,
}

/// The metadata of a pool, open for reading.
pub struct Metadata {
    blocks: Blocks,
    superblock: Superblock,
}

impl Metadata {
    /// Opens a metadata device, or an image of one.
    ///
    /// # Errors
    /// [`MetadataError::Empty`] where nothing was ever written; [`MetadataError::NoSnapshot`] for [`View::Held`].
    pub fn open(path: &Path, view: View) -> Result<Self> {
        let blocks = Blocks::open(path)?;
        let current = Superblock::read(&blocks, superblock::PLACE)?;
        let superblock = match view {
            View::Current => current,
            View::Held => match current.held_root {
                0 => {
                    return Err(MetadataError::NoSnapshot {
                        path: path.to_owned(),
                    });
                }
                place => Superblock::read(&blocks, place)?,
            },
        };
        Ok(Self {
            // The device is the bound. The superblock says how large it was when the pool was made, also after it has grown.
            blocks,
            superblock,
        })
    }

    /// The superblock of the state that is read.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// All thin devices, by id.
    pub fn devices(&self) -> Result<BTreeMap<u32, Details>> {
        let mut devices = BTreeMap::new();
        let tree = Tree {
            root: self.superblock.details_root,
            value_bytes: btree::DETAILS_BYTES,
        };
        Walk::new(&self.blocks, tree)?.each(|at, key, value| {
            let id = self.thin_id(at, key)?;
            devices.insert(id, superblock::details(value));
            Ok(())
        })?;
        Ok(devices)
    }

    /// The virtual blocks that a thin device maps, in order. Neighbours are one range.
    pub fn mapped(&self, thin: u32) -> Result<Collected> {
        let mut ranges = Collected::default();
        let tree = self.mappings(thin)?;
        Walk::new(&self.blocks, tree)?.each(|_, key, _| {
            ranges.push(key);
            Ok(())
        })?;
        Ok(ranges)
    }

    /// How many blocks a thin device maps that no other can: those that were mapped after it was last copied, or made as a copy.
    /// Blocks that it shared with a copy that is gone meanwhile are not among them. `details` are the device's, by
    /// [`Metadata::devices`].
    ///
    /// A mapping has the pool's time in its lower 24 bits, and each copy makes that time pass (dm-thin-metadata.c).
    pub fn unshared(&self, thin: u32, details: &Details) -> Result<u64> {
        const TIME: u64 = (1 << 24) - 1;
        let mut unshared = 0;
        Walk::new(&self.blocks, self.mappings(thin)?)?.each(|_, _, value| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(value);
            unshared += u64::from(u64::from_le_bytes(bytes) & TIME >= u64::from(details.snapshotted));
            Ok(())
        })?;
        Ok(unshared)
    }

    /// The virtual blocks that differ between two thin devices: mapped to different data, or mapped in one of them only.
    pub fn difference(&self, one: u32, other: u32) -> Result<Collected> {
        let (one, other) = (self.mappings(one)?, self.mappings(other)?);
        difference::find(&self.blocks, one, other)
    }

    /// How many blocks of the metadata have been read so far.
    #[cfg(test)]
    pub(super) fn blocks_read(&self) -> u64 {
        self.blocks.reads()
    }

    /// What is said of a thin device that is not there.
    pub(super) fn no_device(&self, thin: u32) -> MetadataError {
        MetadataError::NoDevice {
            path: self.blocks.path().to_owned(),
            thin,
        }
    }

    /// The tree of one thin device's mappings.
    fn mappings(&self, thin: u32) -> Result<Tree> {
        let tops = Tree {
            root: self.superblock.mapping_root,
            value_bytes: btree::POINTER_BYTES,
        };
        let root = btree::look_up(&self.blocks, tops, u64::from(thin))?;
        let root = root.ok_or_else(|| self.no_device(thin))?;
        Ok(Tree {
            root,
            value_bytes: btree::POINTER_BYTES,
        })
    }

    fn thin_id(&self, block: u64, key: u64) -> Result<u32> {
        match u32::try_from(key) {
            Ok(id) if id < 1 << 24 => Ok(id),
            _ => Err(self
                .blocks
                .damaged(block, format!("{key} is no id of a thin device"))),
        }
    }
}

/// Ranges of blocks as ranges of bytes, cut off at a device's end.
pub fn in_bytes(ranges: &[Range<u64>], block_bytes: u64, size: u64) -> Vec<Range<u64>> {
    let scale = |block: u64| block.saturating_mul(block_bytes).min(size);
    let scaled = ranges.iter().map(|range| scale(range.start)..scale(range.end));
    scaled.filter(|range| range.start < range.end).collect()
}
