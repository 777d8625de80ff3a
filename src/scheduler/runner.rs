//! Has done what is due.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::due;
use crate::model::{Task, Time};
use crate::service::{Cared, Service};

/// A clock that is set makes no noise: it is looked at so often, whatever it said before.
const LOOK: Duration = Duration::from_secs(15);
/// So many tasks are done at once that are done in a moment: snapshots and trims.
const QUICK: usize = 2;

/// What is being done now.
#[derive(Default)]
struct AtWork {
    quick: usize,
    jobs: usize,
    by_destination: HashMap<String, usize>,
}

/// How much may be done at once.
#[derive(Clone, Copy)]
struct Bounds {
    jobs: usize,
    by_destination: usize,
}

/// A task that is being done; its turn is over when this is dropped.
struct Turn {
    at_work: Arc<Mutex<AtWork>>,
    /// None for what is quick.
    destination: Option<String>,
}

fn locked(at_work: &Mutex<AtWork>) -> MutexGuard<'_, AtWork> {
    at_work.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turn {
    /// Where there is one: snapshots and trims have theirs, and all others work on a destination.
    fn take(at_work: &Arc<Mutex<AtWork>>, cared: &Cared, bounds: Bounds) -> Option<Self> {
        let mut now = locked(at_work);
        let destination = match cared.task {
            Task::Snapshot | Task::Trim => {
                if now.quick >= QUICK {
                    return None;
                }
                now.quick += 1;
                None
            }
            _ => {
                let destination = cared.policy.backup_dest.clone().unwrap_or_default();
                let there = now.by_destination.get(&destination).copied().unwrap_or(0);
                if now.jobs >= bounds.jobs || there >= bounds.by_destination {
                    return None;
                }
                now.jobs += 1;
                *now.by_destination.entry(destination.clone()).or_default() += 1;
                Some(destination)
            }
        };
        drop(now);
        Some(Self {
            at_work: at_work.clone(),
            destination,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut now = locked(&self.at_work);
        match &self.destination {
            None => now.quick -= 1,
            Some(destination) => {
                now.jobs -= 1;
                let there = now.by_destination.entry(destination.clone()).or_default();
                *there -= 1;
                if *there == 0 {
                    now.by_destination.remove(destination);
                }
            }
        }
    }
}

/// Has done what policies ask for, until the daemon stops. `jobs` is how many backups and verifications run at once.
pub async fn run(service: Service, jobs: usize) {
    service.ready().await;
    let at_work = Arc::default();
    loop {
        let wait = plan(&service, &at_work, jobs);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = service.policies_changed() => {}
            () = service.stopping() => return,
        }
    }
}

/// Begins what is due as far as there are turns, by its priority and then by how long it has been due. Says how long nothing else
/// will be; the end of what is at work is told besides.
fn plan(service: &Service, at_work: &Arc<Mutex<AtWork>>, jobs: usize) -> Duration {
    let settings = service.settings();
    let now = Time::now();
    let begun = Instant::now();
    let mut due = service.due(now);
    log::trace!(
        "planned in {} µs: {} tasks are due",
        begun.elapsed().as_micros(),
        due.now.len()
    );
    let wait = due.next.map_or(LOOK, |next| {
        let left = u64::try_from(next.as_second() - now.as_second()).unwrap_or(0);
        LOOK.min(Duration::from_secs(left.max(1)))
    });
    due.now
        .sort_by_key(|(since, cared)| (due::priority(cared.task), *since));
    let by_destination = settings.jobs_per_destination.unwrap_or(u32::MAX);
    let bounds = Bounds {
        jobs,
        by_destination: usize::try_from(by_destination).unwrap_or(usize::MAX),
    };
    for (_, cared) in due.now {
        let Some(turn) = Turn::take(at_work, &cared, bounds) else {
            continue;
        };
        if !service.take_on(&cared) {
            continue;
        }
        let service = service.clone();
        tokio::spawn(async move {
            service.do_task(&cared).await;
            drop(turn);
            service.plan_again();
        });
    }
    wait
}
