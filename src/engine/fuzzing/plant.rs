//! A repository that somebody with the password made up, out of a fuzzer's bytes.
//!
//! The bytes are pieces with a zero byte between them; the first byte of each says what it is: `D` a blob of data, `T` a
//! tree (the last one is the root), `M` the manifest, `L` twelve bytes that stand in the index in the place of the offset,
//! the length and the uncompressed length of the blob before. In trees, `#a` is the id of the first blob, `#b` that of the
//! second, and so on: so a fuzzer can refer to what it cannot hash.

use std::sync::Arc;

use serde_json::json;

use crate::engine::index::{IndexFile, IndexedPack};
use crate::engine::pack::{BlobKind, PackBuilder};
use crate::engine::repository::pack_path;
use crate::engine::{Backup, Id, Password, Repository, SnapshotFile};
use crate::store::MemoryStore;

/// What was made up.
pub(super) struct Planted {
    pub(super) repository: Repository,
    pub(super) backup: Backup,
}

impl Planted {
    /// `None` where there is no root.
    pub(super) fn new(data: &[u8]) -> Option<Self> {
        let mut pieces = Pieces::default();
        for piece in data.split(|byte| *byte == 0) {
            let Some((kind, rest)) = piece.split_first() else {
                continue;
            };
            match kind {
                b'D' => pieces.blobs.push((BlobKind::Data, Id::of(rest), rest.to_vec())),
                b'T' => {
                    let tree = pieces.with_ids(rest);
                    pieces.blobs.push((BlobKind::Tree, Id::of(&tree), tree));
                }
                b'M' => pieces.manifest = rest.to_vec(),
                b'L' => pieces.lie(rest),
                _ => {}
            }
        }
        let trees = |blob: &&Blob| blob.0 == BlobKind::Tree;
        let (_, root, _) = pieces.blobs.iter().rev().find(trees)?;
        let manifest: serde_json::Value = serde_json::from_slice(&pieces.manifest).unwrap_or_default();
        let record: SnapshotFile = serde_json::from_value(json!({
            "time": "2026-11-20T08:00:00Z", "tree": root, "windlass": manifest
        }))
        .expect("a manifest that makes no sense is none");
        let backup = Backup {
            id: Id::of(data),
            record,
        };
        let store = Arc::new(MemoryStore::default());
        let repository = Repository::create(store, &Password::none(), None, None).expect("memory takes it");
        pieces.store(&repository);
        Some(Self { repository, backup })
    }
}

type Blob = (BlobKind, Id, Vec<u8>);

#[derive(Default)]
struct Pieces {
    blobs: Vec<Blob>,
    /// Which blob, and what the index says of it.
    lies: Vec<(usize, [u32; 3])>,
    manifest: Vec<u8>,
}

impl Pieces {
    fn with_ids(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            let named = after.first().and_then(|letter| letter.checked_sub(b'a'));
            match named.and_then(|number| self.blobs.get(usize::from(number))) {
                Some((_, id, _)) if *first == b'#' => {
                    out.extend_from_slice(id.to_string().as_bytes());
                    rest = &after[1..];
                }
                _ => {
                    out.push(*first);
                    rest = after;
                }
            }
        }
        out
    }

    /// No byte can be zero, so each is one more than is meant.
    fn lie(&mut self, bytes: &[u8]) {
        if let (Some(last), Some(bytes)) = (self.blobs.len().checked_sub(1), bytes.first_chunk::<12>()) {
            let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| bytes[at + n].wrapping_sub(1)));
            self.lies.push((last, [word(0), word(4), word(8)]));
        }
    }

    fn store(self, repository: &Repository) {
        let mut builder = PackBuilder::default();
        for (kind, id, content) in &self.blobs {
            builder.add(*kind, *id, &repository.key().seal(content), 0);
        }
        let mut pack = builder.finish(repository.key());
        let path = pack_path(&pack.id);
        repository
            .store()
            .put(&path, pack.bytes)
            .expect("memory takes it");
        for (at, [offset, length, uncompressed]) in self.lies {
            let blob = &mut pack.blobs[at];
            (blob.offset, blob.length, blob.uncompressed) = (offset, length, uncompressed);
        }
        let file = IndexFile {
            supersedes: None,
            packs: vec![IndexedPack {
                id: pack.id,
                blobs: pack.blobs,
            }],
        };
        let written = repository.write_file("index", &file.to_json());
        written.expect("memory takes it");
    }
}
