//! `windlass list`.

use clap::Args;

use super::screen::ago;
use super::sheet;
use super::table::{Shrink, Table, Text};
use super::{Error, Screen};
use crate::api::types::{Volume, VolumeList};
use crate::client::Client;
use crate::model::Time;

/// The state that needs no mention.
const READY: &str = "ready";

/// List volumes
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
#[command(after_help = "Examples:
  windlass list
  windlass list --driver vfs
  windlass list -o json | jq -r 'keys[]'")]
pub struct List {
    /// Only the volumes of this driver
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
}

impl List {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let volumes = client.volumes(self.driver.as_deref()).await?;
        if screen.json() {
            return screen.value(&volumes);
        }
        if volumes.is_empty() && screen.terminal() {
            return screen.line(&match &self.driver {
                Some(driver) => format!("no volumes on driver {driver}"),
                None => "no volumes yet; 'windlass create NAME' or 'docker volume create -d windlass NAME' \
                         makes one"
                    .to_owned(),
            });
        }
        screen.table(table(&volumes, screen.now()))
    }
}

/// The table. USED, HEALTH and STATE appear only where they say something.
fn table(volumes: &VolumeList, now: Time) -> Table {
    let used = |volume: &Volume| sheet::size(&volume.driver_info, "Used");
    let any_used = volumes.values().any(|volume| used(volume).is_some());
    let any_trouble = volumes.values().any(|volume| volume.state != READY);
    let any_health = volumes.values().any(|volume| !volume.health.is_empty());
    let mut table = Table::default()
        .column("NAME", Shrink::Never)
        .column("DRIVER", Shrink::Never)
        .column("SIZE", Shrink::Never);
    if any_used {
        table = table.column("USED", Shrink::Never);
    }
    table = table
        .column("SNAPSHOTS", Shrink::Never)
        .column("MOUNTED", Shrink::KeepEnd(12))
        .column("CREATED", Shrink::Never);
    if any_health {
        table = table.column("HEALTH", Shrink::Never);
    }
    if any_trouble {
        table = table.column("STATE", Shrink::KeepStart(20));
    }
    for volume in volumes.values() {
        let dash = |text: Option<String>| Text::from(text.unwrap_or_else(|| "-".to_owned()));
        let mut cells: Vec<Text> = vec![
            (&volume.name).into(),
            (&volume.driver).into(),
            dash(sheet::size(&volume.driver_info, "Size")),
        ];
        if any_used {
            cells.push(dash(used(volume)));
        }
        cells.push(volume.snapshots.len().to_string().into());
        cells.push(dash(
            Some(volume.mount_point.clone()).filter(|point| !point.is_empty()),
        ));
        cells.push(ago(&volume.created_at, now).into());
        if any_health {
            cells.push(match volume.health.as_str() {
                "" => "-".into(),
                well @ ("ok" | "waiting") => well.into(),
                unwell => Text::red(unwell),
            });
        }
        if any_trouble {
            cells.push(match volume.state.as_str() {
                READY => READY.into(),
                trouble => Text::red(trouble),
            });
        }
        table.row(cells);
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::volume;
    use super::*;

    fn volumes() -> VolumeList {
        let mut mounted = volume("pgdata");
        mounted.mount_point = "/var/lib/windlass/mounts/pgdata".to_owned();
        let mut unbounded = volume("www");
        unbounded.driver_info.insert("Size".to_owned(), "0".into());
        unbounded.snapshots.clear();
        unbounded.created_at = "2026-11-23T09:18:00Z".to_owned();
        [mounted, unbounded]
            .map(|volume| (volume.name.clone(), volume))
            .into()
    }

    fn lines(volumes: &VolumeList, width: Option<usize>) -> Vec<String> {
        let now = "2026-11-23T09:30:00Z".parse().unwrap();
        let text = table(volumes, now).render(width, false);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn volumes_in_columns() {
        let wide = lines(&volumes(), None);
        assert_eq!(
            wide,
            [
                "NAME    DRIVER  SIZE    SNAPSHOTS  MOUNTED                          CREATED",
                "pgdata  vfs     20 GiB  1          /var/lib/windlass/mounts/pgdata  3d ago",
                "www     vfs     -       0          -                                12m ago",
            ]
        );
        assert_eq!(lines(&volumes(), Some(80)), wide);
        assert_eq!(
            lines(&volumes(), Some(64)),
            [
                "NAME    DRIVER  SIZE    SNAPSHOTS  MOUNTED          CREATED",
                "pgdata  vfs     20 GiB  1          …/mounts/pgdata  3d ago",
                "www     vfs     -       0          -                12m ago",
            ]
        );
    }

    #[test]
    fn trouble_and_usage_have_columns_when_there_is_some() {
        let mut volumes = volumes();
        let www = volumes.get_mut("www").unwrap();
        www.state = "failing: its directory is gone".to_owned();
        www.driver_info.insert("Used".to_owned(), "1536".into());
        assert_eq!(
            lines(&volumes, None),
            [
                "NAME    DRIVER  SIZE    USED     SNAPSHOTS  MOUNTED                          CREATED  STATE",
                "pgdata  vfs     20 GiB  -        1          /var/lib/windlass/mounts/pgdata  3d ago   ready",
                "www     vfs     -       1.5 KiB  0          -                                12m ago  failing: its directory is gone",
            ]
        );
        assert_eq!(
            lines(&volumes, Some(80)),
            [
                "NAME    DRIVER  SIZE    USED     SNAPSHOTS  MOUNTED   CREATED  STATE",
                "pgdata  vfs     20 GiB  -        1          …/pgdata  3d ago   ready",
                "www     vfs     -       1.5 KiB  0          -         12m ago  failing: its direct…",
            ]
        );
    }
}
