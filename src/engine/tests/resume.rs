//! Backups with a parent that were interrupted, and run again: what arrived at the destination is not sent once more.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::sample::{fork, new_repository, noise, verified};
use crate::engine::backup::block::{BlockSource, Changed, ReadAt, block};
use crate::engine::backup::{BackupReport, Request};
use crate::engine::prune::prune;
use crate::engine::tests::maintenance::thorough;
use crate::engine::*;
use crate::store::faulty::{Fault, Faulty, Plan};
use crate::store::{MemoryStore, Store};

const KIB: u64 = 1 << 10;
const SIZE: u64 = 3072 * KIB;
/// What changes after the first backup: eight packs' worth.
const CHANGED: Range<u64> = 512 * KIB..2560 * KIB;
/// What packs that were cut off make more of: their ends, and trees of segments.
const SLACK: u64 = 16 * KIB;

/// A disk, and what happens when it is read beyond a place.
struct Disk<'a> {
    bytes: Vec<u8>,
    at: u64,
    happens: &'a (dyn Fn() + Sync),
}

impl ReadAt for Disk<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset >= self.at {
            (self.happens)();
        }
        let at = offset as usize;
        buffer.copy_from_slice(&self.bytes[at..at + buffer.len()]);
        Ok(())
    }
}

fn disk() -> Disk<'static> {
    let mut bytes = vec![0; SIZE as usize];
    let changed = CHANGED.start as usize..CHANGED.end as usize;
    bytes[changed.clone()].copy_from_slice(&noise(9, changed.len()));
    Disk {
        bytes,
        at: SIZE,
        happens: &|| (),
    }
}

fn request(snapshot: u128) -> Request {
    let manifest = serde_json::json!({
        "version": 1, "kind": "block", "driver": "devicemapper", "size": SIZE, "chunk_bytes": 65536,
        "volume": {"id": uuid::Uuid::from_u128(7), "name": "v", "created": "2026-11-20T08:00:00Z", "options": {}},
        "snapshot": {
            "id": uuid::Uuid::from_u128(snapshot), "name": "s", "created": "2026-11-20T09:00:00Z",
            "consistency": "point-in-time",
        },
    });
    Request {
        manifest: serde_json::from_value(manifest).expect("a manifest"),
        hostname: "alpha".to_owned(),
        level: 1,
        adopts: true,
        only_if_changed: false,
    }
}

/// Backs up what changed since the backup of the snapshot before, the first time everything.
fn back_up(
    repository: &Repository,
    disk: &Disk<'_>,
    snapshot: u128,
    progress: &Arc<Progress>,
) -> Result<BackupReport> {
    let changed = Changed {
        since: uuid::Uuid::from_u128(snapshot - 1),
        ranges: vec![CHANGED],
    };
    let source = BlockSource {
        bytes: disk,
        path: "disk".into(),
        size: SIZE,
        mapped: Some(Vec::new()),
        changed: (snapshot > 1).then_some(changed),
    };
    block(repository, &request(snapshot), &source, progress)
}

/// Bytes of packs.
fn packed(store: &MemoryStore) -> u64 {
    let packs = store.list("data").expect("listed");
    packs.iter().map(|pack| pack.size).sum()
}

/// A repository with the first backup, and what the second adds to it when nothing interrupts it.
fn with_parent() -> (Arc<MemoryStore>, Repository, u64) {
    super::writer::with_packs_of(256 << 10);
    let store = Arc::new(MemoryStore::default());
    let repository = new_repository(&store);
    back_up(&repository, &disk(), 1, &Arc::default()).expect("the first");
    let other = fork(&store);
    let fresh = repository.reopened(other.clone()).expect("opened");
    let report = back_up(&fresh, &disk(), 2, &Arc::default()).expect("the second");
    assert!(report.parent.is_some());
    let added = packed(&other) - packed(&store);
    assert!(added > 2000 * KIB, "noise does not compress: {added}");
    (store, repository, added)
}

/// The second backup run again by a new process of the same host: all is well, and so much was sent for both together.
fn run_again(store: &Arc<MemoryStore>, repository: &Repository, cache: &Path, what: &str) {
    let fresh = repository
        .reopened_with(store.clone(), Some(cache))
        .expect("opened");
    back_up(&fresh, &disk(), 2, &Arc::default()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        !is_noted(&fresh, cache),
        "{what}: the next one looks for no packs"
    );
    let verdict = verified(&fresh);
    assert_eq!((verdict.problems, verdict.unindexed_packs), (vec![], 0), "{what}");
}

fn is_noted(repository: &Repository, cache: &Path) -> bool {
    let of_this = cache.join(repository.config().id.to_string());
    of_this.join("unfinished").exists()
}

#[test]
fn a_backup_with_a_parent_that_dies_at_any_call_and_is_run_again_sends_only_what_is_missing() {
    let (sound, repository, added) = with_parent();
    let before = packed(&sound);
    let mut arrived_before = 0;
    // Every second call, before and after it: which call is which depends on the threads anyway.
    for at in (1..).step_by(2) {
        let mut survived = false;
        for death in [Fault::Die, Fault::DieAfter] {
            let what = format!("call {at}, {death:?}");
            let (store, cache) = (fork(&sound), tempfile::tempdir().expect("a directory"));
            let dying = Arc::new(Faulty::new(store.clone(), Plan::new(at, death)));
            let outcome = repository
                .reopened_with(dying.clone(), Some(cache.path()))
                .and_then(|repository| back_up(&repository, &disk(), 2, &Arc::default()));
            if !dying.has_struck() {
                outcome.expect("nothing went wrong");
                survived = true;
            }
            arrived_before = arrived_before.max(packed(&store) - before);
            run_again(&store, &repository, cache.path(), &what);
            let sent = packed(&store) - before;
            assert!(
                sent <= added + SLACK,
                "{what}: {sent} bytes were sent for {added}"
            );
        }
        if survived {
            break;
        }
    }
    assert!(arrived_before > 2000 * KIB, "some died late: {arrived_before}");
}

#[test]
fn a_cancelled_backup_with_a_parent_is_gone_on_with_by_another() {
    let (store, repository, added) = with_parent();
    let before = packed(&store);
    let cache = tempfile::tempdir().expect("a directory");
    let progress = Arc::<Progress>::default();
    // One thread reads the second half, and another has the first one stored meanwhile.
    let cancelled = Disk {
        at: CHANGED.start + 1024 * KIB,
        happens: &|| {
            while packed(&store) < before + 300 * KIB {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            progress.cancel();
        },
        ..disk()
    };
    let first = repository
        .reopened_with(store.clone(), Some(cache.path()))
        .expect("opened");
    let outcome = back_up(&first, &cancelled, 2, &progress);
    assert!(matches!(outcome, Err(EngineError::Cancelled)), "{outcome:?}");
    assert!(is_noted(&first, cache.path()));
    assert!(packed(&store) >= before + 300 * KIB, "something had arrived");
    assert_eq!(first.backups().expect("listed").len(), 1);
    run_again(&store, &repository, cache.path(), "cancelled");
    let sent = packed(&store) - before;
    assert!(sent <= added + SLACK, "{sent} bytes were sent for {added}");
}

/// Leaves the packs of a second backup in no index, and the note that there are such.
fn interrupt(store: &Arc<MemoryStore>, repository: &Repository, cache: &Path) {
    let index = Plan::new(1, Fault::Die)
        .on(crate::store::counting::Verb::Put)
        .below("index/");
    let dying = Arc::new(Faulty::new(store.clone(), index));
    let first = repository
        .reopened_with(dying.clone(), Some(cache))
        .expect("opened");
    back_up(&first, &disk(), 2, &Arc::default()).expect_err("it died before its index");
    assert!(dying.has_struck());
    lock::remove_stale(&repository.reopened(store.clone()).expect("opened"), true).expect("removed");
}

/// A prune deletes packs that no index names. One whose host sleeps in the middle of that, so long that its lock is ignored,
/// may send the rest of the deletions when it wakes up.
#[test]
fn what_a_sleeping_prune_may_be_deleting_is_not_taken_over() {
    let (store, repository, added) = with_parent();
    let cache = tempfile::tempdir().expect("a directory");
    let before = packed(&store);
    interrupt(&store, &repository, cache.path());
    let left = packed(&store) - before;
    assert!(left > 2000 * KIB);
    let sleeping = serde_json::json!({
        "time": now() - jiff::SignedDuration::from_mins(40), "exclusive": true, "hostname": "elsewhere", "pid": 1,
    });
    repository
        .write_file("locks", sleeping.to_string().as_bytes())
        .expect("written");
    let fresh = repository
        .reopened_with(store.clone(), Some(cache.path()))
        .expect("opened");
    back_up(&fresh, &disk(), 2, &Arc::default()).expect("the stale lock goes");
    assert!(packed(&store) - before >= left + added - SLACK, "all was sent");
    assert_eq!(verified(&fresh).problem_count, 0);
    prune(&fresh, &thorough(), &Arc::default()).expect("pruned");
    assert!(
        packed(&store) - before <= added + SLACK,
        "what was left went with a prune"
    );
    assert_eq!(verified(&fresh).problem_count, 0);
}

#[test]
fn a_backup_whose_taken_over_packs_are_deleted_meanwhile_is_not_finished() {
    let (store, repository, _) = with_parent();
    let cache = tempfile::tempdir().expect("a directory");
    let known = store.list("data").expect("listed");
    interrupt(&store, &repository, cache.path());
    let packs = store.list("data").expect("listed");
    let orphan = packs.into_iter().find(|pack| !known.contains(pack));
    let orphan = orphan.expect("it left packs").path;
    let deleting = Disk {
        at: 0,
        happens: &|| store.delete(&orphan).expect("memory"),
        ..disk()
    };
    let fresh = repository
        .reopened_with(store.clone(), Some(cache.path()))
        .expect("opened");
    let error = back_up(&fresh, &deleting, 2, &Arc::default()).expect_err("a pack is gone");
    let said = error.to_string();
    assert!(said.contains(&orphan) && said.contains("repair"), "{said}");
    assert_eq!(fresh.backups().expect("listed").len(), 1);
    repair::rebuild_index(&fresh, &Progress::default()).expect("repaired");
    run_again(&store, &repository, cache.path(), "after the repair");
}

/// Its packs are taken back when it fails: they must not have become somebody's.
#[test]
fn where_packs_are_taken_back_they_are_taken_over_only_while_nobody_is_at_work() {
    let (store, repository, _) = with_parent();
    let cache = tempfile::tempdir().expect("a directory");
    let packs = store.list("data").expect("listed").len() as u64;
    interrupt(&store, &repository, cache.path());
    let left = store.list("data").expect("listed").len() as u64 - packs;
    let open = || {
        repository
            .reopened_with(store.clone(), Some(cache.path()))
            .expect("opened")
    };
    let somebody = Lock::take(&repository, Access::Shared).expect("free");
    let adopt = || repair::begin_uploads_alone(&open(), &Progress::default()).expect("looked");
    assert_eq!(adopt().packs, 0, "they may be somebody's");
    drop(somebody);
    assert_eq!(adopt().packs, left);
    repair::end_uploads(&open());
    assert_eq!(adopt().packs, 0);
}

#[test]
fn a_copy_that_was_interrupted_goes_on() {
    let (here, from, _) = with_parent();
    let second = back_up(&from, &disk(), 2, &Arc::default()).expect("the second");
    assert!(packed(&here) > 2000 * KIB);
    let first = from.backups().expect("listed").remove(0).id;
    let there = Arc::new(MemoryStore::default());
    let to = new_repository(&there);
    let cache = tempfile::tempdir().expect("a directory");
    copy::copy(&from, &to, &[first], &Arc::default()).expect("copied");
    let before = packed(&there);
    for snapshots in [0, 1] {
        let plan = Plan::new(1, Fault::Die).on(crate::store::counting::Verb::Put);
        let store: Arc<dyn Store> = match snapshots {
            0 => Arc::new(Faulty::new(there.clone(), plan.below("index/"))),
            _ => there.clone(),
        };
        let to = to.reopened_with(store, Some(cache.path())).expect("opened");
        let outcome = copy::copy(&from, &to, &[second.backup.id], &Arc::default());
        assert_eq!(outcome.is_ok(), snapshots == 1, "{outcome:?}");
        lock::remove_stale(&to.reopened(there.clone()).expect("opened"), true).expect("removed");
    }
    let sent = packed(&there) - before;
    assert!(sent < 2200 * KIB, "{sent}");
    let fresh = to.reopened(there).expect("opened");
    assert_eq!(verified(&fresh).problem_count, 0);
}
