//! What every store must do, as one suite that runs on each: memory, a directory, a real S3 server, all wrappers together.
//!
//! It is part of the library so that integration tests can run it. Each check gets a fresh, empty store from `make` and
//! panics with what is wrong.

use std::sync::{Arc, Barrier};

use bytes::Bytes;

use super::{Object, Store, StoreError};

/// What the store under test cannot do, so that its check is left out.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    /// Of many callers of `put_new` at once, exactly one gets the name.
    pub exclusive_put: bool,
    /// A reader sees the old object or the new one while it is replaced.
    pub atomic: bool,
    /// A directory is no longer named as soon as its last object is deleted.
    pub directories_go: bool,
    /// The size of a large object in bytes; large enough for the service to take it in parts.
    pub large_bytes: usize,
}

/// Runs all checks.
///
/// # Panics
/// Where the store is not what a store must be.
pub fn run(abilities: Abilities, make: &dyn Fn() -> Arc<dyn Store>) {
    objects_come_back_whole_and_in_part(&*make(), abilities.directories_go);
    what_is_not_there_is_said_to_be_missing(&*make());
    limits_and_ranges_are_exact(&*make());
    put_replaces_and_put_new_does_not(&*make());
    listings_have_everything_below_and_nothing_else(&*make(), abilities.directories_go);
    listings_of_many_objects_are_complete(&*make());
    names_with_odd_characters_are_kept(&*make());
    paths_that_are_none_are_refused(&*make());
    empty_and_large_objects_are_objects(&*make(), abilities.large_bytes);
    many_threads_do_not_mix_objects_up(&*make());
    if abilities.atomic {
        readers_see_the_old_or_the_new_never_a_mixture(&*make());
    }
    if abilities.exclusive_put {
        of_many_that_put_new_one_wins(&*make());
    }
}

/// Bytes that differ at every place, so that no mix-up of ranges goes unseen.
pub fn pattern(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

fn objects_come_back_whole_and_in_part(store: &dyn Store, directories_go: bool) {
    let bytes = pattern(1, 100_000);
    put(store, "data/3f/3fa9", &bytes);
    assert_eq!(get(store, "data/3f/3fa9"), bytes);
    for (offset, length) in [(0, 1), (0, 100_000), (1, 99_999), (50_000, 7), (99_999, 1)] {
        let part = store
            .get_range("data/3f/3fa9", offset, length)
            .unwrap_or_else(|error| panic!("{offset}+{length}: {error}"));
        assert_eq!(part, bytes.slice(offset as usize..(offset + length) as usize));
    }
    let stat = store.stat("data/3f/3fa9").expect("stat").expect("it is there");
    assert_eq!((stat.path.as_str(), stat.size), ("data/3f/3fa9", 100_000));
    if let Some(modified) = stat.modified {
        assert!(
            modified > 1_700_000_000,
            "seconds since 1970 are expected: {modified}"
        );
    }
    store.delete("data/3f/3fa9").expect("deleted");
    assert_eq!(store.stat("data/3f/3fa9").expect("stat"), None);
    assert_eq!(store.list("").expect("list"), []);
    if directories_go {
        assert_eq!(store.directories("").expect("directories"), [""; 0]);
    }
}

fn what_is_not_there_is_said_to_be_missing(store: &dyn Store) {
    put(store, "there/x", b"x");
    for absent in ["absent", "no/such/object", "there/y", "there/xx"] {
        assert_eq!(store.stat(absent).expect("stat"), None, "{absent}");
        let error = store.get(absent, 10).expect_err("absent");
        assert!(
            matches!(&error, StoreError::NotFound { path, .. } if path == absent),
            "{error:?}"
        );
        let error = store.get_range(absent, 0, 1).expect_err("absent");
        assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
        store.delete(absent).expect("what is not there counts as deleted");
    }
    // A directory is no object.
    assert_eq!(store.stat("there").expect("stat"), None);
    assert_eq!(store.list("absent").expect("an absent directory is empty"), []);
    assert_eq!(store.directories("absent").expect("empty"), [""; 0]);
    assert_eq!(get(store, "there/x"), "x");
}

fn limits_and_ranges_are_exact(store: &dyn Store) {
    put(store, "ten", b"0123456789");
    assert_eq!(store.get("ten", 10).expect("just fits").len(), 10);
    for limit in [0, 9] {
        let error = store.get("ten", limit).expect_err("too large");
        assert!(
            matches!(&error, StoreError::TooLarge { limit: l, size, .. } if *l == limit && *size > limit),
            "{error:?}"
        );
    }
    assert_eq!(store.get_range("ten", 3, 0).expect("nothing asked").len(), 0);
    for (offset, length) in [(0, 11), (9, 2), (10, 1), (11, 1), (1 << 40, 1), (u64::MAX, 2)] {
        let error = store.get_range("ten", offset, length).expect_err("too short");
        assert!(
            matches!(error, StoreError::TooShort { .. }),
            "{offset}+{length}: {error:?}"
        );
    }
}

fn put_replaces_and_put_new_does_not(store: &dyn Store) {
    put(store, "a", b"one");
    put(store, "a", b"second");
    assert_eq!(get(store, "a"), "second");
    let error = store
        .put_new("a", Bytes::from_static(b"third"))
        .expect_err("it is taken");
    assert!(
        matches!(&error, StoreError::AlreadyExists { path, .. } if path == "a"),
        "{error:?}"
    );
    assert_eq!(get(store, "a"), "second");
    store.put_new("b/c", Bytes::from_static(b"new")).expect("free");
    assert_eq!(get(store, "b/c"), "new");
    assert_eq!(paths(&store.list("").expect("list")), ["a", "b/c"]);
}

fn listings_have_everything_below_and_nothing_else(store: &dyn Store, directories_go: bool) {
    let all = [
        "config",
        "data/00/aa",
        "data/00/ab",
        "data/ff/zz",
        "data-old/x",
        "index/1",
        "keys/k",
    ];
    for path in all {
        put(store, path, path.as_bytes());
    }
    let listed = |below: &str| store.list(below).expect("list");
    assert_eq!(paths(&listed("")), {
        let mut sorted = all;
        sorted.sort_unstable();
        sorted
    });
    assert_eq!(paths(&listed("data")), &all[1..4], "not data-old");
    assert_eq!(paths(&listed("data/00")), &all[1..3]);
    assert_eq!(paths(&listed("dat")), [""; 0], "half a name is no directory");
    for object in listed("") {
        assert_eq!(object.size, object.path.len() as u64, "{}", object.path);
    }
    let directories = |below: &str| store.directories(below).expect("directories");
    assert_eq!(directories(""), ["data", "data-old", "index", "keys"]);
    assert_eq!(directories("data"), ["00", "ff"]);
    assert_eq!(directories("data/00"), [""; 0]);
    store.delete("keys/k").expect("deleted");
    if directories_go {
        assert_eq!(directories(""), ["data", "data-old", "index"]);
    }
}

/// More than a page of any service's listing.
fn listings_of_many_objects_are_complete(store: &dyn Store) {
    const COUNT: usize = 1201;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for n in (thread..COUNT).step_by(8) {
                    put(store, &format!("data/{:02x}/{n:05}", n % 5), b"x");
                    if n % 100 == 0 {
                        put(store, &format!("many/{n:05}/x"), b"x");
                    }
                }
            });
        }
    });
    let listed = store.list("data").expect("list");
    assert_eq!(listed.len(), COUNT);
    assert!(
        listed.windows(2).all(|pair| pair[0].path < pair[1].path),
        "in order, and none twice"
    );
    assert_eq!(store.directories("data").expect("directories").len(), 5);
    assert_eq!(store.directories("many").expect("directories").len(), 13);
}

fn names_with_odd_characters_are_kept(store: &dyn Store) {
    let names = [
        "a b",
        "percent%20",
        "plus+plus",
        "ümlaut",
        "q?u&e=ry#f",
        "..dots..",
        "'quote\"",
        "(p)~!*@$,;:",
        "日本",
    ];
    for name in names {
        put(store, &format!("odd/{name}/{name}"), name.as_bytes());
    }
    for name in names {
        let path = format!("odd/{name}/{name}");
        assert_eq!(get(store, &path), name, "{name}");
        assert_eq!(
            store.stat(&path).expect("stat").map(|o| o.path),
            Some(path.clone())
        );
        assert_eq!(paths(&store.list(&format!("odd/{name}")).expect("list")), [path]);
    }
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(store.directories("odd").expect("directories"), sorted);
    for name in names {
        store.delete(&format!("odd/{name}/{name}")).expect("deleted");
    }
    assert_eq!(store.list("").expect("list"), []);
}

fn paths_that_are_none_are_refused(store: &dyn Store) {
    for bad in ["", "/a", "a/", "a//b", "../a", "a/..", "./a", "a\0"] {
        let x = || Bytes::from_static(b"x");
        let refused: [Option<StoreError>; 6] = [
            store.put(bad, x()).err(),
            store.put_new(bad, x()).err(),
            store.get(bad, 1).err(),
            store.get_range(bad, 0, 1).err(),
            store.stat(bad).err(),
            store.delete(bad).err(),
        ];
        for error in refused {
            assert!(
                matches!(error, Some(StoreError::Invalid(_))),
                "{bad:?}: {error:?}"
            );
        }
        if !bad.is_empty() {
            assert!(
                matches!(store.list(bad), Err(StoreError::Invalid(_))),
                "{bad:?} was listed"
            );
            assert!(
                matches!(store.directories(bad), Err(StoreError::Invalid(_))),
                "{bad:?}"
            );
        }
    }
}

fn empty_and_large_objects_are_objects(store: &dyn Store, large: usize) {
    put(store, "empty", b"");
    assert_eq!(get(store, "empty"), "");
    assert_eq!(store.stat("empty").expect("stat").map(|o| o.size), Some(0));
    assert_eq!(store.get("empty", 0).expect("it fits").len(), 0);
    assert!(matches!(
        store.get_range("empty", 0, 1),
        Err(StoreError::TooShort { .. })
    ));
    let bytes = pattern(2, large);
    put(store, "large", &bytes);
    let back = store.get("large", large as u64).expect("it fits");
    assert!(back == bytes, "a large object came back otherwise");
    let (offset, length) = (large as u64 / 2 + 1, large as u64 / 3);
    let part = store.get_range("large", offset, length).expect("a part");
    assert!(part == bytes.slice(offset as usize..(offset + length) as usize));
    let new = pattern(3, large);
    store.delete("large").expect("deleted");
    store.put_new("large", new.clone()).expect("free");
    assert!(matches!(
        store.put_new("large", bytes),
        Err(StoreError::AlreadyExists { .. })
    ));
    assert!(store.get("large", large as u64).expect("it fits") == new);
}

fn many_threads_do_not_mix_objects_up(store: &dyn Store) {
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            scope.spawn(move || {
                for n in 0..12 {
                    let path = format!("data/{n:02}/{thread}");
                    let bytes = pattern(thread * 1000 + n, 10_000 + n as usize);
                    put(store, &path, &bytes);
                    assert!(get(store, &path) == bytes, "{path}");
                    if n % 3 == 0 {
                        store.delete(&path).expect("deleted");
                    }
                }
            });
        }
    });
    assert_eq!(store.list("data").expect("list").len(), 8 * 8);
}

fn readers_see_the_old_or_the_new_never_a_mixture(store: &dyn Store) {
    let versions: Vec<Bytes> = (0..2).map(|n| pattern(n, 300_000 + n as usize)).collect();
    put(store, "config", &versions[0]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..20 {
                put(store, "config", &versions[n % 2]);
            }
        });
        while !writer.is_finished() {
            let seen = get(store, "config");
            assert!(versions.contains(&seen), "a mixture of {} bytes", seen.len());
        }
    });
}

fn of_many_that_put_new_one_wins(store: &dyn Store) {
    for round in 0..5 {
        let path = format!("locks/{round}");
        let start = Barrier::new(8);
        let wins: Vec<usize> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|n| {
                    let (path, start) = (&path, &start);
                    scope.spawn(move || {
                        start.wait();
                        match store.put_new(path, pattern(n as u64, 20_000)) {
                            Ok(()) => Some(n),
                            Err(StoreError::AlreadyExists { .. }) => None,
                            Err(error) => panic!("racer {n}: {error}"),
                        }
                    })
                })
                .collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().expect("no panic"))
                .collect()
        });
        assert_eq!(wins.len(), 1, "round {round}");
        assert!(
            get(store, &path) == pattern(wins[0] as u64, 20_000),
            "the winner's bytes are there"
        );
    }
}

fn put(store: &dyn Store, path: &str, bytes: &[u8]) {
    store
        .put(path, Bytes::copy_from_slice(bytes))
        .unwrap_or_else(|error| panic!("put {path}: {error}"));
}

fn get(store: &dyn Store, path: &str) -> Bytes {
    store
        .get(path, 1 << 20)
        .unwrap_or_else(|error| panic!("get {path}: {error}"))
}

fn paths(objects: &[Object]) -> Vec<&str> {
    objects.iter().map(|object| object.path.as_str()).collect()
}
