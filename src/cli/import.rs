//! `windlass import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::screen::one_line;
use super::{Error, Screen};
use crate::api::types::{ImportConvoy, Imported};
use crate::client::Client;
use crate::model::Bytes;

/// Take over another program's volumes, where they are
#[derive(Debug, Subcommand)]
pub enum Import {
    Convoy(Convoy),
}

/// Take over Convoy's volumes and snapshots; no data are copied
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass import convoy --root /var/lib/convoy --dry-run
  windlass import convoy --root /var/lib/convoy

The daemon has to run with Convoy's devices (dm.datadev, dm.metadatadev) and directory (vfs.path), and Convoy must not: stop its
daemon and the containers, and remove its pool with dmsetup. docs/devicemapper.md has the steps. Convoy's own records stay as they
are.")]
pub struct Convoy {
    /// Convoy's root, as the daemon sees the files
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/convoy")]
    root: PathBuf,
    /// Only say what would be taken over, and what not and why
    #[arg(long)]
    dry_run: bool,
}

impl Import {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let Self::Convoy(Convoy { root, dry_run }) = self;
        let root = root.into_os_string().into_string().map_err(|root| Error::Usage {
            message: format!("the root {root:?} is not UTF-8"),
        })?;
        let imported = client.import_convoy(&ImportConvoy { root, dry_run }).await?;
        match screen.json() {
            true => screen.value(&imported),
            false => screen.text(&text(&imported)),
        }
    }
}

fn text(imported: &Imported) -> String {
    let mut text = String::new();
    let done = match imported.dry_run {
        true => "would be taken over",
        false => "taken over",
    };
    for volume in &imported.adopted {
        let size = match volume.size {
            0 => String::new(),
            size => format!(", {}", Bytes(size)),
        };
        let snapshots = match volume.snapshots {
            0 => String::new(),
            1 => ", with its snapshot".to_owned(),
            n => format!(", with {n} snapshots"),
        };
        text.push_str(&format!(
            "volume {} (driver {}{size}{snapshots}) {done}\n",
            one_line(&volume.name),
            volume.driver
        ));
    }
    for left in &imported.skipped {
        text.push_str(&format!(
            "skipped {}: {}\n",
            one_line(&left.what),
            one_line(&left.why)
        ));
    }
    if !imported.obstacle.is_empty() {
        text.push_str(&format!(
            "not possible as it is: {}\n",
            one_line(&imported.obstacle)
        ));
    }
    text.push_str(&format!("{} volumes {done}\n", imported.adopted.len()));
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_what_stays_behind() {
        let imported: Imported = serde_json::from_value(serde_json::json!({
            "DryRun": true,
            "Adopted": [{"Name": "pg", "Driver": "devicemapper", "Size": 1_073_741_824, "Snapshots": 2}],
            "Skipped": [{"What": "volume _x", "Why": "bad name"}],
            "Obstacle": "it runs"
        }))
        .unwrap();
        assert_eq!(
            text(&imported).lines().collect::<Vec<_>>(),
            [
                "volume pg (driver devicemapper, 1 GiB, with 2 snapshots) would be taken over",
                "skipped volume _x: bad name",
                "not possible as it is: it runs",
                "1 volumes would be taken over",
            ]
        );
    }
}
