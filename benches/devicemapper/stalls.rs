//! Whether anything else waits while a backup runs: writes to another volume, and requests.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::backups::create;
use super::daemon::Daemon;
use super::pool::{self, Bench};
use super::report::{Report, Series, shown};
use super::rounds;

/// How long is measured without a backup.
const QUIET: Duration = Duration::from_secs(12);
/// No more may be added by a backup.
const MOST: Duration = Duration::from_millis(50);

/// Everything about it.
pub fn measure(report: &mut Report) {
    let bench = Bench::new(&["dm.loopback=1100M", "dm.defaultvolumesize=1G"]);
    let daemon = bench.start();
    let source = PathBuf::from(create(&daemon, "source"));
    pool::fill(&source.join("f"), 512, 0);
    daemon.say(&["snapshot", "create", "source", "--name", "s"]);
    let written = PathBuf::from(create(&daemon, "written"));
    create(&daemon, "other");
    let number = AtomicU64::new(0);
    let quiet = watch(&daemon, &written, &number, |_| std::thread::sleep(QUIET));
    let busy = watch(&daemon, &written, &number, |daemon| {
        for round in 0..rounds(5) {
            let url = bench.destination(&format!("backups{round}"));
            daemon.say(&["backup", "create", "source@s", "--dest", &url]);
            std::fs::remove_dir_all(bench.path().join(format!("backups{round}"))).expect("removed");
        }
    });
    report.head(
        "What else waits while a backup runs",
        "Full backups of 512 MiB, one after the other, and beside them, each in a loop: writes of 4 KiB with fsync to another volume, snapshots of \
         a third one that is mounted, lists, and the creation of volumes; what is made is taken away again, uncounted. \"Alone\" is the same without backups, in the same run; all share the \
         guest's one processor. The last row is a sleep of 2 ms and what comes on top of it, which is the machine's own noise. The goal is \
         that a backup adds at most 50 ms to the longest of a hundred.",
        &["what", "alone: median", "99 %", "longest", "with backups: median", "99 %", "longest", "added at 99 %"],
    );
    for (quiet, busy) in quiet.iter().zip(&busy) {
        let (alone, beside) = (&quiet.series, &busy.series);
        let added = beside.part(0.99).saturating_sub(alone.part(0.99));
        let counted = format!("{} ({} and {})", quiet.what, alone.len(), beside.len());
        let cells = [alone, beside].map(|series| [0.5, 0.99, 1.0].map(|part| shown(series.part(part))));
        let [a, b] = &cells;
        report.cells(
            &[&counted, &a[0], &a[1], &a[2], &b[0], &b[1], &b[2], &shown(added)],
            added <= MOST,
        );
    }
}

/// How long one sort of thing took, each time.
struct Watched {
    what: &'static str,
    series: Series,
}

/// Does all of it, again and again, while `work` works.
fn watch(
    daemon: &Daemon<'_>,
    written: &Path,
    number: &AtomicU64,
    work: impl FnOnce(&Daemon<'_>),
) -> Vec<Watched> {
    let stop = AtomicBool::new(false);
    let ms = Duration::from_millis;
    // What is made is taken away again, so that the pool is as full at the end as at the beginning; that is not counted.
    let again = |pause: Duration, each: &mut dyn FnMut(u64), undo: &dyn Fn(u64)| {
        let mut series = Series::default();
        while !stop.load(Ordering::SeqCst) {
            let number = number.fetch_add(1, Ordering::SeqCst);
            series.time(|| each(number));
            undo(number);
            std::thread::sleep(pause);
        }
        series
    };
    let file = File::create(written.join("synced")).expect("made");
    let ask = |method, path: &str, body: &str| {
        let (status, said) = daemon.admin(method, path, body);
        assert!(status < 300, "{said}");
    };
    let volume = |number| {
        format!(
            r#"{{"Name":"v{number}","Opts":{{"driver":"devicemapper","size":"64M","on-remove":"delete"}}}}"#
        )
    };
    let write = || {
        let mut at = 0;
        let mut one = |_| {
            at = (at + 4096) % (8 << 20);
            file.write_all_at(&[7; 4096], at).expect("written");
            file.sync_data().expect("synced");
        };
        again(ms(5), &mut one, &|_| ())
    };
    let snapshot = || {
        let mut one = |number| {
            let body = format!(r#"{{"Name":"s{number}"}}"#);
            ask("POST", "/v1/volumes/other/snapshots", &body);
        };
        let undo = |number| ask("DELETE", &format!("/v1/snapshots/other@s{number}"), "");
        again(ms(50), &mut one, &undo)
    };
    let list = || again(ms(20), &mut |_| ask("GET", "/v1/volumes", ""), &|_| ());
    let create = || {
        let mut one = |number| drop(daemon.ok("VolumeDriver.Create", &volume(number)));
        let undo = |number| drop(daemon.ok("VolumeDriver.Remove", &volume(number)));
        again(ms(200), &mut one, &undo)
    };
    let nothing = || {
        let mut series = Series::default();
        let mut one = |_| {
            let begun = Instant::now();
            std::thread::sleep(ms(2));
            series.push(begun.elapsed().saturating_sub(ms(2)));
        };
        again(ms(3), &mut one, &|_| ());
        series
    };
    std::thread::scope(|scope| {
        let threads = [
            ("write of 4 KiB with fsync", scope.spawn(write)),
            ("snapshot of another mounted volume", scope.spawn(snapshot)),
            ("list", scope.spawn(list)),
            ("create", scope.spawn(create)),
            ("nothing: what is added to a sleep", scope.spawn(nothing)),
        ];
        work(daemon);
        stop.store(true, Ordering::SeqCst);
        threads
            .into_iter()
            .map(|(what, thread)| Watched {
                what,
                series: thread.join().expect("no panic"),
            })
            .collect()
    })
}
