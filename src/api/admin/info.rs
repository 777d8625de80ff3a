//! `/v1/info`.

use super::{About, Query, Result, ok};
use crate::api::types::{General, Info};
use crate::api::view::text_map;
use crate::service::Service;

pub(super) async fn show(service: &Service, about: &About, query: Query) -> Result {
    query.end()?;
    service.ready().await;
    let entries = service.list(None).await?;
    let mut warnings = Vec::new();
    let mut drivers = std::collections::BTreeMap::new();
    for slot in service.drivers() {
        let told = match slot.get() {
            // The driver asks the filesystem, which may take its time.
            Ok(driver) => {
                let asked = driver.clone();
                let told = tokio::task::spawn_blocking(move || asked.warnings()).await;
                warnings.extend(told.into_iter().flatten().map(|warning| warning.text));
                tokio::task::spawn_blocking(move || driver.info().map_err(|e| e.to_string()))
                    .await
                    .unwrap_or_else(|_| {
                        Err("its information cannot be had; the daemon's log tells more".to_owned())
                    })
            }
            Err(error) => Err(error.to_string()),
        };
        let section = told.unwrap_or_else(|why| {
            warnings.push(why.clone());
            vec![
                ("Driver".to_owned(), slot.name().to_owned()),
                ("Unavailable".to_owned(), why),
            ]
        });
        drivers.insert(slot.name().to_owned(), text_map(section));
    }
    let troubled = entries
        .iter()
        .filter_map(|e| e.trouble.as_ref().map(|why| (&e.volume.name, why)));
    warnings.extend(
        troubled
            .take(20)
            .map(|(name, why)| format!("volume {name}: {why}")),
    );
    let names: Vec<String> = service
        .drivers()
        .iter()
        .map(|slot| slot.name().to_owned())
        .collect();
    ok(&Info {
        general: General {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            root: about.root.display().to_string(),
            default_driver: names.first().cloned().unwrap_or_default(),
            driver_list: names,
            pid: std::process::id(),
            started_at: service.started().to_string(),
            state_id: service.state_id().to_string(),
            volumes: entries.len(),
            mounted: entries.iter().filter(|e| e.mounted.is_some()).count(),
            warnings,
        },
        drivers,
    })
}
