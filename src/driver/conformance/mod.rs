//! One suite for all drivers: what every one of them must do, and what it must survive.
//!
//! [`suite`] works on real storage that a driver's own tests make, a [`Fixture`]. Contents are always read and written
//! through a mount. The second half kills: each operation runs in a child process (this test program again, with the
//! driver's own child test) that dies at its first fault point, at its second, and so on until it survives; then recovery
//! itself is killed at each of its points; then what is left is judged.

mod crash;
pub(crate) mod fill;
mod life;

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{
    CloneOf, Create, Created, Driver, DriverError, Fill, Grow, How, Operation, Origin, Outcome, Purge,
    Remove, RemoveSnapshot, Revert, Source, StoredState, Support, TakeSnapshot, Target, Undelete, Users,
};
use crate::model::{
    Bytes, Consistency, Name, OnRemove, Policy, Restoring, RootDirectory, Snapshot, SnapshotId, Span, Time,
    Volume, VolumeId,
};
use crate::sys::fault;
pub(crate) use life::Life;

/// Fresh storage for one run of the suite.
pub(crate) struct Fixture {
    /// Opens the driver on the storage, as a starting daemon does.
    pub(crate) open: Box<dyn Fn() -> Box<dyn Driver>>,
    /// An existing directory outside the storage, for mount points.
    pub(crate) scratch: PathBuf,
    /// The test that calls [`child`], and what it needs in its environment to open the same storage.
    pub(crate) child: (&'static str, Vec<(String, String)>),
    /// Makes a directory with a file `foreign` that a volume of that name could adopt; `None` where nothing can be.
    pub(crate) foreign: Option<MakeDirectory>,
    /// What an operation under way has left behind; empty when all is well.
    pub(crate) leftovers: Box<dyn Fn() -> Vec<String>>,
    /// Keeps the storage until the end.
    pub(crate) _guard: Box<dyn Any>,
}

/// Makes a directory of that name where a volume's data would be.
pub(crate) type MakeDirectory = Box<dyn Fn(&Name)>;

/// Runs everything.
pub(crate) fn suite(make: impl Fn() -> Fixture) {
    let bench = Bench::new(make());
    bench.volumes_come_and_go();
    bench.mounts_show_the_volume();
    bench.trash_gives_back();
    bench.kept_volumes_are_taken_up_again();
    bench.foreign_directories_are_adopted_only_on_demand();
    bench.snapshots_freeze_and_clones_and_reverts_follow();
    bench.sources_show_what_is_backed_up();
    bench.fills_replace_all_at_once();
    bench.volumes_grow_where_sizes_hold();
    bench.a_restoring_volume_waits_for_its_data();
    bench.snapshots_can_be_kept_by_a_repository();
    bench.nothing_is_left();
    bench.crashes_are_survived();
    bench.nothing_is_left();
    drop(bench);
}

const OPERATION: &str = "WINDLASS_CONFORMANCE_OPERATION";
const RECOVER: &str = "WINDLASS_CONFORMANCE_RECOVER";

/// What the child test does: runs the operation in its environment. False when there is none, as in a normal test run.
pub(crate) fn child(open: impl FnOnce() -> Box<dyn Driver>) -> bool {
    let Ok(text) = std::env::var(OPERATION) else {
        return false;
    };
    let operation: Operation = serde_json::from_str(&text).expect("an operation");
    let driver = open();
    fault::point("conformance.begin");
    if std::env::var_os(RECOVER).is_some() {
        driver.recover(&operation).expect("recovery succeeds");
    } else {
        run(&*driver, &operation).expect("the operation succeeds");
    }
    true
}

fn run(driver: &dyn Driver, operation: &Operation) -> super::Result<()> {
    match operation {
        Operation::Create(create) => driver.create(create).map(drop),
        Operation::Remove(remove) => driver.remove(remove),
        Operation::Snapshot(take) => driver.snapshot(take).map(drop),
        Operation::RemoveSnapshot(remove) => driver.remove_snapshot(remove).map(drop),
        Operation::Revert(revert) => driver.revert(revert).map(drop),
        Operation::Grow(grow) => driver.grow(grow).map(drop),
        Operation::Fill(fill) => {
            self::fill::furnish_target(&driver.open_target(fill)?);
            driver.fill(fill).map(drop)
        }
        Operation::Undelete(undelete) => driver.undelete(undelete).map(drop),
        Operation::Purge(purge) => driver.purge(purge),
    }
}

/// The fixture with hands.
struct Bench {
    fixture: Fixture,
    driver: Box<dyn Driver>,
    serial: Cell<u32>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::volume(text).expect("a valid name")
}

/// The request for an empty volume without any options.
pub(crate) fn wish(driver: &dyn Driver, volume: &Name) -> Create {
    Create {
        volume: Volume {
            id: VolumeId::random(),
            name: volume.clone(),
            driver: driver.name().to_owned(),
            created: Time::now(),
            size: None,
            vm: false,
            options: BTreeMap::new(),
            policy: Policy::default(),
            snapshots: Vec::new(),
            restoring: None,
            restored_from: None,
            began_as: None,
            private: BTreeMap::new(),
            later: BTreeMap::new(),
        },
        root: RootDirectory::default(),
        adopt: false,
        from: None,
    }
}

pub(crate) fn removal(volume: &Volume, how: OnRemove) -> Remove {
    let at = Time::now();
    Remove {
        volume: volume.clone(),
        how,
        at,
        expires: at.after(Span::days(7)),
    }
}

pub(crate) fn taking(volume: &Volume, snapshot: &str) -> TakeSnapshot {
    TakeSnapshot {
        volume: volume.clone(),
        id: SnapshotId::random(),
        name: name(snapshot),
        at: Time::now(),
        stored: None,
        hooks: None,
        checkpoint: None,
    }
}

fn growing(volume: &Volume, bytes: u64) -> Grow {
    Grow {
        volume: volume.clone(),
        size: Bytes(bytes),
    }
}

pub(crate) fn filling(volume: &Volume) -> Fill {
    Fill {
        volume: volume.clone(),
        id: SnapshotId::random(),
        how: How::Replace,
        root: RootDirectory::default(),
    }
}

fn not_found<T: std::fmt::Debug>(result: super::Result<T>) {
    assert!(matches!(result, Err(DriverError::NotFound { .. })), "{result:?}");
}

fn exists<T: std::fmt::Debug>(result: super::Result<T>) {
    assert!(
        matches!(result, Err(DriverError::AlreadyExists { .. })),
        "{result:?}"
    );
}

impl Bench {
    fn new(fixture: Fixture) -> Self {
        let driver = (fixture.open)();
        Self {
            fixture,
            driver,
            serial: Cell::new(0),
        }
    }

    fn fresh(&self, prefix: &str) -> Name {
        self.serial.set(self.serial.get() + 1);
        name(&format!("{prefix}-{}", self.serial.get()))
    }

    fn has_snapshots(&self) -> bool {
        matches!(self.driver.capabilities().snapshots, Support::Yes { .. })
    }

    /// Where the volume's repository is, on a driver that leaves snapshots to one.
    fn repository(&self, volume: &Volume) -> Option<PathBuf> {
        match self.driver.capabilities().snapshots {
            Support::ByRepository { path, .. } => Some(path.join(volume.id.to_string())),
            _ => None,
        }
    }

    fn make(&self, volume: &Name) -> Volume {
        let created = self.driver.create(&wish(&*self.driver, volume)).expect("created");
        assert_eq!(created.origin, Origin::New);
        created.volume
    }

    /// Runs `work` with the volume mounted.
    fn inside<T>(&self, volume: &Volume, work: impl FnOnce(&Path) -> T) -> T {
        let target = tempfile::tempdir_in(&self.fixture.scratch).expect("a mount point");
        self.driver.mount(volume, target.path()).expect("mounted");
        let done = work(target.path());
        self.unmount(volume, target.path());
        done
    }

    /// A test beside this one that starts a process lends it all open files for a moment: busy is tried again.
    fn unmount(&self, volume: &Volume, target: &Path) {
        for attempt in 0.. {
            match self.driver.unmount(volume, target) {
                Err(DriverError::Busy { .. }) if attempt < 100 => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                result => return result.expect("unmounted"),
            }
        }
    }

    fn write(&self, volume: &Volume, content: &str) {
        self.inside(volume, |dir| fs::write(dir.join("f"), content).expect("written"));
    }

    fn read(&self, volume: &Volume) -> Option<String> {
        self.inside(volume, |dir| fs::read_to_string(dir.join("f")).ok())
    }

    fn find(&self, name: &Name) -> Option<Volume> {
        self.driver.volume(name).expect("looked up")
    }

    fn trashed(&self, id: VolumeId) -> bool {
        self.driver
            .trash()
            .expect("a trash")
            .iter()
            .any(|trashed| trashed.volume.id == id)
    }

    fn purge(&self, volume: &Volume) {
        let purge = Purge {
            id: volume.id,
            name: volume.name.clone(),
        };
        self.driver.purge(&purge).expect("purged");
    }

    /// Removes a volume of that name for good, whatever state it is in.
    fn clear(&self, name: &Name) {
        if let Some(volume) = self.find(name) {
            self.driver
                .remove(&removal(&volume, OnRemove::Delete))
                .expect("removed");
            self.purge(&volume);
        }
    }

    fn volumes_come_and_go(&self) {
        let driver = &*self.driver;
        let a = self.fresh("a");
        let before = driver.generation().expect("a generation");
        let mut first = wish(driver, &a);
        first.root = RootDirectory {
            uid: Some(70),
            gid: Some(71),
            mode: Some(0o2750),
        };
        first.volume.options.insert("mode".to_owned(), "2750".to_owned());
        first.volume.policy.protect = Some(true);
        first.volume.later.insert("colour".to_owned(), "blue".into());
        let Created { volume, origin } = driver.create(&first).expect("created");
        assert_eq!(origin, Origin::New);
        assert_eq!((volume.id, &volume.name), (first.volume.id, &a));
        assert_eq!(
            (&volume.options, &volume.policy),
            (&first.volume.options, &first.volume.policy)
        );
        assert_eq!(
            volume.later, first.volume.later,
            "a later version's fields are carried along"
        );
        if before.is_some() {
            assert_ne!(driver.generation().expect("a generation"), before);
        }
        self.inside(&volume, |dir| {
            let meta = fs::metadata(dir).expect("there");
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (70, 71, 0o2750));
            assert_eq!(
                fs::read_dir(dir).expect("readable").count(),
                0,
                "a new volume is empty"
            );
        });
        assert_eq!(self.find(&a).as_ref(), Some(&volume));
        let b = self.fresh("b");
        let plain = self.make(&b);
        self.inside(&plain, |dir| {
            let meta = fs::metadata(dir).expect("there");
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 0, 0o755));
        });
        let longest = name(&"x".repeat(255));
        self.make(&longest);
        let listing = driver.volumes().expect("listed");
        assert_eq!(listing.damaged, []);
        let names: Vec<&Name> = listing.volumes.iter().map(|volume| &volume.name).collect();
        assert_eq!(names, [&a, &b, &longest]);
        assert_eq!(listing.volumes[0], volume);
        exists(driver.create(&wish(driver, &a)));
        assert_eq!(
            self.find(&a).as_ref(),
            Some(&volume),
            "the refused one changed nothing"
        );
        let policy = Policy {
            on_remove: Some(OnRemove::Keep),
            ..volume.policy.clone()
        };
        let volume = driver.set_policy(&volume, policy.clone()).expect("changed");
        assert_eq!((&volume.policy, &volume.later), (&policy, &first.volume.later));
        assert_eq!(self.find(&a).as_ref(), Some(&volume));
        assert!(!driver.location(&volume).is_empty());
        assert!(
            driver
                .info()
                .expect("info")
                .iter()
                .all(|(key, value)| !key.is_empty() && !value.is_empty())
        );
        assert_eq!(driver.usage(&volume).expect("usage").limit, volume.size);
        self.unknown_volumes_are_not_found();
        [&a, &b, &longest].into_iter().for_each(|name| self.clear(name));
        assert_eq!(driver.volumes().expect("listed").volumes, []);
    }

    fn unknown_volumes_are_not_found(&self) {
        let driver = &*self.driver;
        let ghost = wish(driver, &name("ghost")).volume;
        assert_eq!(self.find(&ghost.name), None);
        for how in [OnRemove::Trash, OnRemove::Delete, OnRemove::Keep] {
            not_found(driver.remove(&removal(&ghost, how)));
        }
        not_found(driver.set_policy(&ghost, Policy::default()));
        not_found(driver.snapshot(&taking(&ghost, "s")));
        let snapshot = Snapshot {
            id: SnapshotId::random(),
            name: name("s"),
            created: Time::now(),
            consistency: Consistency::PointInTime,
            stored: None,
            hooks: None,
            checkpoint: None,
            later: BTreeMap::new(),
        };
        not_found(driver.remove_snapshot(&RemoveSnapshot {
            volume: ghost.clone(),
            snapshot: snapshot.clone(),
        }));
        let id = SnapshotId::random();
        not_found(driver.revert(&Revert {
            volume: ghost.clone(),
            snapshot,
            id,
        }));
        not_found(driver.open_source(&ghost, None, &[]));
        let fill = filling(&ghost);
        not_found(driver.open_target(&fill));
        not_found(driver.fill(&fill));
        not_found(driver.undelete(&Undelete {
            id: ghost.id,
            name: ghost.name.clone(),
        }));
        not_found(driver.purge(&Purge {
            id: ghost.id,
            name: ghost.name.clone(),
        }));
        assert!(driver.mount(&ghost, &self.fixture.scratch).is_err());
        // Another volume that has the name now is not the one that is meant.
        let real = self.make(&self.fresh("real"));
        let mut other = real.clone();
        other.id = VolumeId::random();
        not_found(driver.remove(&removal(&other, OnRemove::Trash)));
        self.clear(&real.name);
    }

    fn mounts_show_the_volume(&self) {
        let driver = &*self.driver;
        let volume = self.make(&self.fresh("m"));
        let target = tempfile::tempdir_in(&self.fixture.scratch).expect("a mount point");
        let (one, two) = (target.path().join("one"), target.path().join("two"));
        fs::create_dir(&one).expect("a directory");
        fs::create_dir(&two).expect("a directory");
        assert!(!driver.is_mounted(&volume, &one).expect("known"));
        driver.mount(&volume, &one).expect("mounted");
        driver.mount(&volume, &one).expect("mounted already");
        driver.mount(&volume, &two).expect("mounted elsewhere");
        assert!(
            driver.is_mounted(&volume, &one).expect("known")
                && driver.is_mounted(&volume, &two).expect("known")
        );
        fs::write(one.join("f"), "through one").expect("written");
        assert_eq!(fs::read_to_string(two.join("f")).expect("read"), "through one");
        let other = self.make(&self.fresh("m"));
        assert!(!driver.is_mounted(&other, &one).expect("known"));
        driver.unmount(&other, &one).expect("not there, nothing done");
        assert!(driver.is_mounted(&volume, &one).expect("known"));
        match driver.users(&volume, std::slice::from_ref(&one)).expect("asked") {
            Users::Known(users) => assert!(users.iter().any(|user| user.contains("two")), "{users:?}"),
            Users::Unknown => {}
        }
        match driver.users(&volume, &[one.clone(), two.clone()]).expect("asked") {
            Users::Known(users) => assert_eq!(users, [""; 0], "our own mounts are no users"),
            Users::Unknown => {}
        }
        let open = fs::File::open(one.join("f")).expect("opened");
        let refused = driver.unmount(&volume, &one).expect_err("a file is open");
        assert!(matches!(refused, DriverError::Busy { .. }), "{refused:?}");
        drop(open);
        for target in [&one, &two] {
            self.unmount(&volume, target);
            driver.unmount(&volume, target).expect("nothing left to do");
            assert!(!driver.is_mounted(&volume, target).expect("known"));
            assert_eq!(fs::read_dir(target).expect("readable").count(), 0);
        }
        assert_eq!(
            self.read(&volume).as_deref(),
            Some("through one"),
            "what was written is still there"
        );
        self.clear(&volume.name);
        self.clear(&other.name);
    }

    fn trash_gives_back(&self) {
        let driver = &*self.driver;
        let volume = self.make(&self.fresh("t"));
        self.write(&volume, "precious");
        let removal = removal(&volume, OnRemove::Trash);
        driver.remove(&removal).expect("removed");
        assert_eq!(self.find(&volume.name), None);
        not_found(driver.remove(&removal));
        let trash = driver.trash().expect("a trash");
        assert_eq!(trash.len(), 1);
        assert_eq!((&trash[0].volume, trash[0].removed), (&volume, removal.at));
        assert_eq!(trash[0].expires, removal.expires);
        // The name is free meanwhile; then the old one needs another.
        let successor = self.make(&volume.name);
        self.write(&successor, "new");
        exists(driver.undelete(&Undelete {
            id: volume.id,
            name: volume.name.clone(),
        }));
        assert_eq!(self.read(&successor).as_deref(), Some("new"));
        assert!(self.trashed(volume.id));
        let back = self.fresh("back");
        let returned = driver
            .undelete(&Undelete {
                id: volume.id,
                name: back.clone(),
            })
            .expect("brought back");
        assert_eq!((returned.id, &returned.name), (volume.id, &back));
        assert_eq!(self.find(&back), Some(returned.clone()));
        assert_eq!(self.read(&returned).as_deref(), Some("precious"));
        assert_eq!(driver.trash().expect("a trash"), []);
        not_found(driver.undelete(&Undelete {
            id: volume.id,
            name: self.fresh("again"),
        }));
        driver
            .remove(&self::removal(&returned, OnRemove::Delete))
            .expect("removed");
        self.purge(&returned);
        not_found(driver.purge(&Purge {
            id: returned.id,
            name: back,
        }));
        self.clear(&successor.name);
    }

    fn kept_volumes_are_taken_up_again(&self) {
        let driver = &*self.driver;
        let volume = self.make(&self.fresh("k"));
        self.write(&volume, "kept");
        let removal = removal(&volume, OnRemove::Keep);
        driver.remove(&removal).expect("let go");
        assert_eq!(self.find(&volume.name), None);
        assert_eq!(driver.trash().expect("a trash"), []);
        let mut again = wish(driver, &volume.name);
        again.volume.policy.on_remove = Some(OnRemove::Keep);
        let Created {
            volume: taken,
            origin,
        } = driver.create(&again).expect("taken up");
        assert_eq!(origin, Origin::TakenUpAgain { let_go: removal.at });
        assert_eq!((taken.id, taken.created), (volume.id, volume.created));
        assert_eq!(
            taken.policy.on_remove,
            Some(OnRemove::Keep),
            "the new request's wish counts"
        );
        assert_eq!(self.read(&taken).as_deref(), Some("kept"));
        exists(driver.create(&again));
        self.clear(&volume.name);
        assert!(matches!(
            driver.create(&again).expect("created").origin,
            Origin::New
        ));
        self.clear(&volume.name);
    }

    fn foreign_directories_are_adopted_only_on_demand(&self) {
        let driver = &*self.driver;
        let Some(make_foreign) = &self.fixture.foreign else {
            return;
        };
        let f = self.fresh("f");
        let mut adopt = wish(driver, &f);
        adopt.adopt = true;
        not_found(driver.create(&adopt));
        make_foreign(&f);
        exists(driver.create(&wish(driver, &f)));
        assert_eq!(self.find(&f), None);
        let Created { volume, origin } = driver.create(&adopt).expect("adopted");
        assert_eq!((origin, volume.id), (Origin::Adopted, adopt.volume.id));
        self.inside(&volume, |dir| assert!(dir.join("foreign").exists()));
        if self.has_snapshots() {
            let frozen = driver
                .snapshot(&taking(&volume, "s"))
                .expect("a snapshot of an adopted directory");
            self.inside(&volume, |dir| {
                fs::remove_file(dir.join("foreign")).expect("removed")
            });
            let reverted = self.revert(&frozen, 0).expect("reverted");
            self.inside(&reverted, |dir| assert!(dir.join("foreign").exists()));
        }
        self.clear(&f);
    }

    fn revert(&self, volume: &Volume, snapshot: usize) -> super::Result<Volume> {
        let snapshot = volume.snapshots[snapshot].clone();
        self.driver.revert(&Revert {
            volume: volume.clone(),
            snapshot,
            id: SnapshotId::random(),
        })
    }

    fn clone_wish(&self, name: &Name, volume: &Volume, snapshot: usize) -> Create {
        let mut create = wish(&*self.driver, name);
        create.from = Some(CloneOf {
            volume: volume.clone(),
            snapshot: volume.snapshots[snapshot].clone(),
        });
        create
    }

    fn snapshots_freeze_and_clones_and_reverts_follow(&self) {
        let driver = &*self.driver;
        let volume = self.make(&self.fresh("s"));
        if !self.has_snapshots() {
            let refused = driver
                .snapshot(&taking(&volume, "s"))
                .expect_err("no snapshots here");
            assert!(matches!(refused, DriverError::Unsupported { .. }), "{refused:?}");
            self.clear(&volume.name);
            return;
        }
        self.furnish(&volume);
        let take = taking(&volume, "monday");
        let volume = driver.snapshot(&take).expect("a snapshot");
        assert_eq!(volume.snapshots.len(), 1);
        assert_eq!(
            (volume.snapshots[0].id, &volume.snapshots[0].name),
            (take.id, &take.name)
        );
        assert_eq!(self.find(&volume.name), Some(volume.clone()));
        exists(driver.snapshot(&taking(&volume, "monday")));
        self.write(&volume, "two");
        let volume = driver
            .snapshot(&taking(&volume, "tuesday"))
            .expect("a second snapshot");
        self.write(&volume, "three");
        // A clone is independent of its source, in both directions.
        let c = self.fresh("c");
        let Created {
            volume: clone,
            origin,
        } = driver.create(&self.clone_wish(&c, &volume, 0)).expect("a clone");
        assert_eq!((origin, clone.snapshots.len()), (Origin::Clone, 0));
        self.check_furniture(&clone);
        self.write(&clone, "cloned");
        assert_eq!(self.read(&volume).as_deref(), Some("three"));
        self.clear(&c);
        let mut owned = self.clone_wish(&c, &volume, 0);
        owned.root = RootDirectory {
            uid: Some(9),
            gid: None,
            mode: Some(0o711),
        };
        let owned = driver.create(&owned).expect("a clone with another owner").volume;
        self.inside(&owned, |dir| {
            let meta = fs::metadata(dir).expect("there");
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (9, 6, 0o711));
        });
        self.clear(&c);
        // Back, and forth again.
        let volume = self.revert(&volume, 0).expect("reverted");
        self.check_furniture(&volume);
        assert_eq!(volume.snapshots.len(), 2, "a revert keeps all snapshots");
        let volume = self.revert(&volume, 1).expect("reverted");
        assert_eq!(self.read(&volume).as_deref(), Some("two"));
        // They go to the trash and come back with their volume.
        driver
            .remove(&removal(&volume, OnRemove::Trash))
            .expect("removed");
        let returned = self.fresh("r");
        let volume = driver
            .undelete(&Undelete {
                id: volume.id,
                name: returned,
            })
            .expect("brought back");
        let volume = self.revert(&volume, 0).expect("its snapshots came with it");
        self.check_furniture(&volume);
        let monday = RemoveSnapshot {
            volume: volume.clone(),
            snapshot: volume.snapshots[0].clone(),
        };
        let volume = driver.remove_snapshot(&monday).expect("removed");
        assert_eq!(volume.snapshots.len(), 1);
        not_found(driver.remove_snapshot(&monday));
        not_found(driver.revert(&Revert {
            volume: volume.clone(),
            snapshot: monday.snapshot.clone(),
            id: SnapshotId::random(),
        }));
        let volume = driver
            .snapshot(&taking(&volume, "monday"))
            .expect("the name is free again");
        assert_eq!(
            volume
                .snapshots
                .iter()
                .map(|s| s.name.as_str())
                .collect::<Vec<_>>(),
            ["tuesday", "monday"]
        );
        self.clear(&volume.name);
    }

    fn volumes_grow_where_sizes_hold(&self) {
        let driver = &*self.driver;
        let volume = self.make(&self.fresh("g"));
        let ghost = wish(driver, &name("ghost")).volume;
        not_found(driver.grow(&growing(&ghost, 1 << 30)));
        let Some(size) = volume.size else {
            let refused = driver.grow(&growing(&volume, 1 << 40)).expect_err("no size");
            assert!(matches!(refused, DriverError::Unsupported { .. }), "{refused:?}");
            return self.clear(&volume.name);
        };
        self.furnish(&volume);
        let refused = driver.grow(&growing(&volume, size.0 / 2)).expect_err("smaller");
        assert!(matches!(refused, DriverError::Invalid(_)), "{refused:?}");
        // While it is used.
        let (before, after) = self.inside(&volume, |dir| {
            let before = crate::sys::filesystem::facts(dir).expect("facts").total_bytes;
            driver.grow(&growing(&volume, size.0 * 2)).expect("grown");
            (
                before,
                crate::sys::filesystem::facts(dir).expect("facts").total_bytes,
            )
        });
        assert!(after > before + size.0 * 3 / 4, "{before} became {after}");
        let grown = self.find(&volume.name).expect("there");
        assert_eq!(grown.size, Some(Bytes(size.0 * 2)));
        assert_eq!(
            driver
                .grow(&growing(&grown, size.0 * 2))
                .expect("as large already"),
            grown
        );
        self.check_furniture(&grown);
        self.clear(&volume.name);
    }

    fn furnish(&self, volume: &Volume) {
        self.inside(volume, furnish);
    }

    fn check_furniture(&self, volume: &Volume) {
        self.inside(volume, check_furniture);
    }
    fn nothing_is_left(&self) {
        assert_eq!((self.fixture.leftovers)(), [""; 0]);
        let listing = self.driver.volumes().expect("listed");
        assert_eq!((listing.volumes, listing.damaged), (vec![], vec![]));
        assert_eq!(self.driver.trash().expect("a trash"), []);
    }
}

/// Contents whose every property a clone has to have.
fn furnish(dir: &Path) {
    fs::write(dir.join("f"), "one").expect("written");
    fs::create_dir(dir.join("d")).expect("a directory");
    fs::write(dir.join("d/big"), vec![7u8; 300_000]).expect("written");
    fs::hard_link(dir.join("f"), dir.join("d/hard")).expect("a hard link");
    std::os::unix::fs::symlink("../f", dir.join("d/soft")).expect("a symbolic link");
    std::os::unix::fs::chown(dir.join("f"), Some(1234), Some(4321)).expect("owned");
    fs::set_permissions(dir.join("f"), fs::Permissions::from_mode(0o4640)).expect("permissions");
    xattr::set(dir.join("f"), "user.windlass.test", b"value").expect("an attribute");
    std::os::unix::fs::chown(dir, Some(5), Some(6)).expect("owned");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o1770)).expect("permissions");
}

fn check_furniture(dir: &Path) {
    let root = fs::metadata(dir).expect("there");
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (5, 6, 0o1770));
    let f = fs::metadata(dir.join("f")).expect("there");
    assert_eq!(
        (f.uid(), f.gid(), f.mode() & 0o7777, f.nlink()),
        (1234, 4321, 0o4640, 2)
    );
    assert_eq!(fs::read_to_string(dir.join("f")).expect("read"), "one");
    let attribute = xattr::get(dir.join("f"), "user.windlass.test").expect("attributes");
    assert_eq!(attribute.as_deref(), Some(&b"value"[..]));
    assert_eq!(fs::metadata(dir.join("d/hard")).expect("there").ino(), f.ino());
    assert_eq!(
        fs::read_link(dir.join("d/soft")).expect("a link"),
        Path::new("../f")
    );
    assert_eq!(fs::read(dir.join("d/big")).expect("read"), vec![7u8; 300_000]);
}
