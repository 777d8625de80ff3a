//! What can go wrong with a pool: the wrong one, a damaged one, a full one, one that somebody else holds.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::*;
use crate::driver::conformance::{name, removal, taking};
use crate::model::OnRemove;
use kernel::Writable;
use thins::Suspended;

fn make(driver: &Devicemapper, volume: &str) -> Volume {
    driver
        .create(&wish(driver, &name(volume)))
        .expect("created")
        .volume
}

fn refused<T: std::fmt::Debug>(result: Result<T>, why: &str) -> String {
    let said = result.expect_err("refused").to_string();
    assert!(said.contains(why), "{said}");
    said
}

/// As after a restart of the machine: nothing is active, nothing attached.
fn switch_off(scratch: &Scratch) {
    tear_down(&scratch.root());
}

#[test]
fn volumes_are_there_after_a_restart_of_the_machine() {
    with_pools(
        "trouble::volumes_are_there_after_a_restart_of_the_machine",
        || {
            let scratch = Scratch::new();
            let target = tempfile::tempdir().expect("a mount point");
            let volume = {
                let driver = scratch.open(&[]).expect("a pool");
                let volume = make(&driver, "v");
                driver.mount(&volume, target.path()).expect("mounted");
                fs::write(target.path().join("f"), "kept").expect("written");
                driver.unmount(&volume, target.path()).expect("unmounted");
                driver.snapshot(&taking(&volume, "s")).expect("a snapshot")
            };
            switch_off(&scratch);
            let driver = scratch.open(&[]).expect("the same pool");
            assert_eq!(driver.volume(&volume.name).expect("read"), Some(volume.clone()));
            driver.mount(&volume, target.path()).expect("mounted");
            assert_eq!(fs::read_to_string(target.path().join("f")).expect("read"), "kept");
            driver.unmount(&volume, target.path()).expect("unmounted");
            assert_eq!(leftovers(&driver), [""; 0]);
        },
    );
}

/// The service looks up what a volume holds as soon as it is made, and now and then. A removal that came in that moment was refused
/// for "something that has its device open".
#[test]
fn a_volume_that_is_being_looked_at_can_be_removed() {
    with_pools("trouble::a_volume_that_is_being_looked_at_can_be_removed", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[]).expect("a pool");
        for round in 0..20 {
            let volume = make(&driver, &format!("v{round}"));
            std::thread::scope(|scope| {
                // Until the volume is gone.
                let looking = scope.spawn(|| (0..).find(|_| driver.usage(&volume).is_err()));
                std::thread::sleep(Duration::from_millis(round));
                driver
                    .remove(&removal(&volume, OnRemove::Trash))
                    .expect("removed");
                looking.join().expect("no panic");
            });
        }
        assert_eq!(leftovers(&driver), [""; 0]);
    });
}

/// A look makes the device active and takes it away again. A snapshot that found it active, and suspended it, then had no device to
/// resume, and failed.
#[test]
fn a_look_that_ends_leaves_a_snapshot_its_device() {
    with_pools("trouble::a_look_that_ends_leaves_a_snapshot_its_device", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[]).expect("a pool");
        let volume = make(&driver, "v");
        let record = driver.records().must_have(&volume.name, volume.id).expect("read");
        let thin = record.thin.expect("a device");
        let size = Devicemapper::size_of(&volume).expect("a size");
        let look = driver.pin(thin, size, Writable::No).expect("active");
        let suspended = driver.thins.suspend(thin).expect("suspended");
        drop(look);
        suspended.resume().expect("it is there");
        assert_eq!(
            driver.thins.find(thin).expect("asked"),
            None,
            "nobody needs it any more"
        );
        driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
        assert_eq!(leftovers(&driver), [""; 0]);
    });
}

#[test]
fn a_pool_of_another_history_is_left_alone() {
    with_pools("trouble::a_pool_of_another_history_is_left_alone", || {
        let scratch = Scratch::new();
        let journal = scratch.root().join("journal.json");
        {
            let driver = scratch.open(&[]).expect("a pool");
            make(&driver, "one");
        }
        let older = fs::read(&journal).expect("a journal");
        {
            let driver = scratch.open(&[]).expect("a pool");
            make(&driver, "two");
        }
        let newer = fs::read(&journal).expect("a journal");
        // The records of yesterday's backup beside today's pool; active or not.
        fs::write(&journal, &older).expect("written");
        let said = refused(scratch.open(&[]), "ahead of the records");
        assert!(said.contains("nothing was touched"), "{said}");
        switch_off(&scratch);
        refused(scratch.open(&[]), "ahead of the records");
        // And the other way round.
        let text = String::from_utf8(newer.clone()).expect("text");
        let ahead = text.replacen("\"transaction\": ", "\"transaction\": 1", 1);
        fs::write(&journal, ahead).expect("written");
        refused(scratch.open(&[]), "behind the records");
        fs::write(&journal, &newer).expect("written");
        // A pool that lacks what a record names.
        let record = scratch.root().join("volumes/one");
        let text = fs::read_to_string(&record).expect("a record");
        let thin = serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["thin"].clone();
        fs::write(
            &record,
            text.replace(&format!("\"thin\": {thin}"), "\"thin\": 4711"),
        )
        .expect("written");
        refused(scratch.open(&[]), "no thin device 4711");
        fs::write(&record, text).expect("written");
        scratch.open(&[]).expect("all is right again");
    });
}

#[test]
fn damaged_or_vanished_metadata_are_refused_and_left_alone() {
    with_pools(
        "trouble::damaged_or_vanished_metadata_are_refused_and_left_alone",
        || {
            let scratch = Scratch::new();
            {
                let driver = scratch.open(&[]).expect("a pool");
                make(&driver, "v");
            }
            switch_off(&scratch);
            let path = scratch.root().join("metadata.img");
            let before = fs::read(&path).expect("metadata");
            let file = OpenOptions::new().write(true).open(&path).expect("opened");
            // The superblock, and then everything behind it.
            for blocks in [0..1, 1..200] {
                for block in blocks {
                    file.write_all_at(b"damage", block * 4096 + 100).expect("written");
                }
                let hurt = fs::read(&path).expect("metadata");
                let said = refused(scratch.open(&[]), "damaged");
                assert!(said.contains("thin_repair"), "{said}");
                switch_off(&scratch);
                assert_eq!(
                    fs::read(&path).expect("metadata"),
                    hurt,
                    "not even looked at by the kernel"
                );
                file.write_all_at(&before, 0).expect("written");
            }
            file.write_all_at(&vec![0; before.len()], 0).expect("written");
            refused(scratch.open(&[]), "it is empty, and the records speak of volumes");
            switch_off(&scratch);
            file.write_all_at(&before, 0).expect("written");
            scratch.open(&[]).expect("all is right again");
        },
    );
}

/// A filesystem that cannot be brought to rest, or a pool that does not answer, must not leave a volume frozen.
#[test]
fn the_watchdog_resumes_what_was_suspended_for_too_long() {
    with_pools(
        "trouble::the_watchdog_resumes_what_was_suspended_for_too_long",
        || {
            let scratch = Scratch::new();
            let driver = scratch.open(&[]).expect("a pool");
            let volume = make(&driver, "v");
            let record = driver
                .records()
                .volume(&volume.name)
                .expect("read")
                .expect("there");
            let thin = record.thin.expect("a device");
            let device = driver.pin(thin, 256 << 20, Writable::Yes).expect("active");
            // Another daemon does not know of the pin, but that it is open.
            let _held = fs::File::open(device.path()).expect("opened");
            let is_suspended = || {
                driver
                    .thins
                    .find(thin)
                    .expect("asked")
                    .expect("there")
                    .is_suspended
            };
            let suspend = |limit| {
                Suspended::new(driver.pool.kernel().clone(), driver.thins.name(thin), limit)
                    .expect("suspended")
            };
            let in_time = suspend(Duration::from_secs(60));
            assert!(is_suspended());
            in_time.resume().expect("in time");
            assert!(!is_suspended());
            let late = suspend(Duration::from_millis(200));
            let begun = Instant::now();
            while is_suspended() {
                assert!(begun.elapsed() < Duration::from_secs(30), "nobody resumes it");
                std::thread::sleep(Duration::from_millis(10));
            }
            let said = late.resume().expect_err("too late").to_string();
            assert!(said.contains("suspended for more than 0.2 s"), "{said}");
            drop(suspend(Duration::from_secs(60)));
            assert!(!is_suspended(), "dropping it resumes");
            // A daemon that is killed with a device suspended: the next one finds it.
            driver
                .pool
                .kernel()
                .suspend(&driver.thins.name(thin), true)
                .expect("suspended");
            drop(scratch.open(&[]).expect("opened beside"));
            assert!(!is_suspended());
        },
    );
}

/// A volume used to be at rest from before its snapshot had to wait for its turn: as long as another volume's change went on, such as
/// the end of a large one, its containers stood still.
#[test]
fn a_volume_goes_on_while_its_snapshot_waits_for_its_turn() {
    with_pools(
        "trouble::a_volume_goes_on_while_its_snapshot_waits_for_its_turn",
        || {
            let scratch = Scratch::new();
            let driver = scratch.open(&[]).expect("a pool");
            let target = tempfile::tempdir().expect("a mount point");
            let volume = make(&driver, "v");
            driver.mount(&volume, target.path()).expect("mounted");
            let record = driver.records().volume(&volume.name);
            let thin = record.expect("read").expect("there").thin.expect("a device");
            let (begun, has_begun) = std::sync::mpsc::channel();
            let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
            let taken = std::thread::scope(|scope| {
                let driver = &driver;
                let other = scope.spawn(move || {
                    let wait = || {
                        begun.send(()).expect("heard");
                        may_go_on.recv().expect("told");
                        Ok(())
                    };
                    let nothing = ledger::Change::default();
                    driver.ledger.commit_with(&driver.pool, nothing, wait, Ok)
                });
                has_begun.recv().expect("begun");
                let taken = scope.spawn(|| driver.snapshot(&taking(&volume, "s")));
                // Long enough to see it at rest, were it so.
                for _ in 0..50 {
                    let info = driver.thins.find(thin).expect("asked").expect("active");
                    assert!(!info.is_suspended, "at rest before its turn");
                    std::thread::sleep(Duration::from_millis(10));
                }
                assert!(!taken.is_finished(), "it was not its turn");
                fs::write(target.path().join("meanwhile"), "written").expect("written");
                go_on.send(()).expect("heard");
                other.join().expect("no panic").expect("changed");
                taken.join().expect("no panic").expect("a snapshot")
            });
            assert_eq!(taken.snapshots.len(), 1);
            driver.unmount(&volume, target.path()).expect("unmounted");
        },
    );
}

/// Whatever is being written, each snapshot is a filesystem without a fault, and holds what was written until then.
#[test]
fn snapshots_under_a_writer_are_whole() {
    with_pools("trouble::snapshots_under_a_writer_are_whole", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[]).expect("a pool");
        let target = tempfile::tempdir().expect("a mount point");
        let mut volume = make(&driver, "v");
        driver.mount(&volume, target.path()).expect("mounted");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let written = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::SeqCst;
                for number in 1u64.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let path = target.path().join(format!("d{}", number % 5));
                    fs::create_dir_all(&path).expect("a directory");
                    fs::write(path.join("f"), vec![number as u8; 100_000]).expect("written");
                    // What is renamed into place and synced is there from then on.
                    let file = fs::File::create(target.path().join("new")).expect("made");
                    file.write_all_at(&number.to_le_bytes(), 0).expect("written");
                    file.sync_all().expect("synced");
                    fs::rename(target.path().join("new"), target.path().join("number")).expect("renamed");
                    fs::File::open(target.path())
                        .and_then(|dir| dir.sync_all())
                        .expect("synced");
                    written.store(number, SeqCst);
                }
            });
            for round in 0..25 {
                let before = written.load(std::sync::atomic::Ordering::SeqCst);
                volume = driver
                    .snapshot(&taking(&volume, &format!("s{round}")))
                    .expect("a snapshot");
                let source = driver
                    .open_source(&volume, volume.snapshots.last(), &[])
                    .expect("a source");
                let Source::Block(image) = source else {
                    unreachable!("a device")
                };
                testing::sh(&format!("e2fsck -fn {} >/dev/null 2>&1", image.path.display()));
                let mounted =
                    crate::sys::detached::Detached::mount(&image.path, "ext4", &["ro"]).expect("mounted");
                let number = fs::read(mounted.path().join("number")).unwrap_or_default();
                let number = number.try_into().map_or(0, u64::from_le_bytes);
                assert!(
                    number >= before,
                    "round {round}: {before} was synced, and {number} is there"
                );
            }
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        assert!(written.into_inner() > 25, "the writer was not held up for ever");
        driver.unmount(&volume, target.path()).expect("unmounted");
        assert_eq!(leftovers(&driver), [""; 0]);
    });
}

/// What is written to one volume before another is so in snapshots of both that are taken together, and what is written after is
/// not: nothing is written to either between the two.
#[test]
fn snapshots_taken_together_are_of_one_moment() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
    with_pools("trouble::snapshots_taken_together_are_of_one_moment", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[]).expect("a pool");
        let targets = ["first", "second"].map(|_| tempfile::tempdir().expect("a mount point"));
        let mut volumes = ["first", "second"].map(|name| make(&driver, name));
        for (volume, target) in volumes.iter().zip(&targets) {
            driver.mount(volume, target.path()).expect("mounted");
        }
        let files = targets.each_ref().map(|target| {
            let file = fs::File::create(target.path().join("number")).expect("made");
            file.write_all_at(&0u64.to_le_bytes(), 0).expect("written");
            file.sync_all().expect("synced");
            file
        });
        let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1u64.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    for file in &files {
                        file.write_all_at(&number.to_le_bytes(), 0).expect("written");
                        file.sync_data().expect("synced");
                    }
                    written.store(number, SeqCst);
                }
            });
            for round in 0..20 {
                let before = written.load(SeqCst);
                let takes: Vec<_> = volumes
                    .iter()
                    .map(|volume| taking(volume, &format!("s{round}")))
                    .collect();
                let taken = driver.snapshot_together(&takes).expect("both");
                volumes = taken.try_into().expect("two");
                let numbers = volumes.each_ref().map(|volume| {
                    let source = driver
                        .open_source(volume, volume.snapshots.last(), &[])
                        .expect("a source");
                    let Source::Block(image) = source else {
                        unreachable!("a device")
                    };
                    // Its journal is played back on the way: what was synced may be there alone.
                    let mounted = crate::sys::detached::Detached::mount(&image.path, "ext4", &["ro"]);
                    let read = fs::read(mounted.expect("mounted").path().join("number")).expect("read");
                    u64::from_le_bytes(read.try_into().expect("eight bytes"))
                });
                let [first, second] = numbers;
                assert!(
                    first == second || first == second + 1,
                    "round {round}: {first} and {second} are not of one moment"
                );
                assert!(second >= before, "round {round}: {before} was synced in both");
            }
            stop.store(true, SeqCst);
        });
        assert!(written.into_inner() > 20, "the writer was not held up for ever");
        // One that is refused keeps the others from being taken.
        let twice = [taking(&volumes[0], "t"), taking(&volumes[1], "s1")];
        assert!(driver.snapshot_together(&twice).is_err(), "s1 is there already");
        let names = |volume: &Volume| {
            let found = driver.volume(&volume.name).expect("records").expect("a volume");
            found.snapshots.len()
        };
        assert_eq!((names(&volumes[0]), names(&volumes[1])), (20, 20));
        drop(files);
        for (volume, target) in volumes.iter().zip(&targets) {
            driver.unmount(volume, target.path()).expect("unmounted");
        }
        assert_eq!(leftovers(&driver), [""; 0]);
    });
}

/// Filled to the last block, then extended: what was synced is there, and everything works again.
#[test]
fn a_full_pool_refuses_and_comes_back() {
    with_pools("trouble::a_full_pool_refuses_and_comes_back", || {
        let scratch = Scratch::new();
        let target = tempfile::tempdir().expect("a mount point");
        let small = [("loopback", "96M"), ("defaultvolumesize", "256M")];
        let driver = scratch.open(&small).expect("a pool");
        let volume = make(&driver, "v");
        driver.mount(&volume, target.path()).expect("mounted");
        let mut kept = 0;
        let error = loop {
            let write = || -> io::Result<()> {
                let file = fs::File::create(target.path().join(format!("f{kept}")))?;
                file.write_all_at(&vec![kept as u8; 4 << 20], 0)?;
                file.sync_all()?;
                fs::File::open(target.path())?.sync_all()
            };
            match write() {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 40, "the pool never becomes full");
        };
        println!("{kept} files were synced; then: {error}");
        assert!(kept >= 10);
        let status = driver.pool.status().expect("a status");
        assert!(status.data.percent() >= 95, "{status:?}");
        let warnings = driver.warnings();
        assert!(
            warnings.iter().any(|warning| warning.key == "data-95"),
            "{warnings:?}"
        );
        refused(
            driver.create(&wish(&driver, &name("w"))),
            "are kept for what is there already",
        );
        refused(driver.snapshot(&taking(&volume, "s")), "extend the data device");
        assert_eq!(
            driver.volumes().expect("listed").volumes.len(),
            1,
            "reading goes on"
        );
        let _ = driver.unmount(&volume, target.path());
        testing::detach_all(target.path());
        drop(driver);
        let large = [("loopback", "400M"), ("defaultvolumesize", "256M")];
        let driver = scratch.open(&large).expect("extended");
        let status = driver.pool.status().expect("a status");
        assert!(
            status.data.percent() < 50 && status.mode == status::Mode::ReadWrite,
            "{status:?}"
        );
        driver
            .mount(&volume, target.path())
            .expect("mounted, after a check");
        for number in 0..kept {
            let found = fs::read(target.path().join(format!("f{number}"))).expect("a file that was synced");
            assert!(found == vec![number as u8; 4 << 20], "f{number}");
        }
        fs::write(target.path().join("more"), vec![1; 8 << 20]).expect("there is room again");
        driver.unmount(&volume, target.path()).expect("unmounted");
        make(&driver, "w");
        driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
        assert_eq!(leftovers(&driver), [""; 0]);
    });
}

/// A volume whose device somebody holds is not taken away under them, and they are named.
#[test]
fn whoever_has_the_device_open_is_named() {
    with_pools("trouble::whoever_has_the_device_open_is_named", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[]).expect("a pool");
        let target = tempfile::tempdir().expect("a mount point");
        let volume = make(&driver, "v");
        assert_eq!(driver.users(&volume, &[]).expect("asked"), Users::Known(vec![]));
        driver.mount(&volume, target.path()).expect("mounted");
        let found = driver.location(&volume);
        let device = &found.iter().find(|(key, _)| key == "Device").expect("a device").1;
        let mut holder = std::process::Command::new("sleep")
            .arg("1000")
            .stdin(fs::File::open(device).expect("opened"))
            .spawn()
            .expect("sleep runs");
        driver.unmount(&volume, target.path()).expect("unmounted");
        let Users::Known(users) = driver.users(&volume, &[]).expect("asked") else {
            unreachable!("the test sees all processes")
        };
        let named = users
            .iter()
            .any(|user| user.contains(&format!("sleep (pid {})", holder.id())));
        assert!(named, "{users:?}");
        let remove = removal(&volume, OnRemove::Trash);
        let said = refused(driver.remove(&remove), "in use by");
        assert!(said.contains("sleep"), "{said}");
        holder.kill().expect("killed");
        holder.wait().expect("reaped");
        driver.remove(&remove).expect("free now");
        assert_eq!(leftovers(&driver), [""; 0]);
    });
}

/// What removed files took comes back to the pool, whether the volume is mounted or not.
#[test]
fn a_trim_gives_back_what_removed_files_took() {
    with_pools("trouble::a_trim_gives_back_what_removed_files_took", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[]).expect("a pool");
        let target = tempfile::tempdir().expect("a mount point");
        for fs in ["ext4", "xfs"] {
            let mut create = wish(&driver, &name(fs));
            create.volume.options.insert("fs".to_owned(), fs.to_owned());
            create.volume.size = Some(Bytes(400 << 20));
            let volume = driver.create(&create).expect("created").volume;
            for mounted in [true, false] {
                driver.mount(&volume, target.path()).expect("mounted");
                fs::write(target.path().join("f"), vec![7; 48 << 20]).expect("written");
                File::open(target.path())
                    .and_then(|dir| dir.sync_all())
                    .expect("synced");
                crate::sys::durable::sync_filesystem(target.path()).expect("synced");
                fs::remove_file(target.path().join("f")).expect("removed");
                crate::sys::durable::sync_filesystem(target.path()).expect("synced");
                let full = driver.usage(&volume).expect("usage").used;
                if !mounted {
                    driver.unmount(&volume, target.path()).expect("unmounted");
                }
                // XFS frees what a removed file had some time later, and does not wait for its discards: what a trim says came
                // back can be less than what does.
                let begun = Instant::now();
                loop {
                    driver.trim(&volume).expect("trimmed");
                    let used = driver.usage(&volume).expect("usage").used;
                    if used.0 + (40 << 20) < full.0 {
                        break;
                    }
                    assert!(
                        begun.elapsed() < Duration::from_secs(60),
                        "{fs}: {used} of {full}, mounted: {mounted}"
                    );
                }
                if mounted {
                    driver.unmount(&volume, target.path()).expect("unmounted");
                }
            }
        }
        assert_eq!(driver.warnings(), []);
        assert_eq!(leftovers(&driver), [""; 0]);
    });
}

/// A metadata device that refuses writes for a while: what was being done has not been done, what is there can be read, and
/// the next start goes on.
#[test]
fn failing_metadata_lose_nothing_that_was_acknowledged() {
    with_pools(
        "trouble::failing_metadata_lose_nothing_that_was_acknowledged",
        || {
            let scratch = Scratch::new();
            let devices = Failing::new(&scratch);
            let target = tempfile::tempdir().expect("a mount point");
            let driver = devices.open(&scratch);
            let volume = make(&driver, "v");
            driver.mount(&volume, target.path()).expect("mounted");
            fs::write(target.path().join("f"), "precious").expect("written");
            let volume = driver.snapshot(&taking(&volume, "one")).expect("a snapshot");
            devices.refuse_writes(true);
            let take = taking(&volume, "two");
            let error = driver.snapshot(&take).expect_err("it cannot be written");
            println!("the snapshot: {error}");
            assert_eq!(driver.volume(&volume.name).expect("read"), Some(volume.clone()));
            assert_eq!(
                fs::read_to_string(target.path().join("f")).expect("read"),
                "precious"
            );
            let warnings = driver.warnings();
            assert!(
                warnings.iter().any(|warning| warning.key.starts_with("mode-")),
                "{warnings:?}"
            );
            let said = refused(driver.create(&wish(&driver, &name("w"))), "windlass-test");
            assert!(said.contains("docs/devicemapper.md"), "{said}");
            let _ = driver.unmount(&volume, target.path());
            testing::detach_all(target.path());
            drop(driver);
            devices.refuse_writes(false);
            // Nobody uses it any more: the next start stops it, has it checked, and makes it run again.
            let driver = devices.open(&scratch);
            assert_eq!(driver.warnings(), []);
            let outcome = driver
                .recover(&Operation::Snapshot(take.clone()))
                .expect("recovered");
            assert_eq!(outcome, Outcome::Undone);
            assert_eq!(driver.volume(&volume.name).expect("read"), Some(volume.clone()));
            driver.snapshot(&take).expect("it can be done again");
            driver.mount(&volume, target.path()).expect("mounted");
            assert_eq!(
                fs::read_to_string(target.path().join("f")).expect("read"),
                "precious"
            );
            driver.unmount(&volume, target.path()).expect("unmounted");
            assert_eq!(leftovers(&driver), [""; 0]);
            drop(driver);
            devices.stop_pool(&scratch);
        },
    );
}

/// A data and a metadata device, the latter on something that can refuse.
pub(super) struct Failing {
    name: String,
    metadata: PathBuf,
    data: PathBuf,
    sectors: u64,
}

impl Failing {
    pub(super) fn new(scratch: &Scratch) -> Self {
        let attach = |name: &str, bytes: u64| {
            let path = scratch.dir.path().join(name);
            File::create(&path)
                .and_then(|file| file.set_len(bytes))
                .expect("an image");
            loops::attach(&path).expect("attached")
        };
        let (data, metadata) = (attach("data", 400 << 20), attach("metadata", 8 << 20));
        let name = format!("windlass-failing-{}", std::process::id());
        let sectors = (8 << 20) / 512;
        testing::sh(&format!(
            "modprobe -q dm-flakey || true; dmsetup create {name} --table '0 {sectors} linear {} 0'",
            metadata.display()
        ));
        Self {
            name,
            metadata,
            data,
            sectors,
        }
    }

    pub(super) fn open(&self, scratch: &Scratch) -> Devicemapper {
        Devicemapper::open(&scratch.root(), &self.options()).expect("a pool")
    }

    /// What the pool's metadata are on.
    pub(super) fn metadata(&self) -> PathBuf {
        PathBuf::from(format!("/dev/mapper/{}", self.name))
    }

    pub(super) fn options(&self) -> DriverOptions {
        let options = [
            ("datadev", self.data.display().to_string()),
            ("metadatadev", format!("/dev/mapper/{}", self.name)),
            ("thinpoolname", format!("windlass-test-{}", std::process::id())),
            ("defaultvolumesize", "64M".to_owned()),
        ];
        options
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    pub(super) fn refuse_writes(&self, refuse: bool) {
        let (name, sectors, below) = (&self.name, self.sectors, self.metadata.display());
        let table = match refuse {
            true => format!("0 {sectors} flakey {below} 0 0 1 1 error_writes"),
            false => format!("0 {sectors} linear {below} 0"),
        };
        testing::sh(&format!(
            "dmsetup suspend --noflush {name}; dmsetup reload {name} --table '{table}'; dmsetup resume {name}"
        ));
    }

    pub(super) fn stop_pool(&self, scratch: &Scratch) {
        tear_down(&scratch.root());
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = std::process::Command::new("dmsetup")
            .args(["remove", "--deferred", &self.name])
            .output();
        for device in [&self.data, &self.metadata] {
            let _ = loops::detach(device);
        }
    }
}

/// A restored XFS is the same to the last byte, its UUID too; the kernel mounts no two of one UUID unless it is told to.
#[test]
fn a_restored_xfs_is_mounted_beside_the_one_that_it_came_from() {
    with_pools(
        "trouble::a_restored_xfs_is_mounted_beside_the_one_that_it_came_from",
        || {
            let scratch = Scratch::new();
            let driver = scratch
                .open(&[("fs", "xfs"), ("defaultvolumesize", "320M")])
                .expect("a pool");
            let targets = [
                tempfile::tempdir().expect("a mount point"),
                tempfile::tempdir().expect("a mount point"),
            ];
            let volume = make(&driver, "v");
            driver.mount(&volume, targets[0].path()).expect("mounted");
            fs::write(targets[0].path().join("f"), "original").expect("written");
            let volume = driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
            let other = make(&driver, "restored");
            let fill = crate::driver::conformance::filling(&other);
            let Target::Block { path, .. } = driver.open_target(&fill).expect("a target") else {
                unreachable!("a device")
            };
            let source = driver
                .open_source(&volume, volume.snapshots.first(), &[])
                .expect("a source");
            let Source::Block(image) = source else {
                unreachable!("a device")
            };
            testing::sh(&format!(
                "dd if={} of={} bs=1M conv=sparse,fsync status=none",
                image.path.display(),
                path.display()
            ));
            drop(image);
            let other = driver.fill(&fill).expect("filled");
            driver
                .mount(&other, targets[1].path())
                .expect("mounted beside the original");
            let read = fs::read_to_string(targets[1].path().join("f")).expect("read");
            assert_eq!(read, "original");
            for (volume, target) in [(&volume, &targets[0]), (&other, &targets[1])] {
                driver.unmount(volume, target.path()).expect("unmounted");
            }
            assert_eq!(leftovers(&driver), [""; 0]);
        },
    );
}
