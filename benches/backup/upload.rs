//! Uploads: a full backup of random bytes to a real S3 server on this machine, beside what the server takes from bare requests.
//!
//! The bare side puts objects of a pack's size over as many connections as a backup has, through the same store; their bytes
//! are there before. The server shares the processors with either.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use windlass::engine::Repository;
use windlass::engine::backup::block::{BlockSource, block};
use windlass::engine::pack::PACK_TARGET;
use windlass::engine::writer::UPLOADS;
use windlass::store::{Destination, Store, StoreSettings, open};

use super::content::random;
use super::engine::{image_request, password};
use super::report::{Goal, Report};
use super::rounds;
use super::s3::{ACCESS_KEY, SECRET_KEY, Server};
use super::step::{Cost, Done, Series, ours_with};

/// Of the image.
const SIZE: u64 = 1 << 30;

/// Everything about uploads.
pub fn measure(report: &mut Report) {
    report.table(
        "Uploads to an S3 server on this machine",
        &format!(
            "SeaweedFS, on the same processors and disk. 1 GiB of random bytes as a full backup, and as bare puts of 16 MiB, {UPLOADS} at a \
             time, through the same store. The goal: at least 80 % of the server's own rate, that is, at most 1.25 × the time per byte.",
        ),
    );
    let Some(server) = Server::get() else {
        println!("LACKING: weed (SeaweedFS; packaging/setup installs it): uploads are left out");
        report.note("SeaweedFS is not installed: left out.");
        return;
    };
    let scratch = tempfile::Builder::new()
        .prefix("windlass-bench")
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let disk = scratch.path().join("disk.img");
    std::fs::write(&disk, noise(SIZE)).expect("written");
    let [mut bare, mut full]: [Series; 2] = Default::default();
    for round in 0..rounds() {
        bare.push(upload(server, "upload.bare", &format!("bare{round}"), &disk));
        full.push(upload(server, "upload.full", &format!("full{round}"), &disk));
    }
    let rate = |cost: Cost| format!("{:.0} MB/s", cost.sent as f64 / 1e6 / cost.time.as_secs_f64());
    let what = format!("bare puts, {}", rate(bare.median()));
    let mut cost = bare.median();
    // Its objects are made beforehand, in memory.
    cost.memory = 0;
    report.row(&what, cost, None, Goal::None);
    let what = format!("full backup, {}", rate(full.median()));
    let per_byte = |cost: &Cost| cost.time.div_f64(cost.sent as f64 / 1e6);
    let ratio = full.ratio(&bare, per_byte);
    report.row(
        &what,
        full.median(),
        Some(("bare puts", ratio)),
        Goal::AtMost(1.25),
    );
}

/// A step into a bucket of its own.
fn upload(server: &Server, step: &str, bucket: &str, disk: &Path) -> Cost {
    server.make_bucket(bucket);
    let url = format!("s3://{bucket}@us-east-1/r?endpoint={}", server.endpoint);
    let variables = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("NO_PROXY", "127.0.0.1"),
    ];
    ours_with(step, &[Path::new(&url), disk], &variables)
}

/// The steps that run in processes of their own.
pub fn step(name: &str, arguments: &[PathBuf]) -> Done {
    let url = arguments[0].to_str().expect("a URL");
    let destination = Destination::parse(url, None).expect("a destination");
    let opened = open(&destination, &StoreSettings::default()).expect("opened");
    match name {
        "bare" => bare(&*opened.store),
        "full" => {
            let disk = &arguments[1];
            let repository = Repository::create(opened.store, &password(), None, None).expect("made");
            let (report, done) = Done::of(|| {
                let file = File::open(disk).expect("opened");
                let source = BlockSource::file(&file, disk).expect("looked at");
                let request = image_request(source.size, 0);
                block(&repository, &request, &source, &Arc::default()).expect("backed up")
            });
            Done {
                sent: report.written.stored_bytes,
                ..done
            }
        }
        other => panic!("no step {other}"),
    }
}

fn bare(store: &dyn Store) -> Done {
    let object = Bytes::from(noise(PACK_TARGET as u64));
    let objects = SIZE / PACK_TARGET as u64;
    let next = AtomicU64::new(0);
    let put_all = || {
        std::thread::scope(|scope| {
            for _ in 0..UPLOADS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= objects {
                            return;
                        }
                        let path = format!("data/{number:02x}/object");
                        store.put(&path, object.clone()).expect("put");
                    }
                });
            }
        });
    };
    Done {
        sent: SIZE,
        ..Done::of(put_all).1
    }
}

fn noise(length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    random(&mut bytes, length);
    bytes
}
