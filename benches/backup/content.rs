//! What is backed up: bytes that always come out the same, images and files of them, and changes to them.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The unit of scattered writes.
pub const WRITE: u64 = 64 << 10;

/// Bytes that nothing compresses.
pub fn random(bytes: &mut [u8], seed: u64) {
    let mut state = start(seed);
    for word in bytes.chunks_mut(8) {
        state = next(state);
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}

/// Bytes that compress to about a third, as database pages and logs do.
pub fn text(bytes: &mut [u8], seed: u64) {
    let mut state = start(seed);
    for word in bytes.chunks_mut(8) {
        state = next(state);
        let digits = format!("{:08}", state % 1000);
        word.copy_from_slice(&digits.as_bytes()[..word.len()]);
    }
}

/// One or the other, by turns.
pub fn mixed(bytes: &mut [u8], seed: u64) {
    if seed.is_multiple_of(2) {
        random(bytes, seed);
    } else {
        text(bytes, seed);
    }
}

/// A number that looks random and is the same for the same seed.
pub fn number(seed: u64) -> u64 {
    next(next(start(seed)))
}

fn start(seed: u64) -> u64 {
    // Never zero, and far apart for seeds that are near.
    (seed ^ 0x5DEE_CE66).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

/// Marsaglia's xorshift: some gigabytes a second, so that making content does not hide what is measured.
fn next(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ state << 17
}

/// A sparse image of `size` with so many pieces of 1 MiB spread evenly over it, half of them random, half text.
pub fn image(path: &Path, size: u64, pieces: u64) {
    let file = File::create(path).expect("made");
    file.set_len(size).expect("sparse");
    let apart = (size >> 20) / pieces;
    let mut piece = vec![0; 1 << 20];
    for number in 0..pieces {
        mixed(&mut piece, number);
        file.write_all_at(&piece, (number * apart) << 20)
            .expect("written");
    }
    file.sync_all().expect("synced");
}

/// So many writes, scattered evenly over an image, elsewhere in each round.
pub fn scattered(size: u64, count: u64, round: u64) -> Vec<Range<u64>> {
    let apart = size / WRITE / count;
    (0..count)
        .map(|write| {
            let at = (write * apart + number(write << 8 | round) % apart) * WRITE;
            at..at + WRITE
        })
        .collect()
}

/// Does these writes, with random bytes.
pub fn write(path: &Path, ranges: &[Range<u64>], round: u64) {
    let file = File::options().write(true).open(path).expect("opened");
    let mut bytes = vec![0; WRITE as usize];
    for range in ranges {
        random(&mut bytes, range.start << 8 | round);
        file.write_all_at(&bytes, range.start).expect("written");
    }
    file.sync_all().expect("synced");
}
