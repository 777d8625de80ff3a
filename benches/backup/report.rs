//! The tables, on the screen and in docs/BENCHMARKS.md. What misses its goal says so.

use std::fmt::Write as _;
use std::time::Duration;

use super::document::{Document, machine};
use super::step::Cost;

/// No step of ours may take more.
const MEMORY: u64 = 256 << 20;

/// Tables, by group.
pub struct Report {
    groups: Vec<(&'static str, String)>,
    missed: Vec<String>,
}

/// What a row is held to.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Nothing.
    None,
    /// The time.
    Under(Duration),
    /// The ratio.
    AtMost(f64),
    /// The ratio.
    AtLeast(f64),
}

impl Report {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            groups: Vec::new(),
            missed: Vec::new(),
        }
    }

    /// Begins a group.
    pub fn group(&mut self, name: &'static str) {
        self.groups.push((name, String::new()));
    }

    /// Begins a table.
    pub fn table(&mut self, title: &str, about: &str) {
        const HEAD: &str = "| what | time | CPU | compared | goal | peak memory |\n|---|---|---|---|---|---|";
        self.line(&format!("\n### {title}\n\n{about}\n\n{HEAD}"));
        eprintln!("{title}");
    }

    /// A row: what it cost, and how often that is what the other did.
    pub fn row(&mut self, what: &str, cost: Cost, compared: Option<(&str, f64)>, goal: Goal) {
        let ratio = compared.map(|(_, ratio)| ratio);
        let (mut goal, met) = match goal {
            Goal::None => (String::new(), true),
            Goal::Under(most) => (format!("< {} s", most.as_secs_f64()), cost.time < most),
            Goal::AtMost(most) => (format!("≤ {most} ×"), ratio.is_some_and(|ratio| ratio <= most)),
            Goal::AtLeast(least) => (format!("≥ {least} ×"), ratio.is_some_and(|ratio| ratio >= least)),
        };
        if !met {
            goal.push_str(", **missed**");
        }
        let memory = match cost.memory {
            0 => String::new(),
            bytes if bytes < MEMORY => format!("{} MiB", bytes >> 20),
            bytes => format!("{} MiB, **missed**", bytes >> 20),
        };
        let compared = compared.map_or_else(String::new, |(other, ratio)| format!("{ratio:.2} × {other}"));
        let (time, cpu) = (seconds(cost.time), seconds(cost.cpu));
        let row = format!("| {what} | {time} | {cpu} | {compared} | {goal} | {memory} |");
        eprintln!("  {row}");
        self.line(&row);
        if row.contains("missed") {
            self.missed.push(row);
        }
    }

    /// A sentence below a table.
    pub fn note(&mut self, sentence: &str) {
        eprintln!("  {sentence}");
        self.line(&format!("\n{sentence}"));
    }

    /// A figure with a goal, as a sentence.
    pub fn figure(&mut self, sentence: &str, goal: &str, met: bool) {
        let missed = if met { "" } else { ", **missed**" };
        let sentence = format!("{sentence} (goal: {goal}{missed}).");
        self.note(&sentence);
        if !met {
            self.missed.push(sentence);
        }
    }

    fn line(&mut self, line: &str) {
        let (_, text) = self.groups.last_mut().expect("a group was begun");
        writeln!(text, "{line}").expect("memory");
    }

    /// On the screen, and into the document, where groups that were not measured stay as they are.
    pub fn print_and_write(&self, write: bool) {
        for (_, text) in &self.groups {
            println!("{text}");
        }
        for line in &self.missed {
            println!("MISSED: {line}");
        }
        if !write {
            return;
        }
        let mut document = Document::read();
        let about = format!(
            "## Backups\n\n{} {}\n\nMachine: {}.",
            "Medians of 3 rounds, in which ours and the others take turns; \"×\" is the median of the rounds' ratios. Our times are \
             without the process's start and the derivation of its key, which the daemon has behind it; comparisons with restic and \
             borg are of whole processes, ours too.",
            "Goal for the peak memory of every step: under 256 MiB.",
            machine()
        );
        document.put("backups", &about);
        for (group, text) in &self.groups {
            document.put(&format!("backups: {group}"), text);
        }
        document.write();
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
