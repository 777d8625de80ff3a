//! How far long work is, drawn on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere.
//!
//! It is fed with plain numbers, whoever has counted them: the engine in this process, or the daemon.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::screen::one_line;
use crate::model::Bytes;

/// How often a line is written where there is no terminal; work that is done before writes none.
const EVERY: Duration = Duration::from_secs(5);

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// What is being done; may be empty.
    pub phase: String,
    /// Bytes that are dealt with.
    pub done_bytes: u64,
    /// Bytes in all; 0 while that is not known.
    pub total_bytes: u64,
    /// Objects that are dealt with.
    pub done_items: u64,
    /// Objects in all; 0 while that is not known.
    pub total_items: u64,
}

/// What shows it.
pub(super) struct Gauge {
    title: String,
    drawing: Drawing,
    /// Since when rates are counted, and where the counters stood.
    since: (Instant, Reading),
}

enum Drawing {
    Bar { bar: ProgressBar, shape: Shape },
    Lines { next: Instant },
    Nothing,
}

/// What there is to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Nobody knows how much there is.
    Spinner,
    Bytes,
    Items,
}

impl Gauge {
    /// Begins to show work under that title, or not to.
    pub fn begin(title: &str, shown: bool) -> Self {
        let drawing = match (shown, io::stderr().is_terminal()) {
            (false, _) => Drawing::Nothing,
            (true, false) => Drawing::Lines {
                next: Instant::now() + EVERY,
            },
            (true, true) => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                bar.set_style(style(Shape::Spinner));
                bar.set_message(one_line(title));
                bar.enable_steady_tick(Duration::from_millis(200));
                let shape = Shape::Spinner;
                Drawing::Bar { bar, shape }
            }
        };
        Self {
            title: one_line(title),
            drawing,
            since: (Instant::now(), Reading::default()),
        }
    }

    /// Shows how far it is.
    pub fn show(&mut self, reading: &Reading) {
        let before = &self.since.1;
        if (before.total_bytes, before.total_items) != (reading.total_bytes, reading.total_items)
            && (before.total_bytes, before.total_items) == (0, 0)
        {
            self.since = (Instant::now(), reading.clone());
        }
        match &mut self.drawing {
            Drawing::Nothing => {}
            Drawing::Lines { next } if Instant::now() < *next => {}
            Drawing::Lines { next } => {
                *next = Instant::now() + EVERY;
                let line = in_words(&self.title, reading, &self.since.1, self.since.0.elapsed());
                // Work goes on whether or not somebody reads how far it is.
                let _ = writeln!(io::stderr(), "{line}");
            }
            Drawing::Bar { bar, shape } => {
                let now = Shape::of(reading);
                if now != *shape {
                    *shape = now;
                    bar.set_style(style(now));
                    bar.reset_eta();
                }
                let (done, total) = match now {
                    Shape::Items => (reading.done_items, reading.total_items),
                    _ => (reading.done_bytes, reading.total_bytes),
                };
                if now != Shape::Spinner {
                    bar.set_length(total);
                    bar.set_position(done.min(total));
                }
                bar.set_message(match reading.phase.as_str() {
                    "" => self.title.clone(),
                    phase => format!("{}: {}", self.title, one_line(phase)),
                });
            }
        }
    }

    /// Takes the bar away; lines stay.
    pub fn clear(&self) {
        if let Drawing::Bar { bar, .. } = &self.drawing {
            bar.finish_and_clear();
        }
    }
}

impl Shape {
    fn of(reading: &Reading) -> Self {
        match (reading.total_bytes, reading.total_items) {
            (0, 0) => Self::Spinner,
            (0, _) => Self::Items,
            _ => Self::Bytes,
        }
    }
}

fn style(shape: Shape) -> ProgressStyle {
    let template = match shape {
        Shape::Spinner => "{spinner} {msg} {elapsed}",
        Shape::Bytes => {
            "{msg}\n{bar:30} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
        }
        Shape::Items => "{msg}\n{bar:30} {percent:>3} %  {human_pos} of {human_len}  {eta} left",
    };
    ProgressStyle::with_template(template).expect("a template that a test draws")
}

/// `restore of pgdata: 43 %, 1.2 GiB of 2.8 GiB, 80 MiB/s, 20 s left`. Rates are counted since `from`, `elapsed` ago.
fn in_words(title: &str, reading: &Reading, from: &Reading, elapsed: Duration) -> String {
    let (done, total, before) = match Shape::of(reading) {
        Shape::Items => (reading.done_items, reading.total_items, from.done_items),
        _ => (reading.done_bytes, reading.total_bytes, from.done_bytes),
    };
    let mut parts = Vec::new();
    if !reading.phase.is_empty() {
        parts.push(one_line(&reading.phase));
    }
    let done = if total > 0 { done.min(total) } else { done };
    let rate = done.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(0.001);
    if total > 0 {
        parts.push(format!("{} %", u128::from(done) * 100 / u128::from(total)));
    }
    match Shape::of(reading) {
        Shape::Bytes => parts.push(format!("{} of {}", Bytes(done), Bytes(total))),
        Shape::Items => parts.push(format!("{done} of {total}")),
        Shape::Spinner if done > 0 => parts.push(Bytes(done).to_string()),
        Shape::Spinner if reading.done_items > 0 => parts.push(reading.done_items.to_string()),
        Shape::Spinner => {}
    }
    if rate >= 1.0 && Shape::of(reading) == Shape::Bytes {
        parts.push(format!("{}/s", Bytes(rate as u64)));
    }
    if rate > 0.0 && total > 0 {
        parts.push(format!("{:.0} s left", (total - done) as f64 / rate));
    }
    match parts.is_empty() {
        true => format!("{title} …"),
        false => format!("{title}: {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long_still() {
        let mut reading = Reading {
            phase: "reading".to_owned(),
            done_bytes: 1 << 30,
            total_bytes: 4 << 30,
            ..Reading::default()
        };
        let from = Reading::default();
        let line = |reading: &Reading| in_words("restore of v", reading, &from, Duration::from_secs(8));
        assert_eq!(
            line(&reading),
            "restore of v: reading, 25 %, 1 GiB of 4 GiB, 128 MiB/s, 24 s left"
        );
        reading.total_bytes = 0;
        assert_eq!(line(&reading), "restore of v: reading, 1 GiB");
        let items = Reading {
            done_items: 80,
            total_items: 100,
            ..Reading::default()
        };
        assert_eq!(line(&items), "restore of v: 80 %, 80 of 100, 2 s left");
        assert_eq!(line(&Reading::default()), "restore of v …");
    }

    #[test]
    fn more_than_all_is_all() {
        let reading = Reading {
            done_bytes: 30,
            total_bytes: 10,
            ..Reading::default()
        };
        let line = in_words("x", &reading, &Reading::default(), Duration::from_secs(1));
        assert_eq!(line, "x: 100 %, 10 B of 10 B, 10 B/s, 0 s left");
    }

    #[test]
    fn templates_are_what_the_library_understands() {
        let bar = ProgressBar::hidden();
        for shape in [Shape::Spinner, Shape::Bytes, Shape::Items] {
            bar.set_style(style(shape));
        }
    }
}
