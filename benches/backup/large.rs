//! A terabyte of which every chunk is mapped and different: backups incremental to a simulated parent, and their list.
//!
//! The source has no storage: a block's content is computed from its number and the round in which it was written last, so that
//! reading it costs what reading from a page cache costs. What the parent is, and what of it is not there, is told in `parent`.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use windlass::engine::Repository;
use windlass::engine::backup::BackupReport;
use windlass::engine::backup::block::{BlockSource, Changed, ReadAt, block};
use windlass::engine::image::chunk_for;
use windlass::store::{Counting, Counts};

use super::content::{WRITE, random, scattered};
use super::engine::{cache_of, directory, image_request, open, password, snapshot_id};
use super::parent;
use super::report::{Goal, Report};
use super::rounds;
use super::step::{Done, Series, ours};

const SIZE: u64 = 1 << 40;
/// 64 MiB.
const WRITES: u64 = 1024;
/// How many backups are listed.
const BACKUPS: u64 = 100;
/// Of all that is uploaded but the chunks themselves, in bytes.
const METADATA: u64 = 16 << 20;

/// Everything about large images.
pub fn measure(report: &mut Report) {
    let scratch = tempfile::Builder::new()
        .prefix("windlass-bench")
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let repository = scratch.path().join("ours");
    report.table(
        "1 TiB, fully mapped",
        "The image is simulated: a block's content is computed from its number and the round in which it was written last, and does not \
         compress. Of the parent everything is there that a full backup leaves (16,384 directories of 256 different chunks each, and \
         4,194,304 chunks of 256 KiB in the index) but the packs with the data, which no incremental backup reads. 64 MiB are changed \
         by 1,024 scattered writes of 64 KiB, each into a chunk of its own in a segment of its own, so that 256 MiB are read and stored.",
    );
    let made = ours("large.parent", &[&repository]);
    report.row("making the parent", made, None, Goal::None);
    let mut series = Series::default();
    let mut metadata = 0;
    let mut snapshot = 0;
    for _ in 0..rounds() {
        snapshot += 1;
        let cost = back_up(&repository, "large.incremental", snapshot);
        metadata = metadata.max(cost.figure);
        series.push(cost);
    }
    let goal = Goal::Under(Duration::from_secs(3));
    report.row("incremental backup", series.median(), None, goal);
    let sentence = format!(
        "Uploaded by an incremental backup beside the chunks themselves: {:.1} MiB of directories, index and snapshot",
        metadata as f64 / f64::from(1 << 20)
    );
    std::fs::remove_dir_all(cache_of(&repository)).expect("removed");
    snapshot += 1;
    let cold = back_up(&repository, "large.incremental", snapshot);
    report.row("the same on a host without a cache", cold, None, Goal::None);
    let many = back_up(&repository, "large.many", snapshot + 1);
    let what = format!("{} more backups, of one write each", BACKUPS - snapshot);
    report.row(&what, many, None, Goal::None);
    let mut lists = Series::default();
    for _ in 0..rounds() {
        lists.push(ours("large.list", &[&repository]));
    }
    let what = format!("list of {} backups, with the cache", BACKUPS + 1);
    report.row(&what, lists.median(), None, Goal::Under(Duration::from_secs(1)));
    report.figure(&sentence, "< 16 MiB", metadata < METADATA);
}

fn back_up(repository: &Path, step: &str, snapshot: u64) -> super::step::Cost {
    ours(step, &[repository, Path::new(&snapshot.to_string())])
}

/// The steps that run in processes of their own.
pub fn step(name: &str, arguments: &[PathBuf]) -> Done {
    let at = &arguments[0];
    let snapshot = || arguments[1].to_string_lossy().parse().expect("a number");
    match name {
        "parent" => Done::of(|| parent::make(at, SIZE)).1,
        "incremental" => incremental(at, snapshot()),
        "many" => {
            let repository = open(at);
            let all = || {
                for snapshot in snapshot()..=BACKUPS {
                    change(&repository, snapshot, 1);
                }
            };
            Done::of(all).1
        }
        "list" => {
            let repository = open(at);
            let (backups, done) = Done::of(|| repository.backups().expect("listed"));
            assert_eq!(backups.len() as u64, BACKUPS + 1);
            done
        }
        other => panic!("no step {other}"),
    }
}

fn incremental(at: &Path, snapshot: u64) -> Done {
    let counts = Arc::new(Counts::default());
    let store = Arc::new(Counting::new(directory(at), counts.clone()));
    let repository = Repository::open(store, &password(), Some(&cache_of(at))).expect("opened");
    let before = counts.tally();
    let (report, done) = Done::of(|| change(&repository, snapshot, WRITES));
    let sent = counts.tally().since(&before).sent_bytes;
    // The manifest is a blob of data too.
    let others = report.written.data_blobs - WRITES;
    assert!(others <= 2, "every write is to a chunk of its own");
    Done {
        sent,
        figure: sent - WRITES * u64::from(chunk_for(SIZE)),
        ..done
    }
}

/// Backs up what so many writes changed since the snapshot before.
fn change(repository: &Repository, snapshot: u64, writes: u64) -> BackupReport {
    let ranges = scattered(SIZE, writes, snapshot);
    let simulated = Simulated {
        written: ranges.iter().map(|range| range.start).collect(),
        round: snapshot,
    };
    let source = BlockSource {
        bytes: &simulated,
        path: "simulated".into(),
        size: SIZE,
        mapped: Some(whole()),
        changed: Some(Changed {
            since: snapshot_id(snapshot - 1),
            ranges,
        }),
    };
    let request = image_request(SIZE, snapshot);
    let report = block(repository, &request, &source, &Arc::default()).expect("backed up");
    assert!(report.parent.is_some(), "it is incremental");
    report
}

fn whole() -> Vec<Range<u64>> {
    std::iter::once(0..SIZE).collect()
}

/// An image without storage.
struct Simulated {
    /// The offsets of the blocks that were written in the last round; the others are as they were in the parent.
    written: HashSet<u64>,
    round: u64,
}

impl ReadAt for Simulated {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        assert!(offset.is_multiple_of(WRITE), "chunks begin where blocks do");
        for (block, at) in buffer
            .chunks_mut(WRITE as usize)
            .zip((offset..).step_by(WRITE as usize))
        {
            let round = if self.written.contains(&at) { self.round } else { 0 };
            random(block, at | round);
        }
        Ok(())
    }
}
