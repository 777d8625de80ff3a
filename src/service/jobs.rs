//! Jobs: long work that outlives the request that asked for it, and the daemon's run that began it.
//!
//! A job is recorded before it begins and after each step of its life. So many of a sort run at once, the rest wait in the
//! order in which they came. What a stop, a crash or a power cut interrupted is begun again by the next start, whatever
//! it was: each sort of work can be done again from its parameters alone, and does again only what is missing. (A backup
//! too, although its asker may have gone with the daemon's former run: a backup that was acknowledged as begun and is
//! then silently not there is what people find out when they need it.) Work that was under way at several sudden ends
//! of the daemon may be their cause, and fails instead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::{Result, Service, ServiceError};
use crate::engine::{EngineError, Figures, Progress};
use crate::model::{Job, JobFailure, JobId, JobState, Name, Reads, SnapshotRef, Time, Work};

/// So often is a job begun whose daemon ends suddenly each time.
const MAX_ATTEMPTS: u32 = 3;

/// What came of a job, by the API's keys.
pub(super) type Outcome = serde_json::Map<String, serde_json::Value>;

/// A job and how far it is.
#[derive(Debug, Clone)]
pub struct JobStatus {
    /// Its record.
    pub job: Job,
    /// Its counters, while it runs.
    pub figures: Option<Figures>,
    /// For how long it has been running now.
    pub running: Duration,
}

/// The jobs that have not ended.
pub(super) struct Jobs {
    /// Held for look-ups only.
    live: Mutex<BTreeMap<JobId, Arc<Live>>>,
    /// Restores have turns of their own: somebody waits for them with a mount.
    restores: Semaphore,
    others: Semaphore,
}

/// A job that has not ended.
pub(super) struct Live {
    /// The record as it was written last, with what its log got since. Held for look-ups and small changes only.
    job: Mutex<Job>,
    began: Mutex<Option<Instant>>,
    /// What its threads count, and how they hear that they shall end.
    pub progress: Arc<Progress>,
    /// True once somebody wants it to end: a person, or the daemon's stop.
    ending: watch::Sender<bool>,
    /// True once a person does.
    cancelled: watch::Sender<bool>,
    /// True once it has ended, or is left to the next start.
    over: watch::Sender<bool>,
}

impl Live {
    fn new(job: Job) -> Arc<Self> {
        Arc::new(Self {
            job: Mutex::new(job),
            began: Mutex::default(),
            progress: Arc::default(),
            ending: watch::channel(false).0,
            cancelled: watch::channel(false).0,
            over: watch::channel(false).0,
        })
    }

    /// Its record now.
    pub fn job(&self) -> Job {
        self.job.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a line to its log, and to the daemon's.
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        log::info!("job {} ({}): {text}", job.id, job.work.kind());
        job.note(text);
    }

    /// Waits until it is to end.
    pub async fn ending(&self) {
        // The sender lives as long as this.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    fn end(&self) {
        self.progress.cancel();
        self.ending.send_replace(true);
    }

    fn status(&self) -> JobStatus {
        let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        JobStatus {
            job: self.job(),
            figures: began.map(|_| self.progress.figures()),
            running: began.map_or(Duration::ZERO, |began| began.elapsed()),
        }
    }
}

impl Jobs {
    pub fn new(at_once: usize) -> Self {
        Self {
            live: Mutex::default(),
            restores: Semaphore::new(at_once),
            others: Semaphore::new(at_once),
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<JobId, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: JobId) -> Option<Arc<Live>> {
        self.locked().get(&id).cloned()
    }

    /// A job that has not ended, by its work.
    pub fn find(&self, wanted: impl Fn(&Work) -> bool) -> Option<JobId> {
        let live = self.locked();
        let found = live.iter().find(|(_, live)| wanted(&live.job().work));
        found.map(|(id, _)| *id)
    }

    /// The job that fills this volume.
    fn restore_of(&self, volume: &Name) -> Option<Arc<Live>> {
        let live = self.locked();
        let mut all = live.values();
        all.find(|live| matches!(&live.job().work, Work::Restore { volume: of, .. } if of == volume))
            .cloned()
    }
}

impl JobStatus {
    /// How much is done, in percent, where that can be told.
    pub fn percent(&self) -> Option<u64> {
        let figures = self.figures.as_ref()?;
        let (done, total) = match figures {
            Figures { total_bytes: 0, .. } => (figures.done_items, figures.total_items),
            _ => (figures.done_bytes, figures.total_bytes),
        };
        (total > 0).then(|| (u128::from(done) * 100 / u128::from(total)).min(100) as u64)
    }

    /// Bytes dealt with in a second.
    pub fn bytes_per_second(&self) -> u64 {
        let done = self.figures.as_ref().map_or(0, |figures| figures.done_bytes);
        match self.running.as_millis() {
            0 => 0,
            millis => u64::try_from(u128::from(done) * 1000 / millis).unwrap_or(u64::MAX),
        }
    }

    /// How long it may still take, by what it did so far.
    pub fn left(&self) -> Option<Duration> {
        let figures = self.figures.as_ref()?;
        let missing = figures.total_bytes.checked_sub(figures.done_bytes)?;
        let rate = self.bytes_per_second();
        // A rate of the first moments says nothing.
        (rate > 0 && self.running > Duration::from_secs(1)).then(|| Duration::from_secs(missing / rate))
    }

    /// `queued`, or `43 %, about 2 min left`.
    pub fn in_words(&self) -> String {
        let Some(percent) = self.percent() else {
            return match (self.job.state, &self.figures) {
                (JobState::Queued, _) => "waiting for its turn".to_owned(),
                (_, Some(figures)) if !figures.phase.is_empty() => figures.phase.clone(),
                _ => "just begun".to_owned(),
            };
        };
        match self.left().map(|left| left.as_secs()) {
            None => format!("{percent} %"),
            Some(seconds @ 0..60) => format!("{percent} %, about {} s left", seconds.max(1)),
            Some(seconds @ 60..3_600) => format!("{percent} %, about {} min left", seconds.div_ceil(60)),
            Some(seconds) => format!(
                "{percent} %, about {} h {} min left",
                seconds / 3_600,
                seconds % 3_600 / 60
            ),
        }
    }
}

impl Service {
    /// Adds lines to the log of a job that has not ended.
    pub(super) fn note_job(&self, id: JobId, remarks: &[String]) {
        if let Some(live) = self.0.jobs.get(id) {
            remarks.iter().for_each(|remark| live.note(remark.clone()));
        }
    }

    /// Records a job and lets it begin as soon as it is its turn, once what the last run left has been taken up.
    pub(super) async fn begin_job(&self, work: Work) -> Result<JobStatus> {
        self.ready().await;
        self.begin_job_now(work).await
    }

    /// The same, at the start too: for what the last run should have begun.
    pub(super) async fn begin_job_now(&self, work: Work) -> Result<JobStatus> {
        if self.is_stopping() {
            return Err(ServiceError::Stopping);
        }
        let job = self.blocking(move |inner| Ok(inner.state.add_job(work)?)).await?;
        Ok(self.launch(job).status())
    }

    /// All jobs that are known, the oldest first.
    pub async fn jobs(&self) -> Result<Vec<JobStatus>> {
        let recorded = self.blocking(|inner| Ok(inner.state.jobs()?)).await?;
        Ok(recorded.into_iter().map(|job| self.status_of(job)).collect())
    }

    /// The kinds and states of the jobs that have not ended.
    pub fn jobs_at_work(&self) -> Vec<(&'static str, JobState)> {
        let live = self.0.jobs.locked();
        let told = live.values().map(|live| {
            let job = live.job.lock().unwrap_or_else(PoisonError::into_inner);
            (job.work.kind(), job.state)
        });
        told.collect()
    }

    /// One job.
    pub async fn job(&self, id: JobId) -> Result<JobStatus> {
        if let Some(live) = self.0.jobs.get(id) {
            return Ok(live.status());
        }
        let job = self.blocking(move |inner| Ok(inner.state.job(id)?)).await?;
        job.map(|job| self.status_of(job))
            .ok_or_else(|| ServiceError::NotFound {
                what: "job",
                name: id.to_string(),
            })
    }

    /// Ends a job that has not ended; says how it stands. Returns at once: the work ends at its next look.
    pub async fn cancel_job(&self, id: JobId) -> Result<JobStatus> {
        if let Some(live) = self.0.jobs.get(id) {
            live.cancelled.send_replace(true);
            live.end();
        }
        self.job(id).await
    }

    /// Waits for a job's end, at most `patience`; says how it stands then.
    pub async fn wait_for_job(&self, id: JobId, patience: Duration) -> Result<JobStatus> {
        if let Some(live) = self.0.jobs.get(id) {
            let mut over = live.over.subscribe();
            // Whether it ended or the patience did, the answer is how it stands.
            let _ = tokio::time::timeout(patience, over.wait_for(|over| *over)).await;
        }
        self.job(id).await
    }

    /// The job that fills a volume, if one is at work or waiting.
    pub fn restore_of(&self, volume: &Name) -> Option<JobStatus> {
        self.0.jobs.restore_of(volume).map(|live| live.status())
    }

    /// Ends the job that fills a volume and waits for its end.
    pub(super) async fn cancel_restore_of(&self, volume: &Name) {
        if let Some(live) = self.0.jobs.restore_of(volume) {
            live.note("the volume is removed");
            live.cancelled.send_replace(true);
            live.end();
            let _ = live.over.subscribe().wait_for(|over| *over).await;
        }
    }

    /// A job at work that reads what would be taken away: `snapshot` of `volume`, or any of it.
    pub(super) fn reader_of(&self, volume: &Name, snapshot: Option<&Name>) -> Option<String> {
        if let Some(by) = self.0.uses.reader(volume, snapshot) {
            return Some(by);
        }
        let live = self.0.jobs.locked();
        let mut jobs = live.values().map(|live| live.job());
        jobs.find_map(|job| match &job.work {
            Work::Restore {
                volume: of, backup, ..
            } if super::stored::is_snapshot(backup) => {
                let from = SnapshotRef::parse(backup);
                let reads = from.volume.as_deref() == Some(volume.as_str())
                    && snapshot.is_none_or(|snapshot| snapshot.as_str() == from.snapshot);
                reads.then(|| format!("job {}, which makes the volume {of} of {backup}", job.id))
            }
            Work::Backup {
                volume: of,
                reads: Reads::Volume,
                ..
            } if of == volume && snapshot.is_none() => Some(format!("job {}, a backup of {of}", job.id)),
            Work::Backup {
                volume: of,
                snapshot: reads,
                reads: Reads::Snapshot | Reads::OwnSnapshot,
                ..
            } if of == volume && snapshot.is_none_or(|snapshot| snapshot == reads) => {
                Some(format!("job {}, a backup of {of}@{reads}", job.id))
            }
            _ => None,
        })
    }

    /// Begins again what the daemon's last run left.
    pub(super) async fn resume_jobs(&self) -> Result<()> {
        let left: Vec<Job> = self.blocking(|inner| Ok(inner.state.jobs()?)).await?;
        for mut job in left.into_iter().filter(|job| !job.state.is_final()) {
            if job.state == JobState::Running {
                job.note("the daemon ended in the middle of this");
            }
            if job.attempts >= MAX_ATTEMPTS {
                let message = format!("the daemon ended {MAX_ATTEMPTS} times in the middle of this");
                self.conclude(
                    job,
                    JobState::Failed,
                    Some(JobFailure {
                        kind: crate::model::FailureKind::Internal,
                        message,
                        hint: "the daemon's log may tell why".to_owned(),
                    }),
                )
                .await;
                continue;
            }
            job.state = JobState::Queued;
            self.launch(job);
        }
        Ok(())
    }

    /// Ends all jobs' work for now; the next start takes them up again.
    pub(super) fn suspend_jobs(&self) {
        for live in self.0.jobs.locked().values() {
            live.end();
        }
    }

    fn launch(&self, job: Job) -> Arc<Live> {
        let live = Live::new(job);
        self.0.jobs.locked().insert(live.job().id, live.clone());
        let (this, task) = (self.clone(), live.clone());
        // Keeps the daemon from stopping before what became of the job is recorded.
        let busy = self.0.busy.subscribe();
        tokio::spawn(async move {
            this.run_job(&task).await;
            this.0.jobs.locked().remove(&task.job().id);
            task.over.send_replace(true);
            drop(busy);
        });
        // A stop that began meanwhile has not seen this job.
        if self.is_stopping() {
            live.end();
        }
        live
    }

    async fn run_job(&self, live: &Arc<Live>) {
        let turns = match live.job().work {
            Work::Restore { .. } => &self.0.jobs.restores,
            _ => &self.0.jobs.others,
        };
        let turn = tokio::select! {
            turn = turns.acquire() => turn.ok(),
            () = live.ending() => None,
        };
        let result = match turn {
            None => Err(EngineError::Cancelled.into()),
            Some(_turn) => {
                *live.began.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                let running = {
                    let mut job = live.job.lock().unwrap_or_else(PoisonError::into_inner);
                    job.state = JobState::Running;
                    job.attempts += 1;
                    job.started = Some(Time::now());
                    job.clone()
                };
                let (id, object, kind) = (running.id, running.work.object(), running.work.kind());
                self.record(running).await;
                self.events()
                    .emit("job.start", id, &[("kind", kind.to_owned()), ("object", object)]);
                self.ready().await;
                self.work(live).await
            }
        };
        self.end_job(live, result).await;
    }

    async fn end_job(&self, live: &Arc<Live>, result: Result<Outcome>) {
        let by_hand = *live.cancelled.borrow();
        if let Work::Backup { .. } = live.job().work {
            let figures = live.progress.figures();
            self.0.tally.backed_up(figures.read_bytes, figures.stored_bytes);
        }
        let stopped = matches!(
            result,
            Err(ServiceError::Engine(EngineError::Cancelled) | ServiceError::Stopping)
        );
        let mut job = live.job();
        if stopped && !by_hand && self.is_stopping() {
            // Not its fault: a stop in good order is no failed attempt.
            job.state = JobState::Queued;
            job.attempts = job.attempts.saturating_sub(1);
            job.note("the daemon stops; the next start goes on with it");
            return self.record(job).await;
        }
        let (state, failure) = match result {
            Ok(outcome) => {
                job.result = outcome;
                (JobState::Done, None)
            }
            Err(_) if stopped => (JobState::Cancelled, None),
            Err(error) => (
                JobState::Failed,
                Some(JobFailure {
                    kind: error.kind(),
                    message: error.one_line(),
                    hint: error.hint(),
                }),
            ),
        };
        let kept = self.conclude(job, state, failure).await;
        *live.job.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// Records and tells the end of a job.
    async fn conclude(&self, mut job: Job, state: JobState, failure: Option<JobFailure>) -> Job {
        job.state = state;
        job.ended = Some(Time::now());
        if let Some(failure) = &failure {
            job.note(failure.message.clone());
        }
        job.failure = failure;
        self.record(job.clone()).await;
        self.0.tally.job_ended(&job);
        let mut about = vec![
            ("kind", job.work.kind().to_owned()),
            ("object", job.work.object()),
            ("state", state.word().to_owned()),
        ];
        about.extend(
            job.failure
                .as_ref()
                .map(|failure| ("error", failure.message.clone())),
        );
        self.events().emit("job.end", job.id, &about);
        job
    }

    /// Writes a job down. Where that fails (a full disk), the job goes on: the next start begins it again.
    async fn record(&self, job: Job) {
        if let Err(error) = self.blocking(move |inner| Ok(inner.state.put_job(&job)?)).await {
            log::error!("{error}");
        }
    }

    fn status_of(&self, job: Job) -> JobStatus {
        match self.0.jobs.get(job.id) {
            Some(live) => live.status(),
            None => JobStatus {
                job,
                figures: None,
                running: Duration::ZERO,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FailureKind;

    fn status(total: u64, done: u64, seconds: u64) -> JobStatus {
        let job = serde_json::from_value(serde_json::json!({
            "id": 1, "state": "running", "created": "2026-11-20T08:00:00Z",
            "work": {"kind": "delete", "backup": "vfs:///b?volume=v&backup=0"},
        }));
        JobStatus {
            job: job.expect("a record"),
            figures: Some(Figures {
                phase: "reading the index".to_owned(),
                total_bytes: total,
                done_bytes: done,
                ..Figures::default()
            }),
            running: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn how_far_and_how_long_is_said_as_people_say_it() {
        assert_eq!(status(0, 0, 5).in_words(), "reading the index");
        assert_eq!(status(100, 43, 0).in_words(), "43 %");
        assert_eq!(
            status(1_000_000, 430_000, 90).in_words(),
            "43 %, about 2 min left"
        );
        assert_eq!(status(1_000, 500, 10).in_words(), "50 %, about 10 s left");
        assert_eq!(
            status(1_000_000, 1_000, 10).in_words(),
            "0 %, about 2 h 46 min left"
        );
        // Sources that grow while they are read do not make more than all.
        assert_eq!(status(100, 200, 0).percent(), Some(100));
        assert_eq!(status(u64::MAX, u64::MAX, 1).percent(), Some(100));
    }

    #[test]
    fn what_failed_is_kept_with_its_kind() {
        let failure = JobFailure {
            kind: FailureKind::Corrupt,
            message: "data/3f is damaged".to_owned(),
            hint: String::new(),
        };
        let text = serde_json::to_string(&failure).expect("JSON");
        assert_eq!(serde_json::from_str::<JobFailure>(&text).expect("back"), failure);
    }
}
