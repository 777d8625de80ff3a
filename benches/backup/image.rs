//! Images: 2 GiB with 1.1 GiB of data, half of it random, half compressible; and the same data in a sparse terabyte.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use windlass::engine::backup::block::{BlockSource, Changed, block};
use windlass::engine::restore;
use windlass::engine::restore::block::{BlockTarget, Holds};

use super::content::{self, WRITE, scattered};
use super::engine::{self, create, image_request, open, snapshot_id};
use super::peer::{Borg, Restic, sparse_copy, version};
use super::report::{Goal, Report};
use super::rounds;
use super::step::{Done, Series, ours};

const SIZE: u64 = 2 << 30;
const LARGE: u64 = 1 << 40;
/// Of 1 MiB each.
const PIECES: u64 = 1126;
/// One per cent of the data.
const WRITES: u64 = 180;

/// Everything about images that are there.
pub fn measure(report: &mut Report) {
    let scratch = tempfile::Builder::new()
        .prefix("windlass-bench")
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let at = |name: &str| scratch.path().join(name);
    let (disk, large) = (at("disk.img"), at("terabyte.img"));
    content::image(&disk, SIZE, PIECES);
    content::image(&large, LARGE, PIECES);
    let mut peers = full(report, &at, &disk, &large);
    incremental(report, &at, &disk, &mut peers);
    back(report, &at, &disk, &peers);
}

/// The peers' repositories of the last round, where the peers are there.
#[derive(Default)]
struct Peers {
    restic: Option<Restic>,
    borg: Option<Borg>,
}

fn full(report: &mut Report, at: &dyn Fn(&str) -> PathBuf, disk: &Path, large: &Path) -> Peers {
    report.table(
        "Images, to a local directory",
        "2 GiB with 1.1 GiB of data in pieces of 1 MiB, half random, half compressible; holes known by SEEK_DATA. Encryption and \
         compression on; borg with chunks of the same fixed size.",
    );
    let [mut copies, mut full, mut sparse, mut restics, mut borgs]: [Series; 5] = Default::default();
    let mut peers = Peers::default();
    let restic = version(report, "restic", "restic", "version");
    let borg = version(report, "borg", "borgbackup", "--version");
    for _ in 0..rounds() {
        let Peers {
            restic: old,
            borg: older,
        } = std::mem::take(&mut peers);
        old.into_iter().for_each(Restic::remove);
        older.into_iter().for_each(Borg::remove);
        engine::remove(&at("ours"));
        copies.push(sparse_copy(disk, &at("copy")));
        create(&at("ours"));
        full.push(ours("image.full", &[disk, &at("ours")]));
        create(&at("sparse"));
        sparse.push(ours("image.full", &[large, &at("sparse")]));
        engine::remove(&at("sparse"));
        if restic.is_some() {
            let restic = peers.restic.insert(Restic::create(&at("restic")));
            restics.push(restic.back_up(disk));
        }
        if borg.is_some() {
            let borg = peers.borg.insert(Borg::create(&at("borg")));
            borgs.push(borg.back_up(disk));
        }
    }
    let ratio = full.ratio(&copies, |cost| cost.time);
    report.row("sparse copy with fsync", copies.median(), None, Goal::None);
    report.row(
        "full backup",
        full.median(),
        Some(("the copy", ratio)),
        Goal::AtMost(2.2),
    );
    if let Some(restic) = restic {
        let ratio = restics.ratio(&full, |cost| cost.whole);
        let what = format!("{restic}, backup");
        report.row(&what, restics.median(), Some(("ours", ratio)), Goal::AtLeast(3.0));
    }
    if let Some(borg) = borg {
        let ratio = borgs.ratio(&full, |cost| cost.whole);
        let what = format!("{borg}, create");
        report.row(&what, borgs.median(), Some(("ours", ratio)), Goal::AtLeast(1.7));
    }
    let ratio = sparse.ratio(&full, |cost| cost.time);
    let what = "full backup of a sparse 1 TiB image with the same data";
    report.row(
        what,
        sparse.median(),
        Some(("that of 2 GiB", ratio)),
        Goal::AtMost(2.0),
    );
    peers
}

fn incremental(report: &mut Report, at: &dyn Fn(&str) -> PathBuf, disk: &Path, peers: &mut Peers) {
    report.table(
        "Incremental backups of that image",
        "1 % of the data changed by 180 scattered writes of 64 KiB, other ones in each round. We are told the ranges, as a driver with \
         snapshots tells them; the others read everything.",
    );
    let [mut mine, mut restics, mut borgs]: [Series; 3] = Default::default();
    let mut stored: f64 = 0.0;
    for round in 1..=rounds() as u64 {
        content::write(disk, &scattered(SIZE, WRITES, round), round);
        let number = PathBuf::from(round.to_string());
        let cost = ours("image.incremental", &[disk, &at("ours"), &number]);
        stored = stored.max(cost.sent as f64 / (WRITES * WRITE) as f64);
        mine.push(cost);
        if let Some(restic) = &peers.restic {
            restics.push(restic.back_up(disk));
        }
        if let Some(borg) = &mut peers.borg {
            borgs.push(borg.back_up(disk));
        }
    }
    let goal = Goal::Under(Duration::from_millis(200));
    report.row("incremental backup", mine.median(), None, goal);
    for (what, theirs, there) in [
        ("restic", restics, peers.restic.is_some()),
        ("borg", borgs, peers.borg.is_some()),
    ] {
        if there {
            let ratio = theirs.ratio(&mine, |cost| cost.whole);
            report.row(what, theirs.median(), Some(("ours", ratio)), Goal::None);
        }
    }
    let sentence = format!("Stored, directories included: {stored:.2} × the touched chunks");
    report.figure(&sentence, "≤ 1.15", stored <= 1.15);
}

fn back(report: &mut Report, at: &dyn Fn(&str) -> PathBuf, disk: &Path, peers: &Peers) {
    report.table(
        "Restores of that image",
        "To a new sparse file, until it is on the disk: `sync` is counted in for all.",
    );
    let [mut copies, mut mine, mut restics]: [Series; 3] = Default::default();
    for _ in 0..rounds() {
        copies.push(sparse_copy(disk, &at("copy")));
        let restored = at("restored.img");
        mine.push(ours("image.restore", &[&at("ours"), &restored]));
        assert!(same(disk, &restored), "restored as it was");
        std::fs::remove_file(restored).expect("removed");
        if let Some(restic) = &peers.restic {
            restics.push(restic.restore(&at("restic-out")));
            std::fs::remove_dir_all(at("restic-out")).expect("removed");
        }
    }
    report.row("sparse copy with fsync", copies.median(), None, Goal::None);
    let ratio = mine.ratio(&copies, |cost| cost.time);
    report.row(
        "restore",
        mine.median(),
        Some(("the copy", ratio)),
        Goal::AtMost(1.5),
    );
    if peers.restic.is_some() {
        let ratio = restics.ratio(&mine, |cost| cost.whole);
        let what = "restic restore";
        report.row(what, restics.median(), Some(("ours", ratio)), Goal::AtLeast(1.0));
    }
}

/// The steps that run in processes of their own.
pub fn step(name: &str, arguments: &[PathBuf]) -> Done {
    let (first, second) = (&arguments[0], &arguments[1]);
    match name {
        "full" => back_up(&open(second), first, 0, None),
        "incremental" => {
            let round: u64 = arguments[2].to_string_lossy().parse().expect("a number");
            let changed = Changed {
                since: snapshot_id(round - 1),
                ranges: scattered(SIZE, WRITES, round),
            };
            back_up(&open(second), first, round, Some(changed))
        }
        "restore" => restore(first, second),
        other => panic!("no step {other}"),
    }
}

fn back_up(
    repository: &windlass::engine::Repository,
    disk: &Path,
    snapshot: u64,
    changed: Option<Changed>,
) -> Done {
    let (report, done) = Done::of(|| {
        let file = File::open(disk).expect("opened");
        let mut source = BlockSource::file(&file, disk).expect("looked at");
        source.changed = changed;
        let request = image_request(source.size, snapshot);
        block(repository, &request, &source, &Arc::default()).expect("backed up")
    });
    Done {
        sent: report.written.stored_bytes,
        ..done
    }
}

fn restore(repository: &Path, target: &Path) -> Done {
    let repository = open(repository);
    let restore = || {
        let backup = repository.find("latest").expect("there is one");
        let size = backup.manifest().expect("ours").size;
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(target)
            .expect("made");
        file.set_len(size).expect("sparse");
        let target = BlockTarget {
            file: &file,
            path: target,
            holds: Holds::Zeros,
        };
        restore::block::block(&repository, &backup, &target, &Arc::default()).expect("restored")
    };
    Done::of(restore).1
}

fn same(one: &Path, other: &Path) -> bool {
    let status = Command::new("cmp").arg("-s").arg(one).arg(other).status();
    status.expect("cmp").success()
}
