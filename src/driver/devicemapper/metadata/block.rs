//! Blocks of the metadata: 4 KiB each, with a checksum and its own number at its head.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{MetadataError, Result};

/// The size of a block.
pub const BLOCK_BYTES: usize = 4096;

/// What a kind of block mixes into its checksum (the kernel's …_CSUM_XOR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The superblock, or its copy in a metadata snapshot.
    Superblock,
    /// A node of a B-tree.
    Node,
}

impl Kind {
    fn mixed_in(self) -> u32 {
        match self {
            Self::Superblock => 160_774,
            Self::Node => 121_107,
        }
    }

    /// Where a block of this kind has its own number.
    fn number_at(self) -> usize {
        8
    }
}

/// One block, aligned as direct I/O wants it.
#[repr(align(4096))]
pub(super) struct Block([u8; BLOCK_BYTES]);

impl Block {
    /// A little-endian number of 32 bits. The offset is a constant of the format.
    pub(super) fn u32(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        u32::from_le_bytes(bytes)
    }

    /// A little-endian number of 64 bits.
    pub(super) fn u64(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    /// Bytes at a place.
    pub(super) fn bytes(&self, at: usize, length: usize) -> &[u8] {
        &self.0[at..at + length]
    }

    fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

/// The checksum of a block's bytes behind its checksum: CRC-32C without the final inversion, as dm_bm_checksum has it.
pub(super) fn checksum(bytes: &[u8; BLOCK_BYTES], kind: Kind) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[4..]);
    // A CRC of 32 bits in a wider type.
    !(crc as u32) ^ kind.mixed_in()
}

/// The blocks of one metadata device.
pub(super) struct Blocks {
    file: File,
    path: PathBuf,
    /// How many there are.
    count: u64,
    reads: Cell<u64>,
}

impl Blocks {
    /// Opens for direct reading: the page cache may hold what the kernel's pool has overwritten since.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |source| MetadataError::Read {
            path: path.to_owned(),
            block: 0,
            source,
        };
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(path);
        let file = match direct {
            // Files on some filesystems cannot be read directly; what is in one is in no second cache.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => File::open(path).map_err(failed)?,
            opened => opened.map_err(failed)?,
        };
        let size = crate::sys::sparse::size(&file).map_err(failed)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            count: size / BLOCK_BYTES as u64,
            reads: Cell::new(0),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    #[cfg(test)]
    pub(super) fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Reads one block and verifies that it is what it claims to be.
    pub(super) fn read(&self, number: u64, kind: Kind) -> Result<Box<Block>> {
        if number >= self.count {
            return Err(self.damaged(number, format!("the metadata have {} blocks", self.count)));
        }
        let mut block = Box::new(Block([0; BLOCK_BYTES]));
        self.reads.set(self.reads.get() + 1);
        self.file
            .read_exact_at(&mut block.0, number * BLOCK_BYTES as u64)
            .map_err(|source| MetadataError::Read {
                path: self.path.clone(),
                block: number,
                source,
            })?;
        if kind == Kind::Superblock && block.is_zero() {
            return Err(MetadataError::Empty {
                path: self.path.clone(),
            });
        }
        if block.u32(0) != checksum(&block.0, kind) {
            return Err(self.damaged(number, "its checksum is wrong".to_owned()));
        }
        let own = block.u64(kind.number_at());
        if own != number {
            return Err(self.damaged(number, format!("it says that it is block {own}")));
        }
        Ok(block)
    }

    pub(super) fn damaged(&self, block: u64, why: String) -> MetadataError {
        MetadataError::Damaged {
            path: self.path.clone(),
            block,
            why,
        }
    }
}
