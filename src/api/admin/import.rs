//! `/v1/import`.

use std::path::PathBuf;

use super::{Result, ok};
use crate::api::types::{ImportConvoy, Imported, ImportedVolume, LeftBehind};
use crate::service::Service;

pub(super) async fn convoy(service: &Service, wish: ImportConvoy) -> Result {
    let adoption = service
        .import_convoy(PathBuf::from(wish.root), wish.dry_run)
        .await?;
    ok(&Imported {
        dry_run: wish.dry_run,
        adopted: adoption
            .adopted
            .into_iter()
            .map(|volume| ImportedVolume {
                name: volume.name.to_string(),
                driver: volume.driver.to_owned(),
                size: volume.size.map_or(0, |size| size.0),
                snapshots: volume.snapshots,
            })
            .collect(),
        skipped: adoption
            .skipped
            .into_iter()
            .map(|(what, why)| LeftBehind { what, why })
            .collect(),
        obstacle: adoption.obstacle.unwrap_or_default(),
    })
}
