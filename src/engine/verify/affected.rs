//! Which backups are affected by what is damaged. Only asked where something is.
//!
//! Every tree is read once more, after all that is below it, and remembers what it suffers from; so the cost is that of
//! one more walk, however many backups share their trees. A blob of which one copy is bad and another is not counts as
//! affected: which of them a restore would take is chance.

use std::collections::HashMap;

use crate::engine::index::Marks;
use crate::engine::reach::{Walker, tells_damage};
use crate::engine::tree::NodeKind;
use crate::engine::{Backup, BlobKind, Id, Result};

/// What is damaged, each with the bits of the problems that say so.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    packs: HashMap<Id, u64>,
    blobs: HashMap<(BlobKind, Id), u64>,
    /// Trees that cannot be read, or that name what is not there.
    trees: HashMap<Id, u64>,
}

impl Suspects {
    pub(super) fn pack(&mut self, id: &Id, mask: u64) {
        *self.packs.entry(*id).or_default() |= mask;
    }

    pub(super) fn blob(&mut self, kind: BlobKind, id: &Id, mask: u64) {
        *self.blobs.entry((kind, *id)).or_default() |= mask;
    }

    pub(super) fn tree(&mut self, id: &Id, mask: u64) {
        *self.trees.entry(*id).or_default() |= mask;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.blobs.is_empty() && self.trees.is_empty()
    }
}

/// A directory whose subdirectories are being looked at.
struct Open {
    number: u64,
    /// Numbers of subdirectories that are still to be looked at.
    below: Vec<u64>,
    mask: u64,
}

/// The problems that each backup suffers from.
pub(super) fn affected(
    walker: &Walker<'_>,
    backups: &[Backup],
    suspects: &Suspects,
) -> Result<Vec<(Id, u64)>> {
    let mut search = Search {
        walker,
        suspects,
        met: Marks::new(walker.table.len()),
        masks: HashMap::new(),
    };
    backups
        .iter()
        .map(|backup| Ok((backup.id, search.root(&backup.record.tree)?)))
        .collect()
}

struct Search<'a> {
    walker: &'a Walker<'a>,
    suspects: &'a Suspects,
    /// Trees that were opened: by what is known of hashes none is below itself, and if one were, it would end here.
    met: Marks,
    /// Of the trees that suffer from something.
    masks: HashMap<u64, u64>,
}

impl Search<'_> {
    fn root(&mut self, id: &Id) -> Result<u64> {
        let Some((root, _)) = self.walker.table.locate(BlobKind::Tree, id)? else {
            return Ok(self.suspects.trees.get(id).copied().unwrap_or(0));
        };
        let mut path = Vec::new();
        if self.met.set(root) {
            path.push(self.open(root)?);
        }
        while let Some(last) = path.last_mut() {
            match last.below.pop() {
                Some(number) if self.met.set(number) => {
                    let open = self.open(number)?;
                    path.push(open);
                }
                Some(number) => last.mask |= self.masks.get(&number).copied().unwrap_or(0),
                None => {
                    let Open { number, mask, .. } = path.pop().expect("there is a last one");
                    if mask != 0 {
                        self.masks.insert(number, mask);
                    }
                    if let Some(above) = path.last_mut() {
                        above.mask |= mask;
                    }
                }
            }
        }
        Ok(self.masks.get(&root).copied().unwrap_or(0))
    }

    fn open(&self, number: u64) -> Result<Open> {
        self.walker.progress.check()?;
        let location = self.walker.table.location(number)?;
        let mut open = Open {
            number,
            below: Vec::new(),
            mask: self.blob_mask(BlobKind::Tree, &location.blob.id)?,
        };
        open.mask |= self.suspects.trees.get(&location.blob.id).copied().unwrap_or(0);
        let tree = match self.walker.tree(&location) {
            Ok(tree) => tree,
            Err(error) if tells_damage(&error) => return Ok(open),
            Err(error) => return Err(error),
        };
        for node in &tree.nodes {
            match &node.kind {
                NodeKind::File { content, .. } => {
                    let mut last = None;
                    for id in content {
                        if last.replace(id) != Some(id) {
                            open.mask |= self.blob_mask(BlobKind::Data, id)?;
                        }
                    }
                }
                NodeKind::Dir { subtree } => {
                    let found = self.walker.table.locate(BlobKind::Tree, subtree)?;
                    open.below.extend(found.map(|(number, _)| number));
                }
                _ => {}
            }
        }
        Ok(open)
    }

    fn blob_mask(&self, kind: BlobKind, id: &Id) -> Result<u64> {
        let mut mask = self.suspects.blobs.get(&(kind, *id)).copied().unwrap_or(0);
        if !self.suspects.packs.is_empty() {
            for (_, place) in self.walker.table.copies(kind, id)? {
                mask |= self.suspects.packs.get(&place.pack).copied().unwrap_or(0);
            }
        }
        Ok(mask)
    }
}
