//! What verifying costs where the index is large: a measurement, for whoever changes how it is read.

use std::sync::Arc;

use super::sample::{new_repository, noise};
use crate::engine::index::{IndexFile, IndexedPack};
use crate::engine::pack::PackedBlob;
use crate::engine::verify::{Depth, verify};
use crate::engine::*;
use crate::store::MemoryStore;

const FILES: u64 = 50;
const BLOBS: usize = 40_000;

/// In MiB; `VmHWM` or `VmRSS`.
fn memory(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status
        .lines()
        .find(|line| line.starts_with(which))
        .expect("there");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") >> 10
}

/// All tables were in memory at once: 200 MB for a volume of 1 TiB.
#[test]
#[ignore = "two million blobs take minutes without optimization; run it alone, with --run-ignored all"]
fn verifying_keeps_a_part_of_a_large_index_in_memory() {
    let store = Arc::new(MemoryStore::default());
    let cache = tempfile::tempdir().expect("a directory");
    let repository = new_repository(&store);
    for number in 0..FILES {
        let ids = noise(number + 1, 32 * BLOBS);
        let blob = |(at, id): (usize, &[u8])| PackedBlob {
            kind: BlobKind::Data,
            id: Id(id.try_into().expect("32 bytes")),
            offset: at as u32 * 400,
            length: 400,
            uncompressed: 800,
        };
        let file = IndexFile {
            supersedes: None,
            packs: vec![IndexedPack {
                id: Id::of(&number.to_le_bytes()),
                blobs: ids.chunks(32).enumerate().map(blob).collect(),
            }],
        };
        repository.write_file("index", &file.to_json()).expect("written");
    }
    let repository = repository
        .reopened_with(store, Some(cache.path()))
        .expect("opened");
    let before = memory("VmRSS");
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak begins anew");
    let report = verify(&repository, Depth::Structure, None, &Arc::default()).expect("looked");
    let peak = memory("VmHWM") - before;
    println!("{} blobs: {peak} MiB", FILES * BLOBS as u64);
    assert_eq!(report.problem_count, FILES, "no pack is there");
    assert!(peak < 90, "{peak} MiB");
}
