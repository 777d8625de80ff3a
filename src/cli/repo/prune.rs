//! `windlass repo prune`.

use clap::Args;
use serde_json::json;

use super::access::Session;
use super::{Error, Screen, reference};
use crate::engine::prune::{PruneOptions, prune};
use crate::model::Bytes;

/// Give back the space that no backup needs any more
#[derive(Debug, Args)]
#[command(
    after_help = "Nobody else can work in the repository meanwhile. Nothing goes as long as anything cannot be read."
)]
pub(super) struct Prune {
    /// The repository's URL
    #[arg(value_parser = reference())]
    url: String,
    /// The volume whose repository it is
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// How much may stay that is unused: the less, the more is copied
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    max_unused: u8,
    /// Make full packs out of small ones
    #[arg(long)]
    repack_small: bool,
    /// Also packs in no index that are younger than an hour: only when no backup of this repository was interrupted or runs
    #[arg(long)]
    all: bool,
}

impl Prune {
    pub(super) fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let place = session.whole(&self.url, self.volume.as_deref())?;
        let repository = session.open(&place)?;
        let options = PruneOptions {
            max_unused_percent: self.max_unused,
            repack_small: self.repack_small,
            all: self.all,
            dry_run: self.dry_run,
        };
        let report = session.work(&format!("prune {}", place.title()), |progress| {
            prune(&repository, &options, progress)
        })?;
        if screen.json() {
            return screen.value(&json!({
                "URL": place.url(None),
                "DryRun": report.dry_run,
                "Backups": report.backups,
                "PacksKept": report.kept_packs,
                "PacksRepacked": report.repacked_packs,
                "PacksUnused": report.unused_packs,
                "PacksUnindexed": report.unindexed_packs,
                "PacksYoung": report.young_packs,
                "BytesFreed": report.freed_bytes,
                "BytesRepacked": report.repacked_bytes,
                "BytesUnused": report.unused_bytes,
                "Foreign": report.foreign,
            }));
        }
        let would = if report.dry_run { "would be " } else { "" };
        let mut text = format!(
            "{} {would}freed (packs deleted: {}, rewritten: {}, kept: {})\n",
            Bytes(report.freed_bytes),
            report.unused_packs + report.unindexed_packs,
            report.repacked_packs,
            report.kept_packs,
        );
        if report.young_packs > 0 {
            text.push_str(&format!(
                "packs in no index that stay since they are younger than an hour: {}; --all takes them\n",
                report.young_packs
            ));
        }
        screen.text(&text)
    }
}
