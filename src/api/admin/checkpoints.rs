//! `/v1/checkpoints`.

use super::{Refused, Result, created, ok};
use crate::api::types::{CloneCheckpoint, ClonedCheckpoint, CreateCheckpoint};
use crate::api::view;
use crate::model::Name;
use crate::service::{CheckpointWish, Hooks, Service};

pub(super) async fn list(service: &Service) -> Result {
    let all = service.checkpoints().await;
    let list: Vec<_> = all.iter().map(view::checkpoint).collect();
    ok(&list)
}

pub(super) async fn create(service: &Service, wish: CreateCheckpoint) -> Result {
    let wish = CheckpointWish {
        name: Name::snapshot(&wish.name)?,
        volumes: wish.volumes,
        project: wish.compose_project,
        hooks: match wish.no_hooks {
            true => Hooks::LeaveOut,
            false => Hooks::Run,
        },
    };
    let (checkpoint, remarks) = service.create_checkpoint(wish).await?;
    let mut shown = view::checkpoint(&checkpoint);
    shown.notes = remarks;
    created(&shown)
}

pub(super) async fn inspect(service: &Service, checkpoint: &str) -> Result {
    ok(&view::checkpoint(&service.checkpoint(checkpoint).await?))
}

pub(super) async fn delete(service: &Service, checkpoint: &str) -> Result {
    ok(&view::checkpoint(&service.remove_checkpoint(checkpoint).await?))
}

pub(super) async fn revert(service: &Service, checkpoint: &str) -> Result {
    ok(&view::checkpoint(
        &service.revert_to_checkpoint(checkpoint).await?,
    ))
}

pub(super) async fn clone(service: &Service, checkpoint: &str, wish: CloneCheckpoint) -> Result {
    if wish.suffix.is_empty() {
        return Err(Refused::invalid(
            "a clone needs a name of its own: Suffix must not be empty",
        ));
    }
    let names = service.clone_checkpoint(checkpoint, &wish.suffix).await?;
    created(&ClonedCheckpoint {
        volumes: names.iter().map(ToString::to_string).collect(),
    })
}
