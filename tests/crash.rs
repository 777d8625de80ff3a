//! kill -9 at every step of every operation, then a start: nothing acknowledged is lost, nothing half-done is left, and
//! no name is unusable.
//!
//! Debug builds pass named fault points between the steps. Each case runs once to count them, then once per point with
//! the daemon killed there. Nothing here lists the points, so a new one is covered the day it is written.

mod daemon;

use std::path::Path;

use daemon::{Daemon, Home, mounted_below};
use serde_json::Value;

/// One operation under test.
struct Case {
    /// The beginning of its fault points' names.
    scope: &'static str,
    /// What must be there before.
    prepare: fn(&Daemon<'_>, &Home),
    /// The operation itself; it may go unanswered.
    act: fn(&Daemon<'_>),
    /// What must hold after the crash and the next start.
    check: fn(&Daemon<'_>, &Home),
}

impl Case {
    /// Kills the daemon at each point in turn. Says how many there were.
    fn run(&self, make: impl Fn() -> Home) -> usize {
        let points = self.trace(&make());
        assert!(points.len() >= 3, "{}: only {points:?}", self.scope);
        for (index, point) in points.iter().enumerate() {
            println!("{}: kill at {point}", self.scope);
            let home = make();
            self.prepared(&home);
            let daemon = home.start_with(|command| {
                command
                    .env("WINDLASS_FAULT", (index + 1).to_string())
                    .env("WINDLASS_FAULT_SCOPE", self.scope);
            });
            (self.act)(&daemon);
            let status = daemon.wait();
            assert!(status.contains("signal: 9"), "{point}: {status}");
            let daemon = home.start();
            self.sound(&daemon, &home, point);
            (self.check)(&daemon, &home);
            daemon.stop();
            // And nothing is repaired twice: the next start finds all in order.
            let daemon = home.start();
            self.sound(&daemon, &home, point);
            (self.check)(&daemon, &home);
        }
        points.len()
    }

    fn prepared(&self, home: &Home) {
        let daemon = home.start();
        daemon.say(&["create", "bystander"]);
        std::fs::write(home.volumes().join("bystander/data"), "untouched").expect("writes");
        (self.prepare)(&daemon, home);
        daemon.stop();
    }

    fn trace(&self, home: &Home) -> Vec<String> {
        self.prepared(home);
        let file = home.path().join("trace");
        let daemon = home.start_with(|command| {
            command
                .env("WINDLASS_FAULT_TRACE", &file)
                .env("WINDLASS_FAULT_SCOPE", self.scope);
        });
        (self.act)(&daemon);
        // A delete is acknowledged before the data is gone; its purge is a part of the case.
        std::thread::sleep(std::time::Duration::from_millis(300));
        // Read before the check, which passes points of its own.
        let trace = std::fs::read_to_string(file).expect("a trace");
        daemon.kill();
        (self.check)(&home.start(), home);
        trace.lines().map(str::to_owned).collect()
    }

    /// What must hold after any crash whatever.
    fn sound(&self, daemon: &Daemon<'_>, home: &Home, point: &str) {
        // A clone that was under way is gone on with, once its job's turn has come.
        let is_restoring = |list: &Value| {
            let states = [r#""State":"restoring"#, r#""State":"waiting for its data"#];
            states.iter().any(|state| list.to_string().contains(state))
        };
        let mut list = daemon.json(&["list"]);
        for _ in 0..500 {
            if !is_restoring(&list) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            list = daemon.json(&["list"]);
        }
        for (name, volume) in list.as_object().expect("an object") {
            assert_eq!(volume["State"], "ready", "{point}: {name}");
        }
        let bystander = std::fs::read_to_string(home.volumes().join("bystander/data"));
        assert_eq!(bystander.expect("the bystander"), "untouched", "{point}");
        assert!(list["bystander"].is_object(), "{point}");
        let warnings = &daemon.json(&["info"])["General"]["Warnings"];
        assert_eq!(*warnings, serde_json::json!([]), "{point}");
        // The purge of what was removed for good goes on in the background.
        let soon = |what: &str, left: &dyn Fn() -> i64| {
            let begun = std::time::Instant::now();
            while left() != 0 {
                assert!(
                    begun.elapsed().as_secs() < 5,
                    "{point}: {what} is left; the log:\n{}",
                    home.log()
                );
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        };
        soon("something in staging", &|| {
            entries(&home.volumes().join(".windlass/staging")) as i64
        });
        let state = rusqlite::Connection::open(home.root().join("state.db")).expect("the records");
        let count = |row: &rusqlite::Row<'_>| row.get(0);
        soon("an intent", &|| {
            state
                .query_row("SELECT count(*) FROM intent", [], count)
                .expect("a count")
        });
    }
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

fn data(home: &Home) -> Option<String> {
    std::fs::read_to_string(home.volumes().join("v/data")).ok()
}

fn volume(daemon: &Daemon<'_>, name: &str) -> Option<Value> {
    let list = daemon.json(&["list"]);
    list.get(name).cloned()
}

fn with_data(daemon: &Daemon<'_>, home: &Home) {
    daemon.say(&["create", "v"]);
    std::fs::write(home.volumes().join("v/data"), "precious").expect("writes");
}

fn with_snapshot(daemon: &Daemon<'_>, home: &Home) {
    with_data(daemon, home);
    daemon.say(&["snapshot", "create", "v", "--name", "s"]);
    std::fs::write(home.volumes().join("v/data"), "changed").expect("writes");
}

fn in_trash(daemon: &Daemon<'_>) -> usize {
    daemon.json(&["trash", "list"]).as_array().map_or(0, Vec::len)
}

/// The name is free: it can be created, used and deleted.
fn name_is_usable(daemon: &Daemon<'_>, name: &str) {
    let body = format!(r#"{{"Name":"{name}","ID":"probe"}}"#);
    daemon.ok("VolumeDriver.Create", &body);
    daemon.ok("VolumeDriver.Mount", &body);
    daemon.ok("VolumeDriver.Unmount", &body);
}

/// Waits until nothing is owed any more.
fn paid(home: &Home) {
    let state = rusqlite::Connection::open(home.root().join("state.db")).expect("the records");
    for _ in 0..1_000 {
        let owed: i64 = state
            .query_row("SELECT count(*) FROM duty", [], |row| row.get(0))
            .expect("a count");
        if owed == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("something is still owed; the log:\n{}", home.log());
}

fn with_two(daemon: &Daemon<'_>, home: &Home) {
    for name in ["v", "w"] {
        daemon.say(&["create", name]);
        std::fs::write(home.volumes().join(name).join("data"), "precious").expect("writes");
    }
}

/// All of its snapshots, or none.
#[test]
fn checkpoint() {
    Case {
        scope: "checkpoint.",
        prepare: with_two,
        act: |daemon| drop(daemon.run(&["checkpoint", "create", "c", "v", "w"])),
        check: |daemon, home| {
            paid(home);
            let all = daemon.json(&["checkpoint", "list"]);
            match all.as_array().expect("a list").as_slice() {
                [] => {
                    let left = daemon.json(&["snapshot", "list"]);
                    assert_eq!(left, serde_json::json!({}), "half of a checkpoint is left");
                    daemon.say(&["checkpoint", "create", "c", "v", "w"]);
                }
                [one] => assert_eq!(one["Missing"], serde_json::json!([])),
                more => panic!("{more:?}"),
            }
            daemon.say(&["snapshot", "inspect", "v@c"]);
            daemon.say(&["snapshot", "inspect", "w@c"]);
        },
    }
    .run(|| Home::on("btrfs"));
}

/// A revert of several that is cut off is told, and can be done again.
#[test]
fn revert_to_a_checkpoint() {
    Case {
        scope: "checkpoint.reverted",
        prepare: |daemon, home| {
            with_two(daemon, home);
            daemon.say(&["checkpoint", "create", "c", "v", "w"]);
            for name in ["v", "w"] {
                std::fs::write(home.volumes().join(name).join("data"), "changed").expect("writes");
            }
        },
        act: |daemon| drop(daemon.run(&["checkpoint", "revert", "c"])),
        check: |daemon, home| {
            paid(home);
            daemon.say(&["checkpoint", "revert", "c"]);
            for name in ["v", "w"] {
                let found = std::fs::read_to_string(home.volumes().join(name).join("data"));
                assert_eq!(found.expect("its data"), "precious", "{name}");
            }
        },
    }
    .run(|| Home::on("btrfs"));
}

#[test]
fn create() {
    Case {
        scope: "create.",
        prepare: |_, _| (),
        act: |daemon| drop(daemon.try_call("VolumeDriver.Create", r#"{"Name":"v","Opts":{"mode":"0700"}}"#)),
        check: |daemon, home| {
            if volume(daemon, "v").is_none() {
                assert!(
                    !home.volumes().join("v").exists(),
                    "a directory that belongs to no volume"
                );
            }
            name_is_usable(daemon, "v");
            assert!(home.volumes().join("v").is_dir());
        },
    }
    .run(Home::new);
}

#[test]
fn remove_to_the_trash() {
    Case {
        scope: "remove.",
        prepare: with_data,
        act: |daemon| drop(daemon.try_call("VolumeDriver.Remove", r#"{"Name":"v"}"#)),
        check: |daemon, home| match volume(daemon, "v") {
            Some(_) => assert_eq!(data(home).as_deref(), Some("precious")),
            None => {
                assert_eq!(in_trash(daemon), 1);
                daemon.say(&["undelete", "v"]);
                assert_eq!(data(home).as_deref(), Some("precious"));
                daemon.say(&["delete", "v"]);
            }
        },
    }
    .run(Home::new);
}

#[test]
fn remove_and_keep() {
    Case {
        scope: "remove.",
        prepare: with_data,
        act: |daemon| drop(daemon.run(&["delete", "--reference", "v"])),
        check: |daemon, home| {
            assert_eq!(data(home).as_deref(), Some("precious"));
            if volume(daemon, "v").is_none() {
                daemon.say(&["create", "v"]);
                assert_eq!(data(home).as_deref(), Some("precious"), "taken up again");
                daemon.say(&["delete", "--reference", "v"]);
            }
        },
    }
    .run(Home::new);
}

#[test]
fn delete_for_good() {
    Case {
        scope: "remove.",
        prepare: with_data,
        act: |daemon| {
            daemon.run(&["delete", "--purge", "v"]);
            std::thread::sleep(std::time::Duration::from_millis(300));
        },
        check: |daemon, home| match volume(daemon, "v") {
            Some(_) => assert_eq!(data(home).as_deref(), Some("precious")),
            None => {
                // What the crash kept from being destroyed is destroyed soon after the start.
                for _ in 0..100 {
                    if entries(&home.volumes().join(".windlass/trash")) == 0 {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                assert_eq!(entries(&home.volumes().join(".windlass/trash")), 0);
                assert!(!home.volumes().join("v").exists());
            }
        },
    }
    .run(Home::new);
}

#[test]
fn undelete() {
    Case {
        scope: "undelete.",
        prepare: |daemon, home| {
            with_data(daemon, home);
            daemon.say(&["delete", "v"]);
        },
        act: |daemon| drop(daemon.run(&["undelete", "v"])),
        check: |daemon, home| {
            if volume(daemon, "v").is_none() {
                assert_eq!(in_trash(daemon), 1);
                daemon.say(&["undelete", "v"]);
            }
            assert_eq!((data(home).as_deref(), in_trash(daemon)), (Some("precious"), 0));
        },
    }
    .run(Home::new);
}

#[test]
fn purge() {
    Case {
        scope: "purge.",
        prepare: |daemon, home| {
            with_data(daemon, home);
            daemon.say(&["delete", "v"]);
        },
        act: |daemon| drop(daemon.run(&["trash", "purge", "v"])),
        check: |daemon, home| match in_trash(daemon) {
            0 => assert_eq!(
                entries(&home.volumes().join(".windlass/trash")),
                0,
                "half of it is left"
            ),
            _ => {
                daemon.say(&["undelete", "v"]);
                assert_eq!(data(home).as_deref(), Some("precious"));
                daemon.say(&["delete", "v"]);
            }
        },
    }
    .run(Home::new);
}

#[test]
fn mount() {
    Case {
        scope: "mount.",
        prepare: with_data,
        act: |daemon| drop(daemon.try_call("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#)),
        check: |daemon, home| {
            // The engine was not answered: it will mount again, and unmount once.
            daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
            assert_eq!(mounted_below(&home.mounts()).len(), 1);
            assert_eq!(
                std::fs::read_to_string(home.mounts().join("v/data")).expect("mounted"),
                "precious"
            );
            daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#);
            assert!(mounted_below(&home.mounts()).is_empty());
        },
    }
    .run(Home::new);
}

#[test]
fn unmount() {
    Case {
        scope: "unmount.",
        prepare: |daemon, home| {
            with_data(daemon, home);
            daemon.ok("VolumeDriver.Mount", r#"{"Name":"v","ID":"c1"}"#);
        },
        act: |daemon| drop(daemon.try_call("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#)),
        check: |daemon, home| {
            daemon.ok("VolumeDriver.Unmount", r#"{"Name":"v","ID":"c1"}"#);
            assert!(mounted_below(&home.mounts()).is_empty());
            assert_eq!(data(home).as_deref(), Some("precious"));
        },
    }
    .run(Home::new);
}

fn snapshot_case() -> Case {
    Case {
        scope: "snapshot.",
        prepare: with_data,
        act: |daemon| drop(daemon.run(&["snapshot", "create", "v", "--name", "s"])),
        check: |daemon, home| {
            let there = volume(daemon, "v").expect("the volume")["Snapshots"]["s"].is_object();
            if !there {
                daemon.say(&["snapshot", "create", "v", "--name", "s"]);
            }
            std::fs::write(home.volumes().join("v/data"), "changed").expect("writes");
            daemon.say(&["snapshot", "revert", "v@s"]);
            assert_eq!(data(home).as_deref(), Some("precious"));
        },
    }
}

fn remove_snapshot_case() -> Case {
    Case {
        scope: "remove-snapshot.",
        prepare: with_snapshot,
        act: |daemon| drop(daemon.run(&["snapshot", "delete", "v@s"])),
        check: |daemon, home| {
            assert_eq!(data(home).as_deref(), Some("changed"));
            if volume(daemon, "v").expect("the volume")["Snapshots"]["s"].is_object() {
                daemon.say(&["create", "look", "--from", "v@s"]);
                let look = std::fs::read_to_string(home.volumes().join("look/data"));
                assert_eq!(look.expect("a clone"), "precious");
                daemon.say(&["delete", "--purge", "look"]);
            } else {
                let id = volume(daemon, "v").expect("the volume")["UUID"]
                    .as_str()
                    .expect("an id")
                    .to_owned();
                assert_eq!(
                    entries(&home.volumes().join(".windlass/snapshots").join(id)),
                    0,
                    "its data is left"
                );
            }
        },
    }
}

fn revert_case() -> Case {
    Case {
        scope: "revert.",
        prepare: with_snapshot,
        act: |daemon| drop(daemon.run(&["snapshot", "revert", "v@s"])),
        check: |daemon, home| {
            let found = data(home).expect("the data is there, one or the other");
            assert!(found == "precious" || found == "changed", "{found:?}");
            daemon.say(&["snapshot", "revert", "v@s"]);
            assert_eq!(data(home).as_deref(), Some("precious"));
        },
    }
}

fn clone_case() -> Case {
    Case {
        scope: "create.",
        prepare: with_snapshot,
        act: |daemon| drop(daemon.run(&["create", "clone", "--from", "v@s"])),
        check: |daemon, home| {
            if volume(daemon, "clone").is_none() {
                assert!(!home.volumes().join("clone").exists());
                daemon.say(&["create", "clone", "--from", "v@s"]);
            }
            let clone = std::fs::read_to_string(home.volumes().join("clone/data"));
            assert_eq!(clone.expect("the clone"), "precious");
            assert_eq!(data(home).as_deref(), Some("changed"));
        },
    }
}

#[test]
fn snapshot_on_btrfs() {
    snapshot_case().run(|| Home::on("btrfs"));
}

#[test]
fn snapshot_on_xfs() {
    snapshot_case().run(|| Home::on("xfs"));
}

#[test]
fn remove_snapshot_on_btrfs() {
    remove_snapshot_case().run(|| Home::on("btrfs"));
}

#[test]
fn remove_snapshot_on_xfs() {
    remove_snapshot_case().run(|| Home::on("xfs"));
}

#[test]
fn revert_on_btrfs() {
    revert_case().run(|| Home::on("btrfs"));
}

#[test]
fn revert_on_xfs() {
    revert_case().run(|| Home::on("xfs"));
}

#[test]
fn clone_on_btrfs() {
    clone_case().run(|| Home::on("btrfs"));
}

#[test]
fn clone_on_xfs() {
    clone_case().run(|| Home::on("xfs"));
}

/// Snapshots in a repository: soon after the start, there is a backup for each of them and no other.
fn backups_are_snapshots(daemon: &Daemon<'_>, home: &Home) {
    let v = volume(daemon, "v").expect("the volume");
    let snapshots = v["Snapshots"].as_object().expect("an object").len();
    let id = v["UUID"].as_str().expect("an id");
    let backups = home
        .volumes()
        .join(".windlass/repository")
        .join(id)
        .join("snapshots");
    for attempt in 0.. {
        // A crash can leave a temporary file too, which is no backup and goes in time.
        let found = std::fs::read_dir(&backups).map_or(0, |entries| {
            let names = entries.flatten().map(|entry| entry.file_name());
            names
                .filter(|name| !name.to_string_lossy().starts_with('.'))
                .count()
        });
        if found == snapshots {
            return;
        }
        assert!(
            attempt < 500,
            "{snapshots} snapshots and {found} backups; the log:\n{}",
            home.log()
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn stored_snapshot() {
    Case {
        scope: "snapshot.",
        prepare: with_data,
        act: |daemon| drop(daemon.run(&["snapshot", "create", "v", "--name", "s"])),
        check: |daemon, home| {
            backups_are_snapshots(daemon, home);
            if !volume(daemon, "v").expect("the volume")["Snapshots"]["s"].is_object() {
                daemon.say(&["snapshot", "create", "v", "--name", "s"]);
                backups_are_snapshots(daemon, home);
            }
            std::fs::write(home.volumes().join("v/data"), "changed").expect("writes");
            daemon.say(&["snapshot", "revert", "v@s"]);
            assert_eq!(data(home).as_deref(), Some("precious"));
        },
    }
    .run(|| Home::on("ext4"));
}

#[test]
fn remove_stored_snapshot() {
    Case {
        scope: "remove-snapshot.",
        prepare: with_snapshot,
        act: |daemon| drop(daemon.run(&["snapshot", "delete", "v@s"])),
        check: |daemon, home| {
            backups_are_snapshots(daemon, home);
            assert_eq!(data(home).as_deref(), Some("changed"));
            if volume(daemon, "v").expect("the volume")["Snapshots"]["s"].is_object() {
                daemon.say(&["snapshot", "revert", "v@s"]);
                assert_eq!(data(home).as_deref(), Some("precious"));
                std::fs::write(home.volumes().join("v/data"), "changed").expect("writes");
            }
        },
    }
    .run(|| Home::on("ext4"));
}

#[test]
fn revert_to_a_stored_snapshot() {
    Case {
        scope: "fill.",
        ..revert_case()
    }
    .run(|| Home::on("ext4"));
}

#[test]
fn clone_of_a_stored_snapshot() {
    Case {
        scope: "create.",
        prepare: with_snapshot,
        act: |daemon| {
            daemon.run(&["create", "clone", "--from", "v@s"]);
            daemon.run(&["mount", "clone"]);
        },
        check: |daemon, home| {
            if volume(daemon, "clone").is_none() {
                assert!(!home.volumes().join("clone").exists());
                daemon.say(&["create", "clone", "--from", "v@s"]);
            }
            daemon.say(&["mount", "clone"]);
            daemon.say(&["umount", "clone"]);
            let clone = std::fs::read_to_string(home.volumes().join("clone/data"));
            assert_eq!(clone.expect("the clone"), "precious");
            assert_eq!(data(home).as_deref(), Some("changed"));
        },
    }
    .run(|| Home::on("ext4"));
}
