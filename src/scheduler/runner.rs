//! Has done what is due.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::due;
use crate::model::{Task, Time};
use crate::service::Service;

/// A clock that is set makes no noise: it is looked at so often, whatever it said before.
const LOOK: Duration = Duration::from_secs(15);
/// So many snapshots are taken at once; backups wait for their turn among all jobs.
const SNAPSHOTS: usize = 2;

/// Has done what policies ask for, until the daemon stops.
pub async fn run(service: Service, backups: usize) {
    service.ready().await;
    let turns = [
        Arc::new(Semaphore::new(SNAPSHOTS)),
        Arc::new(Semaphore::new(backups)),
    ];
    loop {
        let wait = plan(&service, &turns);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = service.policies_changed() => {}
            () = service.stopping() => return,
        }
    }
}

/// Begins what is due, the longest due first, and says how long nothing else will be.
fn plan(service: &Service, turns: &[Arc<Semaphore>; 2]) -> Duration {
    let (now, zone) = (Time::now(), service.settings().time_zone);
    let mut wait = LOOK;
    let mut all_due = Vec::new();
    for cared in service.cared_for() {
        let policy = &cared.policy;
        let since = policy.since.unwrap_or(cared.volume.created);
        let next =
            due::rule(policy, cared.task).and_then(|rule| due::next(rule, since, &cared.past, now, &zone));
        match next {
            Some(next) if next <= now => all_due.push((next, cared)),
            Some(next) => {
                let left = u64::try_from(next.as_second() - now.as_second()).unwrap_or(0);
                wait = wait.min(Duration::from_secs(left.max(1)));
            }
            None => {}
        }
    }
    all_due.sort_by_key(|(due, _)| *due);
    for (_, cared) in all_due {
        if !service.take_on(&cared) {
            continue;
        }
        let turns = match cared.task {
            Task::Snapshot => turns[0].clone(),
            Task::Backup | Task::Drill => turns[1].clone(),
        };
        let service = service.clone();
        tokio::spawn(async move {
            // First come, first served; a task that still waits when the daemon stops was never begun.
            tokio::select! {
                turn = turns.acquire() => {
                    service.do_task(&cared).await;
                    drop(turn);
                }
                () = service.stopping() => {}
            }
        });
    }
    wait
}
