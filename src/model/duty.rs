//! What is owed once something has begun, whatever becomes of it: recorded before it begins, so that the next start of the
//! daemon pays what this one could not.

use serde::{Deserialize, Serialize};

use super::{Name, Span, Time};

/// Something that is owed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "owed", rename_all = "kebab-case")]
pub enum Duty {
    /// The hooks after a snapshot whose hooks before it were begun.
    PostHooks {
        /// The snapshot's name.
        snapshot: Name,
        /// In the order in which they are to run.
        hooks: Vec<PostHook>,
        /// Since when.
        since: Time,
    },
    /// A revert of several volumes to a checkpoint, to be done again: some may have gone back and others not.
    Revert {
        /// The checkpoint's identity.
        id: uuid::Uuid,
        /// Its name.
        name: Name,
    },
    /// A checkpoint that is not whole, to be undone: its snapshots have its identity in their records.
    Checkpoint {
        /// Its identity.
        id: uuid::Uuid,
        /// Its name.
        name: Name,
    },
}

/// One hook in one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostHook {
    /// The volume that it is for.
    pub volume: Name,
    /// The container's id.
    pub container: String,
    /// Its name, for people.
    pub container_name: String,
    /// The command.
    pub script: String,
    /// The user that it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long it may take.
    pub limit: Span,
    /// Where the container has the volume.
    pub path: String,
}
