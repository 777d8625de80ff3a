//! The records keep what they were given, across a reopening, and refuse what they do not understand.

use super::*;
use crate::driver::{Purge, Remove};
use crate::model::{Name, OnRemove, VolumeId};

fn volume(name: &str) -> Volume {
    Volume {
        id: VolumeId::random(),
        name: Name::volume(name).expect("a valid name"),
        driver: "vfs".to_owned(),
        created: Time::now(),
        size: None,
        vm: false,
        options: Default::default(),
        policy: Default::default(),
        snapshots: Vec::new(),
        restoring: None,
        restored_from: None,
        began_as: None,
        private: Default::default(),
        later: Default::default(),
    }
}

#[test]
fn the_identity_and_settings_survive_a_reopening() {
    let root = tempfile::tempdir().expect("a directory");
    let first = State::open(root.path()).expect("opens");
    first.remember("vfs.store", "x").expect("remembers");
    first.remember("vfs.store", "y").expect("remembers");
    let id = first.id();
    drop(first);
    let second = State::open(root.path()).expect("opens again");
    assert_eq!(second.id(), id);
    assert_eq!(second.setting("vfs.store").expect("reads").as_deref(), Some("y"));
}

#[test]
fn an_intent_stays_until_its_end_is_recorded_and_both_come_together() {
    let root = tempfile::tempdir().expect("a directory");
    let state = State::open(root.path()).expect("opens");
    let volume = volume("pg");
    let now = Time::now();
    let remove = Remove {
        volume: volume.clone(),
        how: OnRemove::Trash,
        at: now,
        expires: now,
    };
    state.put(&volume).expect("put");
    let intent = state.begin("vfs", &Operation::Remove(remove)).expect("begin");
    drop(state);

    let state = State::open(root.path()).expect("opens again");
    let left = state.intents().expect("intents");
    assert_eq!(
        (left.len(), left[0].id, left[0].operation.word()),
        (1, intent, "remove")
    );
    assert_eq!(left[0].operation.volume(), &volume.name);
    state.finish(intent, Effect::Forget(volume)).expect("finish");
    assert!(state.intents().expect("intents").is_empty());
    assert!(state.volumes().expect("volumes").is_empty());
}

#[test]
fn fields_of_a_later_version_are_carried_along() {
    let root = tempfile::tempdir().expect("a directory");
    let state = State::open(root.path()).expect("opens");
    let mut volume = volume("pg");
    volume
        .later
        .insert("lease".to_owned(), serde_json::json!({"holder": "host-2"}));
    state.put(&volume).expect("put");
    assert_eq!(state.volumes().expect("volumes"), vec![volume]);
}

#[test]
fn holds_of_former_boots_are_forgotten_and_those_of_this_one_kept() {
    let root = tempfile::tempdir().expect("a directory");
    let state = State::open(root.path()).expect("opens");
    let mut hold = Hold {
        volume: VolumeId::random(),
        mount_id: "c1".to_owned(),
        count: 1,
        process: "p1".to_owned(),
        since: Time::now(),
    };
    state.put_hold("boot-1", &hold).expect("put");
    hold.count = 2;
    hold.process = "p2".to_owned();
    state.put_hold("boot-1", &hold).expect("put again");
    assert_eq!(state.holds("boot-1").expect("holds"), vec![hold.clone()]);
    assert!(state.holds("boot-2").expect("holds").is_empty());
    assert!(
        state.holds("boot-1").expect("holds").is_empty(),
        "boot-2 must have forgotten them for good"
    );
}

#[test]
fn a_database_of_a_later_version_is_refused_and_left_alone() {
    let root = tempfile::tempdir().expect("a directory");
    State::open(root.path()).expect("opens");
    let raw = Connection::open(root.path().join(FILE)).expect("raw");
    raw.pragma_update(None, "user_version", 99)
        .expect("a later format");
    let said = State::open(root.path()).err().expect("refused").to_string();
    assert!(said.contains("format 99"), "{said}");
    let found: i64 = raw
        .query_row("PRAGMA user_version", [], |r| r.get(0))
        .expect("format");
    assert_eq!(found, 99);
}

#[test]
fn replacing_one_driver_s_volumes_leaves_the_others() {
    let root = tempfile::tempdir().expect("a directory");
    let state = State::open(root.path()).expect("opens");
    let mut other = volume("thin");
    other.driver = "devicemapper".to_owned();
    state.put(&other).expect("put");
    state.put(&volume("a")).expect("put");
    state.replace_volumes("vfs", &[volume("b")]).expect("replace");
    let names: Vec<String> = state
        .volumes()
        .expect("volumes")
        .iter()
        .map(|v| v.name.to_string())
        .collect();
    assert_eq!(names, ["b", "thin"]);
    let purge = Purge {
        id: other.id,
        name: other.name.clone(),
    };
    let intent = state
        .begin("devicemapper", &Operation::Purge(purge))
        .expect("begin");
    state.finish(intent, Effect::None).expect("finish");
}
