//! Where a command's words go: what on stdout, what on stderr, for a person or for a script.

use std::env;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::Error;
use super::table::Table;
use crate::model::Time;

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// For scripts, with Convoy's keys.
    Json,
}

/// Reads the value of `--output`, and sees when somebody means Docker's `-o`.
pub(super) fn format(text: &str) -> Result<Format, String> {
    match text {
        "table" => Ok(Format::Table),
        "json" => Ok(Format::Json),
        _ if text.contains('=') => Err(format!(
            "-o is --output, which is table or json; a volume's options are given with -O {text}"
        )),
        _ => Err("it is table or json".to_owned()),
    }
}

/// stdout and stderr, and what is known about who reads them.
pub struct Screen {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// What the user asked for, if anything.
    format: Option<Format>,
    verbose: bool,
    /// A person looks at stdout.
    terminal: bool,
    /// The terminal's columns; without them, lines are as long as they are.
    width: Option<usize>,
    paint: Paint,
    /// The moment that ages are counted from.
    now: Time,
}

/// What a terminal can show beside plain characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint {
    /// Colours, and bold.
    pub colour: bool,
    /// Characters beyond ASCII.
    pub utf8: bool,
}

impl Paint {
    /// `text` in one of the terminal's colours: 31 is red.
    pub(super) fn colour(self, text: &str, colour: u8) -> String {
        self.between(text, u16::from(colour), 39)
    }

    /// `text` in bold.
    pub(super) fn bold(self, text: &str) -> String {
        self.between(text, 1, 22)
    }

    /// `text` that stands back.
    pub(super) fn dim(self, text: &str) -> String {
        self.between(text, 2, 22)
    }

    fn between(self, text: &str, on: u16, off: u16) -> String {
        match self.colour {
            true => format!("\u{1b}[{on}m{text}\u{1b}[{off}m"),
            false => text.to_owned(),
        }
    }
}

/// Whether the locale's characters are UTF-8: the first of its variables that says something decides.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|v| !v.is_empty()));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

impl Screen {
    /// This process's stdout and stderr.
    pub fn of_process(format: Option<Format>, verbose: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            format,
            verbose,
            terminal,
            width: terminal.then(Table::terminal_width).flatten(),
            paint: Paint {
                colour: terminal && !dumb && !set("NO_COLOR"),
                utf8: is_utf8(|name| env::var(name).ok()),
            },
            now: Time::now(),
        }
    }

    /// A screen for tests: what is written can be read back, nothing depends on the process.
    #[cfg(test)]
    pub(super) fn of_test(
        out: Box<dyn Write>,
        err: Box<dyn Write>,
        format: Option<Format>,
        width: Option<usize>,
    ) -> Self {
        Self {
            out,
            err,
            format,
            verbose: false,
            terminal: width.is_some(),
            width,
            paint: Paint {
                colour: false,
                utf8: true,
            },
            now: "2026-11-23T09:30:00Z".parse().expect("a time"),
        }
    }

    /// Whether answers are shown as JSON: asked for, or nobody looks.
    pub(super) fn json(&self) -> bool {
        self.format
            .map_or(!self.terminal, |format| format == Format::Json)
    }

    /// Whether JSON was asked for in so many words, also where a bare name is the usual answer.
    pub(super) fn json_asked(&self) -> bool {
        self.format == Some(Format::Json) || (self.verbose && self.format.is_none())
    }

    /// Whether a person looks at stdout.
    pub(super) fn terminal(&self) -> bool {
        self.terminal
    }

    /// The terminal's columns, if there is one.
    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }

    /// What can be shown on stdout.
    pub(super) fn paint(&self) -> Paint {
        self.paint
    }

    /// The moment that ages are counted from.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Writes one line to stdout.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Error> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// Writes lines that end themselves.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes a value as indented JSON.
    pub(super) fn value(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        self.line(&text)
    }

    /// Writes a value as JSON on a single line.
    pub(super) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string(value).map_err(io::Error::from)?;
        self.line(&text)
    }

    /// Writes a bare name for scripts to read, or the whole object where that was asked for.
    pub(super) fn name(&mut self, name: &str, object: &impl Serialize) -> Result<(), Error> {
        match self.json_asked() {
            true => self.value(object),
            false => self.line(name),
        }
    }

    /// Writes a table as wide as the terminal allows.
    pub(super) fn table(&mut self, table: Table) -> Result<(), Error> {
        let text = table.render(self.width, self.paint.colour);
        self.text(&text)
    }

    /// `text` in red, where there are colours.
    pub(super) fn red(&self, text: &str) -> String {
        self.paint.colour(text, 31)
    }

    /// `text` in bold, where there are colours.
    pub(super) fn bold(&self, text: &str) -> String {
        self.paint.bold(text)
    }

    /// Writes one line to stderr: how a job goes, for a log.
    pub(super) fn aside(&mut self, text: &str) {
        let _ = writeln!(self.err, "{}", one_line(text));
        let _ = self.err.flush();
    }

    /// Says on stderr what the user should know; what was done stays done if nobody reads it.
    pub(super) fn notes<'a>(&mut self, notes: impl IntoIterator<Item = &'a String>) {
        for note in notes {
            let _ = writeln!(self.err, "note: {}", one_line(note));
        }
        let _ = self.err.flush();
    }
}

/// `text` on one line and without control characters, which could move the cursor or hide what is said.
pub(super) fn one_line(text: &str) -> String {
    let clean = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.trim().chars().map(clean).collect()
}

/// How long ago an RFC 3339 time was: `3d ago`; the text itself if it is none.
pub(super) fn ago(time: &str, now: Time) -> String {
    match time.parse::<Time>() {
        Ok(time) => format!("{} ago", time.age(now)),
        Err(_) => one_line(time),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn docker_users_are_told_about_the_capital_o() {
        assert_eq!(format("json"), Ok(Format::Json));
        assert!(format("size=20G").is_err_and(|why| why.contains("-O size=20G")));
        assert!(format("yaml").is_err());
    }

    #[test]
    fn the_locale_says_what_characters_there_are() {
        let with = |pairs: &'static [(&str, &str)]| {
            is_utf8(|name| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| (*v).to_owned())
            })
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]) && with(&[("LC_ALL", "C.utf8"), ("LANG", "C")]));
        assert!(!with(&[]) && !with(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8")]));
    }

    #[test]
    fn ages_are_short_and_strange_times_are_shown() {
        let now = "2026-11-23T09:30:00Z".parse().unwrap();
        assert_eq!(ago("2026-11-20T08:00:00Z", now), "3d ago");
        assert_eq!(ago("2026-11-23T09:31:00Z", now), "0s ago");
        assert_eq!(ago("yesterday", now), "yesterday");
    }
}
