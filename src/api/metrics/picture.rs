//! What a scrape shows besides the counters: taken from memory at once, then written down metric by metric.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::driver::pool::PoolStatus;
use crate::model::Time;
use crate::service::{Entry, Fare, Service};

/// The moment of a scrape.
#[derive(Debug)]
pub(super) struct Picture {
    started: Time,
    ready: bool,
    events: u64,
    drivers: Vec<(&'static str, bool)>,
    volumes: Vec<(Entry, Vec<Fare>)>,
    jobs: BTreeMap<(&'static str, &'static str), u64>,
    pool: Option<PoolStatus>,
}

impl Picture {
    pub fn take(service: &Service, pool: Option<PoolStatus>) -> Self {
        let mut jobs = BTreeMap::new();
        for (kind, state) in service.jobs_at_work() {
            *jobs.entry((kind, state.word())).or_default() += 1;
        }
        let drivers = service.drivers().iter();
        let volumes = service.entries().into_iter().map(|entry| {
            let fares = service.fares(&entry.volume);
            (entry, fares)
        });
        Self {
            started: service.started(),
            ready: service.is_ready(),
            events: service.events().count(),
            drivers: drivers.map(|slot| (slot.name(), slot.get().is_ok())).collect(),
            volumes: volumes.collect(),
            jobs,
            pool,
        }
    }

    fn of_daemon(&self, page: &mut Page<'_>) -> fmt::Result {
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        page.0
            .encode_descriptor("build", "The program", None, MetricType::Info)?
            .encode_info(&build)?;
        page.one(
            "start_time_seconds",
            "When this run of the daemon began",
            self.started.as_second(),
        )?;
        page.one(
            "ready",
            "Whether the daemon has come up and answers about volumes",
            i64::from(self.ready),
        )?;
        page.0
            .encode_descriptor(
                "events",
                "Events of this run of the daemon",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<[(&str, &str); 0], _, u64>(&self.events, None)?;
        let drivers = self.drivers.iter();
        page.gauge(
            "driver_available",
            "Whether a driver and its storage are there",
            drivers.map(|(name, there)| ([("driver", *name)], i64::from(*there))),
        )?;
        page.gauge(
            "jobs",
            "Jobs that have not ended",
            self.jobs
                .iter()
                .map(|((kind, state), count)| ([("kind", *kind), ("state", *state)], *count)),
        )
    }

    fn of_volumes(&self, page: &mut Page<'_>) -> fmt::Result {
        let labels = |entry: &Entry| [("volume", entry.volume.name.to_string())];
        let mut each = |name, help, unit, value: &dyn Fn(&Entry) -> Option<u64>| {
            let samples = self.volumes.iter().filter_map(|(entry, _)| {
                let value = value(entry)?;
                Some((labels(entry), value))
            });
            page.gauge_of(name, help, unit, samples)
        };
        each(
            "volume_available",
            "Whether nothing keeps the volume from being used",
            None,
            &|entry| Some(u64::from(entry.trouble.is_none())),
        )?;
        each(
            "volume_mounted",
            "Whether the volume is mounted",
            None,
            &|entry| Some(u64::from(entry.mounted.is_some())),
        )?;
        each(
            "volume_snapshots",
            "Snapshots that the volume has",
            None,
            &|entry| Some(entry.volume.snapshots.len() as u64),
        )?;
        each(
            "volume_size",
            "The most that the volume may hold, where there is a bound",
            Some(&Unit::Bytes),
            &|entry| {
                let measured = entry.usage.and_then(|measured| measured.usage.limit);
                entry.volume.size.or(measured).map(|size| size.0)
            },
        )?;
        each(
            "volume_used",
            "What the volume held when somebody last looked",
            Some(&Unit::Bytes),
            &|entry| entry.usage.map(|measured| measured.usage.used.0),
        )?;
        each(
            "volume_exclusive",
            "What of that it shares with no snapshot and no clone",
            Some(&Unit::Bytes),
            &|entry| entry.usage?.usage.exclusive.map(|exclusive| exclusive.0),
        )?;
        each(
            "volume_measured_timestamp",
            "When somebody last looked what the volume holds",
            Some(&Unit::Seconds),
            &|entry| u64::try_from(entry.usage?.at.as_second()).ok(),
        )
    }

    fn of_tasks(&self, page: &mut Page<'_>) -> fmt::Result {
        let tasks = || {
            self.volumes
                .iter()
                .flat_map(|(entry, fares)| fares.iter().map(move |fare| (entry.volume.name.as_str(), fare)))
        };
        page.gauge(
            "volume_task_health",
            "1 for the word that says how the task fares: ok, waiting, late, failing, never",
            tasks().map(|(volume, fare)| {
                let health = ("health", fare.health.word());
                ([("volume", volume), ("task", fare.task.word()), health], 1_u64)
            }),
        )?;
        let mut each = |name, help, unit, value: &dyn Fn(&Fare) -> Option<f64>| {
            let samples = tasks().filter_map(|(volume, fare)| {
                Some(([("volume", volume), ("task", fare.task.word())], value(fare)?))
            });
            page.gauge_of(name, help, unit, samples)
        };
        let seconds = |time: Option<Time>| time.map(|time| time.as_second() as f64);
        each(
            "volume_task_last_success_timestamp",
            "When the last one that succeeded was begun",
            Some(&Unit::Seconds),
            &|fare| seconds(fare.past.succeeded),
        )?;
        each(
            "volume_task_last_try_timestamp",
            "When the last one was begun, whatever became of it",
            Some(&Unit::Seconds),
            &|fare| seconds(fare.past.tried),
        )?;
        each(
            "volume_task_next_due_timestamp",
            "When the task is due next",
            Some(&Unit::Seconds),
            &|fare| seconds(fare.next),
        )?;
        each(
            "volume_task_last_duration",
            "How long the last one that succeeded took",
            Some(&Unit::Seconds),
            &|fare| fare.past.took_ms.map(|took| took as f64 / 1_000.0),
        )?;
        each(
            "volume_task_failures",
            "How many have failed since one succeeded",
            None,
            &|fare| Some(f64::from(fare.past.failures)),
        )
    }

    fn of_pool(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(pool) = &self.pool else {
            return Ok(());
        };
        let labels = [("pool", pool.name.as_str())];
        for (name, help, value) in [
            ("pool_data_size", "Space for what volumes hold", pool.data.total),
            ("pool_data_used", "What of it is taken", pool.data.used),
            (
                "pool_metadata_size",
                "Space for what the pool knows",
                pool.metadata.total,
            ),
            ("pool_metadata_used", "What of it is taken", pool.metadata.used),
        ] {
            page.gauge_of(name, help, Some(&Unit::Bytes), [(labels, value)])?;
        }
        let mode = [labels[0], ("mode", pool.mode.as_str())];
        page.gauge(
            "pool_mode",
            "1 for the mode that the pool is in: read-write, out of data space, read-only, failed",
            [(mode, 1_u64)],
        )?;
        page.gauge(
            "pool_needs_check",
            "Whether the kernel wants the metadata checked before it writes again",
            [(labels, u64::from(pool.needs_check))],
        )
    }
}

impl Collector for Picture {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.of_daemon(&mut page)?;
        self.of_volumes(&mut page)?;
        self.of_tasks(&mut page)?;
        self.of_pool(&mut page)
    }
}

/// Where metrics are written to.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// A gauge of the daemon itself.
    fn one(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.gauge_of(name, help, None, samples)
    }

    /// One of nothing is not written at all.
    fn gauge_of<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}
