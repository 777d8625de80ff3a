//! `make bench`: what the daemon costs, measured on a real process through its sockets, each figure beside the bare system
//! calls of the same run. Prints a table and writes it into docs/BENCHMARKS.md with the machine's description.

#[path = "../tests/daemon/mod.rs"]
mod daemon;

use std::fmt::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use daemon::{Daemon, Home, shell, text};
use serde_json::Value;

const ROUNDS: usize = 101;
const MANY: usize = 10_000;

struct Figure {
    what: &'static str,
    measured: String,
    bare: String,
    ratio: String,
    goal: &'static str,
}

fn main() {
    // `cargo test --benches` and listings must not measure anything.
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return;
    }
    let mut figures = Vec::new();
    few(&mut figures);
    many(&mut figures);
    let table = table(&figures);
    println!("{table}");
    write_down(&table);
}

/// Create and first mount, one volume after the other.
fn few(figures: &mut Vec<Figure>) {
    let home = Home::new();
    let daemon = home.start_with(quiet);
    let (mut create, mut mount, mut get, mut bare_create, mut bare_mount) =
        (vec![], vec![], vec![], vec![], vec![]);
    let bare = home.path().join("bare");
    std::fs::create_dir(&bare).expect("a directory");
    for round in 0..ROUNDS {
        let body = format!(r#"{{"Name":"v{round}","ID":"c"}}"#);
        create.push(timed(|| drop(daemon.ok("VolumeDriver.Create", &body))));
        mount.push(timed(|| drop(daemon.ok("VolumeDriver.Mount", &body))));
        get.push(timed(|| drop(daemon.ok("VolumeDriver.Get", &body))));
        bare_create.push(timed(|| make_bare(&bare, round)));
        let at = bare.join(format!("at{round}"));
        std::fs::create_dir(&at).expect("a mount point");
        bare_mount.push(timed(|| bind(&bare.join(format!("v{round}")), &at)));
        shell(&["umount", text(&at)]);
        daemon.ok("VolumeDriver.Unmount", &body);
    }
    let beside = |what, goal, measured: &mut Vec<Duration>, bare: &mut Vec<Duration>| {
        let (measured, bare) = (median(measured), median(bare));
        Figure {
            what,
            measured: shown(measured),
            bare: shown(bare),
            ratio: format!("{:.1}", measured.as_secs_f64() / bare.as_secs_f64()),
            goal,
        }
    };
    figures.push(beside(
        "create, by the protocol (bare: mkdir, record, 4 fsyncs)",
        "< 50 ms",
        &mut create,
        &mut bare_create,
    ));
    figures.push(beside(
        "first mount, by the protocol (bare: mount --bind, a process)",
        "< 50 ms",
        &mut mount,
        &mut bare_mount,
    ));
    figures.push(alone("get, by the protocol", "", shown(median(&mut get))));
    let stop = daemon.stop();
    figures.push(alone("stop", "< 10 s", shown(stop)));
}

/// Ten thousand volumes.
fn many(figures: &mut Vec<Figure>) {
    let home = Home::new();
    let daemon = home.start_with(quiet);
    daemon.ok("VolumeDriver.Create", r#"{"Name":"v0"}"#);
    daemon.stop();
    let records = home.volumes().join(".windlass/volumes");
    let first: Value =
        serde_json::from_slice(&std::fs::read(records.join("v0")).expect("a record")).expect("JSON");
    for number in 1..MANY {
        let name = format!("v{number}");
        let mut record = first.clone();
        record["name"] = name.clone().into();
        record["id"] = uuid::Uuid::new_v4().to_string().into();
        record["policy"] = serde_json::json!({
            "snapshot_schedule": "30 2 1 * *",
            "backup_schedule": "@monthly",
            "backup_verify": "sample,full=@yearly",
        });
        std::fs::write(records.join(&name), serde_json::to_vec(&record).expect("JSON")).expect("a record");
        std::fs::create_dir(home.volumes().join(&name)).expect("a directory");
    }
    // Once to take the volumes in, then as after any restart.
    home.start_with(quiet).stop();
    let mut start = vec![];
    for _ in 0..5 {
        let begun = Instant::now();
        let daemon = home.start_with(quiet);
        start.push(begun.elapsed());
        daemon.stop();
    }
    planning(&home, figures);
    let daemon = home.start_with(quiet);
    let (mut list, mut admin, mut command, mut read) = (vec![], vec![], vec![], vec![]);
    for _ in 0..21 {
        list.push(timed(|| {
            let volumes = daemon.ok("VolumeDriver.List", "{}");
            assert_eq!(volumes["Volumes"].as_array().map(Vec::len), Some(MANY));
        }));
        admin.push(timed(|| {
            assert_eq!(daemon.admin("GET", "/v1/volumes", "").0, 200)
        }));
        command.push(timed(|| assert!(daemon.run(&["list"]).status.success())));
        read.push(timed(|| {
            assert_eq!(std::fs::read_dir(&records).expect("records").count(), MANY)
        }));
    }
    figures.push(alone(
        "start with 10,000 volumes, until List answers",
        "< 2 s",
        shown(median(&mut start)),
    ));
    let readdir = median(&mut read);
    let listed = median(&mut list);
    figures.push(Figure {
        what: "List of 10,000, by the protocol, parsed (bare: readdir of the records)",
        measured: shown(listed),
        bare: shown(readdir),
        ratio: format!("{:.1}", listed.as_secs_f64() / readdir.as_secs_f64()),
        goal: "< 150 ms",
    });
    figures.push(alone(
        "GET /v1/volumes of 10,000, parsed",
        "",
        shown(median(&mut admin)),
    ));
    figures.push(alone(
        "windlass list of 10,000, the whole process",
        "< 150 ms",
        shown(median(&mut command)),
    ));
    figures.push(alone(
        "memory with 10,000 volumes with policies (VmHWM)",
        "< 150 MB",
        format!("{} MiB", peak(&daemon) / 1024),
    ));
    figures.push(alone(
        "idle CPU with 10,000 volumes with policies, over 60 s",
        "< 1 %",
        idle(&daemon),
    ));
}

/// A pass of the scheduler over all volumes, by its own clock: the first, and those after it, which find what has not changed.
fn planning(home: &Home, figures: &mut Vec<Figure>) {
    let (mut first, mut later) = (vec![], vec![]);
    for _ in 0..5 {
        let known = home.log().len();
        let daemon = home.start_with(|command| {
            command.env("WINDLASS_LOG_LEVEL", "trace");
        });
        let give_up = Instant::now() + Duration::from_secs(120);
        let passes = loop {
            let log = home.log().split_off(known);
            let passes: Vec<Duration> = log.lines().filter_map(pass).collect();
            if passes.len() >= 2 {
                break passes;
            }
            assert!(Instant::now() < give_up, "the scheduler does not plan:\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        };
        first.push(passes[0]);
        later.extend(&passes[1..]);
        daemon.stop();
    }
    figures.push(alone(
        "a planning pass over 10,000 volumes with policies: the first",
        "< 100 ms",
        shown(median(&mut first)),
    ));
    figures.push(alone(
        "a planning pass over them when nothing has changed",
        "",
        shown(median(&mut later)),
    ));
}

/// The time in a line of the log that tells of a pass.
fn pass(line: &str) -> Option<Duration> {
    let micros = line.split_once("planned in ")?.1.split_once(" µs")?.0;
    micros.parse().ok().map(Duration::from_micros)
}

fn quiet(command: &mut std::process::Command) {
    command.env("WINDLASS_LOG_LEVEL", "warn");
}

/// What a create costs at the very least: a directory, a record, both on disk, and an intent before and after.
fn make_bare(dir: &Path, round: usize) {
    let at = dir.join(format!("v{round}"));
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(&at)
        .expect("a directory");
    for step in 0..2 {
        let file = std::fs::File::create(dir.join(format!("r{round}-{step}"))).expect("a file");
        std::io::Write::write_all(&mut &file, &[b'x'; 400]).expect("writes");
        file.sync_all().expect("syncs");
        std::fs::File::open(dir)
            .and_then(|d| d.sync_all())
            .expect("syncs");
    }
}

fn bind(from: &Path, to: &Path) {
    shell(&["mount", "--bind", text(from), text(to)]);
}

fn peak(daemon: &Daemon<'_>) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("its status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .expect("a number")
}

fn idle(daemon: &Daemon<'_>) -> String {
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("its stat");
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .filter_map(|f| f.parse().ok())
            .collect();
        // utime and stime; the state, a letter, fell out.
        fields[10] + fields[11]
    };
    let before = ticks();
    // The scheduler looks every 15 s.
    std::thread::sleep(Duration::from_secs(60));
    // 100 ticks a second.
    format!("{:.2} %", (ticks() - before) as f64 / 60.0)
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

fn alone(what: &'static str, goal: &'static str, measured: String) -> Figure {
    Figure {
        what,
        measured,
        bare: String::new(),
        ratio: String::new(),
        goal,
    }
}

fn table(figures: &[Figure]) -> String {
    let mut table = String::from("| what | median | bare | ratio | goal |\n|---|---|---|---|---|\n");
    for f in figures {
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} |",
            f.what, f.measured, f.bare, f.ratio, f.goal
        );
    }
    table
}

fn write_down(table: &str) {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown")
        .to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: String = kernel.split('-').next().unwrap_or_default().trim().to_owned();
    let filesystem = shell(&["stat", "-f", "-c", "%T", text(&std::env::temp_dir())]);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/BENCHMARKS.md");
    // What follows is the other benchmark's.
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let backups = before.find("<!-- backups").map_or("", |at| &before[at..]);
    let page = format!(
        "# Benchmarks\n\n\
         Made by `make bench`. Medians of {ROUNDS} rounds (21 for lists, 5 for starts), through the sockets, the\n\
         client's own time included. Machines differ and are noisy: the ratios say more than the times.\n\n\
         Machine: {model}, {cores} cores, Linux {kernel}, volumes on {}.\n\n## The daemon, vfs driver\n\n{table}\n{backups}",
        filesystem.trim()
    );
    std::fs::write(path, page.trim_end().to_owned() + "\n").expect("docs/BENCHMARKS.md");
}
