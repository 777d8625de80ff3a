//! `/v1/pool`.

use super::{Result, ok};
use crate::api::types::{
    CheckedPool, ExtendPool, Pool, PoolSpace, RepairPool, RepairedPool, TrimmedPool, TrimmedVolume,
};
use crate::driver::pool::{PoolStatus, Room, Space};
use crate::model::Bytes;
use crate::service::Service;

pub(super) async fn status(service: &Service) -> Result {
    let (driver, status) = service.pool_status().await?;
    ok(&shown(driver, status))
}

pub(super) async fn extend(service: &Service, wish: ExtendPool) -> Result {
    let room = wish.size.as_deref().map(room).transpose()?;
    let (driver, status) = service.extend_pool(room).await?;
    ok(&shown(driver, status))
}

pub(super) async fn check(service: &Service) -> Result {
    let check = service.check_pool().await?;
    ok(&CheckedPool {
        metadata_device: check.device.display().to_string(),
        at_work: check.at_work,
        thin_devices: check.thin_devices,
        unclaimed: check.unclaimed,
    })
}

pub(super) async fn repair(service: &Service, wish: RepairPool) -> Result {
    let (repair, trouble) = service.repair_pool(wish.accept_loss).await?;
    ok(&RepairedPool {
        metadata_device: repair.device.display().to_string(),
        damaged: repair
            .damaged
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        losses: repair.losses,
        notes: trouble
            .map(|why| format!("the driver is not available yet: {why}"))
            .into_iter()
            .collect(),
    })
}

pub(super) async fn trim(service: &Service) -> Result {
    let trimmed = service.trim_pool().await?;
    ok(&TrimmedPool {
        bytes_freed: trimmed.volumes.iter().map(|(_, freed)| freed.0).sum(),
        volumes: trimmed
            .volumes
            .iter()
            .map(|(name, freed)| TrimmedVolume {
                name: name.to_string(),
                bytes_freed: freed.0,
            })
            .collect(),
        notes: trimmed
            .failed
            .iter()
            .map(|(name, why)| format!("volume {name} was not trimmed: {why}"))
            .collect(),
    })
}

/// `20G` is a size, `+20G` so much more.
fn room(text: &str) -> Result<Room> {
    Ok(match text.strip_prefix('+') {
        Some(more) => Room::By(Bytes::parse("size", more)?),
        None => Room::To(Bytes::parse("size", text)?),
    })
}

fn shown(driver: &str, status: PoolStatus) -> Pool {
    let space = |space: Space| PoolSpace {
        used: space.used,
        total: space.total,
        percent: space.percent,
    };
    Pool {
        driver: driver.to_owned(),
        name: status.name,
        mode: status.mode,
        needs_check: status.needs_check,
        transaction: status.transaction,
        block_size: status.block_size,
        data: space(status.data),
        metadata: space(status.metadata),
        data_device: status.data_device.display().to_string(),
        metadata_device: status.metadata_device.display().to_string(),
        spare_device: status
            .spare_device
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        volumes: status.volumes,
        snapshots: status.snapshots,
        thin_devices: status.thin_devices,
        warn_at: status.thresholds,
        reserve: status.reserve,
        when_full: status.when_full,
        warnings: status.warnings,
        caveat: status.caveat.unwrap_or_default(),
    }
}
