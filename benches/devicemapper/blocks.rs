//! The size of the pool's blocks: what a first write after a snapshot costs, what a backup then reads, what the metadata take.

use std::path::Path;

use super::backups::create;
use super::pool::{self, Bench};
use super::report::{Report, Series, shown};

/// So many MiB are written before.
const WRITTEN: u64 = 160;

/// Everything about it.
pub fn measure(report: &mut Report) {
    report.head(
        "The size of the pool's blocks",
        "160 MiB written, a snapshot, then 64 scattered writes of 4 KiB, each synced. In memory, copying is cheap, so the times favour large \
         blocks more than disks would.",
        &[
            "blocks of",
            "a first write, median",
            "the slowest",
            "what the 64 have a backup read",
            "metadata for 1 TiB",
        ],
    );
    for kib in [64u64, 128, 256, 512, 2048] {
        let block = format!("dm.thinpoolblocksize={}", kib * 2);
        let bench = Bench::new(&["dm.loopback=700M", "dm.defaultvolumesize=300M", &block]);
        let daemon = bench.start();
        let url = bench.destination("backups");
        let file = Path::new(&create(&daemon, "v")).join("f");
        pool::fill(&file, WRITTEN, 0);
        daemon.say(&["backup", "create", "v", "--dest", &url]);
        let mut writes = Series::default();
        pool::scatter(&file, WRITTEN << 20, 1, |took| writes.push(took));
        let last = daemon.say(&["backup", "create", "v", "--dest", &url]);
        let figures = daemon.json(&["backup", "inspect", &last]);
        let read = figures["BytesRead"].as_u64().expect("a figure");
        daemon.say(&["umount", "v"]);
        report.cells(
            &[
                &format!("{kib} KiB{}", if kib == 64 { " (the default)" } else { "" }),
                &shown(writes.median()),
                &shown(writes.part(1.0)),
                &format!("{:.1} MiB", read as f64 / f64::from(1 << 20)),
                // 48 bytes for each block (the kernel's thin-provisioning.rst).
                &format!("{} MiB", ((1u64 << 40) / (kib << 10) * 48) >> 20),
            ],
            true,
        );
        daemon.stop();
    }
}
