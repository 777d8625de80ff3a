//! What a clone tells its caller.

use std::ffi::OsString;
use std::path::PathBuf;

/// At most so many notes are kept; the others are counted.
const NOTES_KEPT: usize = 100;

/// The outcome of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneReport {
    /// What the target holds.
    pub totals: Totals,
    /// What moment it shows.
    pub consistency: Consistency,
    /// How many passes were made.
    pub passes: u32,
    /// What is not as in the source: the first hundred of them.
    pub notes: Vec<Note>,
    /// How many there were in all; beyond the first hundred, a place that several passes met counts each time.
    pub notes_total: u64,
}

/// Which moment a copy shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// One moment for the whole tree.
    PointInTime,
    /// A moment of its own for each file; when copied rather than reflinked, not even that while it was written to.
    PerFile,
}

/// What a tree holds, the directory itself included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Regular files, by their names.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Device nodes, FIFOs and sockets.
    pub others: u64,
    /// Those of all names but directories' that are a further name of an inode counted already.
    pub hard_links: u64,
    /// The sizes of all regular files, holes included, each inode once.
    pub bytes: u64,
}

/// Something that a clone could not take along.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The target's filesystem does not support this extended attribute.
    AttributeRefused {
        /// The source's entry.
        path: PathBuf,
        /// The attribute's name.
        name: OsString,
    },
    /// Something is mounted here; an empty directory or file stands in its place.
    MountPointSkipped {
        /// The mount point.
        path: PathBuf,
    },
    /// The filesystem would not share this file's data; they were copied.
    CopiedNotShared {
        /// The source's entry.
        path: PathBuf,
    },
}

/// Collects notes without growing for ever.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) kept: Vec<Note>,
    pub(super) total: u64,
}

impl Notes {
    pub(super) fn push(&mut self, note: Note) {
        // A later pass may come by the same place again.
        if self.kept.contains(&note) {
            return;
        }
        self.total += 1;
        if self.kept.len() < NOTES_KEPT {
            self.kept.push(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_counted() {
        let mut notes = Notes::default();
        for n in 0..1000 {
            notes.push(Note::MountPointSkipped {
                path: format!("/m{}", n % 500).into(),
            });
        }
        assert_eq!((notes.kept.len(), notes.total), (NOTES_KEPT, 900));
    }
}
