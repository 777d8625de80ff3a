//! The walk of a backup: one thread that goes through the source, compares with the parent's trees, and hands on what is
//! to be read.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::Sender;
use nix::sys::stat::makedev;

use super::assembly::{self, Directory};
use super::files::FileJob;
use super::record::Look;
use super::tree::Work;
use crate::engine::manifest::DATA_NAME;
use crate::engine::tree::{Node, NodeKind, Tree};
use crate::engine::{BlobKind, EngineError, Id, Repository, Result};
use crate::sys::tree::{FileTime, Pinned, Source, Stat};

/// The thread that walks.
pub(super) struct Walk<'a, 'w> {
    work: &'a Work<'w>,
    repository: &'a Repository,
    source: Source,
    files: &'a Sender<FileJob>,
    /// The directories from the root to the current one.
    visits: Vec<Visit>,
}

struct Visit {
    names: std::vec::IntoIter<OsString>,
    directory: Arc<Directory>,
    /// What the parent has of it.
    known: Tree,
}

impl Walk<'_, '_> {
    /// Walks all of it. Files may still be being read when it returns.
    pub(super) fn run(
        work: &Work<'_>,
        repository: &Repository,
        root: &Path,
        parent: Option<&Id>,
        files: &Sender<FileJob>,
    ) -> Result<()> {
        let mut walk = Walk {
            work,
            repository,
            source: Source::open(root)?,
            files,
            visits: Vec::new(),
        };
        let looked_at = FileTime::now();
        let pinned = walk.source.pin_here()?;
        let known = parent.map(|id| walk.known_tree(id)).unwrap_or_default();
        let known = known.find(OsStr::new(DATA_NAME)).cloned();
        let look = Look {
            name: DATA_NAME.into(),
            stat: pinned.stat,
            looked_at,
            changed: known.is_some(),
        };
        walk.visit(&look, &pinned, known.as_ref(), None)?;
        while let Some(visit) = walk.visits.last_mut() {
            if work.has_failed() {
                return Err(EngineError::Cancelled);
            }
            match visit.names.next() {
                Some(name) => walk.entry(name)?,
                None => walk.close()?,
            }
        }
        Ok(())
    }

    /// What the parent has of a directory; nothing where that cannot be read, for then everything is read anew.
    fn known_tree(&self, id: &Id) -> Tree {
        let blob = self.repository.blob(BlobKind::Tree, id);
        let tree = blob.and_then(|bytes| {
            Tree::decode(&bytes).map_err(|error| {
                self.repository
                    .corrupt(format!("the tree {}", id.short()), error.to_string())
            })
        });
        tree.unwrap_or_else(|error| {
            log::warn!(
                "{}: the backup before is of no use here: {error}",
                self.source.path().display()
            );
            Tree::default()
        })
    }

    /// One name in the current directory.
    fn entry(&mut self, name: OsString) -> Result<()> {
        self.work.progress.check()?;
        let looked_at = FileTime::now();
        let Some(stat) = self.source.look(&name)? else {
            return self.vanished();
        };
        let visit = self.visits.last().expect("an entry has a directory");
        let known = visit.known.find(&name).cloned();
        let changed = known.is_some();
        let mut look = Look {
            name,
            stat,
            looked_at,
            changed,
        };
        self.work.progress.expect_more(file_size(&stat), 1);
        if self.source.is_other_mount(&stat) {
            return self.mount_point(&look);
        }
        let as_before = known.as_ref().filter(|known| look.is_as(known));
        if !stat.is_dir()
            && let Some(known) = as_before
            && self.has_content(known)?
        {
            return self.take_over(&look, known);
        }
        let Some(pinned) = self.source.pin(&look.name)? else {
            return self.vanished();
        };
        look.stat = pinned.stat;
        // Whatever came in its place since the first look.
        if self.source.is_other_mount(&pinned.stat) {
            return self.mount_point(&look);
        }
        if pinned.stat.is_dir() {
            return self.directory(&look, &pinned, known.as_ref());
        }
        let (directory, place) = self.reserve();
        if pinned.stat.file_type() == libc::S_IFREG {
            let job = FileJob {
                pinned,
                look,
                directory,
                place,
            };
            return self.files.send(job).map_err(|_| EngineError::Cancelled);
        }
        let mut node = self.work.node(&look, special(&pinned)?);
        node.xattrs = self.work.xattrs(&pinned)?;
        self.work.counts.others.fetch_add(1, Relaxed);
        self.work.progress.done(0, 1);
        self.work.fill(&directory, place, node)
    }

    fn vanished(&self) -> Result<()> {
        self.work.counts.vanished.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Whether the repository still has all of a file's chunks, or what it is has none.
    fn has_content(&self, node: &Node) -> Result<bool> {
        let NodeKind::File { content, .. } = &node.kind else {
            return Ok(true);
        };
        let index = self.repository.index()?;
        for id in content {
            if index.find(BlobKind::Data, id)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is as it was in the parent.
    fn take_over(&self, look: &Look, known: &Node) -> Result<()> {
        let counts = &self.work.counts;
        let size = file_size(&look.stat);
        match known.kind {
            NodeKind::File { .. } => counts.files_unmodified.fetch_add(1, Relaxed),
            _ => counts.others.fetch_add(1, Relaxed),
        };
        counts.bytes.fetch_add(size, Relaxed);
        self.work.progress.done(size, 1);
        let mut node = self.work.node(look, known.kind.clone());
        node.xattrs.clone_from(&known.xattrs);
        let (directory, place) = self.reserve();
        self.work.fill(&directory, place, node)
    }

    /// Something else is mounted there: only its place is kept.
    fn mount_point(&self, look: &Look) -> Result<()> {
        self.work.counts.mount_points.fetch_add(1, Relaxed);
        let (size, content) = (0, Vec::new());
        let kind = if look.stat.is_dir() {
            let subtree = assembly::store(Vec::new(), self.work.writer)?;
            NodeKind::Dir { subtree }
        } else {
            NodeKind::File { size, content }
        };
        let mut node = self.work.node(look, kind);
        // Of another filesystem, where inodes have numbers of their own.
        (node.inode, node.device_id, node.links) = (0, 0, node.links.min(1));
        let (directory, place) = self.reserve();
        self.work.progress.done(file_size(&look.stat), 1);
        self.work.fill(&directory, place, node)
    }

    fn directory(&mut self, look: &Look, pinned: &Pinned, known: Option<&Node>) -> Result<()> {
        if !self.source.enter(&look.name, pinned)? {
            return self.vanished();
        }
        let above = self.reserve();
        self.visit(look, pinned, known, Some(above))
    }

    /// Begins with the directory that the source is at.
    fn visit(
        &mut self,
        look: &Look,
        pinned: &Pinned,
        known: Option<&Node>,
        above: Option<(Arc<Directory>, usize)>,
    ) -> Result<()> {
        let names = self.source.names()?.into_iter();
        let subtree = Id([0; 32]);
        let mut node = self.work.node(look, NodeKind::Dir { subtree });
        node.xattrs = match known {
            Some(known) if look.is_as(known) => known.xattrs.clone(),
            _ => self.work.xattrs(pinned)?,
        };
        let known = match known.map(|known| &known.kind) {
            Some(NodeKind::Dir { subtree }) => self.known_tree(subtree),
            _ => Tree::default(),
        };
        self.work.counts.directories.fetch_add(1, Relaxed);
        self.work.progress.done(0, 1);
        self.visits.push(Visit {
            names,
            directory: Directory::new(node, above),
            known,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let visit = self.visits.pop().expect("a directory is open");
        self.work.keep_root(visit.directory.close(self.work.writer)?);
        self.source.leave()?;
        Ok(())
    }

    /// A place in the current directory.
    fn reserve(&self) -> (Arc<Directory>, usize) {
        let directory = &self.visits.last().expect("an entry has a directory").directory;
        (directory.clone(), directory.reserve())
    }
}

fn file_size(stat: &Stat) -> u64 {
    if stat.file_type() == libc::S_IFREG {
        stat.size
    } else {
        0
    }
}

/// Anything but files and directories.
fn special(pinned: &Pinned) -> Result<NodeKind> {
    let (major, minor) = pinned.stat.rdev;
    let device = makedev(major.into(), minor.into());
    Ok(match pinned.stat.file_type() {
        libc::S_IFLNK => NodeKind::Symlink {
            target: pinned.link_target()?,
        },
        libc::S_IFBLK => NodeKind::BlockDevice { device },
        libc::S_IFCHR => NodeKind::CharDevice { device },
        libc::S_IFIFO => NodeKind::Fifo,
        libc::S_IFSOCK => NodeKind::Socket,
        _ => NodeKind::Irregular,
    })
}
