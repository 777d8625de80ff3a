//! `/v1/snapshots` and `/v1/volumes/{volume}/snapshots`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Result, created, ok};
use crate::api::types::{CreateSnapshot, MountVolume, Mounted, Unmounted};
use crate::api::view;
use crate::model::{Name, SnapshotRef};
use crate::service::{Hooks, Service};

pub(super) async fn list(service: &Service, volume: &str) -> Result {
    let volume = service.inspect(volume).await?.volume;
    let list: BTreeMap<String, _> = volume
        .snapshots
        .iter()
        .map(|s| (s.name.to_string(), view::snapshot_entry(&volume, s)))
        .collect();
    ok(&list)
}

pub(super) async fn create(service: &Service, volume: &str, wish: CreateSnapshot) -> Result {
    let name = wish.name.as_deref().map(Name::snapshot).transpose()?;
    let hooks = match wish.no_hooks {
        true => Hooks::LeaveOut,
        false => Hooks::Run,
    };
    let taken = service.snapshot(volume, name, hooks).await?;
    let mut shown = view::snapshot(&taken.found);
    shown.notes = taken.remarks;
    created(&shown)
}

pub(super) async fn inspect(service: &Service, snapshot: &str) -> Result {
    ok(&view::snapshot(
        &service.find_snapshot(&SnapshotRef::parse(snapshot)).await?,
    ))
}

pub(super) async fn delete(service: &Service, snapshot: &str) -> Result {
    ok(&view::snapshot(
        &service.remove_snapshot(&SnapshotRef::parse(snapshot)).await?,
    ))
}

pub(super) async fn revert(service: &Service, snapshot: &str) -> Result {
    let entry = service.revert(&SnapshotRef::parse(snapshot)).await?;
    ok(&view::volume(service, &entry))
}

pub(super) async fn mount(service: &Service, snapshot: &str, wish: MountVolume) -> Result {
    let at = wish.mount_point.map(PathBuf::from);
    let at = service.mount_snapshot(&SnapshotRef::parse(snapshot), at).await?;
    ok(&Mounted {
        mount_point: at.display().to_string(),
    })
}

pub(super) async fn unmount(service: &Service, snapshot: &str) -> Result {
    let places = service.unmount_snapshot(&SnapshotRef::parse(snapshot)).await?;
    let notes = match places.is_empty() {
        true => vec!["the snapshot was mounted nowhere".to_owned()],
        false => Vec::new(),
    };
    ok(&Unmounted { notes })
}
