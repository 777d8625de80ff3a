//! `windlass trash`: the volumes that were removed and can be brought back.

use clap::{Args, Subcommand};

use super::screen::ago;
use super::table::{Shrink, Table};
use super::{Error, Screen, reference};
use crate::api::types::Trashed;
use crate::client::Client;
use crate::model::Time;

/// Show or destroy removed volumes
#[derive(Debug, Subcommand)]
pub enum Trash {
    List(List),
    Purge(Purge),
}

/// List the removed volumes that 'windlass undelete' can bring back
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub struct List {}

/// Destroy a removed volume now, for good
#[derive(Debug, Args)]
pub struct Purge {
    /// The name it had, its UUID or the beginning of the UUID
    #[arg(value_parser = reference())]
    name: String,
}

impl Trash {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        match self {
            Self::List(List {}) => {
                let trash = client.trash().await?;
                if screen.json() {
                    return screen.value(&trash);
                }
                if trash.is_empty() && screen.terminal() {
                    return screen.line("the trash is empty");
                }
                screen.table(table(&trash, screen.now()))
            }
            Self::Purge(Purge { name }) => {
                let purged = client.purge(&name).await?;
                match screen.json_asked() {
                    true => screen.value(&purged),
                    false => Ok(()),
                }
            }
        }
    }
}

fn table(trash: &[Trashed], now: Time) -> Table {
    let mut table = Table::default()
        .column("NAME", Shrink::Never)
        .column("UUID", Shrink::Never)
        .column("DRIVER", Shrink::Never)
        .column("SNAPSHOTS", Shrink::Never)
        .column("REMOVED", Shrink::Never)
        .column("EXPIRES", Shrink::Never);
    for volume in trash {
        // The beginning of the UUID tells volumes of one name apart, and is enough to undelete by.
        let id = volume.uuid.get(..8).unwrap_or(&volume.uuid);
        table.row(vec![
            (&volume.name).into(),
            id.into(),
            (&volume.driver).into(),
            volume.snapshots.to_string().into(),
            ago(&volume.removed_at, now).into(),
            expires(&volume.expires_at, now).into(),
        ]);
    }
    table
}

/// `in 6d`, or `now` once the time has come.
fn expires(time: &str, now: Time) -> String {
    match time.parse::<Time>() {
        Ok(time) if time > now => format!("in {}", now.age(time)),
        Ok(_) => "now".to_owned(),
        Err(_) => time.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_trash_says_until_when() {
        let trashed = |name: &str, expires: &str| Trashed {
            name: name.to_owned(),
            uuid: "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d".to_owned(),
            driver: "vfs".to_owned(),
            removed_at: "2026-11-22T09:30:00Z".to_owned(),
            expires_at: expires.to_owned(),
            snapshots: 2,
        };
        let trash = [
            trashed("pgdata", "2026-11-29T09:30:00Z"),
            trashed("www", "2026-11-23T09:00:00Z"),
        ];
        let text = table(&trash, "2026-11-23T09:30:00Z".parse().unwrap()).render(None, false);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "NAME    UUID      DRIVER  SNAPSHOTS  REMOVED  EXPIRES",
                "pgdata  0a1b2c3d  vfs     2          1d ago   in 6d",
                "www     0a1b2c3d  vfs     2          1d ago   now",
            ]
        );
    }
}
