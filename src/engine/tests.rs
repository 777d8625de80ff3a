//! The core as a whole: a repository made, written to, opened again, and what it says when that cannot be.

mod crash;
mod damage;
mod hostile;
mod large_index;
mod maintenance;
mod resume;
mod sample;

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::store::{MemoryStore, Store};

fn password() -> Password {
    Password::new("correct horse".to_owned()).expect("not empty")
}

fn owner() -> Owner {
    Owner {
        volume: Uuid::from_u128(7),
        name: "pgdata".to_owned(),
        host: "alpha".to_owned(),
    }
}

fn snapshot(tree: Id) -> SnapshotFile {
    serde_json::from_value(serde_json::json!({ "time": "2026-11-20T08:00:00.5+01:00", "tree": tree }))
        .expect("a snapshot")
}

#[test]
fn what_is_saved_is_found_by_whoever_opens_the_repository() {
    let store = Arc::new(MemoryStore::default());
    let cache = tempfile::tempdir().expect("a directory");
    let repository = Repository::create(store.clone(), &password(), None, Some(owner())).expect("made");
    let noise: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; 1 << 20]).collect();
    let lock = Lock::take(&repository, Access::Shared).expect("nobody is there");
    let writer = Writer::new(&repository, 1, &Arc::default()).expect("threads");
    let ids: Vec<Id> = parallel::map(&noise, 4, |bytes| writer.save(BlobKind::Data, bytes)).expect("saved");
    for bytes in &noise {
        writer.save(BlobKind::Data, bytes).expect("known by now");
    }
    let tree = writer.save(BlobKind::Tree, b"{\"nodes\":[]}\n").expect("saved");
    let written = writer.finish(&lock).expect("stored");
    assert_eq!((written.data_blobs, written.tree_blobs), (40, 1), "each once");
    let json = serde_json::to_vec(&snapshot(tree)).expect("JSON");
    let id = repository.write_file("snapshots", &json).expect("written");
    drop(lock);
    assert_eq!(store.list("locks").expect("listed"), []);

    for cache in [None, Some(cache.path()), Some(cache.path())] {
        let again = Repository::open(store.clone(), &password(), cache).expect("opened");
        assert_eq!(again.owner(), Some(owner()));
        for (id, bytes) in ids.iter().zip(&noise) {
            assert_eq!(&again.blob(BlobKind::Data, id).expect("there"), bytes);
        }
        assert_eq!(
            again.blob(BlobKind::Tree, &tree).expect("there"),
            b"{\"nodes\":[]}\n"
        );
        assert!(
            matches!(
                again.blob(BlobKind::Data, &tree),
                Err(EngineError::MissingBlob { .. })
            ),
            "not of that kind"
        );
        assert_eq!(again.find("latest").expect("there").id, id);
        assert_eq!(again.find(&id.short()).expect("there").record.tree, tree);
        assert!(matches!(again.find("zz"), Err(EngineError::NoBackup { .. })));
    }
}

#[test]
fn keys_come_and_go_but_never_the_last() {
    let store = Arc::new(MemoryStore::default());
    let repository = Repository::create(store.clone(), &password(), None, None).expect("made");
    let other = Password::new("battery staple".to_owned()).expect("not empty");
    let wrong = Repository::open(store.clone(), &other, None).expect_err("not a key yet");
    assert!(
        matches!(wrong, EngineError::WrongPassword { keys: 1, .. }),
        "{wrong}"
    );
    let (first, _) = repository.keys().expect("listed").remove(0);
    assert!(repository.remove_key(&first.to_string()).is_err(), "the only one");
    repository.add_key(&other).expect("added");
    repository.remove_key(&first.to_string()).expect("one is left");
    assert!(Repository::open(store.clone(), &password(), None).is_err());
    Repository::open(store.clone(), &other, None).expect("opens");
    let exists = Repository::create(store, &password(), None, None).expect_err("there is one");
    assert!(matches!(exists, EngineError::RepositoryExists { .. }));
    let none =
        Repository::open(Arc::new(MemoryStore::default()), &password(), None).expect_err("nothing is there");
    assert!(matches!(none, EngineError::NoRepository { .. }));
}

#[test]
fn an_exclusive_lock_excludes_and_shared_ones_do_not() {
    let store = Arc::new(MemoryStore::default());
    let repository = Repository::create(store.clone(), &password(), None, None).expect("made");
    let one = Lock::take(&repository, Access::Shared).expect("free");
    let two = Lock::take(&repository, Access::Shared).expect("shared");
    let refused = Lock::take(&repository, Access::Exclusive)
        .expect_err("two are there")
        .to_string();
    assert!(
        refused.contains("windlass@") && refused.contains("wait for it"),
        "{refused}"
    );
    drop((one, two));
    let all = Lock::take(&repository, Access::Exclusive).expect("free");
    assert!(matches!(
        Lock::take(&repository, Access::Shared),
        Err(EngineError::Locked { .. })
    ));
    all.check().expect("it is ours");
    assert_eq!(
        lock::remove_stale(&repository, false).expect("looked"),
        0,
        "we live"
    );
    assert_eq!(lock::remove_stale(&repository, true).expect("looked"), 1);
    assert!(matches!(all.check(), Err(EngineError::LockLost { .. })));
    drop(all);
    assert_eq!(store.list("locks").expect("listed"), []);
}

/// A shared lock is written before anybody is looked for, which spares a request. Still one of two sees the other.
#[test]
fn of_a_shared_and_an_exclusive_wish_at_once_never_both_are_fulfilled() {
    let store = Arc::new(MemoryStore::default());
    let repository = Repository::create(store.clone(), &Password::none(), None, None).expect("made");
    let mut fulfilled = [0, 0];
    for round in 0..200 {
        let start = std::sync::Barrier::new(2);
        let wishes = [Access::Shared, Access::Exclusive];
        let taken = parallel::map(&wishes, 2, |access| {
            start.wait();
            // Sometimes the one is a little ahead, sometimes the other.
            if (round % 2 == 0) == (*access == Access::Shared) {
                std::thread::sleep(std::time::Duration::from_micros(round * 3));
            }
            Ok(Lock::take(&repository, *access).ok())
        });
        let taken = taken.expect("both came to an end");
        assert!(!taken.iter().all(Option::is_some), "both have it");
        for (count, lock) in fulfilled.iter_mut().zip(&taken) {
            *count += u32::from(lock.is_some());
        }
        drop(taken);
        assert_eq!(
            store.list("locks").expect("listed"),
            [],
            "what was refused leaves nothing"
        );
    }
    assert!(fulfilled[0] > 0, "somebody had it: {fulfilled:?}");
}

#[test]
fn a_lock_is_looked_for_before_the_first_write_and_not_at_once_again_for_the_next() {
    let counts = Arc::<crate::store::Counts>::default();
    let store = crate::store::Counting::new(Arc::new(MemoryStore::default()), counts.clone());
    let repository = Repository::create(Arc::new(store), &Password::none(), None, None).expect("made");
    let before = counts.tally();
    let lock = Lock::take(&repository, Access::Shared).expect("free");
    let taking = counts.tally().since(&before);
    assert_eq!(
        (taking.puts, taking.lists, taking.requests()),
        (1, 1, 2),
        "nobody is there"
    );
    lock.check().expect("ours");
    lock.check_again().expect("just seen");
    assert_eq!(counts.tally().since(&before).stats, 1);
    lock::remove_stale(&repository, true).expect("removed");
    assert!(
        matches!(lock.check(), Err(EngineError::LockLost { .. })),
        "a look is a look"
    );
    let unseen = Lock::take(&repository, Access::Shared).expect("free");
    lock::remove_stale(&repository, true).expect("removed");
    assert!(
        matches!(unseen.check_again(), Err(EngineError::LockLost { .. })),
        "nobody has looked yet"
    );
}

#[test]
fn stale_locks_go_by_age_or_by_a_dead_process() {
    let store = Arc::new(MemoryStore::default());
    let repository = Repository::create(store.clone(), &password(), None, None).expect("made");
    let put = |time: jiff::Timestamp, host: &str, pid: u32| {
        let lock = serde_json::json!({ "time": time, "exclusive": true, "hostname": host, "username": "r", "pid": pid, "uid": 0, "gid": 0 });
        repository
            .write_file("locks", lock.to_string().as_bytes())
            .expect("written");
    };
    let old = now() - jiff::SignedDuration::from_mins(31);
    put(old, "elsewhere", 1);
    for host in [hostname(), format!("{}/windlass", hostname())] {
        put(now(), &host, 999_999_999);
    }
    Lock::take(&repository, Access::Shared)
        .expect("what is older than half an hour is stale, and what a dead process left");
    assert_eq!(store.list("locks").expect("listed"), []);
    put(
        now() - jiff::SignedDuration::from_mins(29),
        "elsewhere",
        999_999_999,
    );
    assert!(
        Lock::take(&repository, Access::Shared).is_err(),
        "another host's process is not ours to judge"
    );
    assert_eq!(lock::remove_stale(&repository, true).expect("looked"), 1);
}

#[test]
fn another_volume_of_the_same_name_is_refused_and_told_whose_it_is() {
    let store = Arc::new(MemoryStore::default());
    let repository = Repository::create(store.clone(), &password(), None, Some(owner())).expect("made");
    repository.check_owner(owner().volume).expect("its own");
    let refused = repository
        .check_owner(Uuid::from_u128(8))
        .expect_err("another")
        .to_string();
    assert!(
        refused.contains("pgdata") && refused.contains("alpha") && refused.contains("--take-over"),
        "{refused}"
    );
    let heir = Owner {
        volume: Uuid::from_u128(8),
        host: "beta".to_owned(),
        ..owner()
    };
    repository.set_owner(heir.clone()).expect("rewritten");
    let again = Repository::open(store, &password(), None).expect("opened");
    assert_eq!(again.owner(), Some(heir));
}

/// A backup that fails had claimed blobs which it never stored. Another that came upon them at the same time must store
/// them itself: it once took them for stored, and named what was not there.
#[test]
fn nobody_relies_on_what_a_failed_writer_claimed() {
    let store = Arc::new(MemoryStore::default());
    let repository = Repository::create(store.clone(), &password(), None, None).expect("made");
    let lock = Lock::take(&repository, Access::Shared).expect("free");
    let failing = Writer::new(&repository, 1, &Arc::default()).expect("threads");
    let other = Writer::new(&repository, 1, &Arc::default()).expect("threads");
    let id = failing.save(BlobKind::Data, b"the same").expect("claimed");
    other.save(BlobKind::Data, b"the same").expect("claimed");
    drop(failing);
    other.finish(&lock).expect("stored");
    let again = Repository::open(store, &password(), None).expect("opened");
    assert_eq!(again.blob(BlobKind::Data, &id).expect("there"), b"the same");
}
