//! Real restic is the judge of trees: what it writes is what we would write, byte for byte; it restores what we back up,
//! and we restore what it backs up.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use windlass::engine::backup::Request;
use windlass::engine::chunker::{Chunker, Cursor, MAX_BYTES};
use windlass::engine::restore::tree::{Onto, TreeRestore};
use windlass::engine::tree::{NodeKind, Tree};
use windlass::engine::{
    EngineError, Id, Kind, Manifest, Password, Progress, Repository, SnapshotIdentity, VolumeIdentity,
    backup, restore,
};
use windlass::store::DirectoryStore;

/// A repository of restic's in a directory of its own. None, and a line, where there is no restic.
struct Restic {
    dir: tempfile::TempDir,
}

impl Restic {
    fn new() -> Option<Self> {
        if Command::new("restic").arg("version").output().is_err() {
            assert!(
                std::env::var_os("CI").is_none(),
                "restic is missing: packaging/setup installs it"
            );
            println!("SKIPPED: restic is not installed");
            return None;
        }
        let dir = tempfile::tempdir().expect("a scratch directory");
        let restic = Self { dir };
        Some(restic)
    }

    /// What restic prints; it must succeed.
    fn run(&self, args: &[&str]) -> Vec<u8> {
        let output = Command::new("restic")
            .args(["--no-cache", "--quiet", "--repo"])
            .arg(self.dir.path().join("repo"))
            .args(args)
            .env("RESTIC_PASSWORD", "secret")
            .env("TZ", "UTC")
            .current_dir(self.source())
            .output()
            .expect("restic runs");
        assert!(output.status.success(), "restic {args:?}: {output:?}");
        output.stdout
    }

    /// Where what is backed up lies.
    fn source(&self) -> std::path::PathBuf {
        let path = self.dir.path().join("source");
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.run(args)).expect("restic prints JSON")
    }

    fn tree(&self, id: &Id) -> (Vec<u8>, Tree) {
        let bytes = self.run(&["cat", "blob", &id.to_string()]);
        let tree = Tree::decode(&bytes).expect("restic's trees are sound");
        (bytes, tree)
    }
}

fn noise(length: usize, mut state: u64) -> Vec<u8> {
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn chunk_ids(chunker: &Chunker, data: &[u8]) -> Vec<Id> {
    let (mut ids, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        let seen = &rest[..rest.len().min(MAX_BYTES)];
        let length = chunker.cut(&mut Cursor::default(), seen).unwrap_or(seen.len());
        ids.push(Id::of(&rest[..length]));
        rest = &rest[length..];
    }
    ids
}

fn fill(root: &Path) {
    let mut mixed = noise(9 << 20, 3);
    mixed.extend(vec![0; 3 << 20]);
    mixed.extend(noise(700_000, 4));
    mixed.extend(vec![7; MAX_BYTES + 100]);
    fs::write(root.join("mixed"), mixed).expect("written");
    fs::write(root.join("empty"), "").expect("written");
    fs::write(root.join("least"), noise(512 << 10, 5)).expect("written");
    for name in [
        &b"plain <&>"[..],
        b"\xff\xfe",
        b"line\nfeed\t\\\"'",
        "é日本\u{a0}\u{ad}\u{1f600}\u{2028}\u{e0001}\u{378}".as_bytes(),
        b"\x01\x7f",
    ] {
        let dir = root.join("dir/below");
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(OsStr::from_bytes(name)), name).expect("written");
        // Where a link leads is lost on older versions of restic where it is no UTF-8.
        if let Ok(target) = std::str::from_utf8(name) {
            std::os::unix::fs::symlink(target, root.join("dir").join(target)).expect("a link");
        }
    }
    fs::hard_link(root.join("least"), root.join("dir/again")).expect("a link");
    xattr::set(root.join("dir"), "user.note", b"\0\xff").expect("an attribute");
    let special = format!(
        "cd {root:?} && mkfifo fifo && chmod 6751 least && chmod 1777 dir && touch -d 1965-01-02T03:04:05.006 empty"
    );
    assert!(
        Command::new("sh")
            .args(["-c", &special])
            .status()
            .expect("sh runs")
            .success()
    );
}

/// Every tree below, and every file's chunks.
fn compare(restic: &Restic, chunker: &Chunker, id: &Id, path: &Path) -> usize {
    let (bytes, tree) = restic.tree(id);
    assert_eq!(
        String::from_utf8(tree.encode()),
        String::from_utf8(bytes),
        "{}",
        path.display()
    );
    let mut compared = 1;
    for node in &tree.nodes {
        let path = path.join(&node.name);
        match &node.kind {
            NodeKind::Dir { subtree } => compared += compare(restic, chunker, subtree, &path),
            NodeKind::File { content, .. } => {
                let data = fs::read(&path).expect("the source is there");
                assert_eq!(chunk_ids(chunker, &data), *content, "{}", path.display());
                compared += 1;
            }
            NodeKind::Symlink { target } => {
                assert_eq!(fs::read_link(&path).expect("a link").as_os_str(), target);
            }
            _ => {}
        }
    }
    compared
}

#[test]
fn restic_would_write_the_same_trees_and_cut_the_same_chunks() -> Result<(), EngineError> {
    let Some(restic) = Restic::new() else {
        return Ok(());
    };
    fill(&restic.source());
    restic.run(&["init"]);
    restic.run(&["backup", "."]);
    let config = restic.json(&["cat", "config"]);
    let polynomial = config["chunker_polynomial"].as_str().expect("a polynomial");
    let chunker = Chunker::new(u64::from_str_radix(polynomial, 16).expect("hexadecimal"))?;
    let snapshots = restic.json(&["snapshots", "--json"]);
    let snapshot = restic.json(&["cat", "snapshot", snapshots[0]["id"].as_str().expect("an id")]);
    let root = Id::parse(snapshot["tree"].as_str().expect("a tree")).expect("an id");
    let compared = compare(&restic, &chunker, &root, &restic.source());
    assert!(compared >= 12, "only {compared} trees and files were compared");
    Ok(())
}

fn manifest() -> Manifest {
    let created = "2026-11-20T08:00:00Z".parse().expect("a time");
    Manifest {
        version: Manifest::VERSION,
        kind: Kind::Tree,
        driver: "vfs".to_owned(),
        size: 0,
        chunk_bytes: None,
        filesystem: None,
        volume: VolumeIdentity {
            id: uuid::Uuid::from_u128(7),
            name: "pgdata".to_owned(),
            created,
            options: Default::default(),
        },
        snapshot: SnapshotIdentity {
            id: uuid::Uuid::from_u128(8),
            name: "s".to_owned(),
            created,
            consistency: "point-in-time".to_owned(),
        },
    }
}

/// What of `target` is not as in `source`, by find, getfattr and cmp; access times are not backed up.
fn differences(source: &Path, target: &Path) -> String {
    let script = format!(
        "status() {{ cd \"$1\"; find . -mindepth 1 -printf '%P %y %m %U:%G %n %T@ %l\\n' | sort; getfattr -Rhd -m - . | sort; }}
         diff <(status {source:?}) <(status {target:?}); diff -r --no-dereference {source:?} {target:?} 2>&1 | grep -v ' is a fifo'"
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .output()
        .expect("bash runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn restic_restores_what_we_back_up_and_its_next_backup_finds_nothing_new() {
    let Some(restic) = Restic::new() else { return };
    fill(&restic.source());
    let password = Password::new("secret".to_owned()).expect("not empty");
    let at = restic.dir.path().join("repo");
    fs::create_dir(&at).expect("a directory");
    let store = Arc::new(DirectoryStore::open(&at).expect("a store"));
    let repository = Repository::create(store, &password, None, None).expect("made");
    let request = Request {
        manifest: manifest(),
        hostname: "alpha".to_owned(),
        level: 1,
        adopts: true,
        only_if_changed: false,
    };
    let made = backup::tree::tree(&repository, &request, &restic.source(), &Arc::default());
    let (report, counts) = made.expect("backed up");
    assert_eq!(counts.files_new, 9, "by their names");
    restic.run(&["check", "--read-data"]);
    let target = restic.dir.path().join("target");
    restic.run(&["restore", "latest", "--target", target.to_str().expect("text")]);
    assert_eq!(differences(&restic.source(), &target.join("data")), "");
    let written: Manifest =
        serde_json::from_slice(&fs::read(target.join("windlass.json")).expect("read")).expect("a manifest");
    assert_eq!(written, manifest());

    // The chunks are the same, so that restic stores no data of its own but the trees.
    restic.run(&["backup", "."]);
    let stats = restic.json(&[
        "stats",
        "--mode",
        "raw-data",
        "--json",
        &report.backup.id.to_string(),
    ]);
    let all = restic.json(&["stats", "--mode", "raw-data", "--json"]);
    let size = |stats: &serde_json::Value| stats["total_size"].as_u64().expect("a number");
    assert!(size(&all) - size(&stats) < 20_000, "{stats} {all}");
}

#[test]
fn we_restore_what_restic_backs_up() {
    let Some(restic) = Restic::new() else { return };
    fill(&restic.source());
    restic.run(&["init"]);
    restic.run(&["backup", "."]);
    let password = Password::new("secret".to_owned()).expect("not empty");
    let store = Arc::new(DirectoryStore::open(&restic.dir.path().join("repo")).expect("a store"));
    let repository = Repository::open(store, &password, None).expect("opened");
    let latest = repository.find("latest").expect("there");
    let target = restic.dir.path().join("target");
    let mut request = TreeRestore {
        target: &target,
        onto: Onto::Empty,
        paths: &[],
    };
    let report = restore::tree::tree(&repository, &latest, &request, &Progress::default()).expect("restored");
    assert_eq!((report.files, report.hard_links, report.left_out), (8, 1, 0));
    assert_eq!(differences(&restic.source(), &target), "");
    request.onto = Onto::Existing { remove_others: true };
    let report = restore::tree::tree(&repository, &latest, &request, &Progress::default()).expect("restored");
    assert_eq!((report.written_bytes, report.files_unchanged), (0, 8));
}
