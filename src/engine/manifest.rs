//! What a backup is of: `windlass.json`, in the root of every backup that windlass makes.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::Time;

/// The name of the manifest in a backup's root.
pub const FILE_NAME: &str = "windlass.json";

/// The name of the directory beside it that holds a tree's root, or a block image's segments.
pub const DATA_NAME: &str = "data";

/// What a backup is of. Also in the snapshot's own record (as `windlass`), so that a listing reads no tree; the file
/// in the tree is the truth, since other programs rewrite snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this record; readers refuse those above [`Manifest::VERSION`].
    pub version: u32,
    /// A directory tree or an image.
    pub kind: Kind,
    /// The driver that the volume was on, e.g. `vfs`.
    pub driver: String,
    /// The size in bytes: of a block volume exactly that of the device, of a tree the volume's limit or 0.
    pub size: u64,
    /// Of a block volume: the bytes of a chunk. All chunks have it but the last of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_bytes: Option<u32>,
    /// Of a block volume: the filesystem on it, e.g. `ext4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<String>,
    /// The volume.
    pub volume: VolumeIdentity,
    /// The snapshot that the backup is of.
    pub snapshot: SnapshotIdentity,
}

impl Manifest {
    /// The version that this program writes.
    pub const VERSION: u32 = 1;
}

/// What kind of volume a backup is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A directory tree: an ordinary restic tree, below `data`.
    Tree,
    /// An image: segments of 64 MiB, below `data`.
    Block,
}

/// Which volume a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeIdentity {
    /// Its id, which outlives names.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Time,
    /// The options that a restored volume takes over, e.g. `on-remove`; nothing secret.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub options: std::collections::BTreeMap<String, String>,
}

/// Which snapshot a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotIdentity {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When it was taken.
    pub created: Time,
    /// `point-in-time` or `per-file`.
    pub consistency: String,
}
