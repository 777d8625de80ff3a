//! Policies: what volumes' owners want done for as long as the volumes exist, how it fares, and the doing of it.
//!
//! When something is due, [`crate::scheduler`] says; here it is done. What has become of it is recorded at its end: work that the
//! daemon's end cuts off is begun again, a backup by its job and a snapshot by its turn.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::repositories::Place;
use super::{BackupWish, Entry, Hooks, Result, Service, ServiceError};
use crate::driver::{Driver, DriverError};
use crate::engine::EngineError;
use crate::model::{
    InvalidValue, JobId, JobState, Name, POLICIES, Past, Policy, Settings, Span, Task, Time, Volume,
    VolumeId, Work, nearest,
};
use crate::scheduler::due::{self, About, Health};

/// What has been done, and what is being done now.
#[derive(Default)]
pub(super) struct Care {
    /// Held for look-ups only.
    inner: Mutex<Known>,
}

#[derive(Default)]
pub(super) struct Known {
    pasts: HashMap<(VolumeId, Task), Past>,
    at_work: HashSet<(VolumeId, Task)>,
    /// Volumes whose last hook after a snapshot failed, and why: the application may still be waiting.
    waiting: HashMap<Name, String>,
    /// When backups of a volume were last pruned by this run.
    pub(super) pruned: HashMap<VolumeId, Instant>,
    /// Asked for by somebody, whenever they are due.
    asked: HashSet<(VolumeId, Task)>,
    plans: HashMap<VolumeId, Plan>,
    /// When they were looked at last.
    planned: Option<Time>,
}

/// When what a volume's policy asks for is due next. It holds while the record is the same, nothing is done, and no clock is set.
struct Plan {
    volume: Arc<Volume>,
    next: Vec<(Task, Option<Time>)>,
}

/// So much of the data is read after each backup, in percent.
const SAMPLE: u8 = 5;

impl Known {
    /// Forgets plans that may not hold any more: of volumes that are gone, or of a clock that was later.
    fn remember_plans_of(&mut self, volumes: usize, now: Time) {
        if self.plans.len() > volumes || self.planned.is_some_and(|last| now < last) {
            self.plans.clear();
        }
        self.planned = Some(now);
    }

    /// Adds what became of a task; all that became of it.
    pub(super) fn add(
        &mut self,
        volume: VolumeId,
        task: Task,
        begun: Time,
        took: Duration,
        done: std::result::Result<(), String>,
    ) -> Past {
        self.plans.remove(&volume);
        let past = self.pasts.entry((volume, task)).or_default();
        let succeeded = done.is_ok();
        *past = past.clone().and(begun, done);
        if succeeded {
            past.took_ms = u64::try_from(took.as_millis()).ok();
        }
        past.clone()
    }

    /// When each task of a volume is due next. It is worked out anew where the volume's record has changed, or what was done.
    fn plan(&mut self, volume: &Arc<Volume>, settings: &Settings, now: Time) -> Vec<(Task, Option<Time>)> {
        if let Some(plan) = self.plans.get(&volume.id)
            && Arc::ptr_eq(&plan.volume, volume)
        {
            return plan.next.clone();
        }
        let policy = in_force(&volume.policy, &settings.policy);
        let about = self.about(volume, settings.schedule_spread);
        let none = Past::default();
        let tasks = Task::ALL.into_iter().filter_map(|task| {
            let rule = due::rule(&policy, task, &about)?;
            let past = self.pasts.get(&(volume.id, task)).unwrap_or(&none);
            let next = due::next(rule, since(volume), past, now, &settings.time_zone);
            Some((task, next))
        });
        let next: Vec<_> = tasks.collect();
        let plan = Plan {
            volume: volume.clone(),
            next: next.clone(),
        };
        self.plans.insert(volume.id, plan);
        next
    }

    /// What the rules of a volume's tasks depend on.
    fn about(&self, volume: &Volume, spread: Span) -> About {
        let backups = self.pasts.get(&(volume.id, Task::Backup));
        About {
            backed_up: backups.and_then(|past| past.succeeded),
            spread,
            seed: volume.id.uuid().as_u64_pair().1,
        }
    }
}

impl Care {
    pub(super) fn locked(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remember_trouble(&self, volume: &Name, why: &str) {
        self.locked().waiting.insert(volume.clone(), why.to_owned());
    }

    pub(super) fn forget_trouble(&self, volume: &Name) {
        self.locked().waiting.remove(volume);
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
}

/// What is due.
#[derive(Debug, Default)]
pub struct Due {
    /// Tasks that are, and since when.
    pub now: Vec<(Time, Cared)>,
    /// When the next one will be.
    pub next: Option<Time>,
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
    /// Whether it is being done, or was asked for and waits for its turn.
    pub at_work: bool,
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
            check_possible(&policy, &*driver)?;
            let given = policy.given();
            if changes
                .keys()
                .any(|option| option.contains('.') && !option.starts_with("ping."))
            {
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
                .filter_map(|option| {
                    changes.get(*option)?;
                    // As it may be shown: a URL that is pinged is a secret, and so may be a part of a command.
                    Some((
                        *option,
                        told(option, given.get(option).cloned().unwrap_or_default()),
                    ))
                })
                .collect();
            this.events().emit("volume.policy", &name, &about);
            this.0.policies_changed.notify_one();
            this.known(&name)
        })
        .await
    }

    /// The policy in force of a volume: its own, and where that does not say, the daemon's.
    pub fn policy_of(&self, volume: &Volume) -> Policy {
        in_force(&volume.policy, &self.settings().policy).into_owned()
    }

    /// How the tasks of a volume's policy fare.
    pub fn fares(&self, volume: &Volume) -> Vec<Fare> {
        let settings = self.settings();
        let (now, zone) = (Time::now(), &settings.time_zone);
        let policy = in_force(&volume.policy, &settings.policy);
        let known = self.0.care.locked();
        let about = known.about(volume, settings.schedule_spread);
        let tasks = Task::ALL.into_iter().filter_map(|task| {
            let past = known.pasts.get(&(volume.id, task)).cloned().unwrap_or_default();
            let Some(rule) = due::rule(&policy, task, &about) else {
                return by_hand(task, past);
            };
            let since = since(volume);
            Some(Fare {
                task,
                health: due::health(rule, since, &past, now, zone),
                next: due::next(rule, since, &past, now, zone),
                past,
                at_work: known.at_work.contains(&(volume.id, task))
                    || known.asked.contains(&(volume.id, task)),
            })
        });
        tasks.collect()
    }

    /// What policies ask for now, of volumes that can be worked on, and is not at work.
    pub fn due(&self, now: Time) -> Due {
        let settings = self.settings();
        let mut known = self.0.care.locked();
        let catalog = self.catalog();
        known.remember_plans_of(catalog.entries().count(), now);
        let ready = catalog
            .entries()
            .filter(|entry| entry.trouble.is_none() && entry.volume.restoring.is_none());
        let mut due = Due::default();
        for entry in ready {
            let volume = &entry.volume;
            for (task, next) in known.plan(volume, &settings, now) {
                let key = (volume.id, task);
                if known.at_work.contains(&key) {
                    continue;
                }
                match next {
                    next if known.asked.contains(&key) || next.is_some_and(|next| next <= now) => {
                        let policy = in_force(&volume.policy, &settings.policy).into_owned();
                        let volume = volume.clone();
                        due.now
                            .push((next.unwrap_or(now), Cared { volume, policy, task }));
                    }
                    Some(next) => due.next = Some(due.next.map_or(next, |other| other.min(next))),
                    None => {}
                }
            }
        }
        due
    }

    /// Looks at every volume's policy anew at the next turn: settings have changed.
    pub(super) fn forget_plans(&self) {
        self.0.care.locked().plans.clear();
        self.plan_again();
    }

    /// Has a task of a volume's policy done as soon as there is a turn, whenever it is due.
    ///
    /// # Errors
    /// Where the policy asks for no such task.
    pub async fn ask_for_task(&self, volume: &str, word: &str) -> Result<Entry> {
        let task = Task::called(word).ok_or_else(|| InvalidValue::Value {
            option: "task".to_owned(),
            value: word.chars().take(80).collect(),
            expected: format!("one of {}", Task::ALL.map(Task::word).join(", ")),
        })?;
        let name = self.resolve(volume).await?;
        let entry = self.known(&name)?;
        let policy = self.policy_of(&entry.volume);
        let about = self.0.care.locked().about(&entry.volume, Span::seconds(0));
        if due::rule(&policy, task, &about).is_none() {
            return Err(InvalidValue::Value {
                option: "task".to_owned(),
                value: word.to_owned(),
                expected: format!(
                    "a task that the policy of volume {name} asks for: 'windlass policy set {name} …' first"
                ),
            }
            .into());
        }
        self.0.care.locked().asked.insert((entry.volume.id, task));
        self.plan_again();
        Ok(entry)
    }

    /// Has the scheduler look again at what is due.
    pub fn plan_again(&self) {
        self.0.policies_changed.notify_one();
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
        let (begun, clock) = (Time::now(), Instant::now());
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
            let mut known = self.0.care.locked();
            known.at_work.remove(&key);
            known.asked.remove(&key);
            known.plans.remove(&key.0);
            return;
        };
        if let Err(why) = &done {
            let message = format!("its {} by schedule failed: {why}", task.word());
            self.events()
                .emit("warning", &cared.volume.name, &[("message", message)]);
        }
        let mut about = vec![("task", task.word().to_owned())];
        about.extend(done.as_ref().err().map(|why| ("error", why.clone())));
        self.remember_past(key.0, task, begun, clock.elapsed(), done)
            .await;
        {
            let mut known = self.0.care.locked();
            known.at_work.remove(&key);
            known.asked.remove(&key);
            known.plans.remove(&key.0);
        }
        self.events().emit("task.end", &cared.volume.name, &about);
        if let Ok(entry) = self.known(&cared.volume.name) {
            self.tell_health_of(&entry.volume);
        }
        self.0.policies_changed.notify_one();
    }

    /// Says whether it was still wanted: while it waited for its turn, the policy may have changed or the volume gone.
    async fn do_as_now_wanted(&self, cared: &Cared, begun: Time) -> Result<bool> {
        let Ok(entry) = self.known(&cared.volume.name) else {
            return Ok(false);
        };
        let volume = entry.volume;
        let policy = self.policy_of(&volume);
        let about = self.0.care.locked().about(&volume, Span::seconds(0));
        if volume.id != cared.volume.id || due::rule(&policy, cared.task, &about).is_none() {
            return Ok(false);
        }
        let thinned = match cared.task {
            Task::Snapshot => {
                let name = Task::Snapshot.name(begun);
                self.snapshot(volume.name.as_str(), Some(name), Hooks::Run)
                    .await?;
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
            Task::Verify => {
                self.verify_by_policy(&volume, &policy, SAMPLE).await?;
                Ok(())
            }
            Task::VerifyFull => {
                self.verify_by_policy(&volume, &policy, 100).await?;
                Ok(())
            }
            Task::Trim => {
                // By a default, volumes are trimmed that have nothing to trim.
                if self.driver_of(&volume)?.pool().is_some() {
                    self.trim(volume.name.as_str()).await?;
                }
                Ok(())
            }
        };
        // What was to be made is there. Too many of them is another matter, and the next time makes up for it.
        if let Err(error) = thinned {
            let message = format!("old {}s stay: {}", cared.task.word(), error.one_line());
            self.events()
                .emit("warning", &volume.name, &[("message", message)]);
        }
        // The snapshot or the backup is there. But somebody must look after the application.
        let waiting = match cared.task {
            Task::Snapshot | Task::Backup => self.0.care.locked().waiting.get(&volume.name).cloned(),
            _ => None,
        };
        match waiting {
            None => Ok(true),
            Some(why) => Err(ServiceError::JobFailed(format!(
                "it was made, but the hook after its snapshot failed: {why}"
            ))),
        }
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
                    hooks: Hooks::Run,
                    only_if_changed: policy.backup_rpo.is_some(),
                };
                self.back_up(wish).await?.job.id
            }
        };
        self.end_of(job).await
    }

    /// Has the newest backup looked at, or with 100 percent all of them.
    async fn verify_by_policy(&self, volume: &Volume, policy: &Policy, percent: u8) -> Result<()> {
        let settings = self.settings().backups;
        let place = Place::of_destination(policy.backup_dest.as_deref(), None, &settings)?;
        let mut target = place.in_volume(&volume.name).url();
        if percent < 100 {
            let listed = self.backups(Some(&target), None, None).await?;
            let id = volume.id.to_string();
            let own = listed.into_iter().rev().find(|listed| {
                let manifest = listed.backup.manifest();
                manifest.is_some_and(|made| made.volume.id.to_string() == id)
            });
            let newest = own.ok_or_else(|| ServiceError::NotFound {
                what: "backup of volume",
                name: volume.name.to_string(),
            })?;
            target = newest.url;
        }
        let at_work = self.0.jobs.find(
            |work| matches!(work, Work::Verify { target: of, percent: how } if *of == target && *how == percent),
        );
        let job = match at_work {
            // Begun by a former run of the daemon.
            Some(job) => job,
            None => self.begin_job(Work::Verify { target, percent }).await?.job.id,
        };
        self.end_of(job).await
    }

    /// Waits for the end of a job, which fails where that did.
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

    fn scheduled_backup_of(&self, volume: &Volume) -> Option<JobId> {
        self.0.jobs.find(|work| {
            matches!(work, Work::Backup { volume_id, snapshot, .. }
                if *volume_id == volume.id && Task::Backup.has_made(snapshot.as_str()))
        })
    }
}

/// A change as events and the log tell it. A command may hold what is nobody's business.
fn told(option: &str, value: String) -> String {
    match option {
        "hook.pre" | "hook.post" if !value.is_empty() => "set".to_owned(),
        _ => value,
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
        at_work: false,
    })
}

/// Whether a driver can do what a policy of one of its volumes asks for.
pub(super) fn check_possible(policy: &Policy, driver: &dyn Driver) -> Result<()> {
    match policy.trim_schedule {
        Some(_) if driver.pool().is_none() => Err(DriverError::Unsupported {
            what: "trim.schedule".to_owned(),
            because: format!(
                "the driver {} keeps its volumes in no pool that removed files could give space back to",
                driver.name()
            ),
        }
        .into()),
        _ => Ok(()),
    }
}

/// A volume's policy, and where that does not say, the daemon's.
fn in_force<'a>(own: &'a Policy, defaults: &Policy) -> Cow<'a, Policy> {
    match *defaults == Policy::default() {
        true => Cow::Borrowed(own),
        false => Cow::Owned(own.clone().or(defaults)),
    }
}

/// When the policy began to hold.
fn since(volume: &Volume) -> Time {
    volume.policy.since.unwrap_or(volume.created)
}
