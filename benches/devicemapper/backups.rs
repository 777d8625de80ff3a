//! Backups and restores of 256 MiB, beside the engine alone on a file, and beside the predecessor's figures.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use windlass::engine::backup::block::{BlockSource, block};

use super::daemon::{Daemon, shell, text};
use super::engine;
use super::pool::{self, Bench, Disk};
use super::report::{Goal, Report, Series};
use super::rounds;

const SIZE: u64 = 320 << 20;
const MIB: u64 = 256;

/// Everything about them.
pub fn measure(report: &mut Report) {
    let bench = Bench::new(&["dm.loopback=900M", "dm.defaultvolumesize=320M"]);
    let daemon = bench.start();
    let disk = Disk::new(&bench.path().join("disk"), 400 << 20);
    report.table(
        "Backups of 256 MiB",
        "A file of 256 MiB in a volume of 320 MiB, half of it random, half compressible; to a directory in memory, encrypted and \
         compressed. By command, the keys' derivation counted in. The engine alone: the same backup by a process that reads an image file \
         of the same data, on a disk of the kind that the pool is on. Before each, the kernel forgets what it has read.",
    );
    let [mut full, mut alone, mut part, mut back, mut again, mut known]: [Series; 6] = Default::default();
    let (mut stored, mut read) = (0, 0);
    for round in 0..rounds(5) as u64 {
        let url = bench.destination(&format!("backups{round}"));
        let at = PathBuf::from(create(&daemon, "v"));
        let file = at.join("f");
        pool::fill(&file, MIB, round);
        daemon.say(&["snapshot", "create", "v", "--name", "one"]);
        let image = image_of(&bench, &disk, "v");
        let by_itself = bench.path().join("alone");
        pool::forget();
        // Who comes first changes.
        if round % 2 == 0 {
            alone.time(|| by_engine(&image, &by_itself));
            pool::forget();
        }
        full.time(|| daemon.say(&["backup", "create", "v@one", "--dest", &url]));
        pool::forget();
        if round % 2 == 1 {
            alone.time(|| by_engine(&image, &by_itself));
        }
        engine::remove(&by_itself);
        std::fs::remove_file(image).expect("removed");
        // Into a repository that is there already, as most are.
        pool::scatter(&file, MIB << 20, round, |_| ());
        daemon.say(&["snapshot", "create", "v", "--name", "two"]);
        let last = part.time(|| daemon.say(&["backup", "create", "v@two", "--dest", &url]));
        let figures = daemon.json(&["backup", "inspect", &last]);
        let figure = |name: &str| figures[name].as_u64().expect("a figure");
        stored = stored.max(figure("BytesStored"));
        read = read.max(figure("BytesRead"));
        let sum = sum(&file);
        daemon.say(&["umount", "v"]);
        daemon.say(&["delete", "v", "--purge"]);
        pool::forget();
        back.time(|| daemon.say(&["create", "v", "--driver", "devicemapper", "--backup", &last]));
        let at = daemon.say(&["mount", "v"]);
        assert_eq!(self::sum(&Path::new(&at).join("f")), sum, "restored as it was");
        // More full ones, into a repository whose key the daemon has: of what is there already, and of what is not.
        daemon.say(&["snapshot", "create", "v", "--name", "three"]);
        again.time(|| daemon.say(&["backup", "create", "v@three", "--dest", &url, "--take-over"]));
        pool::fill(&Path::new(&at).join("f"), MIB, round + 1000);
        daemon.say(&["snapshot", "create", "v", "--name", "four"]);
        pool::forget();
        known.time(|| daemon.say(&["backup", "create", "v@four", "--dest", &url]));
        daemon.say(&["umount", "v"]);
        daemon.say(&["delete", "v", "--purge"]);
        std::fs::remove_dir_all(bench.path().join(format!("backups{round}"))).expect("removed");
    }
    report.row(
        "full backup",
        &full,
        Some(("the engine alone", &alone)),
        Goal::AtMost(1.3),
    );
    let (old, ms) = ("the predecessor, once", Duration::from_millis);
    report.beside("the same", &full, old, ms(7100), Goal::Faster(8.0));
    report.beside(
        "another one of other data, into a repository whose key the daemon has",
        &known,
        old,
        ms(7100),
        Goal::None,
    );
    let what = "backup after 64 scattered writes of 4 KiB";
    report.row(what, &part, None, Goal::Under(ms(500)));
    report.beside("restore", &back, old, ms(5000), Goal::Faster(4.0));
    report.row(
        "backup of the restored volume, of which all is there already",
        &again,
        None,
        Goal::None,
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    report.figure(
        &format!(
            "After the 64 writes, {:.1} MiB were read, and {:.1} MiB stored",
            mib(read),
            mib(stored)
        ),
        "at most 6 MiB",
        stored <= 6 << 20,
    );
}

/// A volume, mounted; where.
pub fn create(daemon: &Daemon<'_>, volume: &str) -> String {
    daemon.say(&["create", volume, "--driver", "devicemapper"]);
    daemon.say(&["mount", volume])
}

fn sum(file: &Path) -> String {
    let said = shell(&["sha256sum", text(file)]);
    said.split(' ').next().expect("a sum").to_owned()
}

/// An image of the volume's only snapshot, in a file with holes.
fn image_of(bench: &Bench, disk: &Disk, volume: &str) -> PathBuf {
    let record = bench.record(volume);
    let snapshots = record["snapshots"].as_object().expect("snapshots");
    let thin = snapshots.values().next().and_then(|id| id.as_u64()).expect("one");
    let device = pool::activate("copied", thin, SIZE);
    let image = disk.path().join("image");
    shell(&[
        "dd",
        "bs=64K",
        "conv=sparse",
        "status=none",
        &format!("if={}", device.display()),
        &format!("of={}", image.display()),
    ]);
    let file = std::fs::File::options().write(true).open(&image).expect("opened");
    file.set_len(SIZE).expect("sparse");
    pool::deactivate("copied");
    image
}

/// The same backup by a process of its own.
fn by_engine(image: &Path, repository: &Path) {
    let status = Command::new(std::env::current_exe().expect("this program"))
        .env("WINDLASS_BENCH_STEP", "backup")
        .arg(image)
        .arg(repository)
        .status()
        .expect("it starts");
    assert!(status.success());
}

/// That process.
pub fn step() {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [image, at] = &paths[..] else {
        panic!("an image and a repository");
    };
    let repository = engine::create(at);
    let file = std::fs::File::open(image).expect("opened");
    let source = BlockSource::file(&file, image).expect("looked at");
    let request = engine::image_request(source.size, 0);
    block(&repository, &request, &source, &Arc::default()).expect("backed up");
}
