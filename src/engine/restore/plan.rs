//! What is to be done for a restore of a tree, step by step: the trees of the backup turned into steps, in batches.
//!
//! This thread reads the backup's trees, and, where a restore goes over what is there, compares that. It writes nothing; it
//! is ahead of the writing by some batches, and looks only at what the writing has not come to.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crossbeam_channel::Sender;
use nix::sys::stat::makedev;

use crate::engine::chunker::MIN_BYTES;
use crate::engine::index::Location;
use crate::engine::tree::{Node, NodeKind, Tree};
use crate::engine::{BlobKind, EngineError, Id, Progress, Repository, Result};
use crate::sys::tree::{Metadata, Pinned, Source};

/// Bytes of content in a batch. Up to four are in memory, one of them also as it is stored.
const BATCH_BYTES: u64 = 24 << 20;
/// Steps in a batch.
const BATCH_STEPS: usize = 5_000;
/// What a blob takes in a pack beyond its content: a nonce and an authenticator of 16 bytes each.
const SEAL_BYTES: u32 = 32;

/// A stretch of work.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) steps: Vec<Step>,
    /// Where the blobs are that the steps need.
    pub(super) wanted: HashMap<Id, Location>,
    /// For messages: which file the steps from that number on are about.
    files: Vec<(usize, PathBuf)>,
    bytes: u64,
}

/// One step. The target's cursor begins at the root.
#[derive(Debug)]
pub(super) enum Step {
    /// Removes all entries of the directory but these.
    Only(HashSet<OsString>),
    /// Makes a directory, or finds it, and goes into it.
    Enter(OsString),
    /// Gives the directory its attributes, and goes up. The root may have none to be given.
    Leave(Option<Box<Metadata>>),
    /// Begins a file; the steps for its content follow.
    File(Box<NewFile>),
    /// The next bytes of the file are those of a blob.
    Data(Id),
    /// The next bytes of the file are zeros.
    Zeros(u64),
    /// The next bytes of the file are there.
    Keep(u64),
    /// Ends the file.
    EndFile,
    /// Makes what is neither file nor directory, unless it is there.
    Special(Box<Node>, bool),
    /// A further name of an inode.
    Link(OsString, Inode),
}

/// A file to be written.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) name: OsString,
    pub(super) size: u64,
    pub(super) attributes: Metadata,
    /// More names of it may follow.
    pub(super) inode: Option<Inode>,
    pub(super) found: Found,
}

/// Device and inode as the backup has them.
pub(super) type Inode = (u64, u64);

/// What is of a file already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing of use; what is in its place goes.
    Nothing,
    /// Some of its content, and no other name leads to it: it can be changed where it is.
    Some,
    /// All of its content.
    All,
}

/// Makes the steps of a restore and sends them off.
pub(super) struct Planner<'a> {
    pub(super) repository: &'a Repository,
    pub(super) progress: &'a Progress,
    /// The target, where something may be in it.
    pub(super) existing: Option<Source>,
    /// Whether directories lose what the backup does not have.
    pub(super) only: bool,
    pub(super) out: &'a Sender<Result<Batch>>,
    batch: Batch,
    path: PathBuf,
    /// The first name's content of each inode with several.
    inodes: HashMap<Inode, Id>,
    /// Inodes of the target that stay, and have several names.
    claimed: HashSet<((u32, u32), u64)>,
    zeros: Id,
    visits: Vec<Visit>,
}

struct Visit {
    nodes: std::vec::IntoIter<Node>,
    attributes: Option<Box<Metadata>>,
    wanted: Wanted,
    /// The target has this directory, and `existing` is there.
    exists: bool,
}

/// Which entries of a directory are to be restored: those on these ways, or all if there are none.
pub(super) type Wanted = Vec<Vec<OsString>>;

impl<'a> Planner<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        progress: &'a Progress,
        target: &Path,
        out: &'a Sender<Result<Batch>>,
    ) -> Self {
        Self {
            repository,
            progress,
            existing: None,
            only: false,
            out,
            batch: Batch::default(),
            path: target.to_owned(),
            inodes: HashMap::new(),
            claimed: HashSet::new(),
            zeros: Id::of(&vec![0; MIN_BYTES]),
            visits: Vec::new(),
        }
    }

    /// Plans all of it; None where nobody wants the steps any more.
    pub(super) fn run(mut self, root: &Id, attributes: Option<Metadata>, wanted: Wanted) -> Option<()> {
        let planned = self
            .plan(root, attributes, wanted)
            .map_err(|error| self.about(error));
        match planned {
            Ok(true) => self.send(),
            Ok(false) => None,
            Err(error) => self.out.send(Err(error)).ok(),
        }
    }

    /// The failure, with the place that it is about.
    fn about(&self, error: EngineError) -> EngineError {
        entry_error(&self.path, error)
    }

    fn plan(&mut self, root: &Id, attributes: Option<Metadata>, wanted: Wanted) -> Result<bool> {
        let exists = self.existing.is_some();
        self.visit(root, attributes.map(Box::new), wanted, exists)?;
        while let Some(visit) = self.visits.last_mut() {
            self.progress.check()?;
            match visit.nodes.next() {
                Some(node) => {
                    let wanted = wanted_below(&visit.wanted, &node.name);
                    let exists = visit.exists;
                    if let Some(wanted) = wanted {
                        self.path.push(&node.name);
                        if !self.node(node, wanted, exists)? {
                            self.path.pop();
                        }
                    }
                }
                None => self.leave()?,
            }
            let full = self.batch.bytes >= BATCH_BYTES || self.batch.steps.len() >= BATCH_STEPS;
            if full && self.send().is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn send(&mut self) -> Option<()> {
        let mut next = Batch::default();
        if let Some((_, path)) = self.batch.files.last() {
            next.files.push((0, path.clone()));
        }
        self.out.send(Ok(std::mem::replace(&mut self.batch, next))).ok()
    }

    fn step(&mut self, step: Step) {
        self.batch.steps.push(step);
    }

    fn visit(
        &mut self,
        tree: &Id,
        attributes: Option<Box<Metadata>>,
        wanted: Wanted,
        exists: bool,
    ) -> Result<()> {
        let tree = read_tree(self.repository, tree)?;
        if self.only && exists && wanted.is_empty() {
            let names = tree.nodes.iter().map(|node| node.name.clone());
            self.step(Step::Only(names.collect()));
        }
        self.visits.push(Visit {
            nodes: tree.nodes.into_iter(),
            attributes,
            wanted,
            exists,
        });
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let visit = self.visits.pop().expect("a directory is open");
        self.step(Step::Leave(visit.attributes));
        if self.visits.is_empty() {
            return Ok(());
        }
        self.path.pop();
        match &mut self.existing {
            Some(existing) if visit.exists => Ok(existing.leave()?),
            _ => Ok(()),
        }
    }

    /// Plans one entry. True where it is a directory, and the way now leads into it.
    fn node(&mut self, node: Node, wanted: Wanted, exists: bool) -> Result<bool> {
        let there = match &self.existing {
            Some(existing) if exists => existing.pin(&node.name)?,
            _ => None,
        };
        // What is not restored has no further names either.
        let linked = node.links > 1 && node.inode != 0 && !matches!(node.kind, NodeKind::Irregular);
        let inode = linked.then_some((node.device_id, node.inode));
        if let NodeKind::Dir { subtree } = node.kind {
            let enters = match (&mut self.existing, there) {
                (Some(existing), Some(there)) if there.stat.is_dir() => existing.enter(&node.name, &there)?,
                _ => false,
            };
            let attributes = Box::new(attributes(&node));
            self.step(Step::Enter(node.name));
            self.visit(&subtree, Some(attributes), wanted, enters)?;
            return Ok(true);
        }
        if let Some(inode) = inode {
            let content = content_id(&node.kind);
            match self.inodes.get(&inode) {
                Some(first) if *first == content => {
                    self.step(Step::Link(node.name, inode));
                    return Ok(false);
                }
                // Changed between the reading of two names, or a tree that lies: content comes first.
                Some(_) => return self.leaf(node, there, None).map(|()| false),
                None => self.inodes.insert(inode, content),
            };
        }
        self.leaf(node, there, inode).map(|()| false)
    }

    fn leaf(&mut self, node: Node, there: Option<Pinned>, inode: Option<Inode>) -> Result<()> {
        match node.kind {
            NodeKind::File { .. } => self.file(node, there, inode),
            _ => {
                let same = match &there {
                    Some(there) => there.stat.nlink == 1 && is_same_special(there, &node.kind)?,
                    None => false,
                };
                let mut node = node;
                node.links = if inode.is_some() { node.links } else { 1 };
                self.step(Step::Special(Box::new(node), same));
                Ok(())
            }
        }
    }

    fn file(&mut self, node: Node, there: Option<Pinned>, inode: Option<Inode>) -> Result<()> {
        let attributes = attributes(&node);
        let NodeKind::File { size, content } = node.kind else {
            unreachable!("the caller looked");
        };
        let mut chunks = Vec::with_capacity(content.len());
        let mut total = 0_u64;
        for id in &content {
            let location = self.repository.locate(BlobKind::Data, id)?;
            let length = content_length(&location);
            total = total.saturating_add(length);
            chunks.push((*id, length, location));
        }
        if total != size {
            let why = format!("is said to have {size} bytes, and its chunks have {total}");
            let object = format!("the file {}", node.name.display());
            return Err(self.repository.corrupt(object, why));
        }
        let same = match &there {
            Some(there) if there.stat.file_type() == libc::S_IFREG => self.compare(there, &chunks)?,
            _ => Vec::new(),
        };
        let found = there.map_or(Found::Nothing, |there| self.found(&there, &same, size, inode));
        let number = self.batch.steps.len();
        self.batch.files.push((number, self.path.clone()));
        self.step(Step::File(Box::new(NewFile {
            name: node.name,
            size,
            attributes,
            inode,
            found,
        })));
        for (n, (id, length, location)) in chunks.into_iter().enumerate() {
            if found != Found::Nothing && same[n] {
                self.step(Step::Keep(length));
            } else if id == self.zeros {
                self.step(Step::Zeros(length));
            } else {
                self.step(Step::Data(id));
                if self.batch.wanted.insert(id, location).is_none() {
                    self.batch.bytes += length;
                }
            }
            // A large file is no batch of its own.
            if (self.batch.bytes >= BATCH_BYTES || self.batch.steps.len() >= BATCH_STEPS)
                && self.send().is_none()
            {
                return Err(EngineError::Cancelled);
            }
        }
        self.step(Step::EndFile);
        Ok(())
    }

    /// Which of the chunks the file there has in their places.
    fn compare(&self, there: &Pinned, chunks: &[(Id, u64, Location)]) -> Result<Vec<bool>> {
        let file = there.open()?;
        let mut same = Vec::with_capacity(chunks.len());
        let (mut at, mut buffer) = (0, Vec::new());
        for (id, length, _) in chunks {
            self.progress.check()?;
            if *id == self.zeros
                && file.next_data(at, at + length)?.is_none()
                && at + length <= file.stat.size
            {
                same.push(true);
                at += length;
                continue;
            }
            buffer.clear();
            while (buffer.len() as u64) < *length {
                let want = (*length as usize - buffer.len()).min(1 << 20);
                let from = at + buffer.len() as u64;
                if file.read_at(&mut buffer, want, from)? == 0 {
                    break;
                }
            }
            same.push(buffer.len() as u64 == *length && Id::of(&buffer) == *id);
            at += length;
        }
        Ok(same)
    }

    /// What use the file there is. One that other names lead to must not be written to: they may be of other files.
    fn found(&mut self, there: &Pinned, same: &[bool], size: u64, inode: Option<Inode>) -> Found {
        let stat = &there.stat;
        if stat.file_type() != libc::S_IFREG {
            return Found::Nothing;
        }
        let all = stat.size == size && same.iter().all(|same| *same);
        let single = stat.nlink == 1;
        if all && (single || inode.is_some() && self.claimed.insert(stat.id())) {
            return Found::All;
        }
        if single && same.iter().any(|same| *same) {
            Found::Some
        } else {
            Found::Nothing
        }
    }
}

impl Batch {
    /// The file that needs a blob, for messages.
    pub(super) fn file_of(&self, blob: &Id) -> PathBuf {
        let needs = |step: &Step| matches!(step, Step::Data(id) if id == blob);
        let number = self.steps.iter().position(needs).unwrap_or(usize::MAX);
        let file = self.files.iter().rev().find(|(first, _)| *first <= number);
        file.map(|(_, path)| path.clone()).unwrap_or_default()
    }
}

/// The failure with the entry's path; what names a path already, and the end by request, stay as they are.
pub(super) fn entry_error(path: &Path, error: EngineError) -> EngineError {
    match error {
        EngineError::Cancelled | EngineError::System(_) | EngineError::Entry { .. } => error,
        other => EngineError::Entry {
            path: path.to_owned(),
            source: Box::new(other),
        },
    }
}

/// A directory of the backup.
pub(in crate::engine) fn read_tree(repository: &Repository, id: &Id) -> Result<Tree> {
    let bytes = repository.blob(BlobKind::Tree, id)?;
    Tree::decode(&bytes).map_err(|error| repository.corrupt(format!("the tree {}", id.short()), error.0))
}

/// What an entry has beyond its content.
pub(super) fn attributes(node: &Node) -> Metadata {
    let xattrs = node.xattrs.iter();
    Metadata {
        uid: node.uid,
        gid: node.gid,
        mode: (!matches!(node.kind, NodeKind::Symlink { .. })).then_some(node.mode),
        atime: node.atime,
        mtime: node.mtime,
        xattrs: xattrs
            .map(|xattr| (OsString::from(&xattr.name), xattr.value.clone()))
            .collect(),
    }
}

/// How long a blob's content is, as the index has it.
fn content_length(location: &Location) -> u64 {
    let blob = &location.blob;
    match blob.uncompressed {
        0 => blob.length.saturating_sub(SEAL_BYTES).into(),
        length => length.into(),
    }
}

/// What is wanted below the entry; None where it is not wanted itself.
fn wanted_below(wanted: &Wanted, name: &OsStr) -> Option<Wanted> {
    if wanted.is_empty() {
        return Some(Vec::new());
    }
    let mut below = Vec::new();
    for way in wanted
        .iter()
        .filter(|way| way.first().is_some_and(|first| first == name))
    {
        match &way[1..] {
            [] => return Some(Vec::new()),
            rest => below.push(rest.to_vec()),
        }
    }
    (!below.is_empty()).then_some(below)
}

/// The same for the same content.
fn content_id(kind: &NodeKind) -> Id {
    match kind {
        NodeKind::File { size, content } => {
            let mut bytes = size.to_le_bytes().to_vec();
            content.iter().for_each(|id| bytes.extend_from_slice(&id.0));
            Id::of(&bytes)
        }
        other => Id::of(format!("{other:?}").as_bytes()),
    }
}

fn is_same_special(there: &Pinned, kind: &NodeKind) -> Result<bool> {
    let (major, minor) = there.stat.rdev;
    let rdev = makedev(major.into(), minor.into());
    Ok(match (there.stat.file_type(), kind) {
        (libc::S_IFLNK, NodeKind::Symlink { target }) => there.link_target()? == *target,
        (libc::S_IFBLK, NodeKind::BlockDevice { device })
        | (libc::S_IFCHR, NodeKind::CharDevice { device }) => rdev == *device,
        (libc::S_IFIFO, NodeKind::Fifo) | (libc::S_IFSOCK, NodeKind::Socket) => true,
        _ => false,
    })
}
