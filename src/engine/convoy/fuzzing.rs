//! The decoders of Convoy's repositories for [`crate::engine::fuzzing`]. We never write what they read, so that there is
//! nothing to be compared with but what they promise.

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha512};
use std::io::Write;

use super::archive::{Archive, Entry, EntryKind};
use super::object::Gunzip;
use super::records::{self, Content};
use super::{BLOCK_BYTES, blocks as block, layout};
use crate::engine::Id;

/// The volume's record, a zero byte, and the record of its backup `b1`.
pub fn convoy_records(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (volume, backup) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Ok(volume) = records::volume(volume, "data") else {
        return;
    };
    let directory = layout::volume_directory("data").expect("a name");
    let Ok((about, content)) = records::backup(backup, &volume, &directory, "b1") else {
        return;
    };
    assert_eq!((about.volume.as_str(), about.name.as_str()), ("data", "b1"));
    match content {
        Content::Blocks(blocks) => {
            assert_eq!(blocks.len() as u64, about.blocks);
            for pair in blocks.windows(2) {
                assert!(
                    pair[0].offset + BLOCK_BYTES <= pair[1].offset,
                    "each in a place of its own"
                );
            }
            if let Some(last) = blocks.last() {
                assert!(
                    last.offset + BLOCK_BYTES <= about.volume_size,
                    "within the volume"
                );
            }
        }
        Content::Archive(path) => {
            assert!(path.starts_with(&directory) && !path.split('/').any(|part| part == ".."));
        }
    }
}

pub(in crate::engine) fn records_examples() -> Vec<Vec<u8>> {
    let checksum = "0a".repeat(32);
    let block = |offset: u64| format!(r#"{{"Offset":{offset},"BlockChecksum":"{checksum}"}}"#);
    let backup = |blocks: &str, path: &str| {
        format!(
            r#"{{"Name":"b1","Driver":"","VolumeName":"data","SnapshotName":"s","SnapshotCreatedAt":"t1","CreatedTime":"t2","Blocks":[{blocks}],"SingleFile":{{"FilePath":"{path}"}}}}"#
        )
    };
    let volume = |driver: &str, size: &str| {
        format!(r#"{{"Name":"data","Driver":"{driver}","Size":{size},"CreatedTime":"t0"}}"#)
    };
    let archive = "convoy-objectstore/volumes/da/ta/data/BackupFiles/b1.bak";
    let blocks = format!("{},{}", block(4 << 20), block(0));
    vec![
        format!("{}\0{}", volume("devicemapper", "8388608"), backup(&blocks, "")).into_bytes(),
        format!("{}\0{}", volume("vfs", "\"0\""), backup("", archive)).into_bytes(),
    ]
}

/// A block's object, by whatever checksum its content has.
pub fn convoy_block(data: &[u8]) {
    let mut content = Vec::new();
    let first = block::unpack(data, &Id([0; 32]), &mut content);
    assert!(
        content.len() as u64 <= BLOCK_BYTES + 1,
        "no more than a block is unpacked"
    );
    assert!(first.is_err(), "nobody finds a block with that checksum");
    let mut checksum = [0; 32];
    checksum.copy_from_slice(&Sha512::digest(&content[..])[..32]);
    let second = block::unpack(data, &Id(checksum), &mut content);
    if second.is_ok() {
        assert_eq!(content.len() as u64, BLOCK_BYTES);
        let mut end = 0;
        for (start, stop) in block::stretches(&content) {
            assert!(end <= start && start < stop && stop <= content.len());
            assert!(block::is_zeros(&content[end..start]), "only zeros are left out");
            end = stop;
        }
        assert!(block::is_zeros(&content[end..]), "only zeros are left out");
    }
}

pub(in crate::engine) fn blocks() -> Vec<Vec<u8>> {
    let mut content = vec![0; BLOCK_BYTES as usize];
    let empty = gzip(&content);
    content[700_000..700_100].fill(7);
    vec![empty, gzip(&content), gzip(b"too short")]
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// An archive: as gzip, and as the tar in it, whose headers are signed first.
pub fn convoy_archive(data: &[u8]) {
    read_through(Archive::new(Gunzip::new(data)));
    let mut tar = data.to_vec();
    tar.chunks_exact_mut(512)
        .filter(|record| record[257..262] == *b"ustar")
        .for_each(sign);
    read_through(Archive::new(&tar[..]));
}

fn read_through<R: std::io::Read>(mut archive: Archive<R>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(Some(entry)) = archive.next() {
        let Entry {
            kind, mode, owner, ..
        } = &entry;
        assert!(*mode <= 0o7777 && owner.0 != u32::MAX && owner.1 != u32::MAX);
        let EntryKind::File { size, map } = kind else {
            continue;
        };
        let mut end = 0;
        for (offset, length) in &map.stretches {
            assert!(end <= *offset && *length > 0, "in their order, and apart");
            end = offset + length;
            assert!(end <= *size, "within the file");
            let mut left = *length;
            while left > 0 {
                let part = left.min(buffer.len() as u64);
                if archive.read_data(&mut buffer[..part as usize]).is_err() {
                    return;
                }
                left -= part;
            }
        }
    }
}

/// Writes the checksum that the header ought to have.
fn sign(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(in crate::engine) fn archives() -> Vec<Vec<u8>> {
    let record = |keyword: &str, value: &str| {
        // The length counts itself.
        let rest = format!(" {keyword}={value}\n");
        let length = (1..).find(|length| length.to_string().len() + rest.len() == *length);
        format!("{}{rest}", length.expect("some length fits"))
    };
    let pax = [
        record("path", "./d/renamed"),
        record("mtime", "1.5"),
        record("SCHILY.xattr.user.a", "b"),
        record("size", "3"),
    ];
    let sparse = [
        record("GNU.sparse.major", "1"),
        record("GNU.sparse.minor", "0"),
        record("GNU.sparse.realsize", "9000"),
    ];
    let map = format!("{:\0<512}{}", "2\n0\n10\n512\n90\n", "x".repeat(100));
    let tar = [
        entry("g", b'g', &record("comment", "nothing")),
        entry("./d/", b'5', ""),
        entry("./d/f", b'0', "content"),
        entry("link", b'2', ""),
        entry("hard", b'1', ""),
        entry("pipe", b'6', ""),
        entry("tty", b'3', ""),
        entry("././@LongLink", b'L', "a/long/name\0"),
        entry("short", b'0', "x"),
        entry("p", b'x', &pax.concat()),
        entry("x", b'0', "abc"),
        entry("p", b'x', &sparse.concat()),
        entry("sparse", b'0', &map),
        vec![0; 1024],
    ]
    .concat();
    vec![gzip(&tar), tar]
}

fn entry(path: &str, kind: u8, data: &str) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..path.len()].copy_from_slice(path.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..124].copy_from_slice(b"0000000\x000000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = kind;
    header[157..163].copy_from_slice(b"./d/f\0");
    header[257..265].copy_from_slice(b"ustar\x0000");
    sign(&mut header);
    header.extend_from_slice(data.as_bytes());
    header.resize(header.len().next_multiple_of(512), 0);
    header
}
