//! Columns for people, as Docker prints them: no borders, a bold header, one line per row.
//!
//! A row is never wrapped and a name never cut. Where the terminal is too narrow, columns that say so are shortened
//! with an ellipsis; if that is not enough, lines are longer than the terminal.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, presets};

use super::screen::one_line;

/// Blanks between two columns.
const GAP: usize = 2;

/// Whether a column can be shortened, and down to how many characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shrink {
    /// It cannot: names, sizes.
    Never,
    /// The end is worth more than the beginning: paths.
    KeepEnd(usize),
    /// The beginning is worth more than the end: sentences.
    KeepStart(usize),
}

/// A cell; red where it asks for attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    text: String,
    red: bool,
}

impl Text {
    /// Text that asks for attention.
    pub(super) fn red(text: &str) -> Self {
        Self {
            text: one_line(text),
            red: true,
        }
    }
}

impl<T: AsRef<str>> From<T> for Text {
    fn from(text: T) -> Self {
        Self {
            text: one_line(text.as_ref()),
            red: false,
        }
    }
}

/// A table in the making.
#[derive(Debug, Default)]
pub(super) struct Table {
    columns: Vec<(&'static str, Shrink)>,
    rows: Vec<Vec<Text>>,
}

impl Table {
    /// How wide this process's terminal is, if it can be told.
    pub(super) fn terminal_width() -> Option<usize> {
        comfy_table::Table::new()
            .width()
            .map(usize::from)
            .filter(|width| *width > 0)
    }

    /// One more column.
    pub(super) fn column(mut self, title: &'static str, shrink: Shrink) -> Self {
        self.columns.push((title, shrink));
        self
    }

    /// One more row, with a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<Text>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// The lines, each with its newline and without blanks at its end.
    pub(super) fn render(mut self, width: Option<usize>, colour: bool) -> String {
        if let Some(width) = width {
            self.fit(width);
        }
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        match colour {
            true => table.enforce_styling(),
            false => table.force_no_tty(),
        };
        table.style_text_only();
        table.set_header(
            self.columns
                .iter()
                .map(|(title, _)| Cell::new(title).add_attribute(Attribute::Bold)),
        );
        for row in self.rows {
            table.add_row(row.into_iter().map(|cell| match cell.red {
                true => Cell::new(cell.text).fg(Color::DarkRed),
                false => Cell::new(cell.text),
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP as u16));
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Shortens what may be shortened, the last column first, until the rows fit or nothing is left to shorten.
    fn fit(&mut self, width: usize) {
        let mut widths: Vec<usize> = (0..self.columns.len()).map(|at| self.content_width(at)).collect();
        for at in (0..self.columns.len()).rev() {
            let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
            let excess = total.saturating_sub(width);
            let (title, shrink) = self.columns[at];
            let least = match shrink {
                Shrink::Never => continue,
                Shrink::KeepEnd(least) | Shrink::KeepStart(least) => least.max(title.len()),
            };
            let allowed = widths[at].saturating_sub(excess).max(least);
            if excess == 0 || allowed >= widths[at] {
                continue;
            }
            widths[at] = allowed;
            for row in &mut self.rows {
                row[at].text = shorten(&row[at].text, allowed, shrink);
            }
        }
    }

    fn content_width(&self, at: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[at].text.chars().count());
        cells.chain([self.columns[at].0.len()]).max().unwrap_or(0)
    }
}

/// `text` in at most `allowed` characters (at least one), with an ellipsis in the place of what is missing.
fn shorten(text: &str, allowed: usize, shrink: Shrink) -> String {
    let length = text.chars().count();
    if length <= allowed {
        return text.to_owned();
    }
    let kept = allowed.saturating_sub(1);
    match shrink {
        Shrink::Never => text.to_owned(),
        Shrink::KeepEnd(_) => {
            let end: String = text.chars().skip(length - kept).collect();
            // A path is cut at a component where one begins in what is left.
            match end.find('/') {
                Some(slash) if slash + 1 < end.len() => format!("…{}", &end[slash..]),
                _ => format!("…{end}"),
            }
        }
        Shrink::KeepStart(_) => {
            let start: String = text.chars().take(kept).collect();
            format!("{}…", start.trim_end())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default()
            .column("NAME", Shrink::Never)
            .column("MOUNTED", Shrink::KeepEnd(12))
            .column("STATE", Shrink::KeepStart(8));
        table.row(vec![
            "pgdata".into(),
            "/var/lib/windlass/mounts/pgdata".into(),
            "ready".into(),
        ]);
        table.row(vec![
            "a-much-longer-name".into(),
            "-".into(),
            Text::red("failing: its directory is gone"),
        ]);
        table
    }

    #[test]
    fn columns_stand_below_their_titles() {
        assert_eq!(
            table().render(None, false).lines().collect::<Vec<_>>(),
            [
                "NAME                MOUNTED                          STATE",
                "pgdata              /var/lib/windlass/mounts/pgdata  ready",
                "a-much-longer-name  -                                failing: its directory is gone",
            ]
        );
    }

    #[test]
    fn a_narrow_terminal_shortens_but_never_names() {
        assert_eq!(
            table().render(Some(61), false).lines().collect::<Vec<_>>(),
            [
                "NAME                MOUNTED                          STATE",
                "pgdata              /var/lib/windlass/mounts/pgdata  ready",
                "a-much-longer-name  -                                failing…",
            ]
        );
        assert_eq!(
            table().render(Some(46), false).lines().collect::<Vec<_>>(),
            [
                "NAME                MOUNTED          STATE",
                "pgdata              …/mounts/pgdata  ready",
                "a-much-longer-name  -                failing…",
            ]
        );
        let narrowest = table().render(Some(10), false);
        assert!(narrowest.contains("\na-much-longer-name  ") && narrowest.contains("…/pgdata"));
    }

    #[test]
    fn colours_only_where_asked_for() {
        let plain = table().render(None, false);
        assert!(!plain.contains('\u{1b}'));
        let colourful = table().render(None, true);
        assert!(colourful.starts_with("\u{1b}[1mNAME"), "{colourful:?}");
        assert!(colourful.contains("\u{1b}[38;5;1mfailing"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::default().column("NAME", Shrink::Never);
        table.row(vec!["a\u{1b}[2Jb\nc".into()]);
        assert_eq!(table.render(None, false), "NAME\na\u{fffd}[2Jb c\n");
    }
}
