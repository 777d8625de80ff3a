//! A store in memory: real in every respect but durability. For tests, and for measuring the engine without a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Object, Result, Store, StoreError, path};

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// Held for one look-up or insertion.
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self, path: &str) -> StoreError {
        StoreError::NotFound {
            location: self.location(),
            path: path.to_owned(),
        }
    }
}

impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        path::check(path)?;
        self.objects().insert(path.to_owned(), bytes);
        Ok(())
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        path::check(path)?;
        let mut objects = self.objects();
        if objects.contains_key(path) {
            return Err(StoreError::AlreadyExists {
                location: self.location(),
                path: path.to_owned(),
            });
        }
        objects.insert(path.to_owned(), bytes);
        Ok(())
    }

    fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        path::check(path)?;
        let found = self.objects().get(path).cloned();
        let bytes = found.ok_or_else(|| self.missing(path))?;
        let size = bytes.len() as u64;
        if size > limit {
            return Err(StoreError::TooLarge {
                location: self.location(),
                path: path.to_owned(),
                size,
                limit,
            });
        }
        Ok(bytes)
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        path::check(path)?;
        let found = self.objects().get(path).cloned();
        let bytes = found.ok_or_else(|| self.missing(path))?;
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= bytes.len() as u64);
        let Some(end) = end else {
            let size = bytes.len() as u64;
            return Err(StoreError::too_short(
                &self.location(),
                path,
                offset,
                length,
                size,
            ));
        };
        Ok(bytes.slice(offset as usize..end as usize))
    }

    fn stat(&self, path: &str) -> Result<Option<Object>> {
        path::check(path)?;
        Ok(self.objects().get(path).map(|bytes| Object {
            path: path.to_owned(),
            size: bytes.len() as u64,
            modified: None,
        }))
    }

    fn list(&self, below: &str) -> Result<Vec<Object>> {
        path::check_directory(below)?;
        let prefix = path::prefix(below);
        let objects = self.objects();
        let found = objects.iter().filter(|(path, _)| path.starts_with(&prefix));
        Ok(found
            .map(|(path, bytes)| Object {
                path: path.clone(),
                size: bytes.len() as u64,
                modified: None,
            })
            .collect())
    }

    fn directories(&self, below: &str) -> Result<Vec<String>> {
        path::check_directory(below)?;
        let prefix = path::prefix(below);
        let objects = self.objects();
        let names: BTreeSet<String> = objects
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix)?.split_once('/'))
            .map(|(name, _)| name.to_owned())
            .collect();
        Ok(names.into_iter().collect())
    }

    fn delete(&self, path: &str) -> Result<()> {
        path::check(path)?;
        self.objects().remove(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::conformance::{self, Abilities};

    #[test]
    fn memory_conforms() {
        let abilities = Abilities {
            exclusive_put: true,
            atomic: true,
            directories_go: true,
            large_bytes: 20 << 20,
        };
        conformance::run(abilities, &|| Arc::new(MemoryStore::default()));
    }
}
