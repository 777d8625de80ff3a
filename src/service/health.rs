//! Tells when a task of a volume begins to fare ill, or well again: at the end of each, and by the clock, since what does not happen
//! ends nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Fare, Service};
use crate::model::{Task, Volume, VolumeId};
use crate::scheduler::due::Health;

/// How often somebody looks at the clock. The first look is as long after the start, so that what a machine that was off has missed can
/// be made up for first.
const LOOK: Duration = Duration::from_secs(30);

/// What was told last. It is not recorded: a start tells again what fares ill.
#[derive(Default)]
pub(super) struct Told {
    /// Held for look-ups only.
    last: Mutex<HashMap<(VolumeId, Task), Health>>,
}

/// Whether `now` is news after what was told last.
fn is_news(before: Option<Health>, now: Health) -> bool {
    match before {
        None => !now.is_well(),
        Some(before) if now.is_well() => !before.is_well(),
        Some(before) => before != now,
    }
}

/// The kind of the event.
fn kind(health: Health) -> &'static str {
    match health {
        Health::Ok | Health::Waiting => "health.ok",
        Health::Late => "health.late",
        Health::Failing => "health.failing",
        Health::Never => "health.never",
    }
}

impl Service {
    /// Tells how the tasks of a volume fare now, where that is news.
    pub(super) fn tell_health_of(&self, volume: &Volume) {
        for fare in self.fares(volume) {
            let key = (volume.id, fare.task);
            let before = self.told().insert(key, fare.health);
            if is_news(before, fare.health) {
                self.tell(volume, &fare);
            }
        }
    }

    /// Looks at the clock for ever.
    pub(super) async fn keep_telling_health(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let entries = self.entries();
            // Nothing is said of what nobody wants any more.
            let mut wanted = Vec::new();
            for entry in &entries {
                self.tell_health_of(&entry.volume);
                wanted.push(entry.volume.id);
                tokio::task::yield_now().await;
            }
            wanted.sort_unstable();
            self.told()
                .retain(|(volume, _), _| wanted.binary_search(volume).is_ok());
        }
    }

    fn tell(&self, volume: &Volume, fare: &Fare) {
        let mut about = vec![
            ("task", fare.task.word().to_owned()),
            ("health", fare.health.word().to_owned()),
        ];
        let past = &fare.past;
        about.extend(past.succeeded.map(|at| ("succeeded", at.to_string())));
        about.extend((past.failures > 0).then(|| ("failures", past.failures.to_string())));
        about.extend(past.error.clone().map(|why| ("error", why)));
        self.events().emit(kind(fare.health), &volume.name, &about);
    }

    fn told(&self) -> std::sync::MutexGuard<'_, HashMap<(VolumeId, Task), Health>> {
        self.0.told.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_is_news() {
        use Health::{Failing, Late, Never, Ok, Waiting};
        let told = |states: &[Health]| {
            let mut before = None;
            let mut told = Vec::new();
            for now in states {
                if is_news(before, *now) {
                    told.push(kind(*now));
                }
                before = Some(*now);
            }
            told
        };
        assert_eq!(told(&[Waiting, Ok, Ok, Waiting]), Vec::<&str>::new());
        assert_eq!(
            told(&[Ok, Late, Late, Failing, Failing, Ok, Ok]),
            ["health.late", "health.failing", "health.ok"]
        );
        assert_eq!(told(&[Never, Never, Waiting]), ["health.never", "health.ok"]);
    }
}
