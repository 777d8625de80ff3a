//! `windlass version`.

use clap::Args;

use super::{Error, Screen};

/// Print this program's version; the daemon's is in 'windlass info'
#[derive(Debug, Args)]
pub struct Version {}

impl Version {
    pub(super) fn run(self, screen: &mut Screen) -> Result<(), Error> {
        let version = env!("CARGO_PKG_VERSION");
        match screen.json_asked() {
            true => screen.value(&serde_json::json!({ "Version": version })),
            false => screen.line(&format!("windlass {version}")),
        }
    }
}
