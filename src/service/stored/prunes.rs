//! Taking away, in the background, what no stored snapshot needs any more.
//!
//! A removed snapshot gives its space back at the next prune: at once where the last one is an hour ago, else when it
//! is. A prune has the repository for itself, and gives way: a snapshot, a revert, a clone or a backup ends it, and it
//! is begun again afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::repository_key;
use crate::engine::prune::{PruneOptions, prune};
use crate::engine::{EngineError, Progress};
use crate::model::{Name, VolumeId};
use crate::service::{Result, Service, ServiceError};

/// The least time between two prunes of a repository: each reads all of its trees.
const PAUSE: Duration = Duration::from_secs(3600);
/// Several removals in a row are worth one prune.
const GATHER: Duration = Duration::from_secs(2);
/// So long a prune that could not be made waits for the next attempt.
const AGAIN: Duration = Duration::from_secs(60);

/// The prunes that are waiting and at work.
#[derive(Default)]
pub(in super::super) struct Prunes {
    /// Held for look-ups only.
    all: Mutex<HashMap<VolumeId, Pruning>>,
}

#[derive(Default)]
struct Pruning {
    /// When one was made last.
    last: Option<Instant>,
    /// One is waiting or at work.
    planned: bool,
    /// What ends the one at work.
    progress: Option<Arc<Progress>>,
}

impl Prunes {
    fn locked(&self) -> MutexGuard<'_, HashMap<VolumeId, Pruning>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a prune that is wished for now shall be made; `None` where one is planned already.
    fn plan(&self, volume: VolumeId) -> Option<Duration> {
        let mut all = self.locked();
        let of = all.entry(volume).or_default();
        if std::mem::replace(&mut of.planned, true) {
            return None;
        }
        Some(wait(of.last.map(|last| last.elapsed())))
    }

    fn begin(&self, volume: VolumeId) -> Arc<Progress> {
        let progress = Arc::<Progress>::default();
        self.locked().entry(volume).or_default().progress = Some(progress.clone());
        progress
    }

    fn end(&self, volume: VolumeId, made: bool) {
        let mut all = self.locked();
        let of = all.entry(volume).or_default();
        of.progress = None;
        if made {
            of.last = Some(Instant::now());
        }
    }

    fn done(&self, volume: VolumeId) {
        self.locked().entry(volume).or_default().planned = false;
    }

    /// Ends the prune at work; says whether there is one.
    pub fn interrupt(&self, volume: VolumeId) -> bool {
        let all = self.locked();
        let progress = all.get(&volume).and_then(|of| of.progress.as_ref());
        progress.inspect(|progress| progress.cancel()).is_some()
    }

    /// Ends all of them.
    pub fn cancel_all(&self) {
        let all = self.locked();
        all.values()
            .filter_map(|of| of.progress.as_ref())
            .for_each(|progress| progress.cancel());
    }
}

/// How long to wait, by how long ago the last prune was.
fn wait(since_last: Option<Duration>) -> Duration {
    let left = since_last.map_or(Duration::ZERO, |since| PAUSE.saturating_sub(since));
    left.max(GATHER)
}

impl Service {
    /// Has a volume's repository pruned before long.
    pub(in super::super) fn prune_soon(&self, name: Name, volume: VolumeId) {
        let Some(mut wait) = self.0.prunes.plan(volume) else {
            return;
        };
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = this.stopping() => break,
                }
                let (again, of) = (this.clone(), name.clone());
                match this
                    .change(async move { again.prune_now(&of, volume).await })
                    .await
                {
                    Ok(true) => break,
                    Ok(false) => wait = AGAIN,
                    Err(error) => {
                        log::warn!("volume {name}: its snapshots' repository was not pruned: {error}");
                        break;
                    }
                }
            }
            this.0.prunes.done(volume);
        });
    }

    /// Prunes, unless somebody needs the repository; says whether there is no more to do.
    async fn prune_now(&self, name: &Name, volume: VolumeId) -> Result<bool> {
        let Ok(entry) = self.known(name) else {
            return Ok(true);
        };
        let Some(below) = self.driver_of(&entry.volume)?.repositories() else {
            return Ok(true);
        };
        if entry.volume.id != volume {
            return Ok(true);
        }
        let _turn = self.0.locks.lock(&repository_key(volume)).await;
        // Begun before the look: whoever comes after it ends what was begun.
        let progress = self.0.prunes.begin(volume);
        let result = match self.reader_of(name, None) {
            Some(_) => Ok(false),
            None => self
                .blocking(move |inner| {
                    let local = match inner.stored.open(&below, volume) {
                        Err(ServiceError::Engine(EngineError::NoRepository { .. })) => return Ok(None),
                        local => local?,
                    };
                    Ok(Some(prune(
                        &local.opened.repository,
                        &PruneOptions::default(),
                        &progress,
                    )?))
                })
                .await
                .map(|report| {
                    if let Some(report) = report {
                        let freed = report.freed_bytes.to_string();
                        self.events().emit("snapshot.prune", name, &[("freed", freed)]);
                    }
                    true
                }),
        };
        self.0.prunes.end(volume, matches!(result, Ok(true)));
        match result {
            Err(ServiceError::Engine(EngineError::Cancelled | EngineError::Locked { .. })) => Ok(false),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_prune_is_soon_and_the_next_is_an_hour_later() {
        assert_eq!(wait(None), GATHER);
        assert_eq!(wait(Some(Duration::from_secs(600))), Duration::from_secs(3000));
        assert_eq!(wait(Some(Duration::from_secs(9999))), GATHER);
    }

    #[test]
    fn one_is_planned_at_a_time_and_can_be_interrupted() {
        let prunes = Prunes::default();
        let volume = VolumeId::random();
        assert_eq!(prunes.plan(volume), Some(GATHER));
        assert_eq!(prunes.plan(volume), None);
        assert!(!prunes.interrupt(volume), "it is not at work yet");
        let progress = prunes.begin(volume);
        assert!(prunes.interrupt(volume) && progress.is_cancelled());
        prunes.end(volume, true);
        prunes.done(volume);
        assert!(!prunes.interrupt(volume));
        assert!(prunes.plan(volume).expect("planned") > GATHER);
    }
}
