//! One object for people: `Key: value` lines whose values stand below each other.

use serde_json::Value;

use super::screen::{Screen, one_line};
use crate::api::types::TextMap;
use crate::model::Bytes;

/// A sheet in the making.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    lines: Vec<(String, String)>,
}

impl Sheet {
    /// One more line; a key that is empty continues the line before.
    pub(super) fn line(&mut self, key: &str, value: impl AsRef<str>) {
        self.lines.push((one_line(key), one_line(value.as_ref())));
    }

    /// A line that asks for attention, red where there are colours.
    pub(super) fn alarm(&mut self, key: &str, value: &str, screen: &Screen) {
        self.lines.push((one_line(key), screen.red(&one_line(value))));
    }

    /// One line per entry, sizes readable, except those that are said elsewhere.
    pub(super) fn entries(&mut self, entries: &TextMap, except: &[&str]) {
        for (key, value) in entries {
            let value = plain(value);
            if !except.contains(&key.as_str()) && !value.is_empty() {
                self.line(&words(key), readable(key, &value));
            }
        }
    }

    /// The lines, each with its newline, after `indent` blanks.
    pub(super) fn render(&self, indent: usize) -> String {
        let width = self
            .lines
            .iter()
            .map(|(key, _)| key.chars().count())
            .max()
            .unwrap_or(0)
            + 1;
        let mut text = String::new();
        for (key, value) in &self.lines {
            let key = match key.is_empty() {
                true => String::new(),
                false => format!("{key}:"),
            };
            let line = format!("{:indent$}{key:width$}  {value}", "");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The text of a JSON value; the values that the daemon sends are text already.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A size in bytes as people read it; `None` for what is none, and for 0, which means no bound.
pub(super) fn size(entries: &TextMap, key: &str) -> Option<String> {
    let bytes: u64 = plain(entries.get(key)?).parse().ok()?;
    (bytes > 0).then(|| Bytes(bytes).to_string())
}

/// `ThinpoolBlockSize` as `Thinpool block size`; what is all capitals stays so.
fn words(key: &str) -> String {
    let mut words = String::new();
    let mut before: Option<char> = None;
    let mut rest = key.chars().peekable();
    while let Some(c) = rest.next() {
        let begins = c.is_uppercase() && before.is_some_and(|b| b.is_lowercase() || b.is_ascii_digit());
        let lowers = rest.peek().is_some_and(|next| next.is_lowercase());
        if begins {
            words.push(' ');
        }
        match begins && lowers {
            true => words.extend(c.to_lowercase()),
            false => words.push(c),
        }
        before = Some(c);
    }
    words
}

fn readable(key: &str, value: &str) -> String {
    match value.parse::<u64>() {
        Ok(bytes)
            if (key.ends_with("Size") || key.ends_with("Used") || key.ends_with("Free")) && bytes >= 1024 =>
        {
            format!("{} ({bytes} bytes)", Bytes(bytes))
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_below_each_other() {
        let mut sheet = Sheet::default();
        sheet.line("Name", "pgdata");
        sheet.line("Mounted at", "");
        sheet.line("", "more");
        assert_eq!(
            sheet.render(2),
            "  Name:        pgdata\n  Mounted at:\n               more\n"
        );
    }

    #[test]
    fn keys_become_words_and_sizes_readable() {
        let entries = serde_json::json!({"ThinpoolBlockSize": "65536", "UUID": "x", "Path": "/p", "StateID": "", "Root": "/r"});
        let mut sheet = Sheet::default();
        sheet.entries(entries.as_object().unwrap(), &["Root"]);
        assert_eq!(
            sheet.render(0),
            "Thinpool block size:  64 KiB (65536 bytes)\nUUID:                 x\nPath:                 /p\n"
        );
        assert_eq!(words("MountPoint"), "Mount point");
    }
}
