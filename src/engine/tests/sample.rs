//! A small repository to try things on: directories of made-up files, backed up through the writer and read back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use crate::engine::tree::{FileTime, Node, NodeKind, Tree};
use crate::engine::verify::{Depth, VerifyReport, verify};
use crate::engine::*;
use crate::store::{MemoryStore, Store};

/// Paths of two parts, and what the files have.
pub(super) type Files = BTreeMap<(String, String), Vec<u8>>;

const CHUNK: usize = 4096;

/// Files whose content only depends on `seeds`: two chunks of noise, and one that all share.
pub(super) fn files(seeds: std::ops::Range<u8>) -> Files {
    seeds
        .map(|seed| {
            let mut bytes = noise(u64::from(seed), 2 * CHUNK);
            bytes.extend_from_slice(&[7; CHUNK]);
            ((format!("dir{}", seed % 3), format!("file{seed:03}")), bytes)
        })
        .collect()
}

/// Bytes that do not compress.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

pub(super) fn new_repository(store: &Arc<MemoryStore>) -> Repository {
    Repository::create(store.clone(), &super::password(), None, None).expect("made")
}

/// Backs files up as a windlass backup does: lock, adoption, packs, index, snapshot.
pub(super) fn backup(repository: &Repository, files: &Files) -> Result<Id> {
    let lock = Lock::take(repository, Access::Shared)?;
    repair::adopt(repository, &lock, &Progress::default())?;
    let writer = Writer::new(repository, 1, &Arc::default())?;
    let mut directories: BTreeMap<&str, Tree> = BTreeMap::new();
    for ((directory, name), bytes) in files {
        let content: Result<Vec<Id>> = bytes
            .chunks(CHUNK)
            .map(|chunk| writer.save(BlobKind::Data, chunk))
            .collect();
        directories.entry(directory).or_default().nodes.push(node(
            name,
            NodeKind::File {
                size: bytes.len() as u64,
                content: content?,
            },
        ));
    }
    let mut root = Tree::default();
    for (name, tree) in directories {
        let subtree = writer.save(BlobKind::Tree, &tree.encode())?;
        root.nodes.push(node(name, NodeKind::Dir { subtree }));
    }
    let tree = writer.save(BlobKind::Tree, &root.encode())?;
    writer.finish(&lock)?;
    lock.check()?;
    write_snapshot(repository, tree)
}

pub(super) fn node(name: &str, kind: NodeKind) -> Node {
    Node {
        name: OsString::from(name),
        kind,
        mode: 0o644,
        mtime: FileTime::default(),
        atime: FileTime::default(),
        ctime: FileTime::default(),
        uid: 0,
        gid: 0,
        user: String::new(),
        group: String::new(),
        inode: 0,
        device_id: 0,
        links: 1,
        xattrs: Vec::new(),
    }
}

pub(super) fn write_snapshot(repository: &Repository, tree: Id) -> Result<Id> {
    let record = serde_json::json!({
        "time": now(), "tree": tree, "paths": ["/volume"], "hostname": "alpha", "username": "root"
    });
    repository.write_file("snapshots", record.to_string().as_bytes())
}

/// Reads a backup back.
pub(super) fn restore(repository: &Repository, id: &Id) -> Result<Files> {
    let read = |id: &Id| -> Result<Tree> {
        Tree::decode(&repository.blob(BlobKind::Tree, id)?)
            .map_err(|error| repository.corrupt("a tree", error.to_string()))
    };
    let mut files = Files::new();
    for directory in read(&repository.backup(id)?.record.tree)?.nodes {
        let NodeKind::Dir { subtree } = &directory.kind else {
            return Err(repository.corrupt("a tree", "no directory"));
        };
        for file in read(subtree)?.nodes {
            let NodeKind::File { content, .. } = &file.kind else {
                return Err(repository.corrupt("a tree", "no file"));
            };
            let mut bytes = Vec::new();
            for id in content {
                bytes.extend(repository.blob(BlobKind::Data, id)?);
            }
            let name = |name: OsString| name.into_string().expect("ours are UTF-8");
            files.insert((name(directory.name.clone()), name(file.name)), bytes);
        }
    }
    Ok(files)
}

/// To the last byte.
pub(super) fn verified(repository: &Repository) -> VerifyReport {
    verify(repository, Depth::Everything, None, &Arc::default()).expect("verify comes to its end")
}

/// A store with the same objects.
pub(super) fn fork(store: &MemoryStore) -> Arc<MemoryStore> {
    let copy = MemoryStore::default();
    for object in store.list("").expect("listed") {
        let bytes = store.get(&object.path, u64::MAX).expect("there");
        copy.put(&object.path, bytes).expect("memory");
    }
    Arc::new(copy)
}
