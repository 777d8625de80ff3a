//! A tree's backup looked at without a restore: its directories, and the content of single files.
//!
//! Nothing is written anywhere. Backups by plain restic are looked at as well; of those by windlass, the root is that of the
//! volume. Images are read by [`super::image::reader`].

use std::ops::Range;
use std::path::{Component, Path};

use super::restore::tree::{Root, read_tree};
use super::tree::{Node, NodeKind, Tree};
use super::{Backup, BlobKind, EngineError, Id, Repository, Result, parallel};

/// Chunks that are fetched at once: of 8 MiB at most, so that memory stays bounded.
const WINDOW: usize = 6;

/// See the module.
#[derive(Debug)]
pub struct Browser<'a> {
    repository: &'a Repository,
    backup: &'a Backup,
    root: Id,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The root, which has no entry of its own.
    Root,
    /// Another.
    Entry(Box<Node>),
}

impl<'a> Browser<'a> {
    /// # Errors
    /// [`EngineError::Invalid`] for a backup of an image.
    pub fn open(repository: &'a Repository, backup: &'a Backup) -> Result<Self> {
        Ok(Self {
            root: Root::find(repository, &backup.record.tree)?.tree,
            repository,
            backup,
        })
    }

    /// What is at the path, from the root on; links are not followed.
    ///
    /// # Errors
    /// [`EngineError::NoPath`].
    pub fn find(&self, path: &Path) -> Result<Found> {
        let absent = || EngineError::NoPath {
            backup: self.backup.name(),
            path: path.display().to_string(),
        };
        let mut found = Found::Root;
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    let tree = self.directory(&found)?.ok_or_else(absent)?;
                    found = Found::Entry(Box::new(tree.find(name).cloned().ok_or_else(absent)?));
                }
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(absent()),
            }
        }
        Ok(found)
    }

    /// The entries of a directory; `None` of anything else.
    pub fn directory(&self, found: &Found) -> Result<Option<Tree>> {
        let id = match found {
            Found::Root => &self.root,
            Found::Entry(node) => match &node.kind {
                NodeKind::Dir { subtree } => subtree,
                _ => return Ok(None),
            },
        };
        read_tree(self.repository, id).map(Some)
    }

    /// The content of a file, or a part of it, piece by piece.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for what is no file.
    pub fn content(&self, path: &Path, range: Range<u64>) -> Result<Content<'a>> {
        let kind = match self.find(path)? {
            Found::Root => None,
            Found::Entry(node) => Some(node.kind),
        };
        match kind {
            Some(NodeKind::File { content, .. }) => Ok(Content {
                repository: self.repository,
                chunks: content,
                next: 0,
                at: 0,
                range,
            }),
            Some(NodeKind::Symlink { target }) => Err(EngineError::Invalid(format!(
                "{} is a symbolic link to {}, and links are not followed here",
                path.display(),
                target.display()
            ))),
            _ => {
                let why = format!(
                    "{} is not a file in backup {}",
                    path.display(),
                    self.backup.name()
                );
                Err(EngineError::Invalid(why))
            }
        }
    }
}

/// The content of a file.
#[derive(Debug)]
pub struct Content<'a> {
    repository: &'a Repository,
    chunks: Vec<Id>,
    next: usize,
    /// Where the next chunk begins in the file.
    at: u64,
    range: Range<u64>,
}

impl Content<'_> {
    /// The next pieces, in their order, each checked against its id; none at the end. Chunks before the range are not
    /// fetched.
    pub fn pieces(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut wanted: Vec<(Id, Range<usize>)> = Vec::new();
        while wanted.len() < WINDOW && self.next < self.chunks.len() && self.at < self.range.end {
            let id = self.chunks[self.next];
            let length = self.repository.locate(BlobKind::Data, &id)?.blob.plain();
            let begin = self.range.start.saturating_sub(self.at).min(length);
            let end = (self.range.end - self.at).min(length);
            if begin < end {
                wanted.push((id, begin as usize..end as usize));
            }
            self.next += 1;
            self.at += length;
        }
        parallel::map(&wanted, WINDOW, |(id, part)| {
            let mut bytes = self.repository.blob(BlobKind::Data, id)?;
            // A blob that has passed its check can still be shorter than the index says.
            if bytes.len() < part.end {
                let why = "it is shorter than the index says";
                return Err(self.repository.corrupt(format!("the data {}", id.short()), why));
            }
            bytes.truncate(part.end);
            bytes.drain(..part.start);
            Ok(bytes)
        })
    }
}
