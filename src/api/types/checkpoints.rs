//! What requests and answers about checkpoints say.

use serde::{Deserialize, Serialize};

/// Snapshots of several volumes that belong together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Checkpoint {
    /// Its name, which its snapshots have too.
    pub name: String,
    /// Its UUID.
    #[serde(rename = "UUID")]
    pub uuid: String,
    /// When it was taken, RFC 3339.
    pub created_at: String,
    /// `one`, or `in-turn` where its snapshots were taken one after the other while their volumes were in use.
    pub moment: String,
    /// The volumes that it was taken of.
    pub volumes: Vec<String>,
    /// Its snapshots that are there, as `volume@snapshot`.
    pub snapshots: Vec<String>,
    /// The volumes whose snapshot is not there any more; with any, it is not whole.
    pub missing: Vec<String>,
    /// What a person should know, once it is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// `POST /v1/checkpoints`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CreateCheckpoint {
    /// Its name.
    pub name: String,
    /// The volumes.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// A Compose project whose volumes are meant too.
    #[serde(default)]
    pub compose_project: Option<String>,
    /// Leave the volumes' hooks out.
    #[serde(default)]
    pub no_hooks: bool,
}

/// `POST /v1/checkpoints/{checkpoint}/clone`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CloneCheckpoint {
    /// What the clones' names end in.
    pub suffix: String,
}

/// The clones of a checkpoint's volumes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClonedCheckpoint {
    /// Their names.
    pub volumes: Vec<String>,
}
