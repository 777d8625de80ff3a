//! `/v1/snapshots` and `/v1/volumes/{volume}/snapshots`.

use std::collections::BTreeMap;

use super::{Result, created, ok};
use crate::api::types::CreateSnapshot;
use crate::api::view;
use crate::model::{Name, SnapshotRef};
use crate::service::Service;

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
    let found = service.snapshot(volume, name).await?;
    created(&view::snapshot(&found))
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
