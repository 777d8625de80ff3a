//! An image's blocks, fetched and verified by a few threads, and written.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha512};

use super::records::Block;
use super::{BLOCK_BYTES, corrupt, layout};
use crate::engine::{EngineError, Id, Progress, Result};
use crate::store::Store;

/// Each holds a compressed block and its content: 4 MiB.
const THREADS: usize = 4;
/// The longest gzip file of one block: deflate adds five bytes to 64 KiB that it cannot compress.
const OBJECT_LIMIT: u64 = BLOCK_BYTES + (64 << 10);
/// Stretches of zeros are left out in pieces of this size, the largest that filesystems' blocks usually have.
const PIECE_BYTES: usize = 64 << 10;

/// What an image is written to: all zeros, and as long as the volume. Called from several threads at once.
pub trait BlockTarget: Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;
}

impl<F: Fn(u64, &[u8]) -> Result<()> + Sync> BlockTarget for F {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self(offset, bytes)
    }
}

/// One block, and all the places where it belongs.
struct Job {
    checksum: Id,
    offsets: Vec<u64>,
}

/// Writes the blocks of a volume's backup, which are in order and within the volume.
pub(super) fn restore(
    store: &dyn Store,
    volume: &str,
    blocks: Vec<Block>,
    target: &dyn BlockTarget,
    progress: &Progress,
) -> Result<()> {
    let directory = layout::volume_directory(volume).expect("its record was read from there");
    progress.phase("restoring Convoy's blocks");
    progress.expect(blocks.len() as u64 * BLOCK_BYTES, blocks.len() as u64);
    let jobs = plan(blocks);
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<EngineError>> = Mutex::new(None);
    let work = || {
        let mut content = Vec::with_capacity(BLOCK_BYTES as usize + 1);
        while let Some(job) = jobs.get(next.fetch_add(1, Relaxed)) {
            let done = restore_one(store, &directory, job, &mut content, target, progress);
            if let Err(error) = done {
                // The first one is told; the others end at their next block.
                next.store(jobs.len(), Relaxed);
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(jobs.len()) {
            scope.spawn(|| {
                let _held = progress.governs();
                work();
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Each block once, in the order of its first place.
fn plan(blocks: Vec<Block>) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut known: HashMap<Id, usize> = HashMap::new();
    for Block { offset, checksum } in blocks {
        let at = *known.entry(checksum).or_insert_with(|| {
            jobs.push(Job {
                checksum,
                offsets: Vec::with_capacity(1),
            });
            jobs.len() - 1
        });
        jobs[at].offsets.push(offset);
    }
    jobs
}

fn restore_one(
    store: &dyn Store,
    directory: &str,
    job: &Job,
    content: &mut Vec<u8>,
    target: &dyn BlockTarget,
    progress: &Progress,
) -> Result<()> {
    progress.check()?;
    let path = layout::block(directory, &job.checksum);
    let object = store.get(&path, OBJECT_LIMIT)?;
    unpack(&object, &job.checksum, content).map_err(|why| corrupt(store, &path, &why))?;
    progress.read(BLOCK_BYTES);
    for offset in &job.offsets {
        progress.check()?;
        for (start, end) in stretches(content) {
            target.write_at(offset + start as u64, &content[start..end])?;
        }
        progress.done(BLOCK_BYTES, 1);
    }
    Ok(())
}

/// The block in a gzip file of one member, as Convoy writes it.
pub(super) fn unpack(object: &[u8], checksum: &Id, content: &mut Vec<u8>) -> std::result::Result<(), String> {
    content.clear();
    let mut decoder = GzDecoder::new(object);
    let result = (&mut decoder).take(BLOCK_BYTES + 1).read_to_end(content);
    result.map_err(|error| format!("it cannot be decompressed: {error}"))?;
    if content.len() as u64 != BLOCK_BYTES {
        let found = match content.len() as u64 {
            length if length > BLOCK_BYTES => "more".to_owned(),
            length => length.to_string(),
        };
        return Err(format!("a block has {BLOCK_BYTES} bytes, and it has {found}"));
    }
    if !decoder.into_inner().is_empty() {
        return Err("something follows the end of the gzip data".to_owned());
    }
    let found = Sha512::digest(&content[..]);
    if found[..32] != checksum.0 {
        return Err("its content has another checksum than its name".to_owned());
    }
    Ok(())
}

/// What is not zeros, in whole pieces: beginning and end of each stretch.
pub(super) fn stretches(content: &[u8]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (index, piece) in content.chunks(PIECE_BYTES).enumerate() {
        if is_zeros(piece) {
            continue;
        }
        let (start, end) = (index * PIECE_BYTES, index * PIECE_BYTES + piece.len());
        match found.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => found.push((start, end)),
        }
    }
    found
}

/// Whether there is nothing but zeros.
pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    // Comparing slices is one call of memcmp.
    bytes
        .chunks(ZEROS.len())
        .all(|piece| piece == &ZEROS[..piece.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_left_out_and_neighbours_are_one_write() {
        let mut content = vec![0; 5 * PIECE_BYTES + 3];
        content[PIECE_BYTES] = 1;
        content[3 * PIECE_BYTES - 1] = 1;
        *content.last_mut().expect("not empty") = 1;
        let expected = [(PIECE_BYTES, 3 * PIECE_BYTES), (5 * PIECE_BYTES, content.len())];
        assert_eq!(stretches(&content), expected);
    }

    #[test]
    fn a_block_that_is_in_several_places_is_fetched_once() {
        let block = |offset, first| Block {
            offset,
            checksum: Id([first; 32]),
        };
        let jobs = plan(vec![block(0, 1), block(2, 2), block(4, 1)]);
        let jobs: Vec<_> = jobs
            .iter()
            .map(|job| (job.checksum.0[0], job.offsets.clone()))
            .collect();
        assert_eq!(jobs, [(1, vec![0, 4]), (2, vec![2])]);
    }
}
