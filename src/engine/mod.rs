//! The repository: backups of images and trees in restic's format, version 2, written and read by our own code.
//!
//! One repository holds the backups of one volume at one destination. `docs/FORMAT.md` says how the format is used. The
//! engine knows no driver: it consumes a source (an image with what changed, or a directory tree) and fills a target.
//! Everything is synchronous; parallelism is threads of the engine's own. What comes out of a repository is untrusted.

pub mod backup;
pub mod backup_url;
pub mod browse;
mod cache;
pub mod chunker;
mod claims;
pub mod compare;
pub mod convoy;
pub mod copy;
mod crypto;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod haul;
mod holdings;
pub mod id;
pub mod image;
pub mod index;
pub mod keys;
pub mod lock;
pub mod manifest;
pub mod pack;
mod parallel;
pub mod progress;
pub mod prune;
mod reach;
mod reindex;
pub mod repair;
pub mod repository;
pub mod restore;
mod seal;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod verify;
pub mod writer;

pub use backup_url::BackupUrl;
pub use error::{EngineError, Result};
pub use id::Id;
pub use keys::Password;
pub use lock::{Access, Lock};
pub use manifest::{Kind, Manifest, SnapshotIdentity, VolumeIdentity};
pub use pack::BlobKind;
pub use progress::{Figures, Progress};
pub use repository::{Owner, Repository};
pub use seal::LEVEL as COMPRESSION_LEVEL;
pub use snapshot::{Backup, SnapshotFile, Summary};
pub use writer::Writer;

/// The time, to the nanosecond.
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// This host's name.
pub fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
