//! `make bench-dm`: what the devicemapper driver costs, measured on a real daemon with a real pool, beside the bare commands, LVM,
//! thin_delta and the engine alone, all in one run. Where this machine's kernel has no thin pools, each group runs in a guest
//! kernel (tests/guest/run). Prints tables and writes them into docs/BENCHMARKS.md.
//!
//! Within a round ours and the others take turns, so that what else the machine does hits all of them; a ratio is the median of the
//! rounds' ratios. `WINDLASS_BENCH_ONLY` (commands, backups, stalls, many, differences, blocks) measures one group and leaves the
//! others' tables as they are. `WINDLASS_BENCH_ROUNDS` is for trying things out: with it, nothing is written.

mod backups;
mod blocks;
mod commands;
#[path = "../backup/content.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod content;
#[path = "../../tests/daemon/mod.rs"]
mod daemon;
mod differences;
#[path = "../document.rs"]
mod document;
#[path = "../backup/engine.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod engine;
mod machine;
mod many;
mod pool;
mod report;
mod stalls;

use report::Report;

/// As the program has it: what is measured allocates as it does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Measure = fn(&mut Report);

/// A part of the benchmark, with the memory that a guest needs for it, in MiB: half of that is its /tmp, where the pools are.
struct Group {
    name: &'static str,
    memory: u32,
    measure: Measure,
}

/// In the order of their tables.
const GROUPS: [Group; 6] = [
    group("commands", 3072, commands::measure),
    group("backups", 4096, backups::measure),
    group("stalls", 4096, stalls::measure),
    group("many", 6144, many::measure),
    group("differences", 1024, differences::measure),
    group("blocks", 2560, blocks::measure),
];

const fn group(name: &'static str, memory: u32, measure: Measure) -> Group {
    Group {
        name,
        memory,
        measure,
    }
}

fn main() {
    // `cargo test --benches` and listings must not measure anything.
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return;
    }
    if std::env::var_os("WINDLASS_BENCH_STEP").is_some() {
        backups::step();
        return;
    }
    if let Some(name) = std::env::var_os(machine::INSIDE) {
        let name = name.to_string_lossy();
        let group = GROUPS.iter().find(|group| group.name == name);
        machine::inside(group.expect("a group").measure);
        return;
    }
    let only = std::env::var("WINDLASS_BENCH_ONLY").unwrap_or_default();
    assert!(
        only.is_empty() || GROUPS.iter().any(|group| group.name == only),
        "WINDLASS_BENCH_ONLY is one of commands, backups, stalls, many, differences and blocks"
    );
    let mut missed = Vec::new();
    for group in GROUPS
        .iter()
        .filter(|group| only.is_empty() || group.name == only)
    {
        eprintln!("{}", group.name);
        let found = machine::measure(group.name, group.memory);
        if rounds(0) == 0 {
            write_down(group.name, &found.text, &found.machine);
        }
        missed.extend(found.missed);
    }
    for line in missed {
        println!("MISSED: {line}");
    }
}

/// How many rounds there are, where `usual` is the number that is worth writing down.
fn rounds(usual: usize) -> usize {
    let wanted = std::env::var("WINDLASS_BENCH_ROUNDS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn write_down(group: &str, text: &str, machine: &str) {
    let mut document = document::Document::read();
    document.put(
        "devicemapper",
        &format!(
            "## The devicemapper driver\n\nMade by `make bench-dm`: a real daemon, spoken to through its sockets or by the command \
             line, which is then measured as a whole process, as what it is compared with is. Ours and the others take turns; a ratio is \
             the median of the rounds' ratios, a time that of the rounds' times. \"The predecessor\" is Convoy 0.5.2 with blocks of 2 MiB, \
             measured once in a guest kernel of the same kind; those ratios are between two machines. Pools are sparse files in \
             memory.\n\n{machine}"
        ),
    );
    document.put(&format!("devicemapper: {group}"), text);
    document.write();
}
