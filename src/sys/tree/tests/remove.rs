//! Removing trees, and trees of unusual shape.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{make_everything, ready, sh};
use crate::sys::testing::{Kind, TestFs};
use crate::sys::tree::{How, clone_tree, clone_tree_stable, disk_usage, remove_tree};
use crate::sys::{SysError, btrfs, mount};

#[test]
fn everything_goes_and_nothing_that_links_lead_to() {
    if !ready() {
        return;
    }
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        let Some(fs) = TestFs::new(kind) else { return };
        let at = |name: &str| fs.path().join(name);
        make_everything(&at("v"));
        fs::create_dir(at("kept")).expect("a directory");
        fs::write(at("kept/f"), "x").expect("written");
        symlink(at("kept"), at("v/to-kept")).expect("a link");
        symlink("../kept/f", at("v/to-file")).expect("a link");
        remove_tree(at("v")).expect("removed");
        assert!(fs::symlink_metadata(at("v")).is_err());
        assert_eq!(fs::read(at("kept/f")).expect("kept"), b"x");
        remove_tree(at("v")).expect("absent is fine");
        remove_tree(at("absent/v")).expect("absent is fine");
        symlink("kept", at("link")).expect("a link");
        remove_tree(at("link")).expect("the link itself");
        assert!(fs::symlink_metadata(at("link")).is_err() && at("kept/f").exists());
    }
}

#[test]
fn mount_points_stop_it() {
    let Some(fs) = TestFs::new(Kind::Ext4) else { return };
    let at = |name: &str| fs.path().join(name);
    fs::create_dir_all(at("v/a/mnt")).expect("directories");
    fs::create_dir(at("outside")).expect("a directory");
    fs::write(at("outside/f"), "precious").expect("written");
    mount::bind(at("outside"), at("v/a/mnt"), mount::Access::ReadWrite).expect("bound");
    match remove_tree(at("v")) {
        Err(SysError::MountPoint { path, .. }) => assert_eq!(path, at("v/a/mnt")),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(matches!(
        remove_tree(at("v/a/mnt")),
        Err(SysError::MountPoint { .. })
    ));
    assert_eq!(fs::read(at("outside/f")).expect("kept"), b"precious");
    mount::unmount(at("v/a/mnt")).expect("unmounted");
    fs::write(at("v/file"), "").expect("written");
    mount::bind(at("outside/f"), at("v/file"), mount::Access::ReadWrite).expect("bound");
    assert!(matches!(remove_tree(at("v")), Err(SysError::MountPoint { .. })));
    mount::unmount(at("v/file")).expect("unmounted");
    remove_tree(at("v")).expect("removed");
}

#[test]
fn immutable_files_are_an_error_with_their_name() {
    let Some(fs) = TestFs::new(Kind::Ext4) else { return };
    let path = fs.path().join("v/d/f");
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(&path, "x").expect("written");
    sh(&format!("chattr +i {}", path.display()));
    match remove_tree(fs.path().join("v")) {
        Err(SysError::Io {
            path: named, source, ..
        }) => {
            assert_eq!((named, source.raw_os_error()), (path.clone(), Some(libc::EPERM)));
        }
        other => panic!("expected an error, got {other:?}"),
    }
    sh(&format!("chattr -i {}", path.display()));
}

#[test]
fn subvolumes_inside_are_deleted_read_only_ones_too() {
    let Some(fs) = TestFs::new(Kind::Btrfs) else {
        return;
    };
    let at = |name: &str| fs.path().join(name);
    fs::create_dir_all(at("v/d")).expect("directories");
    btrfs::create(at("v/d/sub")).expect("created");
    fs::write(at("v/d/sub/f"), "x").expect("written");
    btrfs::create(at("v/d/sub/nested")).expect("created");
    btrfs::snapshot(at("v/d/sub"), at("v/frozen"), mount::Access::ReadOnly).expect("snapshot");
    remove_tree(at("v")).expect("removed");
    assert_eq!(
        sh(&format!(
            "btrfs subvolume list -o {}; ls {0}",
            fs.path().display()
        )),
        ""
    );
    btrfs::create(at("alone")).expect("created");
    remove_tree(at("alone")).expect("a subvolume itself");
}

/// Deeper than a process has descriptors, and longer than a path may be.
fn make_deep(dir: &Path, depth: u32) {
    fs::create_dir_all(dir).expect("a directory");
    let script = "import os,sys\nos.chdir(sys.argv[1])\nname='directory'\nfor n in range(int(sys.argv[2])):\n    \
        os.mkdir(name); os.chdir(name)\n    open('f','w').write(str(n))\n    os.path.exists('h') or os.link('f','h')\n";
    let status = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(dir)
        .arg(depth.to_string())
        .status();
    assert!(status.expect("python3 runs").success());
}

#[test]
fn depth_is_no_limit() {
    if !ready() {
        return;
    }
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (source, target) = (dir.path().join("v"), dir.path().join("clone"));
    make_deep(&source, 1100);
    let report = clone_tree(&source, &target, How::Copy, &()).expect("cloned");
    assert_eq!(
        (
            report.totals.directories,
            report.totals.files,
            report.totals.hard_links
        ),
        (1101, 2200, 1100)
    );
    let usage = disk_usage(&target, &()).expect("measured");
    assert_eq!(usage, disk_usage(&source, &()).expect("measured"));
    super::settle();
    remove_tree(&target).expect("removed");
    let report = clone_tree_stable(&source, &target, How::Copy, 3, &()).expect("cloned");
    assert_eq!(report.passes, 2);
    remove_tree(&source).expect("removed");
    remove_tree(&target).expect("removed");
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[test]
fn wide_directories_are_no_limit() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let source = dir.path().join("v");
    fs::create_dir(&source).expect("a directory");
    for n in 0..5_000 {
        fs::write(source.join(format!("file-with-a-name-{n}")), "").expect("written");
    }
    let report = clone_tree(&source, dir.path().join("clone"), How::Copy, &()).expect("cloned");
    assert_eq!(report.totals.files, 5_000);
    remove_tree(&source).expect("removed");
    assert!(!source.exists());
}
