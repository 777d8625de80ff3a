//! The second half of the suite: death at every point of every operation, and at every point of the recovery.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::*;

/// How to bring an operation about, and how to tell what became of it.
pub(super) struct Case {
    pub(super) title: &'static str,
    /// Whether a driver can do it.
    pub(super) when: fn(&Bench) -> bool,
    pub(super) prepare: fn(&Bench) -> Operation,
    /// Sees whether the operation is entirely done or entirely undone, as the outcome says; removes the traces.
    pub(super) judge: fn(&Bench, &Operation, &Outcome),
}

const BYSTANDER: &str = "bystander";

impl Bench {
    pub(super) fn crashes_are_survived(&self) {
        let bystander = self.make_bystander();
        for case in self.cases() {
            let deaths = self.kill_everywhere(case, &bystander);
            println!("{}: survived {deaths} deaths", case.title);
        }
        self.clear(&bystander.name);
    }

    fn kill_everywhere(&self, case: &Case, bystander: &Volume) -> usize {
        let mut deaths = 0;
        for point in 1.. {
            assert!(point < 200, "{}: does it ever end?", case.title);
            let operation = (case.prepare)(self);
            let died = self.die_at(point, &operation, false);
            let driver = (self.fixture.open)();
            // Recovery dies at its first point, then, begun again, at its second, and so on.
            let mut again = 1;
            while died && self.die_at(again, &operation, true) {
                again += 1;
            }
            deaths += usize::from(died) + again - 1;
            let context = format!("{}, death {point}", case.title);
            self.settle(case, &operation, &*driver, !died, &context);
            assert_eq!(self.find(&bystander.name).as_ref(), Some(bystander), "{context}");
            if !died {
                break;
            }
        }
        deaths
    }

    /// Recovers by a driver that was opened after the death, and sees that nothing is half there: neither of the operation, which must
    /// be finished where it `is_done`, nor of anything else.
    pub(super) fn settle(
        &self,
        case: &Case,
        operation: &Operation,
        driver: &dyn Driver,
        is_done: bool,
        context: &str,
    ) -> Outcome {
        let outcome = driver.recover(operation).expect("recovered");
        let context = format!("{context}: {outcome:?}");
        println!("{context}");
        if is_done {
            assert_eq!(outcome, Outcome::Finished, "{context}");
        }
        assert_eq!(
            driver.recover(operation).expect("recovered again"),
            outcome,
            "{context}"
        );
        assert_eq!((self.fixture.leftovers)(), [""; 0], "{context}");
        assert_eq!(driver.volumes().expect("listed").damaged, [], "{context}");
        (case.judge)(self, operation, &outcome);
        assert_eq!((self.fixture.leftovers)(), [""; 0], "{context}");
        let bystander = self.find(&name(BYSTANDER)).expect("the bystander");
        assert_eq!(self.read(&bystander).as_deref(), Some("untouched"), "{context}");
        let listing = driver.volumes().expect("listed");
        assert_eq!(listing.volumes.len(), 1, "{context}: {listing:?}");
        assert_eq!(driver.trash().expect("a trash"), [], "{context}");
        outcome
    }

    /// A volume that no operation is about.
    pub(super) fn make_bystander(&self) -> Volume {
        let bystander = self.make(&name(BYSTANDER));
        self.write(&bystander, "untouched");
        bystander
    }

    /// The operations that this driver has.
    pub(super) fn cases(&self) -> impl Iterator<Item = &'static Case> {
        let all = CASES.iter().chain(super::fill::CASES);
        all.filter(|case| (case.when)(self))
    }

    /// Runs the operation, or its recovery, in a child that is killed at its n-th fault point; false when it survives.
    fn die_at(&self, point: usize, operation: &Operation, recover: bool) -> bool {
        let (test, environment) = &self.fixture.child;
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["--exact", test, "--nocapture"])
            .envs(environment.iter().cloned())
            .env(
                OPERATION,
                serde_json::to_string(operation).expect("an operation is JSON"),
            )
            .env("WINDLASS_FAULT", point.to_string())
            .env("WINDLASS_FAULT_SCOPE", "conformance.");
        if recover {
            command.env(RECOVER, "1");
        }
        let output = command.output().expect("the child runs");
        let died = output.status.signal() == Some(libc::SIGKILL);
        assert!(
            died || output.status.success(),
            "{operation:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            died || report.contains("1 passed"),
            "no test is named {test}: {report}"
        );
        died
    }

    /// The volume of an operation's record, as it is now.
    pub(super) fn now(&self, operation: &Operation) -> Option<Volume> {
        self.find(operation.volume())
    }
}

pub(super) fn always(_: &Bench) -> bool {
    true
}

const CASES: &[Case] = &[
    Case {
        title: "create",
        when: always,
        prepare: |bench| {
            let mut create = wish(&*bench.driver, &bench.fresh("x"));
            create.root.mode = Some(0o700);
            Operation::Create(create)
        },
        judge: |bench, operation, outcome| {
            let Operation::Create(create) = operation else {
                unreachable!("a create")
            };
            match outcome {
                Outcome::Finished => {
                    let volume = bench.now(operation).expect("finished");
                    assert_eq!(volume.id, create.volume.id);
                    bench.inside(&volume, |dir| {
                        assert_eq!(fs::metadata(dir).expect("there").mode() & 0o7777, 0o700);
                    });
                }
                Outcome::Undone => {
                    assert_eq!(bench.now(operation), None);
                    bench.make(operation.volume());
                }
            }
            bench.clear(operation.volume());
        },
    },
    Case {
        title: "create a clone",
        when: Bench::has_snapshots,
        prepare: |bench| {
            let source = bench.make(&bench.fresh("source"));
            bench.furnish(&source);
            let source = bench.driver.snapshot(&taking(&source, "s")).expect("a snapshot");
            Operation::Create(bench.clone_wish(&bench.fresh("x"), &source, 0))
        },
        judge: |bench, operation, outcome| {
            let Operation::Create(create) = operation else {
                unreachable!("a create")
            };
            match outcome {
                Outcome::Finished => bench.check_furniture(&bench.now(operation).expect("finished")),
                Outcome::Undone => {
                    assert_eq!(bench.now(operation), None);
                    let again = bench.driver.create(create).expect("it can be done again");
                    bench.check_furniture(&again.volume);
                }
            }
            bench.clear(operation.volume());
            let source = &create.from.as_ref().expect("a clone").volume;
            bench.check_furniture(source);
            bench.clear(&source.name);
        },
    },
    Case {
        title: "take up again",
        when: always,
        prepare: |bench| {
            let kept = bench.make(&bench.fresh("x"));
            bench.write(&kept, "kept");
            bench
                .driver
                .remove(&removal(&kept, OnRemove::Keep))
                .expect("let go");
            let mut create = wish(&*bench.driver, &kept.name);
            create.root.mode = Some(0o711);
            Operation::Create(create)
        },
        judge: |bench, operation, outcome| {
            let Operation::Create(create) = operation else {
                unreachable!("a create")
            };
            let volume = match outcome {
                Outcome::Finished => bench.now(operation).expect("finished"),
                Outcome::Undone => {
                    assert_eq!(bench.now(operation), None);
                    let again = bench.driver.create(create).expect("it can be done again");
                    assert!(matches!(again.origin, Origin::TakenUpAgain { .. }));
                    again.volume
                }
            };
            assert_ne!(volume.id, create.volume.id);
            assert_eq!(bench.read(&volume).as_deref(), Some("kept"));
            bench.inside(&volume, |dir| {
                assert_eq!(fs::metadata(dir).expect("there").mode() & 0o7777, 0o711);
            });
            bench.clear(operation.volume());
            // And no second life after that.
            bench.make(operation.volume());
            bench.clear(operation.volume());
        },
    },
    Case {
        title: "adopt",
        when: always,
        prepare: |bench| {
            let mut create = wish(&*bench.driver, &bench.fresh("x"));
            if let Some(make_foreign) = &bench.fixture.foreign {
                make_foreign(&create.volume.name);
                create.adopt = true;
            }
            Operation::Create(create)
        },
        judge: |bench, operation, outcome| {
            let Operation::Create(create) = operation else {
                unreachable!("a create")
            };
            if *outcome == Outcome::Undone {
                assert_eq!(bench.now(operation), None);
                bench.driver.create(create).expect("it can be done again");
            }
            let volume = bench.now(operation).expect("finished");
            assert_eq!(volume.id, create.volume.id);
            bench.inside(&volume, |dir| {
                assert_eq!(dir.join("foreign").exists(), create.adopt)
            });
            bench.clear(operation.volume());
        },
    },
    Case {
        title: "remove to the trash",
        when: always,
        prepare: |bench| {
            let volume = bench.make(&bench.fresh("x"));
            bench.write(&volume, "precious");
            Operation::Remove(removal(&volume, OnRemove::Trash))
        },
        judge: |bench, operation, outcome| {
            let Operation::Remove(remove) = operation else {
                unreachable!("a remove")
            };
            if *outcome == Outcome::Undone {
                assert_eq!(bench.now(operation).as_ref(), Some(&remove.volume));
                bench.driver.remove(remove).expect("it can be done again");
            }
            assert_eq!(bench.now(operation), None);
            bench.make(operation.volume());
            let undelete = Undelete {
                id: remove.volume.id,
                name: bench.fresh("back"),
            };
            let back = bench.driver.undelete(&undelete).expect("brought back");
            assert_eq!(bench.read(&back).as_deref(), Some("precious"));
            bench.clear(&back.name);
            bench.clear(operation.volume());
        },
    },
    Case {
        title: "let go",
        when: always,
        prepare: |bench| {
            let volume = bench.make(&bench.fresh("x"));
            bench.write(&volume, "kept");
            Operation::Remove(removal(&volume, OnRemove::Keep))
        },
        judge: |bench, operation, outcome| {
            let Operation::Remove(remove) = operation else {
                unreachable!("a remove")
            };
            if *outcome == Outcome::Undone {
                assert_eq!(bench.now(operation).as_ref(), Some(&remove.volume));
                bench.driver.remove(remove).expect("it can be done again");
            }
            assert_eq!(bench.now(operation), None);
            let again = bench
                .driver
                .create(&wish(&*bench.driver, operation.volume()))
                .expect("taken up");
            assert_eq!(again.volume.id, remove.volume.id);
            assert_eq!(bench.read(&again.volume).as_deref(), Some("kept"));
            bench.clear(operation.volume());
        },
    },
    Case {
        title: "undelete",
        when: always,
        prepare: |bench| {
            let volume = bench.make(&bench.fresh("x"));
            bench.write(&volume, "precious");
            bench
                .driver
                .remove(&removal(&volume, OnRemove::Trash))
                .expect("removed");
            Operation::Undelete(Undelete {
                id: volume.id,
                name: bench.fresh("y"),
            })
        },
        judge: |bench, operation, outcome| {
            let Operation::Undelete(undelete) = operation else {
                unreachable!("an undelete")
            };
            if *outcome == Outcome::Undone {
                assert_eq!(bench.now(operation), None);
                assert!(bench.trashed(undelete.id));
                bench.driver.undelete(undelete).expect("it can be done again");
            }
            let volume = bench.now(operation).expect("finished");
            assert_eq!(volume.id, undelete.id);
            assert!(!bench.trashed(undelete.id));
            assert_eq!(bench.read(&volume).as_deref(), Some("precious"));
            bench.clear(operation.volume());
        },
    },
    Case {
        title: "purge",
        when: always,
        prepare: |bench| {
            let mut volume = bench.make(&bench.fresh("x"));
            bench.write(&volume, "to be destroyed");
            if bench.has_snapshots() {
                for snapshot in ["one", "two"] {
                    volume = bench
                        .driver
                        .snapshot(&taking(&volume, snapshot))
                        .expect("a snapshot");
                }
            }
            if let Some(repository) = bench.repository(&volume) {
                fs::create_dir_all(repository.join("data/00")).expect("a repository");
            }
            bench
                .driver
                .remove(&removal(&volume, OnRemove::Delete))
                .expect("removed");
            Operation::Purge(Purge {
                id: volume.id,
                name: volume.name,
            })
        },
        judge: |bench, operation, outcome| {
            let Operation::Purge(purge) = operation else {
                unreachable!("a purge")
            };
            let mut destroyed = wish(&*bench.driver, &purge.name).volume;
            destroyed.id = purge.id;
            let repository = bench.repository(&destroyed);
            if *outcome == Outcome::Undone {
                assert!(bench.trashed(purge.id));
                assert!(
                    repository
                        .as_ref()
                        .is_none_or(|path| path.join("data/00").exists())
                );
                bench.driver.purge(purge).expect("it can be done again");
            }
            assert!(!bench.trashed(purge.id));
            assert!(repository.is_none_or(|path| !path.exists()));
            not_found(bench.driver.purge(purge));
            bench.make(&purge.name);
            bench.clear(&purge.name);
        },
    },
    Case {
        title: "snapshot",
        when: Bench::has_snapshots,
        prepare: |bench| {
            let volume = bench.make(&bench.fresh("x"));
            bench.furnish(&volume);
            Operation::Snapshot(taking(&volume, "s"))
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
            bench.write(&volume, "changed");
            bench.revert(&volume, 0).expect("reverted");
            bench.check_furniture(&volume);
            bench.clear(&volume.name);
        },
    },
    Case {
        title: "remove a snapshot",
        when: Bench::has_snapshots,
        prepare: |bench| {
            let volume = bench.make(&bench.fresh("x"));
            bench.furnish(&volume);
            let volume = bench
                .driver
                .snapshot(&taking(&volume, "stays"))
                .expect("a snapshot");
            let volume = bench
                .driver
                .snapshot(&taking(&volume, "goes"))
                .expect("a snapshot");
            Operation::RemoveSnapshot(RemoveSnapshot {
                snapshot: volume.snapshots[1].clone(),
                volume,
            })
        },
        judge: |bench, operation, outcome| {
            let Operation::RemoveSnapshot(remove) = operation else {
                unreachable!("a removal")
            };
            if *outcome == Outcome::Undone {
                assert_eq!(bench.now(operation).as_ref(), Some(&remove.volume));
                bench
                    .driver
                    .remove_snapshot(remove)
                    .expect("it can be done again");
            }
            let volume = bench.now(operation).expect("there");
            assert_eq!(volume.snapshots, remove.volume.snapshots[..1]);
            let volume = bench
                .driver
                .snapshot(&taking(&volume, "goes"))
                .expect("the name is free");
            bench.write(&volume, "changed");
            bench.revert(&volume, 0).expect("reverted");
            bench.check_furniture(&volume);
            bench.clear(&volume.name);
        },
    },
    Case {
        title: "grow",
        when: |bench| bench.driver.capabilities().content == crate::driver::Content::Block,
        prepare: |bench| {
            let volume = bench.make(&bench.fresh("x"));
            bench.write(&volume, "grows");
            let size = volume.size.expect("a device has a size").0;
            Operation::Grow(growing(&volume, size + (32 << 20)))
        },
        judge: |bench, operation, outcome| {
            let Operation::Grow(grow) = operation else {
                unreachable!("a growth")
            };
            if *outcome == Outcome::Undone {
                assert_eq!(bench.now(operation).as_ref(), Some(&grow.volume));
                bench.driver.grow(grow).expect("it can be done again");
            }
            let volume = bench.now(operation).expect("there");
            assert_eq!(volume.size, Some(grow.size));
            assert_eq!(bench.read(&volume).as_deref(), Some("grows"));
            bench.clear(&volume.name);
        },
    },
    Case {
        title: "revert",
        when: Bench::has_snapshots,
        prepare: |bench| {
            let volume = bench.make(&bench.fresh("x"));
            bench.furnish(&volume);
            let volume = bench.driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
            bench.write(&volume, "newer");
            let snapshot = volume.snapshots[0].clone();
            Operation::Revert(Revert {
                volume,
                snapshot,
                id: SnapshotId::random(),
            })
        },
        judge: |bench, operation, outcome| {
            let Operation::Revert(revert) = operation else {
                unreachable!("a revert")
            };
            let volume = bench.now(operation).expect("there");
            assert_eq!(volume, revert.volume);
            if *outcome == Outcome::Undone {
                assert_eq!(bench.read(&volume).as_deref(), Some("newer"));
                bench.driver.revert(revert).expect("it can be done again");
            }
            bench.check_furniture(&volume);
            bench.clear(&volume.name);
        },
    },
];
