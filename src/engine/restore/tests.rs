//! Trees backed up and restored: everything kept, what changed and nothing else, damage named, nothing outside touched.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proptest::prelude::*;
use uuid::Uuid;

use super::tree::{Onto, TreeReport, TreeRestore};
use crate::engine::backup::tree::TreeCounts;
use crate::engine::backup::{self, BackupReport, Request};
use crate::engine::compare;
use crate::engine::tree::{FileTime, Node, NodeKind, Tree};
use crate::engine::{
    Backup, BlobKind, EngineError, Id, Kind, Manifest, Password, Progress, Repository, SnapshotFile,
    SnapshotIdentity, VolumeIdentity, Writer,
};
use crate::model::Time;
use crate::store::{MemoryStore, Store};
use crate::sys::testing::{Kind as FsKind, TestFs, has_program, root_with_mounts, sh};

mod compared;

/// A repository in memory, and scratch space.
struct Bench {
    store: Arc<MemoryStore>,
    repository: Repository,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let password = Password::new("correct horse".to_owned()).expect("not empty");
        let repository = Repository::create(store.clone(), &password, None, None).expect("made");
        let dir = tempfile::tempdir().expect("a scratch directory");
        let bench = Self {
            store,
            repository,
            dir,
        };
        fs::create_dir(bench.source()).expect("made");
        bench
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn try_back_up(
        &self,
        root: &Path,
        progress: &Arc<Progress>,
    ) -> Result<(BackupReport, TreeCounts), EngineError> {
        let request = Request {
            manifest: manifest(),
            hostname: "alpha".to_owned(),
            level: 1,
            adopts: true,
            only_if_changed: false,
        };
        backup::tree::tree(&self.repository, &request, root, progress)
    }

    fn back_up(&self) -> (Backup, TreeCounts) {
        let (report, counts) = self
            .try_back_up(&self.source(), &Arc::default())
            .expect("backed up");
        (report.backup, counts)
    }

    fn try_restore(&self, backup: &Backup, onto: Onto, paths: &[PathBuf]) -> Result<TreeReport, EngineError> {
        let target = self.target();
        let restore = TreeRestore {
            target: &target,
            onto,
            paths,
        };
        super::tree::tree(&self.repository, backup, &restore, &Progress::default())
    }

    /// Into a target of its own.
    fn restore(&self, backup: &Backup) -> TreeReport {
        let _ = fs::remove_dir_all(self.target());
        self.try_restore(backup, Onto::Empty, &[]).expect("restored")
    }

    /// A backup whose root is this tree, as anybody could make it.
    fn forged(&self, tree: &Tree) -> Backup {
        let lock = crate::engine::Lock::take(&self.repository, crate::engine::Access::Shared).expect("free");
        let writer = Writer::new(&self.repository, 1, &Arc::default()).expect("threads");
        let id = writer.save(BlobKind::Tree, &tree.encode()).expect("saved");
        writer.save(BlobKind::Data, b"content").expect("saved");
        writer.finish(&lock).expect("stored");
        let record: SnapshotFile =
            serde_json::from_value(serde_json::json!({ "time": "2026-11-20T08:00:00Z", "tree": id }))
                .expect("a record");
        let id = Id::of(b"forged");
        Backup { id, record }
    }

    /// What the restored tree has otherwise than the source.
    fn differences(&self) -> String {
        differences(&self.source(), &self.target())
    }
}

fn manifest() -> Manifest {
    let created: Time = "2026-11-20T08:00:00Z".parse().expect("a time");
    Manifest {
        version: Manifest::VERSION,
        kind: Kind::Tree,
        driver: "vfs".to_owned(),
        size: 0,
        chunk_bytes: None,
        filesystem: None,
        volume: VolumeIdentity {
            id: Uuid::from_u128(7),
            name: "pgdata".to_owned(),
            created,
            options: Default::default(),
        },
        snapshot: SnapshotIdentity {
            id: Uuid::from_u128(8),
            name: "s".to_owned(),
            created,
            consistency: "point-in-time".to_owned(),
        },
    }
}

/// By all that find, stat, getfattr and rsync can see but access times, which a backup leaves out.
fn differences(source: &Path, target: &Path) -> String {
    let status = "find . -printf '%P %y %m %U:%G %n %T@ %l\\n' | sort; \
        find . -type b,c -exec stat -c '%n %t:%T' {} + | sort";
    let attributes = "getfattr -Rhd -m - . | sed /SGI_ACL/d | sort";
    let both = |command| format!("diff <(cd {source:?}; {command}) <(cd {target:?}; {command}) || true");
    sh(&both(status))
        + &sh(&both(attributes))
        + &sh(&format!(
            "rsync -nacAXHi --delete --super --numeric-ids {source:?}/ {target:?}/"
        ))
}

fn ready() -> bool {
    root_with_mounts()
        && ["rsync", "setfattr", "setfacl", "python3"]
            .iter()
            .all(|program| has_program(program))
}

/// So old that nothing is changing any more.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(80));
}

const EVERYTHING: &str = r#"
    mkdir plain deep empty shared
    head -c 3000000 /dev/urandom > plain/data; : > plain/empty; printf x > plain/one
    chmod 4755 plain/one; chmod 2755 plain; chmod 1777 shared; chmod 000 plain/empty
    truncate -s 50M sparse; printf tail | dd of=sparse bs=1 seek=30000000 conv=notrunc status=none
    head -c 2000000 /dev/zero > zeros; truncate -s 300000000 hole
    ln -s plain/data link; ln -s /nonexistent/absolute dangling; ln -s "$(printf 'a%.0s' {1..300})" long
    ln -s "$(printf 'to\xff')" tobytes
    ln plain/data shared/hard1; ln plain/data hard2; ln -P link link-hard
    mkfifo fifo; mknod chr c 1 3; mknod blk b 7 200; ln chr shared/chr-hard
    python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind("sock")'
    touch -- "$(printf 'bad\xff\xfename')" "$(printf 'new\nline')" "  spaces  " "-rf" "*" '\x41' '"quoted"'
    chown 1234:5678 plain/data fifo; chown -h 4321:8765 link dangling; chown 77:88 deep
    setfattr -n user.color -v blue plain/data; setfattr -n user.empty plain/data
    setfattr -n user.big -v "$(printf 'v%.0s' {1..400})" deep; setfattr -n trusted.mark -v t plain
    setfattr -h -n trusted.link -v on-the-link link; setfattr -n trusted.fifo -v f fifo
    setfacl -m u:1000:rw,g:2000:r plain/data; setfacl -d -m u:1000:rwx,o::- deep; setfacl -m g:3000:x empty
    mkdir deep/1 deep/1/2; echo inherited > deep/1/2/f
    setcap cap_net_raw+ep plain/one 2>/dev/null || true
    touch -hd '2001-02-03 04:05:06.123456789' link plain/data shared chr
    touch -d '1969-12-31 23:00:00.5' plain/empty
    touch -d '2011-11-11 11:11:11.111111111' deep/1 empty
"#;

#[test]
fn everything_is_kept() {
    if !ready() {
        return;
    }
    let bench = Bench::new();
    sh(&format!(
        "cd {:?}; {EVERYTHING} touch -d '2012-12-12 12:12:12.12' .; chmod 2711 .",
        bench.source()
    ));
    let (backup, counts) = bench.back_up();
    assert_eq!(
        (counts.vanished, counts.mount_points, counts.files_changed),
        (0, 0, 0)
    );
    let report = bench.restore(&backup);
    assert_eq!(bench.differences(), "");
    assert_eq!(
        (report.left_out, report.attributes_refused, report.hard_links),
        (0, 0, 4)
    );
    for (file, most) in [("sparse", 64 << 10), ("zeros", 0), ("hole", 0)] {
        let about = fs::metadata(bench.target().join(file)).expect("there");
        assert!(
            about.blocks() * 512 <= most,
            "{file} takes {} blocks",
            about.blocks()
        );
    }
    assert!(report.written_bytes < 4_000_000, "{report:?}");
    let compared = compare::tree(&bench.repository, &backup, &bench.target(), &Progress::default());
    let compared = compared.expect("compared");
    assert_eq!(compared.differences, [""; 0], "by its own record too");
    assert!(compared.entries > 30, "{compared:?}");

    // Over itself: nothing is written, and nothing changes.
    let report = bench
        .try_restore(&backup, Onto::Existing { remove_others: true }, &[])
        .expect("restored");
    assert_eq!((report.written_bytes, report.removed), (0, 0));
    assert_eq!(report.files, report.files_unchanged);
    assert_eq!(bench.differences(), "");
    let left: Vec<_> = fs::read_dir(bench.target())
        .expect("listed")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        !left.iter().any(|name| name.as_bytes().starts_with(b".tmp-")),
        "{left:?}"
    );
}

#[test]
fn what_did_not_change_is_neither_read_nor_stored() {
    let bench = Bench::new();
    let source = bench.source();
    fs::create_dir_all(source.join("a/b")).expect("made");
    for n in 0..20 {
        fs::write(source.join(format!("a/b/{n}")), vec![n; 50_000]).expect("written");
    }
    fs::write(source.join("c"), noise(3 << 20, 1)).expect("written");
    settle();
    let (first, counts) = bench.back_up();
    assert_eq!((counts.files_new, counts.directories), (21, 3));
    let progress = Arc::default();
    let (again, counts) = bench.try_back_up(&source, &progress).expect("backed up");
    assert_eq!(again.backup.record.tree, first.record.tree);
    assert_eq!(
        (counts.files_unmodified, counts.files_new, counts.files_changed),
        (21, 0, 0)
    );
    assert_eq!((progress.figures().read_bytes, again.written.new_bytes), (0, 0));
    assert_eq!(
        progress.figures().done_items,
        progress.figures().total_items + 1,
        "the root comes unexpected"
    );

    // The same size and mtime, but not the same ctime.
    let path = source.join("a/b/7");
    let old = fs::metadata(&path).expect("there").modified().expect("a time");
    fs::write(&path, vec![77; 50_000]).expect("written");
    fs::File::options()
        .write(true)
        .open(&path)
        .expect("opened")
        .set_modified(old)
        .expect("set");
    settle();
    let progress = Arc::default();
    let (changed, counts) = bench.try_back_up(&source, &progress).expect("backed up");
    assert_eq!((counts.files_unmodified, counts.files_changed), (20, 1));
    assert_eq!(progress.figures().read_bytes, 50_000);
    assert_eq!(
        (changed.written.data_blobs, changed.written.tree_blobs),
        (1, 4),
        "the file and the way to it"
    );
    bench.restore(&changed.backup);
    assert_eq!(
        fs::read(bench.target().join("a/b/7")).expect("read"),
        vec![77; 50_000]
    );
}

#[test]
fn a_file_that_changes_right_after_the_look_is_read_again_by_the_next_backup() {
    let bench = Bench::new();
    let path = bench.source().join("f");
    for round in 0..20_u8 {
        fs::write(&path, [round; 100]).expect("written");
        // Within the same tick of the kernel's clock as the write.
        let (_, _) = bench.back_up();
        fs::write(&path, [round + 100; 100]).expect("written");
        let (backup, _) = bench.back_up();
        bench.restore(&backup);
        assert_eq!(
            fs::read(bench.target().join("f")).expect("read"),
            [round + 100; 100]
        );
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

#[test]
fn over_an_existing_tree_only_what_differs_is_written() {
    let bench = Bench::new();
    let (source, target) = (bench.source(), bench.target());
    let large = noise(10 << 20, 5);
    fs::write(source.join("large"), &large).expect("written");
    fs::write(source.join("same"), "same").expect("written");
    fs::create_dir(source.join("dir")).expect("made");
    fs::write(source.join("dir/in"), "in").expect("written");
    fs::write(source.join("zeros"), vec![0; 1 << 20]).expect("written");
    fs::hard_link(source.join("same"), source.join("same-too")).expect("linked");
    let (backup, _) = bench.back_up();
    bench.restore(&backup);

    // One byte differs; a link leads out where a directory was; two files share what was apart; others are there.
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).expect("made");
    fs::write(outside.join("in"), "outside").expect("written");
    let mut spoiled = large.clone();
    spoiled[100_000] ^= 1;
    spoiled.extend_from_slice(b"more");
    fs::write(target.join("large"), &spoiled).expect("written");
    fs::write(target.join("zeros"), vec![9; 2 << 20]).expect("written");
    fs::remove_dir_all(target.join("dir")).expect("removed");
    std::os::unix::fs::symlink(&outside, target.join("dir")).expect("linked");
    fs::remove_file(target.join("same-too")).expect("removed");
    fs::create_dir(target.join("other")).expect("made");
    fs::write(target.join("other/file"), "x").expect("written");
    fs::hard_link(target.join("same"), target.join("other/linked")).expect("linked");
    let keep = Onto::Existing { remove_others: false };
    let report = bench.try_restore(&backup, keep, &[]).expect("restored");
    assert!(report.written_bytes < 9 << 20, "a chunk and no more: {report:?}");
    assert_eq!(fs::read(target.join("large")).expect("read"), large);
    assert_eq!(fs::read(target.join("zeros")).expect("read"), vec![0; 1 << 20]);
    assert_eq!(fs::read(target.join("dir/in")).expect("read"), b"in");
    assert_eq!(fs::read(outside.join("in")).expect("read"), b"outside");
    assert_eq!(fs::read(target.join("other/file")).expect("read"), b"x");
    let inode = |name: &str| fs::metadata(target.join(name)).expect("there").ino();
    assert_eq!(inode("same"), inode("same-too"));

    // What other names lead to is never written to.
    fs::write(target.join("other/linked"), "evil").expect("written");
    let report = bench.try_restore(&backup, keep, &[]).expect("restored");
    assert_eq!(fs::read(target.join("other/linked")).expect("read"), b"evil");
    assert_eq!(fs::read(target.join("same-too")).expect("read"), b"same");
    assert_eq!(report.removed, 0);

    let report = bench
        .try_restore(&backup, Onto::Existing { remove_others: true }, &[])
        .expect("restored");
    assert_eq!(report.removed, 1);
    if ready() {
        assert_eq!(bench.differences(), "");
    }

    // A directory in place of a file is not removed unless that is allowed.
    fs::remove_file(target.join("large")).expect("removed");
    fs::create_dir(target.join("large")).expect("made");
    fs::write(target.join("large/precious"), "x").expect("written");
    let refused = bench
        .try_restore(&backup, keep, &[])
        .expect_err("a directory is there")
        .to_string();
    assert!(refused.contains("target/large is a directory"), "{refused}");
    assert!(target.join("large/precious").exists());
    let not_empty = bench
        .try_restore(&backup, Onto::Empty, &[])
        .expect_err("there is something")
        .to_string();
    assert!(not_empty.contains("is not empty"), "{not_empty}");
}

#[test]
fn single_paths() {
    let bench = Bench::new();
    let source = bench.source();
    fs::create_dir_all(source.join("a/b/c")).expect("made");
    for file in ["a/1", "a/b/2", "a/b/c/3", "4"] {
        fs::write(source.join(file), file).expect("written");
    }
    let (backup, _) = bench.back_up();
    let paths = [PathBuf::from("/a/b"), PathBuf::from("4")];
    let report = bench.try_restore(&backup, Onto::Empty, &paths).expect("restored");
    assert_eq!(report.files, 3);
    assert!(!bench.target().join("a/1").exists());
    for file in ["a/b/2", "a/b/c/3", "4"] {
        assert_eq!(fs::read_to_string(bench.target().join(file)).expect("read"), file);
    }
    for path in ["nothing", "a/b/2/x", "../source", "a/../../x"] {
        fs::remove_dir_all(bench.target()).ok();
        let error = bench
            .try_restore(&backup, Onto::Empty, &[path.into()])
            .expect_err(path);
        assert!(matches!(error, EngineError::NoPath { .. }), "{error}");
        assert!(!bench.target().exists(), "nothing is begun");
    }
}

#[test]
fn what_cannot_be_read_fails_the_backup_and_is_named() {
    let root = Path::new("/sys/class/net/lo/");
    let root = fs::canonicalize(root).expect("every network namespace has a loopback");
    let bench = Bench::new();
    let error = bench
        .try_back_up(&root, &Arc::default())
        .expect_err("some of these files refuse to be read");
    let EngineError::Source { path, .. } = &error else {
        panic!("{error}");
    };
    assert!(path.starts_with(&root) && *path != root, "{error}");
    assert_eq!(
        bench.repository.backups().expect("listed"),
        [],
        "no backup of what could not be read"
    );
    let absent = bench
        .try_back_up(Path::new("/nonexistent"), &Arc::default())
        .expect_err("absent")
        .to_string();
    assert!(absent.contains("/nonexistent"), "{absent}");
}

#[test]
fn a_blob_that_is_lost_or_damaged_fails_the_restore_and_the_file_is_named() {
    let bench = Bench::new();
    fs::create_dir(bench.source().join("dir")).expect("made");
    // The manifest lies in the pack of this one.
    bench.back_up();
    fs::write(bench.source().join("dir/file"), noise(200_000, 2)).expect("written");
    let (backup, _) = bench.back_up();
    let mut tree = super::plan::read_tree(&bench.repository, &backup.record.tree).expect("the root");
    let first = loop {
        tree = match &tree.nodes[0].kind {
            NodeKind::Dir { subtree } => super::plan::read_tree(&bench.repository, subtree).expect("a tree"),
            NodeKind::File { content, .. } => break content[0],
            other => panic!("{other:?}"),
        };
    };
    let location = bench.repository.locate(BlobKind::Data, &first).expect("there");
    let pack = crate::engine::repository::pack_path(&location.pack);
    let good = bench.store.get(&pack, u64::MAX).expect("there");
    let mut bad = good.to_vec();
    bad[location.blob.offset as usize + 50_000] ^= 1;
    let expect_failure = || {
        let error = bench
            .try_restore(&backup, Onto::Empty, &[])
            .expect_err("the data are not there")
            .to_string();
        assert!(error.contains("target/dir/file"), "{error}");
        let restored = bench.target().join("dir/file");
        let written = fs::read(&restored).unwrap_or_default();
        assert!(
            written.iter().all(|byte| *byte == 0),
            "not a wrong byte is written"
        );
        fs::remove_dir_all(bench.target()).expect("removed");
    };
    bench.store.put(&pack, bad.into()).expect("put");
    expect_failure();
    bench.store.put(&pack, good.slice(..good.len() / 2)).expect("put");
    expect_failure();
    bench.store.delete(&pack).expect("deleted");
    expect_failure();
    bench.store.put(&pack, good).expect("put");
    bench.restore(&backup);
}

fn forged_node(name: &str, kind: NodeKind) -> Node {
    let time = FileTime { secs: 1, nanos: 0 };
    Node {
        name: name.into(),
        kind,
        mode: 0o755,
        mtime: time,
        atime: time,
        ctime: time,
        uid: 0,
        gid: 0,
        user: String::new(),
        group: String::new(),
        inode: 5,
        device_id: 1,
        links: 2,
        xattrs: Vec::new(),
    }
}

#[test]
fn trees_that_lie_harm_nothing() {
    let bench = Bench::new();
    let file = |size, text: &[u8]| NodeKind::File {
        size,
        content: vec![Id::of(text)],
    };
    // A size that its chunks do not have; a chunk that is not there; a tree that is not there.
    for (kind, why) in [
        (file(8, b"content"), "is said to have 8 bytes"),
        (file(7, b"absent!"), "is missing from the repository"),
        (
            NodeKind::Dir { subtree: Id([3; 32]) },
            "is missing from the repository",
        ),
    ] {
        let nodes = vec![forged_node("bad", kind)];
        let backup = bench.forged(&Tree { nodes });
        let error = bench
            .try_restore(&backup, Onto::Empty, &[])
            .expect_err(why)
            .to_string();
        assert!(error.contains(why) && error.contains("target/bad"), "{error}");
        fs::remove_dir_all(bench.target()).expect("removed");
    }
    // The same inode with other content stays another file.
    let target = OsStr::new("elsewhere").to_owned();
    let nodes = vec![
        forged_node("a", file(7, b"content")),
        forged_node("b", NodeKind::Symlink { target }),
        forged_node("c", file(7, b"content")),
    ];
    let backup = bench.forged(&Tree { nodes });
    bench.restore(&backup);
    let about = |name: &str| fs::symlink_metadata(bench.target().join(name)).expect("there");
    assert_eq!(about("a").ino(), about("c").ino());
    assert!(about("b").is_symlink());
    // What no filesystem here has is left out under all its names; the second was once looked for in vain.
    let nodes = vec![
        forged_node("a", NodeKind::Irregular),
        forged_node("b", NodeKind::Irregular),
    ];
    let backup = bench.forged(&Tree { nodes });
    let report = bench.restore(&backup);
    assert_eq!((report.left_out, report.hard_links), (2, 0));
    // A name with a way in it never becomes one.
    let nodes = vec![forged_node("../outside", file(7, b"content"))];
    let backup = bench.forged(&Tree { nodes });
    fs::remove_dir_all(bench.target()).expect("removed");
    let error = bench
        .try_restore(&backup, Onto::Empty, &[])
        .expect_err("no name")
        .to_string();
    assert!(error.contains("no name of a directory entry"), "{error}");
    assert!(!bench.dir.path().join("outside").exists());
}

#[test]
fn files_that_change_while_they_are_read_are_read_to_a_consistent_end() {
    let bench = Bench::new();
    let source = bench.source();
    let stop = AtomicBool::new(false);
    let backups: Vec<Backup> = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::create(source.join("moving")).expect("made");
            let mut round = 0_u64;
            while !stop.load(Relaxed) {
                round += 1;
                file.set_len(round * 7_777_777 % (6 << 20)).expect("cut");
                std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], round * 333_333 % (8 << 20))
                    .expect("written");
                let brief = source.join(format!("brief-{round}"));
                fs::write(&brief, "x").expect("written");
                fs::remove_file(brief).expect("removed");
            }
        });
        let backups = (0..15).map(|_| bench.back_up().0).collect();
        stop.store(true, Relaxed);
        backups
    });
    for backup in &backups {
        bench.restore(backup);
    }
}

#[test]
fn what_is_mounted_in_it_is_not_entered() {
    let Some(fs) = TestFs::new(FsKind::Tmpfs) else {
        return;
    };
    let bench = Bench::new();
    let inside = bench.source().join("inside");
    fs::create_dir(&inside).expect("made");
    fs::write(fs.path().join("secret"), "x").expect("written");
    sh(&format!("mount --bind {:?} {inside:?}", fs.path()));
    let result = bench.try_back_up(&bench.source(), &Arc::default());
    sh(&format!("umount {inside:?}"));
    let (report, counts) = result.expect("backed up");
    assert_eq!((counts.mount_points, counts.files_new), (1, 0));
    bench.restore(&report.backup);
    assert_eq!(
        fs::read_dir(bench.target().join("inside"))
            .expect("a directory")
            .count(),
        0
    );
}

#[test]
fn depth_and_width_are_no_limit() {
    const DEPTH: usize = 1_200;
    let bench = Bench::new();
    let script = format!(
        "import os\nos.chdir({:?})\nfor n in range({DEPTH}):\n os.mkdir('d')\n os.chdir('d')\nopen('f', 'w').write('deep')\n",
        bench.source()
    );
    if !has_program("python3") {
        return;
    }
    sh(&format!("python3 -c {}", shell_word(&script)));
    for n in 0..3_000 {
        fs::write(
            bench.source().join(format!("{n}")),
            if n % 3 == 0 { "" } else { "x" },
        )
        .expect("written");
    }
    let (backup, counts) = bench.back_up();
    assert_eq!((counts.directories, counts.files_new), (DEPTH as u64 + 1, 3_001));
    let report = bench.restore(&backup);
    assert_eq!((report.directories, report.files), (DEPTH as u64 + 1, 3_001));
    crate::sys::tree::remove_tree(bench.source()).expect("removed");
    crate::sys::tree::remove_tree(bench.target()).expect("removed");
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
fn a_cancelled_backup_and_restore_end_at_once() {
    let bench = Bench::new();
    fs::write(bench.source().join("f"), "x").expect("written");
    let progress = Arc::new(Progress::default());
    progress.cancel();
    let error = bench
        .try_back_up(&bench.source(), &progress)
        .expect_err("cancelled");
    assert!(matches!(error, EngineError::Cancelled), "{error}");
    let (backup, _) = bench.back_up();
    let target = bench.target();
    let restore = TreeRestore {
        target: &target,
        onto: Onto::Empty,
        paths: &[],
    };
    let error = super::tree::tree(&bench.repository, &backup, &restore, &progress).expect_err("cancelled");
    assert!(matches!(error, EngineError::Cancelled), "{error}");
}

/// What happens to a tree between two backups, by numbers that proptest chooses.
fn disturb(root: &Path, (action, place, amount): (u8, u8, u32)) {
    let name = format!("{}", place % 12);
    let path = match place % 3 {
        0 => root.join(&name),
        1 => root.join("d1").join(&name),
        _ => root.join("d1/d2").join(OsStr::from_bytes(&[0xff, place | 0x80])),
    };
    fs::create_dir_all(path.parent().expect("below")).expect("made");
    let gone = |path: &Path| {
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).expect("removed");
        } else if path.symlink_metadata().is_ok() {
            fs::remove_file(path).expect("removed");
        }
    };
    match action % 9 {
        0 => gone(&path),
        1 => {
            gone(&path);
            fs::write(&path, noise(amount as usize % 700_000, amount.into())).expect("written");
        }
        2 => {
            gone(&path);
            let file = fs::File::create(&path).expect("made");
            std::os::unix::fs::FileExt::write_all_at(&file, &noise(5_000, 3), u64::from(amount))
                .expect("written");
        }
        3 => {
            gone(&path);
            std::os::unix::fs::symlink(format!("to-{amount}"), &path).expect("linked");
        }
        4 => {
            gone(&path);
            fs::create_dir(&path).expect("made");
            fs::write(path.join("in"), amount.to_string()).expect("written");
        }
        5 if path.is_file() => {
            use std::io::Write;
            let mut file = fs::File::options().append(true).open(&path).expect("opened");
            file.write_all(&noise(amount as usize % 100_000, 9))
                .expect("written");
        }
        6 => {
            let other = root.join("linked");
            gone(&other);
            if path.is_file() && !path.is_symlink() {
                fs::hard_link(&path, other).expect("linked");
            }
        }
        7 if path.symlink_metadata().is_ok() && !path.is_symlink() => {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(amount & 0o7777)).expect("set");
            let _ = xattr::set(&path, format!("user.{}", amount % 3), &amount.to_le_bytes());
        }
        _ => {
            gone(&path);
            sh(&format!("mkfifo {path:?} 2>/dev/null || true"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn generations_come_back_as_they_were(
        generations in prop::collection::vec(prop::collection::vec(any::<(u8, u8, u32)>(), 1..14), 3),
    ) {
        if !ready() {
            return Ok(());
        }
        let bench = Bench::new();
        let mut backups = Vec::new();
        for (n, changes) in generations.iter().enumerate() {
            changes.iter().for_each(|change| disturb(&bench.source(), (change.0, change.1, change.2 % 20_000_000)));
            backups.push(bench.back_up().0);
            // Over what the generation before left.
            let onto = if n == 0 { Onto::Empty } else { Onto::Existing { remove_others: true } };
            bench.try_restore(&backups[n], onto, &[]).expect("restored");
            prop_assert_eq!(bench.differences(), "");
        }
        let last = bench.dir.path().join("last");
        fs::rename(bench.source(), &last).expect("moved");
        for backup in &backups {
            bench.restore(backup);
            fs::rename(bench.target(), bench.source()).expect("moved");
            let (again, _) = bench.back_up();
            bench.restore(&again);
            prop_assert_eq!(bench.differences(), "");
            fs::remove_dir_all(bench.source()).expect("removed");
        }
        bench.restore(&backups[backups.len() - 1]);
        prop_assert_eq!(differences(&last, &bench.target()), "");
    }
}
