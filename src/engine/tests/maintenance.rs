//! Prune, repair, adoption and copy on a repository that is sound.

use std::sync::Arc;

use super::sample::*;
use crate::engine::copy::copy;
use crate::engine::prune::{PruneOptions, PruneReport, prune};
use crate::engine::verify::{Depth, verify};
use crate::engine::*;
use crate::store::{MemoryStore, Store};

pub(super) fn thorough() -> PruneOptions {
    PruneOptions {
        max_unused_percent: 0,
        repack_small: false,
        all: true,
        dry_run: false,
    }
}

fn pruned(repository: &Repository, options: &PruneOptions) -> PruneReport {
    prune(repository, options, &Arc::default()).expect("pruned")
}

fn count(store: &MemoryStore, directory: &str) -> usize {
    store.list(directory).expect("listed").len()
}

#[test]
fn prune_copies_what_is_used_deletes_the_rest_and_then_has_nothing_to_do() {
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    let (first, second, third) = (files(0..40), files(20..60), files(50..55));
    let ids = [&first, &second, &third].map(|files| backup(&repository, files).expect("backed up"));
    assert_eq!(count(&store, "index"), 3);
    assert_eq!(pruned(&repository, &thorough()).freed_bytes, 0, "all is used");
    assert_eq!(count(&store, "index"), 1, "small index files are joined");

    repository.forget(&[ids[0]]).expect("forgotten");
    let before = fork(&store);
    let dry = pruned(
        &repository,
        &PruneOptions {
            dry_run: true,
            ..thorough()
        },
    );
    let snapshot = |store: &MemoryStore| store.list("").expect("listed");
    assert_eq!(snapshot(&store), snapshot(&before), "a dry run changes nothing");
    let report = pruned(&repository, &thorough());
    assert_eq!(
        (report.repacked_packs, report.unused_packs, report.freed_bytes),
        (dry.repacked_packs, dry.unused_packs, dry.freed_bytes)
    );
    // 20 files of 8 KiB are used by nobody else.
    assert!(
        report.freed_bytes > 160 << 10 && report.repacked_packs > 0,
        "{report:?}"
    );
    let fresh = repository.reopened(store.clone()).expect("opened");
    assert!(restore(&fresh, &ids[0]).is_err(), "it was forgotten");
    assert_eq!(restore(&fresh, &ids[1]).expect("restored"), second);
    assert_eq!(restore(&fresh, &ids[2]).expect("restored"), third);
    let verdict = verified(&fresh);
    assert_eq!(
        (verdict.problems.len(), verdict.unindexed_packs),
        (0, 0),
        "{verdict:?}"
    );
    let again = pruned(&fresh, &thorough());
    assert_eq!(
        (again.freed_bytes, again.repacked_packs, again.new_index_files),
        (0, 0, 0)
    );

    repository.forget(&ids[1..]).expect("forgotten");
    pruned(&fresh, &thorough());
    assert_eq!(
        (count(&store, "data"), count(&store, "index")),
        (0, 0),
        "no backups, no data"
    );
}

#[test]
fn small_packs_become_one() {
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    for n in 0..6 {
        backup(&repository, &files(n * 10..n * 10 + 10)).expect("backed up");
    }
    assert_eq!(count(&store, "data"), 12);
    let options = PruneOptions {
        repack_small: true,
        ..PruneOptions::default()
    };
    assert_eq!(pruned(&repository, &options).repacked_packs, 12);
    assert_eq!(count(&store, "data"), 2, "one of data, one of trees");
    assert_eq!(pruned(&repository, &options).repacked_packs, 0);
    assert_eq!(verified(&repository).problem_count, 0);
}

#[test]
fn prune_deletes_nothing_while_anything_cannot_be_read() {
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    let ids = [files(0..40), files(20..60)].map(|files| backup(&repository, &files).expect("backed up"));
    repository.forget(&ids[..1]).expect("forgotten");
    let sound = fork(&store);
    for directory in ["snapshots", "index", "data"] {
        for object in sound.list(directory).expect("listed") {
            for cut in [object.size - 1, 0] {
                let store = fork(&sound);
                let bytes = store.get(&object.path, u64::MAX).expect("there");
                store
                    .put(&object.path, bytes.slice(..cut as usize))
                    .expect("memory");
                let before = store.list("").expect("listed");
                let repository = repository.reopened(store.clone()).expect("opened");
                let refused = prune(&repository, &thorough(), &Arc::default());
                let used_by_nobody = object.path.starts_with("data") && refused.is_ok();
                if used_by_nobody {
                    assert_eq!(verified(&repository).problem_count, 0, "{}", object.path);
                } else {
                    let why = refused.expect_err("damage").to_string();
                    assert!(why.contains(&object.path) || why.contains("tree"), "{why}");
                    assert_eq!(store.list("").expect("listed"), before, "{}", object.path);
                }
            }
        }
    }
    store
        .delete(&format!(
            "index/{}",
            repository.list_files("index").expect("listed")[0]
        ))
        .expect("memory");
    let before = store.list("").expect("listed");
    prune(
        &repository.reopened(store.clone()).expect("opened"),
        &thorough(),
        &Arc::default(),
    )
    .expect_err("blobs are missing");
    assert_eq!(store.list("").expect("listed"), before);
}

#[test]
fn a_lost_index_is_made_anew_and_what_was_there_twice_goes() {
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    let all = [files(0..40), files(20..60)];
    let ids = all
        .each_ref()
        .map(|files| backup(&repository, files).expect("backed up"));
    for id in repository.list_files("index").expect("listed") {
        store.delete(&format!("index/{id}")).expect("memory");
    }
    let fresh = repository.reopened(store.clone()).expect("opened");
    let verdict = verified(&fresh);
    assert!(verdict.problem_count > 0 && verdict.unindexed_packs == 4);
    for id in &ids {
        assert!(
            verdict
                .problems
                .iter()
                .any(|problem| problem.backups.contains(id)),
            "{verdict:?}"
        );
    }
    let report = repair::rebuild_index(&fresh, &Progress::default()).expect("repaired");
    assert_eq!(
        (report.packs, report.new_index_files, report.unreadable.len()),
        (4, 1, 0)
    );
    assert_eq!(verified(&fresh).problem_count, 0);
    for (id, files) in ids.iter().zip(&all) {
        assert_eq!(&restore(&fresh, id).expect("restored"), files);
    }
    let again = repair::rebuild_index(&fresh, &Progress::default()).expect("repaired");
    assert_eq!((again.packs, again.old_index_files), (4, 1));
}

#[test]
fn a_pack_with_a_damaged_list_is_indexed_by_what_was_known_of_it() {
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    let all = files(0..40);
    let id = backup(&repository, &all).expect("backed up");
    let pack = store.list("data").expect("listed").remove(0);
    let mut bytes = store.get(&pack.path, u64::MAX).expect("there").to_vec();
    let at = bytes.len() - 30;
    bytes[at] ^= 1;
    store.put(&pack.path, bytes.into()).expect("memory");
    let fresh = repository.reopened(store.clone()).expect("opened");
    let verdict = verified(&fresh);
    assert_eq!(verdict.problem_count, 1);
    assert_eq!(verdict.problems[0].object, pack.path);
    assert_eq!(verdict.problems[0].backups, [], "its blobs are whole");
    let report = repair::rebuild_index(&fresh, &Progress::default()).expect("repaired");
    assert_eq!(
        (report.salvaged, report.unreadable),
        (vec![pack.path.clone()], vec![])
    );
    assert_eq!(restore(&fresh, &id).expect("restored"), all);
    for id in fresh.list_files("index").expect("listed") {
        store.delete(&format!("index/{id}")).expect("memory");
    }
    let report = repair::rebuild_index(&fresh, &Progress::default()).expect("repaired");
    assert_eq!(report.unreadable.len(), 1, "{report:?}");
    assert_eq!(report.unreadable[0].0, pack.path);
}

#[test]
fn a_resumed_backup_uploads_only_what_is_missing() {
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    let id = backup(&repository, &files(0..40)).expect("backed up");
    // As if it had been cut off before its index.
    for path in [
        format!("snapshots/{id}"),
        store.list("index").expect("listed")[0].path.clone(),
    ] {
        store.delete(&path).expect("memory");
    }
    let fresh = repository.reopened(store.clone()).expect("opened");
    let lock = Lock::take(&fresh, Access::Shared).expect("free");
    let adopted = repair::adopt(&fresh, &lock, &Progress::default()).expect("adopted");
    assert_eq!(
        (adopted.packs, adopted.blobs),
        (2, 85),
        "two chunks a file, the shared one, four trees"
    );
    let again = repair::adopt(&fresh, &lock, &Progress::default()).expect("adopted");
    assert_eq!(again.packs, 0);
    drop(lock);
    let packs = count(&store, "data");
    backup(&fresh, &files(0..40)).expect("backed up");
    assert_eq!(count(&store, "data"), packs, "nothing was uploaded twice");
    assert_eq!(verified(&fresh).problem_count, 0);
}

#[test]
fn a_copy_under_another_password_has_the_same_files_and_tells_where_it_is_from() {
    let (here, there) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
    let from = new_repository(&here);
    let other = Password::new("battery staple".to_owned()).expect("not empty");
    let to = Repository::create(there.clone(), &other, None, None).expect("made");
    let all = [files(0..40), files(20..60), files(0..5)];
    let ids = all
        .each_ref()
        .map(|files| backup(&from, files).expect("backed up"));
    let report = copy(&from, &to, &ids[..2], &Arc::default()).expect("copied");
    assert_eq!(
        (report.copied.len(), report.present.len(), report.chunkers_differ),
        (2, 0, true)
    );
    let packs = count(&there, "data");
    let report = copy(&from, &to, &ids, &Arc::default()).expect("copied");
    assert_eq!(
        (report.copied.len(), report.present.len()),
        (1, 2),
        "the third alone"
    );
    assert_eq!(
        report.new_blobs, 4,
        "the directories of five files that are there"
    );
    assert_eq!(count(&there, "data"), packs + 1);
    let fresh = Repository::open(there.clone(), &other, None).expect("opened");
    for backup in fresh.backups().expect("listed") {
        let original = backup.record.original.expect("it is a copy");
        let number = ids.iter().position(|id| *id == original).expect("of ours");
        assert_eq!(restore(&fresh, &backup.id).expect("restored"), all[number]);
        assert_eq!(backup.record.hostname, "alpha");
    }
    assert_eq!(verified(&fresh).problem_count, 0);
    let back = copy(&fresh, &from, &[report.copied[0].1], &Arc::default()).expect("copied");
    assert_eq!(back.present.len(), 1, "a copy of a copy is that of the first");

    let pack = here.list("data").expect("listed").remove(0).path;
    here.delete(&pack).expect("memory");
    let empty = Arc::new(MemoryStore::default());
    let third = Repository::create(empty.clone(), &other, None, None).expect("made");
    let from = from.reopened(here).expect("opened");
    copy(&from, &third, &ids, &Arc::default()).expect_err("a pack is missing");
    assert_eq!(
        empty.list("snapshots").expect("listed"),
        [],
        "no backup that is not whole"
    );
}

#[test]
fn verify_says_which_backups_a_damage_affects_and_a_sample_is_one() {
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    let ids = [files(0..10), files(10..20), files(5..15)].map(|files| {
        (
            backup(&repository, &files).expect("backed up"),
            store.list("data").expect("listed"),
        )
    });
    let second: Vec<_> = ids[1].1.iter().filter(|pack| !ids[0].1.contains(pack)).collect();
    let data = second.iter().max_by_key(|pack| pack.size).expect("of data");
    store.delete(&data.path).expect("memory");
    let fresh = repository.reopened(store.clone()).expect("opened");
    let whole = verify(&fresh, Depth::Structure, None, &Arc::default()).expect("looked");
    assert_eq!(whole.problem_count, 1, "{whole:?}");
    assert_eq!(whole.problems[0].object, data.path);
    let mut affected = whole.problems[0].backups.clone();
    affected.sort();
    let mut expected = vec![ids[1].0, ids[2].0];
    expected.sort();
    assert_eq!(affected, expected);
    let one = verify(&fresh, Depth::Everything, Some(&ids[0].0), &Arc::default()).expect("looked");
    assert_eq!((one.backups, one.packs_read), (1, 2));
    assert_eq!(one.problems[0].backups, [], "it uses nothing of that pack");
    let sample = verify(&fresh, Depth::Sample(1), None, &Arc::default()).expect("looked");
    assert_eq!(sample.packs_read, 1);
    let sample = verify(&fresh, Depth::Sample(60), None, &Arc::default()).expect("looked");
    assert_eq!(sample.packs_read, 3, "of five");
    let lock = Lock::take(&fresh, Access::Exclusive).expect("free");
    let refused = verify(&fresh, Depth::Structure, None, &Arc::default());
    assert!(matches!(refused, Err(EngineError::Locked { .. })));
    drop(lock);
}
