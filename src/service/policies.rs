//! Policies: what volumes' owners want done for as long as the volumes exist, how it fares, and the doing of it.
//!
//! When something is due, [`crate::scheduler`] says; here it is done. What has become of it is recorded at its end: work that the
//! daemon's end cuts off is begun again, a backup by its job and a snapshot by its turn.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::repositories::Place;
use super::{BackupWish, Entry, Result, Service, ServiceError};
use crate::engine::EngineError;
use crate::model::{
    InvalidValue, JobId, JobState, POLICIES, Past, Policy, SnapshotRef, Span, Task, Time, Volume, VolumeId,
    Work, nearest,
};
use crate::scheduler::due::{self, Health};

/// What has been done, and what is being done now.
#[derive(Default)]
pub(super) struct Care {
    /// Held for look-ups only.
    inner: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    pasts: HashMap<(VolumeId, Task), Past>,
    at_work: HashSet<(VolumeId, Task)>,
    pruned: HashMap<VolumeId, Instant>,
}

/// The least time between two prunes of a volume's backups.
const PRUNE: Duration = Duration::from_secs(86_400);

impl Care {
    fn locked(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what became of a task that is not at work any more; all that became of it.
    pub fn add(
        &self,
        volume: VolumeId,
        task: Task,
        begun: Time,
        took: Span,
        done: std::result::Result<(), String>,
    ) -> Past {
        let mut known = self.locked();
        let past = known.pasts.entry((volume, task)).or_default();
        *past = past.clone().and(begun, done).lasting(took);
        past.clone()
    }

    /// Whether the last prune of a volume's backups is a day ago, or was made by a former run.
    fn may_prune(&self, volume: VolumeId) -> bool {
        let mut known = self.locked();
        let last = known.pruned.get(&volume);
        let may = last.is_none_or(|last| last.elapsed() >= PRUNE);
        if may {
            known.pruned.insert(volume, Instant::now());
        }
        may
    }
}

/// A task that a volume's policy asks for.
#[derive(Debug, Clone)]
pub struct Cared {
    /// The volume.
    pub volume: Arc<Volume>,
    /// Its policy in force.
    pub policy: Policy,
    /// The task.
    pub task: Task,
    /// What has become of it so far.
    pub past: Past,
}

/// How a task fares.
#[derive(Debug, Clone)]
pub struct Fare {
    /// The task.
    pub task: Task,
    /// Whether somebody should look.
    pub health: Health,
    /// When it is due next.
    pub next: Option<Time>,
    /// What has become of it so far.
    pub past: Past,
}

impl Service {
    /// Changes a volume's policy: options to set, and options that go back to the default (`None`). All, or none.
    pub async fn change_policy(
        &self,
        volume: &str,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<Entry> {
        for (name, value) in changes {
            let mut tried = Policy::default();
            let known = match value {
                Some(value) => tried.set(name, value)?,
                None => tried.unset(name),
            };
            if !known {
                return Err(InvalidValue::UnknownOption {
                    name: name.chars().take(80).collect(),
                    nearest: nearest(name, POLICIES.iter().copied()),
                    valid: POLICIES.join(", "),
                }
                .into());
            }
        }
        let (this, volume, changes) = (self.clone(), volume.to_owned(), changes.clone());
        self.change(async move {
            let name = this.resolve(&volume).await?;
            let _held = this.0.locks.lock(name.as_str()).await;
            let entry = this.known(&name)?;
            let driver = this.driver_of(&entry.volume)?;
            let mut policy = entry.volume.policy.clone();
            for (option, value) in &changes {
                match value {
                    Some(value) => drop(policy.set(option, value)?),
                    None => drop(policy.unset(option)),
                }
            }
            policy.check()?;
            if changes.keys().any(|option| option.contains('.')) {
                // What is newly asked for is not late since the volume was made.
                policy.since = Some(Time::now());
            }
            let volume = entry.volume.clone();
            let changed = this
                .blocking(move |inner| {
                    let changed = driver.set_policy(&volume, policy)?;
                    inner.state.put(&changed)?;
                    Ok(changed)
                })
                .await?;
            this.catalog_mut().put(changed);
            let about: Vec<(&'static str, String)> = POLICIES
                .iter()
                .filter_map(|option| Some((*option, changes.get(*option)?.clone().unwrap_or_default())))
                .collect();
            this.events().emit("volume.policy", &name, &about);
            this.0.policies_changed.notify_one();
            this.known(&name)
        })
        .await
    }

    /// The policy in force of a volume: its own, and where that does not say, the daemon's.
    pub fn policy_of(&self, volume: &Volume) -> Policy {
        volume.policy.clone().or(&self.settings().policy)
    }

    /// How the tasks of a volume's policy fare.
    pub fn fares(&self, volume: &Volume) -> Vec<Fare> {
        let settings = self.settings();
        let (now, zone) = (Time::now(), settings.time_zone);
        let policy = volume.policy.clone().or(&settings.policy);
        let known = self.0.care.locked();
        let tasks = Task::ALL.into_iter().filter_map(|task| {
            let past = known.pasts.get(&(volume.id, task)).cloned().unwrap_or_default();
            let Some(rule) = due::rule(&policy, task) else {
                return by_hand(task, past);
            };
            let since = since(volume);
            Some(Fare {
                task,
                health: due::health(rule, since, &past, now, &zone),
                next: due::next(rule, since, &past, now, &zone),
                past,
            })
        });
        tasks.collect()
    }

    /// All that policies ask for of volumes that can be worked on, and that is not at work.
    pub fn cared_for(&self) -> Vec<Cared> {
        let defaults = self.settings().policy;
        let known = self.0.care.locked();
        let catalog = self.catalog();
        let ready = catalog
            .entries()
            .filter(|entry| entry.trouble.is_none() && entry.volume.restoring.is_none());
        let mut all = Vec::new();
        for entry in ready {
            let policy = entry.volume.policy.clone().or(&defaults);
            for task in Task::ALL {
                let key = (entry.volume.id, task);
                if due::rule(&policy, task).is_some() && !known.at_work.contains(&key) {
                    all.push(Cared {
                        volume: entry.volume.clone(),
                        policy: policy.clone(),
                        task,
                        past: known.pasts.get(&key).cloned().unwrap_or_default(),
                    });
                }
            }
        }
        all
    }

    /// Waits until a policy is changed, or work for one has ended.
    pub async fn policies_changed(&self) {
        self.0.policies_changed.notified().await;
    }

    /// Recalls what was done by former runs.
    pub(super) async fn recall_pasts(&self) -> Result<()> {
        let pasts = self.blocking(|inner| Ok(inner.state.pasts()?)).await?;
        let mut known = self.0.care.locked();
        known.pasts = pasts
            .into_iter()
            .map(|(volume, task, past)| ((volume, task), past))
            .collect();
        Ok(())
    }

    /// Takes a task on, which [`Service::do_task`] must follow. False where it is at work already.
    pub fn take_on(&self, cared: &Cared) -> bool {
        self.0.care.locked().at_work.insert((cared.volume.id, cared.task))
    }

    /// Does a task that was taken on, and records what became of it.
    pub async fn do_task(&self, cared: &Cared) {
        let (key, task) = ((cared.volume.id, cared.task), cared.task);
        let begun = Time::now();
        let result = self.do_as_now_wanted(cared, begun).await;
        let stopped = matches!(
            result,
            Err(ServiceError::Stopping | ServiceError::Engine(EngineError::Cancelled))
        );
        let done = match result {
            // Cut off by the daemon's end, it is begun again by the next start.
            Err(_) if stopped && self.is_stopping() => None,
            Ok(wanted) => wanted.then_some(Ok(())),
            Err(error) => Some(Err(error.one_line())),
        };
        let Some(done) = done else {
            self.0.care.locked().at_work.remove(&key);
            return;
        };
        if let Err(why) = &done {
            let message = format!("its {} by schedule failed: {why}", task.word());
            self.events()
                .emit("warning", &cared.volume.name, &[("message", message)]);
        }
        self.remember_past(key.0, task, begun, done).await;
        self.0.care.locked().at_work.remove(&key);
        self.0.policies_changed.notify_one();
    }

    /// Says whether it was still wanted: while it waited for its turn, the policy may have changed or the volume gone.
    async fn do_as_now_wanted(&self, cared: &Cared, begun: Time) -> Result<bool> {
        let Ok(entry) = self.known(&cared.volume.name) else {
            return Ok(false);
        };
        let volume = entry.volume;
        let policy = self.policy_of(&volume);
        if volume.id != cared.volume.id || due::rule(&policy, cared.task).is_none() {
            return Ok(false);
        }
        let thinned = match cared.task {
            Task::Snapshot => {
                let name = Task::Snapshot.name(begun);
                self.snapshot(volume.name.as_str(), Some(name)).await?;
                self.thin_out_snapshots(&volume, &policy).await
            }
            Task::Backup => {
                self.back_up_by_policy(&volume, &policy).await?;
                self.thin_out_backups(&volume, &policy).await
            }
            Task::Drill => {
                let job = self.begin_drill(&volume, true).await?.job.id;
                let ended = self.end_of(job).await;
                if self.known(&volume.name).is_err() {
                    // It was removed meanwhile.
                    return Ok(false);
                }
                ended?;
                Ok(())
            }
        };
        // What was to be made is there. Too many of them is another matter, and the next time makes up for it.
        if let Err(error) = thinned {
            let message = format!("old {}s stay: {}", cared.task.word(), error.one_line());
            self.events()
                .emit("warning", &volume.name, &[("message", message)]);
        }
        Ok(true)
    }

    /// Removes the snapshots taken by schedule that need not be kept. One that somebody reads stays until the next time.
    async fn thin_out_snapshots(&self, volume: &Volume, policy: &Policy) -> Result<()> {
        let Some(keep) = policy.snapshot_keep else {
            return Ok(());
        };
        let entry = self.known(&volume.name)?;
        let scheduled: Vec<_> = entry
            .volume
            .snapshots
            .iter()
            .filter(|snapshot| Task::Snapshot.has_made(snapshot.name.as_str()))
            .collect();
        let moments: Vec<Time> = scheduled.iter().map(|snapshot| snapshot.created).collect();
        let reasons = keep.judge(&moments, &self.settings().time_zone);
        for (snapshot, _) in scheduled.iter().zip(reasons).filter(|(_, why)| why.is_empty()) {
            let reference = SnapshotRef {
                volume: Some(volume.name.to_string()),
                snapshot: snapshot.name.to_string(),
            };
            match self.remove_snapshot(&reference).await {
                Ok(_) | Err(ServiceError::NotFound { .. } | ServiceError::Read { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn back_up_by_policy(&self, volume: &Volume, policy: &Policy) -> Result<()> {
        let job = match self.scheduled_backup_of(volume) {
            // Begun by a former run of the daemon.
            Some(job) => job,
            None => {
                let wish = BackupWish {
                    of: volume.name.to_string(),
                    destination: policy.backup_dest.clone(),
                    endpoint: None,
                    take_over: false,
                    by_schedule: true,
                };
                self.back_up(wish).await?.job.id
            }
        };
        self.end_of(job).await
    }

    /// Waits until a job has ended well.
    async fn end_of(&self, job: JobId) -> Result<()> {
        let ended = loop {
            let status = self.wait_for_job(job, Duration::from_secs(3600)).await?;
            if status.job.state.is_final() {
                break status.job;
            }
            if self.is_stopping() {
                return Err(ServiceError::Stopping);
            }
        };
        match (ended.state, ended.failure) {
            (JobState::Done, _) => Ok(()),
            (JobState::Cancelled, _) => Err(ServiceError::JobFailed("somebody cancelled it".to_owned())),
            (_, failure) => {
                let why = failure.map_or_else(String::new, |failure| failure.message);
                Err(ServiceError::JobFailed(why))
            }
        }
    }

    /// Forgets the backups made by schedule that need not be kept, and has what only they needed pruned once a day.
    async fn thin_out_backups(&self, volume: &Volume, policy: &Policy) -> Result<()> {
        let Some(keep) = policy.backup_keep else {
            return Ok(());
        };
        let settings = self.settings();
        let place = Place::of_destination(policy.backup_dest.as_deref(), None, &settings.backups)?;
        let target = place.in_volume(&volume.name).url();
        let (name, id) = (volume.name.clone(), volume.id.to_string());
        let forgotten = self
            .blocking(move |inner| {
                let opened = inner
                    .repositories
                    .open(&settings.backups, &place.destination, &name)?;
                let backups = opened.repository.backups()?;
                let scheduled: Vec<_> = backups
                    .into_iter()
                    .filter(|backup| {
                        backup.manifest().is_some_and(|made| {
                            made.volume.id.to_string() == id && Task::Backup.has_made(&made.snapshot.name)
                        })
                    })
                    .collect();
                let moments: Vec<Time> = scheduled
                    .iter()
                    .map(|backup| Time::from_second(backup.record.time.as_second()))
                    .collect();
                let reasons = keep.judge(&moments, &settings.time_zone);
                let idle: Vec<_> = scheduled
                    .iter()
                    .zip(reasons)
                    .filter(|(_, why)| why.is_empty())
                    .map(|(backup, _)| backup.id)
                    .collect();
                if !idle.is_empty() {
                    opened.repository.forget(&idle)?;
                }
                Ok(idle.len())
            })
            .await?;
        if forgotten > 0 && self.0.care.may_prune(volume.id) {
            self.begin_job(Work::Prune { target }).await?;
        }
        Ok(())
    }

    fn scheduled_backup_of(&self, volume: &Volume) -> Option<JobId> {
        self.0.jobs.find(|work| {
            matches!(work, Work::Backup { volume_id, snapshot, .. }
                if *volume_id == volume.id && Task::Backup.has_made(snapshot.as_str()))
        })
    }
}

/// How a task fares that no policy asks for: only drills have a past then, which is worth telling.
fn by_hand(task: Task, past: Past) -> Option<Fare> {
    let health = match past.failures {
        0 => Health::Ok,
        _ => Health::Failing,
    };
    (task == Task::Drill && past.tried.is_some()).then_some(Fare {
        task,
        health,
        next: None,
        past,
    })
}

/// When the policy began to hold.
pub(super) fn since(volume: &Volume) -> Time {
    volume.policy.since.unwrap_or(volume.created)
}
