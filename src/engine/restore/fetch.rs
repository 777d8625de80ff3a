//! The blobs of a batch, fetched pack by pack: neighbouring ones with one request, several requests at once.

use std::collections::HashMap;

use super::plan::{Batch, entry_error};
use crate::engine::index::Location;
use crate::engine::{Id, Progress, Repository, Result, parallel};

/// Bytes of a pack that are fetched at once, at most, where no blob is larger.
const REQUEST_BYTES: u64 = 4 << 20;
/// A gap between two wanted blobs that is fetched rather than asked around.
const GAP_BYTES: u64 = 64 << 10;
/// Requests at the same time.
const THREADS: usize = 6;

/// The blobs' content, each checked against its id. A failure names a file that needs the blob.
pub(super) fn fetch(
    repository: &Repository,
    batch: &Batch,
    progress: &Progress,
) -> Result<HashMap<Id, Vec<u8>>> {
    let requests = requests(batch.wanted.values().copied().collect());
    let fetched = parallel::map(&requests, THREADS, |request| {
        progress.check()?;
        let about = |id: &Id| {
            let path = batch.file_of(id);
            move |error| entry_error(&path, error)
        };
        let first = &request[0].blob;
        let start = u64::from(first.offset);
        let end = request.iter().map(end_of).max().unwrap_or(start);
        let sealed = repository.read_pack(&request[0].pack, start, end - start);
        let sealed = sealed.map_err(about(&first.id))?;
        let mut blobs = Vec::with_capacity(request.len());
        for wanted in request {
            let at = (u64::from(wanted.blob.offset) - start) as usize;
            let part = &sealed[at..at + wanted.blob.length as usize];
            let blob = repository.unseal(wanted, part).map_err(about(&wanted.blob.id))?;
            progress.read(blob.len() as u64);
            blobs.push((wanted.blob.id, blob));
        }
        Ok(blobs)
    })?;
    Ok(fetched.into_iter().flatten().collect())
}

/// What can be had with one request each, in the order of packs.
fn requests(mut wanted: Vec<Location>) -> Vec<Vec<Location>> {
    wanted.sort_unstable_by_key(|location| (location.pack, location.blob.offset));
    let mut requests: Vec<Vec<Location>> = Vec::new();
    for location in wanted {
        let fits = |request: &Vec<Location>| {
            let (first, last) = (&request[0], &request[request.len() - 1]);
            last.pack == location.pack
                && u64::from(location.blob.offset) <= end_of(last) + GAP_BYTES
                && end_of(&location) - u64::from(first.blob.offset) <= REQUEST_BYTES
        };
        match requests.last_mut().filter(|request| fits(request)) {
            Some(request) => request.push(location),
            None => requests.push(vec![location]),
        }
    }
    requests
}

fn end_of(location: &Location) -> u64 {
    u64::from(location.blob.offset) + u64::from(location.blob.length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::BlobKind;
    use crate::engine::pack::PackedBlob;

    #[test]
    fn neighbours_come_with_one_request_and_packs_in_their_order() {
        let location = |pack: u8, offset: u32, length: u32| Location {
            pack: Id([pack; 32]),
            blob: PackedBlob {
                kind: BlobKind::Data,
                id: Id([0; 32]),
                offset,
                length,
                uncompressed: 0,
            },
        };
        let mib = 1 << 20;
        let wanted = vec![
            location(2, 0, 100),
            location(1, 3 * mib, mib),
            location(1, 0, mib),
            location(1, mib, mib),
            location(1, 4 * mib, mib),
            location(1, 8 * mib, 10 * mib),
            location(2, 100 + (64 << 10), 5),
            location(2, 106 + (128 << 10), 5),
        ];
        let found: Vec<Vec<u32>> = requests(wanted)
            .iter()
            .map(|request| request.iter().map(|one| one.blob.offset).collect())
            .collect();
        assert_eq!(
            found,
            [
                vec![0, mib],
                vec![3 * mib, 4 * mib],
                vec![8 * mib],
                vec![0, 100 + (64 << 10)],
                vec![106 + (128 << 10)],
            ]
        );
    }
}
