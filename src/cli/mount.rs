//! `windlass mount`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Error, Screen, reference};
use crate::api::types::MountVolume;
use crate::client::Client;

/// Mount a volume and print where
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cd \"$(windlass mount pgdata)\"
  windlass mount pgdata --mountpoint /mnt/pgdata

Paths are the daemon's: a daemon in a Docker plugin sees other files than its host.")]
pub struct Mount {
    /// Name, UUID or beginning of the UUID
    #[arg(value_parser = reference())]
    volume: String,
    /// An existing directory to mount on [default: the daemon's own place]
    #[arg(long, value_name = "DIRECTORY")]
    mountpoint: Option<PathBuf>,
}

impl Mount {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let mount_point = self.mountpoint.as_deref().map(absolute).transpose()?;
        let mounted = client.mount(&self.volume, &MountVolume { mount_point }).await?;
        screen.name(&mounted.mount_point, &mounted)
    }
}

/// The path as JSON can carry it; what is relative is meant from here, not from where the daemon runs.
pub(super) fn absolute(path: &Path) -> Result<String, Error> {
    let usage = |why: &str| Error::Usage {
        message: format!("the mount point {path:?} {why}"),
    };
    let path = std::path::absolute(path).map_err(|_| usage("is no path"))?;
    path.into_os_string()
        .into_string()
        .map_err(|_| usage("is not UTF-8"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_mount_point_is_meant_from_here() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            absolute(Path::new("mnt")).unwrap(),
            here.join("mnt").to_str().unwrap()
        );
        assert_eq!(absolute(Path::new("/mnt/x")).unwrap(), "/mnt/x");
        assert_eq!(absolute(Path::new("")).unwrap_err().exit_code(), 2);
    }
}
