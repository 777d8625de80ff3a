//! Object storage, as the engine needs it: objects that are written whole, read whole or in part, listed and deleted.
//!
//! A [`Store`] is one destination, whatever holds it. Its calls are synchronous, because the engine's parallelism is
//! threads; any number may call at once. Behaviour (retries, limits, counting, faults for tests) is added by wrappers
//! that are stores themselves. It knows nothing of repositories.

pub mod bandwidth;
pub mod below;
pub mod clock;
pub mod concurrency;
pub mod conformance;
pub mod counting;
pub mod destination;
pub mod directory;
pub mod error;
pub mod faulty;
pub mod memory;
pub mod object;
pub mod open;
pub mod retry;
pub mod stop;

mod path;
mod spare;

use bytes::Bytes;

pub use bandwidth::Bandwidth;
pub use below::Below;
pub use concurrency::Concurrency;
pub use counting::{Counting, Counts};
pub use destination::Destination;
pub use directory::DirectoryStore;
pub use error::StoreError;
pub use faulty::Faulty;
pub use memory::MemoryStore;
pub use object::{ObjectStore, start};
pub use open::{Opened, StoreSettings, open};
pub use retry::Retry;
pub use spare::{Lent, Spare};
pub use stop::Stop;

/// The result of a store's work.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// One destination.
///
/// Objects are named by relative paths with `/` between the parts (`data/3f/3fa9…`); no part is empty, `.` or `..`. The
/// caller never builds a path from unchecked input; a store checks again and answers [`StoreError::Invalid`].
pub trait Store: Send + Sync + 'static {
    /// Where this is, for messages and records: a URL without secrets.
    fn location(&self) -> String;

    /// Writes an object whole, replacing one of that name. When it returns, the object is durable, and no reader ever
    /// sees a part of it.
    fn put(&self, path: &str, bytes: Bytes) -> Result<()>;

    /// Like [`Store::put`], but only where nothing has that name.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`]. Of two callers at once, one gets it, where the service can tell (S3's
    /// `If-None-Match`); elsewhere the store looks first.
    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()>;

    /// Reads an object whole, if it is at most `limit` bytes long.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::TooLarge`].
    fn get(&self, path: &str, limit: u64) -> Result<Bytes>;

    /// Reads exactly `length` bytes from `offset`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::TooShort`] when the object ends before.
    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes>;

    /// The object's size, or `None` where there is no such object. An error is never "none".
    fn stat(&self, path: &str) -> Result<Option<Object>>;

    /// All objects below the directory `below` (`""`: the whole store), in the order of their paths. A directory that
    /// is not there is empty. Anything that could hide an object is an error.
    fn list(&self, below: &str) -> Result<Vec<Object>>;

    /// The names of the directories right below `below`, in their order; what is not a directory is left out.
    ///
    /// Some services name a directory for a while after its last object was deleted; who needs to know lists it.
    fn directories(&self, below: &str) -> Result<Vec<String>>;

    /// Deletes an object; one that is not there counts as deleted.
    fn delete(&self, path: &str) -> Result<()>;
}

/// An object's name and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Relative to the store.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// When it was written, in seconds since 1970, where the service says.
    pub modified: Option<i64>,
}
