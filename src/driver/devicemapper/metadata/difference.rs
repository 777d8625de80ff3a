//! What differs between two trees of mappings, without reading what they share.
//!
//! Both trees are walked side by side, each with a stack of what is still to come: subtrees that have not been opened, and
//! entries of opened leaves. Where both are about to open the same block, everything below it is the same and neither opens
//! it. Otherwise the one that lies further left is opened, and of two at the same place the higher one, so that a subtree
//! that both share comes to be on top of both stacks wherever it hangs in either tree.
//!
//! A data block that two snapshots share is never written to while both are there. So the same data block means the same
//! content; the time that the mapping carries besides does not matter.

use std::cmp::Ordering;

use super::Result;
use super::block::Blocks;
use super::btree::{self, Budget, Node, Tree};
use super::ranges::Collected;

/// A mapping holds the data block above the 24 bits of the time at which it was made.
const TIME_BITS: u32 = 24;

/// What comes next in a tree.
#[derive(Debug, Clone, Copy)]
enum Item {
    /// A subtree. No key in it is below `from`.
    Subtree {
        place: u64,
        from: u64,
        end: Option<u64>,
        height: u32,
    },
    Entry {
        key: u64,
        data: u64,
    },
}

/// One tree, from where the walk has come.
struct Side<'a> {
    blocks: &'a Blocks,
    value_bytes: usize,
    /// What is to come, the next on top.
    stack: Vec<Item>,
}

impl<'a> Side<'a> {
    fn new(blocks: &'a Blocks, tree: Tree) -> Result<Self> {
        let whole = Item::Subtree {
            place: tree.root,
            from: 0,
            end: None,
            height: btree::height(blocks, tree)?,
        };
        Ok(Self {
            blocks,
            value_bytes: tree.value_bytes,
            stack: vec![whole],
        })
    }

    fn next(&self) -> Option<Item> {
        self.stack.last().copied()
    }

    /// Replaces the subtree on top by what is in it.
    fn open(&mut self, budget: &mut Budget) -> Result<()> {
        let Some(Item::Subtree {
            place,
            from,
            end,
            height,
        }) = self.stack.pop()
        else {
            unreachable!("the caller has looked");
        };
        budget.spend(self.blocks, place)?;
        let node = Node::read(self.blocks, place, self.value_bytes, (from, end))?;
        if node.is_leaf != (height == 0) {
            return Err(self.blocks.damaged(
                node.place,
                "its tree has branches of different lengths".to_owned(),
            ));
        }
        for at in (0..node.len()).rev() {
            self.stack.push(if node.is_leaf {
                Item::Entry {
                    key: node.key(at),
                    data: node.number(at) >> TIME_BITS,
                }
            } else {
                let (from, end) = node.bounds(at, end);
                Item::Subtree {
                    place: node.number(at),
                    from,
                    end,
                    height: height - 1,
                }
            });
        }
        Ok(())
    }
}

/// What to do next.
enum Step {
    End,
    /// Both are the same.
    PassBoth,
    OpenOne,
    OpenOther,
    /// An entry that only the one, only the other, or both have.
    TakeOne(u64),
    TakeOther(u64),
    TakeBoth(u64),
}

/// The blocks that differ.
pub(super) fn find(blocks: &Blocks, one: Tree, other: Tree) -> Result<Collected> {
    let mut found = Collected::default();
    let mut budget = Budget::new(blocks, 2);
    let (mut one, mut other) = (Side::new(blocks, one)?, Side::new(blocks, other)?);
    loop {
        match decide(one.next(), other.next()) {
            Step::End => return Ok(found),
            Step::PassBoth => {
                one.stack.pop();
                other.stack.pop();
            }
            Step::OpenOne => one.open(&mut budget)?,
            Step::OpenOther => other.open(&mut budget)?,
            Step::TakeOne(key) => {
                one.stack.pop();
                found.push(key);
            }
            Step::TakeOther(key) => {
                other.stack.pop();
                found.push(key);
            }
            Step::TakeBoth(key) => {
                one.stack.pop();
                other.stack.pop();
                found.push(key);
            }
        }
    }
}

fn decide(one: Option<Item>, other: Option<Item>) -> Step {
    use Item::{Entry, Subtree};
    match (one, other) {
        (None, None) => Step::End,
        (Some(Entry { key, .. }), None) => Step::TakeOne(key),
        (None, Some(Entry { key, .. })) => Step::TakeOther(key),
        (Some(Subtree { .. }), None) => Step::OpenOne,
        (None, Some(Subtree { .. })) => Step::OpenOther,
        (Some(Entry { key: a, data: x }), Some(Entry { key: b, data: y })) => match a.cmp(&b) {
            Ordering::Less => Step::TakeOne(a),
            Ordering::Greater => Step::TakeOther(b),
            Ordering::Equal if x == y => Step::PassBoth,
            Ordering::Equal => Step::TakeBoth(a),
        },
        // Nothing in the subtree comes before it: the entry can be told.
        (Some(Entry { key, .. }), Some(Subtree { from, .. })) if key < from => Step::TakeOne(key),
        (Some(Entry { .. }), Some(Subtree { .. })) => Step::OpenOther,
        (Some(Subtree { from, .. }), Some(Entry { key, .. })) if key < from => Step::TakeOther(key),
        (Some(Subtree { .. }), Some(Entry { .. })) => Step::OpenOne,
        (
            Some(Subtree {
                place: a,
                from: at,
                height: up,
                ..
            }),
            Some(Subtree {
                place: b,
                from: to,
                height: high,
                ..
            }),
        ) => match (at.cmp(&to), up.cmp(&high)) {
            _ if a == b && up == high => Step::PassBoth,
            (Ordering::Less, _) => Step::OpenOne,
            (Ordering::Greater, _) => Step::OpenOther,
            (Ordering::Equal, Ordering::Less) => Step::OpenOther,
            (Ordering::Equal, _) => Step::OpenOne,
        },
    }
}
