//! The backup that those of a large image are incremental to, made without reading a terabyte.
//!
//! It is what a full backup of an image of random bytes leaves, but for the packs with the data: every chunk has an id of its own;
//! every segment's directory lists its chunks and is in a pack, sealed and compressed, and so are groups, `data` and the root;
//! index files of 40,000 blobs name all chunks with packs, offsets and lengths, as the engine's writer fills them. Only the packs
//! that the index names for chunks are not there. No incremental backup reads them: it reads trees, and looks chunks up. The ids
//! are hashes, though not of what the simulated source would give, since nothing that is unchanged is read to be compared.

use std::path::Path;
use std::sync::Arc;

use windlass::engine::image::{GROUP, Layout, chunk_for, segment};
use windlass::engine::index::{IndexFile, IndexedPack};
use windlass::engine::pack::{PACK_TARGET, PackedBlob};
use windlass::engine::{Access, BlobKind, Id, Lock, Repository, SnapshotFile, Writer};

use super::engine::{create, image_request};

/// As many as the engine's writer gathers for an index file.
const INDEX_BLOBS: u64 = 40_000;

/// What sealing adds to a chunk that does not compress.
const SEAL: u64 = 32;

/// Makes the repository with that one backup, of the snapshot 0.
pub fn make(at: &Path, size: u64) {
    let repository = create(at);
    let layout = Layout::new(size, chunk_for(size)).expect("an image can be so large");
    write_index(&repository, &layout);
    let lock = Lock::take(&repository, Access::Shared).expect("nobody else is here");
    repository.refresh().expect("the index is read and cached");
    let request = image_request(size, 0);
    let writer = Writer::new(&repository, request.level, &Arc::default()).expect("it starts");
    let save = |kind, bytes: &[u8]| writer.save(kind, bytes).expect("stored");
    let segments: Vec<Id> = (0..layout.segments())
        .map(|number| {
            let range = layout.segment(number);
            let first = range.start / u64::from(layout.chunk);
            let chunks: Vec<Id> = (first..).take(layout.chunks_in(number)).map(chunk_id).collect();
            let directory = segment::write_segment(range.end - range.start, &chunks);
            save(BlobKind::Tree, &directory)
        })
        .collect();
    let groups: Vec<Id> = segments
        .chunks(GROUP as usize)
        .map(|segments| save(BlobKind::Tree, &segment::write_group(segments)))
        .collect();
    let data = save(BlobKind::Tree, &segment::write_data(&groups));
    let manifest = serde_json::to_vec_pretty(&request.manifest).expect("JSON");
    let content = save(BlobKind::Data, &manifest);
    let root = segment::write_root(&data, manifest.len() as u64, &content);
    let tree = save(BlobKind::Tree, &root);
    writer.finish(&lock).expect("stored");
    let record = SnapshotFile {
        time: jiff::Timestamp::now(),
        parent: None,
        tree,
        paths: vec!["/bench".to_owned()],
        hostname: request.hostname,
        username: "windlass".to_owned(),
        tags: vec!["windlass".to_owned()],
        program_version: String::new(),
        original: None,
        summary: None,
        windlass: Some(request.manifest),
        other: Default::default(),
    };
    let json = serde_json::to_vec(&record).expect("JSON");
    repository.write_file("snapshots", &json).expect("stored");
}

/// The id of a chunk of the parent.
fn chunk_id(number: u64) -> Id {
    Id::of(&number.to_le_bytes())
}

/// Index files for all chunks, in packs of the usual size.
fn write_index(repository: &Repository, layout: &Layout) {
    let chunks = layout.size / u64::from(layout.chunk);
    let stored = u64::from(layout.chunk) + SEAL;
    let in_pack = (PACK_TARGET as u64).div_ceil(stored);
    let pack = |number: u64| IndexedPack {
        id: Id::of(format!("pack {number}").as_bytes()),
        blobs: (0..in_pack)
            .map(|within| (within, number * in_pack + within))
            .filter(|(_, chunk)| *chunk < chunks)
            .map(|(within, chunk)| PackedBlob {
                kind: BlobKind::Data,
                id: chunk_id(chunk),
                offset: (within * stored) as u32,
                length: stored as u32,
                uncompressed: 0,
            })
            .collect(),
    };
    let packs = chunks.div_ceil(in_pack);
    let in_file = INDEX_BLOBS.div_ceil(in_pack);
    for first in (0..packs).step_by(in_file as usize) {
        let file = IndexFile {
            supersedes: None,
            packs: (first..packs.min(first + in_file)).map(pack).collect(),
        };
        repository.write_file("index", &file.to_json()).expect("stored");
    }
}
