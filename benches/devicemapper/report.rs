//! Tables, and what misses its goal.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Tables of one group.
#[derive(Default)]
pub struct Report {
    text: String,
    missed: String,
}

/// What a row is held to.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Nothing.
    None,
    /// Our time.
    Under(Duration),
    /// How often the other's time ours may be.
    AtMost(f64),
    /// How often ours the other's time is to be.
    Faster(f64),
}

/// A time of one thing in each round.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<Duration>);

impl Series {
    /// Another round's.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Measures another round.
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.push(begun.elapsed());
        result
    }

    /// The middle one.
    pub fn median(&self) -> Duration {
        self.part(0.5)
    }

    /// The one that so large a part of the others is not above: 0.5 is the median, 1 the longest.
    pub fn part(&self, part: f64) -> Duration {
        let mut all = self.0.clone();
        all.sort();
        let at = ((all.len() as f64 * part) as usize).min(all.len().saturating_sub(1));
        all.get(at).copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The median of the rounds' ratios to the other's.
    fn ratio(&self, other: &Self) -> f64 {
        let mut ratios: Vec<f64> = self
            .0
            .iter()
            .zip(&other.0)
            .map(|(one, other)| one.as_secs_f64() / other.as_secs_f64())
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}

impl Report {
    /// Begins a table of times and ratios.
    pub fn table(&mut self, title: &str, about: &str) {
        const HEAD: &str = "| what | ours | compared | ratio | goal |\n|---|---|---|---|---|";
        self.line(&format!("### {title}\n\n{about}\n\n{HEAD}"));
    }

    /// A row: what it took, and what another took in the same rounds.
    pub fn row(&mut self, what: &str, ours: &Series, other: Option<(&str, &Series)>, goal: Goal) {
        let compared = other.map(|(name, theirs)| (name, theirs.median(), ours.ratio(theirs)));
        self.add(what, ours.median(), compared, goal);
    }

    /// A row: what it took, and what another took once, elsewhere.
    pub fn beside(&mut self, what: &str, ours: &Series, other: &str, took: Duration, goal: Goal) {
        let ratio = ours.median().as_secs_f64() / took.as_secs_f64();
        self.add(what, ours.median(), Some((other, took, ratio)), goal);
    }

    fn add(&mut self, what: &str, ours: Duration, other: Option<(&str, Duration, f64)>, goal: Goal) {
        let ratio = other.map(|(_, _, ratio)| ratio);
        let (goal, met) = match goal {
            Goal::None => (String::new(), true),
            Goal::Under(most) => (format!("< {}", shown(most)), ours < most),
            Goal::AtMost(most) => (format!("≤ {most}"), ratio.is_some_and(|ratio| ratio <= most)),
            Goal::Faster(least) => (
                format!("≤ 1/{least}"),
                ratio.is_some_and(|ratio| ratio * least <= 1.0),
            ),
        };
        let compared = other.map_or_else(String::new, |(name, took, _)| format!("{name}: {}", shown(took)));
        let ratio = ratio.map_or_else(String::new, |ratio| match ratio < 0.1 {
            true => format!("1/{:.0}", 1.0 / ratio),
            false => format!("{ratio:.2}"),
        });
        self.cells(&[what, &shown(ours), &compared, &ratio, &goal], met);
    }

    /// A row of a table of another form.
    pub fn cells(&mut self, cells: &[&str], met: bool) {
        let missed = if met { "" } else { ", **missed**" };
        let row = format!("| {}{missed} |", cells.join(" | "));
        self.line(&row);
        self.miss(&row, met);
    }

    /// Begins a table of another form.
    pub fn head(&mut self, title: &str, about: &str, cells: &[&str]) {
        let rule = "---|".repeat(cells.len());
        self.line(&format!(
            "### {title}\n\n{about}\n\n| {} |\n|{rule}",
            cells.join(" | ")
        ));
    }

    /// A sentence below a table.
    pub fn note(&mut self, sentence: &str) {
        self.line(&format!("\n{sentence}\n"));
    }

    /// A figure with a goal, as a sentence.
    pub fn figure(&mut self, sentence: &str, goal: &str, met: bool) {
        let missed = if met { "" } else { ", **missed**" };
        let sentence = format!("{sentence} (goal: {goal}{missed}).");
        self.note(&sentence);
        self.miss(&sentence, met);
    }

    fn miss(&mut self, line: &str, met: bool) {
        if !met {
            writeln!(self.missed, "{line}").expect("memory");
        }
    }

    fn line(&mut self, line: &str) {
        println!("{line}");
        writeln!(self.text, "{line}").expect("memory");
    }

    /// All tables.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What fell short, a line each.
    pub fn missed(&self) -> &str {
        &self.missed
    }
}

/// A time as people read it.
pub fn shown(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds => format!("{:.1} ms", seconds * 1000.0),
    }
}
