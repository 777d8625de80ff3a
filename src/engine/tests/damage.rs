//! The damage matrix: each kind of object × each kind of damage. Verify names the object; what is read back is right or
//! an error, never wrong.

use std::sync::Arc;

use super::sample::*;
use crate::engine::*;
use crate::store::{MemoryStore, Store};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    Truncated,
    FirstBit,
    MiddleBit,
    LastBit,
    Missing,
    /// Another object's bytes.
    Swapped,
    Emptied,
}

const ALL: [Damage; 7] = [
    Damage::Truncated,
    Damage::FirstBit,
    Damage::MiddleBit,
    Damage::LastBit,
    Damage::Missing,
    Damage::Swapped,
    Damage::Emptied,
];

impl Damage {
    fn does(self, store: &MemoryStore, path: &str, other: &[u8]) {
        let mut bytes = store.get(path, u64::MAX).expect("there").to_vec();
        let (middle, last) = (bytes.len() / 2, bytes.len() - 1);
        match self {
            Self::Truncated => bytes.truncate(middle),
            Self::FirstBit => bytes[0] ^= 1,
            Self::MiddleBit => bytes[middle] ^= 0x40,
            Self::LastBit => bytes[last] ^= 0x80,
            Self::Missing => return store.delete(path).expect("memory"),
            Self::Swapped => bytes = other.to_vec(),
            Self::Emptied => bytes.clear(),
        }
        store.put(path, bytes.into()).expect("memory");
    }
}

struct Sound {
    store: Arc<MemoryStore>,
    repository: Repository,
    backups: Vec<(Id, Files)>,
}

impl Sound {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let repository = new_repository(&store);
        let backups = [files(0..12), files(6..18)]
            .into_iter()
            .map(|files| (backup(&repository, &files).expect("backed up"), files))
            .collect();
        Self {
            store,
            repository,
            backups,
        }
    }

    fn paths(&self, directory: &str) -> Vec<String> {
        let objects = self.store.list(directory).expect("listed");
        objects.into_iter().map(|object| object.path).collect()
    }

    /// Damages one object, says what verify says, and holds that no backup comes back wrong.
    fn damaged(&self, path: &str, other: &str, damage: Damage) -> Vec<verify::Problem> {
        let store = fork(&self.store);
        let other = store.get(other, u64::MAX).expect("there");
        damage.does(&store, path, &other);
        let fresh = self.repository.reopened(store).expect("opened");
        let verdict = verified(&fresh);
        for (id, files) in &self.backups {
            match restore(&fresh, id) {
                Ok(back) => assert!(back == *files, "{path} {damage:?}: wrong bytes"),
                Err(error) => assert!(error.to_string().len() > 20, "{error}"),
            }
        }
        verdict.problems
    }
}

/// For objects that are named by what is in them: all but the config.
fn every_damage_is_found(sound: &Sound, paths: &[String]) {
    for (number, path) in paths.iter().enumerate() {
        let other = &paths[(number + 1) % paths.len()];
        for damage in ALL {
            let problems = sound.damaged(path, other, damage);
            let named = problems.iter().any(|problem| problem.object == *path);
            // That a snapshot was deleted cannot be known; that an index file was tells by what is missing.
            match (damage, path.split('/').next()) {
                (Damage::Missing, Some("snapshots" | "keys" | "locks")) => {
                    assert_eq!(problems, [], "{path} {damage:?}");
                }
                (Damage::Missing, Some("index")) => {
                    assert!(
                        problems.iter().any(|problem| problem.why.contains("in no pack")),
                        "{problems:?}"
                    );
                }
                _ => assert!(named, "{path} {damage:?}: {problems:?}"),
            }
        }
    }
}

#[test]
fn every_damage_of_packs_index_and_snapshots_is_found() {
    let sound = Sound::new();
    assert_eq!(sound.paths("data").len(), 4, "two of data, two of trees");
    for directory in ["data", "index", "snapshots"] {
        every_damage_is_found(&sound, &sound.paths(directory));
    }
}

#[test]
fn every_damage_of_keys_is_found_and_named_when_it_locks_out() {
    let sound = Sound::new();
    let second = Password::new("battery staple".to_owned()).expect("not empty");
    sound.repository.add_key(&second).expect("added");
    let paths = sound.paths("keys");
    every_damage_is_found(&sound, &paths);
    for damage in ALL {
        let store = fork(&sound.store);
        for (path, other) in paths.iter().zip(paths.iter().rev()) {
            let other = store.get(other, u64::MAX).expect("there");
            damage.does(&store, path, &other);
            if damage == Damage::Missing {
                break;
            }
        }
        let (one, two) = (
            Repository::open(store.clone(), &super::password(), None),
            Repository::open(store.clone(), &second, None),
        );
        match damage {
            // One of the two is gone, and the other one opens.
            Damage::Missing => assert!(one.is_ok() != two.is_ok()),
            // The first has the second's bytes, or both have.
            Damage::Swapped => assert!(one.is_ok() || two.is_ok()),
            _ => {
                let why = one.expect_err("it is damaged").to_string();
                assert!(why.contains("keys/"), "{damage:?}: {why}");
            }
        }
    }
    let store = fork(&sound.store);
    paths.iter().for_each(|path| store.delete(path).expect("memory"));
    let fresh = sound.repository.reopened(store).expect("opened");
    assert_eq!(verified(&fresh).problems[0].object, "keys");
}

#[test]
fn every_damage_of_the_config_is_found() {
    let sound = Sound::new();
    let elsewhere = Arc::new(MemoryStore::default());
    new_repository(&elsewhere);
    let other = elsewhere.get("config", u64::MAX).expect("there");
    for damage in ALL {
        let store = fork(&sound.store);
        let open = sound.repository.reopened(store.clone()).expect("opened");
        damage.does(&store, "config", &other);
        let problems = verified(&open).problems;
        assert_eq!(problems[0].object, "config", "{damage:?}");
        let refused = Repository::open(store, &super::password(), None).expect_err("damaged");
        match damage {
            Damage::Missing => assert!(matches!(refused, EngineError::NoRepository { .. })),
            _ => assert!(refused.to_string().contains("config is damaged"), "{refused}"),
        }
    }
}

#[test]
fn a_damaged_lock_is_named_and_keeps_everybody_out_until_it_is_removed() {
    let sound = Sound::new();
    for host in ["beta", "gamma"] {
        let lock = serde_json::json!({ "time": now(), "exclusive": false, "hostname": host, "pid": 1 });
        sound
            .repository
            .write_file("locks", lock.to_string().as_bytes())
            .expect("written");
    }
    let paths = sound.paths("locks");
    every_damage_is_found(&sound, &paths);
    let store = fork(&sound.store);
    Damage::Emptied.does(&store, &paths[0], &[]);
    let fresh = sound.repository.reopened(store).expect("opened");
    let refused = backup(&fresh, &files(0..3)).expect_err("nobody can tell whose it is");
    let id = paths[0].trim_start_matches("locks/");
    assert!(
        refused.to_string().contains(id) && refused.to_string().contains("unlock --all"),
        "{refused}"
    );
    lock::remove_stale(&fresh, true).expect("removed");
    backup(&fresh, &files(0..3)).expect("free");
}
