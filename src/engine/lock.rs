//! Locks on a repository, by restic's rules, so that both programs respect each other's.
//!
//! A lock is a file in `locks/`. Backups take shared locks, prune an exclusive one. Whoever wants one writes it, looks at the
//! others, and takes it back if they forbid it: of two at once, both may go away, never both stay. Who wants all for
//! himself looks before he writes as well, so that a wish that cannot be fulfilled disturbs nobody; a shared lock that is
//! there for a moment disturbs only those who are about to be refused anyway, and is spared that request. A lock is
//! renewed every five minutes; one that is older than thirty, or whose process on this host is gone, is stale and is
//! removed (restic's design document, "Locks").

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EngineError, Id, Repository, Result};
use crate::store::Stop;

const RENEWAL: Duration = Duration::from_secs(5 * 60);
const AGAIN: Duration = Duration::from_secs(60);
const STALE_SECONDS: i64 = 30 * 60;

/// Short of the time after which others take our lock for stale: from then on nothing may rely on it.
const TRUSTED: Duration = Duration::from_secs(25 * 60);

/// How long a look at the lock is good for a second write: less than one request may take while it is repeated.
const RECENT: Duration = Duration::from_secs(5);

/// What follows the host's name in our locks.
const OURS: &str = "/windlass";

/// The inode number of the first pid namespace (`PROC_PID_INIT_INO` in the kernel's `proc_ns.h`).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Who may be in the repository meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Others that add.
    Shared,
    /// Nobody.
    Exclusive,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LockFile {
    time: Timestamp,
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i64,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

impl LockFile {
    /// Whose it is, for messages: on one line, and with nothing in it that a terminal would obey.
    pub(super) fn holder(&self) -> String {
        let shown = |text: &str| -> String { text.chars().take(100).flat_map(char::escape_debug).collect() };
        format!(
            "{}@{} (pid {})",
            shown(&self.username),
            shown(&self.hostname),
            self.pid
        )
    }
}

/// A lock that is held, and renewed by a thread of its own. Dropping it removes it.
#[derive(Debug)]
pub struct Lock {
    repository: Repository,
    shared: Arc<Shared>,
    renewer: Option<JoinHandle<()>>,
    follows_sleeper: bool,
}

#[derive(Debug)]
struct Shared {
    /// Held for a look or an assignment.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    id: Id,
    renewed: Instant,
    /// When it was last asked for and there.
    seen: Option<Instant>,
    released: bool,
}

impl Lock {
    /// Takes a lock, after removing stale ones.
    ///
    /// # Errors
    /// [`EngineError::Locked`] names who holds one that forbids it.
    pub fn take(repository: &Repository, access: Access) -> Result<Self> {
        let mut follows_sleeper = false;
        if access == Access::Exclusive {
            follows_sleeper = refuse_if_taken(repository, access, None)?;
        }
        let id = write(repository, access)?;
        // Whoever wrote theirs in the meantime sees ours, or we see theirs.
        match refuse_if_taken(repository, access, Some(id)) {
            Ok(sleeper) => follows_sleeper |= sleeper,
            Err(error) => {
                drop_file(repository, &id);
                return Err(error);
            }
        }
        let state = State {
            id,
            renewed: Instant::now(),
            seen: None,
            released: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let renewer = {
            let (repository, shared) = (repository.clone(), shared.clone());
            std::thread::Builder::new()
                .name("lock".to_owned())
                .spawn(move || renew(&repository, access, &shared))
                .map_err(|source| EngineError::Target {
                    doing: "start a thread for",
                    path: "the lock".into(),
                    source,
                })?
        };
        Ok(Self {
            repository: repository.clone(),
            shared,
            renewer: Some(renewer),
            follows_sleeper,
        })
    }

    /// Whether it took the place of an exclusive one that was merely old. Its owner may be asleep and not dead: a prune that, when its
    /// host wakes up, still sends the deletions that it was sending.
    pub fn follows_sleeper(&self) -> bool {
        self.follows_sleeper
    }

    /// Whether it is still ours. Asked before anything is written that relies on nothing having been deleted.
    ///
    /// # Errors
    /// [`EngineError::LockLost`] when it could not be renewed for so long that others may have ignored it, or when
    /// somebody removed it.
    pub fn check(&self) -> Result<()> {
        let (id, age) = {
            let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.id, state.renewed.elapsed())
        };
        let lost = |why: String| EngineError::LockLost {
            location: self.repository.location(),
            why,
        };
        if age > TRUSTED {
            return Err(lost(format!(
                "it could not be renewed for {} minutes",
                age.as_secs() / 60
            )));
        }
        let asked = Instant::now();
        if self.repository.store().stat(&path(&id))?.is_some() {
            self.shared
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .seen = Some(asked);
            return Ok(());
        }
        // It may just have been renewed under another name.
        let renewed = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .id;
        if renewed != id && self.repository.store().stat(&path(&renewed))?.is_some() {
            return Ok(());
        }
        Err(lost("somebody removed it".to_owned()))
    }

    /// The same for a write that follows another at once: a look a few seconds ago is as good as one now, since the
    /// write itself may take longer to arrive.
    ///
    /// # Errors
    /// [`EngineError::LockLost`].
    pub fn check_again(&self) -> Result<()> {
        let seen = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .seen;
        match seen {
            Some(seen) if seen.elapsed() < RECENT => Ok(()),
            _ => self.check(),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .released = true;
        self.shared.changed.notify_all();
        if let Some(renewer) = self.renewer.take() {
            let _ = renewer.join();
        }
        let id = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .id;
        drop_file(&self.repository, &id);
    }
}

fn drop_file(repository: &Repository, id: &Id) {
    // Cancelled work too waits for this: a lock that is left behind keeps others out.
    let _held = Stop::hold(None);
    if let Err(error) = repository.store().delete(&path(id)) {
        log::warn!("the lock {id} is left behind and becomes stale in 30 minutes: {error}");
    }
}

/// Removes the locks that restic too would call stale; with `all`, every lock. Says how many.
pub fn remove_stale(repository: &Repository, all: bool) -> Result<usize> {
    let mut removed = 0;
    for (id, lock) in read_all(repository, None)? {
        if all || lock.as_ref().is_some_and(is_stale) {
            repository.store().delete(&path(&id))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The locks that cannot be read: as long as one is there, nobody gets another.
pub(super) fn unreadable(repository: &Repository) -> Result<Vec<Id>> {
    let locks = read_all(repository, None)?;
    let bad = locks.into_iter().filter(|(_, lock)| lock.is_none());
    Ok(bad.map(|(id, _)| id).collect())
}

fn renew(repository: &Repository, access: Access, shared: &Shared) {
    let mut wait = RENEWAL;
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let until = Instant::now() + wait;
        while !state.released && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            (state, _) = shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.released {
            return;
        }
        let old = state.id;
        drop(state);
        let written = write(repository, access);
        state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        wait = match written {
            Ok(id) => {
                state.id = id;
                state.renewed = Instant::now();
                drop(state);
                if let Err(error) = repository.store().delete(&path(&old)) {
                    log::warn!("the renewed lock's old file is left behind: {error}");
                }
                state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
                RENEWAL
            }
            Err(error) => {
                log::warn!(
                    "the lock on {} could not be renewed: {error}",
                    repository.location()
                );
                AGAIN
            }
        };
    }
}

fn write(repository: &Repository, access: Access) -> Result<Id> {
    let lock = LockFile {
        time: super::now(),
        exclusive: access == Access::Exclusive,
        hostname: host_of_lock(),
        username: "windlass".to_owned(),
        pid: i64::from(std::process::id()),
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
    };
    let json = serde_json::to_vec(&lock).expect("text and numbers can be written as JSON");
    repository.write_file("locks", &json)
}

/// Removes stale locks on the way; says whether an exclusive one was among them whose owner may still live.
fn refuse_if_taken(repository: &Repository, access: Access, ours: Option<Id>) -> Result<bool> {
    let mut sleeper = false;
    for (id, lock) in read_all(repository, ours)? {
        let Some(lock) = lock else {
            let by =
                format!("by {id}, which cannot be read; if nobody works in it: `windlass repo unlock --all`");
            return Err(EngineError::Locked {
                location: repository.location(),
                by,
            });
        };
        if is_stale(&lock) {
            log::info!("a stale lock of {} from {} is removed", lock.holder(), lock.time);
            repository.store().delete(&path(&id))?;
            sleeper |= lock.exclusive && !is_of_the_dead(&lock);
        } else if access == Access::Exclusive || lock.exclusive {
            let kind = if lock.exclusive { "exclusively " } else { "" };
            let by = format!(
                "{kind}by {} since {}; wait for it, or, if it is dead, `windlass repo unlock --all`",
                lock.holder(),
                lock.time
            );
            return Err(EngineError::Locked {
                location: repository.location(),
                by,
            });
        }
    }
    Ok(sleeper)
}

/// All locks but `ours`; `None` for one that cannot be read. One that vanishes meanwhile was released.
fn read_all(repository: &Repository, ours: Option<Id>) -> Result<Vec<(Id, Option<LockFile>)>> {
    let mut locks = Vec::new();
    for id in repository.list_files("locks")? {
        if Some(id) == ours {
            continue;
        }
        match repository.read_file("locks", &id) {
            Ok(json) => locks.push((id, serde_json::from_slice(&json).ok())),
            Err(EngineError::Store(crate::store::StoreError::NotFound { .. })) => {}
            Err(EngineError::Corrupt { .. }) => locks.push((id, None)),
            Err(error) => return Err(error),
        }
    }
    Ok(locks)
}

pub(super) fn is_stale(lock: &LockFile) -> bool {
    let age = super::now().as_second() - lock.time.as_second();
    age > STALE_SECONDS || is_of_the_dead(lock)
}

/// Whether the process that wrote it is gone for certain.
fn is_of_the_dead(lock: &LockFile) -> bool {
    // A process that is gone tells something only where we see the processes that its number is of.
    let host = super::hostname();
    let here = lock.hostname == host || lock.hostname == format!("{host}{OURS}");
    in_first_pid_namespace() && here && lock.pid > 0 && !is_alive(lock.pid)
}

fn is_alive(pid: i64) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Not the bare name of the host: restic finds out whether a process of its own host is alive by sending it SIGHUP, which
/// would end us. So it goes by our lock's age alone. And in a pid namespace of our own (the managed plugin), our number
/// means nothing to anybody else.
fn host_of_lock() -> String {
    let host = super::hostname();
    if in_first_pid_namespace() {
        format!("{host}{OURS}")
    } else {
        format!("{host}{OURS}-plugin")
    }
}

fn in_first_pid_namespace() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|about| about.ino() == FIRST_PID_NAMESPACE)
}

fn path(id: &Id) -> String {
    format!("locks/{id}")
}
