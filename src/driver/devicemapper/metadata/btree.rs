//! B-trees as the kernel's persistent-data library writes them, read in the order of their keys.

use super::Result;
use super::block::{BLOCK_BYTES, Block, Blocks, Kind};

/// The size of a value that is a block's number, or a mapping.
pub(super) const POINTER_BYTES: usize = 8;
/// The size of struct disk_device_details.
pub(super) const DETAILS_BYTES: usize = 24;

/// struct node_header has 32 bytes; the keys follow, then room for more keys, then the values.
const HEADER_BYTES: usize = 32;
const INTERNAL: u32 = 1;
const LEAF: u32 = 2;

/// More levels than any tree of this fanout can have.
const DEEPEST: usize = 16;

/// A tree, by its root and by what its leaves hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) root: u64,
    /// The size of a leaf's value.
    pub(super) value_bytes: usize,
}

/// A node, its shape verified.
pub(super) struct Node {
    pub(super) place: u64,
    block: Box<Block>,
    pub(super) is_leaf: bool,
    entries: usize,
    room: usize,
    value_bytes: usize,
}

impl Node {
    /// Reads one. Its keys must rise, and lie in `keys`: from the first on, and below the second where there is one.
    pub(super) fn read(
        blocks: &Blocks,
        place: u64,
        value_bytes: usize,
        keys: (u64, Option<u64>),
    ) -> Result<Self> {
        let block = blocks.read(place, Kind::Node)?;
        let is_leaf = match block.u32(4) {
            INTERNAL => false,
            LEAF => true,
            flags => return Err(blocks.damaged(place, format!("flags {flags:#x} make no node of a tree"))),
        };
        let expected = if is_leaf { value_bytes } else { POINTER_BYTES };
        let (entries, room) = (block.u32(16) as usize, block.u32(20) as usize);
        let found = block.u32(24) as usize;
        let node = Self {
            place,
            block,
            is_leaf,
            entries,
            room,
            value_bytes: expected,
        };
        if found != expected {
            return Err(blocks.damaged(place, format!("values of {found} bytes, where {expected} belong")));
        }
        let fits = room
            .checked_mul(8 + expected)
            .is_some_and(|bytes| bytes <= BLOCK_BYTES - HEADER_BYTES);
        if !fits || entries > room {
            let why = format!("{entries} entries with room for {room} do not fit into it");
            return Err(blocks.damaged(place, why));
        }
        // Only a tree without any entry has an empty node, its root.
        if !is_leaf && entries == 0 {
            return Err(blocks.damaged(place, "it leads nowhere".to_owned()));
        }
        let mut least = keys.0;
        for at in 0..entries {
            let key = node.key(at);
            if key < least || keys.1.is_some_and(|end| key >= end) {
                return Err(blocks.damaged(place, format!("the key {key} is out of order")));
            }
            least = key.saturating_add(1);
        }
        Ok(node)
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    pub(super) fn key(&self, at: usize) -> u64 {
        self.block.u64(HEADER_BYTES + 8 * at)
    }

    pub(super) fn value(&self, at: usize) -> &[u8] {
        let begin = HEADER_BYTES + 8 * self.room + self.value_bytes * at;
        self.block.bytes(begin, self.value_bytes)
    }

    /// A value that is a number of 64 bits: a child of an internal node, a mapping of a leaf.
    pub(super) fn number(&self, at: usize) -> u64 {
        self.block
            .u64(HEADER_BYTES + 8 * self.room + self.value_bytes * at)
    }

    /// The keys that the child at `at` may have: those from its own on, and before the next one's.
    pub(super) fn bounds(&self, at: usize, end: Option<u64>) -> (u64, Option<u64>) {
        let next = (at + 1 < self.entries).then(|| self.key(at + 1)).or(end);
        (self.key(at), next)
    }
}

/// Counts what a walk reads, so that a damaged tree that leads in circles comes to an end.
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    /// For a walk over `trees` trees: each of them has a block at most once.
    pub(super) fn new(blocks: &Blocks, trees: u64) -> Self {
        Self {
            left: blocks.count().saturating_mul(trees),
        }
    }

    pub(super) fn spend(&mut self, blocks: &Blocks, place: u64) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            blocks.damaged(
                place,
                "the tree that it is in has more blocks than there are".to_owned(),
            )
        })?;
        Ok(())
    }
}

/// What is done with an entry: the block that it is in, its key, its value.
type Visit<'a> = dyn FnMut(u64, u64, &[u8]) -> Result<()> + 'a;

/// A walk over all entries of a tree.
pub(super) struct Walk<'a> {
    blocks: &'a Blocks,
    tree: Tree,
    budget: Budget,
}

impl<'a> Walk<'a> {
    pub(super) fn new(blocks: &'a Blocks, tree: Tree) -> Result<Self> {
        let budget = Budget::new(blocks, 1);
        Ok(Self { blocks, tree, budget })
    }

    /// Hands each entry to `visit`, in the order of the keys.
    pub(super) fn each(mut self, mut visit: impl FnMut(u64, u64, &[u8]) -> Result<()>) -> Result<()> {
        self.below(self.tree.root, (0, None), 0, &mut visit)
    }

    fn below(
        &mut self,
        place: u64,
        keys: (u64, Option<u64>),
        depth: usize,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        self.budget.spend(self.blocks, place)?;
        if depth >= DEEPEST {
            return Err(self.blocks.damaged(place, "its tree is too deep".to_owned()));
        }
        let node = Node::read(self.blocks, place, self.tree.value_bytes, keys)?;
        for at in 0..node.len() {
            if node.is_leaf {
                visit(place, node.key(at), node.value(at))?;
            } else {
                self.below(node.number(at), node.bounds(at, keys.1), depth + 1, visit)?;
            }
        }
        Ok(())
    }
}

/// The value of one key in a tree of numbers.
pub(super) fn look_up(blocks: &Blocks, tree: Tree, key: u64) -> Result<Option<u64>> {
    let (mut place, mut keys) = (tree.root, (0, None));
    for _ in 0..DEEPEST {
        let node = Node::read(blocks, place, tree.value_bytes, keys)?;
        let after = (0..node.len())
            .position(|at| node.key(at) > key)
            .unwrap_or(node.len());
        let Some(at) = after.checked_sub(1) else {
            return Ok(None);
        };
        if node.is_leaf {
            return Ok((node.key(at) == key).then(|| node.number(at)));
        }
        keys = node.bounds(at, keys.1);
        place = node.number(at);
    }
    Err(blocks.damaged(place, "its tree is too deep".to_owned()))
}

/// How many levels a tree has above its leaves, by its leftmost branch: all branches are as long.
pub(super) fn height(blocks: &Blocks, tree: Tree) -> Result<u32> {
    let (mut place, mut keys) = (tree.root, (0, None));
    for height in 0..DEEPEST {
        let node = Node::read(blocks, place, tree.value_bytes, keys)?;
        if node.is_leaf {
            return Ok(height as u32);
        }
        keys = node.bounds(0, keys.1);
        place = node.number(0);
    }
    Err(blocks.damaged(place, "its tree is too deep".to_owned()))
}
