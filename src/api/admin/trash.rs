//! `/v1/trash`.

use super::{Result, ok};
use crate::api::types::{Created, Trashed, UndeleteVolume};
use crate::api::view;
use crate::model::Name;
use crate::service::Service;

pub(super) async fn list(service: &Service) -> Result {
    let list: Vec<Trashed> = service.trash().await?.iter().map(view::trashed).collect();
    ok(&list)
}

pub(super) async fn undelete(service: &Service, volume: &str, wish: UndeleteVolume) -> Result {
    let name = wish.name.as_deref().map(Name::volume).transpose()?;
    let (entry, notes) = service.undelete(volume, name).await?;
    ok(&Created {
        volume: view::volume(service, &entry),
        notes,
        job: None,
    })
}

pub(super) async fn purge(service: &Service, volume: &str) -> Result {
    ok(&view::trashed(&service.purge(volume).await?))
}
