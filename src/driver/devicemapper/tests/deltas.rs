//! What changed between two snapshots, as the kernel's own metadata tell it: against thin_delta, and against the bytes.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::*;
use crate::driver::BlockImage;
use crate::driver::conformance::{name, removal, taking};
use crate::model::OnRemove;

/// A generator of numbers that are the same in each run: the histories can be looked at again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn make(driver: &Devicemapper, volume: &str) -> Volume {
    driver
        .create(&wish(driver, &name(volume)))
        .expect("created")
        .volume
}

fn image(driver: &Devicemapper, volume: &Volume, snapshot: usize, bases: &[Uuid]) -> BlockImage {
    let snapshot = &volume.snapshots[snapshot];
    match driver
        .open_source(volume, Some(snapshot), bases)
        .expect("a source")
    {
        Source::Block(image) => image,
        Source::Tree { .. } => unreachable!("a device"),
    }
}

/// Blocks of 64 KiB in which two images really differ.
fn differing(one: &BlockImage, other: &BlockImage) -> Vec<u64> {
    let read = |image: &BlockImage| std::fs::read(&image.path).expect("readable");
    let (one, other) = (read(one), read(other));
    let blocks = one.chunks(64 << 10).zip(other.chunks(64 << 10)).enumerate();
    blocks
        .filter(|(_, (a, b))| a != b)
        .map(|(at, _)| at as u64)
        .collect()
}

/// What thin_delta says of two thin devices, as blocks that differ.
fn by_thin_delta(driver: &Devicemapper, one: ThinId, other: ThinId) -> Vec<u64> {
    let pool = driver.pool.name();
    let metadata = driver.pool.devices().metadata.display().to_string();
    let said = testing::sh(&format!(
        "dmsetup message {pool} 0 reserve_metadata_snap; trap 'dmsetup message {pool} 0 release_metadata_snap' EXIT; \
         thin_delta -m --snap1 {one} --snap2 {other} {metadata}"
    ));
    let number = |line: &str, key: &str| -> u64 {
        let rest = line.split_once(key).expect("an attribute").1;
        rest[2..]
            .split('"')
            .next()
            .expect("quoted")
            .parse()
            .expect("a number")
    };
    let mut blocks = Vec::new();
    for line in said.lines() {
        let line = line.trim();
        if ["<different", "<left_only", "<right_only"]
            .iter()
            .any(|tag| line.starts_with(tag))
        {
            let begin = number(line, "begin");
            blocks.extend(begin..begin + number(line, "length"));
        }
    }
    blocks
}

#[test]
fn deltas_are_those_of_thin_delta_and_of_the_bytes() {
    with_pools("deltas::deltas_are_those_of_thin_delta_and_of_the_bytes", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[("defaultvolumesize", "64M")]).expect("a pool");
        let mut volume = make(&driver, "v");
        let mut dice = Dice(0x5EED);
        let (thin, size) = (thin_of(&driver, &volume), 64 << 20);
        for round in 0..12 {
            {
                let device = driver.pin(thin, size, Writable::Yes).expect("active");
                let file = OpenOptions::new()
                    .write(true)
                    .open(device.path())
                    .expect("opened");
                for _ in 0..dice.roll(30) {
                    let at = dice.roll(size / 4096) * 4096;
                    match dice.roll(8) {
                        0 => {
                            crate::sys::sparse::zero(&file, at..(at + (256 << 10)).min(size)).expect("zeroed")
                        }
                        _ => file.write_all_at(&[round as u8 + 1; 4096], at).expect("written"),
                    }
                }
                file.sync_all().expect("synced");
            }
            volume = driver
                .snapshot(&taking(&volume, &format!("s{round}")))
                .expect("a snapshot");
        }
        let record = driver
            .records()
            .volume(&volume.name)
            .expect("read")
            .expect("there");
        for _ in 0..10 {
            let (a, b) = (dice.roll(12) as usize, dice.roll(12) as usize);
            let base = volume.snapshots[a].id.uuid();
            let newer = image(&driver, &volume, b, &[Uuid::nil(), base]);
            let changed = newer.changed.as_ref().expect("a base that is there");
            assert_eq!(changed.snapshot, base);
            let told: Vec<u64> = changed
                .ranges
                .iter()
                .flat_map(|range| range.start / (64 << 10)..range.end.div_ceil(64 << 10))
                .collect();
            let older = image(&driver, &volume, a, &[]);
            assert_eq!(older.changed, None);
            for block in differing(&older, &newer) {
                assert!(told.contains(&block), "s{a} to s{b}: block {block} was missed");
            }
            // Outside of what is mapped there are zeros.
            let bytes = std::fs::read(&older.path).expect("readable");
            let mut at = 0;
            for range in older.mapped.iter().chain([&(size..size)]) {
                assert!(
                    bytes[at as usize..range.start as usize]
                        .iter()
                        .all(|byte| *byte == 0)
                );
                at = range.end;
            }
            drop((newer, older));
            if testing::has_program("thin_delta") {
                let of = |snapshot: usize| record.snapshots[&volume.snapshots[snapshot].id];
                assert_eq!(told, by_thin_delta(&driver, of(a), of(b)), "s{a} to s{b}");
            }
        }
        assert_eq!(leftovers(&driver), [""; 0]);
    });
}

fn thin_of(driver: &Devicemapper, volume: &Volume) -> ThinId {
    let record = driver
        .records()
        .volume(&volume.name)
        .expect("read")
        .expect("there");
    record.thin.expect("a device")
}

/// Convoy's users had to keep the snapshot of the last backup. Here the driver does.
#[test]
fn a_removed_snapshot_is_still_a_base() {
    with_pools("deltas::a_removed_snapshot_is_still_a_base", || {
        let scratch = Scratch::new();
        let driver = scratch.open(&[]).expect("a pool");
        let volume = make(&driver, "v");
        let volume = driver.snapshot(&taking(&volume, "one")).expect("a snapshot");
        let one = volume.snapshots[0].clone();
        let kept = driver
            .keep_base(&volume, &one, "repository")
            .expect("kept")
            .expect("of use");
        assert_eq!(kept, volume, "nobody sees it");
        driver
            .keep_base(&volume, &one, "repository")
            .expect("kept already");
        let volume = driver
            .remove_snapshot(&RemoveSnapshot {
                volume,
                snapshot: one.clone(),
            })
            .expect("removed");
        let volume = driver.snapshot(&taking(&volume, "two")).expect("a snapshot");
        let source = image(&driver, &volume, 0, &[one.id.uuid()]);
        let changed = source.changed.as_ref().expect("the base is there");
        assert_eq!(
            (changed.snapshot, &changed.ranges),
            (one.id.uuid(), &vec![]),
            "nothing was written"
        );
        drop(source);
        // The next one takes its place, and those of forgotten repositories do not stay for ever.
        let two = volume.snapshots[0].clone();
        driver.keep_base(&volume, &two, "repository").expect("kept");
        let bases = |driver: &Devicemapper| {
            let record = driver.records().volume(&name("v")).expect("read").expect("there");
            record.bases.len()
        };
        assert_eq!(bases(&driver), 1);
        let source = image(&driver, &volume, 0, &[one.id.uuid()]);
        assert_eq!(source.changed, None, "the older base is gone");
        drop(source);
        for other in 0..9 {
            driver
                .keep_base(&volume, &two, &format!("other{other}"))
                .expect("kept");
        }
        assert_eq!(bases(&driver), 4);
        assert_eq!(leftovers(&driver), [""; 0]);
        // They go with their volume.
        driver
            .remove(&removal(&volume, OnRemove::Delete))
            .expect("removed");
        let purge = Purge {
            id: volume.id,
            name: volume.name,
        };
        driver.purge(&purge).expect("purged");
        let thins = driver
            .pool
            .with_metadata(|metadata| metadata.devices())
            .expect("read");
        assert_eq!(thins.len(), 0, "{thins:?}");
    });
}

/// A device of 1 TiB with 200,000 mapped blocks, of which 100 changed since the snapshot: what differs is found by reading a few
/// hundred blocks of the metadata, where thin_delta reads them all. To find it, a backup used to read all of them too, for
/// what is mapped besides. The data go nowhere (dm-zero); it is the metadata that count.
#[test]
fn a_difference_in_a_large_pool_costs_what_differs() {
    with_pools("deltas::a_difference_in_a_large_pool_costs_what_differs", || {
        if !testing::has_program("thin_delta") || !testing::has_program("dmsetup") {
            return;
        }
        let scratch = Scratch::new();
        let (tera, stride) = (1u64 << 40, 83 * (64 << 10));
        let nowhere = Nowhere::new(&scratch, tera);
        let options = [
            ("datadev", nowhere.data.clone()),
            ("metadatadev", nowhere.metadata.clone()),
            ("thinpoolname", format!("windlass-test-{}", std::process::id())),
        ];
        let options = options
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let driver = Devicemapper::open(&scratch.root(), &options).expect("a pool");
        let (area, copy) = (Uuid::new_v4(), Uuid::new_v4());
        let thin = driver.stage(area, tera, None).expect("made");
        let write = |blocks: &mut dyn Iterator<Item = u64>| {
            let device = driver.pin(thin, tera, Writable::Yes).expect("active");
            let file = OpenOptions::new()
                .write(true)
                .open(device.path())
                .expect("opened");
            blocks.for_each(|block| file.write_all_at(&[1; 4096], block * stride).expect("written"));
            file.sync_all().expect("synced");
        };
        write(&mut (0..200_000));
        let snapshot = driver.stage(copy, tera, Some(thin)).expect("a snapshot");
        write(&mut (0..100).map(|at| at * 2_000));
        // What a backup asks, and how much of the metadata is read for it.
        let asked = |base: Option<ThinId>| {
            let found = driver.pool.with_metadata(|metadata| {
                let wanted = super::super::source::wanted(metadata, thin, base)?;
                Ok((wanted.blocks(), metadata.blocks_read()))
            });
            found.expect("looked up")
        };
        let (changed, read) = asked(Some(snapshot));
        let (mapped, read_all) = asked(None);
        assert_eq!((changed, mapped), (100, 200_000));
        // Each of the 100 is in a leaf of its own, on either side; above are two or three levels with few nodes.
        assert!(
            read < 400,
            "{read} blocks of metadata were read for 100 that differ"
        );
        assert!(read_all > 800, "the device's tree has {read_all} blocks only");
        assert_eq!(by_thin_delta(&driver, snapshot, thin).len(), 100);
        let ghost = wish(&driver, &name("ghost")).volume;
        for id in [area, copy] {
            driver.discard_staged(id, &ghost).expect("removed");
        }
    });
}

/// Devices for a large pool whose data nobody keeps.
struct Nowhere {
    name: String,
    data: String,
    metadata: String,
}

impl Nowhere {
    fn new(scratch: &Scratch, size: u64) -> Self {
        let name = format!("windlass-nowhere-{}", std::process::id());
        testing::sh(&format!("dmsetup create {name} --table '0 {} zero'", size / 512));
        let image = scratch.dir.path().join("nowhere.img");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(storage::metadata_bytes(size, 128)))
            .expect("sparse");
        Self {
            data: format!("/dev/mapper/{name}"),
            metadata: loops::attach(&image).expect("attached").display().to_string(),
            name,
        }
    }
}

impl Drop for Nowhere {
    fn drop(&mut self) {
        // The pool upon them goes later, with the scratch directory, and then nobody holds them.
        let _ = std::process::Command::new("dmsetup")
            .args(["remove", "--deferred", &self.name])
            .output();
        let _ = loops::detach(&self.metadata);
    }
}
