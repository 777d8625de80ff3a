//! `/v1/volumes`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{Query, Refused, Result, created, ok};
use crate::api::types::{ChangePolicy, CreateVolume, Created, Removed, ResizeVolume, TrimmedVolume};
use crate::api::view;
use crate::model::{Bytes, Name, OnRemove};
use crate::service::{By, CreateRequest, Entry, RemoveRequest, Service};

/// How long `inspect` waits for a fresh figure of what the volume holds before it shows the last one.
const MEASURE: Duration = Duration::from_secs(2);

pub(super) async fn list(service: &Service, mut query: Query) -> Result {
    let driver = query.take("driver");
    query.end()?;
    let entries = service.list(driver.as_deref()).await?;
    ok(&Listing {
        service,
        entries: &entries,
    })
}

/// A [`VolumeList`](crate::api::types::VolumeList) that is written volume by volume: ten thousand of them as views at
/// once would take more memory than the daemon does.
struct Listing<'a> {
    service: &'a Service,
    entries: &'a [Entry],
}

impl Serialize for Listing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.entries
                .iter()
                .map(|e| (e.volume.name.as_str(), view::volume(self.service, e))),
        )
    }
}

pub(super) async fn create(service: &Service, wish: CreateVolume) -> Result {
    let name = wish.name.as_deref().map(Name::volume).transpose()?;
    let request = CreateRequest {
        name,
        options: wish.options,
        by: By::Admin,
    };
    let (entry, notes) = service.create(request).await?;
    created(&Created {
        volume: view::volume(service, &entry),
        notes,
        job: service
            .restore_of(&entry.volume.name)
            .map(|status| status.job.id.0),
    })
}

pub(super) async fn inspect(service: &Service, volume: &str, query: Query) -> Result {
    query.end()?;
    let entry = service.inspect(volume).await?;
    let measured = tokio::time::timeout(MEASURE, service.measure(&entry.volume.name)).await;
    let entry = if let Ok(Ok(_)) = measured {
        service.inspect(volume).await?
    } else {
        entry
    };
    ok(&view::volume(service, &entry))
}

pub(super) async fn delete(service: &Service, volume: &str, mut query: Query) -> Result {
    let reference = query.flag("reference", false)?;
    let how = query
        .take("how")
        .map(|how| OnRemove::parse("how", &how))
        .transpose()?;
    query.end()?;
    let how = match (reference, how) {
        (true, Some(how)) if how != OnRemove::Keep => {
            return Err(Refused::invalid(format!(
                "reference=true and how={how} contradict each other"
            )));
        }
        (true, _) => Some(OnRemove::Keep),
        (false, how) => how,
    };
    let request = RemoveRequest {
        volume: volume.to_owned(),
        how,
        by: By::Admin,
    };
    let (name, how, notes) = service.remove(request).await?;
    ok(&Removed {
        name: name.to_string(),
        how: how.to_string(),
        notes,
    })
}

pub(super) async fn change_policy(service: &Service, volume: &str, wish: ChangePolicy) -> Result {
    let mut changes: BTreeMap<String, Option<String>> = wish
        .set
        .into_iter()
        .map(|(name, value)| (name, Some(value)))
        .collect();
    for name in wish.unset {
        if changes.insert(name.clone(), None).is_some() {
            return Err(Refused::invalid(format!(
                "{name:?} cannot be set and unset at once"
            )));
        }
    }
    let entry = service.change_policy(volume, &changes).await?;
    ok(&view::volume(service, &entry))
}

pub(super) async fn retention(service: &Service, volume: &str) -> Result {
    ok(&view::retention(&service.retention(volume).await?))
}

pub(super) async fn ask_for_task(service: &Service, volume: &str, task: &str) -> Result {
    let entry = service.ask_for_task(volume, task).await?;
    ok(&view::volume(service, &entry))
}

pub(super) async fn resize(service: &Service, volume: &str, wish: ResizeVolume) -> Result {
    let size = Bytes::parse("size", &wish.size)?;
    let entry = service.resize(volume, size).await?;
    ok(&view::volume(service, &entry))
}

pub(super) async fn trim(service: &Service, volume: &str) -> Result {
    let (name, freed) = service.trim(volume).await?;
    ok(&TrimmedVolume {
        name: name.to_string(),
        bytes_freed: freed.0,
    })
}

pub(super) async fn protect(service: &Service, volume: &str, protect: bool) -> Result {
    let entry = service.protect(volume, protect).await?;
    ok(&view::volume(service, &entry))
}
