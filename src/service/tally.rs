//! What this run of the daemon has counted: ended jobs, how long they took, the bytes of backups, what listeners missed.
//!
//! Counters of Prometheus' own library, since it is Prometheus that asks for them. Nothing here is recorded: what counts from
//! zero at each start is what such counters do.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Service;
use crate::model::{Job, JobState};

/// Upper bounds of the classes of a job's duration, in seconds: from a backup without changes to the first of a large volume.
const DURATIONS: [f64; 11] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0,
];

/// Labels by name, all of them words of ours.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The counters.
#[derive(Debug)]
pub struct Tally {
    jobs: Family<Labels<2>, Counter>,
    durations: Family<Labels<1>, Histogram, fn() -> Histogram>,
    read: Counter,
    stored: Counter,
    dropped: Family<Labels<1>, Counter>,
    notified: Family<Labels<2>, Counter>,
}

impl Default for Tally {
    fn default() -> Self {
        let tally = Self {
            jobs: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            read: Counter::default(),
            stored: Counter::default(),
            dropped: Family::default(),
            notified: Family::default(),
        };
        // A counter that begins at its first event hides that event from whoever looks at its growth.
        for listener in ["feed", "webhook"] {
            let _ = tally.dropped.get_or_create(&[("listener", listener)]);
        }
        for kind in ["webhook", "ping"] {
            for result in ["delivered", "failed", "dropped"] {
                let _ = tally
                    .notified
                    .get_or_create(&[("kind", kind), ("result", result)]);
            }
        }
        for state in [JobState::Done, JobState::Failed, JobState::Cancelled] {
            let _ = tally
                .jobs
                .get_or_create(&[("kind", "backup"), ("state", state.word())]);
        }
        tally
    }
}

impl Tally {
    /// Counts a job that has ended.
    pub(super) fn job_ended(&self, job: &Job) {
        let kind = job.work.kind();
        self.jobs
            .get_or_create(&[("kind", kind), ("state", job.state.word())])
            .inc();
        if let (Some(started), Some(ended)) = (job.started, job.ended) {
            // A clock that was set back makes no job shorter than nothing.
            let seconds = ended.as_second().saturating_sub(started.as_second()).max(0);
            self.durations
                .get_or_create(&[("kind", kind)])
                .observe(seconds as f64);
        }
    }

    /// Counts what a backup has read and stored, whatever became of it.
    pub(super) fn backed_up(&self, read: u64, stored: u64) {
        self.read.inc_by(read);
        self.stored.inc_by(stored);
    }

    /// Counts events that did not reach a listener: `feed` or `webhook`.
    pub fn events_dropped(&self, listener: &'static str, events: u64) {
        self.dropped
            .get_or_create(&[("listener", listener)])
            .inc_by(events);
    }

    /// Counts what was told to the world outside: a `webhook` or a `ping` that was `delivered`, `failed` or `dropped`.
    pub fn notified(&self, kind: &'static str, result: &'static str) {
        self.notified
            .get_or_create(&[("kind", kind), ("result", result)])
            .inc();
    }

    /// Gives all counters to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "jobs_ended",
            "Jobs that have ended since the daemon started",
            self.jobs.clone(),
        );
        registry.register_with_unit(
            "job_duration",
            "How long ended jobs took from their last beginning",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "backup_read",
            "Bytes that backups have read from volumes",
            Unit::Bytes,
            self.read.clone(),
        );
        registry.register_with_unit(
            "backup_stored",
            "Bytes that backups have stored, compressed and encrypted",
            Unit::Bytes,
            self.stored.clone(),
        );
        registry.register(
            "events_dropped",
            "Events that did not reach a listener",
            self.dropped.clone(),
        );
        registry.register(
            "notifications",
            "Webhooks and pings, and what became of them",
            self.notified.clone(),
        );
    }
}

impl Service {
    /// What this run of the daemon has counted.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }
}
