//! `windlass timeline`: a volume's history as a picture.
//!
//! Each sort of things has a line of its own over one axis of time. What falls into one column is counted there. Colours
//! and characters beyond ASCII only where the terminal has them; nothing is told by colour alone.

use clap::Args;
use jiff::tz::TimeZone;

use super::screen::{Paint, ago, one_line};
use super::table::{Shrink, Table, Text};
use super::{Error, Screen, reference};
use crate::api::types::{Timeline as History, TimelineMark};
use crate::client::Client;
use crate::model::Time;

/// The width where there is no terminal to ask.
const USUAL_WIDTH: usize = 80;
/// The least columns of a line, however narrow the terminal is.
const LEAST: usize = 20;
/// The least columns between two ticks of the axis.
const APART: usize = 11;
/// So many failures are told in words.
const FAILURES: usize = 5;

/// Show a volume's snapshots, backups, verifications and drills on one line of time
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass timeline pgdata
  windlass timeline pgdata --since 7d
  windlass timeline pgdata -o json | jq -r '.Marks[] | select(.State == \"failed\")'

Also of a volume that was removed, as long as there are backups of it.")]
pub struct Timeline {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
    /// Only what is younger: 7d, 2026-11-20, 2026-11-20T08:00
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,
}

impl Timeline {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let history = client.timeline(&self.volume, self.since.as_deref()).await?;
        if screen.json() {
            return screen.value(&history);
        }
        let begin = history.since.parse().ok();
        let picture = Picture {
            paint: screen.paint(),
            width: screen.width().unwrap_or(USUAL_WIDTH),
            now: screen.now(),
        };
        screen.text(&picture.draw(&history, begin))?;
        screen.notes(&history.notes);
        Ok(())
    }
}

/// What lines there are: the API's word, the title, the sign of one thing, the same in ASCII, its colour.
const LANES: [Lane; 4] = [
    Lane {
        kind: "snapshot",
        title: "snapshots",
        sign: '●',
        ascii: 'o',
        colour: 36,
        always: true,
    },
    Lane {
        kind: "backup",
        title: "backups",
        sign: '◆',
        ascii: '#',
        colour: 34,
        always: true,
    },
    Lane {
        kind: "verification",
        title: "verified",
        sign: '✓',
        ascii: 'v',
        colour: 32,
        always: false,
    },
    Lane {
        kind: "drill",
        title: "drills",
        sign: '▲',
        ascii: '^',
        colour: 32,
        always: false,
    },
];
const TITLES: usize = 9;
const GAP: usize = 2;
const RED: u8 = 31;
const YELLOW: u8 = 33;

struct Lane {
    kind: &'static str,
    title: &'static str,
    sign: char,
    ascii: char,
    /// As terminals count them (ECMA-48's SGR).
    colour: u8,
    /// Its line is there without anything on it.
    always: bool,
}

struct Picture {
    paint: Paint,
    width: usize,
    now: Time,
}

/// What there is in one column of a line.
#[derive(Default, Clone)]
struct Cell {
    count: usize,
    failed: bool,
    running: bool,
}

impl Picture {
    fn draw(&self, history: &History, begin: Option<Time>) -> String {
        let marks: Vec<(Time, &TimelineMark)> = history
            .marks
            .iter()
            .filter_map(|mark| Some((mark.at.parse().ok()?, mark)))
            .collect();
        let axis = Axis::over(
            begin.or(marks.first().map(|(at, _)| *at)),
            self.now,
            self.columns(),
        );
        let mut text = format!(
            "{}  {}\n",
            self.paint.bold(&one_line(&history.name)),
            self.headline(history, &axis)
        );
        text.push('\n');
        for lane in &LANES {
            let on_it: Vec<_> = marks.iter().filter(|(_, mark)| mark.kind == lane.kind).collect();
            if on_it.is_empty() && !lane.always {
                continue;
            }
            let mut cells = vec![Cell::default(); axis.columns];
            for (at, mark) in on_it {
                let cell = &mut cells[axis.column(*at)];
                cell.count += 1;
                cell.failed |= mark.state == "failed";
                cell.running |= mark.state == "running";
            }
            text.push_str(&self.line(lane, &cells));
        }
        let (ticks, labels) = self.axis(&axis);
        text.push_str(&ticks);
        text.push_str(&labels);
        text.push('\n');
        text.push_str(&self.summary(&marks));
        text.push_str(&self.failures(&marks));
        match self.paint.utf8 {
            true => text,
            // What a table shortens has an ellipsis.
            false => text.replace('…', "~"),
        }
    }

    fn columns(&self) -> usize {
        self.width.saturating_sub(TITLES + GAP + 1).max(LEAST)
    }

    fn headline(&self, history: &History, axis: &Axis) -> String {
        let what = match history.state.as_str() {
            "here" => String::new(),
            "trash" => ", in the trash".to_owned(),
            _ => ", gone but for its backups".to_owned(),
        };
        let to = clock(self.now, "%Y-%m-%d %H:%M");
        format!("the last {} to {to} UTC{what}", axis.begin.age(self.now))
    }

    fn line(&self, lane: &Lane, cells: &[Cell]) -> String {
        let rail = if self.paint.utf8 { "─" } else { "-" };
        let mut text = format!("{:TITLES$}{:GAP$}", lane.title, "");
        let mut run = 0;
        let pass = |text: &mut String, run: &mut usize| {
            if *run > 0 {
                text.push_str(&self.paint.dim(&rail.repeat(*run)));
                *run = 0;
            }
        };
        for cell in cells {
            if cell.count == 0 {
                run += 1;
                continue;
            }
            pass(&mut text, &mut run);
            let (sign, colour) = self.sign(lane, cell);
            text.push_str(&self.paint.colour(&sign.to_string(), colour));
        }
        pass(&mut text, &mut run);
        text.push('\n');
        text
    }

    /// A failure is never hidden by what is beside it.
    fn sign(&self, lane: &Lane, cell: &Cell) -> (char, u8) {
        let plain = if self.paint.utf8 { lane.sign } else { lane.ascii };
        match cell {
            Cell { failed: true, .. } => (if self.paint.utf8 { '✗' } else { 'x' }, RED),
            Cell { running: true, .. } => (if self.paint.utf8 { '…' } else { '~' }, YELLOW),
            Cell { count: 1, .. } => (plain, lane.colour),
            Cell {
                count: count @ 2..=9, ..
            } => (char::from_digit(*count as u32, 10).unwrap_or('+'), lane.colour),
            _ => ('+', lane.colour),
        }
    }

    /// The axis with its ticks, and the labels below them.
    fn axis(&self, axis: &Axis) -> (String, String) {
        let (rail, tick, last) = if self.paint.utf8 {
            ('─', '┬', '┤')
        } else {
            ('-', '+', '|')
        };
        let mut line: Vec<char> = vec![rail; axis.columns];
        let mut labels: Vec<char> = vec![' '; axis.columns];
        let now = "now";
        let mut free = 0;
        for (at, label) in axis.ticks() {
            let column = axis.column(at);
            line[column] = tick;
            let length = label.chars().count();
            // Below its tick, in the middle; where there is no room for that, beside it.
            let start = column.saturating_sub(length / 2).max(free);
            if start > column || start + length + now.len() + 1 > axis.columns {
                continue;
            }
            for (place, c) in labels[start..].iter_mut().zip(label.chars()) {
                *place = c;
            }
            free = start + length + 1;
        }
        line[axis.columns - 1] = last;
        for (place, c) in labels[axis.columns - now.len()..].iter_mut().zip(now.chars()) {
            *place = c;
        }
        let line = self.paint.dim(&line.into_iter().collect::<String>());
        let labels: String = labels.into_iter().collect();
        let blank = TITLES + GAP;
        (
            format!("{:blank$}{line}\n", ""),
            format!("{:blank$}{}\n", "", labels.trim_end()),
        )
    }

    fn summary(&self, marks: &[(Time, &TimelineMark)]) -> String {
        let mut table = Table::default()
            .column("WHAT", Shrink::Never)
            .column("COUNT", Shrink::Never)
            .column("OLDEST", Shrink::Never)
            .column("LATEST", Shrink::Never)
            .column("STATE", Shrink::Never)
            .column("NAME OF THE LATEST", Shrink::KeepEnd(16));
        for lane in &LANES {
            let mut of_lane = marks.iter().filter(|(_, mark)| mark.kind == lane.kind);
            let count = of_lane.clone().count();
            let (Some(first), Some(last)) = (of_lane.clone().next(), of_lane.next_back()) else {
                continue;
            };
            table.row(vec![
                lane.title.into(),
                count.to_string().into(),
                ago(&first.1.at, self.now).into(),
                ago(&last.1.at, self.now).into(),
                match last.1.state.as_str() {
                    "failed" => Text::red("failed"),
                    state => state.into(),
                },
                last.1.name.as_str().into(),
            ]);
        }
        match marks
            .iter()
            .any(|(_, mark)| LANES.iter().any(|lane| lane.kind == mark.kind))
        {
            true => table.render(Some(self.width), self.paint.colour),
            false => "there is no snapshot of it and no backup\n".to_owned(),
        }
    }

    /// The latest that failed, in words.
    fn failures(&self, marks: &[(Time, &TimelineMark)]) -> String {
        let failed: Vec<_> = marks.iter().filter(|(_, mark)| mark.state == "failed").collect();
        if failed.is_empty() {
            return String::new();
        }
        let mut text = "\n".to_owned();
        for (_, mark) in failed.iter().rev().take(FAILURES) {
            let line = format!(
                "{}, {} of {}: {}",
                ago(&mark.at, self.now),
                mark.kind,
                mark.name,
                mark.detail
            );
            text.push_str(&self.paint.colour(&one_line(&line), RED));
            text.push('\n');
        }
        if let Some(more @ 1..) = failed.len().checked_sub(FAILURES) {
            text.push_str(&format!("and {more} failures before\n"));
        }
        text
    }
}

/// Time laid over columns, in UTC.
struct Axis {
    begin: Time,
    end: Time,
    columns: usize,
}

/// The steps between ticks, in seconds, and how their labels are written.
const STEPS: [(i64, &str); 18] = [
    (60, "%H:%M"),
    (300, "%H:%M"),
    (900, "%H:%M"),
    (1_800, "%H:%M"),
    (3_600, "%H:%M"),
    (3 * 3_600, "%H:%M"),
    (6 * 3_600, "%H:%M"),
    (12 * 3_600, "%d %b %Hh"),
    (86_400, "%d %b"),
    (2 * 86_400, "%d %b"),
    (7 * 86_400, "%d %b"),
    (14 * 86_400, "%d %b"),
    (30 * 86_400, "%d %b"),
    (60 * 86_400, "%d %b"),
    (91 * 86_400, "%b %Y"),
    (182 * 86_400, "%b %Y"),
    (365 * 86_400, "%b %Y"),
    (1_826 * 86_400, "%b %Y"),
];

impl Axis {
    /// From the first moment to now, an hour at the least.
    fn over(first: Option<Time>, now: Time, columns: usize) -> Self {
        let hour_ago = Time::from_second(now.as_second() - 3_600);
        Self {
            begin: first.unwrap_or(hour_ago).min(hour_ago),
            end: now,
            columns,
        }
    }

    fn column(&self, at: Time) -> usize {
        let span = i128::from(self.end.as_second() - self.begin.as_second()).max(1);
        let since = i128::from(at.as_second() - self.begin.as_second()).clamp(0, span);
        usize::try_from(since * (self.columns as i128 - 1) / span).unwrap_or(0)
    }

    /// Where ticks are, and what stands below them.
    fn ticks(&self) -> Vec<(Time, String)> {
        let span = self.end.as_second() - self.begin.as_second();
        let most = (self.columns / APART).max(1) as i64;
        let step = STEPS.iter().find(|(step, _)| span / step <= most);
        let (step, form) = *step.unwrap_or(&STEPS[STEPS.len() - 1]);
        let first = self.begin.as_second().div_euclid(step) * step;
        let turns = (0..=most + 1).map(|turn| Time::from_second(first + turn * step));
        let shown = turns.filter(|at| *at >= self.begin && *at < self.end);
        shown
            .map(|at| {
                let midnight = at.as_second().rem_euclid(86_400) == 0;
                (
                    at,
                    clock(at, if midnight && step < 86_400 { "%d %b" } else { form }),
                )
            })
            .collect()
    }
}

fn clock(at: Time, form: &str) -> String {
    at.timestamp().to_zoned(TimeZone::UTC).strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at: &str, kind: &str, state: &str) -> TimelineMark {
        TimelineMark {
            at: at.to_owned(),
            kind: kind.to_owned(),
            state: state.to_owned(),
            name: format!("pgdata@{kind}"),
            detail: if state == "failed" {
                "no room".to_owned()
            } else {
                String::new()
            },
        }
    }

    /// A week of daily backups and hourly snapshots of the last day.
    fn history() -> History {
        let mut marks = Vec::new();
        for day in 16..=23 {
            marks.push(mark(
                &format!("2026-11-{day}T03:30:00Z"),
                "backup",
                if day == 20 { "failed" } else { "ok" },
            ));
        }
        for hour in 0..=9 {
            marks.push(mark(&format!("2026-11-23T{hour:02}:00:00Z"), "snapshot", "ok"));
        }
        marks.push(mark("2026-11-19T04:00:00Z", "snapshot", "ok"));
        marks.push(mark("2026-11-21T12:00:00Z", "verification", "ok"));
        marks.push(mark("2026-11-22T12:00:00Z", "drill", "ok"));
        marks.sort_by(|a, b| a.at.cmp(&b.at));
        History {
            name: "pgdata".to_owned(),
            state: "here".to_owned(),
            since: String::new(),
            marks,
            notes: Vec::new(),
        }
    }

    fn drawn(history: &History, width: usize, utf8: bool, colour: bool) -> String {
        let now = "2026-11-23T09:30:00Z".parse().expect("a time");
        Picture {
            paint: Paint { colour, utf8 },
            width,
            now,
        }
        .draw(history, None)
    }

    #[test]
    fn a_week_in_eighty_columns() {
        let text = drawn(&history(), 80, true, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, WEEK, "{text}");
    }

    const WEEK: [&str; 16] = [
        "pgdata  the last 7d to 2026-11-23 09:30 UTC",
        "",
        "snapshots  ───────────────────────────●───────────────────────────────────2323─",
        "backups    ◆────────◆────────◆────────◆────────✗─────────◆────────◆────────◆───",
        "verified   ─────────────────────────────────────────────────✓──────────────────",
        "drills     ──────────────────────────────────────────────────────────▲─────────",
        "           ───────┬──────────────────┬─────────────────┬──────────────────┬───┤",
        "               17 Nov             19 Nov            21 Nov                  now",
        "",
        "WHAT       COUNT  OLDEST   LATEST   STATE  NAME OF THE LATEST",
        "snapshots  11     4d ago   30m ago  ok     pgdata@snapshot",
        "backups    8      7d ago   6h ago   ok     pgdata@backup",
        "verified   1      1d ago   1d ago   ok     pgdata@verification",
        "drills     1      21h ago  21h ago  ok     pgdata@drill",
        "",
        "3d ago, backup of pgdata@backup: no room",
    ];

    #[test]
    fn it_fits_and_plain_terminals_see_plain_characters() {
        for width in [30, 60, 80, 120, 300] {
            for utf8 in [true, false] {
                let text = drawn(&history(), width, utf8, false);
                assert!(utf8 || text.is_ascii(), "{text}");
                let picture = text.lines().take_while(|line| !line.starts_with("WHAT")).skip(1);
                for line in picture {
                    assert!(
                        line.chars().count() <= width.max(TITLES + GAP + LEAST),
                        "{width}: {line}"
                    );
                }
            }
        }
        let colourful = drawn(&history(), 80, true, true);
        assert!(colourful.contains("\u{1b}[31m✗\u{1b}[39m"), "{colourful:?}");
    }

    #[test]
    fn nothing_and_one_moment_can_be_drawn() {
        let mut history = history();
        history.marks.truncate(1);
        assert!(drawn(&history, 60, true, false).contains('◆'));
        history.marks.clear();
        assert!(drawn(&history, 60, true, false).contains("no snapshot"));
        history.marks = vec![
            mark("2199-01-01T00:00:00Z", "backup", "ok"),
            mark("1970-01-01T00:00:00Z", "snapshot", "running"),
        ];
        drawn(&history, 60, false, false);
    }
}
