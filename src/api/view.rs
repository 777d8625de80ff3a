//! Volumes and snapshots as they are shown: the one place where records become the API's words.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::types;
use super::types::TextMap;
use crate::model;
use crate::service::{
    Checkpoint, Difference, Entry, Event, Fare, Found, JobStatus, Judged, Listed, Mark, Measured, Retention,
    Service, Timeline,
};

/// A volume's history.
pub fn timeline(timeline: &Timeline, since: Option<model::Time>) -> types::Timeline {
    let state = match (&timeline.volume, timeline.removed) {
        (_, Some(_)) => "trash",
        (Some(_), None) => "here",
        (None, None) => "gone",
    };
    let mark = |mark: &Mark| types::TimelineMark {
        at: mark.at.to_string(),
        kind: mark.kind.word().to_owned(),
        state: mark.state.to_owned(),
        name: mark.name.clone(),
        detail: mark.detail.clone(),
    };
    types::Timeline {
        name: timeline.name.clone(),
        state: state.to_owned(),
        since: since.map(|since| since.to_string()).unwrap_or_default(),
        marks: timeline.marks.iter().map(mark).collect(),
        notes: timeline.notes.clone(),
    }
}

/// One line of a comparison.
pub fn difference(difference: &Difference) -> types::Difference {
    let text = |path: &std::path::Path| path.display().to_string();
    let mut line = types::Difference::default();
    match difference {
        Difference::Change(change) => {
            line.change = change.how.word().to_owned();
            line.path = text(&change.path);
            line.old_path = change.old_path.as_deref().map(text).unwrap_or_default();
            line.kind = change.kind.to_owned();
            line.what = change.what.iter().map(|what| (*what).to_owned()).collect();
            (line.old_bytes, line.bytes) = (change.old_bytes, change.bytes);
        }
        Difference::Range { offset, bytes } => {
            line.change = "range".to_owned();
            (line.offset, line.bytes) = (Some(*offset), *bytes);
        }
        Difference::Summary(summary) => {
            line.change = "summary".to_owned();
            line.bytes = summary.bytes;
            line.summary = Some(types::DifferenceSummary {
                compared: summary.compared,
                added: summary.added,
                removed: summary.removed,
                modified: summary.modified,
                renamed: summary.renamed,
                ranges: summary.ranges,
            });
        }
        Difference::Failed(error) => {
            line.change = "failed".to_owned();
            line.failure = Some(super::error::failure(error));
        }
    }
    line
}

/// Docker's `Status`, shown by `docker volume inspect`.
pub fn status(service: &Service, entry: &Entry) -> Value {
    let volume = &entry.volume;
    let snapshots: Vec<Value> = volume
        .snapshots
        .iter()
        .map(|s| json!({"Name": s.name, "CreatedAt": s.created, "Consistency": s.consistency.word()}))
        .collect();
    let mut status = json!({
        "Driver": volume.driver,
        "UUID": volume.id,
        "Size": volume.size.map_or("unlimited".to_owned(), |size| size.to_string()),
        "Snapshots": snapshots,
        "Policy": policy(service, volume),
        "State": state(service, entry),
    });
    if let Some(began) = &volume.began_as {
        status["BeganAs"] = json!({"From": began.from, "At": began.at});
    }
    if let Some(Measured { usage, at, .. }) = &entry.usage {
        status["UsedBytes"] = json!(usage.used);
        status["Used"] = json!(usage.used.to_string());
        if let Some(exclusive) = usage.exclusive {
            status["ExclusiveBytes"] = json!(exclusive);
        }
        status["UsedAt"] = json!(at);
    }
    let fares = service.fares(volume);
    if !fares.is_empty() {
        status["Health"] = json!(worst(&fares));
        status["Schedules"] = json!(fares.iter().map(schedule).collect::<BTreeMap<_, _>>());
    }
    status
}

/// A volume for `list` and `inspect`.
pub fn volume(service: &Service, entry: &Entry) -> types::Volume {
    let volume = &entry.volume;
    let snapshots = volume
        .snapshots
        .iter()
        .map(|s| (s.name.to_string(), snapshot_entry(volume, s)))
        .collect();
    let mounts = entry
        .holds
        .values()
        .map(|hold| types::Mount {
            id: hold.mount_id.clone(),
            count: hold.count,
            since: hold.since.to_string(),
            confirmed: service.is_confirmed(hold),
        })
        .collect();
    let fares = service.fares(volume);
    types::Volume {
        name: volume.name.to_string(),
        uuid: volume.id.to_string(),
        driver: volume.driver.clone(),
        mount_point: mount_point(entry),
        created_time: volume.created.convoy(),
        created_at: volume.created.to_string(),
        driver_info: driver_info(service, entry),
        snapshots,
        mounts,
        options: options(volume),
        policy: policy(service, volume),
        health: worst(&fares),
        schedules: fares.iter().map(schedule).collect(),
        state: state(service, entry),
    }
}

/// The options as they were given, but for the URLs that are secrets.
fn options(volume: &model::Volume) -> BTreeMap<String, String> {
    let shown = |(name, value): (&String, &String)| {
        let mut policy = model::Policy::default();
        let secret = name.starts_with("ping.") && name.ends_with("url");
        let value = match secret && policy.set(name, value).unwrap_or(true) {
            true => policy.given().remove(name.as_str()).unwrap_or_default(),
            false => value.clone(),
        };
        (name.clone(), value)
    };
    volume.options.iter().map(shown).collect()
}

/// A snapshot by itself.
pub fn snapshot(found: &Found) -> types::Snapshot {
    let entry = snapshot_entry(&found.volume, &found.snapshot);
    types::Snapshot {
        name: entry.name,
        uuid: entry.uuid,
        volume_name: found.volume.name.to_string(),
        volume_created_at: found.volume.created.convoy(),
        created_time: entry.created_time,
        created_at: entry.created_at,
        driver_info: entry.driver_info,
        notes: Vec::new(),
    }
}

/// A snapshot within its volume.
pub fn snapshot_entry(volume: &model::Volume, snapshot: &model::Snapshot) -> types::SnapshotEntry {
    let stored = snapshot.stored.as_ref();
    let stored = stored.map(|stored| ("StoredBackup", stored.backup.chars().take(16).collect()));
    let hooks = snapshot.hooks.map(|hooks| ("Hooks", hooks.word().to_owned()));
    let checkpoint = snapshot.checkpoint.as_ref();
    let checkpoint = checkpoint.map(|checkpoint| ("Checkpoint", checkpoint.name.to_string()));
    let info = [
        ("Driver", volume.driver.clone()),
        ("SnapshotName", snapshot.name.to_string()),
        ("SnapshotCreatedAt", snapshot.created.convoy()),
        ("VolumeName", volume.name.to_string()),
        ("Size", size(volume)),
        ("Consistency", snapshot.consistency.word().to_owned()),
    ];
    types::SnapshotEntry {
        name: snapshot.name.to_string(),
        uuid: snapshot.id.to_string(),
        created_time: snapshot.created.convoy(),
        created_at: snapshot.created.to_string(),
        driver_info: text_map(
            info.into_iter()
                .chain(stored)
                .chain(hooks)
                .chain(checkpoint)
                .map(|(key, value)| (key.to_owned(), value)),
        ),
    }
}

/// A checkpoint.
pub fn checkpoint(checkpoint: &Checkpoint) -> types::Checkpoint {
    let about = &checkpoint.about;
    let text = |name: &model::Name| name.to_string();
    types::Checkpoint {
        name: about.name.to_string(),
        uuid: about.id.to_string(),
        created_at: about.created.to_string(),
        moment: about.moment.word().to_owned(),
        volumes: about.volumes.iter().map(text).collect(),
        snapshots: checkpoint
            .parts
            .iter()
            .map(|part| format!("{}@{}", part.volume.name, part.snapshot.name))
            .collect(),
        missing: checkpoint.missing().into_iter().map(text).collect(),
        notes: Vec::new(),
    }
}

/// A removed volume.
pub fn trashed(trashed: &model::Trashed) -> types::Trashed {
    types::Trashed {
        name: trashed.volume.name.to_string(),
        uuid: trashed.volume.id.to_string(),
        driver: trashed.volume.driver.clone(),
        removed_at: trashed.removed.to_string(),
        expires_at: trashed.expires.to_string(),
        snapshots: trashed.volume.snapshots.len(),
    }
}

/// A backup.
pub fn backup(listed: &Listed) -> types::Backup {
    let (record, manifest) = (&listed.backup.record, listed.backup.manifest());
    let summary = record.summary.as_ref();
    let created = model::Time::from_second(record.time.as_second());
    types::Backup {
        backup_name: listed.backup.name(),
        backup_url: listed.url.clone(),
        driver_name: manifest.map(|m| m.driver.clone()).unwrap_or_default(),
        volume_name: listed.volume.to_string(),
        volume_size: manifest.map_or(0, |m| m.size).to_string(),
        volume_created_at: manifest.map(|m| m.volume.created.convoy()).unwrap_or_default(),
        snapshot_name: manifest.map(|m| m.snapshot.name.clone()).unwrap_or_default(),
        snapshot_created_at: manifest.map(|m| m.snapshot.created.convoy()).unwrap_or_default(),
        created_time: created.convoy(),
        created_at: created.to_string(),
        id: listed.backup.id.to_string(),
        host: record.hostname.clone(),
        kind: listed.kind().to_owned(),
        volume_uuid: manifest.map(|m| m.volume.id.to_string()).unwrap_or_default(),
        consistency: manifest
            .map(|m| m.snapshot.consistency.clone())
            .unwrap_or_default(),
        files: summary.map_or(0, |s| s.total_files_processed),
        bytes_total: summary.map_or(0, |s| s.total_bytes_processed),
        bytes_read: summary.map_or(0, |s| s.windlass_bytes_read),
        bytes_new: summary.map_or(0, |s| s.data_added),
        bytes_stored: summary.map_or(0, |s| s.data_added_packed),
        seconds: summary.map_or(0.0, |s| {
            s.backup_end.duration_since(s.backup_start).as_secs_f64().max(0.0)
        }),
    }
}

/// A job.
pub fn job(status: &JobStatus) -> types::Job {
    let job = &status.job;
    let time = |time: Option<model::Time>| time.map(|time| time.to_string()).unwrap_or_default();
    types::Job {
        id: job.id.0,
        kind: job.work.kind().to_owned(),
        volume: job.work.volume().map(ToString::to_string).unwrap_or_default(),
        parameters: job
            .work
            .parameters()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        state: job.state.word().to_owned(),
        attempts: job.attempts,
        created_at: job.created.to_string(),
        started_at: time(job.started),
        ended_at: time(job.ended),
        progress: status
            .figures
            .as_ref()
            .filter(|_| !job.state.is_final())
            .map(|f| types::JobProgress {
                phase: f.phase.clone(),
                percent: status.percent(),
                bytes_total: f.total_bytes,
                bytes_done: f.done_bytes,
                items_total: f.total_items,
                items_done: f.done_items,
                bytes_read: f.read_bytes,
                bytes_new: f.new_bytes,
                bytes_stored: f.stored_bytes,
                bytes_per_second: status.bytes_per_second(),
                seconds_left: status.left().map(|left| left.as_secs()),
                seconds: status.running.as_secs(),
            }),
        // A result that an earlier version wrote has other keys at the worst, which are left out.
        result: serde_json::from_value(Value::Object(job.result.clone())).unwrap_or_default(),
        failure: job.failure.as_ref().map(|failure| types::Failure {
            kind: failure.kind,
            message: failure.message.clone(),
            hint: failure.hint.clone(),
        }),
        log: job
            .log
            .iter()
            .map(|line| types::JobLine {
                time: line.time.to_string(),
                text: line.text.clone(),
            })
            .collect(),
    }
}

/// An event.
pub fn event(event: &Event) -> types::Event {
    types::Event {
        sequence: event.sequence,
        time: event.time.to_string(),
        action: event.action.to_owned(),
        object: event.object.clone(),
        attributes: event.attributes.clone(),
    }
}

/// Text by key, in the order given.
pub fn text_map(pairs: impl IntoIterator<Item = (String, String)>) -> TextMap {
    pairs
        .into_iter()
        .map(|(key, value)| (key, Value::String(value)))
        .collect()
}

fn driver_info(service: &Service, entry: &Entry) -> TextMap {
    let volume = &entry.volume;
    let mut info = vec![
        ("Driver".to_owned(), volume.driver.clone()),
        ("VolumeName".to_owned(), volume.name.to_string()),
        ("VolumeCreatedAt".to_owned(), volume.created.convoy()),
        ("Size".to_owned(), size(volume)),
    ];
    let slot = service.drivers().iter().find(|slot| slot.name() == volume.driver);
    if let Some(driver) = slot.and_then(|slot| slot.get().ok()) {
        info.extend(driver.location(volume));
    }
    info.push(("MountPoint".to_owned(), mount_point(entry)));
    if let Some(began) = &volume.began_as {
        info.push(("BeganAs".to_owned(), began.from.clone()));
        info.push(("BeganAsOf".to_owned(), began.at.to_string()));
    }
    if let Some(Measured { usage, at, .. }) = &entry.usage {
        info.push(("Used".to_owned(), usage.used.0.to_string()));
        if let Some(exclusive) = usage.exclusive {
            info.push(("ExclusiveUsed".to_owned(), exclusive.0.to_string()));
        }
        info.push(("UsedAt".to_owned(), at.to_string()));
    }
    text_map(info)
}

/// The policy in force, with the defaults that there are.
fn policy(service: &Service, volume: &model::Volume) -> BTreeMap<String, String> {
    let settings = service.settings();
    let defaults = [
        ("on-remove", settings.on_remove.to_string()),
        ("trash-ttl", settings.trash_ttl.to_string()),
        ("protect", false.to_string()),
    ];
    let in_force = defaults.into_iter().chain(service.policy_of(volume).given());
    in_force.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What a policy keeps.
pub(super) fn retention(retention: &Retention) -> types::Retention {
    let judged = |judged: &Judged| types::Judged {
        name: judged.name.clone(),
        created_at: judged.created.to_string(),
        kept: !judged.why.is_empty(),
        why: judged.why.iter().map(|why| (*why).to_owned()).collect(),
    };
    types::Retention {
        snapshots: retention.snapshots.iter().map(judged).collect(),
        backups: retention.backups.iter().map(judged).collect(),
    }
}

fn worst(fares: &[Fare]) -> String {
    let worst = fares.iter().map(|fare| fare.health).max();
    worst.map_or_else(String::new, |health| health.word().to_owned())
}

fn schedule(fare: &Fare) -> (String, types::Schedule) {
    let time = |time: Option<model::Time>| time.map(|time| time.to_string()).unwrap_or_default();
    let shown = types::Schedule {
        health: fare.health.word().to_owned(),
        next_at: time(fare.next),
        succeeded_at: time(fare.past.succeeded),
        tried_at: time(fare.past.tried),
        failures: fare.past.failures,
        error: fare.past.error.clone().unwrap_or_default(),
        seconds: fare.past.took_ms.map_or(0, |took| took / 1000),
        at_work: fare.at_work,
    };
    (fare.task.word().to_owned(), shown)
}

/// `ready`, or what keeps the volume from being used: `restoring, 43 %, about 2 min left`.
fn state(service: &Service, entry: &Entry) -> String {
    let healthy = || service.restoring_in_words(&entry.volume);
    entry
        .trouble
        .clone()
        .or_else(healthy)
        .unwrap_or_else(|| "ready".to_owned())
}

fn mount_point(entry: &Entry) -> String {
    entry
        .mounted
        .as_ref()
        .map(|at| at.display().to_string())
        .unwrap_or_default()
}

/// Bytes as text; `0` is without bound, as Convoy's vfs driver wrote it.
fn size(volume: &model::Volume) -> String {
    volume.size.map_or(0, |size| size.0).to_string()
}
