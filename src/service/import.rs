//! Taking over what Convoy has on this host: its pool in place, its directories where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{By, CreateRequest, Result, Service, ServiceError};
use crate::driver::convoy::{self, Adopted, Adoption, TreeConfig, TreeVolume};
use crate::driver::{Content, DriverError};
use crate::model::{InvalidValue, Name};

impl Service {
    /// Takes over the volumes of the Convoy whose root is `root`; with `dry_run`, says what would be.
    pub async fn import_convoy(&self, root: PathBuf, dry_run: bool) -> Result<Adoption> {
        let this = self.clone();
        self.change(async move {
            check_root(&root)?;
            let taken: BTreeSet<Name> = this
                .catalog()
                .entries()
                .map(|entry| entry.volume.name.clone())
                .collect();
            let asked = root.clone();
            let (pool, trees) = this
                .blocking(move |_| Ok((convoy::pool(&asked)?, convoy::trees(&asked)?)))
                .await?;
            if pool.is_none() && trees.is_none() {
                return Err(DriverError::NotFound {
                    what: format!(
                        "Convoy's devicemapper/devicemapper.cfg or vfs/vfs.cfg below {}",
                        root.display()
                    ),
                }
                .into());
            }
            let mut adoption = Adoption::default();
            if let Some(config) = pool {
                let part = this.import_pool(&root, &config, taken.clone(), dry_run).await?;
                merge(&mut adoption, part);
            }
            if let Some(config) = trees {
                let part = this.import_trees(&root, config, &taken, dry_run).await?;
                merge(&mut adoption, part);
            }
            if !dry_run {
                let count = adoption.adopted.len().to_string();
                this.events().emit("import", "", &[("volumes", count)]);
            }
            Ok(adoption)
        })
        .await
    }

    async fn import_pool(
        &self,
        root: &Path,
        config: &convoy::PoolConfig,
        taken: BTreeSet<Name>,
        dry_run: bool,
    ) -> Result<Adoption> {
        let Some(index) = self.drivers().iter().position(super::DriverSlot::has_pool) else {
            let why = format!(
                "this daemon has no driver devicemapper; start it with --drivers devicemapper --driver-opts dm.datadev={} \
                 --driver-opts dm.metadatadev={}",
                config.data_device.display(),
                config.metadata_device.display()
            );
            return Ok(Adoption {
                skipped: vec![("the pool".to_owned(), why)],
                ..Adoption::default()
            });
        };
        // A pool that is ours already was taken over before, or is another.
        if self.drivers()[index].get().is_ok() {
            let why = "this daemon has a pool already, and one pool is all that it has";
            return Ok(Adoption {
                skipped: vec![("the pool".to_owned(), why.to_owned())],
                ..Adoption::default()
            });
        }
        let root = root.to_owned();
        let adoption = self
            .blocking(move |inner| {
                inner.drivers[index].at_rest(|pool| pool.adopt_convoy(&root, &taken, dry_run))
            })
            .await?;
        if !dry_run {
            self.try_again(index).await?;
        }
        Ok(adoption)
    }

    async fn import_trees(
        &self,
        root: &Path,
        config: TreeConfig,
        taken: &BTreeSet<Name>,
        dry_run: bool,
    ) -> Result<Adoption> {
        let mut adoption = Adoption::default();
        let asked = (root.to_owned(), config.clone());
        let found = self
            .blocking(move |_| Ok(convoy::tree_volumes(&asked.0, &asked.1)?))
            .await?;
        let driver = match self.tree_driver(&config).await {
            Ok(driver) => driver,
            Err(why) => {
                adoption.skipped.push(("Convoy's directories".to_owned(), why));
                return Ok(adoption);
            }
        };
        for (file, read) in found {
            let checked = match read {
                Ok(volume) => acceptable(&file, &volume, &config, taken).map(|name| (name, volume)),
                Err(error) => Err(error.to_string()),
            };
            let (name, volume) = match checked {
                Ok(checked) => checked,
                Err(why) => {
                    adoption.skipped.push((format!("volume {file}"), why));
                    continue;
                }
            };
            if !dry_run {
                let options = [("adopt", "true"), ("driver", driver)];
                let request = CreateRequest {
                    name: Some(name.clone()),
                    options: BTreeMap::from(options.map(|(key, value)| (key.to_owned(), value.to_owned()))),
                    by: By::Admin,
                };
                if let Err(error) = Box::pin(self.create(request)).await {
                    adoption
                        .skipped
                        .push((format!("volume {name}"), error.to_string()));
                    continue;
                }
            }
            for snapshot in volume.snapshots.iter().flatten() {
                let why = "it is an archive, and no snapshot of a file system; unpack it, or restore a backup of it";
                adoption
                    .skipped
                    .push((format!("snapshot {name}@{}", snapshot.0), why.to_owned()));
            }
            adoption.adopted.push(Adopted {
                name,
                driver,
                size: None,
                snapshots: 0,
            });
        }
        Ok(adoption)
    }

    /// The driver whose directory Convoy's is, or why there is none.
    async fn tree_driver(&self, config: &TreeConfig) -> std::result::Result<&'static str, String> {
        let wanted = config.path.clone();
        for slot in self.drivers() {
            let Ok(driver) = slot.get() else { continue };
            if driver.capabilities().content != Content::Tree {
                continue;
            }
            let wanted = wanted.clone();
            let same = self
                .blocking(move |_| {
                    let info = driver.info()?;
                    let path = info
                        .into_iter()
                        .find(|(key, _)| key == "Path")
                        .map(|(_, value)| value);
                    let (Some(path), Ok(wanted)) = (path, wanted.canonicalize()) else {
                        return Ok(false);
                    };
                    Ok(Path::new(&path).canonicalize().is_ok_and(|path| path == wanted))
                })
                .await;
            if same.is_ok_and(|same| same) {
                return Ok(slot.name());
            }
        }
        Err(format!(
            "they are in {}, and this daemon's vfs driver is not; start it with --driver-opts vfs.path={}",
            config.path.display(),
            config.path.display()
        ))
    }
}

fn acceptable(
    file: &str,
    volume: &TreeVolume,
    config: &TreeConfig,
    taken: &BTreeSet<Name>,
) -> std::result::Result<Name, String> {
    let name = Name::volume(file).map_err(|error| error.to_string())?;
    if volume.name != file {
        return Err(format!("its record says that it is {:?}", volume.name));
    }
    if taken.contains(&name) {
        return Err("a volume of that name is there already".to_owned());
    }
    let place = config.path.join(&name);
    if volume.path != place {
        return Err(format!(
            "its directory is {}, and only {} can be taken over in place",
            volume.path.display(),
            place.display()
        ));
    }
    match std::fs::symlink_metadata(&place) {
        Ok(found) if found.is_dir() => Ok(name),
        Ok(_) => Err(format!("{} is no directory", place.display())),
        Err(error) => Err(format!("{}: {error}", place.display())),
    }
}

fn check_root(root: &Path) -> Result<()> {
    match root.is_absolute() && root.is_dir() {
        true => Ok(()),
        false => Err(ServiceError::Invalid(InvalidValue::Value {
            option: "root".to_owned(),
            value: root.display().to_string(),
            expected: "Convoy's root, an absolute path of a directory as the daemon sees the files"
                .to_owned(),
        })),
    }
}

fn merge(all: &mut Adoption, part: Adoption) {
    all.adopted.extend(part.adopted);
    all.skipped.extend(part.skipped);
    all.obstacle = all.obstacle.take().or(part.obstacle);
}
