//! One pass: what a clone keeps, and what it says of the rest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{assert_same, make_everything, ready, sh};
use crate::sys::SysError;
use crate::sys::mount;
use crate::sys::testing::{Kind, TestFs, root_with_mounts};
use crate::sys::tree::{Consistency, How, Monitor, Note, Totals, clone_tree, disk_usage};

/// Counts, and cancels once so many bytes were seen.
#[derive(Default)]
struct Counter {
    entries: AtomicU64,
    bytes: AtomicU64,
    cancel_at_bytes: Option<u64>,
}

impl Monitor for Counter {
    fn progress(&self, entries: u64, bytes: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.cancel_at_bytes
            .is_some_and(|limit| self.bytes.load(Ordering::Relaxed) >= limit)
    }
}

#[test]
fn everything_is_kept_on_every_filesystem() {
    if !ready() {
        return;
    }
    let cases = [
        (Kind::Xfs, How::Reflink),
        (Kind::Btrfs, How::Reflink),
        (Kind::Xfs, How::Copy),
        (Kind::Ext4, How::Copy),
        (Kind::Btrfs, How::Copy),
    ];
    for (kind, how) in cases {
        let Some(fs) = TestFs::new(kind) else { return };
        let (source, target) = (fs.path().join("v"), fs.path().join("clone"));
        make_everything(&source);
        let counter = Counter::default();
        let report =
            clone_tree(&source, &target, how, &counter).unwrap_or_else(|e| panic!("{kind:?} {how:?} {e:?}"));
        assert_same(&source, &target);
        assert_eq!(report.consistency, Consistency::PerFile);
        assert_eq!(
            (report.notes.len(), report.notes_total),
            (0, 0),
            "{:?}",
            report.notes
        );
        let expected = Totals {
            files: 13,
            directories: 7,
            symlinks: 4,
            others: 5,
            hard_links: 4,
            bytes: 300_000 + 1 + (50 << 20) + 100_000 + 10,
        };
        assert_eq!(report.totals, expected, "{kind:?} {how:?}");
        assert_eq!(counter.entries.load(Ordering::Relaxed), 13 + 7 + 4 + 5);
        // Holes stay holes.
        let sparse = fs::metadata(target.join("sparse")).expect("there");
        assert!(
            sparse.blocks() * 512 < 1 << 20,
            "{kind:?} {how:?}: {} blocks",
            sparse.blocks()
        );
    }
}

#[test]
fn copy_reaches_another_filesystem() {
    if !ready() {
        return;
    }
    let (Some(from), Some(to)) = (TestFs::new(Kind::Ext4), TestFs::new(Kind::Xfs)) else {
        return;
    };
    let source = from.path().join("v");
    make_everything(&source);
    clone_tree(&source, to.path().join("clone"), How::Copy, &()).expect("cloned");
    assert_same(&source, &to.path().join("clone"));
    let error = clone_tree(&source, to.path().join("other"), How::Reflink, &()).expect_err("two filesystems");
    assert_eq!(error.errno(), Some(libc::EXDEV), "{error:?}");
    let error = clone_tree(&source, from.path().join("other"), How::Reflink, &()).expect_err("ext4 has none");
    assert!(error.is_unsupported(), "{error:?}");
}

#[test]
fn reflinks_take_no_space() {
    for kind in [Kind::Xfs, Kind::Btrfs] {
        let Some(fs) = TestFs::new(kind) else { return };
        let source = fs.path().join("v");
        fs::create_dir(&source).expect("a directory");
        fs::write(source.join("big"), vec![3u8; 150 << 20]).expect("written");
        crate::sys::durable::sync_filesystem(&source).expect("synced");
        for n in 0..4 {
            // More than the filesystem could hold.
            clone_tree(&source, fs.path().join(format!("clone{n}")), How::Reflink, &()).expect("cloned");
        }
        assert_eq!(
            fs::read(fs.path().join("clone3/big")).expect("read"),
            vec![3u8; 150 << 20]
        );
    }
}

#[test]
fn files_without_copy_on_write_are_shared_too() {
    let Some(fs) = TestFs::new(Kind::Btrfs) else {
        return;
    };
    let source = fs.path().join("v");
    fs::create_dir(&source).expect("a directory");
    sh(&format!(
        "cd {}; touch f; chattr +C f; head -c 100000 /dev/urandom > f; mkdir d; chattr +C d",
        source.display()
    ));
    let report = clone_tree(&source, fs.path().join("clone"), How::Reflink, &()).expect("cloned");
    assert_eq!(report.notes, []);
    let flags = |dir: &Path| sh(&format!("cd {}; lsattr -d f d; sha256sum f", dir.display()));
    assert_eq!(flags(&source), flags(&fs.path().join("clone")));
    assert!(
        flags(&source).lines().take(2).all(|line| line.contains('C')),
        "{}",
        flags(&source)
    );
}

#[test]
fn what_the_target_inherits_from_above_is_not_left_on_the_clone() {
    let Some(fs) = TestFs::new(Kind::Xfs) else { return };
    if !ready() {
        return;
    }
    let (source, above) = (fs.path().join("v"), fs.path().join("above"));
    fs::create_dir_all(source.join("d/e")).expect("directories");
    fs::write(source.join("d/f"), "x").expect("written");
    fs::create_dir(&above).expect("a directory");
    sh(&format!(
        "cd {}; mkfifo d/p; ln -s x d/l; setfacl -d -m u:1234:rwx {}",
        source.display(),
        above.display()
    ));
    clone_tree(&source, above.join("clone"), How::Reflink, &()).expect("cloned");
    assert_same(&source, &above.join("clone"));
}

#[test]
fn attributes_that_the_target_cannot_have_are_noted() {
    let Some(fs) = TestFs::new(Kind::Ext4) else { return };
    if !ready() {
        return;
    }
    let (source, ram) = (fs.path().join("v"), fs.path().join("ram"));
    fs::create_dir(&source).expect("a directory");
    fs::create_dir(&ram).expect("a directory");
    sh(&format!(
        "cd {}; echo hi > f; setfattr -n user.color -v blue f",
        source.display()
    ));
    mount::mount("none", &ram, "ramfs", "").expect("ramfs has no attributes");
    let report = clone_tree(&source, ram.join("clone"), How::Copy, &()).expect("cloned");
    let expected = Note::AttributeRefused {
        path: source.join("f"),
        name: "user.color".into(),
    };
    assert_eq!(report.notes, [expected]);
    assert_eq!(fs::read(ram.join("clone/f")).expect("read"), b"hi\n");
}

#[test]
fn mount_points_are_places_and_nothing_more() {
    let Some(fs) = TestFs::new(Kind::Ext4) else { return };
    let source = fs.path().join("v");
    fs::create_dir_all(source.join("mnt/d")).expect("directories");
    fs::create_dir_all(source.join("bound/d")).expect("directories");
    fs::write(source.join("f"), "x").expect("written");
    mount::mount("none", source.join("mnt"), "tmpfs", "size=1m").expect("mounted");
    // A bind of the same filesystem has the same device; only the mount tells.
    fs::create_dir(fs.path().join("outside")).expect("a directory");
    fs::write(fs.path().join("outside/secret"), "x").expect("written");
    mount::bind(
        fs.path().join("outside"),
        source.join("bound"),
        mount::Access::ReadWrite,
    )
    .expect("bound");
    mount::bind(
        fs.path().join("outside/secret"),
        source.join("f"),
        mount::Access::ReadWrite,
    )
    .expect("bound");
    let report = clone_tree(&source, fs.path().join("clone"), How::Copy, &()).expect("cloned");
    assert_eq!(report.notes_total, 3, "{:?}", report.notes);
    assert!(
        report.notes.contains(&Note::MountPointSkipped {
            path: source.join("bound")
        }),
        "{:?}",
        report.notes
    );
    assert_eq!(
        sh(&format!(
            "cd {}/clone; find . -printf '%P %y %s\\n' | sort",
            fs.path().display()
        ))
        .trim(),
        {
            let listing = sh(&format!(
                "cd {}/clone; stat -c %s . bound mnt",
                fs.path().display()
            ));
            let sizes: Vec<_> = listing.lines().collect();
            format!("d {}\nbound d {}\nf f 0\nmnt d {}", sizes[0], sizes[1], sizes[2])
        }
    );
    let usage = disk_usage(&source, &()).expect("measured");
    assert_eq!((usage.files, usage.directories), (0, 1));
}

#[test]
fn subvolumes_become_directories() {
    let Some(fs) = TestFs::new(Kind::Btrfs) else {
        return;
    };
    let source = fs.path().join("v");
    crate::sys::btrfs::create(&source).expect("created");
    crate::sys::btrfs::create(source.join("inner")).expect("created");
    fs::write(source.join("inner/f"), vec![9; 100_000]).expect("written");
    let report = clone_tree(&source, fs.path().join("clone"), How::Reflink, &()).expect("cloned");
    assert_eq!(
        (report.notes_total, report.totals.files, report.totals.directories),
        (0, 1, 2)
    );
    assert_eq!(
        fs::read(fs.path().join("clone/inner/f")).expect("read"),
        vec![9; 100_000]
    );
    assert!(!crate::sys::btrfs::is_subvolume(fs.path().join("clone/inner")).expect("known"));
}

#[test]
fn source_is_not_disturbed() {
    let Some(fs) = TestFs::new(Kind::Ext4) else { return };
    let source = fs.path().join("v");
    fs::create_dir_all(source.join("d")).expect("directories");
    fs::write(source.join("d/f"), "x").expect("written");
    sh(&format!(
        "cd {}; touch -ad '2001-01-01' d d/f .; mount -o remount,strictatime {}",
        source.display(),
        fs.path().display()
    ));
    let times = || {
        sh(&format!(
            "cd {}; find . -printf '%P %A@ %C@ %T@\\n'",
            source.display()
        ))
    };
    let before = times();
    clone_tree(&source, fs.path().join("clone"), How::Copy, &()).expect("cloned");
    // find itself reads directories, so only the file's access time can be held against before.
    let file = |times: &str| {
        times
            .lines()
            .find(|line| line.starts_with("d/f "))
            .map(str::to_owned)
    };
    assert_eq!(file(&before), file(&times()));
}

#[test]
fn unfit_targets_and_sources_are_refused() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("v/d")).expect("directories");
    fs::create_dir_all(at("full/d")).expect("directories");
    fs::create_dir(at("empty")).expect("a directory");
    std::os::unix::fs::symlink("v", at("link")).expect("a link");
    let refuse = |source: &str, target: &str| {
        clone_tree(at(source), at(target), How::Copy, &())
            .expect_err("refused")
            .to_string()
    };
    assert!(refuse("v", "full").contains("not empty"));
    assert!(refuse("v", "v/d/clone").contains("the place that the clone goes to"));
    assert!(refuse("link", "other").contains("link"));
    assert!(refuse("absent", "other2").contains("absent"));
    assert!(
        refuse("v", "link").contains("link"),
        "a link as the target is not followed"
    );
    clone_tree(at("v"), at("empty"), How::Copy, &()).expect("an empty directory will do");
}

/// Looks at the target's root while its first file is being made.
struct Peek(std::path::PathBuf, AtomicU64);

impl Monitor for Peek {
    fn progress(&self, _entries: u64, bytes: u64) {
        if bytes > 0 {
            self.1.store(
                fs::metadata(&self.0).expect("there").mode().into(),
                Ordering::Relaxed,
            );
        }
    }
}

#[test]
fn unfinished_clone_is_closed_to_others() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    fs::create_dir(dir.path().join("v")).expect("a directory");
    fs::write(dir.path().join("v/f"), "for few").expect("written");
    sh(&format!(
        "cd {}; mkdir -m 777 there; chmod 705 v",
        dir.path().display()
    ));
    for name in ["there", "new"] {
        let peek = Peek(dir.path().join(name), AtomicU64::new(0));
        clone_tree(dir.path().join("v"), &peek.0, How::Copy, &peek).expect("cloned");
        assert_eq!(peek.1.load(Ordering::Relaxed) & 0o7777, 0o700);
        assert_eq!(fs::metadata(&peek.0).expect("there").mode() & 0o7777, 0o705);
    }
}

#[test]
fn cancel_ends_it_in_the_middle_of_a_file() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    fs::create_dir(dir.path().join("v")).expect("a directory");
    fs::write(dir.path().join("v/big"), vec![1; 8 << 20]).expect("written");
    let counter = Counter {
        cancel_at_bytes: Some(1 << 20),
        ..Counter::default()
    };
    let error = clone_tree(
        dir.path().join("v"),
        dir.path().join("clone"),
        How::Copy,
        &counter,
    )
    .expect_err("cancelled");
    assert!(matches!(error, SysError::Cancelled { .. }), "{error:?}");
    assert!(counter.bytes.load(Ordering::Relaxed) < 2 << 20);
}

#[test]
fn usage_agrees_with_du() {
    if !ready() || !root_with_mounts() {
        return;
    }
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        let Some(fs) = TestFs::new(kind) else { return };
        let source = fs.path().join("v");
        make_everything(&source);
        crate::sys::durable::sync_filesystem(&source).expect("synced");
        let usage = disk_usage(&source, &()).expect("measured");
        let du = sh(&format!("du -s --block-size=1 {} | cut -f1", source.display()));
        assert_eq!(usage.allocated_bytes.to_string(), du.trim(), "{kind:?}");
        let find = sh(&format!(
            "cd {}; find . -type f -printf '%i %s\\n' | sort -u | awk '{{s+=$2}} END {{print s}}'",
            source.display()
        ));
        assert_eq!(usage.apparent_bytes.to_string(), find.trim());
        assert_eq!((usage.files, usage.directories), (22, 7));
    }
}
