//! `/v1/backups`. What takes long answers with its job; `/v1/jobs` tells how it goes.

use std::collections::BTreeMap;

use super::{Query, Refused, Result, accepted, ok};
use crate::api::types::{CopyBackup, CreateBackup, PruneBackups, VerifyBackups};
use crate::api::view;
use crate::model::Name;
use crate::service::{BackupWish, Hooks, Service};

pub(super) async fn list(service: &Service, mut query: Query) -> Result {
    let (destination, endpoint) = (query.take("dest"), query.take("endpoint"));
    let volume = query.take("volume").map(|name| Name::volume(&name)).transpose()?;
    query.end()?;
    let found = service
        .backups(destination.as_deref(), endpoint.as_deref(), volume)
        .await?;
    let list: BTreeMap<String, _> = found
        .iter()
        .map(|listed| (listed.url.clone(), view::backup(listed)))
        .collect();
    ok(&list)
}

pub(super) async fn inspect(service: &Service, mut query: Query) -> Result {
    let (url, endpoint) = url(&mut query)?;
    query.end()?;
    ok(&view::backup(&service.backup(&url, endpoint.as_deref()).await?))
}

pub(super) async fn create(service: &Service, wish: CreateBackup) -> Result {
    let wish = BackupWish {
        by_schedule: false,
        only_if_changed: wish.only_if_changed,
        of: wish.snapshot,
        destination: wish.destination,
        endpoint: wish.endpoint,
        take_over: wish.take_over,
        hooks: match wish.no_hooks {
            true => Hooks::LeaveOut,
            false => Hooks::Run,
        },
    };
    accepted(&view::job(&service.back_up(wish).await?))
}

pub(super) async fn delete(service: &Service, mut query: Query) -> Result {
    let (url, endpoint) = url(&mut query)?;
    query.end()?;
    accepted(&view::job(
        &service.delete_backup(&url, endpoint.as_deref()).await?,
    ))
}

pub(super) async fn drill(service: &Service, volume: &str) -> Result {
    accepted(&view::job(&service.drill(volume).await?))
}

pub(super) async fn verify(service: &Service, wish: VerifyBackups) -> Result {
    let job = service
        .verify_backups(wish.target.as_deref(), wish.endpoint.as_deref(), wish.percent)
        .await?;
    accepted(&view::job(&job))
}

pub(super) async fn prune(service: &Service, wish: PruneBackups) -> Result {
    let job = service
        .prune_backups(wish.target.as_deref(), wish.endpoint.as_deref())
        .await?;
    accepted(&view::job(&job))
}

pub(super) async fn copy(service: &Service, wish: CopyBackup) -> Result {
    let job = service
        .copy_backup(
            &wish.url,
            wish.endpoint.as_deref(),
            wish.destination.as_deref(),
            wish.destination_endpoint.as_deref(),
        )
        .await?;
    accepted(&view::job(&job))
}

fn url(query: &mut Query) -> Result<(String, Option<String>)> {
    match query.take("url") {
        Some(url) if !url.is_empty() => Ok((url, query.take("endpoint"))),
        _ => Err(Refused::invalid("parameter url: the URL of a backup is needed")),
    }
}
