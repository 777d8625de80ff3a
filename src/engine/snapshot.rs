//! Snapshot files: the roots from which everything in a repository is reached. What windlass calls a backup.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Id, Manifest};

/// A snapshot as it lies in `snapshots/`. Fields that others added are carried along.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// When the backup was made.
    pub time: Timestamp,
    /// The snapshot that it was made in comparison with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// The root directory.
    pub tree: Id,
    /// What was backed up.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Where.
    #[serde(default)]
    pub hostname: String,
    /// By whom.
    #[serde(default)]
    pub username: String,
    /// Free words; ours say `windlass`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// By which program.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// The snapshot that this is a rewritten copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// How the backup went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// What it is of, where windlass made it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "if_known"
    )]
    pub windlass: Option<Manifest>,
    /// What others wrote.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// How a backup went, with restic's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// When it began.
    pub backup_start: Timestamp,
    /// When all was stored.
    pub backup_end: Timestamp,
    /// Files that the parent did not have.
    #[serde(default)]
    pub files_new: u64,
    /// Files that differed from the parent's.
    #[serde(default)]
    pub files_changed: u64,
    /// Files that were taken over from the parent.
    #[serde(default)]
    pub files_unmodified: u64,
    /// Blobs of data that were stored.
    #[serde(default)]
    pub data_blobs: u64,
    /// Directories that were stored.
    #[serde(default)]
    pub tree_blobs: u64,
    /// Bytes that were new, before compression.
    #[serde(default)]
    pub data_added: u64,
    /// Bytes that were stored for them.
    #[serde(default)]
    pub data_added_packed: u64,
    /// Files in the backup.
    #[serde(default)]
    pub total_files_processed: u64,
    /// Bytes in the backup.
    #[serde(default)]
    pub total_bytes_processed: u64,
    /// Bytes that were read from the source; windlass's own field.
    #[serde(default)]
    pub windlass_bytes_read: u64,
    /// What others wrote.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// A snapshot with its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Backup {
    /// The SHA-256 of the stored file.
    pub id: Id,
    /// What it says.
    pub record: SnapshotFile,
}

impl Backup {
    /// The id as it stands in URLs: 16 digits.
    pub fn name(&self) -> String {
        self.id.to_string()[..16].to_owned()
    }

    /// What it is of, where windlass made it.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.record.windlass.as_ref()
    }
}

/// A manifest of another version does not hide its snapshot: the file in the tree says more.
fn if_known<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Manifest>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}
