//! `/v1/volumes/{volume}/mount` and `umount`.

use std::path::PathBuf;

use super::{Result, ok};
use crate::api::types::{MountVolume, Mounted, UnmountVolume, Unmounted};
use crate::service::Service;

pub(super) async fn mount(service: &Service, volume: &str, wish: MountVolume) -> Result {
    let wished = wish.mount_point.filter(|at| !at.is_empty()).map(PathBuf::from);
    let at = service.mount_by_hand(volume, wished).await?;
    ok(&Mounted {
        mount_point: at.display().to_string(),
    })
}

pub(super) async fn unmount(service: &Service, volume: &str, wish: UnmountVolume) -> Result {
    let notes = service.unmount_by_hand(volume, wish.force).await?;
    ok(&Unmounted { notes })
}
