//! What differs between two snapshots, read from the pool's metadata: beside thin_delta.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use windlass::driver::devicemapper::metadata::{Metadata, View};

use super::daemon::{shell, text};
use super::pool;
use super::report::{Goal, Report, Series};
use super::rounds;

const SIZE: u64 = 1 << 40;
const BLOCK: u64 = 64 << 10;
const MAPPED: u64 = 200_000;
/// One block of so many is mapped, so that they are spread over the whole device.
const APART: u64 = SIZE / BLOCK / MAPPED;
const CHANGED: u64 = 100;

/// Everything about it. The data go nowhere (dm-zero); it is the metadata that count.
pub fn measure(report: &mut Report) {
    let scratch = tempfile::tempdir().expect("a directory");
    let pool = Pool::new(scratch.path());
    pool::message("create_thin 1");
    let device = pool::activate("windlass-first", 1, SIZE);
    let file = File::options().write(true).open(&device).expect("opened");
    let write = |block: u64| {
        file.write_all_at(&[1; 4096], block * APART * BLOCK)
            .expect("written")
    };
    (0..MAPPED).for_each(write);
    file.sync_all().expect("synced");
    shell(&["dmsetup", "suspend", "windlass-first"]);
    pool::message("create_snap 2 1");
    shell(&["dmsetup", "resume", "windlass-first"]);
    (0..CHANGED)
        .map(|write| write * (MAPPED / CHANGED))
        .for_each(write);
    file.sync_all().expect("synced");
    pool::message("reserve_metadata_snap");
    let [mut ours, mut mapped, mut theirs]: [Series; 3] = Default::default();
    let has_thin_delta = Command::new("thin_delta").arg("--version").output().is_ok();
    for _ in 0..rounds(15) {
        let found = ours.time(|| {
            let metadata = Metadata::open(pool.metadata.as_ref(), View::Held).expect("opened");
            metadata.difference(2, 1).expect("compared")
        });
        assert_eq!(found.blocks(), CHANGED);
        let found = mapped.time(|| {
            let metadata = Metadata::open(pool.metadata.as_ref(), View::Held).expect("opened");
            metadata.mapped(1).expect("read")
        });
        assert_eq!(found.blocks(), MAPPED);
        if has_thin_delta {
            let args = ["-m", "--snap1", "2", "--snap2", "1", &pool.metadata];
            theirs.time(|| shell(&[&["thin_delta"], &args[..]].concat()));
        }
    }
    pool::message("release_metadata_snap");
    drop(file);
    report.table(
        "What differs between two snapshots",
        "A thin device of 1 TiB in blocks of 64 KiB, 200,000 of them mapped, evenly spread; 100 have been written to since the snapshot. A data device \
         that keeps nothing; the metadata are read from a loop device with direct I/O.",
    );
    let what = "the 100 blocks that differ";
    report.row(what, &ours, None, Goal::Under(Duration::from_millis(50)));
    match has_thin_delta {
        true => report.row(
            "the same",
            &ours,
            Some(("thin_delta", &theirs)),
            Goal::Faster(20.0),
        ),
        false => report.note("thin_delta is not installed."),
    }
    let what = "the 200,000 that are mapped, as a first backup reads them";
    report.row(what, &mapped, None, Goal::None);
}

/// A pool by dmsetup alone, upon a data device that keeps nothing. Gone when dropped.
struct Pool {
    metadata: String,
}

impl Pool {
    fn new(scratch: &std::path::Path) -> Self {
        let image = scratch.join("metadata");
        File::create(&image)
            .and_then(|file| file.set_len(256 << 20))
            .expect("sparse");
        let sectors = SIZE / 512;
        let zeros = format!("0 {sectors} zero");
        shell(&["dmsetup", "create", "windlass-nowhere", "--table", &zeros]);
        let metadata = shell(&["losetup", "--find", "--show", text(&image)]);
        let metadata = metadata.trim().to_owned();
        let table = format!(
            "0 {sectors} thin-pool {metadata} /dev/mapper/windlass-nowhere {} 0",
            BLOCK / 512
        );
        shell(&["dmsetup", "create", pool::POOL, "--table", &table]);
        Self { metadata }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for name in ["windlass-first", pool::POOL, "windlass-nowhere"] {
            let _ = Command::new("dmsetup").args(["remove", name]).output();
        }
        let _ = Command::new("losetup").args(["-d", &self.metadata]).output();
    }
}
