//! Backups and restores as a driver sees them: what is read, what is filled, and volumes that wait for their data.

use super::crash::{Case, always};
use super::*;
use crate::driver::Content;
use crate::sys::detached::Detached;
use crate::sys::testing;

/// What a restore would write: the furniture, so that owners and attributes of the root are seen to arrive.
pub(super) fn furnish_target(target: &Target) {
    match target {
        Target::Tree { path } => furnish(path),
        Target::Block { path, size } => {
            let device = fs::File::open(path).expect("a device");
            assert_eq!(crate::sys::sparse::size(&device).expect("a size"), *size);
            drop(device);
            testing::sh(&format!("mkfs.ext4 -q -E nodiscard {}", path.display()));
            let mounted = Detached::mount(path, "ext4", &[]).expect("mounted");
            fs::remove_dir(mounted.path().join("lost+found")).expect("removed");
            furnish(&mounted.path());
            mounted.close().expect("synced");
        }
    }
}

/// Whether nothing has been written to the target.
fn is_empty(target: &Target) -> bool {
    match target {
        Target::Tree { path } => fs::read_dir(path).expect("readable").count() == 0,
        Target::Block { path, .. } => {
            let device = fs::read(path).expect("readable");
            device.iter().all(|byte| *byte == 0)
        }
    }
}

/// Looks into what would be backed up.
fn look_into(source: &Source, look: impl FnOnce(&Path)) {
    match source {
        Source::Tree { path } => look(path),
        Source::Block(image) => {
            assert!(image.mapped.iter().all(|range| range.end <= image.size));
            let fs = image.filesystem.as_deref().expect("a filesystem");
            let mounted = Detached::mount(&image.path, fs, &["ro"]).expect("mounted");
            look(&mounted.path());
        }
    }
}

/// A snapshot that a repository holds already.
pub(crate) fn storing(volume: &Volume, snapshot: &str) -> TakeSnapshot {
    let mut take = taking(volume, snapshot);
    take.stored = Some(StoredState {
        backup: "0123456789abcdef".to_owned(),
        consistency: Consistency::PerFile,
    });
    take
}

/// A volume that waits for its data.
pub(crate) fn awaiting(driver: &dyn Driver, name: &Name) -> Create {
    let mut create = wish(driver, name);
    create.volume.restoring = Some(Restoring {
        from: "vfs:///backups?volume=pg&backup=0123456789abcdef".to_owned(),
        since: Time::now(),
        later: BTreeMap::new(),
    });
    create
}

fn waits<T: std::fmt::Debug>(result: crate::driver::Result<T>) {
    let error = result.expect_err("refused");
    assert!(matches!(error, DriverError::Restoring { .. }), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("being restored from vfs:///backups") && said.contains("remove the volume"),
        "{said}"
    );
}

fn unsupported<T: std::fmt::Debug>(result: crate::driver::Result<T>) {
    assert!(
        matches!(result, Err(DriverError::Unsupported { .. })),
        "{result:?}"
    );
}

impl Bench {
    fn look(&self, volume: &Volume, snapshot: Option<&Snapshot>, look: impl FnOnce(&Path)) {
        let source = self.driver.open_source(volume, snapshot, &[]);
        look_into(&source.expect("a source"), look);
    }

    pub(super) fn sources_show_what_is_backed_up(&self) {
        let volume = self.make(&self.fresh("source"));
        self.furnish(&volume);
        // A device that is written to meanwhile is no image of anything.
        let living = self.driver.capabilities().content == Content::Tree;
        match living {
            true => self.look(&volume, None, check_furniture),
            false => unsupported(self.driver.open_source(&volume, None, &[])),
        }
        if self.has_snapshots() {
            let volume = self.driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
            let snapshot = volume.snapshots[0].clone();
            self.write(&volume, "newer");
            self.look(&volume, Some(&snapshot), check_furniture);
            if living {
                self.look(&volume, None, |dir| {
                    assert_eq!(fs::read_to_string(dir.join("f")).expect("read"), "newer");
                });
            }
            // The caller's copy of the record may be older than the snapshot.
            let mut stale = volume.clone();
            stale.snapshots.clear();
            self.look(&stale, Some(&snapshot), check_furniture);
            let remove = RemoveSnapshot {
                volume: volume.clone(),
                snapshot: snapshot.clone(),
            };
            self.driver.remove_snapshot(&remove).expect("removed");
            not_found(self.driver.open_source(&volume, Some(&snapshot), &[]));
        }
        self.clear(&volume.name);
    }

    pub(super) fn fills_replace_all_at_once(&self) {
        let driver = &*self.driver;
        let volume = self.make(&self.fresh("fill"));
        self.write(&volume, "old");
        let fill = filling(&volume);
        not_found(driver.fill(&fill));
        assert_eq!(
            self.read(&volume).as_deref(),
            Some("old"),
            "nothing was filled in"
        );
        let target = driver.open_target(&fill).expect("a target");
        furnish_target(&target);
        assert_eq!(
            self.read(&volume).as_deref(),
            Some("old"),
            "not before it is whole"
        );
        // Begun again after a crash, it is empty again.
        let target = driver.open_target(&fill).expect("the same target");
        assert!(is_empty(&target));
        furnish_target(&target);
        let filled = driver.fill(&fill).expect("filled");
        assert_eq!(filled, volume, "the record stays as it was");
        self.check_furniture(&volume);
        assert_eq!((self.fixture.leftovers)(), [""; 0]);
        // Given up.
        let fill = filling(&volume);
        furnish_target(&driver.open_target(&fill).expect("a target"));
        self.write(&volume, "not to be lost");
        let outcome = driver.recover(&Operation::Fill(fill.clone())).expect("given up");
        assert_eq!(outcome, Outcome::Undone);
        assert_eq!((self.fixture.leftovers)(), [""; 0]);
        not_found(driver.fill(&fill));
        assert_eq!(self.read(&volume).as_deref(), Some("not to be lost"));
        // With an owner and permissions of its own, as for a clone.
        let mut owned = filling(&volume);
        owned.root = RootDirectory {
            uid: Some(9),
            gid: None,
            mode: Some(0o711),
        };
        furnish_target(&driver.open_target(&owned).expect("a target"));
        let filled = driver.fill(&owned).expect("filled");
        self.inside(&filled, |dir| {
            let meta = fs::metadata(dir).expect("there");
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (9, 6, 0o711));
        });
        // The volume may be gone when the data are there at last.
        let late = filling(&volume);
        furnish_target(&driver.open_target(&late).expect("a target"));
        self.clear(&volume.name);
        not_found(driver.fill(&late));
        assert_eq!((self.fixture.leftovers)(), [""; 0]);
    }

    pub(super) fn a_restoring_volume_waits_for_its_data(&self) {
        let driver = &*self.driver;
        let create = awaiting(driver, &self.fresh("restore"));
        let Created { volume, origin } = driver.create(&create).expect("created");
        assert_eq!(
            (origin, &volume.restoring),
            (Origin::New, &create.volume.restoring)
        );
        assert_eq!(self.find(&volume.name).as_ref(), Some(&volume));
        waits(driver.mount(&volume, &self.fixture.scratch));
        waits(driver.snapshot(&taking(&volume, "s")));
        waits(driver.open_source(&volume, None, &[]));
        let id = SnapshotId::random();
        let snapshot = Snapshot {
            id,
            name: name("s"),
            created: Time::now(),
            consistency: Consistency::PointInTime,
            stored: None,
            hooks: None,
            checkpoint: None,
            later: BTreeMap::new(),
        };
        waits(driver.revert(&Revert {
            volume: volume.clone(),
            snapshot,
            id,
        }));
        // Whoever holds an older record does not get past that either.
        let mut ready = volume.clone();
        ready.restoring = None;
        waits(driver.mount(&ready, &self.fixture.scratch));
        exists(driver.create(&wish(driver, &volume.name)));
        // It goes and comes back as what it is, in each of the ways.
        driver
            .remove(&removal(&volume, OnRemove::Trash))
            .expect("removed");
        let undelete = Undelete {
            id: volume.id,
            name: volume.name.clone(),
        };
        assert_eq!(driver.undelete(&undelete).expect("brought back"), volume);
        driver.remove(&removal(&volume, OnRemove::Keep)).expect("let go");
        exists(driver.create(&create));
        let taken = driver
            .create(&wish(driver, &volume.name))
            .expect("taken up")
            .volume;
        assert_eq!(taken.restoring, volume.restoring);
        let fill = filling(&taken);
        furnish_target(&driver.open_target(&fill).expect("a target"));
        waits(driver.mount(&taken, &self.fixture.scratch));
        let filled = driver.fill(&fill).expect("filled");
        assert_eq!((filled.id, &filled.restoring), (volume.id, &None));
        assert_eq!(self.find(&volume.name), Some(filled.clone()));
        self.check_furniture(&filled);
        self.clear(&volume.name);
        // Data come from one place only.
        let mut adopt = awaiting(driver, &self.fresh("restore"));
        adopt.adopt = true;
        let refused = driver.create(&adopt).expect_err("a contradiction");
        assert!(matches!(refused, DriverError::Invalid(_)), "{refused:?}");
    }

    /// What the driver does of them; the backups themselves are others' work.
    pub(super) fn snapshots_can_be_kept_by_a_repository(&self) {
        let driver = &*self.driver;
        let volume = self.make(&self.fresh("stored"));
        let Some(repository) = self.repository(&volume) else {
            return self.clear(&volume.name);
        };
        self.furnish(&volume);
        unsupported(driver.snapshot(&taking(&volume, "s")));
        fs::create_dir(&repository).expect("the place for repositories is there");
        fs::write(repository.join("config"), "a repository").expect("written");
        let take = storing(&volume, "monday");
        let volume = driver.snapshot(&take).expect("recorded");
        let snapshot = volume.snapshots[0].clone();
        assert_eq!((snapshot.id, &snapshot.name), (take.id, &take.name));
        assert_eq!(snapshot.consistency, Consistency::PerFile);
        let stored = snapshot.stored.as_ref().expect("stored");
        assert_eq!(stored.backup, "0123456789abcdef");
        assert_eq!(self.find(&volume.name), Some(volume.clone()));
        exists(driver.snapshot(&take));
        // Its data are not the driver's to give.
        unsupported(driver.open_source(&volume, Some(&snapshot), &[]));
        unsupported(self.revert(&volume, 0));
        let clone = self.clone_wish(&self.fresh("clone"), &volume, 0);
        unsupported(driver.create(&clone));
        assert_eq!(self.find(&clone.volume.name), None);
        self.check_furniture(&volume);
        // It goes to the trash and comes back, and so does the repository.
        driver
            .remove(&removal(&volume, OnRemove::Trash))
            .expect("removed");
        assert!(repository.join("config").exists());
        let undelete = Undelete {
            id: volume.id,
            name: volume.name.clone(),
        };
        assert_eq!(driver.undelete(&undelete).expect("brought back"), volume);
        driver.remove(&removal(&volume, OnRemove::Keep)).expect("let go");
        let taken = driver
            .create(&wish(driver, &volume.name))
            .expect("taken up")
            .volume;
        assert_eq!((taken.id, &taken.snapshots), (volume.id, &volume.snapshots));
        let remove = RemoveSnapshot {
            volume: taken,
            snapshot,
        };
        let volume = driver.remove_snapshot(&remove).expect("removed");
        assert_eq!(volume.snapshots, []);
        not_found(driver.remove_snapshot(&remove));
        let recovered = driver
            .recover(&Operation::RemoveSnapshot(remove))
            .expect("recovered");
        assert_eq!(recovered, Outcome::Finished);
        assert!(
            repository.join("config").exists(),
            "backups are deleted by others"
        );
        self.clear(&volume.name);
        assert!(!repository.exists(), "destroyed with its volume");
    }
}

pub(super) const CASES: &[Case] = &[
    Case {
        title: "create a volume that waits for its data",
        when: always,
        prepare: |bench| Operation::Create(awaiting(&*bench.driver, &bench.fresh("x"))),
        judge: |bench, operation, outcome| {
            let Operation::Create(create) = operation else {
                unreachable!("a create")
            };
            if *outcome == Outcome::Undone {
                assert_eq!(bench.now(operation), None);
                bench.driver.create(create).expect("it can be done again");
            }
            let volume = bench.now(operation).expect("there");
            assert_eq!(
                (volume.id, &volume.restoring),
                (create.volume.id, &create.volume.restoring)
            );
            waits(bench.driver.mount(&volume, &bench.fixture.scratch));
            bench.clear(&volume.name);
        },
    },
    Case {
        title: "fill a volume that waits for its data",
        when: always,
        prepare: |bench| {
            let create = awaiting(&*bench.driver, &bench.fresh("x"));
            let volume = bench.driver.create(&create).expect("created").volume;
            Operation::Fill(filling(&volume))
        },
        judge: |bench, operation, outcome| {
            let Operation::Fill(fill) = operation else {
                unreachable!("a fill")
            };
            if *outcome == Outcome::Undone {
                assert_eq!(
                    bench.now(operation).as_ref(),
                    Some(&fill.volume),
                    "it waits still"
                );
                run(&*bench.driver, operation).expect("it can be done again");
            }
            let volume = bench.now(operation).expect("there");
            assert_eq!((volume.id, &volume.restoring), (fill.volume.id, &None));
            bench.check_furniture(&volume);
            bench.clear(&volume.name);
        },
    },
    Case {
        title: "fill a volume that has data",
        when: always,
        prepare: |bench| {
            let volume = bench.make(&bench.fresh("x"));
            bench.write(&volume, "old");
            Operation::Fill(filling(&volume))
        },
        judge: |bench, operation, outcome| {
            let Operation::Fill(fill) = operation else {
                unreachable!("a fill")
            };
            let volume = bench.now(operation).expect("there");
            assert_eq!(volume, fill.volume);
            if *outcome == Outcome::Undone {
                assert_eq!(bench.read(&volume).as_deref(), Some("old"));
                run(&*bench.driver, operation).expect("it can be done again");
            }
            bench.check_furniture(&volume);
            bench.clear(&volume.name);
        },
    },
    Case {
        title: "a snapshot in a repository",
        when: |bench| {
            matches!(
                bench.driver.capabilities().snapshots,
                Support::ByRepository { .. }
            )
        },
        prepare: |bench| {
            let volume = bench.make(&bench.fresh("x"));
            bench.furnish(&volume);
            Operation::Snapshot(storing(&volume, "s"))
        },
        judge: |bench, operation, outcome| {
            let Operation::Snapshot(take) = operation else {
                unreachable!("a snapshot")
            };
            if *outcome == Outcome::Undone {
                assert_eq!(bench.now(operation).as_ref(), Some(&take.volume));
                bench.driver.snapshot(take).expect("it can be done again");
            }
            let volume = bench.now(operation).expect("there");
            assert_eq!(
                volume.snapshots.iter().map(|s| s.id).collect::<Vec<_>>(),
                [take.id]
            );
            assert!(volume.snapshots[0].stored.is_some());
            bench.check_furniture(&volume);
            bench.clear(&volume.name);
        },
    },
];
