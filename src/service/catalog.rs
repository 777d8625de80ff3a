//! The volumes in memory: what Docker's Get, List and Path are answered from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{Result, ServiceError};
use super::usage::Measured;
use crate::model::{Name, Snapshot, SnapshotRef, Volume, VolumeId};
use crate::state::Hold;

/// A volume with what this host knows about it besides.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its record.
    pub volume: Arc<Volume>,
    /// Where it is mounted.
    pub mounted: Option<PathBuf>,
    /// Who mounted it, by mount id.
    pub holds: BTreeMap<String, Hold>,
    /// What it held when somebody last looked.
    pub usage: Option<Measured>,
    /// What keeps it from being used.
    pub trouble: Option<String>,
}

impl Entry {
    pub(super) fn new(volume: Volume) -> Self {
        Self {
            volume: Arc::new(volume),
            mounted: None,
            holds: BTreeMap::new(),
            usage: None,
            trouble: None,
        }
    }
}

/// All volumes by name.
#[derive(Default)]
pub(super) struct Catalog {
    entries: BTreeMap<Name, Entry>,
    /// Names that this host changed since [`Catalog::watch`]: a listing that began before is out of date for them.
    touched: Option<Vec<Name>>,
}

impl Catalog {
    pub fn get(&self, name: &Name) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Puts a volume's record in, keeping what else is known about it.
    pub fn put(&mut self, volume: Volume) {
        self.touch(&volume.name);
        match self.entries.get_mut(&volume.name) {
            Some(entry) if entry.volume.id == volume.id => {
                entry.volume = Arc::new(volume);
                entry.trouble = None;
            }
            _ => drop(self.entries.insert(volume.name.clone(), Entry::new(volume))),
        }
    }

    pub fn remove(&mut self, name: &Name) -> Option<Entry> {
        self.touch(name);
        self.entries.remove(name)
    }

    /// Changes an entry, if it is there.
    pub fn update(&mut self, name: &Name, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(name) {
            change(entry);
        }
    }

    /// Begins to note which names this host changes.
    pub fn watch(&mut self) {
        self.touched = Some(Vec::new());
    }

    /// Makes the catalog agree with a driver's listing that began after [`Catalog::watch`], except for names that
    /// changed here meanwhile. Volumes that cannot be read stay, with the reason. Says which names came and went.
    pub fn agree(
        &mut self,
        driver: &str,
        listed: Vec<Volume>,
        damaged: &[(String, String)],
    ) -> (Vec<Name>, Vec<Name>) {
        let touched = self.touched.take().unwrap_or_default();
        let mut came = Vec::new();
        let mut listed: BTreeMap<Name, Volume> = listed.into_iter().map(|v| (v.name.clone(), v)).collect();
        listed.retain(|name, _| !touched.contains(name));
        let gone: Vec<Name> = self
            .entries
            .values()
            .filter(|e| e.volume.driver == driver && !touched.contains(&e.volume.name))
            .map(|e| e.volume.name.clone())
            .filter(|name| !listed.contains_key(name) && !damaged.iter().any(|(d, _)| d == name.as_str()))
            .collect();
        for name in &gone {
            self.entries.remove(name);
        }
        for (name, volume) in listed {
            match self.entries.get_mut(&name) {
                // Two drivers with a volume of one name: the first one keeps it.
                Some(entry) if entry.volume.driver != driver => continue,
                Some(entry) if entry.volume.id == volume.id => {
                    entry.trouble = None;
                    if *entry.volume != volume {
                        entry.volume = Arc::new(volume);
                    }
                }
                _ => {
                    self.entries.insert(name.clone(), Entry::new(volume));
                    came.push(name);
                }
            }
        }
        for (name, why) in damaged {
            if let Ok(name) = Name::volume(name) {
                self.update(&name, |entry| entry.trouble = Some(why.clone()));
            }
        }
        (came, gone)
    }

    /// The volume that a person means: a name, an id, or the beginning of an id.
    pub fn find(&self, text: &str) -> Result<&Entry> {
        if let Some(entry) = Name::volume(text).ok().and_then(|name| self.entries.get(&name)) {
            return Ok(entry);
        }
        let found: Vec<&Entry> = self.entries().filter(|e| e.volume.id.starts_with(text)).collect();
        match found.as_slice() {
            [] => Err(ServiceError::NotFound {
                what: "volume",
                name: shown(text),
            }),
            [one] => Ok(one),
            several => Err(ServiceError::Ambiguous {
                what: "volume",
                name: shown(text),
                candidates: listed(several.iter().map(|e| e.volume.name.to_string())),
            }),
        }
    }

    /// The volume of that id.
    pub fn by_id(&self, id: VolumeId) -> Option<&Entry> {
        self.entries().find(|e| e.volume.id == id)
    }

    /// The snapshot that a person means, with its volume.
    pub fn find_snapshot(&self, reference: &SnapshotRef) -> Result<(Arc<Volume>, Snapshot)> {
        let volumes: Vec<&Entry> = match &reference.volume {
            Some(volume) => vec![self.find(volume)?],
            None => self.entries().collect(),
        };
        let text = reference.snapshot.as_str();
        let all = || {
            volumes
                .iter()
                .flat_map(|e| e.volume.snapshots.iter().map(|s| (e.volume.clone(), s.clone())))
        };
        let mut found: Vec<(Arc<Volume>, Snapshot)> =
            all().filter(|(_, s)| s.name.as_str() == text).collect();
        if found.is_empty() {
            found = all().filter(|(_, s)| s.id.starts_with(text)).collect();
        }
        match found.len() {
            0 => Err(ServiceError::NotFound {
                what: "snapshot",
                name: shown(&reference.to_string()),
            }),
            1 => Ok(found.swap_remove(0)),
            _ => Err(ServiceError::Ambiguous {
                what: "snapshot",
                name: shown(text),
                candidates: listed(found.iter().map(|(v, s)| format!("{}@{}", v.name, s.name))),
            }),
        }
    }

    fn touch(&mut self, name: &Name) {
        if let Some(touched) = &mut self.touched {
            touched.push(name.clone());
        }
    }
}

/// A reference as it may stand in a message: not longer than a line.
fn shown(text: &str) -> String {
    let clean: String = text
        .chars()
        .take(80)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if clean.is_empty() {
        "\"\"".to_owned()
    } else {
        clean
    }
}

fn listed(candidates: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = candidates.collect();
    match all.len() {
        0..=5 => all.join(", "),
        more => format!("{}, … ({more} in all)", all[..5].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, id: &str) -> Volume {
        serde_json::from_value(serde_json::json!({
            "id": id, "name": name, "driver": "vfs", "created": "2026-11-20T08:00:00Z",
            "snapshots": [{"id": id, "name": "monday", "created": "2026-11-20T09:00:00Z", "consistency": "point-in-time"}],
        }))
        .expect("a record")
    }

    const A: &str = "0a1b2c3d-0000-4000-8000-000000000001";
    const B: &str = "0a1bffff-0000-4000-8000-000000000002";

    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        catalog.put(volume("a", A));
        catalog.put(volume("b", B));
        catalog
    }

    #[test]
    fn a_volume_is_found_by_name_id_or_unambiguous_beginning() {
        let catalog = catalog();
        for text in ["a", A, "0a1b2c", "0A1B2C3D-0000"] {
            assert_eq!(catalog.find(text).expect(text).volume.name.as_str(), "a");
        }
        assert!(matches!(
            catalog.find("0a1b"),
            Err(ServiceError::Ambiguous { .. })
        ));
        for text in ["", "c", "../a", "ff"] {
            assert!(
                matches!(catalog.find(text), Err(ServiceError::NotFound { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_snapshot_s_bare_name_must_be_unambiguous() {
        let catalog = catalog();
        let find = |text: &str| catalog.find_snapshot(&SnapshotRef::parse(text));
        let said = find("monday").expect_err("two of them").to_string();
        assert!(said.contains("a@monday, b@monday"), "{said}");
        assert_eq!(find("b@monday").expect("one").0.name.as_str(), "b");
        assert_eq!(find("0a1bff").expect("by id").0.name.as_str(), "b");
        assert!(find("b@tuesday").is_err());
    }

    #[test]
    fn a_listing_does_not_undo_what_happened_while_it_was_read() {
        let mut catalog = catalog();
        catalog.watch();
        catalog.remove(&Name::volume("a").expect("a name"));
        catalog.put(volume("c", "11111111-0000-4000-8000-000000000003"));
        // The listing was read before both changes: it has a and b, but no c.
        let (came, gone) = catalog.agree("vfs", vec![volume("a", A), volume("b", B)], &[]);
        assert!(came.is_empty() && gone.is_empty(), "{came:?} {gone:?}");
        assert!(catalog.find("a").is_err() && catalog.find("c").is_ok());
    }

    #[test]
    fn other_hosts_changes_arrive_and_damaged_records_do_not_vanish() {
        let mut catalog = catalog();
        catalog.watch();
        let d = volume("d", "11111111-0000-4000-8000-000000000004");
        let (came, gone) = catalog.agree("vfs", vec![d], &[("a".to_owned(), "cut short".to_owned())]);
        assert_eq!((came.len(), gone.len()), (1, 1));
        assert_eq!(
            catalog.find("a").expect("still there").trouble.as_deref(),
            Some("cut short")
        );
        assert!(catalog.find("b").is_err());
    }
}
