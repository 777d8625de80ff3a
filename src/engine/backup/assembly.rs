//! Directories in the making: entries come from several threads in any order, and whoever brings the last one stores the
//! tree and hands its id to the directory above.
//!
//! Nothing waits for anything here, so no order of work can get stuck. What is kept are the directories on the walk's way
//! and those with files that are still being read.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::tree::{Node, NodeKind, Tree};
use crate::engine::{BlobKind, Id, Result, Writer};

/// A directory whose entries are not all there yet.
#[derive(Debug)]
pub(super) struct Directory {
    /// The one above, and the place in it; None for the root.
    up: Option<(Arc<Directory>, usize)>,
    /// Held for one entry's arrival.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Its own, with a tree that is not yet known.
    own: Option<Node>,
    /// In the order of their names.
    nodes: Vec<Option<Node>>,
    /// Places that are empty, and one more until all names are known.
    missing: usize,
}

impl Directory {
    /// Without entries so far.
    pub(super) fn new(own: Node, up: Option<(Arc<Directory>, usize)>) -> Arc<Self> {
        let state = State {
            own: Some(own),
            nodes: Vec::new(),
            missing: 1,
        };
        Arc::new(Self {
            up,
            state: Mutex::new(state),
        })
    }

    /// A place for the entry whose name comes next.
    pub(super) fn reserve(&self) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.nodes.push(None);
        state.missing += 1;
        state.nodes.len() - 1
    }

    /// The entry for a place. What [`Directory::close`] says of the result holds here too.
    pub(super) fn fill(self: &Arc<Self>, place: usize, node: Node, writer: &Writer) -> Result<Option<Node>> {
        complete(self.clone(), Some((place, node)), writer)
    }

    /// There are no more names. The root's own node where that was the last thing missing in the whole tree.
    pub(super) fn close(self: &Arc<Self>, writer: &Writer) -> Result<Option<Node>> {
        complete(self.clone(), None, writer)
    }

    /// One thing less is missing; what is to be stored now, if that was the last.
    fn arrive(&self, entry: Option<(usize, Node)>) -> Option<(Node, Vec<Node>)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((place, node)) = entry {
            state.nodes[place] = Some(node);
        }
        state.missing -= 1;
        if state.missing > 0 {
            return None;
        }
        let nodes = std::mem::take(&mut state.nodes);
        let own = state.own.take().expect("a directory is complete once");
        Some((own, nodes.into_iter().flatten().collect()))
    }
}

/// Goes up as long as directories become complete.
fn complete(
    mut directory: Arc<Directory>,
    mut entry: Option<(usize, Node)>,
    writer: &Writer,
) -> Result<Option<Node>> {
    loop {
        let Some((mut own, nodes)) = directory.arrive(entry.take()) else {
            return Ok(None);
        };
        let subtree = store(nodes, writer)?;
        own.kind = NodeKind::Dir { subtree };
        let Some((up, place)) = directory.up.clone() else {
            return Ok(Some(own));
        };
        directory = up;
        entry = Some((place, own));
    }
}

/// Stores a tree, unless the repository has it.
pub(super) fn store(nodes: Vec<Node>, writer: &Writer) -> Result<Id> {
    writer.save(BlobKind::Tree, &Tree { nodes }.encode())
}

impl Drop for Directory {
    /// Lets go of those above one by one: a chain of a hundred thousand would not fit on the stack.
    fn drop(&mut self) {
        let mut next = self.up.take();
        while let Some((above, _)) = next {
            next = Arc::into_inner(above).and_then(|mut directory| directory.up.take());
        }
    }
}
