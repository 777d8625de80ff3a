//! Packs read to the last byte: their name, their own list of blobs against the index, and every blob.

use std::sync::{Mutex, PoisonError};

use crate::engine::haul;
use crate::engine::index::{Location, Table};
use crate::engine::pack::{self, Header, PackedBlob};
use crate::engine::reach::tells_damage;
use crate::engine::repository::{PACK_LIMIT, pack_path};
use crate::engine::{BlobKind, Id, Progress, Repository, Result};

/// Packs above this many bytes are in memory one at a time.
const LARGE: u64 = 32 << 20;

/// A pack with more bad blobs than this is bad as a whole.
const MANY: usize = 1000;

/// What is wrong with a pack.
pub(super) struct Damage {
    /// Which.
    pub(super) pack: Id,
    /// What is wrong.
    pub(super) why: String,
    /// The blobs of the index that cannot be read; `None`: all.
    pub(super) blobs: Option<Vec<(BlobKind, Id)>>,
}

/// Reads packs, each given with the number of its blobs and its size; says what is wrong with them, in order.
pub(super) fn read(
    repository: &Repository,
    table: &Table,
    packs: &[(Id, u64, u64)],
    progress: &Progress,
) -> Result<Vec<Damage>> {
    let found = Mutex::new(Vec::new());
    let large = Mutex::new(());
    let sizes: std::collections::HashMap<Id, u64> = packs.iter().map(|(id, _, size)| (*id, *size)).collect();
    let counts: Vec<(Id, u64)> = packs.iter().map(|(id, blobs, _)| (*id, *blobs)).collect();
    haul::by_pack(
        table,
        &counts,
        |_, _| true,
        |id, blobs| {
            progress.check()?;
            let size = sizes.get(id).copied().unwrap_or(0);
            let _alone = (size > LARGE).then(|| large.lock().unwrap_or_else(PoisonError::into_inner));
            let damage = examine(repository, id, blobs, progress)?;
            found
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(damage);
            progress.read(size);
            progress.done(size, 1);
            Ok(())
        },
    )?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|damage: &Damage| damage.pack);
    Ok(found)
}

/// `indexed` is what the index says, in the order of the places.
fn examine(
    repository: &Repository,
    id: &Id,
    indexed: &[PackedBlob],
    progress: &Progress,
) -> Result<Option<Damage>> {
    let whole = |why: String| {
        Ok(Some(Damage {
            pack: *id,
            why,
            blobs: None,
        }))
    };
    let bytes = match repository.store().get(&pack_path(id), PACK_LIMIT) {
        Ok(bytes) => bytes,
        Err(error) => {
            let error = error.into();
            if tells_damage(&error) {
                return whole(error.to_string());
            }
            return Err(error);
        }
    };
    let mut reasons = Vec::new();
    if Id::of(&bytes) != *id {
        reasons.push("its bytes are not those that it is named after".to_owned());
    }
    match pack::read_header(repository.key(), bytes.len() as u64, &bytes) {
        Ok(Header::Whole(listed)) if listed == indexed => {}
        Ok(Header::Whole(_)) => reasons.push("its own list of blobs is not what the index says".to_owned()),
        Ok(Header::Needs(_)) => reasons.push("its header cannot be found".to_owned()),
        Err(why) => reasons.push(why.to_owned()),
    }
    let mut bad = Vec::new();
    for blob in indexed {
        // With few packs, all may have been begun before the end is asked for.
        progress.check()?;
        let begin = blob.offset as usize;
        let sealed = begin
            .checked_add(blob.length as usize)
            .and_then(|end| bytes.get(begin..end));
        let location = Location {
            pack: *id,
            blob: *blob,
        };
        let good = sealed.is_some_and(|sealed| repository.unseal(&location, sealed).is_ok());
        if !good {
            bad.push((blob.kind, blob.id));
        }
    }
    if let Some((kind, first)) = bad.first() {
        reasons.push(format!(
            "{} of its {} blobs cannot be read, the first of them the {} {}",
            bad.len(),
            indexed.len(),
            kind.word(),
            first.short()
        ));
    }
    if reasons.is_empty() {
        return Ok(None);
    }
    Ok(Some(Damage {
        pack: *id,
        why: reasons.join("; "),
        blobs: (bad.len() <= MANY).then_some(bad),
    }))
}
