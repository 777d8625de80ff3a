//! Repositories and backups as the steps make them, by the engine's own calls.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;
use windlass::engine::backup::Request;
use windlass::engine::{
    COMPRESSION_LEVEL, Kind, Manifest, Password, Repository, SnapshotIdentity, VolumeIdentity, image,
};
use windlass::store::{DirectoryStore, Store};

/// Ours and the peers' alike.
pub const PASSWORD: &str = "correct horse";

/// Where a repository's cache is: beside it.
pub fn cache_of(repository: &Path) -> std::path::PathBuf {
    repository.with_extension("cache")
}

/// Makes a repository in a directory that is not there yet.
pub fn create(at: &Path) -> Repository {
    std::fs::create_dir(at).expect("a directory");
    Repository::create(directory(at), &password(), Some(&cache_of(at)), None).expect("made")
}

/// Opens one.
pub fn open(at: &Path) -> Repository {
    Repository::open(directory(at), &password(), Some(&cache_of(at))).expect("opened")
}

/// Removes one.
pub fn remove(at: &Path) {
    let _ = std::fs::remove_dir_all(at);
    let _ = std::fs::remove_dir_all(cache_of(at));
}

/// A directory as a store.
pub fn directory(at: &Path) -> Arc<dyn Store> {
    Arc::new(DirectoryStore::open(at).expect("a directory"))
}

/// The password.
pub fn password() -> Password {
    Password::new(PASSWORD.to_owned()).expect("not empty")
}

/// A request for a backup of an image of `size`, of the snapshot with that number.
pub fn image_request(size: u64, snapshot: u64) -> Request {
    let mut request = request(Kind::Block, snapshot);
    request.manifest.size = size;
    request.manifest.chunk_bytes = Some(image::chunk_for(size));
    request
}

/// A request for a backup of a directory.
pub fn tree_request(snapshot: u64) -> Request {
    request(Kind::Tree, snapshot)
}

/// The id of the snapshot with that number.
pub fn snapshot_id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

fn request(kind: Kind, snapshot: u64) -> Request {
    let created = "2026-11-20T08:00:00Z".parse().expect("a time");
    let manifest = Manifest {
        version: Manifest::VERSION,
        kind,
        driver: "bench".to_owned(),
        size: 0,
        chunk_bytes: None,
        filesystem: None,
        volume: VolumeIdentity {
            id: Uuid::from_u128(1),
            name: "bench".to_owned(),
            created,
            options: Default::default(),
        },
        snapshot: SnapshotIdentity {
            id: snapshot_id(snapshot),
            name: format!("s{snapshot}"),
            created,
            consistency: "point-in-time".to_owned(),
        },
    };
    Request {
        manifest,
        hostname: "bench".to_owned(),
        level: COMPRESSION_LEVEL,
        adopts: true,
        only_if_changed: false,
    }
}
