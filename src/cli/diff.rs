//! `windlass diff`.

use clap::Args;

use super::screen::{Paint, one_line};
use super::{Error, Screen, reference};
use crate::api::types::{Difference, DifferenceSummary, Failure, Kind};
use crate::client::{Client, ClientError};
use crate::model::Bytes;

/// Show which files have changed between two snapshots, or since one
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass diff pgdata@monday
  windlass diff pgdata@monday pgdata@tuesday
  windlass diff pgdata@monday --ranges
  windlass diff pgdata@monday -o json | jq -r 'select(.Change == \"removed\") | .Path'

A is added, D removed, M modified (and in what), R renamed. Files whose times and size are the same
are the same; others are compared. The volume may be in use.")]
pub struct Diff {
    /// The older snapshot
    #[arg(value_parser = reference(), value_name = "SNAPSHOT")]
    from: String,
    /// The younger one [default: the volume as it is now]
    #[arg(value_parser = reference(), value_name = "SNAPSHOT2")]
    to: Option<String>,
    /// The ranges of bytes of the volume's device instead of files
    #[arg(long)]
    ranges: bool,
}

impl Diff {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let mut lines = client.diff(&self.from, self.to.as_deref(), self.ranges).await?;
        let mut ended = false;
        while let Some(line) = lines.next().await? {
            if let Some(failure) = line.failure {
                return Err(ClientError::Failure(failure).into());
            }
            ended |= line.summary.is_some();
            match screen.json() {
                true => screen.json_line(&line)?,
                false => screen.line(&in_words(&line, screen.paint()))?,
            }
        }
        match ended {
            true => Ok(()),
            false => Err(ClientError::Failure(Failure {
                kind: Kind::Unavailable,
                message: "the daemon went away in the middle of the comparison".to_owned(),
                hint: "look into the daemon's log".to_owned(),
            })
            .into()),
        }
    }
}

fn in_words(line: &Difference, paint: Paint) -> String {
    if let Some(summary) = &line.summary {
        return paint.bold(&sum(summary, line.bytes));
    }
    if let Some(offset) = line.offset {
        return format!("{offset:>16}  {:>12}  {}", line.bytes, Bytes(line.bytes));
    }
    let (sign, colour) = match line.change.as_str() {
        "added" => ("A", 32),
        "removed" => ("D", 31),
        "renamed" => ("R", 36),
        _ => ("M", 33),
    };
    let slash = if line.kind == "directory" { "/" } else { "" };
    let arrow = if paint.utf8 { "→" } else { "->" };
    let mut text = match line.old_path.as_str() {
        "" => format!("{}{slash}", line.path),
        old => format!("{old}{slash} {arrow} {}{slash}", line.path),
    };
    if !line.what.is_empty() {
        text.push_str(&format!("  ({}", line.what.join(", ")));
        if line.old_bytes != line.bytes {
            text.push_str(&format!(
                ", {} {arrow} {}",
                Bytes(line.old_bytes),
                Bytes(line.bytes)
            ));
        }
        text.push(')');
    }
    format!("{}  {}", paint.colour(sign, colour), one_line(&text))
}

fn sum(summary: &DifferenceSummary, bytes: u64) -> String {
    if summary.compared == 0 && summary.ranges > 0 {
        return format!("{} ranges, {} in all", summary.ranges, Bytes(bytes));
    }
    let parts: Vec<String> = [
        (summary.added, "added"),
        (summary.removed, "removed"),
        (summary.modified, "modified"),
        (summary.renamed, "renamed"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    match parts.is_empty() {
        true => format!("no difference in {} names", summary.compared),
        false => format!("{}; {} names compared", parts.join(", "), summary.compared),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line() {
        let paint = Paint {
            colour: false,
            utf8: false,
        };
        let line =
            |value: serde_json::Value| in_words(&serde_json::from_value(value).expect("a line"), paint);
        let all = [
            serde_json::json!({"Change": "added", "Path": "d", "Type": "directory"}),
            serde_json::json!({"Change": "removed", "Path": "a\nb", "Type": "file"}),
            serde_json::json!({"Change": "modified", "Path": "f", "Type": "file", "What": ["content", "mode"], "OldBytes": 1024, "Bytes": 2048}),
            serde_json::json!({"Change": "renamed", "Path": "new", "OldPath": "old", "Type": "file"}),
            serde_json::json!({"Change": "summary", "Summary": {"Compared": 9, "Added": 1, "Renamed": 1}}),
            serde_json::json!({"Change": "summary", "Summary": {"Compared": 9}}),
            serde_json::json!({"Change": "summary", "Bytes": 65536, "Summary": {"Ranges": 1}}),
        ]
        .map(line);
        assert_eq!(
            all,
            [
                "A  d/",
                "D  a b",
                "M  f  (content, mode, 1 KiB -> 2 KiB)",
                "R  old -> new",
                "1 added, 1 renamed; 9 names compared",
                "no difference in 9 names",
                "1 ranges, 64 KiB in all",
            ]
        );
    }
}
