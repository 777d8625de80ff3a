//! Services that keep objects behind HTTP, through Apache OpenDAL: S3, Google's, Azure's, WebDAV.
//!
//! OpenDAL is asynchronous; the store has a small runtime of its own and waits on it, so callers must be ordinary threads
//! (or a runtime's blocking ones). Each call has a time limit that grows with the bytes it carries. Repeating what failed
//! is another wrapper's, and so are all limits of rate and number. What is counted are the real HTTP requests.

mod credentials;
mod failure;
mod region;
mod service;
mod transport;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use opendal::{ErrorKind, Operator};
use tokio::runtime::Runtime;

use super::{Counts, Destination, Object, Result, Store, StoreError, path};
use failure::Failure;

/// Objects above it go in parts of this size; each part is held in memory anyway, as the whole is.
const PART_BYTES: usize = 64 << 20;

/// The slowest line that is worked with: what a request carries may take so long beside its own time.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;

/// Where the requests run. Two threads: TLS and signatures of one request need not wait for another's.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("store")
        .enable_all()
        .build()
        .expect("a process that runs can have two more threads")
});

/// Starts the threads that the requests of all destinations run on, which otherwise the first request does. They take the
/// priority of who starts them.
pub fn start() {
    LazyLock::force(&RUNTIME);
}

/// See the module.
pub struct ObjectStore {
    operator: Operator,
    location: String,
    /// What messages need to know of the service.
    failure: Failure,
    counts: Arc<Counts>,
    timeout: Duration,
    /// Whether the service refuses to replace where it is told to, by the documentation of its maker.
    exclusive: bool,
    /// Set once an answer proved that the bucket is there: a missing bucket and a missing object look alike to `HEAD`.
    reached: AtomicBool,
}

impl ObjectStore {
    /// Prepares the store; asks nothing of the service. Requests are counted in `counts`, and one may take `timeout` and
    /// a second for each 64 KiB.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a directory, and for what the service's own settings lack.
    pub fn open(destination: &Destination, counts: Arc<Counts>, timeout: Duration) -> Result<Self> {
        let service = service::operator(destination, &counts)?;
        Ok(Self {
            operator: service.operator,
            location: destination.url(),
            failure: service.failure,
            counts,
            timeout,
            exclusive: service.exclusive,
            reached: AtomicBool::new(false),
        })
    }

    /// Waits for an answer for as long as so many bytes may take.
    fn wait<T>(
        &self,
        doing: &dyn Fn() -> String,
        bytes: u64,
        work: impl Future<Output = opendal::Result<T>>,
    ) -> Result<opendal::Result<T>> {
        let limit = self.timeout + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        RUNTIME
            .block_on(async { tokio::time::timeout(limit, work).await })
            .map_err(|_| StoreError::Unavailable {
                location: self.location.clone(),
                doing: doing(),
                why: format!("no answer within {} s", limit.as_secs()),
            })
    }

    fn fail(&self, doing: &str, error: &opendal::Error) -> StoreError {
        self.failure.explain(&self.location, doing, error)
    }

    fn missing(&self, path: &str) -> StoreError {
        StoreError::NotFound {
            location: self.location.clone(),
            path: path.to_owned(),
        }
    }

    fn exists_already(&self, path: &str) -> StoreError {
        StoreError::AlreadyExists {
            location: self.location.clone(),
            path: path.to_owned(),
        }
    }

    fn write(&self, path: &str, bytes: Bytes, new: bool) -> Result<()> {
        path::check(path)?;
        let doing = || format!("write {path}");
        let length = bytes.len();
        let work = async {
            let options = opendal::options::WriteOptions {
                if_not_exists: new,
                chunk: (length > PART_BYTES).then_some(PART_BYTES),
                ..Default::default()
            };
            self.operator.write_options(path, bytes, options).await
        };
        match self.wait(&doing, length as u64, work)? {
            Ok(_) => {
                self.reached.store(true, Relaxed);
                Ok(())
            }
            Err(error)
                if new
                    && matches!(
                        error.kind(),
                        ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists
                    ) =>
            {
                Err(self.exists_already(path))
            }
            Err(error) => Err(self.fail(&doing(), &error)),
        }
    }

    /// All of an object or a part of it; an error where more than `limit` bytes come.
    async fn read(
        &self,
        path: &str,
        range: Option<(u64, u64)>,
        limit: u64,
    ) -> opendal::Result<Option<Bytes>> {
        let reader = self.operator.reader(path).await?;
        let stream = match range {
            Some((offset, length)) => reader.into_bytes_stream(offset..offset + length).await,
            None => reader.into_bytes_stream(..).await,
        };
        let mut stream = stream?;
        let mut chunks: Vec<Bytes> = Vec::new();
        let mut size = 0;
        while let Some(chunk) = stream.try_next().await.map_err(failure::from_io)? {
            size += chunk.len() as u64;
            if size > limit {
                return Ok(None);
            }
            chunks.push(chunk);
        }
        let mut whole = BytesMut::with_capacity(size as usize);
        for chunk in chunks {
            whole.extend_from_slice(&chunk);
        }
        Ok(Some(whole.freeze()))
    }

    /// The entries below a directory, those of its directories too where not `recursive`.
    fn entries(&self, below: &str, recursive: bool) -> Result<Vec<opendal::Entry>> {
        path::check_directory(below)?;
        let doing = || {
            if below.is_empty() {
                "list it".to_owned()
            } else {
                format!("list {below}")
            }
        };
        let prefix = path::prefix(below);
        let listed = async {
            let options = opendal::options::ListOptions {
                recursive,
                ..Default::default()
            };
            let mut lister = self.operator.lister_options(&prefix, options).await?;
            let mut entries = Vec::new();
            // A listing of a million objects is a thousand requests: each has its own time, not all together.
            let late = || {
                let why = format!("no answer within {} s", self.timeout.as_secs());
                opendal::Error::new(ErrorKind::Unexpected, why).set_temporary()
            };
            loop {
                let next = tokio::time::timeout(self.timeout, lister.try_next()).await;
                match next.map_err(|_| late())?? {
                    Some(entry) => entries.push(entry),
                    None => return Ok::<_, opendal::Error>(entries),
                }
            }
        };
        match RUNTIME.block_on(listed) {
            Ok(entries) => {
                self.reached.store(true, Relaxed);
                Ok(entries)
            }
            // WebDAV says so of a directory that is not there; S3 has no directories, so it means the bucket.
            Err(error) if error.kind() == ErrorKind::NotFound && self.failure.has_directories() => {
                Ok(Vec::new())
            }
            Err(error) => Err(self.fail(&doing(), &error)),
        }
    }

    /// # Errors
    /// [`StoreError::Failed`] where "no such object" was said because there is no such bucket.
    fn check_bucket(&self) -> Result<()> {
        if self.reached.load(Relaxed) {
            return Ok(());
        }
        let doing = || "list it".to_owned();
        let first = async {
            let options = opendal::options::ListOptions {
                limit: Some(1),
                ..Default::default()
            };
            let mut lister = self.operator.lister_options("", options).await?;
            lister.try_next().await
        };
        match self.wait(&doing, 0, first)? {
            Ok(_) => self.reached.store(true, Relaxed),
            Err(error) if error.kind() == ErrorKind::NotFound && self.failure.has_directories() => {}
            Err(error) => return Err(self.fail(&doing(), &error)),
        }
        Ok(())
    }
}

impl Store for ObjectStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.write(path, bytes, false)
    }

    fn put_new(&self, path: &str, bytes: Bytes) -> Result<()> {
        // Servers that do not know the condition ignore it, and would replace.
        if !self.exclusive && self.stat(path)?.is_some() {
            return Err(self.exists_already(path));
        }
        self.write(path, bytes, self.failure.has_conditions())
    }

    fn get(&self, path: &str, limit: u64) -> Result<Bytes> {
        path::check(path)?;
        let doing = || format!("read {path}");
        match self.wait(&doing, limit, self.read(path, None, limit))? {
            Ok(Some(bytes)) => {
                self.reached.store(true, Relaxed);
                self.counts.received(bytes.len() as u64);
                Ok(bytes)
            }
            Ok(None) => Err(StoreError::TooLarge {
                location: self.location.clone(),
                path: path.to_owned(),
                size: self.stat(path)?.map_or(limit + 1, |object| object.size),
                limit,
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.check_bucket()?;
                Err(self.missing(path))
            }
            Err(error) => Err(self.fail(&doing(), &error)),
        }
    }

    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Bytes> {
        path::check(path)?;
        let doing = || format!("read {path}");
        let short = || {
            let size = self.stat(path)?.ok_or_else(|| self.missing(path))?.size;
            if offset.checked_add(length).is_some_and(|end| end <= size) {
                // It was replaced meanwhile, or the answer was cut off.
                return Err(StoreError::Unavailable {
                    location: self.location.clone(),
                    doing: doing(),
                    why: "less came than it has".to_owned(),
                });
            }
            Err(StoreError::too_short(&self.location, path, offset, length, size))
        };
        if length == 0 {
            let object = self.stat(path)?.ok_or_else(|| self.missing(path))?;
            return if offset <= object.size {
                Ok(Bytes::new())
            } else {
                short()
            };
        }
        if offset.checked_add(length).is_none_or(|end| end > i64::MAX as u64) {
            return short();
        }
        match self.wait(&doing, length, self.read(path, Some((offset, length)), length))? {
            Ok(Some(bytes)) if bytes.len() as u64 == length => {
                self.reached.store(true, Relaxed);
                self.counts.received(length);
                Ok(bytes)
            }
            Ok(Some(_)) => short(),
            Ok(None) => Err(StoreError::Failed {
                location: self.location.clone(),
                doing: doing(),
                why: "the server sent more than the part that was asked for".to_owned(),
            }),
            // A range beyond the end, or a body that ended early: ask which it was.
            Err(error) if error.kind() == ErrorKind::RangeNotSatisfied || failure::is_short(&error) => {
                short()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.check_bucket()?;
                Err(self.missing(path))
            }
            Err(error) => Err(self.fail(&doing(), &error)),
        }
    }

    fn stat(&self, path: &str) -> Result<Option<Object>> {
        path::check(path)?;
        let doing = || format!("look at {path}");
        match self.wait(&doing, 0, self.operator.stat(path))? {
            Ok(meta) => {
                self.reached.store(true, Relaxed);
                Ok(meta.is_file().then(|| object(path.to_owned(), &meta)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.check_bucket()?;
                Ok(None)
            }
            Err(error) => Err(self.fail(&doing(), &error)),
        }
    }

    fn list(&self, below: &str) -> Result<Vec<Object>> {
        let mut found: Vec<Object> = self
            .entries(below, true)?
            .into_iter()
            // Some programs make empty objects with a slash at the end, to show a directory.
            .filter(|entry| !entry.path().ends_with('/'))
            .map(|entry| object(entry.path().to_owned(), entry.metadata()))
            .collect();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn directories(&self, below: &str) -> Result<Vec<String>> {
        let prefix = path::prefix(below);
        let mut found: Vec<String> = self
            .entries(below, false)?
            .iter()
            .filter_map(|entry| entry.path().strip_prefix(&prefix)?.strip_suffix('/'))
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn delete(&self, path: &str) -> Result<()> {
        path::check(path)?;
        let doing = || format!("delete {path}");
        match self.wait(&doing, 0, self.operator.delete(path))? {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => self.check_bucket(),
            Err(error) => Err(self.fail(&doing(), &error)),
        }
    }
}

fn object(path: String, meta: &opendal::Metadata) -> Object {
    Object {
        path,
        size: meta.content_length(),
        modified: meta.last_modified().map(|time| time.into_inner().as_second()),
    }
}
