//! Changes on their way to whoever asked, those with another name told as such.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::super::{Result, ServiceError};
use super::{Change, Difference, How, Key, Summary};

/// So many changes are held back to find renames among them; beyond, an old and a new name are told apart.
const HELD: usize = 50_000;

/// Hands changes on, those with another name as such.
pub(super) struct Collector<'a> {
    lines: &'a mpsc::Sender<Difference>,
    held: Vec<(Change, Option<Key>)>,
    /// Too many to be held: they go as they come.
    overflown: bool,
    pub summary: Summary,
}

impl<'a> Collector<'a> {
    pub fn new(lines: &'a mpsc::Sender<Difference>) -> Self {
        Self {
            lines,
            held: Vec::new(),
            overflown: false,
            summary: Summary::default(),
        }
    }

    pub fn send(&self, line: Difference) -> Result<()> {
        // A reader that has gone ends the walk.
        self.lines.blocking_send(line).map_err(|_| ServiceError::Stopping)
    }

    pub fn add(&mut self, change: Change, key: Option<Key>) -> Result<()> {
        if self.overflown {
            return self.tell(change);
        }
        self.held.push((change, key));
        if self.held.len() > HELD {
            self.overflown = true;
            return self.flush();
        }
        Ok(())
    }

    pub fn tell(&mut self, change: Change) -> Result<()> {
        let count = match change.how {
            How::Added => &mut self.summary.added,
            How::Removed => &mut self.summary.removed,
            How::Modified => &mut self.summary.modified,
            How::Renamed => &mut self.summary.renamed,
        };
        *count += 1;
        self.send(Difference::Change(change))
    }

    pub fn flush(&mut self) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        with_renames(held)
            .into_iter()
            .try_for_each(|change| self.tell(change))
    }

    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        let summary = self.summary;
        self.send(Difference::Summary(summary))
    }
}

/// What is gone under one name and new under another has been renamed. What is below a renamed directory goes with it.
fn with_renames(changes: Vec<(Change, Option<Key>)>) -> Vec<Change> {
    let gone: HashMap<Key, usize> = changes
        .iter()
        .enumerate()
        .filter(|(_, (change, _))| change.how == How::Removed)
        .filter_map(|(at, (_, key))| Some(((*key)?, at)))
        .collect();
    let mut from: HashMap<usize, usize> = HashMap::new();
    let mut taken = vec![false; changes.len()];
    for (at, (change, key)) in changes.iter().enumerate() {
        let before = key
            .filter(|_| change.how == How::Added)
            .and_then(|key| gone.get(&key));
        if let Some(before) = before.filter(|before| !taken[**before]) {
            taken[*before] = true;
            from.insert(at, *before);
        }
    }
    let mut moved: HashMap<PathBuf, PathBuf> = HashMap::new();
    let mut all = Vec::new();
    for (at, (change, _)) in changes.iter().enumerate() {
        if taken[at] {
            continue;
        }
        let Some(before) = from.get(&at) else {
            all.push(change.clone());
            continue;
        };
        let old_path = changes[*before].0.path.clone();
        if change.kind == "directory" {
            moved.insert(old_path.clone(), change.path.clone());
        }
        let goes_along = old_path
            .parent()
            .and_then(|parent| moved.get(parent))
            .map(PathBuf::as_path)
            == change.path.parent().filter(|parent| *parent != Path::new(""))
            && old_path.file_name() == change.path.file_name()
            && change.path.parent() != Some(Path::new(""));
        if !goes_along {
            all.push(Change {
                how: How::Renamed,
                old_path: Some(old_path),
                ..change.clone()
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(how: How, path: &str, kind: &'static str) -> Change {
        Change {
            how,
            path: path.into(),
            old_path: None,
            kind,
            what: Vec::new(),
            old_bytes: 0,
            bytes: 0,
        }
    }

    fn key(ino: u64) -> Option<Key> {
        Some((ino, libc::S_IFREG, 1, 2, 3))
    }

    #[test]
    fn another_name_is_no_new_file_and_a_directory_takes_what_is_in_it_along() {
        let changes = vec![
            (change(How::Added, "b", "file"), key(1)),
            (change(How::Removed, "c", "file"), key(1)),
            (change(How::Added, "new", "directory"), key(2)),
            (change(How::Added, "new/f", "file"), key(3)),
            (change(How::Added, "new/g", "file"), key(4)),
            (change(How::Added, "new/other", "file"), key(9)),
            (change(How::Removed, "old", "directory"), key(2)),
            (change(How::Removed, "old/f", "file"), key(3)),
            (change(How::Removed, "old/h", "file"), key(4)),
            (change(How::Removed, "z", "file"), None),
        ];
        let all = with_renames(changes);
        let told: Vec<String> = all
            .iter()
            .map(|change| {
                let from = change
                    .old_path
                    .as_ref()
                    .map(|old| format!("{} > ", old.display()));
                format!(
                    "{} {}{}",
                    change.how.word(),
                    from.unwrap_or_default(),
                    change.path.display()
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "renamed c > b",
                "renamed old > new",
                "renamed old/h > new/g",
                "added new/other",
                "removed z"
            ]
        );
    }
}
