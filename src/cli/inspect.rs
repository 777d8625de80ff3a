//! `windlass inspect`.

use std::collections::BTreeMap;

use clap::Args;

use super::screen::ago;
use super::sheet::{self, Sheet};
use super::snapshot;
use super::{Error, Screen, reference};
use crate::api::types::{Mount, Schedule, Volume};
use crate::client::Client;
use crate::model::{Span, Time};

/// What `DriverInfo` repeats of the volume itself.
const SAID_ELSEWHERE: &[&str] = &["Driver", "VolumeName", "VolumeCreatedAt", "MountPoint", "Size"];

/// Show all about a volume
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass inspect pgdata
  windlass inspect pgdata -o json | jq -r .DriverInfo.Path")]
pub struct Inspect {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
}

impl Inspect {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let volume = client.volume(&self.volume).await?;
        if screen.json() {
            return screen.value(&volume);
        }
        screen.text(&sheet(&volume, screen).render(0))?;
        if volume.snapshots.is_empty() {
            return Ok(());
        }
        screen.line("")?;
        screen.table(snapshot::table(volume.snapshots.values(), screen.now()))
    }
}

fn sheet(volume: &Volume, screen: &Screen) -> Sheet {
    let now = screen.now();
    let mut sheet = Sheet::default();
    sheet.line("Name", &volume.name);
    sheet.line("UUID", &volume.uuid);
    sheet.line("Driver", &volume.driver);
    match volume.state.as_str() {
        "ready" => sheet.line("State", "ready"),
        trouble => sheet.alarm("State", trouble, screen),
    }
    let size = sheet::size(&volume.driver_info, "Size");
    sheet.line("Size", size.as_deref().unwrap_or("unbounded"));
    sheet.line(
        "Created",
        format!("{} ({})", volume.created_at, ago(&volume.created_at, now)),
    );
    sheet.line(
        "Mounted",
        match volume.mount_point.as_str() {
            "" => "no",
            point => point,
        },
    );
    for (at, mount) in volume.mounts.iter().enumerate() {
        sheet.line(if at == 0 { "Used by" } else { "" }, user(mount, now));
    }
    sheet.line("Options", pairs(&volume.options));
    sheet.line("Policy", pairs(&volume.policy));
    for (task, schedule) in &volume.schedules {
        let line = format!("{task}: {}", fares(schedule, now));
        let title = if task == volume.schedules.keys().next().unwrap_or(task) {
            "Schedules"
        } else {
            ""
        };
        match schedule.health.as_str() {
            "ok" | "waiting" => sheet.line(title, line),
            _ => sheet.alarm(title, &line, screen),
        }
    }
    sheet.entries(&volume.driver_info, SAID_ELSEWHERE);
    sheet.line(
        "Snapshots",
        match volume.snapshots.len() {
            0 => "none".to_owned(),
            count => count.to_string(),
        },
    );
    sheet
}

fn fares(schedule: &Schedule, now: Time) -> String {
    let mut text = schedule.health.clone();
    if !schedule.succeeded_at.is_empty() {
        text.push_str(&format!(", last {}", ago(&schedule.succeeded_at, now)));
        if schedule.seconds > 0 {
            text.push_str(&format!(" in {}", Span::seconds(schedule.seconds)));
        }
    }
    if !schedule.next_at.is_empty() {
        text.push_str(&format!(", next at {}", schedule.next_at));
    }
    if !schedule.error.is_empty() {
        text.push_str(&format!(
            ", failed {} times: {}",
            schedule.failures, schedule.error
        ));
    }
    text
}

fn user(mount: &Mount, now: Time) -> String {
    let mut text = format!("{} since {}", mount.id, ago(&mount.since, now));
    if mount.count != 1 {
        text.push_str(&format!(", {} times", mount.count));
    }
    if !mount.confirmed {
        text.push_str(", from before the daemon's start");
    }
    text
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    if map.is_empty() {
        return "none".to_owned();
    }
    let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::volume;
    use super::*;

    #[test]
    fn everything_about_a_volume() {
        let mut volume = volume("pgdata");
        volume.mount_point = "/var/lib/windlass/mounts/pgdata".to_owned();
        volume.state = "failing: the directory is gone".to_owned();
        let mount = |id: &str, count, confirmed| Mount {
            id: id.to_owned(),
            count,
            since: "2026-11-23T09:00:00Z".to_owned(),
            confirmed,
        };
        volume.mounts = vec![mount("6f0c", 2, true), mount("77aa", 1, false)];
        let screen = Screen::of_test(Box::new(Vec::new()), Box::new(Vec::new()), None, Some(80));
        assert_eq!(
            sheet(&volume, &screen).render(0).lines().collect::<Vec<_>>(),
            [
                "Name:       pgdata",
                "UUID:       0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
                "Driver:     vfs",
                "State:      failing: the directory is gone",
                "Size:       20 GiB",
                "Created:    2026-11-20T08:00:00Z (3d ago)",
                "Mounted:    /var/lib/windlass/mounts/pgdata",
                "Used by:    6f0c since 30m ago, 2 times",
                "            77aa since 30m ago, from before the daemon's start",
                "Options:    size=20G",
                "Policy:     on-remove=trash, protect=false, trash-ttl=7d",
                "Path:       /data/pgdata",
                "Snapshots:  1",
            ]
        );
    }
}
