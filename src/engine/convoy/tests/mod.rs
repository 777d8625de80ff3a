//! The frozen fixtures, which a script wrote as Convoy 0.5.2 lays them out, read and restored. Needs root for owners.

mod damage;
mod hostile;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::store::MemoryStore;

const BLOCK_VOLUME: &str = "blk";
const TREE_VOLUME: &str = "web-data";

type Objects = BTreeMap<String, bytes::Bytes>;

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/convoy")
}

/// The files of the repository, by their paths.
fn fixture_objects() -> Objects {
    let root = fixtures().join("repository");
    let files = walkdir::WalkDir::new(&root)
        .into_iter()
        .map(|entry| entry.expect("it can be walked"));
    files
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry
                .path()
                .strip_prefix(&root)
                .expect("below")
                .to_str()
                .expect("ASCII");
            (path.to_owned(), std::fs::read(entry.path()).expect("read").into())
        })
        .collect()
}

fn expected() -> Value {
    let text = std::fs::read_to_string(fixtures().join("expected.json")).expect("read");
    serde_json::from_str(&text).expect("JSON")
}

fn store_of(objects: &Objects) -> Arc<MemoryStore> {
    let store = MemoryStore::default();
    for (path, bytes) in objects {
        store.put(path, bytes.clone()).expect("put");
    }
    Arc::new(store)
}

fn reader(objects: &Objects) -> Reader {
    let opened = Reader::open(store_of(objects)).expect("it can be looked for");
    opened.expect("there is a repository")
}

/// The whole image, in memory.
fn image(reader: &Reader, backup: &ConvoyBackup) -> Result<Vec<u8>> {
    let image = Mutex::new(vec![0; backup.volume_size as usize]);
    let write = |offset: u64, bytes: &[u8]| {
        let at = offset as usize;
        image.lock().expect("nobody panics")[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    };
    reader.restore_block(backup, &write, &Progress::default())?;
    Ok(image.into_inner().expect("nobody panics"))
}

/// False, and a line, where owners and devices cannot be restored.
fn is_root() -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    if !root {
        println!("SKIPPED: needs root, to restore owners and devices");
    }
    root
}

/// What is at and below a directory, in the form of `expected.json`, by path.
fn listing(root: &Path) -> BTreeMap<Vec<u8>, Value> {
    let entries = walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| entry.expect("walked"));
    let about = |entry: walkdir::DirEntry| {
        let path = entry
            .path()
            .strip_prefix(root)
            .expect("below")
            .as_os_str()
            .as_bytes()
            .to_owned();
        let path = if path.is_empty() { b".".to_vec() } else { path };
        let stat = entry.path().symlink_metadata().expect("there");
        let kind = stat.file_type();
        let data = if kind.is_file() {
            std::fs::read(entry.path()).expect("read")
        } else {
            Vec::new()
        };
        let letter = match () {
            () if kind.is_dir() => "5",
            () if kind.is_symlink() => "2",
            () if kind.is_fifo() => "6",
            () if kind.is_char_device() => "3",
            () => "0",
        };
        let link = if kind.is_symlink() {
            std::fs::read_link(entry.path())
                .expect("a link")
                .to_string_lossy()
                .into_owned()
        } else {
            String::new()
        };
        let digest: [u8; 32] = Sha256::digest(&data).into();
        let value = serde_json::json!({
            "path": String::from_utf8_lossy(&path), "type": letter, "mode": stat.mode() & 0o7777, "uid": stat.uid(),
            "gid": stat.gid(), "mtime": stat.mtime(), "size": data.len(), "link": link,
            "sha256": crate::engine::Id(digest).to_string(),
        });
        (path, value)
    };
    entries.map(about).collect()
}

/// What the fixture's tree must look like.
fn expected_tree(backup: &str) -> BTreeMap<Vec<u8>, Value> {
    let all = expected();
    let list = all[TREE_VOLUME][backup].as_array().expect("a list");
    let mut tree: BTreeMap<Vec<u8>, Value> = BTreeMap::new();
    for entry in list {
        let path = entry["path"].as_str().expect("a path").as_bytes().to_owned();
        let mut entry = entry.clone();
        if entry["type"] == "1" {
            // A hard link is the file that it names.
            let of = entry["link"]
                .as_str()
                .expect("a path")
                .trim_start_matches("./")
                .as_bytes()
                .to_owned();
            let path = entry["path"].clone();
            entry = tree[&of].clone();
            entry["path"] = path;
        }
        tree.insert(path, entry);
    }
    tree
}

#[test]
fn nothing_is_there_where_convoy_was_not() {
    let none = Reader::open(Arc::new(MemoryStore::default()));
    assert!(none.expect("looked for").is_none());
    let other = Objects::from([("db/config".to_owned(), bytes::Bytes::new())]);
    assert!(Reader::open(store_of(&other)).expect("looked for").is_none());
}

#[test]
fn volumes_and_backups_are_listed_with_all_that_inspect_shows() {
    let reader = reader(&fixture_objects());
    assert_eq!(reader.volumes().expect("listed"), [BLOCK_VOLUME, TREE_VOLUME]);
    let backups = reader.backups(BLOCK_VOLUME).expect("listed");
    assert_eq!(
        backups[1],
        ConvoyBackup {
            name: "backup-2b3c4d5e6f708192".into(),
            driver: "devicemapper".into(),
            volume: "blk".into(),
            volume_size: 8 << 20,
            volume_created_at: "Tue Mar 07 14:25:01 +0000 2017".into(),
            snapshot: "snap2".into(),
            snapshot_created_at: "Tue Mar 07 14:25:20 +0000 2017".into(),
            created_at: "Tue Mar 07 14:25:21 +0000 2017".into(),
            kind: Kind::Block,
            blocks: 4,
        }
    );
    let trees = reader.backups(TREE_VOLUME).expect("listed");
    let kinds: Vec<_> = trees
        .iter()
        .map(|backup| (backup.kind, backup.driver.as_str()))
        .collect();
    assert_eq!(kinds, [(Kind::Tree, "vfs"), (Kind::Tree, "vfs")]);
}

#[test]
fn images_come_back_byte_for_byte() {
    let reader = reader(&fixture_objects());
    let expected = expected();
    for backup in reader.backups(BLOCK_VOLUME).expect("listed") {
        let digest: [u8; 32] = Sha256::digest(image(&reader, &backup).expect("restored")).into();
        let about = &expected[BLOCK_VOLUME][&backup.name];
        assert_eq!(
            crate::engine::Id(digest).to_string(),
            about["sha256"],
            "{}",
            backup.name
        );
        assert_eq!(backup.blocks, about["blocks"]);
    }
}

#[test]
fn trees_come_back_with_their_attributes() {
    if !is_root() {
        return;
    }
    let reader = reader(&fixture_objects());
    for backup in reader.backups(TREE_VOLUME).expect("listed") {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let progress = Progress::default();
        let done = reader
            .restore_tree(&backup, dir.path(), &progress)
            .expect("unpacked");
        let wanted = expected_tree(&backup.name);
        assert_eq!(listing(dir.path()), wanted);
        assert_eq!(done.entries, wanted.len() as u64);
        let stat = |name: &str| dir.path().join(name).symlink_metadata().expect("there");
        assert_eq!(stat("hard").ino(), stat("etc/app.conf").ino());
        assert_eq!(stat("null").rdev(), nix::sys::stat::makedev(1, 3));
        assert!(stat("disk.img").blocks() * 512 < 200_000, "zeros become holes");
        let figures = progress.figures();
        assert_eq!(figures.done_bytes, figures.total_bytes);
    }
}

#[test]
fn the_wrong_way_to_restore_and_wrong_names_are_said() {
    let reader = reader(&fixture_objects());
    let block = &reader.backups(BLOCK_VOLUME).expect("listed")[0];
    let tree = &reader.backups(TREE_VOLUME).expect("listed")[0];
    let dir = tempfile::tempdir().expect("a scratch directory");
    let progress = Progress::default();
    let error = reader
        .restore_tree(block, dir.path(), &progress)
        .expect_err("an image");
    assert!(matches!(error, EngineError::Invalid(_)), "{error}");
    assert!(matches!(image(&reader, tree), Err(EngineError::Invalid(_))));
    for name in ["nothing", "", "../../x", "a/b"] {
        let error = reader.backup(BLOCK_VOLUME, name).expect_err("no such backup");
        assert!(matches!(error, EngineError::NoBackup { .. }), "{error}");
        let error = reader.backups(name).expect_err("no such volume");
        assert!(matches!(error, EngineError::NoRepository { .. }), "{error}");
    }
}

#[test]
fn what_an_interrupted_convoy_left_is_passed_over() {
    let mut objects = fixture_objects();
    let directory = layout::volume_directory(BLOCK_VOLUME).expect("a name");
    let leftover = layout::backup_record(&directory, "backup-x") + ".tmp";
    objects.insert(leftover, bytes::Bytes::from_static(b"{"));
    // The directory of a deleted volume.
    objects.insert(
        "convoy-objectstore/volumes/go/ne/gone/blocks/x".into(),
        bytes::Bytes::new(),
    );
    let reader = reader(&objects);
    assert_eq!(reader.volumes().expect("listed"), [BLOCK_VOLUME, TREE_VOLUME]);
    assert_eq!(reader.backups(BLOCK_VOLUME).expect("listed").len(), 2);
}

#[test]
fn a_restore_ends_when_it_is_cancelled_or_cannot_write() {
    let reader = reader(&fixture_objects());
    let block = &reader.backups(BLOCK_VOLUME).expect("listed")[0];
    let tree = &reader.backups(TREE_VOLUME).expect("listed")[0];
    let cancelled = Progress::default();
    cancelled.cancel();
    let none = |_: u64, _: &[u8]| -> Result<()> { panic!("nothing is written") };
    let error = reader
        .restore_block(block, &none, &cancelled)
        .expect_err("cancelled");
    assert!(matches!(error, EngineError::Cancelled));
    let dir = tempfile::tempdir().expect("a scratch directory");
    let error = reader
        .restore_tree(tree, dir.path(), &cancelled)
        .expect_err("cancelled");
    assert!(matches!(error, EngineError::Cancelled), "{error}");
    let full = |_: u64, _: &[u8]| -> Result<()> { Err(EngineError::Invalid("full".into())) };
    let error = reader
        .restore_block(block, &full, &Progress::default())
        .expect_err("full");
    assert!(error.to_string() == "full", "{error}");
    // A directory that holds something is not unpacked into.
    std::fs::write(dir.path().join("mine"), "x").expect("written");
    assert!(
        reader
            .restore_tree(tree, dir.path(), &Progress::default())
            .is_err()
    );
    assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 1);
}
