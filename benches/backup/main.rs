//! `make bench`: what backups and restores cost, beside a plain copy, restic and borg, and a server's own rate.
//!
//! Each measured step is a process of its own, so that its peak memory is its own. Within a round ours and the peers take
//! turns, so that what else the machine does hits all of them; a ratio is the median of the rounds' ratios. Prints tables
//! and writes them into docs/BENCHMARKS.md. Peers that are not installed are named and left out.
//!
//! `WINDLASS_BENCH_ONLY` (image, tree, large, s3) measures one group and leaves the others' tables as they are.
//! `WINDLASS_BENCH_ROUNDS` is for trying things out: with fewer rounds than usual nothing is written.

mod content;
#[path = "../document.rs"]
mod document;
mod engine;
mod image;
mod large;
mod parent;
mod peer;
mod report;
#[path = "../../tests/s3/mod.rs"]
mod s3;
mod step;
mod tree;
mod upload;

use report::Report;

/// As the program has it: what is measured allocates as it does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds of each measurement.
const ROUNDS: usize = 3;

type Measure = fn(&mut Report);

/// In the order of their tables.
const GROUPS: [(&str, Measure); 4] = [
    ("image", image::measure),
    ("tree", tree::measure),
    ("large", large::measure),
    ("s3", upload::measure),
];

fn main() {
    // `cargo test --benches` and listings must not measure anything.
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return;
    }
    if let Some(step) = std::env::var_os("WINDLASS_BENCH_STEP") {
        step::child(&step.to_string_lossy());
        return;
    }
    let only = std::env::var("WINDLASS_BENCH_ONLY").unwrap_or_default();
    assert!(
        only.is_empty() || GROUPS.iter().any(|(name, _)| *name == only),
        "WINDLASS_BENCH_ONLY is one of image, tree, large and s3"
    );
    let mut report = Report::new();
    for (name, measure) in GROUPS {
        if only.is_empty() || only == name {
            report.group(name);
            measure(&mut report);
        }
    }
    report.print_and_write(rounds() >= ROUNDS);
}

/// How many rounds there are.
fn rounds() -> usize {
    let wanted = std::env::var("WINDLASS_BENCH_ROUNDS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS).max(1)
}
