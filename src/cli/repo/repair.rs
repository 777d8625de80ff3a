//! `windlass repo repair`.

use clap::Args;
use serde_json::json;

use super::access::Session;
use super::{Error, Screen, failure, reference};
use crate::engine::repair::rebuild_index;

/// Make the index anew from the packs themselves
#[derive(Debug, Args)]
#[command(
    after_help = "Helps where index files are lost or damaged. Content that is lost does not come back: 'windlass repo verify' says which
backups can be restored afterwards. Nobody else can work in the repository meanwhile."
)]
pub(super) struct Repair {
    /// The repository's URL
    #[arg(value_parser = reference())]
    url: String,
    /// The volume whose repository it is
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
}

impl Repair {
    pub(super) fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let place = session.whole(&self.url, self.volume.as_deref())?;
        let repository = session.open(&place)?;
        let report = session.work(&format!("repair {}", place.title()), |progress| {
            rebuild_index(&repository, progress)
        })?;
        let unreadable: Vec<_> = report
            .unreadable
            .iter()
            .map(|(pack, why)| json!({ "Object": pack, "Why": why }))
            .collect();
        if screen.json() {
            screen.value(&json!({
                "URL": place.url(None),
                "Packs": report.packs,
                "Blobs": report.blobs,
                "PacksSalvaged": report.salvaged,
                "PacksUnreadable": unreadable,
                "DamagedIndexFiles": report.damaged_index_files,
                "IndexFilesNew": report.new_index_files,
                "IndexFilesOld": report.old_index_files,
            }))?;
        } else {
            let mut text = format!(
                "a new index (packs: {}, blobs: {}, index files that were damaged: {})\n",
                report.packs,
                report.blobs,
                report.damaged_index_files.len(),
            );
            for pack in &report.salvaged {
                text.push_str(&format!(
                    "  {pack} cannot list its own blobs; the old index could\n"
                ));
            }
            for (pack, why) in &report.unreadable {
                text.push_str(&format!("  {pack} cannot be read: {why}\n"));
            }
            screen.text(&text)?;
        }
        match report.unreadable.len() {
            0 => Ok(()),
            packs => Err(failure::damaged(
                format!(
                    "{packs} packs of {} cannot be read, and are in no index now",
                    place.url(None)
                ),
                "'windlass repo verify' says which backups that affects",
            )),
        }
    }
}
