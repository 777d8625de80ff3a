//! How what is stored is made of what is meant: compressed where that helps, then sealed; and back, bounded.
//!
//! A blob in a pack says beside it whether it is compressed. Any other file begins, once opened, with `{` or `[` if it is
//! plain JSON, or with a byte 2 if zstd data follow (restic's design document, "Unpacked Data Format").

use std::cell::RefCell;

use super::crypto::Key;

/// zstd's level unless told otherwise: as fast as the disk, and most of the gain.
pub const LEVEL: i32 = 1;

/// zstd's level for indexes, snapshots and locks.
const FILE_LEVEL: i32 = 3;

/// The largest blob that is read, uncompressed. restic's chunks have at most 8 MiB, ours less; its trees of one
/// directory with a million files come near this.
pub const BLOB_LIMIT: usize = 512 << 20;

/// The largest index, snapshot or lock that is read, uncompressed.
pub(super) const FILE_LIMIT: usize = 512 << 20;

const COMPRESSED: u8 = 2;

thread_local! {
    /// One context and one buffer per thread: making them costs more than compressing a small blob.
    static COMPRESSOR: RefCell<Option<Compressor>> = const { RefCell::new(None) };
    /// The same for the way back.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

struct Compressor {
    level: i32,
    context: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

/// Gives `plain`, compressed, to `then`; or `None` where that does not make it smaller.
pub fn with_compressed<R>(plain: &[u8], level: i32, then: impl FnOnce(Option<&[u8]>) -> R) -> R {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot.take() {
            Some(made) if made.level == level => slot.insert(made),
            _ => slot.insert(Compressor {
                level,
                context: zstd::bulk::Compressor::new(level)
                    .expect("zstd takes every level in its range, and clamps others"),
                buffer: Vec::new(),
            }),
        };
        // Too small a buffer is zstd's way to say that compression does not help, and cheaper than finishing. A fresh
        // vector's capacity may be more than was asked for, so the length decides in the end.
        compressor.buffer.clear();
        compressor.buffer.reserve(plain.len());
        let done = compressor
            .context
            .compress_to_buffer(plain, &mut compressor.buffer);
        then(match done {
            Ok(length) if length < plain.len() => Some(&compressor.buffer[..length]),
            _ => None,
        })
    })
}

/// Appends a blob to `out` as it is stored: compressed where that helps, and sealed. Says the blob's length where it was
/// compressed, else 0.
pub fn seal_blob(key: &Key, plain: &[u8], level: i32, out: &mut Vec<u8>) -> u32 {
    with_compressed(plain, level, |compressed| match compressed {
        Some(compressed) => {
            key.seal_into(compressed, out);
            u32::try_from(plain.len()).expect("a blob is bounded below 4 GiB")
        }
        None => {
            key.seal_into(plain, out);
            0
        }
    })
}

/// What was compressed; `None` where it is not zstd data of exactly `length` bytes.
pub fn decompress(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    decompress_into(compressed, length, &mut plain).then_some(plain)
}

/// The same, in the place of what `plain` holds; whether it is what it should be.
pub fn decompress_into(compressed: &[u8], length: usize, plain: &mut Vec<u8>) -> bool {
    if length > BLOB_LIMIT {
        return false;
    }
    plain.clear();
    // A length that a repository claims is no reason to take that much memory: zstd's own claim is looked at too.
    match zstd::zstd_safe::get_frame_content_size(compressed) {
        Ok(Some(claimed)) if claimed != length as u64 => return false,
        _ => plain.reserve_exact(length),
    }
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = slot.get_or_insert_with(|| {
            zstd::bulk::Decompressor::new().expect("zstd needs a few kilobytes for its context")
        });
        let done = decompressor.decompress_to_buffer(compressed, plain);
        done.is_ok_and(|found| found == length)
    })
}

/// An index, snapshot or lock, as it is stored.
pub fn seal_file(key: &Key, json: &[u8]) -> Vec<u8> {
    with_compressed(json, FILE_LEVEL, |compressed| match compressed {
        Some(compressed) if compressed.len() + 1 < json.len() => {
            let mut plain = Vec::with_capacity(compressed.len() + 1);
            plain.push(COMPRESSED);
            plain.extend_from_slice(compressed);
            key.seal(&plain)
        }
        _ => key.seal(json),
    })
}

/// What an index, snapshot or lock says.
///
/// # Errors
/// A phrase that says what is wrong with it.
pub fn open_file(key: &Key, stored: &[u8]) -> Result<Vec<u8>, &'static str> {
    let plain = key
        .open(stored)
        .ok_or("it was changed since it was written, or the key is not its own")?;
    match plain.first() {
        Some(b'{' | b'[') => Ok(plain),
        Some(&COMPRESSED) => {
            let length = zstd::zstd_safe::get_frame_content_size(&plain[1..])
                .ok()
                .flatten();
            match length {
                Some(length) if length <= FILE_LIMIT as u64 => {
                    decompress(&plain[1..], length as usize).ok_or("it does not decompress")
                }
                Some(_) => Err("it is too large"),
                None => stream(&plain[1..]),
            }
        }
        _ => Err("it is of no known encoding"),
    }
}

/// Decompresses frames that do not say their length.
fn stream(compressed: &[u8]) -> Result<Vec<u8>, &'static str> {
    use std::io::Read;
    let decoder = zstd::stream::Decoder::with_buffer(compressed).map_err(|_| "it does not decompress")?;
    let mut plain = Vec::new();
    decoder
        .take(FILE_LIMIT as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|_| "it does not decompress")?;
    if plain.len() > FILE_LIMIT {
        Err("it is too large")
    } else {
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_compressed_or_not() {
        let key = Key::random();
        for json in ["{}".to_owned(), format!("[{}1]", "1,".repeat(10_000))] {
            let stored = seal_file(&key, json.as_bytes());
            assert!(stored.len() <= json.len() + Key::OVERHEAD);
            assert_eq!(open_file(&key, &stored), Ok(json.into_bytes()));
        }
        assert!(open_file(&key, &key.seal(b"text")).is_err());
        assert!(open_file(&key, &key.seal(b"")).is_err());
        assert!(open_file(&key, &key.seal(b"\x02not zstd")).is_err());
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let compress =
            |plain: &[u8]| with_compressed(plain, LEVEL, |compressed| compressed.map(<[u8]>::to_vec));
        let mut noise = vec![0; 64 << 10];
        super::super::crypto::random(&mut noise);
        assert_eq!(compress(&noise), None);
        assert_eq!(compress(&[]), None);
        let zeros = vec![0; 64 << 10];
        let small = compress(&zeros).expect("zeros shrink");
        assert_eq!(decompress(&small, zeros.len()).expect("it was compressed"), zeros);
        assert_eq!(
            decompress(&small, zeros.len() - 1),
            None,
            "a length that is not the true one"
        );
        assert_eq!(
            decompress(&small, zeros.len() + 1),
            None,
            "a length that is not the true one"
        );
        let key = Key::random();
        let mut sealed = Vec::new();
        assert_eq!(seal_blob(&key, &noise, LEVEL, &mut sealed), 0);
        assert_eq!(key.open(&sealed).expect("ours"), noise);
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let key = Key::random();
        let bomb = zstd::bulk::compress(&vec![b' '; FILE_LIMIT + 1], 1).expect("it compresses");
        let mut plain = vec![COMPRESSED];
        plain.extend_from_slice(&bomb);
        assert_eq!(open_file(&key, &key.seal(&plain)), Err("it is too large"));
    }
}
