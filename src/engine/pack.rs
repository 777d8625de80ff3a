//! Packs: many blobs in one object, with a sealed list of them at the end.
//!
//! `blob … blob || sealed header || length of the sealed header (4 bytes)`, numbers little-endian. The header has one entry
//! per blob, in their order: `type (1) || stored length (4) || [uncompressed length (4)] || id (32)`, with the third where
//! the type says compressed (restic's design document, "Pack Format"). A pack's name is the SHA-256 of its bytes.

use bytes::Bytes;

use super::Id;
use super::crypto::Key;
use crate::store::{Lent, Spare};
use crate::sys::direct;

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// A piece of a file or of an image.
    Data,
    /// A directory.
    Tree,
}

impl BlobKind {
    /// As messages and the index write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }
}

/// A blob's place in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// What it is.
    pub kind: BlobKind,
    /// The SHA-256 of its content.
    pub id: Id,
    /// Where it begins in the pack, in bytes.
    pub offset: u32,
    /// How many bytes it takes there.
    pub length: u32,
    /// The length of its content where it is stored compressed; 0 where it is not.
    pub uncompressed: u32,
}

impl PackedBlob {
    /// How many bytes of its pack are for it: its own and those of its entry in the header.
    pub fn taken(&self) -> u64 {
        u64::from(self.length) + if self.uncompressed == 0 { 37 } else { 41 }
    }

    /// The length of its content, in bytes; 0 for what is too short to be one.
    pub fn plain(&self) -> u64 {
        match self.uncompressed {
            0 => u64::from(self.length).saturating_sub(Key::OVERHEAD as u64),
            length => u64::from(length),
        }
    }
}

/// The bytes of a pack that are for no blob: the header's seal, and its length.
pub const PACK_OVERHEAD: u64 = Key::OVERHEAD as u64 + 4;

/// The size at which a pack is closed, in bytes: restic's default.
pub const PACK_TARGET: usize = 16 << 20;

/// The largest sealed header that is read, in bytes: that of 400,000 blobs.
const HEADER_LIMIT: usize = 16 << 20;

/// A pack in the making.
#[derive(Debug)]
pub struct PackBuilder {
    buffer: Lent,
    /// Where the pack begins in them: at a page, so that it can be written past the page cache.
    begin: usize,
    blobs: Vec<PackedBlob>,
}

/// A pack, ready to be written.
#[derive(Debug)]
pub struct Pack {
    /// Its name.
    pub id: Id,
    /// All of it.
    pub bytes: Bytes,
    /// What is in it.
    pub blobs: Vec<PackedBlob>,
}

impl PackBuilder {
    /// An empty pack, in a spare buffer.
    pub fn new(spare: &Spare) -> Self {
        let mut buffer = spare.lend();
        buffer.clear_for(PACK_TARGET + (1 << 20));
        let begin = (buffer.as_ref().as_ptr() as usize).wrapping_neg() % direct::ALIGNMENT;
        buffer.resize(begin);
        Self {
            buffer,
            begin,
            blobs: Vec::new(),
        }
    }

    /// Adds a sealed blob; `uncompressed` is 0 where the content was not compressed.
    pub fn add(&mut self, kind: BlobKind, id: Id, sealed: &[u8], uncompressed: u32) {
        let offset = u32::try_from(self.len()).expect("a pack is closed long before 4 GiB");
        let length = u32::try_from(sealed.len()).expect("a blob is bounded below 4 GiB");
        self.buffer.append(sealed);
        self.blobs.push(PackedBlob {
            kind,
            id,
            offset,
            length,
            uncompressed,
        });
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.buffer.len() - self.begin
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Closes it.
    pub fn finish(mut self, key: &Key) -> Pack {
        let mut header = Vec::new();
        key.seal_into(&write_header(&self.blobs), &mut header);
        let length = header.len() as u32;
        header.extend_from_slice(&length.to_le_bytes());
        self.buffer.append(&header);
        let bytes = Bytes::from_owner(self.buffer).slice(self.begin..);
        Pack {
            id: Id::of(&bytes),
            bytes,
            blobs: self.blobs,
        }
    }
}

impl Default for PackBuilder {
    fn default() -> Self {
        Self::new(&Spare::default())
    }
}

pub(super) fn write_header(blobs: &[PackedBlob]) -> Vec<u8> {
    let mut header = Vec::with_capacity(blobs.len() * 41);
    for blob in blobs {
        let compressed = blob.uncompressed != 0;
        header.push(u8::from(blob.kind == BlobKind::Tree) | u8::from(compressed) << 1);
        header.extend_from_slice(&blob.length.to_le_bytes());
        if compressed {
            header.extend_from_slice(&blob.uncompressed.to_le_bytes());
        }
        header.extend_from_slice(&blob.id.0);
    }
    header
}

/// How many bytes at the end of a pack of `size` bytes are worth reading first, in the hope that the header is in them.
pub fn likely_header(size: u64) -> u64 {
    size.min(32 << 10)
}

/// What the end of a pack says.
#[derive(Debug, PartialEq, Eq)]
pub enum Header {
    /// All its blobs.
    Whole(Vec<PackedBlob>),
    /// The header is longer than what was given; so many bytes at the end are needed.
    Needs(u64),
}

/// Reads the list of blobs from `end`, the last bytes of a pack of `size` bytes.
///
/// # Errors
/// A phrase that says what is wrong with the pack.
pub fn read_header(key: &Key, size: u64, end: &[u8]) -> Result<Header, &'static str> {
    let (rest, length) = end.split_last_chunk::<4>().ok_or("it is too short for a pack")?;
    let length = u32::from_le_bytes(*length) as usize;
    if !(Key::OVERHEAD..=HEADER_LIMIT).contains(&length) || length as u64 + 4 > size {
        return Err("the length of its header is impossible");
    }
    if length > rest.len() {
        return Ok(Header::Needs(length as u64 + 4));
    }
    let header = key
        .open(&rest[rest.len() - length..])
        .ok_or("its header was changed since it was written, or the key is not its own")?;
    parse_header(&header, size - 4 - length as u64).map(Header::Whole)
}

/// The blobs that a header lists, which take `content` bytes.
pub(super) fn parse_header(mut header: &[u8], content: u64) -> Result<Vec<PackedBlob>, &'static str> {
    const CUT: &str = "its header ends in the middle of an entry";
    let mut blobs = Vec::new();
    let mut offset: u64 = 0;
    while let Some((kind, rest)) = header.split_first() {
        if *kind > 3 {
            return Err("its header names a kind of blob that is not known");
        }
        let (length, mut rest) = number(rest).ok_or(CUT)?;
        let mut uncompressed = 0;
        if kind & 2 != 0 {
            (uncompressed, rest) = number(rest).ok_or(CUT)?;
            // Nobody compresses nothing, and from here on a zero says that a blob is stored as it is.
            if uncompressed == 0 {
                return Err("its header has a compressed blob without a length");
            }
        }
        let (id, rest) = rest.split_first_chunk::<32>().ok_or(CUT)?;
        blobs.push(PackedBlob {
            kind: if kind & 1 == 0 {
                BlobKind::Data
            } else {
                BlobKind::Tree
            },
            id: Id(*id),
            offset: u32::try_from(offset).map_err(|_| "it is larger than a pack can be")?,
            length,
            uncompressed,
        });
        offset += u64::from(length);
        header = rest;
    }
    if offset != content {
        return Err("its header does not account for all of its bytes");
    }
    Ok(blobs)
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(key: &Key) -> Pack {
        let mut builder = PackBuilder::default();
        builder.add(BlobKind::Data, Id::of(b"one"), &key.seal(b"one"), 0);
        builder.add(BlobKind::Tree, Id::of(b"two"), &key.seal(b"2"), 3);
        builder.finish(key)
    }

    #[test]
    fn a_pack_lists_its_blobs() {
        let key = Key::random();
        let pack = example(&key);
        let size = pack.bytes.len() as u64;
        assert_eq!(
            read_header(&key, size, &pack.bytes),
            Ok(Header::Whole(pack.blobs.clone()))
        );
        let needed = match read_header(&key, size, &pack.bytes[pack.bytes.len() - 10..]) {
            Ok(Header::Needs(needed)) => needed as usize,
            other => panic!("{other:?}"),
        };
        let end = &pack.bytes[pack.bytes.len() - needed..];
        assert_eq!(read_header(&key, size, end), Ok(Header::Whole(pack.blobs)));
    }

    /// It was once taken for a blob that is not compressed.
    #[test]
    fn a_compressed_blob_has_a_length() {
        let mut blob = PackedBlob {
            kind: BlobKind::Data,
            id: Id::of(b"x"),
            offset: 0,
            length: 40,
            uncompressed: 1,
        };
        let mut header = write_header(&[blob]);
        assert_eq!(parse_header(&header, 40), Ok(vec![blob]));
        header[5] = 0;
        assert!(parse_header(&header, 40).is_err());
        blob.uncompressed = 0;
        assert_eq!(parse_header(&write_header(&[blob]), 40), Ok(vec![blob]));
    }

    #[test]
    fn damaged_packs_are_refused() {
        let key = Key::random();
        let pack = example(&key);
        let size = pack.bytes.len() as u64;
        let read = |bytes: &[u8]| read_header(&key, bytes.len() as u64, bytes);
        assert!(read(&[]).is_err() && read(&[0; 4]).is_err() && read(&[255; 64]).is_err());
        assert!(read(&pack.bytes[1..]).is_err(), "a byte of a blob is missing");
        assert!(
            read_header(&key, size + 1, &pack.bytes).is_err(),
            "a byte too many"
        );
        for at in pack.bytes.len() - 40..pack.bytes.len() {
            let mut changed = pack.bytes.to_vec();
            changed[at] ^= 0x10;
            assert!(!matches!(read(&changed), Ok(Header::Whole(_))), "byte {at}");
        }
    }
}
