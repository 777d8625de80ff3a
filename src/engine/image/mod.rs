//! How a block image lies in a repository: segments of 64 MiB, each a file of its own, so that an incremental backup
//! rewrites what changed and shares the rest.
//!
//! `data/<group>/<segment>/image`, with the group's number in four hexadecimal digits and the segment's number within its
//! group in two. Concatenated in the order of their paths, the files are the image. All attributes are constants: a
//! segment of zeros is one tree, however often it occurs, and so is a group of them.

pub mod ranges;
pub mod reader;
pub mod segment;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::Id;

/// Bytes of a segment; the last one of an image is shorter.
pub const SEGMENT: u64 = 64 << 20;

/// Segments in a group.
pub const GROUP: u64 = 128;

/// The largest image: 65,536 groups.
pub const MOST_BYTES: u64 = SEGMENT * GROUP * 65_536;

/// The bytes of a chunk for an image of that size, where nobody chose: the smaller, the less is stored for a change; the
/// larger, the fewer ids there are to keep.
pub fn chunk_for(size: u64) -> u32 {
    match size {
        0..=0x10_0000_0000 => 64 << 10,
        0x10_0000_0001..=0x100_0000_0000 => 256 << 10,
        _ => 1 << 20,
    }
}

/// How an image is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the image.
    pub size: u64,
    /// Bytes of a chunk: a power of two, at most a segment.
    pub chunk: u32,
}

impl Layout {
    /// # Errors
    /// A sentence that says what is wrong with the numbers.
    pub fn new(size: u64, chunk: u32) -> Result<Self, String> {
        if !chunk.is_power_of_two() || !(4096..=8 << 20).contains(&chunk) {
            return Err(format!(
                "a chunk of {chunk} bytes: it must be a power of two from 4 KiB to 8 MiB"
            ));
        }
        if size > MOST_BYTES {
            return Err(format!(
                "an image of {size} bytes: at most {MOST_BYTES} are possible"
            ));
        }
        Ok(Self { size, chunk })
    }

    /// How many segments there are.
    pub fn segments(&self) -> u64 {
        self.size.div_ceil(SEGMENT)
    }

    /// How many groups there are.
    pub fn groups(&self) -> u64 {
        self.segments().div_ceil(GROUP)
    }

    /// The bytes of a segment, as a range of the image.
    pub fn segment(&self, number: u64) -> Range<u64> {
        number * SEGMENT..((number + 1) * SEGMENT).min(self.size)
    }

    /// How many chunks a segment has.
    pub fn chunks_in(&self, segment: u64) -> usize {
        let range = self.segment(segment);
        (range.end - range.start).div_ceil(u64::from(self.chunk)) as usize
    }

    /// The bytes of a chunk of a segment, as a range of the image.
    pub fn chunk(&self, segment: u64, number: usize) -> Range<u64> {
        let whole = self.segment(segment);
        let begin = whole.start + number as u64 * u64::from(self.chunk);
        begin..(begin + u64::from(self.chunk)).min(whole.end)
    }

    /// Where a segment's number stands in the tree: its group, and its number within it.
    pub fn place(segment: u64) -> (u64, u64) {
        (segment / GROUP, segment % GROUP)
    }
}

/// The id of a chunk of so many zeros.
pub fn zero_id(length: u64) -> Id {
    Id::of(&vec![0; length as usize])
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Eight words at a time are what compilers turn into vector instructions.
    let mut blocks = bytes.chunks_exact(64);
    blocks.by_ref().all(|block| {
        let mut any = 0;
        for word in block.chunks_exact(8) {
            any |= u64::from_ne_bytes([
                word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
            ]);
        }
        any == 0
    }) && blocks.remainder().iter().all(|byte| *byte == 0)
}
