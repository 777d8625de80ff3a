//! A process that dies at each of its store calls in turn: what it leaves, and whether the next one finds its way.

use std::sync::Arc;

use super::maintenance::thorough;
use super::sample::*;
use crate::engine::prune::{PruneOptions, prune};
use crate::engine::repair::rebuild_index;
use crate::engine::*;
use crate::store::faulty::{Fault, Faulty, Plan};
use crate::store::{MemoryStore, Store};

/// Lets `act` die at every call, before and after the call's effect, and looks at what is left each time.
fn at_every_call(
    sound: &MemoryStore,
    repository: &Repository,
    expected: &[Files],
    act: impl Fn(&Repository) -> Result<()>,
) {
    let mut deaths = 0;
    for at in 1.. {
        let mut survived = false;
        for death in [Fault::Die, Fault::DieAfter] {
            let store = fork(sound);
            let dying = Arc::new(Faulty::new(store.clone(), Plan::new(at, death)));
            let outcome = repository
                .reopened(dying.clone())
                .and_then(|repository| act(&repository));
            if !dying.has_struck() {
                outcome.expect("nothing went wrong");
                survived = true;
            }
            deaths += usize::from(dying.has_struck());
            let what = format!("call {at}, {death:?}");
            look(&store, repository, expected, &what);
        }
        if survived {
            break;
        }
    }
    assert!(deaths > 10, "it was tried: {deaths}");
}

/// A new process: all backups are whole, the next backup and the next prune succeed and leave no garbage.
fn look(store: &Arc<MemoryStore>, repository: &Repository, expected: &[Files], what: &str) {
    let fresh = repository.reopened(store.clone()).expect("opened");
    lock::remove_stale(&fresh, true).expect("removed");
    let listed = fresh.backups().expect("listed");
    let verdict = verified(&fresh);
    assert_eq!(verdict.problems, [], "{what}");
    for backup in &listed {
        let files = restore(&fresh, &backup.id).expect("restored");
        assert!(expected.contains(&files), "{what}: wrong files");
    }
    let next = files(100..110);
    let id = backup(&fresh, &next).unwrap_or_else(|error| panic!("{what}: the next backup: {error}"));
    prune(&fresh, &thorough(), &Arc::default())
        .unwrap_or_else(|error| panic!("{what}: the next prune: {error}"));
    let verdict = verified(&fresh);
    assert_eq!((verdict.problems, verdict.unindexed_packs), (vec![], 0), "{what}");
    assert_eq!(verdict.backups, listed.len() as u64 + 1, "{what}");
    assert_eq!(restore(&fresh, &id).expect("restored"), next);
    let dry = PruneOptions {
        dry_run: true,
        ..thorough()
    };
    let garbage = prune(&fresh, &dry, &Arc::default()).expect("looked");
    assert_eq!(
        (garbage.freed_bytes, garbage.repacked_packs),
        (0, 0),
        "{what}: garbage"
    );
    assert_eq!(store.list("locks").expect("listed"), []);
}

fn with_two_backups() -> (Arc<MemoryStore>, Repository, Vec<Files>, [Id; 2]) {
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    let all = vec![files(0..12), files(6..18)];
    let ids = [0, 1].map(|n: usize| backup(&repository, &all[n]).expect("backed up"));
    (store, repository, all, ids)
}

#[test]
fn a_backup_may_die_at_any_call() {
    let (store, repository, mut expected, _) = with_two_backups();
    let third = files(10..30);
    expected.push(third.clone());
    at_every_call(&store, &repository, &expected, |repository| {
        backup(repository, &third).map(drop)
    });
}

#[test]
fn a_forget_may_die_at_any_call() {
    let (store, repository, expected, ids) = with_two_backups();
    at_every_call(&store, &repository, &expected, |repository| {
        repository.forget(&ids)
    });
}

#[test]
fn a_prune_may_die_at_any_call() {
    let (store, repository, expected, ids) = with_two_backups();
    repository.forget(&ids[..1]).expect("forgotten");
    at_every_call(&store, &repository, &expected[1..], |repository| {
        prune(repository, &thorough(), &Arc::default()).map(drop)
    });
}

#[test]
fn a_repair_may_die_at_any_call() {
    let (store, repository, expected, _) = with_two_backups();
    at_every_call(&store, &repository, &expected, |repository| {
        rebuild_index(repository, &Progress::default()).map(drop)
    });
}

#[test]
fn a_copy_may_die_at_any_call() {
    let (from_store, from, mut expected, ids) = with_two_backups();
    let (store, to, more, _) = with_two_backups();
    expected.extend(more);
    at_every_call(&store, &to, &expected, |to| {
        let from = from.reopened(from_store.clone())?;
        copy::copy(&from, to, &ids, &Arc::default()).map(drop)
    });
}

/// What lies and delays: an answer that is not true gives an error, or does no harm.
#[test]
fn no_lie_of_the_store_gives_wrong_files_or_deletes_what_is_needed() {
    let (store, repository, expected, ids) = with_two_backups();
    repository.forget(&ids[..1]).expect("forgotten");
    let faults = [
        Fault::Truncate,
        Fault::Corrupt,
        Fault::Lose,
        Fault::Delay(std::time::Duration::from_millis(2)),
    ];
    for fault in faults {
        for at in 1.. {
            let reading = Arc::new(Faulty::new(store.clone(), Plan::new(at, fault)));
            let files = repository
                .reopened(reading.clone())
                .and_then(|repository| restore(&repository, &ids[1]));
            match files {
                Ok(files) => assert_eq!(files, expected[1], "{fault:?} at {at}"),
                Err(error) => assert!(!matches!(fault, Fault::Delay(_)), "{error}"),
            }
            if !reading.has_struck() {
                break;
            }
        }
    }
    for fault in faults {
        for at in 1.. {
            let store = fork(&store);
            let lying = Arc::new(Faulty::new(store.clone(), Plan::new(at, fault)));
            let outcome = repository
                .reopened(lying.clone())
                .and_then(|repository| prune(&repository, &thorough(), &Arc::default()));
            if matches!(fault, Fault::Delay(_)) || !lying.has_struck() {
                outcome.expect("nothing was wrong");
            }
            let fresh = repository.reopened(store).expect("opened");
            let files = restore(&fresh, &ids[1])
                .unwrap_or_else(|error| panic!("{fault:?} at {at}: something that is needed went: {error}"));
            assert_eq!(files, expected[1], "{fault:?} at {at}");
            if !lying.has_struck() {
                break;
            }
        }
    }
}
