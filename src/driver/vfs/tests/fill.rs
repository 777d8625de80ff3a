//! Fills, and snapshots that a repository holds, where only this driver can know what is right.

use super::*;
use crate::driver::conformance::fill::{awaiting, storing};
use crate::driver::{Fill, How, Source, Target};
use crate::model::Snapshot;

fn target(vfs: &Vfs, fill: &Fill) -> PathBuf {
    let Target::Tree { path } = vfs.open_target(fill).expect("a target") else {
        unreachable!("a tree")
    };
    path
}

fn source(vfs: &Vfs, volume: &Volume, snapshot: &Snapshot) -> PathBuf {
    let Source::Tree { path } = vfs.open_source(volume, Some(snapshot), &[]).expect("a source") else {
        unreachable!("a tree")
    };
    path
}

fn revert(volume: &Volume, snapshot: &Snapshot) -> Revert {
    Revert {
        volume: volume.clone(),
        snapshot: snapshot.clone(),
        id: SnapshotId::random(),
    }
}

#[test]
fn the_place_for_repositories_is_where_there_is_no_better_snapshot_and_for_root_alone() {
    use std::os::unix::fs::MetadataExt;
    for (kind, expected) in [(Kind::Tmpfs, true), (Kind::Ext4, true), (Kind::Btrfs, false)] {
        let Some(fs) = TestFs::new(kind) else { return };
        let vfs = open(&fs.path());
        let place = fs.path().join(".windlass/repository");
        match vfs.capabilities().snapshots {
            Support::ByRepository { path, by } => {
                assert!(expected, "{kind:?}");
                assert_eq!(path, place.canonicalize().expect("it is there"));
                assert_eq!(fs::metadata(&place).expect("it is there").mode() & 0o7777, 0o700);
                assert!(by.contains("neither subvolumes nor reflinks"), "{by}");
                let info = vfs.info().expect("info");
                assert!(info.contains(&("Snapshots".to_owned(), by)), "{info:?}");
            }
            other => assert!(!expected && !place.exists(), "{kind:?}: {other:?}"),
        }
    }
}

/// A path can come from ext4 to btrfs, and then its volumes have snapshots of both kinds.
#[test]
fn a_volume_can_have_snapshots_of_both_kinds() {
    let Some(fs) = TestFs::new(Kind::Btrfs) else {
        return;
    };
    let vfs = open(&fs.path());
    let volume = make(&vfs, "v");
    fs::write(fs.path().join("v/f"), "one").expect("written");
    vfs.snapshot(&storing(&volume, "stored")).expect("recorded");
    let volume = vfs.snapshot(&taking(&volume, "native")).expect("a snapshot");
    let [stored, native] = [0, 1].map(|n| volume.snapshots[n].clone());
    assert!(stored.stored.is_some() && native.stored.is_none());
    assert_eq!(
        names(&fs.path().join(".windlass/snapshots").join(volume.id.to_string())),
        ["native"]
    );
    let error = refused(vfs.open_source(&volume, Some(&stored), &[]), "0123456789abcdef");
    assert!(matches!(error, DriverError::Unsupported { .. }), "{error:?}");
    refused(vfs.revert(&revert(&volume, &stored)), "0123456789abcdef");
    fs::write(fs.path().join("v/f"), "two").expect("written");
    let frozen = source(&vfs, &volume, &native);
    assert_eq!(fs::read_to_string(frozen.join("f")).expect("read"), "one");
    vfs.revert(&revert(&volume, &native)).expect("reverted");
    assert_eq!(fs::read_to_string(fs.path().join("v/f")).expect("read"), "one");
    // The stored one's name leads to no tree that could be taken away by mistake.
    let remove = |snapshot: &Snapshot| RemoveSnapshot {
        volume: volume.clone(),
        snapshot: snapshot.clone(),
    };
    let left = vfs.remove_snapshot(&remove(&stored)).expect("removed");
    assert_eq!(left.snapshots, std::slice::from_ref(&native));
    assert!(frozen.exists());
    vfs.snapshot(&storing(&volume, "stored"))
        .expect("the name is free again");
    let left = vfs.remove_snapshot(&remove(&native)).expect("removed");
    assert_eq!((left.snapshots.len(), frozen.exists()), (1, false));
}

/// And from XFS to ext4: the trees are read, and given back by copying them.
#[test]
fn snapshots_that_were_taken_on_a_better_filesystem_stay_of_use() {
    let Some(fs) = TestFs::new(Kind::Ext4) else { return };
    let vfs = open(&fs.path());
    let mut volume = make(&vfs, "v");
    let snapshot: Snapshot = serde_json::from_value(serde_json::json!({
        "id": SnapshotId::random(), "name": "native", "created": volume.created, "consistency": "point-in-time",
    }))
    .expect("a snapshot");
    volume.snapshots.push(snapshot.clone());
    let record = fs.path().join(".windlass/volumes/v");
    fs::write(&record, records::to_json(&volume)).expect("written");
    let tree = fs
        .path()
        .join(".windlass/snapshots")
        .join(volume.id.to_string())
        .join("native");
    fs::create_dir_all(&tree).expect("a directory");
    fs::write(tree.join("f"), "one").expect("written");
    let volume = vfs.snapshot(&storing(&volume, "stored")).expect("recorded");
    assert_eq!(
        source(&vfs, &volume, &snapshot),
        tree.canonicalize().expect("there")
    );
    vfs.revert(&revert(&volume, &snapshot)).expect("reverted");
    assert_eq!(fs::read_to_string(fs.path().join("v/f")).expect("read"), "one");
    let mut clone = wish(&vfs, &name("clone"));
    clone.from = Some(CloneOf {
        snapshot: snapshot.clone(),
        volume: volume.clone(),
    });
    vfs.create(&clone).expect("a clone");
    fs::write(fs.path().join("clone/f"), "cloned").expect("written");
    assert_eq!(fs::read_to_string(tree.join("f")).expect("read"), "one");
    let remove = RemoveSnapshot { volume, snapshot };
    assert_eq!(vfs.remove_snapshot(&remove).expect("removed").snapshots.len(), 1);
    assert!(!tree.exists());
}

/// What the steps leave on filesystems that cannot exchange two names.
struct MovedAside {
    scratch: Scratch,
    fill: Fill,
    staging: PathBuf,
    place: PathBuf,
}

impl MovedAside {
    fn new() -> Self {
        let scratch = Scratch::new();
        let volume = scratch.make("v");
        let place = scratch.path().join("v");
        fs::write(place.join("f"), "old").expect("written");
        let fill = filling(&volume);
        fs::write(target(&scratch.vfs, &fill).join("f"), "new").expect("written");
        let staging = scratch.private("staging").join(fill.id.to_string());
        fs::rename(&place, staging.join("old")).expect("moved aside");
        Self {
            scratch,
            fill,
            staging,
            place,
        }
    }

    fn recover(&self) -> Result<Outcome> {
        self.scratch.vfs.recover(&Operation::Fill(self.fill.clone()))
    }

    fn content(&self) -> String {
        fs::read_to_string(self.place.join("f")).expect("there")
    }
}

#[test]
fn a_fill_that_died_between_two_renames_is_moved_back() {
    let fill = MovedAside::new();
    assert_eq!(fill.recover().expect("recovered"), Outcome::Undone);
    assert_eq!(fill.content(), "old");
    assert!(!fill.staging.exists());
    // It can go on as well, as the new data are there.
    let fill = MovedAside::new();
    fill.scratch.vfs.fill(&fill.fill).expect("filled");
    assert_eq!(fill.content(), "new");
    // Also when it is begun again without having been recovered.
    let fill = MovedAside::new();
    let path = target(&fill.scratch.vfs, &fill.fill);
    assert_eq!((fill.content().as_str(), names(&path).len()), ("old", 0));
}

#[test]
fn a_fill_that_died_after_both_renames_is_done_though_nothing_is_marked() {
    let fill = MovedAside::new();
    fs::rename(fill.staging.join("data"), &fill.place).expect("moved");
    assert_eq!(fill.recover().expect("recovered"), Outcome::Finished);
    assert_eq!(fill.content(), "new");
    assert!(!fill.staging.exists());
}

#[test]
fn a_stranger_s_directory_in_between_costs_nobody_the_data() {
    let fill = MovedAside::new();
    fs::create_dir(&fill.place).expect("a directory");
    refused(fill.recover(), "something else is at their place");
    refused(
        fill.scratch.vfs.fill(&fill.fill),
        "something else is at their place",
    );
    assert_eq!(
        fs::read_to_string(fill.staging.join("old/f")).expect("there"),
        "old"
    );
    fs::remove_dir(&fill.place).expect("moved away");
    assert_eq!(fill.recover().expect("recovered"), Outcome::Undone);
    assert_eq!(fill.content(), "old");
}

#[test]
fn a_fill_that_is_asked_for_twice_never_puts_the_old_data_back() {
    let scratch = Scratch::new();
    let mut volume = scratch.make("v");
    fs::write(scratch.path().join("v/f"), "old").expect("written");
    let fill = filling(&volume);
    fs::write(target(&scratch.vfs, &fill).join("f"), "new").expect("written");
    // As if the first had died right after the exchange.
    let staging = scratch.private("staging").join(fill.id.to_string());
    area::mark(&staging.join("data"), fill.id.uuid());
    durable::rename_exchange(staging.join("data"), scratch.path().join("v")).expect("exchanged");
    volume = scratch.vfs.fill(&fill).expect("finished");
    assert_eq!(volume, fill.volume);
    assert_eq!(
        fs::read_to_string(scratch.path().join("v/f")).expect("read"),
        "new"
    );
    assert!(!staging.exists());
}

#[test]
fn subvolumes_inside_a_volume_keep_it_from_being_filled() {
    let Some(fs) = TestFs::new(Kind::Btrfs) else {
        return;
    };
    let vfs = open(&fs.path());
    let volume = make(&vfs, "v");
    let inner = fs.path().join("v/inner");
    crate::sys::btrfs::create(&inner).expect("a nested subvolume");
    refused(vfs.open_target(&filling(&volume)), "inner");
    crate::sys::btrfs::delete(&inner).expect("deleted");
    // One that comes while the data are on their way.
    let fill = filling(&volume);
    target(&vfs, &fill);
    crate::sys::btrfs::create(&inner).expect("a nested subvolume");
    refused(vfs.fill(&fill), "inner");
    assert!(inner.exists());
    assert_eq!(names(&fs.path().join(".windlass/staging")), [""; 0]);
}

#[test]
fn a_volume_that_waits_for_an_image_has_no_other_one() {
    let scratch = Scratch::new();
    let mut create = awaiting(&scratch.vfs, &name("vm"));
    (create.volume.vm, create.volume.size) = (true, Some(Bytes(1 << 20)));
    let volume = scratch.vfs.create(&create).expect("created").volume;
    assert_eq!(names(&scratch.path().join("vm")), [""; 0]);
    let fill = filling(&volume);
    assert_eq!(fill.how, How::Replace);
    fs::write(target(&scratch.vfs, &fill).join("disk.img"), "an image").expect("written");
    let filled = scratch.vfs.fill(&fill).expect("filled");
    assert_eq!((filled.vm, filled.size), (true, Some(Bytes(1 << 20))));
    assert_eq!(names(&scratch.path().join("vm")), ["disk.img"]);
}
