//! What the conformance suite cannot see of a directory: durability's order aside, permissions, links, leftovers, full disks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::store::conformance::{self, Abilities};
use crate::sys::testing::{Kind, TestFs};

const ABILITIES: Abilities = Abilities {
    exclusive_put: true,
    atomic: true,
    directories_go: true,
    large_bytes: 20 << 20,
};

fn scratch() -> (tempfile::TempDir, DirectoryStore) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let store = DirectoryStore::open(dir.path()).expect("it opens");
    (dir, store)
}

fn conforms_in(parent: &Path) {
    let holder = tempfile::tempdir_in(parent).expect("a scratch directory");
    let number = std::cell::Cell::new(0);
    conformance::run(ABILITIES, &|| {
        number.set(number.get() + 1);
        let own = holder.path().join(number.get().to_string());
        fs::create_dir(&own).expect("a directory");
        Arc::new(DirectoryStore::open(&own).expect("it opens"))
    });
}

#[test]
fn a_directory_on_disk_conforms() {
    conforms_in(&std::env::temp_dir());
}

#[test]
fn a_directory_in_memory_conforms() {
    if Path::new("/dev/shm").is_dir() {
        conforms_in(Path::new("/dev/shm"));
    } else {
        println!("SKIPPED: there is no /dev/shm here");
    }
}

#[test]
fn an_absent_destination_is_an_error_and_not_empty() {
    let (dir, _) = scratch();
    let error = DirectoryStore::open(&dir.path().join("absent")).expect_err("absent");
    assert!(matches!(error, StoreError::Failed { .. }));
    assert!(error.to_string().contains("mount what belongs there"), "{error}");
    fs::write(dir.path().join("file"), "").expect("a file");
    DirectoryStore::open(&dir.path().join("file")).expect_err("a file is no directory");
}

#[test]
fn objects_and_directories_are_their_owner_s_alone() {
    let (dir, store) = scratch();
    store
        .put("keys/k", Bytes::from_static(b"secret"))
        .expect("written");
    let mode = |path: &str| {
        let meta = fs::metadata(dir.path().join(path)).expect("it is there");
        meta.permissions().mode() & 0o7777
    };
    assert_eq!((mode("keys"), mode("keys/k")), (0o700, 0o600));
}

#[test]
fn links_inside_are_not_followed_and_hide_nothing_silently() {
    let (dir, store) = scratch();
    let outside = tempfile::tempdir().expect("a scratch directory");
    fs::write(outside.path().join("secret"), "secret").expect("a file");
    symlink(outside.path(), dir.path().join("data")).expect("a link");
    symlink(outside.path().join("secret"), dir.path().join("config")).expect("a link");
    assert!(matches!(
        store.get("data/secret", 10),
        Err(StoreError::Failed { .. })
    ));
    assert!(matches!(store.get("config", 10), Err(StoreError::Failed { .. })));
    assert!(store.stat("config").is_err());
    assert!(store.put("data/new", Bytes::new()).is_err());
    let said = store.list("").expect_err("a link could hide objects").to_string();
    assert!(said.contains("links"), "{said}");
    assert!(store.directories("").is_err());
    // Replacing a link replaces the link.
    store
        .put("config", Bytes::from_static(b"own"))
        .expect("written over the link");
    store
        .delete("data")
        .expect("the link goes, what it leads to stays");
    assert_eq!(
        fs::read(outside.path().join("secret")).expect("untouched"),
        b"secret"
    );
    assert_eq!(store.list("").expect("strict no more").len(), 1);
}

#[test]
fn temporary_files_are_no_objects_and_go_when_they_are_old() {
    let (dir, store) = scratch();
    store.put("data/x", Bytes::from_static(b"x")).expect("written");
    let old = dir.path().join("data/.tmp-67e55044-10b1-426f-9247-bb680e5fe0c8");
    let young = dir.path().join("data/.tmp-67e55044-10b1-426f-9247-bb680e5fe0c9");
    for (path, hours) in [(&old, 25), (&young, 23)] {
        fs::write(path, "half").expect("a file");
        let file = fs::File::options().write(true).open(path).expect("it opens");
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600))
            .expect("a date");
    }
    assert_eq!(store.list("").expect("list").len(), 1);
    assert!(!old.exists(), "its writer is long dead");
    assert!(young.exists(), "its writer may live");
}

#[test]
fn a_name_that_is_no_text_is_an_error_that_names_it() {
    use std::os::unix::ffi::OsStrExt;
    let (dir, store) = scratch();
    let name = std::ffi::OsStr::from_bytes(b"bad\xff");
    fs::write(dir.path().join(name), "").expect("a file");
    assert!(store.list("").expect_err("strict").to_string().contains("bad"));
}

#[test]
fn what_cannot_be_read_fails_the_listing() {
    let (dir, store) = scratch();
    let closed = dir.path().join("data");
    store.put("data/x", Bytes::new()).expect("written");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
    // Root may read everything; a thread that touches files as nobody may not.
    let listed = std::thread::scope(|scope| {
        let lister = scope.spawn(|| {
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
            }
            store.list("")
        });
        lister.join().expect("no panic")
    });
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("opened");
    assert!(matches!(listed, Err(StoreError::Denied { .. })), "{listed:?}");
}

#[test]
fn a_directory_in_an_object_s_place_is_an_error() {
    let (dir, store) = scratch();
    fs::create_dir_all(dir.path().join("config/x")).expect("a directory");
    assert!(store.put("config", Bytes::new()).is_err());
    assert!(store.get("config", 1).is_err());
    fs::write(dir.path().join("file"), "").expect("a file");
    assert!(matches!(
        store.put("file/x", Bytes::new()),
        Err(StoreError::Failed { .. })
    ));
    assert_eq!(
        fs::read_dir(dir.path().join("config")).expect("read").count(),
        1,
        "and nothing is left behind"
    );
}

/// What the path leads to later is not the destination, e.g. when the filesystem is unmounted.
#[test]
fn the_store_stays_with_the_directory_that_it_opened() {
    let holder = tempfile::tempdir().expect("a scratch directory");
    let (path, moved) = (holder.path().join("d"), holder.path().join("moved"));
    fs::create_dir(&path).expect("a directory");
    let store = DirectoryStore::open(&path).expect("it opens");
    fs::rename(&path, &moved).expect("moved");
    fs::create_dir(&path).expect("another in its place");
    store.put("a/b", Bytes::from_static(b"x")).expect("written");
    assert!(moved.join("a/b").exists() && !path.join("a").exists());
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let Some(fs) = TestFs::with(Kind::Tmpfs, &[], "size=1m") else {
        return;
    };
    let store = DirectoryStore::open(&fs.path()).expect("it opens");
    store
        .put("kept", conformance::pattern(1, 100_000))
        .expect("there is room");
    let error = store
        .put("data/large", conformance::pattern(2, 2 << 20))
        .expect_err("full");
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains(&store.location()) && said.contains("free some space"),
        "{said}"
    );
    assert!(
        store
            .put_new("data/new", conformance::pattern(2, 2 << 20))
            .is_err()
    );
    // An object that was there stays what it was.
    assert!(store.put("kept", conformance::pattern(2, 2 << 20)).is_err());
    assert!(store.get("kept", 1 << 20).expect("kept") == conformance::pattern(1, 100_000));
    let left: Vec<String> = walk(&fs.path());
    assert_eq!(left, ["kept"]);
    store
        .put("data/small", conformance::pattern(3, 100_000))
        .expect("room again");
}

fn walk(dir: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(dir)
        .into_iter()
        .map(|entry| entry.expect("it can be walked"));
    entries
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
