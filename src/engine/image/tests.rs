//! Images backed up, changed, backed up again, restored and read at random.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use uuid::Uuid;

use super::reader::Image;
use super::*;
use crate::engine::backup::block::{BlockSource, Changed, ReadAt, block};
use crate::engine::backup::{BackupReport, Request};
use crate::engine::restore::block::{BlockTarget, Holds};
use crate::engine::{
    Access, Backup, BlobKind, EngineError, Kind, Lock, Manifest, Password, Progress, Repository,
    SnapshotIdentity, VolumeIdentity, Writer, restore,
};
use crate::store::MemoryStore;

const CHUNK: u32 = 64 << 10;

/// An image in memory that notes what was read of it.
struct Disk {
    bytes: Vec<u8>,
    read: Mutex<u64>,
    /// A byte that cannot be read.
    bad: Option<u64>,
}

impl ReadAt for Disk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        let range = offset..offset + buffer.len() as u64;
        if self.bad.is_some_and(|bad| range.contains(&bad)) {
            return Err(std::io::Error::from_raw_os_error(nix::libc::EIO));
        }
        *self.read.lock().expect("no panic") += buffer.len() as u64;
        buffer.copy_from_slice(&self.bytes[offset as usize..range.end as usize]);
        Ok(())
    }
}

impl Disk {
    fn new(size: u64) -> Self {
        Self {
            bytes: vec![0; size as usize],
            read: Mutex::default(),
            bad: None,
        }
    }

    fn fill(&mut self, range: Range<u64>, seed: u64) {
        let mut state = seed | 1;
        for byte in &mut self.bytes[range.start as usize..range.end as usize] {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
    }

    fn take_read(&self) -> u64 {
        std::mem::take(&mut *self.read.lock().expect("no panic"))
    }
}

fn repository() -> Repository {
    let password = Password::new("correct horse".to_owned()).expect("not empty");
    Repository::create(Arc::new(MemoryStore::default()), &password, None, None).expect("made")
}

fn request(size: u64, snapshot: u128) -> Request {
    let time = "2026-11-20T08:00:00Z".parse().expect("a time");
    Request {
        manifest: Manifest {
            version: Manifest::VERSION,
            kind: Kind::Block,
            driver: "devicemapper".to_owned(),
            size,
            chunk_bytes: Some(CHUNK),
            filesystem: Some("ext4".to_owned()),
            volume: VolumeIdentity {
                id: Uuid::from_u128(1),
                name: "pgdata".to_owned(),
                created: time,
                options: Default::default(),
            },
            snapshot: SnapshotIdentity {
                id: Uuid::from_u128(snapshot),
                name: format!("s{snapshot}"),
                created: time,
                consistency: "point-in-time".to_owned(),
            },
        },
        hostname: "alpha".to_owned(),
        level: 1,
        adopts: true,
        only_if_changed: false,
    }
}

/// Backs the disk up as `snapshot`; `since` names what changed, and since when.
fn back_up(
    repository: &Repository,
    disk: &Disk,
    snapshot: u128,
    since: Option<(u128, Vec<Range<u64>>)>,
) -> BackupReport {
    let source = BlockSource {
        bytes: disk,
        path: "disk".into(),
        size: disk.bytes.len() as u64,
        mapped: None,
        changed: since.map(|(since, ranges)| Changed {
            since: Uuid::from_u128(since),
            ranges,
        }),
    };
    block(
        repository,
        &request(source.size, snapshot),
        &source,
        &Arc::default(),
    )
    .expect("backed up")
}

fn restored(repository: &Repository, backup: &Backup, file: &File, holds: Holds) -> (Vec<u8>, u64) {
    let target = BlockTarget {
        file,
        path: Path::new("target"),
        holds,
    };
    let report = restore::block::block(repository, backup, &target, &Arc::default()).expect("restored");
    let mut bytes = Vec::new();
    use std::io::Seek;
    let mut file = file.try_clone().expect("a handle");
    file.rewind().expect("at the start");
    file.read_to_end(&mut bytes).expect("readable");
    (bytes, report.written_bytes)
}

fn sparse(size: u64) -> File {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(size).expect("sparse");
    file
}

#[test]
fn an_image_comes_back_with_its_holes() {
    let repository = repository();
    let size = 3 * SEGMENT + 12_345;
    let mut disk = Disk::new(size);
    disk.fill(1_000_000..3_000_000, 1);
    disk.fill(SEGMENT - 70_000..SEGMENT + 70_000, 2);
    disk.fill(size - 100..size, 3);
    let report = back_up(&repository, &disk, 1, None);
    assert_eq!(disk.take_read(), size);
    let file = sparse(size);
    let (bytes, written) = restored(&repository, &report.backup, &file, Holds::Zeros);
    assert!(bytes == disk.bytes);
    assert!(written < 3 << 20, "zeros are not written: {written}");
    assert!(
        file.metadata().expect("metadata").blocks() * 512 < 4 << 20,
        "holes stay holes"
    );

    let dirty = sparse(size);
    std::os::unix::fs::FileExt::write_all_at(&dirty, &vec![0xff; 8 << 20], SEGMENT).expect("written");
    let (bytes, _) = restored(&repository, &report.backup, &dirty, Holds::Anything);
    assert!(bytes == disk.bytes, "what was there is gone");
}

#[test]
fn an_incremental_backup_reads_and_stores_what_changed() {
    let repository = repository();
    let size = 200 * SEGMENT;
    // Sparse in memory too: the pages of zeros are never touched.
    let mut disk = Disk::new(size);
    disk.fill(0..4 << 20, 1);
    disk.fill(150 * SEGMENT..150 * SEGMENT + (2 << 20), 2);
    let mapped = BlockSource {
        bytes: &disk,
        path: "disk".into(),
        size,
        mapped: Some(vec![0..4 << 20, 150 * SEGMENT..150 * SEGMENT + (2 << 20)]),
        changed: None,
    };
    let first = block(&repository, &request(size, 1), &mapped, &Arc::default()).expect("backed up");
    assert_eq!(disk.take_read(), 6 << 20, "holes are not read");
    assert!(
        first.written.tree_blobs < 10,
        "segments of zeros are shared: {:?}",
        first.written
    );

    let edits = vec![
        100_000..100_010,
        77 * SEGMENT + 5..77 * SEGMENT + 6,
        150 * SEGMENT + (1 << 20)..150 * SEGMENT + (1 << 20) + 1,
    ];
    for (number, edit) in edits.iter().enumerate() {
        disk.fill(edit.clone(), 10 + number as u64);
        disk.bytes[edit.start as usize] ^= 0x55;
    }
    let second = back_up(&repository, &disk, 2, Some((1, edits.clone())));
    assert_eq!(disk.take_read(), 3 * u64::from(CHUNK));
    assert_eq!(second.written.data_blobs, 4, "three chunks, and the manifest");
    assert!(second.parent.is_some());
    // Three segments, two groups, data and the root.
    assert_eq!(second.written.tree_blobs, 7);

    let third = back_up(&repository, &disk, 3, Some((2, Vec::new())));
    assert_eq!(disk.take_read(), 0);
    assert_eq!(
        (third.written.data_blobs, third.written.tree_blobs),
        (1, 1),
        "the manifest and the root"
    );

    for (backup, edited) in [
        (&second.backup, true),
        (&third.backup, true),
        (&first.backup, false),
    ] {
        let image = Image::open(&repository, backup).expect("opened");
        for at in [90_000, 77 * SEGMENT, 150 * SEGMENT + (1 << 20) - 5] {
            let mut found = vec![0; 100_000];
            image.read_at(&mut found, at).expect("read");
            assert_eq!(
                found == disk.bytes[at as usize..at as usize + found.len()],
                edited,
                "{at}"
            );
        }
    }
}

#[test]
fn a_snapshot_that_is_not_backed_up_is_nothing_to_build_on() {
    let repository = repository();
    let mut disk = Disk::new(1 << 20);
    disk.fill(0..1 << 20, 1);
    back_up(&repository, &disk, 1, None);
    disk.take_read();
    disk.fill(0..100, 2);
    let report = back_up(&repository, &disk, 3, Some((2, Vec::new())));
    assert_eq!(disk.take_read(), 1 << 20, "everything is read");
    let (bytes, _) = restored(&repository, &report.backup, &sparse(1 << 20), Holds::Zeros);
    assert!(bytes == disk.bytes);
}

#[test]
fn a_read_error_fails_the_backup_and_leaves_no_backup() {
    let repository = repository();
    let mut disk = Disk::new(8 << 20);
    disk.fill(0..8 << 20, 1);
    disk.bad = Some(5_000_000);
    let source = BlockSource {
        bytes: &disk,
        path: "/dev/mapper/thin".into(),
        size: 8 << 20,
        mapped: None,
        changed: None,
    };
    let error =
        block(&repository, &request(8 << 20, 1), &source, &Arc::default()).expect_err("it cannot be read");
    assert!(
        matches!(&error, EngineError::Source { path, .. } if path.ends_with("thin")),
        "{error}"
    );
    assert_eq!(repository.backups().expect("listed"), []);
    assert_eq!(repository.store().list("locks").expect("listed"), []);
}

#[test]
fn a_cancelled_backup_ends_soon_and_leaves_no_backup() {
    let repository = repository();
    let mut disk = Disk::new(8 << 20);
    disk.fill(0..8 << 20, 1);
    let progress = Arc::new(Progress::default());
    progress.cancel();
    let source = BlockSource {
        bytes: &disk,
        path: "disk".into(),
        size: 8 << 20,
        mapped: None,
        changed: None,
    };
    let error = block(&repository, &request(8 << 20, 1), &source, &progress).expect_err("cancelled");
    assert!(matches!(error, EngineError::Cancelled), "{error}");
    assert_eq!(repository.backups().expect("listed"), []);
}

#[test]
fn a_target_that_is_too_small_is_refused_untouched() {
    let repository = repository();
    let report = back_up(&repository, &Disk::new(1 << 20), 1, None);
    let file = sparse((1 << 20) - 1);
    let target = BlockTarget {
        file: &file,
        path: Path::new("/dev/small"),
        holds: Holds::Zeros,
    };
    let error =
        restore::block::block(&repository, &report.backup, &target, &Arc::default()).expect_err("too small");
    assert!(
        error
            .to_string()
            .contains("/dev/small has 1048575 bytes, and the backup needs 1048576"),
        "{error}"
    );
}

/// Nobody but a test once took over what an interrupted backup had sent.
#[test]
fn a_first_backup_that_was_interrupted_and_is_run_again_sends_only_what_is_missing() {
    let repository = repository();
    let mut disk = Disk::new(64 * u64::from(CHUNK));
    disk.fill(0..disk.bytes.len() as u64, 1);
    let sent = back_up(&repository, &disk, 1, None).written;
    // As if it had died before it wrote the index.
    let store = repository.store().clone();
    for directory in ["snapshots", "index"] {
        for object in store.list(directory).expect("listed") {
            store.delete(&object.path).expect("deleted");
        }
    }
    let fresh = repository.reopened(store.clone()).expect("opened");
    let again = back_up(&fresh, &disk, 1, None);
    assert!(sent.data_blobs >= 64, "{sent:?}");
    assert_eq!((again.written.packs, again.written.data_blobs), (0, 0));
    let backup = fresh.backup(&again.backup.id).expect("listed");
    let image = Image::open(&fresh, &backup).expect("opened");
    let mut bytes = vec![0; disk.bytes.len()];
    image.read_at(&mut bytes, 0).expect("readable");
    assert!(bytes == disk.bytes, "other bytes");
}

/// The short chunk of an image's end, named at its beginning as well. Once it was kept, its length was not looked at again.
#[test]
fn a_chunk_that_is_right_at_the_end_is_damage_elsewhere() {
    let repository = repository();
    let lock = Lock::take(&repository, Access::Shared).expect("free");
    let writer = Writer::new(&repository, 1, &Arc::default()).expect("threads");
    let save = |kind, bytes: &[u8]| writer.save(kind, bytes).expect("saved");
    let last = save(BlobKind::Data, b"the end");
    let size = u64::from(CHUNK) + 7;
    let segment = save(BlobKind::Tree, &segment::write_segment(size, &[last, last]));
    let group = save(BlobKind::Tree, &segment::write_group(&[segment]));
    let data = save(BlobKind::Tree, &segment::write_data(&[group]));
    let tree = save(BlobKind::Tree, &segment::write_root(&data, 7, &last));
    writer.finish(&lock).expect("stored");
    let record = serde_json::json!({
        "time": "2026-11-20T08:00:00Z", "tree": tree, "windlass": request(size, 1).manifest
    });
    let backup = Backup {
        id: tree,
        record: serde_json::from_value(record).expect("a record"),
    };
    let image = Image::open(&repository, &backup).expect("opened");
    let mut buffer = [0; 7];
    image
        .read_at(&mut buffer, CHUNK.into())
        .expect("it is right there");
    assert_eq!(&buffer, b"the end");
    let error = image.read_at(&mut buffer, 0).expect_err("it is too short");
    assert!(matches!(error, EngineError::Corrupt { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5))]

    /// Generations of edits, with and without known ranges, growing; every one comes back, fresh or over another.
    #[test]
    fn every_generation_comes_back(
        start in 1_u64..SEGMENT + SEGMENT / 2,
        steps in proptest::collection::vec((proptest::collection::vec((0_u64..1000, 1_u64..200_000, any::<bool>()), 0..6), any::<bool>(), 0_u64..100_000), 1..5),
    ) {
        let repository = repository();
        let mut disk = Disk::new(start);
        let mut generations = Vec::new();
        for (number, (edits, known, growth)) in steps.into_iter().enumerate() {
            let size = disk.bytes.len() as u64 + growth;
            disk.bytes.resize(size as usize, 0);
            let mut ranges = Vec::new();
            for (at, length, zeros) in edits {
                let begin = at * size / 1000;
                let range = begin..(begin + length).min(size);
                if zeros { disk.bytes[begin as usize..range.end as usize].fill(0) } else { disk.fill(range.clone(), at + number as u64 * 1000) }
                ranges.push(range);
            }
            let since = (known && number > 0).then_some((number as u128, ranges));
            let report = back_up(&repository, &disk, number as u128 + 1, since);
            generations.push((report.backup, disk.bytes.clone()));
        }
        let last = generations.last().expect("one at least").1.len() as u64;
        let over = sparse(last);
        for (backup, bytes) in &generations {
            let (fresh, _) = restored(&repository, backup, &sparse(bytes.len() as u64), Holds::Zeros);
            prop_assert!(&fresh == bytes);
            let (delta, _) = restored(&repository, backup, &over, Holds::Similar);
            prop_assert!(delta[..bytes.len()] == bytes[..]);
        }
    }
}

#[test]
fn an_image_is_cut_without_gap_or_overlap() {
    for (size, chunk) in [
        (0, 4096),
        (1, 4096),
        (SEGMENT, 65_536),
        (SEGMENT * 129 + 4097, 1 << 20),
        (5 * SEGMENT - 1, 262_144),
    ] {
        let layout = Layout::new(size, chunk).expect("valid");
        let mut at = 0;
        for segment in 0..layout.segments() {
            for number in 0..layout.chunks_in(segment) {
                let range = layout.chunk(segment, number);
                assert_eq!(range.start, at);
                assert!(range.end > at && range.end - at <= u64::from(chunk));
                at = range.end;
            }
        }
        assert_eq!(at, size);
    }
    for (size, chunk) in [
        (1, 0),
        (1, 5000),
        (1, 2048),
        (1, 16 << 20),
        (MOST_BYTES + 1, 65_536),
    ] {
        assert!(Layout::new(size, chunk).is_err(), "{size} {chunk}");
    }
}

#[test]
fn zeros_are_told_from_anything_else() {
    for length in [0, 1, 63, 64, 65, 4096, 70_001] {
        let mut bytes = vec![0; length];
        assert!(is_zero(&bytes));
        for at in [0, length / 2, length.saturating_sub(1)] {
            if at < length {
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "{at} of {length}");
                bytes[at] = 0;
            }
        }
    }
}
