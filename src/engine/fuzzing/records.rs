//! Records in JSON: snapshots, manifests, config, keys and locks.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::engine::chunker::{Chunker, Cursor, MAX_BYTES, MIN_BYTES};
use crate::engine::image::{Layout, MOST_BYTES, SEGMENT};
use crate::engine::keys::{self, KeyFile};
use crate::engine::lock::{self, LockFile};
use crate::engine::repository::Config;
use crate::engine::{Backup, Id, Manifest, Password, SnapshotFile};

/// What a record says, if it is one, read a second time out of what we write of it: the same.
fn stable<T: DeserializeOwned + Serialize>(data: &[u8]) -> Option<T> {
    let record: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&record).expect("what was JSON can be JSON");
    let again: T = serde_json::from_slice(&written)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&written)));
    let rewritten = serde_json::to_vec(&again).expect("what was JSON can be JSON");
    assert_eq!(
        String::from_utf8_lossy(&written),
        String::from_utf8_lossy(&rewritten),
        "it comes back"
    );
    Some(record)
}

/// A backup's record.
pub fn snapshot(data: &[u8]) {
    let Some(record) = stable::<SnapshotFile>(data) else {
        return;
    };
    let backup = Backup {
        id: Id::of(data),
        record,
    };
    assert_eq!(backup.name().len(), 16);
    if let Some(manifest) = backup.manifest() {
        sound(manifest);
    }
}

fn a_manifest() -> serde_json::Value {
    json!({
        "version": 1, "kind": "block", "driver": "devicemapper", "size": 5_000_000, "chunk_bytes": 65536,
        "filesystem": "ext4",
        "volume": {
            "id": "00000000-0000-0000-0000-000000000001", "name": "pgdata", "created": "2026-11-20T08:00:00Z",
            "options": {"on-remove": "keep"}
        },
        "snapshot": {
            "id": "00000000-0000-0000-0000-000000000002", "name": "s", "created": "2026-11-20T08:00:01Z",
            "consistency": "point-in-time"
        }
    })
}

pub(super) fn snapshots() -> Vec<Vec<u8>> {
    let id = Id::of(b"id").to_string();
    let full = json!({
        "time": "2026-11-20T08:00:00.123456789+01:00", "parent": id, "tree": id, "paths": ["/pgdata"],
        "hostname": "alpha", "username": "root", "uid": 0, "gid": 0, "excludes": ["*.tmp"], "tags": ["windlass"],
        "original": id, "program_version": "windlass 0.1.0",
        "summary": {
            "backup_start": "2026-11-20T08:00:00Z", "backup_end": "2026-11-20T08:00:01Z", "files_new": 1,
            "data_added": 12345, "later": 1.5
        },
        "windlass": a_manifest(), "later": {"a": [1.25, null, true, "x"]}
    });
    let least = json!({ "time": "2026-11-20T08:00:00Z", "tree": id });
    vec![full.to_string().into_bytes(), least.to_string().into_bytes()]
}

/// `windlass.json`.
pub fn manifest(data: &[u8]) {
    if let Some(manifest) = stable::<Manifest>(data) {
        sound(&manifest);
    }
}

/// How an image with such a manifest is cut: bounded, and without a gap.
fn sound(manifest: &Manifest) {
    let Ok(layout) = Layout::new(manifest.size, manifest.chunk_bytes.unwrap_or(0)) else {
        return;
    };
    assert!(layout.size <= MOST_BYTES && layout.groups() <= 65_536);
    let Some(last) = layout.segments().checked_sub(1) else {
        assert_eq!(layout.size, 0);
        return;
    };
    assert_eq!(layout.segment(last).end, layout.size);
    assert!(layout.segment(last).start < layout.size);
    let chunks = layout.chunks_in(last);
    assert!((1..=(SEGMENT / 4096) as usize).contains(&chunks));
    assert_eq!(layout.chunk(last, chunks - 1).end, layout.size);
    assert_eq!(layout.chunk(0, 0).start, 0);
}

pub(super) fn manifests() -> Vec<Vec<u8>> {
    let mut tree = a_manifest();
    tree["kind"] = json!("tree");
    tree.as_object_mut().expect("an object").remove("chunk_bytes");
    vec![
        a_manifest().to_string().into_bytes(),
        serde_json::to_vec_pretty(&tree).expect("JSON"),
    ]
}

/// `config`, and the chunker that its polynomial makes.
pub fn config(data: &[u8]) {
    let Some(config) = stable::<Config>(data) else {
        return;
    };
    let Ok(polynomial) = u64::from_str_radix(&config.chunker_polynomial, 16) else {
        return;
    };
    let Ok(chunker) = Chunker::new(polynomial) else {
        return;
    };
    let bytes: Vec<u8> = data.iter().copied().cycle().take(MIN_BYTES + 10_000).collect();
    if let Some(length) = chunker.cut(&mut Cursor::default(), &bytes) {
        assert!((MIN_BYTES..=MAX_BYTES).contains(&length));
    }
}

pub(super) fn configs() -> Vec<Vec<u8>> {
    let id = Id::of(b"id").to_string();
    let owner =
        json!({ "volume": "00000000-0000-0000-0000-000000000001", "name": "pgdata", "host": "alpha" });
    let ours = json!({
        "version": 2, "id": id, "chunker_polynomial": "25b468838dcb75", "windlass": owner, "later": 0.1
    });
    let restic = json!({ "version": 2, "id": id, "chunker_polynomial": "3da3358b4dc173" });
    vec![ours.to_string().into_bytes(), restic.to_string().into_bytes()]
}

/// A key file. Passwords are tried where that is cheap; that dear ones are bounded is held against the file's own words.
pub fn key_file(data: &[u8]) {
    let Some(file) = stable::<KeyFile>(data) else {
        let _ = keys::is_secret(data);
        return;
    };
    let Ok(cost) = file.cost() else {
        return;
    };
    assert!(cost.memory_bytes <= 1 << 30 && cost.rounds <= 16, "{cost:?}");
    if cost.memory_bytes <= 64 << 10 {
        let _ = file.open(&Password::none());
    }
}

pub(super) fn key_files() -> Vec<Vec<u8>> {
    let file = KeyFile::new(&super::key(), &Password::none(), "alpha", "root");
    let secret = json!({
        "mac": {"k": "AAAAAAAAAAAAAAAAAAAAAA==", "r": "AAAAAAAAAAAAAAAAAAAAAA=="},
        "encrypt": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    });
    vec![
        serde_json::to_vec(&file).expect("JSON"),
        secret.to_string().into_bytes(),
    ]
}

/// A lock.
pub fn lock_file(data: &[u8]) {
    if let Some(lock) = stable::<LockFile>(data) {
        let _ = lock::is_stale(&lock);
        let said = lock.holder();
        assert!(
            !said.chars().any(char::is_control),
            "one line, and nothing for the terminal: {said:?}"
        );
    }
}

pub(super) fn lock_files() -> Vec<Vec<u8>> {
    let lock = json!({
        "time": "2026-11-20T08:00:00.5Z", "exclusive": true, "hostname": "alpha", "username": "root", "pid": 1,
        "uid": 0, "gid": 0
    });
    let least = json!({ "time": "1970-01-01T00:00:00Z", "exclusive": false });
    vec![lock.to_string().into_bytes(), least.to_string().into_bytes()]
}
