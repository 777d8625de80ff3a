//! Trees: as bytes, restored into a directory, and as the image that they are of.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::plant::Planted;
use super::stored::memory_file;
use crate::engine::image::reader::Image;
use crate::engine::image::{Layout, segment};
use crate::engine::restore::block::{BlockTarget, Holds, block};
use crate::engine::restore::tree::{Onto, TreeRestore};
use crate::engine::tree::{Tree, is_entry_name};
use crate::engine::verify::{Depth, verify};
use crate::engine::{Id, Progress, restore};

/// Images above it are read here and there, and not restored.
const MOST_IMAGE_BYTES: u64 = 256 << 20;

/// A directory.
pub fn tree(data: &[u8]) {
    let _ = segment::read_root(data);
    let layout = Layout::new(3 << 30, 64 << 10).expect("an image");
    for number in [0, layout.segments() - 1] {
        let _ = segment::read_segment(data, &layout, number);
    }
    let _ = segment::read_group(data, &layout, 0);
    let _ = segment::read_data(data, &layout);
    let Ok(tree) = Tree::decode(data) else {
        return;
    };
    for pair in tree.nodes.windows(2) {
        assert!(pair[0].name < pair[1].name, "in order, and each once");
    }
    for node in &tree.nodes {
        use std::os::unix::ffi::OsStrExt;
        assert!(is_entry_name(node.name.as_bytes()) && node.mode <= 0o7777);
        assert_eq!(tree.find(&node.name), Some(node));
    }
    let written = tree.encode();
    assert_eq!(
        Tree::decode(&written),
        Ok(tree),
        "{}",
        String::from_utf8_lossy(&written)
    );
}

pub(super) fn trees() -> Vec<Vec<u8>> {
    let id = Id::of(b"id");
    let all = json!({"nodes": [
        {"name": "block", "type": "dev", "device": 2049, "uid": 0, "gid": 0},
        {"name": "dir", "type": "dir", "mode": 2_147_484_141_u32, "mtime": "2023-11-14T22:13:20.12Z", "subtree": id,
         "extended_attributes": [{"name": "user.x", "value": "AP8="}]},
        {"name": "fifo", "type": "fifo", "content": null},
        {"name": "file", "type": "file", "mode": 8_389_101, "mtime": "2021-03-01T12:00:00.5+01:30", "size": 9, "links": 2,
         "inode": 7, "device_id": 5, "user": "me", "group": "us", "content": [id, id], "later": {"a": [1.5]}},
        {"name": "link", "type": "symlink", "linktarget": "x\u{fffd}", "linktarget_raw": "eP8="},
        {"name": "odd\\xff\\n\\u00ad", "type": "socket", "atime": "0001-01-01T00:00:00Z"},
        {"name": "tty", "type": "chardev", "device": 1281, "ctime": "9999-12-31T23:59:59Z"},
    ]});
    vec![
        all.to_string().into_bytes(),
        b"{\"nodes\":[]}\n".to_vec(),
        segment::write_segment(130_000, &[id, id]),
        segment::write_group(&[id; 48]),
        segment::write_data(&[id]),
        segment::write_root(&id, 5, &id),
    ]
}

/// A made-up backup of a tree, restored as root would: nothing outside of the target changes, and a second restore over
/// the first comes to its end too.
pub fn tree_restore(data: &[u8]) {
    let Some(planted) = Planted::new(data) else {
        return;
    };
    let _ = verify(&planted.repository, Depth::Everything, None, &Default::default());
    let scene = Scene::new();
    let target = scene.0.join("target");
    for onto in [Onto::Empty, Onto::Existing { remove_others: true }] {
        let restore = TreeRestore {
            target: &target,
            onto,
            paths: &[],
        };
        let restored = restore::tree::tree(
            &planted.repository,
            &planted.backup,
            &restore,
            &Progress::default(),
        );
        scene.assert_untouched();
        if restored.is_err() {
            break;
        }
    }
}

pub(super) fn planted_trees() -> Vec<Vec<u8>> {
    let inner = r##"T{"nodes":[
        {"name":"f","type":"file","mode":420,"size":4,"links":2,"inode":5,"device_id":1,"content":["#a"]},
        {"name":"g","type":"file","mode":2541,"size":8,"content":["#a","#a"]},
        {"name":"h","type":"file","size":4,"links":2,"inode":5,"device_id":1,"content":["#a"]}]}"##;
    let root = r##"T{"nodes":[
        {"name":"dir","type":"dir","mode":2147484141,"subtree":"#b","mtime":"2023-11-14T22:13:20.12Z"},
        {"name":"fifo","type":"fifo","mode":384},
        {"name":"odd","type":"irregular","links":2,"inode":9},
        {"name":"odd-too","type":"irregular","links":2,"inode":9},
        {"name":"up","type":"symlink","linktarget":"../outside"},
        {"name":"zz","type":"dir","mode":448,"subtree":"#b"}]}"##;
    let escape = r##"T{"nodes":[{"name":"up","type":"symlink","linktarget":"../outside"},{"name":"up","type":"dir","subtree":"#b"}]}"##;
    let with = |root: &str| ["Ddata", inner, root].join("\0").into_bytes();
    let lie = [
        &with(root)[..],
        b"\0Dmore\0L\x01\x01\x01\x01\x25\x01\x01\x01\x01\x01\x01\x01",
    ]
    .concat();
    vec![with(root), with(escape), lie]
}

/// A made-up backup of an image: read here and there, and restored into memory.
pub fn image(data: &[u8]) {
    let Some(planted) = Planted::new(data) else {
        return;
    };
    let Planted { repository, backup } = &planted;
    let Ok(image) = Image::open(repository, backup) else {
        return;
    };
    let layout = *image.layout();
    let mut buffer = vec![0; 70_000];
    for offset in [
        0,
        layout.size / 2,
        layout.size.saturating_sub(70_000),
        u64::MAX - 5,
    ] {
        let length = buffer.len().min(layout.size.saturating_sub(offset) as usize);
        let _ = image.read_at(&mut buffer[..length], offset);
        let beyond = image.read_at(&mut buffer[..length.max(1)], layout.size);
        assert!(beyond.is_err(), "there is nothing beyond the end");
    }
    if layout.size > MOST_IMAGE_BYTES {
        return;
    }
    for holds in [Holds::Zeros, Holds::Similar, Holds::Anything] {
        let (file, path) = memory_file(&[]);
        file.set_len(layout.size).expect("memory is patient");
        let target = BlockTarget {
            file: &file,
            path: &path,
            holds,
        };
        let Ok(report) = block(repository, backup, &target, &Default::default()) else {
            break;
        };
        assert!(report.bytes == layout.size && report.written_bytes <= layout.size);
        assert_eq!(file.metadata().expect("it is open").len(), layout.size);
        let length = layout.size.min(70_000) as usize;
        let mut restored = vec![0; length];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut restored, 0).expect("it is open");
        image
            .read_at(&mut buffer[..length], 0)
            .expect("it was just restored");
        assert!(restored == buffer[..length], "both ways of reading give the same");
    }
}

pub(super) fn planted_images() -> Vec<Vec<u8>> {
    let manifest = |size: u64, chunk: u32| {
        json!({
            "version": 1, "kind": "block", "driver": "d", "size": size, "chunk_bytes": chunk,
            "volume": {"id": uuid::Uuid::nil(), "name": "v", "created": "2026-11-20T08:00:00Z"},
            "snapshot": {"id": uuid::Uuid::nil(), "name": "s", "created": "2026-11-20T08:00:00Z", "consistency": "c"}
        })
    };
    let small = |size: u64, chunks: &str| {
        let a = "x".repeat(4096);
        let b = "y".repeat(size as usize % 4096);
        let segment =
            format!(r##"{{"nodes":[{{"name":"image","type":"file","size":{size},"content":[{chunks}]}}]}}"##);
        let group = r##"{"nodes":[{"name":"00","type":"dir","subtree":"#c"}]}"##;
        let groups = r##"{"nodes":[{"name":"0000","type":"dir","subtree":"#d"}]}"##;
        let root = r##"{"nodes":[{"name":"data","type":"dir","subtree":"#e"}]}"##;
        let manifest = manifest(size, 4096);
        format!("M{manifest}\0D{a}\0D{b}\0T{segment}\0T{group}\0T{groups}\0T{root}").into_bytes()
    };
    vec![
        small(4096 + 100, r##""#a","#b""##),
        small(3 * 4096 + 7, r##""#a","#a","#a","#b""##),
        small(2 * 4096 + 7, r##""#b","#a","#b""##),
    ]
}

/// A directory whose `target` a backup is restored to, beside `outside`, which nobody may touch. In memory, where the
/// machine has a place for that.
struct Scene(PathBuf);

impl Scene {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let path = base.join(format!("windlass-fuzzing-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&path).expect("a scratch directory");
        let scene = Self(path);
        fs::create_dir(scene.0.join("outside")).expect("made");
        fs::write(scene.0.join("outside/secret"), "secret").expect("written");
        fs::create_dir(scene.0.join("target")).expect("made");
        scene
    }

    fn assert_untouched(&self) {
        let names = |path: &Path| -> Vec<_> {
            let entries = fs::read_dir(path).expect("it is there");
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&self.0), ["outside", "target"]);
        assert_eq!(names(&self.0.join("outside")), ["secret"]);
        let secret = self.0.join("outside/secret");
        assert_eq!(fs::read(&secret).expect("it is there"), b"secret");
        let about = fs::symlink_metadata(&secret).expect("it is there");
        assert!(about.nlink() == 1 && about.mode() & 0o7000 == 0);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Without privileges, a directory that was restored unreadable cannot be emptied.
        fn open(path: &Path) {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open(&entry.path());
                }
            }
        }
        open(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}
