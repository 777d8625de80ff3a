//! `windlass pool`.

use clap::{Args, Subcommand};

use super::sheet::Sheet;
use super::{Error, Screen};
use crate::api::types::{
    CheckedPool, ExtendPool, Pool as Answer, PoolSpace, RepairPool, RepairedPool, TrimmedPool,
};
use crate::client::Client;
use crate::model::Bytes;

/// Look after the pool that thin volumes share
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  windlass pool status
  windlass pool check
  windlass pool extend            after its device was made larger
  windlass pool extend +20G       with dm.loopback
  windlass pool trim

A pool whose metadata are damaged is left alone at the daemon's start; 'windlass pool repair' heals it then.")]
pub enum Pool {
    Status(Status),
    Check(Check),
    Repair(Repair),
    Extend(Extend),
    Trim(Trim),
}

/// Show how full the pool is, and how it does
#[derive(Debug, Args)]
pub struct Status {}

/// Look whether the pool's metadata are sound
#[derive(Debug, Args)]
#[command(after_help = "A pool at work is checked as it was last written, and works on meanwhile.")]
pub struct Check {}

/// Repair the metadata of a pool that nobody uses
#[derive(Debug, Args)]
#[command(
    after_help = "A pool that has failed, or has become read-only, is taken down for it; whoever still uses a volume of it is named. \
                  The repaired metadata take the place of the damaged ones only when they are sound and lack no volume and no \
                  snapshot. The damaged ones are kept in a file."
)]
pub struct Repair {
    /// Give up what cannot be saved; without this, a repair that loses something is refused, and says what it is
    #[arg(long)]
    accept_loss: bool,
}

/// Make the pool larger, or take up what its device has gained
#[derive(Debug, Args)]
pub struct Extend {
    /// With dm.loopback: the new size (20G), or how much more (+20G)
    #[arg(allow_hyphen_values = false)]
    size: Option<String>,
}

/// Give back what removed files of all mounted volumes took
#[derive(Debug, Args)]
pub struct Trim {}

impl Pool {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        match self {
            Self::Status(Status {}) => show(&client.pool().await?, screen),
            Self::Check(Check {}) => {
                let checked = client.check_pool().await?;
                match screen.json() {
                    true => screen.value(&checked),
                    false => screen.line(&sound(&checked)),
                }
            }
            Self::Repair(Repair { accept_loss }) => {
                let repaired = client.repair_pool(&RepairPool { accept_loss }).await?;
                screen.notes(&repaired.losses);
                screen.notes(&repaired.notes);
                match screen.json() {
                    true => screen.value(&repaired),
                    false => screen.line(&healed(&repaired)),
                }
            }
            Self::Extend(Extend { size }) => show(&client.extend_pool(&ExtendPool { size }).await?, screen),
            Self::Trim(Trim {}) => {
                let trimmed = client.trim_pool().await?;
                screen.notes(&trimmed.notes);
                match screen.json() {
                    true => screen.value(&trimmed),
                    false => screen.text(&given_back(&trimmed)),
                }
            }
        }
    }
}

fn show(pool: &Answer, screen: &mut Screen) -> Result<(), Error> {
    match screen.json() {
        true => screen.value(pool),
        false => {
            let text = sheet(pool, screen).render(0);
            screen.text(&text)
        }
    }
}

fn sheet(pool: &Answer, screen: &Screen) -> Sheet {
    let space = |space: &PoolSpace| {
        format!(
            "{} of {} ({} %)",
            Bytes(space.used),
            Bytes(space.total),
            space.percent
        )
    };
    let mut sheet = Sheet::default();
    sheet.line("Pool", format!("{} (driver {})", pool.name, pool.driver));
    match pool.mode.as_str() {
        "read-write" => sheet.line("Mode", &pool.mode),
        other => sheet.alarm("Mode", other, screen),
    }
    if pool.needs_check {
        sheet.alarm("Needs check", "yes", screen);
    }
    sheet.line("Data", space(&pool.data));
    sheet.line("Metadata", space(&pool.metadata));
    sheet.line("Block size", Bytes(pool.block_size).to_string());
    sheet.line("Data device", &pool.data_device);
    sheet.line("Metadata device", &pool.metadata_device);
    if !pool.spare_device.is_empty() {
        sheet.line("Spare for repair", &pool.spare_device);
    }
    sheet.line("Volumes", pool.volumes.to_string());
    sheet.line("Snapshots", pool.snapshots.to_string());
    sheet.line("Thin devices", pool.thin_devices.to_string());
    sheet.line("Transaction", pool.transaction.to_string());
    let thresholds: Vec<String> = pool
        .warn_at
        .iter()
        .map(|percent| format!("{percent} %"))
        .collect();
    sheet.line("Warns at", thresholds.join(", "));
    sheet.line(
        "Reserve",
        format!("{} %, for volumes that are there", pool.reserve),
    );
    sheet.line("When full", &pool.when_full);
    if !pool.caveat.is_empty() {
        sheet.line("Caveat", &pool.caveat);
    }
    for warning in &pool.warnings {
        sheet.alarm("Warning", warning, screen);
    }
    sheet
}

fn sound(checked: &CheckedPool) -> String {
    let unclaimed = match checked.unclaimed.len() {
        0 => String::new(),
        n => format!(", {n} of which no record names"),
    };
    format!(
        "the metadata on {} are sound: {} thin devices{unclaimed}",
        checked.metadata_device, checked.thin_devices
    )
}

fn healed(repaired: &RepairedPool) -> String {
    match repaired.damaged.as_str() {
        "" => format!(
            "the metadata on {} are sound, and nothing was changed",
            repaired.metadata_device
        ),
        damaged => format!(
            "the metadata on {} are repaired; the damaged ones are kept in {damaged}",
            repaired.metadata_device
        ),
    }
}

fn given_back(trimmed: &TrimmedPool) -> String {
    let mut text = String::new();
    for volume in &trimmed.volumes {
        text.push_str(&format!(
            "volume {}: {} given back\n",
            super::screen::one_line(&volume.name),
            Bytes(volume.bytes_freed)
        ));
    }
    text.push_str(&format!(
        "{} given back by {} mounted volumes\n",
        Bytes(trimmed.bytes_freed),
        trimmed.volumes.len()
    ));
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_as_people_see_it() {
        let pool: Answer = serde_json::from_value(serde_json::json!({
            "Driver": "devicemapper", "Name": "windlass-pool", "Mode": "out of data space", "NeedsCheck": true,
            "Transaction": 17, "BlockSize": 65536,
            "Data": {"Used": 1_073_741_824u64, "Total": 1_073_741_824u64, "Percent": 100},
            "Metadata": {"Used": 4096, "Total": 4_194_304, "Percent": 1},
            "DataDevice": "/dev/sdb", "MetadataDevice": "/dev/sdc", "SpareDevice": "", "Volumes": 2, "Snapshots": 5,
            "ThinDevices": 8, "WarnAt": [80, 90], "Reserve": 5, "WhenFull": "error", "Warnings": ["it is full"], "Caveat": ""
        }))
        .unwrap();
        let screen = Screen::of_test(Box::new(Vec::new()), Box::new(Vec::new()), None, Some(80));
        assert_eq!(
            sheet(&pool, &screen).render(0).lines().collect::<Vec<_>>(),
            [
                "Pool:             windlass-pool (driver devicemapper)",
                "Mode:             out of data space",
                "Needs check:      yes",
                "Data:             1 GiB of 1 GiB (100 %)",
                "Metadata:         4 KiB of 4 MiB (1 %)",
                "Block size:       64 KiB",
                "Data device:      /dev/sdb",
                "Metadata device:  /dev/sdc",
                "Volumes:          2",
                "Snapshots:        5",
                "Thin devices:     8",
                "Transaction:      17",
                "Warns at:         80 %, 90 %",
                "Reserve:          5 %, for volumes that are there",
                "When full:        error",
                "Warning:          it is full",
            ]
        );
    }

    #[test]
    fn what_became_of_the_work_is_one_line() {
        let checked = CheckedPool {
            metadata_device: "/dev/sdc".to_owned(),
            at_work: true,
            thin_devices: 3,
            unclaimed: vec![7],
        };
        assert_eq!(
            sound(&checked),
            "the metadata on /dev/sdc are sound: 3 thin devices, 1 of which no record names"
        );
        let mut repaired = RepairedPool {
            metadata_device: "/dev/sdc".to_owned(),
            damaged: String::new(),
            losses: Vec::new(),
            notes: Vec::new(),
        };
        assert!(healed(&repaired).contains("nothing was changed"));
        repaired.damaged = "/r/metadata.damaged".to_owned();
        assert!(healed(&repaired).ends_with("kept in /r/metadata.damaged"));
    }
}
