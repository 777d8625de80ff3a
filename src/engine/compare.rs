//! What was restored, held against the backup's own record: every entry, and every piece of content by its hash.
//!
//! Nothing of the content is fetched: the ids of its pieces are what they must hash to. So this proves that what lies on disk
//! is what was backed up, whatever the restore itself believes of its work.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::stat::makedev;

use super::image::{is_zero, reader::Image, zero_id};
use super::restore::tree::{Root, read_tree};
use super::tree::{Node, NodeKind, Tree};
use super::{Backup, BlobKind, EngineError, Id, Progress, Repository, Result};
use crate::sys::tree::{Pinned, Source, SourceFile, Stat};

/// So many differences are told in words.
const TOLD: usize = 50;

/// What came of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Entries, or segments of an image, that were looked at.
    pub entries: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// How many things differ.
    pub different: u64,
    /// The first of them, each a phrase that begins with a path.
    pub differences: Vec<String>,
}

impl Compared {
    fn differs(&mut self, what: String) {
        self.different += 1;
        if self.differences.len() < TOLD {
            self.differences.push(what);
        }
    }
}

/// The directory at the top of a tree's backup.
///
/// # Errors
/// [`EngineError::Invalid`] for the backup of an image.
pub fn root(repository: &Repository, backup: &Backup) -> Result<Id> {
    Ok(Root::find(repository, &backup.record.tree)?.tree)
}

/// The entries of a directory in a backup.
pub fn directory(repository: &Repository, tree: &Id) -> Result<Tree> {
    read_tree(repository, tree)
}

/// Whether a file's content is made of these pieces, and of nothing more.
pub fn has_content(
    repository: &Repository,
    pieces: &[Id],
    file: &SourceFile,
    progress: &Progress,
) -> Result<bool> {
    let (mut at, mut bytes) = (0, Vec::new());
    for id in pieces {
        progress.check()?;
        let length = repository.locate(BlobKind::Data, id)?.blob.plain();
        let want = usize::try_from(length).unwrap_or(usize::MAX);
        bytes.clear();
        while bytes.len() < want {
            let have = bytes.len();
            if file.read_at(&mut bytes, want - have, at + have as u64)? == 0 {
                return Ok(false);
            }
        }
        if Id::of(&bytes) != *id {
            return Ok(false);
        }
        at += length;
    }
    Ok(file.size()? == at)
}

/// Compares a directory with the tree that it was restored from. Its own owner and permissions are not looked at: a volume can
/// have its own.
///
/// # Errors
/// What could not be read, of either; differences are no errors.
pub fn tree(repository: &Repository, backup: &Backup, path: &Path, progress: &Progress) -> Result<Compared> {
    let mut compared = Compared::default();
    let mut source = Source::open(path)?;
    let mut levels = vec![Level::new(
        read_tree(repository, &root(repository, backup)?)?,
        &source,
    )?];
    while let Some(level) = levels.last_mut() {
        progress.check()?;
        let Some(next) = level.next() else {
            levels.pop();
            source.leave()?;
            continue;
        };
        let (node, name) = match next {
            Next::Both(node) => (node.clone(), node.name),
            Next::Missing(name) => {
                compared.differs(format!("{}: it is missing", source.path().join(name).display()));
                continue;
            }
            Next::Extra(name) => {
                compared.differs(format!(
                    "{}: it is not in the backup",
                    source.path().join(name).display()
                ));
                continue;
            }
        };
        let Some(pinned) = source.pin(&name)? else {
            compared.differs(format!("{}: it went away", source.path().join(name).display()));
            continue;
        };
        compared.entries += 1;
        for why in differences(&node, &pinned)? {
            compared.differs(format!("{}: {why}", pinned.path.display()));
        }
        match &node.kind {
            NodeKind::File { size, content } if pinned.stat.file_type() == libc::S_IFREG => {
                if !has_content(repository, content, &pinned.open()?, progress)? {
                    compared.differs(format!("{}: its content is another", pinned.path.display()));
                }
                compared.bytes += size;
                progress.done(*size, 1);
            }
            NodeKind::Dir { subtree } if pinned.stat.is_dir() => {
                if source.enter(&name, &pinned)? {
                    levels.push(Level::new(read_tree(repository, subtree)?, &source)?);
                }
            }
            _ => progress.done(0, 1),
        }
    }
    Ok(compared)
}

/// A directory on both sides, in the order of names.
struct Level {
    nodes: std::iter::Peekable<std::vec::IntoIter<Node>>,
    names: std::iter::Peekable<std::vec::IntoIter<OsString>>,
}

enum Next {
    Both(Node),
    Missing(OsString),
    Extra(OsString),
}

impl Level {
    fn new(tree: Tree, source: &Source) -> Result<Self> {
        Ok(Self {
            nodes: tree.nodes.into_iter().peekable(),
            names: source.names()?.into_iter().peekable(),
        })
    }

    fn next(&mut self) -> Option<Next> {
        use std::cmp::Ordering;
        let order = match (self.nodes.peek(), self.names.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(node), Some(name)) => node.name.cmp(name),
        };
        match order {
            Ordering::Less => self.nodes.next().map(|node| Next::Missing(node.name)),
            Ordering::Greater => self.names.next().map(Next::Extra),
            Ordering::Equal => {
                self.names.next();
                self.nodes.next().map(Next::Both)
            }
        }
    }
}

/// What is not as it was recorded, content apart: phrases.
fn differences(node: &Node, found: &Pinned) -> Result<Vec<String>> {
    let stat = &found.stat;
    if !is_of_kind(&node.kind, stat) {
        return Ok(vec!["it is of another type".to_owned()]);
    }
    let mut all = Vec::new();
    if let NodeKind::File { size, .. } = node.kind
        && size != stat.size
    {
        all.push(format!("it has {} bytes instead of {size}", stat.size));
    }
    let is_link = matches!(node.kind, NodeKind::Symlink { .. });
    if !is_link && stat.mode & 0o7777 != node.mode {
        all.push(format!(
            "its mode is {:04o} instead of {:04o}",
            stat.mode & 0o7777,
            node.mode
        ));
    }
    if (stat.uid, stat.gid) != (node.uid, node.gid) {
        all.push(format!(
            "its owner is {}:{} instead of {}:{}",
            stat.uid, stat.gid, node.uid, node.gid
        ));
    }
    if stat.mtime != node.mtime {
        all.push("its time of modification is another".to_owned());
    }
    if let NodeKind::Symlink { target } = &node.kind
        && found.link_target()? != *target
    {
        all.push("it leads elsewhere".to_owned());
    }
    let mut had: Vec<_> = node
        .xattrs
        .iter()
        .map(|x| (OsString::from(&x.name), &x.value))
        .collect();
    let mut has = found.xattrs()?;
    had.sort_unstable();
    has.sort_unstable();
    if !had
        .iter()
        .map(|(name, value)| (name, *value))
        .eq(has.iter().map(|(name, value)| (name, value)))
    {
        all.push("its extended attributes are others".to_owned());
    }
    Ok(all)
}

/// Whether an inode is of the kind that was recorded; of devices, the same device.
pub fn is_of_kind(kind: &NodeKind, stat: &Stat) -> bool {
    let (major, minor) = stat.rdev;
    let is = makedev(major.into(), minor.into());
    match (kind, stat.file_type()) {
        (NodeKind::File { .. }, libc::S_IFREG)
        | (NodeKind::Dir { .. }, libc::S_IFDIR)
        | (NodeKind::Symlink { .. }, libc::S_IFLNK)
        | (NodeKind::Fifo, libc::S_IFIFO)
        | (NodeKind::Socket, libc::S_IFSOCK) => true,
        (NodeKind::BlockDevice { device }, libc::S_IFBLK)
        | (NodeKind::CharDevice { device }, libc::S_IFCHR) => is == *device,
        _ => false,
    }
}

/// So many bytes of a backed-up image are in pieces that are not all zeros: what a restore writes.
pub fn bytes_of_image(repository: &Repository, backup: &Backup) -> Result<u64> {
    let image = Image::open(repository, backup)?;
    let (layout, zero) = (image.layout(), zero_id(u64::from(image.layout().chunk)));
    let mut bytes = 0;
    for segment in 0..layout.segments() {
        let data = image.segment(segment)?.iter().filter(|id| **id != zero).count();
        bytes += data as u64 * u64::from(layout.chunk);
    }
    Ok(bytes)
}

/// Compares a device with the image that it was restored from.
///
/// # Errors
/// What could not be read, of either; differences are no errors.
pub fn image(repository: &Repository, backup: &Backup, path: &Path, progress: &Progress) -> Result<Compared> {
    let failed = |source| EngineError::Target {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    let image = Image::open(repository, backup)?;
    let layout = image.layout();
    let chunk = u64::from(layout.chunk);
    let zero = zero_id(chunk);
    let device = File::open(path).map_err(failed)?;
    let mut compared = Compared::default();
    let mut buffer = Vec::new();
    for segment in 0..layout.segments() {
        for (number, id) in image.segment(segment)?.iter().enumerate() {
            progress.check()?;
            let range = layout.chunk(segment, number);
            let length = range.end - range.start;
            buffer.resize(usize::try_from(length).unwrap_or(0), 0);
            device.read_exact_at(&mut buffer, range.start).map_err(failed)?;
            let is = match length == chunk && is_zero(&buffer) {
                true => zero,
                false => Id::of(&buffer),
            };
            if is != *id {
                compared.differs(format!(
                    "{} to {}: these bytes are others",
                    range.start, range.end
                ));
            }
            compared.bytes += length;
            progress.done(length, 0);
        }
        compared.entries += 1;
    }
    Ok(compared)
}
