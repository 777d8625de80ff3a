//! What lies in a repository as bytes of our own format: packs, indexes, sealed blobs and files; and the index' cache.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::key;
use crate::engine::crypto::Key;
use crate::engine::index::{IndexFile, IndexedPack, Table};
use crate::engine::pack::{
    BlobKind, Header, PackBuilder, PackedBlob, parse_header, read_header, write_header,
};
use crate::engine::{Id, seal};

/// A pack's end: as it is, and as the list of blobs of a pack whose size the first four bytes say.
pub fn pack_header(data: &[u8]) {
    let key = key();
    let _ = read_header(&key, data.len() as u64, data);
    let Some((content, header)) = data.split_first_chunk::<4>() else {
        return;
    };
    let content = u64::from(u32::from_le_bytes(*content));
    let sealed = key.seal(header);
    let size = content + sealed.len() as u64 + 4;
    let end = [&sealed[..], &(sealed.len() as u32).to_le_bytes()].concat();
    match read_header(&key, size, &end) {
        Ok(Header::Whole(blobs)) => {
            let mut offset = 0;
            for blob in &blobs {
                assert_eq!(u64::from(blob.offset), offset, "blobs follow one another");
                offset += u64::from(blob.length);
            }
            assert_eq!(offset, content, "all bytes are accounted for");
            assert_eq!(write_header(&blobs), header, "it is written as it was read");
            assert_eq!(parse_header(header, content), Ok(blobs));
        }
        Ok(Header::Needs(_)) => panic!("all of it was given"),
        Err(_) => {}
    }
}

pub(super) fn pack_headers() -> Vec<Vec<u8>> {
    [0, 1, 7]
        .into_iter()
        .map(|count| {
            let blobs = blobs(count);
            let content: u32 = blobs.iter().map(|blob| blob.length).sum();
            [&content.to_le_bytes()[..], &write_header(&blobs)].concat()
        })
        .collect()
}

/// Blobs that follow one another.
fn blobs(count: u8) -> Vec<PackedBlob> {
    let mut builder = PackBuilder::default();
    for number in 0..count {
        let kind = if number % 3 == 0 {
            BlobKind::Tree
        } else {
            BlobKind::Data
        };
        let sealed = vec![number; 40 + usize::from(number)];
        builder.add(kind, Id::of(&[number]), &sealed, u32::from(number % 2) * 1000);
    }
    builder.finish(&key()).blobs
}

/// An index file, and the table that look-ups are made in.
pub fn index_file(data: &[u8]) {
    let Ok(file) = IndexFile::from_json(data) else {
        return;
    };
    let again = IndexFile::from_json(&file.to_json()).expect("what we write can be read");
    assert_eq!(file.packs.len(), again.packs.len());
    for (one, other) in file.packs.iter().zip(&again.packs) {
        assert!(one.id == other.id && one.blobs == other.blobs, "it comes back");
    }
    let table = Table::new(Id::of(data), &file.packs);
    let count: usize = file.packs.iter().map(|pack| pack.blobs.len()).sum();
    assert_eq!(table.len(), count as u64);
    for blob in file.packs.iter().flat_map(|pack| &pack.blobs) {
        let found = table.find(blob.kind, &blob.id).expect("it is in memory");
        let found = found.expect("what is in the file is found");
        assert_eq!((found.blob.kind, found.blob.id), (blob.kind, blob.id));
    }
    let mut bytes = Vec::new();
    table.write(&mut bytes).expect("a vector takes everything");
    index_table(&bytes);
}

pub(super) fn index_files() -> Vec<Vec<u8>> {
    let pack = |seed: u8, count| IndexedPack {
        id: Id::of(&[seed, 0]),
        blobs: blobs(count),
    };
    let file = |packs| IndexFile {
        supersedes: None,
        packs,
    };
    vec![
        file(vec![]).to_json(),
        file(vec![pack(1, 0), pack(2, 3)]).to_json(),
        file(vec![pack(1, 5), pack(2, 5)]).to_json(),
    ]
}

/// A file of the index' cache, which anybody who can write there may have made: in memory and read in pieces.
pub fn index_table(data: &[u8]) {
    for in_memory in [u64::MAX, 0] {
        let (file, path) = memory_file(data);
        let Some(table) = Table::from_file(file, path, in_memory) else {
            continue;
        };
        let bytes = 24 + 32 * (table.covers().len() + table.packs().len()) as u64 + 48 * table.len();
        assert_eq!(bytes, data.len() as u64, "it is no larger than its file");
        let mut written = Vec::new();
        table.write(&mut written).expect("a vector takes everything");
        assert!(written == data, "it is written as it was read");
        look_up(&table);
        let table = Arc::new(table);
        if let Ok(merged) = Table::merge(&[table.clone(), table.clone()], None) {
            assert_eq!(merged.len(), 2 * table.len());
            look_up(&merged);
        }
    }
}

/// Errors are fine, and so is whatever is found in a table that is out of order; neither panics nor goes on for ever.
fn look_up(table: &Table) {
    let mut seen = 0;
    let _ = table.for_each(|_| {
        seen += 1;
        Ok(())
    });
    let _ = table.for_each_blob(|_, places| {
        assert!(!places.is_empty());
        Ok(())
    });
    assert!(seen <= table.len());
    let count = table.len();
    for at in [0, 1, count / 2, count.saturating_sub(1)] {
        if at >= count {
            continue;
        }
        if let Ok(location) = table.location(at) {
            let (kind, id) = (location.blob.kind, location.blob.id);
            let _ = table.find(kind, &id);
            let _ = table.locate(kind, &id);
            let _ = table.copies(kind, &id);
        }
    }
    for id in [Id([0; 32]), Id([0x80; 32]), Id([255; 32])] {
        let _ = table.copies(BlobKind::Data, &id);
        let _ = table.find(BlobKind::Tree, &id);
    }
}

pub(super) fn index_tables() -> Vec<Vec<u8>> {
    let mut pack = 0;
    [0, 3, 200]
        .into_iter()
        .map(|count| {
            pack += 1;
            let packs = [IndexedPack {
                id: Id::of(&[pack]),
                blobs: blobs(count),
            }];
            let mut bytes = Vec::new();
            let table = Table::new(Id::of(b"index"), &packs);
            table.write(&mut bytes).expect("a vector takes everything");
            bytes
        })
        .collect()
}

/// A file that has no name and no disk.
pub(super) fn memory_file(data: &[u8]) -> (File, PathBuf) {
    let file = memfd_create("fuzzing", MFdFlags::MFD_CLOEXEC).expect("the kernel has files in memory");
    let mut file = File::from(file);
    file.write_all(data).expect("memory takes it");
    file.rewind().expect("it can be read again");
    (file, PathBuf::from("a file in memory"))
}

/// A blob: the first four bytes say its length, the rest is what was compressed. Also the bytes as they would be stored.
pub fn sealed_blob(data: &[u8]) {
    let key = key();
    let _ = key.open(data);
    let sealed = key.seal(data);
    assert_eq!(sealed.len(), data.len() + Key::OVERHEAD);
    assert!(key.open(&sealed).is_some_and(|plain| plain == data), "it is ours");
    let Some((length, compressed)) = data.split_first_chunk::<4>() else {
        return;
    };
    let length = u32::from_le_bytes(*length) as usize;
    let Some(plain) = seal::decompress(compressed, length) else {
        return;
    };
    assert!(plain.len() == length && length <= seal::BLOB_LIMIT, "{length}");
    let mut stored = Vec::new();
    let uncompressed = seal::seal_blob(&key, &plain, seal::LEVEL, &mut stored) as usize;
    let opened = key.open(&stored).expect("it is ours");
    let again = match uncompressed {
        0 => opened,
        length => seal::decompress(&opened, length).expect("we compressed it"),
    };
    assert!(again == plain, "it comes back");
}

pub(super) fn sealed_blobs() -> Vec<Vec<u8>> {
    [vec![0; 5000], b"text ".repeat(300), Vec::new()]
        .into_iter()
        .map(|plain| {
            let compressed = zstd::bulk::compress(&plain, 3).expect("it compresses");
            [&(plain.len() as u32).to_le_bytes()[..], &compressed].concat()
        })
        .collect()
}

/// An index, snapshot or lock, once it is opened: JSON, or compressed.
pub fn sealed_file(data: &[u8]) {
    let key = key();
    let _ = seal::open_file(&key, data);
    let Ok(plain) = seal::open_file(&key, &key.seal(data)) else {
        return;
    };
    assert!(plain.len() <= seal::FILE_LIMIT, "{}", plain.len());
    if matches!(plain.first(), Some(b'{' | b'[')) {
        let stored = seal::seal_file(&key, &plain);
        assert!(
            seal::open_file(&key, &stored).is_ok_and(|again| again == plain),
            "it comes back"
        );
    }
}

pub(super) fn sealed_files() -> Vec<Vec<u8>> {
    let json = format!("[{}1]", "1,".repeat(500));
    let whole = zstd::bulk::compress(json.as_bytes(), 3).expect("it compresses");
    // One that does not say its length.
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).expect("a level");
    encoder
        .write_all(json.as_bytes())
        .expect("a vector takes everything");
    let streamed = encoder.finish().expect("a vector takes everything");
    vec![
        json.into_bytes(),
        [&[2][..], &whole].concat(),
        [&[2][..], &streamed].concat(),
        b"{}".to_vec(),
    ]
}
