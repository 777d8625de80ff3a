//! How long things take, against the bare commands that do the same: `make bench-dm`. Ratios of one run on one machine; the
//! bounds are those that the driver is built to.

use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::driver::conformance::{name, removal, taking};
use crate::model::OnRemove;

const ROUNDS: u32 = 15;

/// The middle one of several measurements.
fn median(mut measure: impl FnMut(u32) -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..ROUNDS).map(&mut measure).collect();
    all.sort();
    all[all.len() / 2]
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// A program as a script runs it.
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

#[test]
#[ignore = "a benchmark: make bench-dm"]
fn against_the_bare_commands() {
    with_pools_ignored("figures::against_the_bare_commands", || {
        let scratch = Scratch::new();
        let driver = scratch
            .open(&[
                ("loopback", "900M"),
                ("defaultvolumesize", "1G"),
                ("reserve", "0"),
            ])
            .expect("a pool");
        let target = tempfile::tempdir().expect("a mount point");
        let at = target.path().display().to_string();
        let pool = driver.pool.name().to_owned();
        let number = driver.pool.number().expect("a pool");
        let sectors = (1u64 << 30) / 512;

        let ours = median(|round| {
            let create = wish(&driver, &name(&format!("v{round}")));
            let mut made = None;
            let took = timed(|| {
                let volume = driver.create(&create).expect("created").volume;
                driver.mount(&volume, target.path()).expect("mounted");
                made = Some(volume);
            });
            let volume = made.expect("made");
            driver.unmount(&volume, target.path()).expect("unmounted");
            driver
                .remove(&removal(&volume, OnRemove::Delete))
                .expect("removed");
            let id = volume.id;
            driver
                .purge(&Purge {
                    id,
                    name: volume.name,
                })
                .expect("purged");
            took
        });
        let bare = median(|round| {
            let (thin, device) = (900_000 + round, format!("bare{round}"));
            let table = format!("0 {sectors} thin {}:{} {thin}", number.0, number.1);
            let took = timed(|| {
                run(
                    "dmsetup",
                    &["message", &pool, "0", &format!("create_thin {thin}")],
                );
                run("dmsetup", &["create", &device, "--table", &table]);
                let path = format!("/dev/mapper/{device}");
                run(
                    "mkfs.ext4",
                    &[
                        "-q",
                        "-E",
                        "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
                        &path,
                    ],
                );
                run("mount", &[&path, &at]);
            });
            run("umount", &[&at]);
            run("dmsetup", &["remove", &device]);
            run("dmsetup", &["message", &pool, "0", &format!("delete {thin}")]);
            took
        });
        report("create and mount", ours, "create_thin, mkfs, mount", bare, 1.5);

        let mut volume = driver.create(&wish(&driver, &name("v"))).expect("created").volume;
        driver.mount(&volume, target.path()).expect("mounted");
        let thin = driver
            .records()
            .volume(&volume.name)
            .expect("read")
            .expect("there")
            .thin
            .expect("a device");
        let device = driver.thins.name(thin);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0u8;
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    number = number.wrapping_add(1);
                    std::fs::write(target.path().join("f"), vec![number; 2 << 20]).expect("written");
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let ours = median(|round| {
                timed(|| {
                    volume = driver
                        .snapshot(&taking(&volume, &format!("s{round}")))
                        .expect("taken")
                })
            });
            let bare = median(|round| {
                let message = format!("create_snap {} {thin}", 900_100 + round);
                let took = timed(|| {
                    run("dmsetup", &["suspend", &device]);
                    run("dmsetup", &["message", &pool, "0", &message]);
                    run("dmsetup", &["resume", &device]);
                });
                run(
                    "dmsetup",
                    &["message", &pool, "0", &format!("delete {}", 900_100 + round)],
                );
                took
            });
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            report(
                "snapshot under a writer",
                ours,
                "suspend, create_snap, resume",
                bare,
                1.5,
            );
        });
        driver.unmount(&volume, target.path()).expect("unmounted");
    });
}

fn report(what: &str, ours: Duration, against: &str, bare: Duration, most: f64) {
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!("{what}: {ours:.1?}; {against} by commands: {bare:.1?}; {ratio:.2} times, at most {most}");
    assert!(ratio <= most, "{what}: {ratio:.2}");
}

/// What a first write after a snapshot costs, and what a backup then reads, by the size of the pool's blocks.
#[test]
#[ignore = "a benchmark: make bench-dm"]
fn block_sizes() {
    with_pools_ignored("figures::block_sizes", || {
        use std::os::unix::fs::FileExt;
        for sectors in ["128", "256", "512", "1024", "4096"] {
            let scratch = Scratch::new();
            let options = [
                ("thinpoolblocksize", sectors),
                ("loopback", "700M"),
                ("defaultvolumesize", "300M"),
                ("reserve", "0"),
            ];
            let driver = scratch.open(&options).expect("a pool");
            let target = tempfile::tempdir().expect("a mount point");
            let volume = driver.create(&wish(&driver, &name("v"))).expect("created").volume;
            driver.mount(&volume, target.path()).expect("mounted");
            let path = target.path().join("f");
            std::fs::write(&path, vec![7; 160 << 20]).expect("written");
            let volume = driver.snapshot(&taking(&volume, "one")).expect("a snapshot");
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .expect("opened");
            let mut writes: Vec<Duration> = (0..64u64)
                .map(|at| {
                    timed(|| {
                        file.write_all_at(&[8; 4096], (at * 37 % 64) * (5 << 19))
                            .expect("written");
                        file.sync_data().expect("synced");
                    })
                })
                .collect();
            writes.sort();
            drop(file);
            let volume = driver.snapshot(&taking(&volume, "two")).expect("a snapshot");
            let base = volume.snapshots[0].id.uuid();
            let source = driver
                .open_source(&volume, volume.snapshots.last(), &[base])
                .expect("a source");
            let Source::Block(image) = source else {
                unreachable!("a device")
            };
            let changed = image.changed.as_ref().expect("a base");
            let changed: u64 = changed.ranges.iter().map(|range| range.end - range.start).sum();
            println!(
                "blocks of {}: a first write of 4 KiB {:.2?} (the slowest {:.2?}), 64 of them change {}, metadata for 1 TiB {}",
                Bytes(sectors.parse::<u64>().expect("a number") * 512),
                writes[32],
                writes[63],
                Bytes(changed),
                Bytes(storage::metadata_bytes(
                    1 << 40,
                    sectors.parse().expect("a number")
                )),
            );
            drop(image);
            driver.unmount(&volume, target.path()).expect("unmounted");
        }
    });
}

/// What many volumes cost: listing them with where they are, a start, a snapshot.
#[test]
#[ignore = "a benchmark: make bench-dm"]
fn many_volumes() {
    const MANY: usize = 300;
    with_pools_ignored("figures::many_volumes", || {
        let scratch = Scratch::new();
        let options = [
            ("loopback", "1500M"),
            ("defaultvolumesize", "16M"),
            ("reserve", "0"),
        ];
        let driver = scratch.open(&options).expect("a pool");
        let snapshot = |volume: &Volume, number: u32| {
            let take = taking(volume, &format!("s{number}"));
            let mut taken = None;
            let took = timed(|| taken = Some(driver.snapshot(&take).expect("a snapshot")));
            (taken.expect("taken"), took)
        };
        let first = driver.create(&wish(&driver, &name("v"))).expect("created").volume;
        let (mut volume, alone) = snapshot(&first, 0);
        for number in 0..MANY {
            let mut one = driver
                .create(&wish(&driver, &name(&format!("v{number}"))))
                .expect("created")
                .volume;
            for snapshots in 0..10 {
                one = snapshot(&one, snapshots).0;
            }
        }
        let mut among = Duration::MAX;
        for number in 1..6 {
            let (next, took) = snapshot(&volume, number);
            (volume, among) = (next, among.min(took));
        }
        let listed = driver.volumes().expect("listed").volumes;
        assert_eq!(listed.len(), MANY + 1);
        let list = timed(|| {
            let places: usize = listed.iter().map(|volume| driver.location(volume).len()).sum();
            assert!(places > MANY);
        });
        drop(driver);
        tear_down(&scratch.root());
        let start = timed(|| drop(scratch.open(&options).expect("started")));
        println!(
            "{MANY} volumes with 10 snapshots each: where they are {list:.1?}, start {start:.1?}, a snapshot {among:.1?} (alone {alone:.1?})"
        );
    });
}
