//! An index file as it lies in `index/`: JSON, one entry per pack.

use serde::{Deserialize, Serialize};

use crate::engine::Id;
use crate::engine::pack::{BlobKind, PackedBlob};

/// See the module.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct IndexFile {
    /// Index files that this one takes the place of; only old versions of restic wrote it.
    #[serde(default, skip_serializing)]
    pub supersedes: Option<Vec<Id>>,
    /// The packs.
    pub packs: Vec<IndexedPack>,
}

/// A pack and what is in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IndexedPack {
    /// Its name.
    pub id: Id,
    /// Its blobs.
    #[serde(with = "blobs")]
    pub blobs: Vec<PackedBlob>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: Id,
    #[serde(rename = "type")]
    kind: Kind,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    uncompressed_length: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Data,
    Tree,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

mod blobs {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{BlobKind, Entry, Kind, PackedBlob};

    pub(super) fn serialize<S: Serializer>(blobs: &[PackedBlob], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(blobs.iter().map(|blob| Entry {
            id: blob.id,
            kind: match blob.kind {
                BlobKind::Data => Kind::Data,
                BlobKind::Tree => Kind::Tree,
            },
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed,
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PackedBlob>, D::Error> {
        let entries = Vec::<Entry>::deserialize(deserializer)?;
        Ok(entries
            .into_iter()
            .map(|entry| PackedBlob {
                kind: match entry.kind {
                    Kind::Data => BlobKind::Data,
                    Kind::Tree => BlobKind::Tree,
                },
                id: entry.id,
                offset: entry.offset,
                length: entry.length,
                uncompressed: entry.uncompressed_length,
            })
            .collect())
    }
}

impl IndexFile {
    /// As it is written.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("ids and numbers can be written as JSON")
    }

    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}
