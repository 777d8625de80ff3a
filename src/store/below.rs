//! A directory of a store as a store of its own.

use std::sync::Arc;

use bytes::Bytes;

use super::{Object, Result, Store, StoreError, path};

/// See the module.
pub struct Below {
    store: Arc<dyn Store>,
    /// With the slash at its end.
    prefix: String,
}

impl Below {
    /// The store below `directory`, which need not be there yet.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a path that cannot be one.
    pub fn new(store: Arc<dyn Store>, directory: &str) -> Result<Self> {
        path::check(directory)?;
        Ok(Self {
            store,
            prefix: path::prefix(directory),
        })
    }

    fn full(&self, path: &str) -> Result<String> {
        path::check(path)?;
        Ok(format!("{}{path}", self.prefix))
    }

    fn full_directory(&self, below: &str) -> Result<String> {
        path::check_directory(below)?;
        let full = format!("{}{below}", self.prefix);
        Ok(full.trim_end_matches('/').to_owned())
    }

    /// The object as seen from here.
    fn own(&self, mut object: Object) -> Object {
        if let Some(own) = object.path.strip_prefix(&self.prefix) {
            object.path = own.to_owned();
        }
        object
    }

    /// The failure as seen from here.
    fn fail(&self, mut error: StoreError) -> StoreError {
        if let StoreError::NotFound { location, path }
        | StoreError::AlreadyExists { location, path }
        | StoreError::TooShort { location, path, .. }
        | StoreError::TooLarge { location, path, .. } = &mut error
            && let Some(own) = path.strip_prefix(&self.prefix)
        {
            *path = own.to_owned();
            *location = self.location();
        }
        error
    }
}

impl Store for Below {
    fn location(&self) -> String {
        let outer = self.store.location();
        let (base, query) = outer.split_at(outer.find('?').unwrap_or(outer.len()));
        let directory = self.prefix.trim_end_matches('/');
        format!("{}/{directory}{query}", base.trim_end_matches('/'))
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.store
            .put(&self.full(path)?, bytes)
            .map_err(|error| self.fail(error))
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.store
            .put_new(&self.full(path)?, bytes)
            .map_err(|error| self.fail(error))
    }

    fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        self.store
            .get(&self.full(path)?, limit)
            .map_err(|error| self.fail(error))
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        self.store
            .get_range(&self.full(path)?, offset, length)
            .map_err(|error| self.fail(error))
    }

    fn stat(&self, path: &str) -> Result<Option<Object>> {
        let found = self
            .store
            .stat(&self.full(path)?)
            .map_err(|error| self.fail(error))?;
        Ok(found.map(|object| self.own(object)))
    }

    fn list(&self, below: &str) -> Result<Vec<Object>> {
        let found = self.store.list(&self.full_directory(below)?)?;
        Ok(found.into_iter().map(|object| self.own(object)).collect())
    }

    fn directories(&self, below: &str) -> Result<Vec<String>> {
        self.store.directories(&self.full_directory(below)?)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.store
            .delete(&self.full(path)?)
            .map_err(|error| self.fail(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use crate::store::conformance::{self, Abilities};

    #[test]
    fn it_conforms_and_sees_nothing_of_its_neighbours() {
        let abilities = Abilities {
            exclusive_put: true,
            atomic: true,
            directories_go: true,
            large_bytes: 1 << 20,
        };
        conformance::run(abilities, &|| {
            let memory = Arc::new(MemoryStore::default());
            for neighbour in ["vol", "vo/x", "volume/x", "w/vol/x"] {
                memory
                    .put(neighbour, Bytes::from_static(b"theirs"))
                    .expect("written");
            }
            Arc::new(Below::new(memory, "vol").expect("a directory"))
        });
    }

    #[test]
    fn paths_do_not_lead_out_and_the_location_keeps_its_parameters() {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::default());
        memory.put("secret", Bytes::new()).expect("written");
        let below = Below::new(Arc::clone(&memory), "v").expect("a directory");
        assert!(below.get("../secret", 1).is_err());
        assert!(Below::new(memory, "..").is_err());
        assert_eq!(below.location(), "memory:/v");
    }
}
