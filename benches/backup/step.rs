//! One measured step in a process of its own, and what it cost; and what the rounds of a step come to.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{image, large, tree, upload};

/// What a step cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Wall time: of our own steps without the process's start and the derivation of its key, since the daemon has both
    /// behind it; of a peer's the whole process.
    pub time: Duration,
    /// Wall time of the whole process.
    pub whole: Duration,
    /// The processors' time in user and in kernel mode, of what `time` is about; to a hundredth of a second.
    pub cpu: Duration,
    /// The most memory that the process had at once, in bytes; 0 where it is not known.
    pub memory: u64,
    /// Bytes that went to the store, where the step says.
    pub sent: u64,
    /// Another figure of the step's own.
    pub figure: u64,
}

/// What a step says when it is done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    /// Of what was measured.
    pub time: Duration,
    /// The same.
    pub cpu: Duration,
    /// See [`Cost`].
    pub sent: u64,
    /// See [`Cost`].
    pub figure: u64,
}

impl Done {
    /// Measures.
    pub fn of<T>(work: impl FnOnce() -> T) -> (T, Self) {
        let (begin, cpu) = (Instant::now(), processor_time(OWN));
        let result = work();
        let done = Self {
            time: begin.elapsed(),
            cpu: processor_time(OWN) - cpu,
            ..Self::default()
        };
        (result, done)
    }
}

/// Runs one of our own steps, `group.step`, with its arguments.
pub fn ours<S: AsRef<OsStr>>(name: &str, arguments: &[S]) -> Cost {
    ours_with(name, arguments, &[])
}

/// The same, with variables in its environment.
pub fn ours_with<S: AsRef<OsStr>>(name: &str, arguments: &[S], variables: &[(&str, &str)]) -> Cost {
    settle();
    let mut command = Command::new(std::env::current_exe().expect("our own program"));
    let begin = Instant::now();
    let output = command
        .env("WINDLASS_BENCH_STEP", name)
        .envs(variables.iter().copied())
        .args(arguments)
        .output()
        .expect("it starts");
    let whole = begin.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{name}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut words = said
        .split_whitespace()
        .map(|word| word.parse::<u64>().expect("a number"));
    let mut next = || words.next().expect("five numbers");
    Cost {
        time: Duration::from_nanos(next()),
        whole,
        cpu: Duration::from_nanos(next()),
        memory: next(),
        sent: next(),
        figure: next(),
    }
}

/// Runs a peer's command.
pub fn peer(command: &mut Command) -> Cost {
    settle();
    let (begin, cpu) = (Instant::now(), processor_time(CHILDREN));
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Cost {
        time: begin.elapsed(),
        whole: begin.elapsed(),
        cpu: processor_time(CHILDREN) - cpu,
        ..Cost::default()
    }
}

/// Lets the disk finish what the step before left, so that nobody pays for another's.
fn settle() {
    let status = Command::new("sync").status().expect("sync runs");
    assert!(status.success());
}

/// The child's side: does the step and prints its figures.
pub fn child(name: &str) {
    let arguments: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .map(Into::into)
        .collect();
    let (group, step) = name.split_once('.').expect("group.step");
    let done = match group {
        "image" => image::step(step, &arguments),
        "tree" => tree::step(step, &arguments),
        "large" => large::step(step, &arguments),
        "upload" => upload::step(step, &arguments),
        other => panic!("no group {other}"),
    };
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("Linux says the peak");
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    println!(
        "{} {} {} {} {}",
        done.time.as_nanos(),
        done.cpu.as_nanos(),
        kilobytes * 1024,
        done.sent,
        done.figure
    );
}

/// The fields of `/proc/self/stat` behind the program's name: user time, and system time in the next one (proc(5)).
const OWN: usize = 11;
/// The same of children that were waited for.
const CHILDREN: usize = 13;

fn processor_time(field: usize) -> Duration {
    // USER_HZ is 100 on every architecture that Linux tells it of.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let ticks = fields.split(' ').skip(field).take(2);
    TICK * ticks.map(|word| word.parse::<u32>().expect("a number")).sum()
}

/// One step's costs in all rounds.
#[derive(Debug, Default)]
pub struct Series(Vec<Cost>);

impl Series {
    /// Adds a round's.
    pub fn push(&mut self, cost: Cost) {
        self.0.push(cost);
    }

    /// The round with the median time, and the most memory of all rounds.
    pub fn median(&self) -> Cost {
        let mut costs = self.0.clone();
        costs.sort_by_key(|cost| cost.time);
        let mut middle = costs[costs.len() / 2];
        middle.memory = costs.iter().map(|cost| cost.memory).max().unwrap_or(0);
        middle
    }

    /// The median of the rounds' ratios of this one's time to the other's.
    pub fn ratio(&self, other: &Self, of: impl Fn(&Cost) -> Duration) -> f64 {
        let mut ratios: Vec<f64> = self
            .0
            .iter()
            .zip(&other.0)
            .map(|(one, other)| of(one).as_secs_f64() / of(other).as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}
