//! Everything that backups name: their trees, walked by several threads at once, each tree once.
//!
//! What was met is a bit per record of the index, and what is still to be walked is a list of numbers, so that memory does
//! not grow with what is in the trees. Each tree is read once however many directories and backups share it: a hostile
//! repository of trees that share their subtrees costs what it holds, and not what it would unfold to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::index::{Location, Marks, Table};
use super::pack::BlobKind;
use super::tree::{Node, NodeKind, Tree};
use super::{EngineError, Id, Progress, Repository, Result};

/// Threads that read trees: they mostly wait for the store.
const THREADS: usize = 8;

/// Trees above this many bytes are dealt with one at a time.
const LARGE: u64 = 16 << 20;

/// What the backups name.
#[derive(Debug)]
pub(super) struct Reach {
    /// By the number of the first record of each blob in the table.
    pub(super) used: Marks,
    /// Trees that were met.
    pub(super) trees: u64,
    /// Blobs of data that were met.
    pub(super) data: u64,
}

/// Something that a backup names and that is not as it must be.
#[derive(Debug)]
pub(super) struct Fault {
    /// The tree that is damaged, or that names what is missing.
    pub(super) tree: Id,
    /// What is wrong.
    pub(super) error: EngineError,
    /// Whether all that is below the tree was met nonetheless, so that nothing would be taken for unused.
    pub(super) all_known: bool,
}

/// The walk's surroundings.
pub(super) struct Walker<'a> {
    /// The repository.
    pub(super) repository: &'a Repository,
    /// Its whole index.
    pub(super) table: &'a Table,
    /// How a tree's bytes are had.
    pub(super) read: &'a (dyn Fn(&Location) -> Result<Vec<u8>> + Sync),
    /// Counts trees as items.
    pub(super) progress: &'a Progress,
}

/// What the threads share.
struct Walk<'a> {
    walker: &'a Walker<'a>,
    on_fault: &'a (dyn Fn(Fault) -> Result<()> + Sync),
    reach: Reach,
    trees: AtomicU64,
    data: AtomicU64,
    /// Held for a push or a pop.
    todo: Mutex<Todo>,
    changed: Condvar,
    /// Held while a large tree is in memory.
    large: Mutex<()>,
}

#[derive(Default)]
struct Todo {
    /// Numbers of trees; the newest first, which keeps it short.
    trees: Vec<u64>,
    /// Threads that may yet add some.
    busy: usize,
    failure: Option<EngineError>,
}

impl Walker<'_> {
    /// Walks these trees and all below.
    ///
    /// # Errors
    /// What `on_fault` makes of a fault, which ends the walk; a store that does not answer; a cancelled job.
    pub(super) fn walk(
        &self,
        roots: impl IntoIterator<Item = Id>,
        on_fault: &(dyn Fn(Fault) -> Result<()> + Sync),
    ) -> Result<Reach> {
        let mut walk = Walk {
            walker: self,
            on_fault,
            reach: Reach {
                used: Marks::new(self.table.len()),
                trees: 0,
                data: 0,
            },
            trees: AtomicU64::new(0),
            data: AtomicU64::new(0),
            todo: Mutex::default(),
            changed: Condvar::new(),
            large: Mutex::new(()),
        };
        for root in roots {
            walk.meet_tree(&root, &root)?;
        }
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let _held = walk.walker.progress.governs();
                    walk.work();
                });
            }
        });
        let failure = walk.todo().failure.take();
        walk.reach.trees = walk.trees.load(Relaxed);
        walk.reach.data = walk.data.load(Relaxed);
        failure.map_or(Ok(walk.reach), Err)
    }

    /// Reads a tree.
    ///
    /// # Errors
    /// [`EngineError::Corrupt`] for one that makes no sense.
    pub(super) fn tree(&self, location: &Location) -> Result<Tree> {
        let bytes = (self.read)(location)?;
        Tree::decode(&bytes).map_err(|error| {
            self.repository
                .corrupt(format!("the tree {}", location.blob.id), format!("it {error}"))
        })
    }

    /// A blob that something refers to is nowhere.
    fn missing(&self, kind: BlobKind, id: &Id) -> EngineError {
        EngineError::MissingBlob {
            location: self.repository.location(),
            what: kind.word(),
            id: *id,
        }
    }
}

impl Walk<'_> {
    fn todo(&self) -> MutexGuard<'_, Todo> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(number) = self.next() {
            let done = self.visit(number);
            let mut todo = self.todo();
            todo.busy -= 1;
            if let Err(error) = done {
                todo.failure.get_or_insert(error);
            }
            drop(todo);
            self.changed.notify_all();
        }
    }

    /// The next tree; `None` when there is none and nobody adds any, or when the walk has failed.
    fn next(&self) -> Option<u64> {
        let mut todo = self.todo();
        loop {
            if todo.failure.is_some() {
                return None;
            }
            if let Some(number) = todo.trees.pop() {
                todo.busy += 1;
                return Some(number);
            }
            if todo.busy == 0 {
                return None;
            }
            todo = self.changed.wait(todo).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn visit(&self, number: u64) -> Result<()> {
        self.walker.progress.check()?;
        let location = self.walker.table.location(number)?;
        let _alone = (location.blob.plain() > LARGE)
            .then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        let id = location.blob.id;
        let tree = match self.walker.tree(&location) {
            Ok(tree) => tree,
            Err(error) if tells_damage(&error) => return self.fault(id, error, false),
            Err(error) => return Err(error),
        };
        for node in &tree.nodes {
            match &node.kind {
                NodeKind::File { size, content } => self.meet_file(&id, node, *size, content)?,
                NodeKind::Dir { subtree } => self.meet_tree(&id, subtree)?,
                _ => {}
            }
        }
        self.walker.progress.done(0, 1);
        Ok(())
    }

    fn meet_tree(&self, parent: &Id, id: &Id) -> Result<()> {
        let Some((number, _)) = self.walker.table.locate(BlobKind::Tree, id)? else {
            return self.fault(*parent, self.walker.missing(BlobKind::Tree, id), false);
        };
        if self.reach.used.set(number) {
            self.trees.fetch_add(1, Relaxed);
            self.walker.progress.expect_more(0, 1);
            self.todo().trees.push(number);
            self.changed.notify_one();
        }
        Ok(())
    }

    /// One fault per file, however many of its chunks are missing.
    fn meet_file(&self, tree: &Id, node: &Node, size: u64, content: &[Id]) -> Result<()> {
        let (mut length, mut last_id, mut last_length) = (0_u64, None, 0);
        let mut missing = None;
        for id in content {
            // A hole is one chunk many times.
            if last_id != Some(id) {
                last_id = Some(id);
                match self.walker.table.locate(BlobKind::Data, id)? {
                    Some((number, location)) => {
                        last_length = location.blob.plain();
                        if self.reach.used.set(number) {
                            self.data.fetch_add(1, Relaxed);
                        }
                    }
                    None => {
                        missing.get_or_insert(*id);
                    }
                }
            }
            length = length.saturating_add(last_length);
        }
        if let Some(id) = missing {
            return self.fault(*tree, self.walker.missing(BlobKind::Data, &id), false);
        }
        if length != size {
            let why = format!(
                "its file {:?} is said to have {size} bytes, and its content has {length}",
                node.name
            );
            let error = self.walker.repository.corrupt(format!("the tree {tree}"), why);
            return self.fault(*tree, error, true);
        }
        Ok(())
    }

    fn fault(&self, tree: Id, error: EngineError, all_known: bool) -> Result<()> {
        (self.on_fault)(Fault {
            tree,
            error,
            all_known,
        })
    }
}

/// Whether an error says that the object itself is bad or gone, and not that the store cannot be asked.
pub(super) fn tells_damage(error: &EngineError) -> bool {
    use crate::store::StoreError;
    matches!(
        error,
        EngineError::Corrupt { .. }
            | EngineError::MissingBlob { .. }
            | EngineError::Store(
                StoreError::NotFound { .. } | StoreError::TooShort { .. } | StoreError::TooLarge { .. }
            )
    )
}
