//! Looking after a pool: what it says, how it grows, how damaged metadata are repaired without a loss.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use super::*;
use crate::driver::conformance::{name, taking};
use crate::driver::pool::{AtRest, Pool as Care, Room};

fn make(driver: &Devicemapper, volume: &str) -> Volume {
    driver
        .create(&wish(driver, &name(volume)))
        .expect("created")
        .volume
}

fn healer(scratch: &Scratch) -> Healer {
    let options = options_of(&scratch.root(), &[]);
    Healer::new(scratch.root(), options)
}

/// A volume with a file and a snapshot, and the machine switched off.
fn furnished(scratch: &Scratch, target: &Path) -> Volume {
    let driver = scratch.open(&[]).expect("a pool");
    let volume = make(&driver, "v");
    driver.mount(&volume, target).expect("mounted");
    fs::write(target.join("f"), vec![7; 3 << 20]).expect("written");
    driver.unmount(&volume, target).expect("unmounted");
    let volume = driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
    drop(driver);
    tear_down(&scratch.root());
    volume
}

fn is_whole(scratch: &Scratch, volume: &Volume, target: &Path) {
    let driver = scratch.open(&[]).expect("the pool is at work again");
    driver.mount(volume, target).expect("mounted");
    assert!(fs::read(target.join("f")).expect("read") == vec![7; 3 << 20]);
    driver.unmount(volume, target).expect("unmounted");
    let source = driver.open_source(volume, volume.snapshots.first(), &[]);
    drop(source.expect("the snapshot is there too"));
    assert_eq!(leftovers(&driver), [""; 0]);
}

#[test]
fn damaged_metadata_are_repaired_and_nothing_is_lost() {
    with_pools("care::damaged_metadata_are_repaired_and_nothing_is_lost", || {
        let scratch = Scratch::new();
        let target = tempfile::tempdir().expect("a mount point");
        let volume = furnished(&scratch, target.path());
        let healer = healer(&scratch);
        let path = scratch.root().join("metadata.img");
        let sound = healer.check().expect("sound");
        assert_eq!(
            (sound.thin_devices, sound.unclaimed.len(), sound.at_work),
            (2, 0, false)
        );
        assert_eq!(healer.repair(false).expect("nothing to do").damaged, None);
        let file = OpenOptions::new().write(true).open(&path).expect("opened");
        file.write_all_at(b"damage", 100).expect("written");
        let hurt = fs::read(&path).expect("metadata");
        let said = scratch.open(&[]).expect_err("refused").to_string();
        assert!(said.contains("windlass pool repair"), "{said}");
        assert!(matches!(healer.check(), Err(DriverError::Corrupt { .. })));
        let kept = healer.repair(false).expect("repaired").damaged.expect("kept");
        assert!(fs::read(&kept).expect("the damaged ones") == hurt);
        healer.check().expect("sound again");
        is_whole(&scratch, &volume, target.path());
        // Nobody repairs what is at work.
        let driver = scratch.open(&[]).expect("a pool");
        driver.mount(&volume, target.path()).expect("mounted");
        let said = healer.repair(false).expect_err("refused").to_string();
        assert!(said.contains("mounted or its device open"), "{said}");
        driver.unmount(&volume, target.path()).expect("unmounted");
    });
}

/// Has the record name a device that no repair will find, and damages the superblock. Says what the record was.
fn lose_the_volume(scratch: &Scratch) -> String {
    let record = scratch.root().join("volumes/v");
    let text = fs::read_to_string(&record).expect("a record");
    let thin = serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["thin"].clone();
    let other = text.replacen(&format!("\"thin\": {thin}"), "\"thin\": 4711", 1);
    fs::write(&record, other).expect("written");
    let path = scratch.root().join("metadata.img");
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    file.write_all_at(b"damage", 100).expect("written");
    text
}

/// What thin_repair cannot save of what the records name keeps the damaged metadata in their place.
#[test]
fn a_repair_that_would_lose_a_volume_is_refused() {
    with_pools("care::a_repair_that_would_lose_a_volume_is_refused", || {
        let scratch = Scratch::new();
        let target = tempfile::tempdir().expect("a mount point");
        let volume = furnished(&scratch, target.path());
        let healer = healer(&scratch);
        let text = lose_the_volume(&scratch);
        let record = scratch.root().join("volumes/v");
        let path = scratch.root().join("metadata.img");
        let hurt = fs::read(&path).expect("metadata");
        let said = healer.repair(false).expect_err("refused").to_string();
        assert!(
            said.contains("volume v (thin device 4711): all of it")
                && said.contains("nothing was changed")
                && said.contains("--accept-loss"),
            "{said}"
        );
        assert!(fs::read(&path).expect("metadata") == hurt);
        fs::write(&record, text).expect("written");
        healer.repair(false).expect("repaired");
        is_whole(&scratch, &volume, target.path());
    });
}

/// Where the tree of a thin device's mappings is damaged, thin_repair saves the device without them, and calls that a success.
#[test]
fn a_repair_that_would_shorten_a_volume_is_refused() {
    with_pools("care::a_repair_that_would_shorten_a_volume_is_refused", || {
        let scratch = Scratch::new();
        let target = tempfile::tempdir().expect("a mount point");
        let volume = furnished(&scratch, target.path());
        let driver = scratch.open(&[]).expect("a pool");
        driver.mount(&volume, target.path()).expect("mounted");
        fs::write(target.path().join("g"), vec![8; 2 << 20]).expect("written");
        driver.unmount(&volume, target.path()).expect("unmounted");
        let thin = driver.records().thin_of(&volume).expect("a device");
        drop(driver);
        tear_down(&scratch.root());
        let path = scratch.root().join("metadata.img");
        damage_mappings(&path, u64::from(thin.0));
        let hurt = fs::read(&path).expect("metadata");
        let healer = healer(&scratch);
        let said = healer.repair(false).expect_err("refused").to_string();
        assert!(
            said.contains(&format!("volume v (thin device {thin}): "))
                && said.contains(" of its ")
                && said.contains("nothing was changed")
                && !said.contains("v@s"),
            "{said}"
        );
        assert!(fs::read(&path).expect("metadata") == hurt);
        let repaired = healer.repair(true).expect("repaired");
        assert_eq!(repaired.losses.len(), 1, "{repaired:?}");
        let driver = scratch.open(&[]).expect("the pool is at work again");
        let found = driver.volume(&volume.name).expect("read").expect("there");
        let told = driver.location(&found);
        assert!(
            told.iter()
                .any(|(key, text)| key == "Lost" && text.contains(&repaired.losses[0])),
            "{told:?}"
        );
        let revert = crate::driver::Revert {
            volume: found.clone(),
            snapshot: found.snapshots[0].clone(),
            id: crate::model::SnapshotId::random(),
        };
        let back = driver.revert(&revert).expect("reverted");
        drop(driver);
        is_whole(&scratch, &back, target.path());
    });
}

/// Writes over the root of the tree of a thin device's mappings. The tree of these trees is one leaf here: a head of 32 bytes, with how
/// many there are at 16 and how many fit at 20, then the keys, then the values, of 8 bytes each.
fn damage_mappings(metadata: &Path, thin: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(metadata)
        .expect("opened");
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).expect("read");
        u64::from_le_bytes(bytes)
    };
    let leaf = number(320) * 4096;
    let (count, most) = (number(leaf + 16) & 0xFFFF_FFFF, number(leaf + 16) >> 32);
    let place = (0..count).find(|place| number(leaf + 32 + place * 8) == thin);
    let root = number(leaf + 32 + (most + place.expect("the device")) * 8);
    file.write_all_at(b"damage", root * 4096 + 100).expect("written");
}

/// What is lost with leave: the volume says so, cannot be mounted, and goes back to the snapshot that is left.
#[test]
fn an_accepted_loss_is_told_by_the_volume() {
    with_pools("care::an_accepted_loss_is_told_by_the_volume", || {
        let scratch = Scratch::new();
        let target = tempfile::tempdir().expect("a mount point");
        let volume = furnished(&scratch, target.path());
        let healer = healer(&scratch);
        lose_the_volume(&scratch);
        let repaired = healer.repair(true).expect("repaired");
        assert!(repaired.damaged.is_some());
        assert_eq!(repaired.losses, ["volume v (thin device 4711): all of it"]);
        let driver = scratch.open(&[]).expect("the pool is at work again");
        let found = driver.volume(&volume.name).expect("read").expect("there");
        let told = driver.location(&found);
        assert!(
            told.iter()
                .any(|(key, text)| key == "Lost" && text.contains("all of it")),
            "{told:?}"
        );
        let said = driver
            .mount(&found, target.path())
            .expect_err("nothing to mount")
            .to_string();
        assert!(
            said.contains("lost in a repair") && said.contains("revert"),
            "{said}"
        );
        let revert = crate::driver::Revert {
            volume: found.clone(),
            snapshot: found.snapshots[0].clone(),
            id: crate::model::SnapshotId::random(),
        };
        let back = driver.revert(&revert).expect("reverted");
        assert!(driver.location(&back).iter().all(|(key, _)| key != "Lost"));
        drop(driver);
        let driver = scratch.open(&[]).expect("opened");
        driver.mount(&back, target.path()).expect("mounted");
        assert!(fs::read(target.path().join("f")).expect("read") == vec![7; 3 << 20]);
        driver.unmount(&back, target.path()).expect("unmounted");
    });
}

/// A pool that stopped writing while volumes are mounted: whoever holds it is named, and without them it is taken down, repaired and
/// started again by the same process.
#[test]
fn a_pool_that_has_failed_is_taken_down_and_repaired() {
    with_pools("care::a_pool_that_has_failed_is_taken_down_and_repaired", || {
        let scratch = Scratch::new();
        let devices = super::trouble::Failing::new(&scratch);
        let target = tempfile::tempdir().expect("a mount point");
        let driver = devices.open(&scratch);
        let volume = make(&driver, "v");
        driver.mount(&volume, target.path()).expect("mounted");
        fs::write(target.path().join("f"), "precious").expect("written");
        let volume = driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
        let said = driver.give_up().expect_err("it works").to_string();
        assert!(said.contains("has it at work"), "{said}");
        devices.refuse_writes(true);
        driver
            .snapshot(&taking(&volume, "two"))
            .expect_err("it cannot be written");
        let said = driver.give_up().expect_err("a volume is mounted").to_string();
        let place = target.path().display().to_string();
        assert!(
            said.contains(&format!("volume v (mounted at {place}")) && said.contains("windlass umount"),
            "{said}"
        );
        let thin = driver.records().thin_of(&volume).expect("a device");
        let node = driver.thins.node(thin).expect("active");
        // Whoever has the device itself open is named too.
        let mut holder = std::process::Command::new("sleep")
            .arg("1000")
            .stdin(fs::File::open(&node).expect("opened"))
            .spawn()
            .expect("sleep runs");
        let _ = driver.unmount(&volume, target.path());
        testing::detach_all(target.path());
        let said = driver.give_up().expect_err("it is open").to_string();
        holder.kill().and_then(|()| holder.wait()).expect("ended");
        assert!(said.contains("volume v (sleep (pid"), "{said}");
        driver.give_up().expect("nobody uses it");
        devices.refuse_writes(false);
        damage_bitmaps(&devices.metadata(), 0);
        let healer = Healer::new(scratch.root(), devices.options());
        let repaired = healer.repair(false).expect("repaired");
        assert!(
            repaired.damaged.is_some() && repaired.losses.is_empty(),
            "{repaired:?}"
        );
        drop(driver);
        let driver = devices.open(&scratch);
        driver.mount(&volume, target.path()).expect("mounted");
        assert_eq!(
            fs::read_to_string(target.path().join("f")).expect("read"),
            "precious"
        );
        driver.unmount(&volume, target.path()).expect("unmounted");
        drop(driver);
        devices.stop_pool(&scratch);
    });
}

/// Half of the metadata are the repaired ones, half those that were damaged, and the machine goes down.
#[test]
fn an_interrupted_repair_is_finished() {
    with_pools("care::an_interrupted_repair_is_finished", || {
        let scratch = Scratch::new();
        let target = tempfile::tempdir().expect("a mount point");
        let volume = furnished(&scratch, target.path());
        let root = scratch.root();
        let path = root.join("metadata.img");
        let (repaired, damaged) = (root.join("metadata.repaired"), root.join("metadata.damaged-x"));
        fs::copy(&path, &repaired).expect("copied");
        fs::write(&damaged, "damage").expect("written");
        let file = OpenOptions::new().write(true).open(&path).expect("opened");
        file.write_all_at(&vec![0xAA; 2 << 20], 4096).expect("written");
        let under_way = serde_json::json!({"repaired": repaired, "damaged": damaged});
        fs::write(root.join("repair.json"), under_way.to_string()).expect("written");
        let said = scratch.open(&[]).expect_err("refused").to_string();
        assert!(said.contains("repair of them was interrupted"), "{said}");
        let healer = healer(&scratch);
        let said = healer.check().expect_err("refused").to_string();
        assert!(said.contains("finishes it"), "{said}");
        assert_eq!(healer.repair(false).expect("finished").damaged, Some(damaged));
        assert!(!repaired.exists() && !root.join("repair.json").exists());
        is_whole(&scratch, &volume, target.path());
    });
}

#[test]
fn a_pool_at_work_is_checked_and_grows() {
    with_pools("care::a_pool_at_work_is_checked_and_grows", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[]).expect("a pool");
        let volume = make(&driver, "v");
        driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
        let status = Care::status(&driver).expect("a status");
        assert_eq!(
            (
                status.volumes,
                status.snapshots,
                status.thin_devices,
                status.mode.as_str()
            ),
            (1, 1, 2, "read-write")
        );
        assert_eq!((status.block_size, status.data.total), (64 << 10, 800 << 20));
        let grown = driver.extend(Some(Room::By(Bytes(64 << 20)))).expect("grown");
        assert_eq!(grown.data.total, 864 << 20);
        // Enough for the metadata of the whole to grow as well.
        let grown = driver.extend(Some(Room::To(Bytes(16 << 30)))).expect("grown");
        assert_eq!(grown.data.total, 16 << 30);
        assert!(grown.metadata.total > status.metadata.total, "{grown:?}");
        let said = driver
            .extend(Some(Room::To(Bytes(1 << 30))))
            .expect_err("refused")
            .to_string();
        assert!(said.contains("do not shrink"), "{said}");
        assert_eq!(driver.extend(None).expect("nothing gained"), grown);
        // A smaller option than what is there changes nothing at the next start.
        drop(driver);
        let driver = scratch.open(&[]).expect("a pool");
        assert_eq!(Care::status(&driver).expect("a status").data.total, 16 << 30);

        let sound = Care::check(&driver).expect("sound");
        assert_eq!(
            (sound.thin_devices, sound.unclaimed.len(), sound.at_work),
            (2, 0, true)
        );
        driver
            .pool
            .make_thin(ThinId(77), None)
            .expect("made behind the records");
        assert_eq!(Care::check(&driver).expect("sound").unclaimed, [77]);
        driver.pool.delete_thin(ThinId(77)).expect("deleted");
        let thin = driver.records().thin_of(&volume).expect("a device");
        driver.pool.delete_thin(thin).expect("deleted behind the records");
        let said = Care::check(&driver).expect_err("lost").to_string();
        assert!(
            said.contains(&format!("volumes/v (thin device {thin})")),
            "{said}"
        );
    });
}

/// A device that windlass divided, made larger while the pool is at work.
#[test]
fn a_divided_device_that_has_grown_is_taken_up() {
    with_pools("care::a_divided_device_that_has_grown_is_taken_up", || {
        let scratch = Scratch::new();
        let image = scratch.dir.path().join("device");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&image)
            .expect("a file");
        file.set_len(300 << 20).expect("sparse");
        let device = loops::attach(&image).expect("attached");
        let detach = Detach(device.clone());
        let path = device.display().to_string();
        let mut options = options_of(&scratch.root(), &[("device", &path)]);
        options.remove("loopback");
        let driver = Devicemapper::open(&scratch.root(), &options).expect("a pool");
        let before = Care::status(&driver).expect("a status");
        assert!(before.spare_device.is_some() && before.data.total < 300 << 20);
        let volume = make(&driver, "v");
        let refused = driver.extend(Some(Room::By(Bytes(1 << 20))));
        let said = refused.expect_err("not ours to make larger").to_string();
        assert!(said.contains(&path) && said.contains("lvextend"), "{said}");
        let grow = |to: u64| {
            file.set_len(to).expect("grown");
            loops::refresh(&device).expect("told");
        };
        grow(400 << 20);
        let after = driver.extend(None).expect("taken up");
        assert_eq!(after.data.total - before.data.total, 100 << 20);
        drop(driver);
        // The same at a start that finds the pool at work.
        grow(450 << 20);
        let driver = Devicemapper::open(&scratch.root(), &options).expect("a pool");
        let again = Care::status(&driver).expect("a status");
        assert_eq!(again.data.total - before.data.total, 150 << 20);
        // Damaged metadata are repaired by way of the spare; also when the machine goes down on the way from there.
        drop(driver);
        tear_down(&scratch.root());
        file.write_all_at(b"damage", (1 << 20) + 100).expect("written");
        let healer = Healer::new(scratch.root(), options.clone());
        let damaged = healer.repair(false).expect("repaired").damaged.expect("kept");
        tear_down(&scratch.root());
        file.write_all_at(&vec![0xAA; 2 << 20], (1 << 20) + 4096)
            .expect("written");
        let under_way = serde_json::json!({"damaged": damaged});
        let journal = scratch.root().join("repair.json");
        fs::write(&journal, under_way.to_string()).expect("written");
        assert_eq!(
            healer.repair(false).expect("finished").damaged,
            Some(damaged.clone())
        );
        // A spare that is not what it must be is put over nothing.
        tear_down(&scratch.root());
        let metadata = (before.metadata.total).next_multiple_of(4096);
        let mut kept = vec![0; metadata as usize];
        file.read_exact_at(&mut kept, 1 << 20).expect("read");
        file.write_all_at(&vec![0xAA; 1 << 20], (1 << 20) + metadata)
            .expect("written");
        fs::write(&journal, under_way.to_string()).expect("written");
        healer.repair(false).expect_err("refused");
        let mut now = vec![0; metadata as usize];
        file.read_exact_at(&mut now, 1 << 20).expect("read");
        assert!(now == kept, "the metadata were touched");
        fs::remove_file(&journal).expect("removed");
        let driver = Devicemapper::open(&scratch.root(), &options).expect("a pool");
        assert_eq!(driver.volume(&volume.name).expect("read"), Some(volume));
        drop(driver);
        tear_down(&scratch.root());
        drop(detach);
    });
}

/// A snapshot of either filesystem is shown beside its volume, and cannot be written to; at two places, and at none again.
#[test]
fn a_snapshot_is_looked_at_beside_its_volume() {
    with_pools("care::a_snapshot_is_looked_at_beside_its_volume", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[("defaultvolumesize", "320M")]).expect("a pool");
        let place = || tempfile::tempdir().expect("a mount point");
        let (target, one, two) = (place(), place(), place());
        for fs in ["ext4", "xfs"] {
            let mut create = wish(&driver, &name(fs));
            create.volume.options.insert("fs".to_owned(), fs.to_owned());
            let volume = driver.create(&create).expect("created").volume;
            driver.mount(&volume, target.path()).expect("mounted");
            fs::write(target.path().join("f"), "then").expect("written");
            let volume = driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
            fs::write(target.path().join("f"), "now").expect("written");
            let snapshot = &volume.snapshots[0];
            for at in [&one, &two, &two] {
                driver.show_snapshot(&volume, snapshot, at.path()).expect("shown");
                assert_eq!(fs::read_to_string(at.path().join("f")).expect("read"), "then");
                fs::write(at.path().join("f"), "no").expect_err("read-only");
            }
            assert_eq!(
                driver.shown_snapshots(&volume).expect("asked").len(),
                2,
                "once at each place"
            );
            let removal = crate::driver::RemoveSnapshot {
                volume: volume.clone(),
                snapshot: snapshot.clone(),
            };
            let refused = driver.remove_snapshot(&removal);
            assert!(matches!(refused, Err(DriverError::Busy { .. })), "{refused:?}");
            // What is open there keeps it there.
            let open = fs::File::open(one.path().join("f")).expect("opened");
            let busy = driver.hide_snapshot(&volume, snapshot, one.path());
            assert!(matches!(busy, Err(DriverError::Busy { .. })), "{busy:?}");
            drop(open);
            for at in [&one, &two, &two] {
                driver
                    .hide_snapshot(&volume, snapshot, at.path())
                    .expect("hidden");
            }
            assert_eq!(driver.shown_snapshots(&volume).expect("asked"), []);
            assert_eq!(fs::read_to_string(target.path().join("f")).expect("read"), "now");
            driver.remove_snapshot(&removal).expect("removed");
            driver.unmount(&volume, target.path()).expect("unmounted");
            assert_eq!(leftovers(&driver), [""; 0]);
        }
    });
}

/// All of a new volume is its own, nothing of it after a snapshot, and then what is written; of a clone, what it wrote itself.
#[test]
fn what_a_volume_shares_with_nobody_is_counted() {
    with_pools("care::what_a_volume_shares_with_nobody_is_counted", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[]).expect("a pool");
        let target = tempfile::tempdir().expect("a mount point");
        let volume = make(&driver, "v");
        let figures = |volume: &Volume| {
            let usage = driver.usage(volume).expect("usage");
            (usage.used.0, usage.exclusive.expect("counted").0)
        };
        let write = |volume: &Volume, file: &str, bytes: usize| {
            driver.mount(volume, target.path()).expect("mounted");
            fs::write(target.path().join(file), vec![7; bytes]).expect("written");
            crate::sys::durable::sync_filesystem(target.path()).expect("synced");
            driver.unmount(volume, target.path()).expect("unmounted");
        };
        write(&volume, "f", 20 << 20);
        let (used, exclusive) = figures(&volume);
        assert!(used >= 20 << 20 && exclusive == used, "{exclusive} of {used}");
        let volume = driver.snapshot(&taking(&volume, "s")).expect("a snapshot");
        assert_eq!(figures(&volume), (used, 0));
        write(&volume, "g", 5 << 20);
        let (_, exclusive) = figures(&volume);
        assert!((5 << 20..8 << 20).contains(&exclusive), "{exclusive}");
        let mut create = wish(&driver, &name("clone"));
        create.from = Some(crate::driver::CloneOf {
            volume: volume.clone(),
            snapshot: volume.snapshots[0].clone(),
        });
        let clone = driver.create(&create).expect("cloned").volume;
        let (used, exclusive) = figures(&clone);
        assert!(used >= 20 << 20 && exclusive < 2 << 20, "{exclusive} of {used}");
        // In one look, the kernel's own account of each, and what one that is gone has to say does not keep the others from it.
        let mut gone = clone.clone();
        gone.name = name("gone");
        let mut all = driver.usage_of_all(&[&volume, &gone, &clone]).expect("a look");
        let (of_clone, of_gone, of_volume) = (all.pop(), all.pop(), all.pop());
        of_gone.expect("an answer").expect_err("it is not there");
        for (volume, usage) in [(&volume, of_volume), (&clone, of_clone)] {
            let usage = usage.expect("an answer").expect("known");
            let kernels = driver.mapped(volume).expect("asked");
            assert_eq!((usage.used, usage.limit), (kernels.used, kernels.limit));
        }
        assert_eq!(leftovers(&driver), [""; 0]);
    });
}

struct Detach(PathBuf);

impl Drop for Detach {
    fn drop(&mut self) {
        let _ = loops::detach(&self.0);
    }
}
