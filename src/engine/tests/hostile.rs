//! Repositories made by somebody who has the password and means harm: bounded work, an error or a right result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::maintenance::thorough;
use super::sample::*;
use crate::engine::crypto::Key;
use crate::engine::index::{IndexFile, IndexedPack};
use crate::engine::pack::{Header, PackBuilder, PackedBlob, read_header};
use crate::engine::prune::prune;
use crate::engine::repository::pack_path;
use crate::engine::tree::{NodeKind, Tree};
use crate::engine::verify::{Depth, VerifyReport, verify};
use crate::engine::*;
use crate::store::MemoryStore;

fn repository() -> (Arc<MemoryStore>, Repository) {
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    (store, repository)
}

/// Stores blobs as they are given in one pack, and what `lie` makes of its entry in an index file.
fn plant(
    repository: &Repository,
    blobs: &[(BlobKind, Id, Vec<u8>, u32)],
    lie: impl Fn(&mut Vec<PackedBlob>),
) -> Id {
    let mut builder = PackBuilder::default();
    for (kind, id, plain, uncompressed) in blobs {
        builder.add(*kind, *id, &repository.key().seal(plain), *uncompressed);
    }
    let pack = builder.finish(repository.key());
    let mut entries = pack.blobs.clone();
    lie(&mut entries);
    repository
        .store()
        .put(&pack_path(&pack.id), pack.bytes)
        .expect("memory");
    let file = IndexFile {
        supersedes: None,
        packs: vec![IndexedPack {
            id: pack.id,
            blobs: entries,
        }],
    };
    repository.write_file("index", &file.to_json()).expect("written");
    repository.refresh().expect("readable");
    pack.id
}

fn tree_blob(tree: &Tree) -> (BlobKind, Id, Vec<u8>, u32) {
    let bytes = tree.encode();
    (BlobKind::Tree, Id::of(&bytes), bytes, 0)
}

fn file_tree(content: &[(Id, u64)]) -> Tree {
    let size = content.iter().map(|(_, length)| length).sum();
    let content = content.iter().map(|(id, _)| *id).collect();
    Tree {
        nodes: vec![node("file", NodeKind::File { size, content })],
    }
}

fn everything(repository: &Repository) -> VerifyReport {
    let begin = Instant::now();
    let report = verify(repository, Depth::Everything, None, &Arc::default()).expect("it comes to its end");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    report
}

fn refused(repository: &Repository) {
    let before = repository.store().list("data").expect("listed");
    prune(repository, &thorough(), &Arc::default()).expect_err("something is wrong");
    assert_eq!(repository.store().list("data").expect("listed"), before);
}

/// A data blob and the root tree of a file that has it twice; what the index says is a lie.
fn with_a_lie(lie: impl Fn(&mut PackedBlob)) -> (Repository, Id) {
    let (_, repository) = repository();
    let bytes = noise(1, 1000);
    let id = Id::of(&bytes);
    let root = tree_blob(&file_tree(&[(id, 1000), (id, 1000)]));
    let tree = root.1;
    plant(&repository, &[(BlobKind::Data, id, bytes, 0)], |entries| {
        lie(&mut entries[0])
    });
    plant(&repository, &[root], |_| {});
    write_snapshot(&repository, tree).expect("written");
    (repository, id)
}

#[test]
fn an_index_that_lies_about_places_and_lengths_is_an_error() {
    let lies: [fn(&mut PackedBlob); 7] = [
        |blob| blob.offset = u32::MAX,
        |blob| blob.length = u32::MAX,
        |blob| (blob.offset, blob.length) = (u32::MAX, u32::MAX),
        |blob| blob.length = 0,
        |blob| blob.length -= 1,
        |blob| blob.uncompressed = u32::MAX,
        |blob| blob.uncompressed = 1,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let (repository, id) = with_a_lie(lie);
        assert!(repository.blob(BlobKind::Data, &id).is_err(), "lie {number}");
        let report = everything(&repository);
        assert!(report.problem_count > 0, "lie {number}");
        assert!(
            report.problems.iter().any(|problem| problem.backups.len() == 1),
            "lie {number}: {report:?}"
        );
        // The place alone is nothing that prune looks at, nor needs to: what is named is kept.
        let before = repository.store().list("data").expect("listed");
        let pruned = prune(&repository, &thorough(), &Arc::default());
        assert!(pruned.is_err() || number == 0, "lie {number}");
        assert_eq!(repository.store().list("data").expect("listed"), before);
    }
    let (repository, id) = with_a_lie(|_| {});
    assert_eq!(repository.blob(BlobKind::Data, &id).expect("true").len(), 1000);
    assert_eq!(
        everything(&repository).problem_count,
        0,
        "without a lie all is well"
    );
}

#[test]
fn a_blob_is_never_taken_for_another() {
    let (_, repository) = repository();
    let (one, two) = (noise(1, 1000), noise(2, 1000));
    let ids = [Id::of(&one), Id::of(&two)];
    plant(
        &repository,
        &[(BlobKind::Data, ids[0], one, 0), (BlobKind::Data, ids[1], two, 0)],
        |entries| {
            let other = entries[1].offset;
            entries[1].offset = std::mem::replace(&mut entries[0].offset, other);
        },
    );
    let root = tree_blob(&file_tree(&[(ids[0], 1000)]));
    let tree = root.1;
    plant(&repository, &[root], |_| {});
    let backup = write_snapshot(&repository, tree).expect("written");
    for id in &ids {
        let error = repository.blob(BlobKind::Data, id).expect_err("it is another");
        assert!(error.to_string().contains("not the one"), "{error}");
    }
    let report = everything(&repository);
    assert_eq!(report.problems[0].backups, [backup]);
}

#[test]
fn bombs_do_not_go_off() {
    let (_, repository) = repository();
    let huge = zstd::bulk::compress(&vec![0; 64 << 20], 1).expect("compressed");
    let id = Id::of(b"whatever");
    let blobs = [
        (BlobKind::Tree, Id::of(b"one"), huge.clone(), 100),
        (BlobKind::Tree, Id::of(b"two"), huge.clone(), u32::MAX),
        (BlobKind::Tree, Id::of(b"three"), huge, 64 << 20),
        (
            BlobKind::Tree,
            id,
            format!("{}{}", "[".repeat(200_000), "]".repeat(200_000)).into_bytes(),
            0,
        ),
    ];
    plant(&repository, &blobs, |_| {});
    for (_, id, ..) in &blobs {
        assert!(repository.blob(BlobKind::Tree, id).is_err());
        write_snapshot(&repository, *id).expect("written");
    }
    let report = everything(&repository);
    assert!(report.problem_count >= 4, "{report:?}");
    refused(&repository);
}

#[test]
fn deep_trees_and_trees_that_share_their_subtrees_cost_what_they_hold() {
    let (_, repository) = repository();
    let mut blobs = vec![tree_blob(&Tree::default())];
    // 2^64 paths in 64 trees, then a path of 4,000 directories.
    for width in [2; 64].into_iter().chain([1; 4_000]) {
        let subtree = blobs.last().expect("one").1;
        let nodes = (0..width)
            .map(|n| node(&format!("d{n}"), NodeKind::Dir { subtree }))
            .collect();
        blobs.push(tree_blob(&Tree { nodes }));
    }
    let top = blobs.last().expect("one").1;
    plant(&repository, &blobs, |_| {});
    let backup = write_snapshot(&repository, top).expect("written");
    let report = everything(&repository);
    assert_eq!((report.problem_count, report.trees), (0, 4_065));
    let report = prune(&repository, &thorough(), &Arc::default()).expect("nothing is wrong");
    assert_eq!(report.freed_bytes, 0);

    let (_, broken) = self::repository();
    blobs.remove(0);
    plant(&broken, &blobs, |_| {});
    write_snapshot(&broken, top).expect("written");
    let report = everything(&broken);
    assert_eq!(report.problem_count, 1);
    assert_eq!(report.problems[0].backups.len(), 1, "found from the top");
    refused(&broken);

    let other = new_repository(&Arc::default());
    copy::copy(&repository, &other, &[backup], &Arc::default()).expect("copied");
    assert_eq!(everything(&other).trees, 4_065);
}

#[test]
fn absurd_counts_of_copies_are_gone_through_once() {
    let (_, repository) = repository();
    let root = tree_blob(&Tree::default());
    let tree = root.1;
    plant(&repository, &[root], |entries| {
        let first = entries[0];
        entries.extend((1..200_000).map(|n| PackedBlob { offset: n, ..first }));
    });
    write_snapshot(&repository, tree).expect("written");
    assert!(everything(&repository).problem_count > 0);
    refused(&repository);
}

#[test]
fn trees_that_no_program_writes_are_named() {
    let entry = |name: &str| format!(r#"{{"name":{name},"type":"file","content":[]}}"#);
    let trees = [
        format!(r#"{{"nodes":[{},{}]}}"#, entry("\"a\""), entry("\"a\"")),
        format!(r#"{{"nodes":[{}]}}"#, entry("\"../x\"")),
        format!(r#"{{"nodes":[{}]}}"#, entry("\"..\"")),
        format!(r#"{{"nodes":[{}]}}"#, entry("\"\"")),
        r#"{"nodes":[{"name":"d","type":"dir"}]}"#.to_owned(),
        r#"{"nodes":7}"#.to_owned(),
        String::new(),
    ];
    for tree in trees {
        let (_, repository) = repository();
        let id = Id::of(tree.as_bytes());
        plant(
            &repository,
            &[(BlobKind::Tree, id, tree.clone().into_bytes(), 0)],
            |_| {},
        );
        let backup = write_snapshot(&repository, id).expect("written");
        let report = everything(&repository);
        assert_eq!(report.problem_count, 1, "{tree}");
        assert_eq!(report.problems[0].object, format!("the tree {id}"));
        assert_eq!(report.problems[0].backups, [backup]);
        refused(&repository);
    }
}

#[test]
fn a_file_whose_content_has_another_length_is_found_but_does_not_stop_prune() {
    let (_, repository) = repository();
    let bytes = noise(1, 1000);
    let id = Id::of(&bytes);
    let root = tree_blob(&file_tree(&[(id, 999)]));
    let tree = root.1;
    plant(&repository, &[(BlobKind::Data, id, bytes, 0)], |_| {});
    plant(&repository, &[root], |_| {});
    write_snapshot(&repository, tree).expect("written");
    let report = everything(&repository);
    assert!(report.problems[0].why.contains("999 bytes"), "{report:?}");
    prune(&repository, &thorough(), &Arc::default()).expect("all blobs are known");
    assert_eq!(repository.blob(BlobKind::Data, &id).expect("kept").len(), 1000);
}

/// What a mutation does: flips, cuts, repeats or puts in bytes.
fn mutated(bytes: &[u8], changes: &[(u8, u16, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (what, at, with) in changes {
        let at = usize::from(*at) % (bytes.len() + 1);
        match what % 4 {
            0 if at < bytes.len() => bytes[at] ^= with,
            1 => bytes.truncate(at),
            2 => bytes.insert(at, *with),
            _ => bytes.extend_from_within(at..),
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn decoders_take_any_bytes(changes in prop::collection::vec(any::<(u8, u16, u8)>(), 0..6)) {
        let key = Key::from_bytes(&[7; 64]);
        let mut builder = PackBuilder::default();
        builder.add(BlobKind::Data, Id::of(b"one"), &key.seal(b"one"), 0);
        builder.add(BlobKind::Tree, Id::of(b"two"), &key.seal(b"2"), 3);
        let pack = builder.finish(&key);

        // The whole pack; and its header alone, sealed again, as only who has the key can.
        let bytes = mutated(&pack.bytes, &changes);
        if let Ok(Header::Whole(_)) = read_header(&key, bytes.len() as u64, &bytes) {
            prop_assert!(pack.bytes.ends_with(&bytes[bytes.len() - 36..]));
        }
        let end = pack.bytes.len() - 4;
        let length = u32::from_le_bytes(pack.bytes[end..].try_into().expect("four")) as usize;
        let header = mutated(&key.open(&pack.bytes[end - length..end]).expect("ours"), &changes);
        let mut end = key.seal(&header);
        end.extend_from_slice(&(end.len() as u32).to_le_bytes());
        let size = 100 + end.len() as u64;
        if let Ok(Header::Whole(blobs)) = read_header(&key, size, &end) {
            let total: u64 = blobs.iter().map(|blob| u64::from(blob.length)).sum();
            prop_assert_eq!(total, 100);
        }

        let index = IndexFile { supersedes: None, packs: vec![IndexedPack { id: pack.id, blobs: pack.blobs }] };
        let json = mutated(&index.to_json(), &changes);
        if let Ok(file) = IndexFile::from_json(&json) {
            let table = index::Table::new(pack.id, &file.packs);
            prop_assert_eq!(table.len() as usize, file.packs.iter().map(|pack| pack.blobs.len()).sum::<usize>());
        }
        let json = serde_json::to_vec(&super::snapshot(pack.id)).expect("JSON");
        let _ = serde_json::from_slice::<SnapshotFile>(&mutated(&json, &changes));
        let long = format!("[{}1]", "1,".repeat(1000));
        let plain = key.open(&seal::seal_file(&key, long.as_bytes())).expect("ours");
        let _ = seal::open_file(&key, &key.seal(&mutated(&plain, &changes)));
        let _ = seal::open_file(&key, &mutated(&key.seal(&plain), &changes));
        let _ = Tree::decode(&mutated(&file_tree(&[(pack.id, 7)]).encode(), &changes));
    }
}
