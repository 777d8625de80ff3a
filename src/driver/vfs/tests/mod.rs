//! The driver on real filesystems: the conformance suite, and what only this driver can do or suffer.

mod fill;
mod sizes;

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::driver::conformance::{self, Fixture, filling, removal, taking, wish};
use crate::driver::{CloneOf, Origin};
use crate::model::{Name, RootDirectory, SnapshotId, VolumeId};
use crate::sys::testing::{Kind, TestFs};

const PATH: &str = "WINDLASS_TEST_VFS_PATH";

fn open(path: &Path) -> Vfs {
    Vfs::open(path, &DriverOptions::new(), None).expect("opened")
}

fn name(text: &str) -> Name {
    Name::volume(text).expect("a valid name")
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Mount points, cleared whatever happened.
struct Targets(tempfile::TempDir);

impl Drop for Targets {
    fn drop(&mut self) {
        crate::sys::testing::detach_all(self.0.path());
    }
}

fn fixture(path: PathBuf, guard: Box<dyn std::any::Any>) -> Fixture {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let at = |path: &PathBuf| path.clone();
    let (opened, foreign, leftovers) = (at(&path), at(&path), at(&path));
    let environment = vec![(PATH.to_owned(), path.display().to_string())];
    Fixture {
        open: Box::new(move || Box::new(open(&opened))),
        scratch: scratch.path().to_owned(),
        child: ("driver::vfs::tests::child", environment),
        foreign: Some(Box::new(move |name| {
            let dir = foreign.join(name);
            fs::create_dir(&dir).expect("a foreign directory");
            fs::write(dir.join("foreign"), "").expect("written");
        })),
        leftovers: Box::new(move || {
            let private = leftovers.join(".windlass");
            let mut left = names(&private.join("staging"));
            let volumes = names(&private.join("volumes"));
            // Every directory but foreign ones has a record, and every record a directory.
            let kept = names(&private.join("kept"));
            left.extend(names(&leftovers).into_iter().filter(|name| {
                ![".windlass", "lost+found"].contains(&name.as_str())
                    && !volumes.contains(name)
                    && !kept.contains(name)
                    && !leftovers.join(name).join("foreign").exists()
            }));
            left.extend(
                volumes
                    .into_iter()
                    .filter(|name| !durable::is_temporary(name.as_ref()) && !leftovers.join(name).is_dir()),
            );
            left.extend(names(&private.join("trash")).into_iter().filter(|id| {
                let can = private.join("trash").join(id);
                !(can.join("record").is_file() && can.join("data").is_dir())
            }));
            left
        }),
        _guard: Box::new((Targets(scratch), guard)),
    }
}

/// Acts only as a child of the suite.
#[test]
fn child() {
    conformance::child(|| Box::new(open(Path::new(&std::env::var_os(PATH).expect("a path")))));
}

fn conforms_on(kind: Kind) {
    let Some(fs) = TestFs::new(kind) else { return };
    let fs = std::cell::Cell::new(Some(fs));
    conformance::suite(|| {
        let fs = fs.take().expect("the suite makes one fixture");
        fixture(fs.path(), Box::new(fs))
    });
}

#[test]
fn conforms_on_ext4() {
    conforms_on(Kind::Ext4);
}

#[test]
fn conforms_on_tmpfs() {
    conforms_on(Kind::Tmpfs);
}

#[test]
fn conforms_on_btrfs() {
    conforms_on(Kind::Btrfs);
}

#[test]
fn conforms_on_xfs() {
    conforms_on(Kind::Xfs);
}

/// The driver on a scratch directory of whatever filesystem the machine has.
struct Scratch {
    dir: tempfile::TempDir,
    vfs: Vfs,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let vfs = open(&dir.path().join("volumes"));
        Self { dir, vfs }
    }

    fn path(&self) -> PathBuf {
        self.vfs.path().to_owned()
    }

    fn private(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.path().join(".windlass").join(inside)
    }

    fn make(&self, volume: &str) -> Volume {
        make(&self.vfs, volume)
    }
}

fn make(vfs: &Vfs, volume: &str) -> Volume {
    vfs.create(&wish(vfs, &name(volume))).expect("created").volume
}

fn refused<T: std::fmt::Debug>(result: Result<T>, word: &str) -> DriverError {
    let error = result.expect_err("refused");
    assert!(error.to_string().contains(word), "{error}");
    error
}

#[test]
fn an_expected_store_that_is_not_there_is_never_made_anew() {
    let scratch = Scratch::new();
    let store = scratch.vfs.store_id();
    let options = DriverOptions::new();
    Vfs::open(&scratch.path(), &options, Some(store)).expect("the same store");
    assert_eq!(open(&scratch.path()).store_id(), store, "found, not made");

    let empty = scratch.dir.path().join("empty");
    for path in [&empty, &scratch.dir.path().join("empty/below")] {
        let error = Vfs::open(path, &options, Some(store)).expect_err("not there");
        assert!(matches!(error, DriverError::Unavailable { .. }), "{error:?}");
        assert!(
            error.to_string().contains("perhaps not mounted")
                && error.to_string().contains(&store.to_string())
        );
        assert!(!path.join(".windlass").exists());
        fs::create_dir_all(&empty).expect("a directory");
    }
    let other = open(&scratch.dir.path().join("other"));
    let error = Vfs::open(other.path(), &options, Some(store)).expect_err("another store");
    assert!(matches!(error, DriverError::Unavailable { .. }), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains(&store.to_string()) && said.contains(&other.store_id().to_string()),
        "{said}"
    );
}

#[test]
fn a_store_that_vanishes_makes_nothing_look_absent() {
    let scratch = Scratch::new();
    let volume = scratch.make("v");
    let create = wish(&scratch.vfs, &name("new"));
    fs::rename(scratch.private(""), scratch.dir.path().join("unmounted")).expect("moved away");
    let vfs = &scratch.vfs;
    let unavailable =
        |error: DriverError| assert!(matches!(error, DriverError::Unavailable { .. }), "{error:?}");
    unavailable(vfs.volumes().expect_err("not there"));
    unavailable(vfs.volume(&volume.name).expect_err("not there"));
    unavailable(vfs.trash().expect_err("not there"));
    unavailable(vfs.generation().expect_err("not there"));
    unavailable(vfs.create(&create).expect_err("not there"));
    unavailable(vfs.recover(&Operation::Create(create)).expect_err("not there"));
    unavailable(
        vfs.remove(&removal(&volume, OnRemove::Trash))
            .expect_err("not there"),
    );
    unavailable(vfs.mount(&volume, scratch.dir.path()).expect_err("not there"));
    assert_eq!(names(&scratch.path()), ["v"]);
}

#[test]
fn a_store_of_a_later_format_or_with_a_damaged_marker_is_left_alone() {
    let scratch = Scratch::new();
    let marker = scratch.private("format.json");
    let reopen = || Vfs::open(&scratch.path(), &DriverOptions::new(), None);
    fs::write(&marker, r#"{"format":2,"shape":"unknown"}"#).expect("written");
    refused(reopen(), "format 2");
    fs::write(&marker, "garbage").expect("written");
    assert!(matches!(reopen(), Err(DriverError::Corrupt { .. })));
}

#[test]
fn one_damaged_record_hides_no_other_and_is_never_believed() {
    let scratch = Scratch::new();
    let good = scratch.make("good");
    let text = fs::read_to_string(scratch.private("volumes/good")).expect("a record");
    let put =
        |name: &str, text: &str| fs::write(scratch.private("volumes").join(name), text).expect("written");
    put("garbage", "{");
    put("empty", "");
    put("copy", &text);
    put("escape", &text.replace("\"good\"", "\"../../etc\""));
    put(
        "foreign",
        &text
            .replace("\"good\"", "\"foreign\"")
            .replace("\"vfs\"", "\"devicemapper\""),
    );
    put(".hidden", &text);
    put("huge", &" ".repeat(5 << 20));
    std::os::unix::fs::symlink("good", scratch.private("volumes/link")).expect("a link");
    fs::create_dir(scratch.private("volumes/directory")).expect("a directory");
    nix::unistd::mkfifo(&scratch.private("volumes/pipe"), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    let listing = scratch.vfs.volumes().expect("listed");
    assert_eq!(listing.volumes, [good]);
    let mut damaged: Vec<&str> = listing.damaged.iter().map(|(name, _)| name.as_str()).collect();
    damaged.sort_unstable();
    let expected = [
        ".hidden",
        "copy",
        "directory",
        "empty",
        "escape",
        "foreign",
        "garbage",
        "huge",
        "link",
        "pipe",
    ];
    assert_eq!(damaged, expected);
    for (record, why) in &listing.damaged {
        assert!(
            why.contains(&scratch.private("volumes").join(record).display().to_string()),
            "{why}"
        );
    }
    assert!(scratch.vfs.volume(&name("copy")).is_err());
    assert!(scratch.vfs.create(&wish(&scratch.vfs, &name("garbage"))).is_err());
}

#[test]
fn a_crashed_write_s_temporary_file_is_no_volume_and_goes_in_time() {
    let scratch = Scratch::new();
    let old = scratch.private("volumes/.tmp-67e55044-10b1-426f-9247-bb680e5fe0c8");
    let young = scratch.private("volumes/.tmp-67e55044-10b1-426f-9247-bb680e5fe0c9");
    let file = fs::File::create(&old).expect("a file");
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7_200))
        .expect("aged");
    fs::write(&young, "").expect("a file");
    let listing = open(&scratch.path()).volumes().expect("listed");
    assert_eq!((listing.volumes.len(), listing.damaged.len()), (0, 0));
    assert!(
        !old.exists() && young.exists(),
        "another host may be writing the young one"
    );
}

#[test]
fn the_image_of_a_vm_volume_is_sparse_exact_and_private() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let mut create = wish(&scratch.vfs, &name("vm"));
    create.volume.vm = true;
    refused(scratch.vfs.create(&create), "size");
    assert_eq!(names(&scratch.private("staging")), [""; 0]);
    create.volume.size = Some(Bytes(3 << 30));
    let volume = scratch.vfs.create(&create).expect("created").volume;
    let meta = fs::metadata(scratch.path().join("vm/disk.img")).expect("an image");
    assert_eq!((meta.len(), meta.mode() & 0o7777), (3 << 30, 0o600));
    assert!(meta.blocks() < 100);
    assert_eq!(
        (volume.size, scratch.vfs.usage(&volume).expect("usage").limit),
        (volume.size, Some(Bytes(3 << 30)))
    );
    // Let go and taken up again, its size cannot be another.
    scratch
        .vfs
        .remove(&removal(&volume, OnRemove::Keep))
        .expect("let go");
    let mut again = wish(&scratch.vfs, &name("vm"));
    again.volume.vm = true;
    again.volume.size = Some(Bytes(4 << 30));
    refused(scratch.vfs.create(&again), "3221225472");
    again.volume.size = None;
    assert_eq!(
        scratch.vfs.create(&again).expect("taken up").volume.size,
        volume.size
    );
}

#[test]
fn only_real_directories_are_adopted() {
    let scratch = Scratch::new();
    std::os::unix::fs::symlink("/etc", scratch.path().join("link")).expect("a link");
    fs::write(scratch.path().join("file"), "").expect("a file");
    for odd in ["link", "file"] {
        let mut create = wish(&scratch.vfs, &name(odd));
        assert!(matches!(
            scratch.vfs.create(&create),
            Err(DriverError::AlreadyExists { .. })
        ));
        create.adopt = true;
        refused(scratch.vfs.create(&create), "not a directory");
    }
    if !crate::sys::testing::root_with_mounts() {
        return;
    }
    let place = scratch.path().join("mounted");
    fs::create_dir(&place).expect("a directory");
    crate::sys::mount::mount("none", &place, "tmpfs", "size=1m").expect("mounted");
    let mut create = wish(&scratch.vfs, &name("mounted"));
    create.adopt = true;
    let result = scratch.vfs.create(&create);
    crate::sys::mount::unmount(&place).expect("unmounted");
    refused(result, "is mounted there");
}

#[test]
fn an_adopted_directory_keeps_its_owner_unless_another_is_given() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    for (volume, root, expected) in [
        ("as-is", RootDirectory::default(), (11, 12)),
        (
            "given",
            RootDirectory {
                uid: None,
                gid: Some(99),
                mode: None,
            },
            (11, 99),
        ),
    ] {
        let dir = scratch.path().join(volume);
        fs::create_dir(&dir).expect("a directory");
        std::os::unix::fs::chown(&dir, Some(11), Some(12)).expect("owned");
        let mut create = wish(&scratch.vfs, &name(volume));
        (create.adopt, create.root) = (true, root);
        scratch.vfs.create(&create).expect("adopted");
        let meta = fs::metadata(&dir).expect("there");
        assert_eq!((meta.uid(), meta.gid()), expected);
    }
}

#[test]
fn size_is_refused_where_nothing_enforces_it() {
    let Some(fs) = TestFs::new(Kind::Tmpfs) else {
        return;
    };
    let vfs = open(&fs.path());
    assert!(matches!(vfs.capabilities().size, Support::No { .. }));
    let mut create = wish(&vfs, &name("v"));
    create.volume.size = Some(Bytes(1 << 30));
    let error = refused(vfs.create(&create), "size of volume v");
    assert!(
        matches!(error, DriverError::Unsupported { .. }) && error.to_string().contains("vm=true"),
        "{error}"
    );
    assert_eq!(names(&fs.path()), [".windlass"]);
    // A default size is no promise to anybody.
    let options = [("defaultvolumesize".to_owned(), "1G".to_owned())].into();
    let vfs = Vfs::open(&fs.path(), &options, None).expect("opened");
    assert_eq!(make(&vfs, "v").size, None);
}

#[test]
fn a_volume_whose_directory_was_removed_by_hand_can_still_be_removed() {
    let scratch = Scratch::new();
    let volume = scratch.make("v");
    fs::remove_dir(scratch.path().join("v")).expect("removed");
    refused(scratch.vfs.mount(&volume, scratch.dir.path()), "missing");
    assert!(scratch.vfs.usage(&volume).is_err());
    scratch
        .vfs
        .remove(&removal(&volume, OnRemove::Trash))
        .expect("removed");
    scratch
        .vfs
        .undelete(&Undelete {
            id: volume.id,
            name: volume.name.clone(),
        })
        .expect("brought back, empty");
    // Let go and then removed by hand: the name is free for a new volume.
    scratch
        .vfs
        .remove(&removal(&volume, OnRemove::Keep))
        .expect("let go");
    fs::remove_dir(scratch.path().join("v")).expect("removed");
    let created = scratch
        .vfs
        .create(&wish(&scratch.vfs, &name("v")))
        .expect("created");
    assert_eq!(created.origin, Origin::New);
    assert_eq!(names(&scratch.private("kept")), [""; 0]);
}

#[test]
fn a_name_has_one_winner_among_hosts_that_share_the_path() {
    let scratch = Scratch::new();
    for round in 0..8 {
        let volume = name(&format!("v{round}"));
        let wins: Vec<VolumeId> = std::thread::scope(|scope| {
            let hosts: Vec<_> = (0..8)
                .map(|_| {
                    let (volume, path) = (&volume, scratch.path());
                    scope.spawn(move || {
                        let host = open(&path);
                        match host.create(&wish(&host, volume)) {
                            Ok(created) => Some(created.volume.id),
                            Err(DriverError::AlreadyExists { .. }) => None,
                            Err(error) => panic!("{error}"),
                        }
                    })
                })
                .collect();
            hosts
                .into_iter()
                .filter_map(|host| host.join().expect("no panic"))
                .collect()
        });
        assert_eq!(wins.len(), 1);
        let found = scratch.vfs.volume(&volume).expect("looked up").expect("there");
        assert_eq!(found.id, wins[0]);
        assert!(scratch.path().join(&volume).is_dir());
    }
    assert_eq!(names(&scratch.private("staging")), [""; 0]);
}

#[test]
fn an_undone_create_leaves_a_stranger_s_directory_alone() {
    // Each is what a crash before the rename can find at the name, when somebody else was faster.
    for (mode, stays) in [(0o755, true), (0o1000, false)] {
        let scratch = Scratch::new();
        let create = wish(&scratch.vfs, &name("v"));
        let staging = scratch.private("staging").join(create.volume.id.to_string());
        fs::create_dir_all(staging.join("data")).expect("staged");
        let place = scratch.path().join("v");
        fs::create_dir(&place).expect("a directory");
        fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("permissions");
        let outcome = scratch
            .vfs
            .recover(&Operation::Create(create))
            .expect("recovered");
        assert_eq!(outcome, Outcome::Undone);
        assert_eq!(place.exists(), stays, "{mode:o}");
        assert!(!staging.exists());
    }
    // And nothing of ours was there yet at all.
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("v")).expect("a directory");
    let create = Operation::Create(wish(&scratch.vfs, &name("v")));
    assert_eq!(scratch.vfs.recover(&create).expect("recovered"), Outcome::Undone);
    assert_eq!(scratch.vfs.volume(&name("v")).expect("looked up"), None);
    assert!(scratch.path().join("v").exists());
}

#[test]
fn another_host_s_crashed_removal_is_finished_by_whoever_needs_it() {
    let scratch = Scratch::new();
    let volume = scratch.make("v");
    let record = scratch.private("volumes/v");
    let text = fs::read(&record).expect("a record");
    scratch
        .vfs
        .remove(&removal(&volume, OnRemove::Trash))
        .expect("removed");
    // As if the other host had died before its last step.
    fs::write(&record, &text).expect("written");
    let undelete = Undelete {
        id: volume.id,
        name: name("back"),
    };
    scratch.vfs.undelete(&undelete).expect("brought back");
    let names: Vec<_> = scratch
        .vfs
        .volumes()
        .expect("listed")
        .volumes
        .into_iter()
        .map(|v| v.name)
        .collect();
    assert_eq!(names, [name("back")], "one volume, one record");
    // When that host comes back, it finds its work done by somebody and the data where they are.
    let recovered = scratch
        .vfs
        .recover(&Operation::Remove(removal(&volume, OnRemove::Trash)));
    assert_eq!(recovered.expect("recovered"), Outcome::Undone);
    assert!(scratch.path().join("back").is_dir());
}

#[test]
fn purge_touches_nothing_of_a_volume_that_is_not_entirely_in_the_trash() {
    let scratch = Scratch::new();
    let volume = scratch.make("v");
    let snapshot = scratch.private("snapshots").join(volume.id.to_string()).join("s");
    fs::create_dir_all(&snapshot).expect("a snapshot");
    let purge = Purge {
        id: volume.id,
        name: volume.name.clone(),
    };
    assert!(matches!(
        scratch.vfs.purge(&purge),
        Err(DriverError::NotFound { .. })
    ));
    // A removal that died before it moved the data.
    let can = scratch.private("trash").join(volume.id.to_string());
    fs::create_dir(&can).expect("a directory");
    let trashed = Trashed {
        volume: volume.clone(),
        removed: volume.created,
        expires: volume.created,
    };
    fs::write(can.join("record"), records::to_json(&trashed)).expect("written");
    assert_eq!(scratch.vfs.trash().expect("a trash"), []);
    assert!(matches!(
        scratch.vfs.purge(&purge),
        Err(DriverError::NotFound { .. })
    ));
    let recovered = scratch.vfs.recover(&Operation::Purge(purge)).expect("recovered");
    assert_eq!(recovered, Outcome::Undone);
    assert!(snapshot.exists() && scratch.path().join("v").exists());
    assert_eq!(scratch.vfs.volume(&volume.name).expect("looked up"), Some(volume));
}

#[test]
fn a_removal_that_was_refused_as_busy_is_not_done_later() {
    if !crate::sys::testing::root_with_mounts() {
        return;
    }
    let scratch = Scratch::new();
    let volume = scratch.make("v");
    let data = scratch.path().join("v");
    crate::sys::mount::mount("none", &data, "tmpfs", "size=1m").expect("mounted");
    let remove = removal(&volume, OnRemove::Trash);
    let error = scratch.vfs.remove(&remove);
    let recovered = scratch.vfs.recover(&Operation::Remove(remove));
    crate::sys::mount::unmount(&data).expect("unmounted");
    assert!(matches!(error, Err(DriverError::Busy { .. })), "{error:?}");
    assert_eq!(recovered.expect("recovered"), Outcome::Undone);
    assert_eq!(scratch.vfs.volume(&volume.name).expect("looked up"), Some(volume));
    assert_eq!(names(&scratch.private("trash")), [""; 0]);
}

#[test]
fn a_revert_that_died_between_two_renames_is_moved_back() {
    let Some(fs) = TestFs::new(Kind::Xfs) else { return };
    let vfs = open(&fs.path());
    let volume = make(&vfs, "v");
    fs::write(fs.path().join("v/f"), "only copy").expect("written");
    let volume = vfs.snapshot(&taking(&volume, "s")).expect("a snapshot");
    let id = SnapshotId::random();
    let staging = fs.path().join(".windlass/staging").join(id.to_string());
    fs::create_dir_all(staging.join("data")).expect("staged");
    fs::rename(fs.path().join("v"), staging.join("old")).expect("moved aside");
    let snapshot = volume.snapshots[0].clone();
    let revert = Revert { volume, snapshot, id };
    let outcome = vfs.recover(&Operation::Revert(revert)).expect("recovered");
    assert_eq!(outcome, Outcome::Undone);
    assert_eq!(
        fs::read_to_string(fs.path().join("v/f")).expect("there"),
        "only copy"
    );
    assert!(!staging.exists());
}

#[test]
fn subvolumes_inside_a_volume_are_not_silently_left_out() {
    let Some(fs) = TestFs::new(Kind::Btrfs) else {
        return;
    };
    let vfs = open(&fs.path());
    let volume = make(&vfs, "v");
    let volume = vfs.snapshot(&taking(&volume, "s")).expect("a snapshot");
    let inner = fs.path().join("v/inner");
    crate::sys::btrfs::create(&inner).expect("a nested subvolume");
    refused(vfs.snapshot(&taking(&volume, "t")), "inner");
    let snapshot = volume.snapshots[0].clone();
    let revert = Revert {
        volume: volume.clone(),
        snapshot,
        id: SnapshotId::random(),
    };
    refused(vfs.revert(&revert), "inner");
    assert!(inner.exists());
    // The trash and the purge take it along.
    vfs.remove(&removal(&volume, OnRemove::Delete)).expect("removed");
    vfs.purge(&Purge {
        id: volume.id,
        name: volume.name,
    })
    .expect("purged");
    assert_eq!(names(&fs.path().join(".windlass/snapshots")), [""; 0]);
}

#[test]
fn a_clone_of_a_vm_volume_is_one() {
    let Some(fs) = TestFs::new(Kind::Btrfs) else {
        return;
    };
    let vfs = open(&fs.path());
    let mut create = wish(&vfs, &name("vm"));
    (create.volume.vm, create.volume.size) = (true, Some(Bytes(1 << 20)));
    let volume = vfs.create(&create).expect("created").volume;
    let volume = vfs.snapshot(&taking(&volume, "s")).expect("a snapshot");
    let mut clone = wish(&vfs, &name("clone"));
    clone.from = Some(CloneOf {
        snapshot: volume.snapshots[0].clone(),
        volume: volume.clone(),
    });
    clone.volume.size = Some(Bytes(2 << 20));
    refused(vfs.create(&clone), "1048576");
    clone.volume.size = None;
    let made = vfs.create(&clone).expect("a clone").volume;
    assert_eq!((made.vm, made.size), (true, Some(Bytes(1 << 20))));
    assert_eq!(
        fs::metadata(fs.path().join("clone/disk.img"))
            .expect("an image")
            .len(),
        1 << 20
    );
}

#[test]
fn stacked_mounts_all_go_also_after_another_host_removed_the_volume() {
    if !crate::sys::testing::root_with_mounts() {
        return;
    }
    let scratch = Scratch::new();
    let volume = scratch.make("v");
    let target = scratch.dir.path().join("target");
    fs::create_dir(&target).expect("a directory");
    let bind = || {
        crate::sys::mount::bind(
            scratch.path().join("v"),
            &target,
            crate::sys::mount::Access::ReadWrite,
        )
    };
    (0..3).for_each(|_| bind().expect("bound"));
    assert!(scratch.vfs.is_mounted(&volume, &target).expect("known"));
    scratch.vfs.unmount(&volume, &target).expect("unmounted");
    assert!(
        crate::sys::mountinfo::find_at(&crate::sys::mountinfo::read_self().expect("read"), &target).is_none()
    );
    bind().expect("bound");
    open(&scratch.path())
        .remove(&removal(&volume, OnRemove::Trash))
        .expect("removed");
    assert!(
        !scratch.vfs.is_mounted(&volume, &target).expect("known"),
        "it shows the trash"
    );
    scratch.vfs.unmount(&volume, &target).expect("unmounted");
    assert!(
        crate::sys::mountinfo::find_at(&crate::sys::mountinfo::read_self().expect("read"), &target).is_none()
    );
}

#[test]
fn later_versions_fields_survive_every_rewrite() {
    let Some(fs) = TestFs::new(Kind::Btrfs) else {
        return;
    };
    let vfs = open(&fs.path());
    let mut create = wish(&vfs, &name("v"));
    create.volume.later.insert("colour".to_owned(), "blue".into());
    let volume = vfs.create(&create).expect("created").volume;
    // The caller's copy may be older than the record on disk: the record counts.
    let stale = volume.clone();
    vfs.snapshot(&taking(&stale, "one")).expect("a snapshot");
    let volume = vfs.snapshot(&taking(&stale, "two")).expect("a second");
    assert_eq!((volume.snapshots.len(), &volume.later), (2, &create.volume.later));
    vfs.remove(&removal(&stale, OnRemove::Trash)).expect("removed");
    let back = vfs
        .undelete(&Undelete {
            id: volume.id,
            name: name("v"),
        })
        .expect("brought back");
    assert_eq!(back, volume);
    vfs.remove(&removal(&stale, OnRemove::Keep)).expect("let go");
    let taken = vfs.create(&wish(&vfs, &name("v"))).expect("taken up").volume;
    assert_eq!((taken.snapshots.len(), &taken.later), (2, &create.volume.later));
}

#[test]
fn ten_thousand_records_are_listed_well_within_a_second() {
    let scratch = Scratch::new();
    let volume = scratch.make("v0");
    for n in 1..10_000 {
        let mut copy = volume.clone();
        (copy.id, copy.name) = (VolumeId::random(), name(&format!("v{n}")));
        fs::write(
            scratch.private("volumes").join(&copy.name),
            records::to_json(&copy),
        )
        .expect("written");
    }
    let start = std::time::Instant::now();
    let listing = scratch.vfs.volumes().expect("listed");
    let took = start.elapsed();
    println!("10,000 records in {took:?}");
    assert_eq!((listing.volumes.len(), listing.damaged.len()), (10_000, 0));
    assert!(took.as_millis() < 5_000, "{took:?}");
}
