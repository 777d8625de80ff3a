//! Directories: some thousand files of all sizes, and hundreds of thousands of small ones; beside restic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use windlass::engine::backup::tree::tree;
use windlass::engine::restore;
use windlass::engine::restore::tree::{Onto, TreeRestore};

use super::content;
use super::engine::{self, create, open, tree_request};
use super::peer::{Restic, version};
use super::report::{Goal, Report};
use super::rounds;
use super::step::{Done, Series, ours};

/// What a directory is like.
struct Shape {
    title: &'static str,
    files: u64,
    directories: u64,
    /// Of all files together.
    bytes: u64,
    /// Whether the files have all sizes, up to twice the average.
    varied: bool,
}

const SHAPES: [Shape; 2] = [
    Shape {
        title: "5,000 files, 256 MiB",
        files: 5_000,
        directories: 50,
        bytes: 256 << 20,
        varied: true,
    },
    Shape {
        title: "200,000 files of 1 KiB",
        files: 200_000,
        directories: 1_000,
        bytes: 200_000 << 10,
        varied: false,
    },
];

/// Everything about directories.
pub fn measure(report: &mut Report) {
    for shape in SHAPES {
        let scratch = tempfile::Builder::new()
            .prefix("windlass-bench")
            .tempdir_in("/var/tmp")
            .expect("a directory");
        one(report, &shape, scratch.path());
    }
}

fn one(report: &mut Report, shape: &Shape, scratch: &Path) {
    let at = |name: &str| scratch.join(name);
    report.table(
        &format!("Directories: {}", shape.title),
        &format!(
            "In {} directories, half random, half compressible. 1 % of the files are written anew, other ones in each round, spread \
             over all directories. To a local directory; restic with its cache. Restores are into an empty directory, until all is on \
             the disk: `sync` is counted in for both.",
            shape.directories
        ),
    );
    let volume = at("volume");
    shape.make(&volume);
    let restic = version(report, "restic", "restic", "version");
    let mut peer = None;
    let [mut full, mut full_restic]: [Series; 2] = Default::default();
    for _ in 0..rounds() {
        peer.take().into_iter().for_each(Restic::remove);
        engine::remove(&at("ours"));
        create(&at("ours"));
        full.push(ours("tree.full", &[&volume, &at("ours")]));
        if restic.is_some() {
            let restic = peer.insert(Restic::create(&at("restic")));
            full_restic.push(restic.back_up(&volume));
        }
    }
    let [mut part, mut part_restic]: [Series; 2] = Default::default();
    for round in 1..=rounds() as u64 {
        shape.change(&volume, round);
        let number = PathBuf::from(round.to_string());
        let cost = ours("tree.incremental", &[&volume, &at("ours"), &number]);
        assert_eq!(cost.figure, shape.files / 100, "files that were read");
        part.push(cost);
        if let Some(restic) = &peer {
            part_restic.push(restic.back_up(&volume));
        }
    }
    let [mut back, mut back_restic]: [Series; 2] = Default::default();
    // Each into a place of its own, and all stay until the end: for a minute after files were removed, ext4 passes their inodes
    // over one by one whenever it makes a file.
    for round in 0..rounds() {
        let restored = at(&format!("restored-{round}"));
        back.push(ours("tree.restore", &[&at("ours"), &restored]));
        assert!(round > 0 || same(&volume, &restored), "restored as it was");
        if let Some(restic) = &peer {
            back_restic.push(restic.restore(&at(&format!("restored-{round}-restic"))));
        }
    }
    let restic = restic.unwrap_or_default();
    for (what, mine, theirs, goal) in [
        ("full backup", full, full_restic, Goal::AtLeast(1.5)),
        ("incremental backup", part, part_restic, Goal::AtLeast(2.0)),
        ("restore", back, back_restic, Goal::None),
    ] {
        report.row(what, mine.median(), None, Goal::None);
        if peer.is_some() {
            let ratio = theirs.ratio(&mine, |cost| cost.whole);
            report.row(
                &format!("{what}, {restic}"),
                theirs.median(),
                Some(("ours", ratio)),
                goal,
            );
        }
    }
}

impl Shape {
    fn path(&self, number: u64) -> PathBuf {
        let directory = number * self.directories / self.files;
        format!("{directory:03}/file-{number}").into()
    }

    fn make(&self, volume: &Path) {
        for number in 0..self.directories {
            fs::create_dir_all(volume.join(format!("{number:03}"))).expect("a directory");
        }
        for number in 0..self.files {
            self.write(volume, number, 0);
        }
        settle();
    }

    /// Writes one file in each hundred anew.
    fn change(&self, volume: &Path, round: u64) {
        for number in 0..self.files / 100 {
            self.write(volume, number * 100 + round, round);
        }
        settle();
    }

    fn write(&self, volume: &Path, number: u64, round: u64) {
        let average = self.bytes / self.files;
        let size = match self.varied {
            true => content::number(number) % (2 * average),
            false => average,
        };
        let mut bytes = vec![0; size as usize];
        content::mixed(&mut bytes, number | round << 32);
        fs::write(volume.join(self.path(number)), bytes).expect("written");
    }
}

/// Until the clock has moved on: a file that was written just before a backup is read again by the next, since a change
/// within one tick of the clock would show in nothing.
fn settle() {
    std::thread::sleep(Duration::from_secs(2));
}

/// The steps that run in processes of their own.
pub fn step(name: &str, arguments: &[PathBuf]) -> Done {
    let (first, second) = (&arguments[0], &arguments[1]);
    match name {
        "full" => back_up(&open(second), first, 0),
        "incremental" => {
            let round = arguments[2].to_string_lossy().parse().expect("a number");
            back_up(&open(second), first, round)
        }
        "restore" => {
            let repository = open(first);
            let restore = || {
                let backup = repository.find("latest").expect("there is one");
                let how = TreeRestore {
                    target: second,
                    onto: Onto::Empty,
                    paths: &[],
                };
                restore::tree::tree(&repository, &backup, &how, &Default::default()).expect("restored")
            };
            Done::of(restore).1
        }
        other => panic!("no step {other}"),
    }
}

fn back_up(repository: &windlass::engine::Repository, volume: &Path, snapshot: u64) -> Done {
    let request = tree_request(snapshot);
    let backup = || tree(repository, &request, volume, &Arc::default()).expect("backed up");
    let ((report, counts), done) = Done::of(backup);
    Done {
        sent: report.written.stored_bytes,
        figure: counts.files_changed + counts.files_new,
        ..done
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let status = Command::new("diff").arg("-rq").arg(one).arg(other).status();
    status.expect("diff").success()
}
