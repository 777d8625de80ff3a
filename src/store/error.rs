//! What a store says when it cannot.

/// Every failure names the object, the cause and, where there is one, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such object (or bucket).
    #[error("{location}: {path} does not exist")]
    NotFound {
        /// The store.
        location: String,
        /// The object.
        path: String,
    },
    /// An object of that name is there.
    #[error("{location}: {path} exists already")]
    AlreadyExists {
        /// The store.
        location: String,
        /// The object.
        path: String,
    },
    /// An object ends before what was asked of it.
    #[error("{location}: {path} is too short: {why}")]
    TooShort {
        /// The store.
        location: String,
        /// The object.
        path: String,
        /// What was asked, and what is there.
        why: String,
    },
    /// An object is larger than its reader allows.
    #[error("{location}: {path} has {size} bytes, and at most {limit} are expected")]
    TooLarge {
        /// The store.
        location: String,
        /// The object.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A destination, option or path that cannot be one.
    #[error("{0}")]
    Invalid(String),
    /// The service refused these credentials, or there are none.
    #[error("{location}: {why}")]
    Denied {
        /// The store.
        location: String,
        /// What the service said, and the remedy.
        why: String,
    },
    /// The service cannot be reached, does not answer in time or fails; trying again may help.
    #[error("{location}: cannot {doing}: {why}")]
    Unavailable {
        /// The store.
        location: String,
        /// e.g. `write data/3f/3fa9…`.
        doing: String,
        /// What was said.
        why: String,
    },
    /// The work that this was for is to end; it was waiting, and nothing was done.
    #[error("{location}: it was to end while it waited")]
    Stopped {
        /// The store.
        location: String,
    },
    /// The service or the filesystem answered with a failure that trying again does not cure (a full disk, a directory
    /// that is a file).
    #[error("{location}: cannot {doing}: {why}")]
    Failed {
        /// The store.
        location: String,
        /// e.g. `write data/3f/3fa9…`.
        doing: String,
        /// What was said.
        why: String,
    },
}

impl StoreError {
    /// A [`StoreError::TooShort`] in the usual words.
    pub(crate) fn too_short(location: &str, path: &str, offset: u64, length: u64, size: u64) -> Self {
        Self::TooShort {
            location: location.to_owned(),
            path: path.to_owned(),
            why: format!("{length} bytes from {offset} were asked for, and it has {size}"),
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
