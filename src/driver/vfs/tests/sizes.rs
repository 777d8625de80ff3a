//! Sizes are enforced where the filesystem can, by each kind of quota, and survive every operation.

use super::*;
use crate::driver::Target;
use crate::sys::quota::{self, ProjectId};

/// Writes until the filesystem refuses; how many whole MiB it took.
fn fill(path: &Path) -> (usize, std::io::Error) {
    use std::io::Write;
    let mut file = fs::File::create(path).expect("a file");
    for n in 0..200 {
        if let Err(error) = file
            .write_all(&vec![n as u8; 1 << 20])
            .and_then(|()| file.sync_data())
        {
            return (n, error);
        }
    }
    panic!("nothing was refused");
}

/// The project of a fill's target, which is none but its own; `None` where sizes are not enforced by projects.
fn aside(vfs: &Vfs, target: &Path) -> Option<ProjectId> {
    let Quotas::Projects { path } = &vfs.quotas else {
        return None;
    };
    let project = quota::project_of(target).expect("a project");
    let usage = quota::usage(path, project).expect("usage");
    assert_eq!(usage.limit_bytes, Some(10 << 20));
    Some(project)
}

/// What every kind of quota has to do.
fn sizes_are_enforced(fs: &TestFs) {
    let options = [("defaultvolumesize".to_owned(), "20M".to_owned())].into();
    let vfs = Vfs::open(&fs.path(), &options, None).expect("opened");
    assert!(
        matches!(vfs.capabilities().size, Support::Yes { .. }),
        "{:?}",
        vfs.capabilities()
    );
    let mut create = wish(&vfs, &name("v"));
    create.volume.size = Some(Bytes(10 << 20));
    let volume = vfs.create(&create).expect("created").volume;
    let place = |volume: &Volume| fs.path().join(&volume.name);
    let within = |volume: &Volume, least: usize, most: usize| {
        let (written, error) = fill(&place(volume).join("big"));
        let over = [Some(libc::EDQUOT), Some(libc::ENOSPC)];
        assert!(over.contains(&error.raw_os_error()), "{error}");
        assert!((least..=most).contains(&written), "{written} MiB");
        fs::remove_file(place(volume).join("big")).expect("removed");
        durable::sync_filesystem(fs.path()).expect("synced");
    };
    within(&volume, 8, 10);
    fs::write(place(&volume).join("f"), vec![1; 6 << 20]).expect("written");
    durable::sync_filesystem(fs.path()).expect("synced");
    let usage = vfs.usage(&volume).expect("usage");
    assert!((6 << 20..8 << 20).contains(&usage.used.0), "{usage:?}");
    assert_eq!(usage.limit, Some(Bytes(10 << 20)));
    // The next one is limited by the default, independently of the first.
    let other = make(&vfs, "other");
    assert_eq!(other.size, Some(Bytes(20 << 20)));
    within(&other, 17, 20);
    // The limit goes where the data goes.
    let mut volume = volume;
    if matches!(vfs.capabilities().snapshots, Support::Yes { .. }) {
        volume = vfs.snapshot(&taking(&volume, "s")).expect("a snapshot");
        let snapshot = volume.snapshots[0].clone();
        let mut clone = wish(&vfs, &name("clone"));
        clone.volume.size = Some(Bytes(8 << 20));
        clone.from = Some(CloneOf {
            snapshot: snapshot.clone(),
            volume: volume.clone(),
        });
        let clone = vfs.create(&clone).expect("a clone").volume;
        within(&clone, 1, 2);
        // Both trees together would be above the limit.
        let revert = Revert {
            volume: volume.clone(),
            snapshot,
            id: SnapshotId::random(),
        };
        volume = vfs.revert(&revert).expect("reverted");
        within(&volume, 2, 4);
    }
    // So is what is filled in, beside the data that are there; 6 MiB and 12 would be too much for both.
    let fill = filling(&volume);
    let Target::Tree { path } = vfs.open_target(&fill).expect("a target") else {
        unreachable!("a tree")
    };
    let (written, _) = self::fill(&path.join("big"));
    assert!((8..=10).contains(&written), "{written} MiB");
    // What did not fit is given up; the next one fits.
    let first = aside(&vfs, &path);
    let outcome = vfs.recover(&Operation::Fill(fill)).expect("given up");
    assert_eq!(outcome, Outcome::Undone);
    assert_eq!(
        fs::metadata(place(&volume).join("f")).expect("there").len(),
        6 << 20
    );
    let fill = filling(&volume);
    let Target::Tree { path } = vfs.open_target(&fill).expect("a target") else {
        unreachable!("a tree")
    };
    let second = aside(&vfs, &path);
    fs::write(path.join("f"), vec![2; 6 << 20]).expect("written");
    let volume = vfs.fill(&fill).expect("filled");
    within(&volume, 2, 4);
    for project in [first, second].into_iter().flatten() {
        let usage = quota::usage(fs.path(), project).expect("usage");
        assert_eq!(
            (usage.limit_bytes, usage.used_bytes),
            (None, 0),
            "{project:?} is free again"
        );
    }
    vfs.remove(&removal(&volume, OnRemove::Trash)).expect("removed");
    let volume = vfs
        .undelete(&Undelete {
            id: volume.id,
            name: name("back"),
        })
        .expect("brought back");
    within(&volume, 2, 4);
    // Taken up again with another size.
    vfs.remove(&removal(&volume, OnRemove::Keep)).expect("let go");
    let mut again = wish(&vfs, &name("back"));
    again.volume.size = Some(Bytes(16 << 20));
    let volume = vfs.create(&again).expect("taken up").volume;
    within(&volume, 8, 10);
    vfs.remove(&removal(&volume, OnRemove::Delete)).expect("removed");
    vfs.purge(&Purge {
        id: volume.id,
        name: volume.name,
    })
    .expect("purged");
}

/// Mounts the fresh XFS again with quotas; false where this kernel has none.
fn turn_on_quotas(fs: &TestFs) -> bool {
    crate::sys::mount::unmount(fs.path()).expect("unmounted");
    let mut mount = std::process::Command::new("mount");
    mount
        .args(["-o", "loop,prjquota"])
        .arg(fs.path().with_file_name("image"))
        .arg(fs.path());
    mount.output().expect("mount(8) runs").status.success()
}

#[test]
fn project_quotas_enforce_sizes_where_they_are_on() {
    // ext4 does not hold root to limits, so XFS it is.
    let Some(fs) = TestFs::new(Kind::Xfs) else { return };
    if turn_on_quotas(&fs) {
        sizes_are_enforced(&fs);
        return;
    }
    // Not every kernel has them: then in the guest, as the tests of sys::quota do.
    const IN_GUEST: &str = "WINDLASS_IN_GUEST";
    assert!(std::env::var_os(IN_GUEST).is_none(), "the guest has quotas");
    let program = std::env::current_exe().expect("this program");
    // The harness leaves the crate's name out.
    let name = concat!(module_path!(), "::project_quotas_enforce_sizes_where_they_are_on");
    let name = name.split_once("::").expect("a crate and a path").1;
    let output = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/run"))
        .args(["-t", "300", "-s"])
        .arg(program.parent().expect("a directory"))
        .arg("--")
        .arg(format!("{} --exact {name} --nocapture", program.display()))
        .env(IN_GUEST, "1")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .expect("the guest starts");
    if output.status.code() == Some(125) && std::env::var_os("CI").is_none() {
        crate::sys::testing::skip("no quotas in this kernel, and no guest with another");
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn btrfs_quotas_enforce_sizes_where_they_are_on() {
    let Some(fs) = TestFs::new(Kind::Btrfs) else {
        return;
    };
    match open(&fs.path()).capabilities().size {
        Support::No { because } => assert!(because.contains("btrfs quota enable"), "{because}"),
        yes => panic!("{yes:?}"),
    }
    crate::sys::btrfs::enable_quota(fs.path()).expect("enabled");
    sizes_are_enforced(&fs);
    // A plain directory cannot be limited.
    let vfs = open(&fs.path());
    fs::create_dir(fs.path().join("plain")).expect("a directory");
    let mut create = wish(&vfs, &name("plain"));
    (create.adopt, create.volume.size) = (true, Some(Bytes(1 << 20)));
    refused(vfs.create(&create), "plain directory");
}
