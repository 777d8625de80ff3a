//! The admin API's client: one method per route, over the daemon's unix socket.
//!
//! It finds the socket, speaks JSON and turns every way in which that can go wrong into a [`ClientError`] that a
//! person can act on. It prints nothing, retries nothing and keeps no connection: each request opens its own.

mod discovery;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod fake;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Response};
use serde::de::IgnoredAny;

use crate::api::types::{
    Backup, BackupList, ChangePolicy, CheckedPool, Checkpoint, CloneCheckpoint, ClonedCheckpoint, CopyBackup,
    CreateBackup, CreateCheckpoint, CreateSnapshot, CreateVolume, Created, Difference, Event, ExtendPool,
    Failure, ImportConvoy, Imported, Info, Job, Kind, MountVolume, Mounted, Pool, PruneBackups, Removed,
    RepairPool, RepairedPool, ResizeVolume, Retention, Snapshot, SnapshotEntry, Timeline, Trashed,
    TrimmedPool, TrimmedVolume, UndeleteVolume, UnmountVolume, Unmounted, VerifyBackups, Volume, VolumeList,
};
use crate::model::OnRemove;

pub use discovery::{Places, SOCKET_VARIABLE};
pub use wire::Lines;
use wire::Path as Route;

/// What can go wrong between the command line and the daemon.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on any socket that was tried.
    #[error("no daemon answers at {}", paths(tried))]
    NoDaemon {
        /// The sockets, or patterns of sockets, in the order of trying.
        tried: Vec<PathBuf>,
    },
    /// The socket, or a directory on the way to it, is not for this user.
    #[error("permission denied on {}", socket.display())]
    PermissionDenied {
        /// The socket or the directory.
        socket: PathBuf,
    },
    /// The socket is there but cannot be used.
    #[error("cannot connect to {}: {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// The daemon refused or failed, in its own words.
    #[error("{}", .0.message)]
    Failure(Failure),
    /// What answers is not this API.
    #[error("what answers at {} is not windlass's admin API: {request} brought {why}", socket.display())]
    NotWindlass {
        /// The socket.
        socket: PathBuf,
        /// Method and path of the request.
        request: String,
        /// What came instead.
        why: String,
    },
    /// An answer beyond the bound that protects this process's memory.
    #[error("the answer to {request} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// Method and path of the request.
        request: String,
        /// The bound.
        limit_bytes: usize,
    },
    /// The connection ended before the answer did.
    #[error("the daemon at {} hung up during {request}: {source}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Method and path of the request.
        request: String,
        /// What the connection said.
        source: hyper::Error,
    },
    /// No answer to a question that is answered from memory.
    #[error("the daemon at {} has not answered {request} for {seconds} s", socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// Method and path of the request.
        request: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A request that cannot be written as JSON or HTTP.
    #[error("cannot write the request {request}: {why}")]
    Request {
        /// Method and path of the request.
        request: String,
        /// Why not.
        why: String,
    },
}

impl ClientError {
    /// What kind of failure this is, for the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Failure(failure) => failure.kind,
            Self::NoDaemon { .. }
            | Self::PermissionDenied { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Silent { .. } => Kind::Unavailable,
            Self::NotWindlass { .. } | Self::TooLarge { .. } | Self::Request { .. } => Kind::Internal,
        }
    }

    /// What to do about it; may be empty.
    pub fn hint(&self) -> &str {
        match self {
            Self::Failure(failure) => &failure.hint,
            Self::NoDaemon { .. } => {
                "start it with 'docker plugin enable' or 'windlass daemon', or name its socket with --socket"
            }
            Self::PermissionDenied { .. } => "run this as root, or join the group that owns the socket",
            Self::Connect { .. } => "name the daemon's socket with --socket",
            Self::NotWindlass { .. } => {
                "name the daemon's socket with --socket, or update: client and daemon may be of different versions"
            }
            Self::Broken { .. } | Self::Silent { .. } => "look into the daemon's log",
            Self::TooLarge { .. } | Self::Request { .. } => "",
        }
    }
}

fn paths(tried: &[PathBuf]) -> String {
    let shown: Vec<String> = tried.iter().map(|p| p.display().to_string()).collect();
    shown.join(" or ")
}

/// How a volume is to be removed; by default as its own policy says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveVolume {
    /// Forget the volume and leave its data where it is.
    pub reference: bool,
    /// Instead of the volume's policy.
    pub how: Option<OnRemove>,
}

/// A daemon at the other end of a socket.
///
/// Every method gives [`ClientError`]: the daemon's own [`Failure`], or what kept it from being asked. A `reference` is
/// a name, a UUID or the unambiguous beginning of a UUID; for snapshots also `volume@snapshot`. It must not be empty.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    limit_bytes: usize,
}

impl Client {
    /// The largest answer that is read: some ten thousand volumes with their snapshots.
    pub const MAX_ANSWER_BYTES: usize = 64 << 20;

    /// A client of the daemon at `socket`; nothing is tried yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            limit_bytes: Self::MAX_ANSWER_BYTES,
        }
    }

    /// Finds the daemon: `given` if there is one, else the first of the known places where somebody listens.
    pub async fn discover(given: Option<&Path>) -> Result<Self, ClientError> {
        discovery::find(given, &Places::default()).await.map(Self::new)
    }

    /// The socket it speaks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon and its drivers.
    pub async fn info(&self) -> Result<Info, ClientError> {
        self.read(Route::new("info")).await
    }

    /// All volumes, or those of one driver.
    pub async fn volumes(&self, driver: Option<&str>) -> Result<VolumeList, ClientError> {
        self.read(Route::new("volumes").query("driver", driver)).await
    }

    /// Creates a volume.
    pub async fn create_volume(&self, volume: &CreateVolume) -> Result<Created, ClientError> {
        self.post(Route::new("volumes"), volume).await
    }

    /// One volume.
    pub async fn volume(&self, reference: &str) -> Result<Volume, ClientError> {
        self.read(Route::new("volumes").segment(reference)).await
    }

    /// Removes a volume.
    pub async fn remove_volume(&self, reference: &str, how: RemoveVolume) -> Result<Removed, ClientError> {
        let route = Route::new("volumes")
            .segment(reference)
            .query("reference", how.reference.then_some("true"))
            .query("how", how.how.map(|how| how.to_string()).as_deref());
        self.delete(route).await
    }

    /// Mounts a volume.
    pub async fn mount(&self, reference: &str, mount: &MountVolume) -> Result<Mounted, ClientError> {
        self.post(Route::new("volumes").segment(reference).word("mount"), mount)
            .await
    }

    /// Gives the command line's mount back.
    pub async fn unmount(&self, reference: &str, unmount: &UnmountVolume) -> Result<Unmounted, ClientError> {
        self.post(Route::new("volumes").segment(reference).word("umount"), unmount)
            .await
    }

    /// Makes a volume refuse removal.
    pub async fn protect(&self, reference: &str) -> Result<Volume, ClientError> {
        self.act(Route::new("volumes").segment(reference).word("protect"))
            .await
    }

    /// Lets a volume be removed again.
    pub async fn unprotect(&self, reference: &str) -> Result<Volume, ClientError> {
        self.act(Route::new("volumes").segment(reference).word("unprotect"))
            .await
    }

    /// Changes a volume's policy.
    pub async fn change_policy(
        &self,
        reference: &str,
        changes: &ChangePolicy,
    ) -> Result<Volume, ClientError> {
        self.post(Route::new("volumes").segment(reference).word("policy"), changes)
            .await
    }

    /// What a volume's policy keeps of its snapshots and backups.
    pub async fn retention(&self, reference: &str) -> Result<Retention, ClientError> {
        self.read(Route::new("volumes").segment(reference).word("retention"))
            .await
    }

    /// Has a task of a volume's policy done as soon as there is a turn.
    pub async fn ask_for_task(&self, reference: &str, task: &str) -> Result<Volume, ClientError> {
        let route = Route::new("volumes")
            .segment(reference)
            .word("tasks")
            .segment(task);
        self.act(route).await
    }

    /// Makes a volume larger.
    pub async fn resize(&self, reference: &str, resize: &ResizeVolume) -> Result<Volume, ClientError> {
        self.post(Route::new("volumes").segment(reference).word("resize"), resize)
            .await
    }

    /// Gives a volume's unused space back.
    pub async fn trim(&self, reference: &str) -> Result<TrimmedVolume, ClientError> {
        self.act(Route::new("volumes").segment(reference).word("trim"))
            .await
    }

    /// What differs between a snapshot and a later one, or the volume as it is now; with `ranges`, of the bytes of its device.
    pub async fn diff(
        &self,
        from: &str,
        to: Option<&str>,
        ranges: bool,
    ) -> Result<Lines<Difference>, ClientError> {
        let route = Route::new("diff")
            .query("from", Some(from))
            .query("to", to)
            .query("ranges", ranges.then_some("true"));
        let patience = Duration::from_secs(600);
        let (request, answer) = self.send_with(Method::GET, &route, None, Some(patience)).await?;
        Ok(Lines::new(self.socket.clone(), request, answer))
    }

    /// Begins a drill: restores a volume's newest backup aside.
    pub async fn drill(&self, volume: &str) -> Result<Job, ClientError> {
        self.act(Route::new("volumes").segment(volume).word("drill"))
            .await
    }

    /// A volume's history, from a moment on as people write it.
    pub async fn timeline(&self, volume: &str, since: Option<&str>) -> Result<Timeline, ClientError> {
        let route = Route::new("volumes").segment(volume).word("timeline");
        self.patient_read(route.query("since", since)).await
    }

    /// A volume's snapshots by name.
    pub async fn snapshots(&self, volume: &str) -> Result<BTreeMap<String, SnapshotEntry>, ClientError> {
        self.read(Route::new("volumes").segment(volume).word("snapshots"))
            .await
    }

    /// Takes a snapshot of a volume.
    pub async fn create_snapshot(&self, volume: &str, new: &CreateSnapshot) -> Result<Snapshot, ClientError> {
        self.post(Route::new("volumes").segment(volume).word("snapshots"), new)
            .await
    }

    /// All checkpoints, the oldest first.
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>, ClientError> {
        self.read(Route::new("checkpoints")).await
    }

    /// Takes a checkpoint.
    pub async fn create_checkpoint(&self, new: &CreateCheckpoint) -> Result<Checkpoint, ClientError> {
        self.post(Route::new("checkpoints"), new).await
    }

    /// One checkpoint.
    pub async fn checkpoint(&self, reference: &str) -> Result<Checkpoint, ClientError> {
        self.read(Route::new("checkpoints").segment(reference)).await
    }

    /// Puts all of its volumes back.
    pub async fn revert_to_checkpoint(&self, reference: &str) -> Result<Checkpoint, ClientError> {
        self.act(Route::new("checkpoints").segment(reference).word("revert"))
            .await
    }

    /// Clones all of its volumes.
    pub async fn clone_checkpoint(
        &self,
        reference: &str,
        clone: &CloneCheckpoint,
    ) -> Result<ClonedCheckpoint, ClientError> {
        self.post(Route::new("checkpoints").segment(reference).word("clone"), clone)
            .await
    }

    /// Removes it with its snapshots.
    pub async fn remove_checkpoint(&self, reference: &str) -> Result<Checkpoint, ClientError> {
        self.delete(Route::new("checkpoints").segment(reference)).await
    }

    /// One snapshot.
    pub async fn snapshot(&self, reference: &str) -> Result<Snapshot, ClientError> {
        self.read(Route::new("snapshots").segment(reference)).await
    }

    /// Removes a snapshot.
    pub async fn remove_snapshot(&self, reference: &str) -> Result<Snapshot, ClientError> {
        self.delete(Route::new("snapshots").segment(reference)).await
    }

    /// Puts a volume back to one of its snapshots.
    pub async fn revert(&self, snapshot: &str) -> Result<Volume, ClientError> {
        self.act(Route::new("snapshots").segment(snapshot).word("revert"))
            .await
    }

    /// Shows a snapshot, read-only.
    pub async fn mount_snapshot(&self, snapshot: &str, mount: &MountVolume) -> Result<Mounted, ClientError> {
        self.post(Route::new("snapshots").segment(snapshot).word("mount"), mount)
            .await
    }

    /// Takes a snapshot away from wherever it is shown.
    pub async fn unmount_snapshot(&self, snapshot: &str) -> Result<Unmounted, ClientError> {
        self.act(Route::new("snapshots").segment(snapshot).word("umount"))
            .await
    }

    /// The pool that volumes share.
    pub async fn pool(&self) -> Result<Pool, ClientError> {
        self.read(Route::new("pool")).await
    }

    /// Looks whether the pool's metadata are sound.
    pub async fn check_pool(&self) -> Result<CheckedPool, ClientError> {
        self.act(Route::new("pool").word("check")).await
    }

    /// Repairs the metadata of a pool that nobody uses.
    pub async fn repair_pool(&self, repair: &RepairPool) -> Result<RepairedPool, ClientError> {
        self.post(Route::new("pool").word("repair"), repair).await
    }

    /// Makes the pool larger.
    pub async fn extend_pool(&self, extend: &ExtendPool) -> Result<Pool, ClientError> {
        self.post(Route::new("pool").word("extend"), extend).await
    }

    /// Gives back what mounted volumes do not use.
    pub async fn trim_pool(&self) -> Result<TrimmedPool, ClientError> {
        self.act(Route::new("pool").word("trim")).await
    }

    /// Takes over Convoy's volumes.
    pub async fn import_convoy(&self, import: &ImportConvoy) -> Result<Imported, ClientError> {
        self.post(Route::new("import").word("convoy"), import).await
    }

    /// The removed volumes that can be brought back.
    pub async fn trash(&self) -> Result<Vec<Trashed>, ClientError> {
        self.read(Route::new("trash")).await
    }

    /// Brings a removed volume back.
    pub async fn undelete(&self, reference: &str, undelete: &UndeleteVolume) -> Result<Created, ClientError> {
        self.post(Route::new("trash").segment(reference).word("undelete"), undelete)
            .await
    }

    /// Destroys a removed volume for good.
    pub async fn purge(&self, reference: &str) -> Result<Trashed, ClientError> {
        self.delete(Route::new("trash").segment(reference)).await
    }

    /// The backups at a destination, or at the daemon's; of all volumes or of one.
    pub async fn backups(
        &self,
        destination: Option<&str>,
        endpoint: Option<&str>,
        volume: Option<&str>,
    ) -> Result<BackupList, ClientError> {
        let route = Route::new("backups")
            .query("dest", destination)
            .query("endpoint", endpoint)
            .query("volume", volume);
        self.patient_read(route).await
    }

    /// One backup.
    pub async fn backup(&self, url: &str, endpoint: Option<&str>) -> Result<Backup, ClientError> {
        let route = Route::new("backups").word("inspect");
        self.patient_read(route.query("url", Some(url)).query("endpoint", endpoint))
            .await
    }

    /// Begins a backup.
    pub async fn create_backup(&self, backup: &CreateBackup) -> Result<Job, ClientError> {
        self.post(Route::new("backups"), backup).await
    }

    /// Begins to delete a backup.
    pub async fn delete_backup(&self, url: &str, endpoint: Option<&str>) -> Result<Job, ClientError> {
        let route = Route::new("backups");
        self.delete(route.query("url", Some(url)).query("endpoint", endpoint))
            .await
    }

    /// Begins to look whether backups can be restored.
    pub async fn verify_backups(&self, verify: &VerifyBackups) -> Result<Job, ClientError> {
        self.post(Route::new("backups").word("verify"), verify).await
    }

    /// Begins to take away what no backup needs any more.
    pub async fn prune_backups(&self, prune: &PruneBackups) -> Result<Job, ClientError> {
        self.post(Route::new("backups").word("prune"), prune).await
    }

    /// Begins to copy a backup to another destination.
    pub async fn copy_backup(&self, copy: &CopyBackup) -> Result<Job, ClientError> {
        self.post(Route::new("backups").word("copy"), copy).await
    }

    /// All jobs that the daemon knows, the oldest first.
    pub async fn jobs(&self) -> Result<Vec<Job>, ClientError> {
        self.read(Route::new("jobs")).await
    }

    /// One job.
    pub async fn job(&self, id: i64) -> Result<Job, ClientError> {
        self.read(Route::new("jobs").segment(&id.to_string())).await
    }

    /// Ends a job.
    pub async fn cancel_job(&self, id: i64) -> Result<Job, ClientError> {
        self.delete(Route::new("jobs").segment(&id.to_string())).await
    }

    /// How a job stands, each time that this changes, until it has ended or the daemon stops.
    pub async fn job_progress(&self, id: i64) -> Result<Lines<Job>, ClientError> {
        let route = Route::new("jobs").segment(&id.to_string()).word("progress");
        let (request, answer) = self.send(Method::GET, &route, None).await?;
        Ok(Lines::new(self.socket.clone(), request, answer))
    }

    /// What happens, from the events that the daemon remembers (those after `since`) on; endless with `follow`.
    pub async fn events(&self, since: Option<u64>, follow: bool) -> Result<Lines<Event>, ClientError> {
        let route = Route::new("events")
            .query("since", since.map(|s| s.to_string()).as_deref())
            .query("follow", (!follow).then_some("false"));
        let (request, answer) = self.send(Method::GET, &route, None).await?;
        Ok(Lines::new(self.socket.clone(), request, answer))
    }

    async fn read<A: serde::de::DeserializeOwned>(&self, route: Route) -> Result<A, ClientError> {
        self.call(Method::GET, route, None).await
    }

    /// The same for what the daemon has to ask a destination: a large one takes its time.
    async fn patient_read<A: serde::de::DeserializeOwned>(&self, route: Route) -> Result<A, ClientError> {
        let patience = Duration::from_secs(600);
        let (request, answer) = self.send_with(Method::GET, &route, None, Some(patience)).await?;
        self.decode(request, answer).await
    }

    async fn post<A: serde::de::DeserializeOwned>(
        &self,
        route: Route,
        body: &impl serde::Serialize,
    ) -> Result<A, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Request {
            request: format!("POST {route}"),
            why: error.to_string(),
        })?;
        self.call(Method::POST, route, Some(body)).await
    }

    async fn act<A: serde::de::DeserializeOwned>(&self, route: Route) -> Result<A, ClientError> {
        self.call(Method::POST, route, None).await
    }

    async fn delete<A: serde::de::DeserializeOwned>(&self, route: Route) -> Result<A, ClientError> {
        self.call(Method::DELETE, route, None).await
    }

    async fn call<A: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        route: Route,
        body: Option<Vec<u8>>,
    ) -> Result<A, ClientError> {
        let (request, answer) = self.send(method, &route, body).await?;
        self.decode(request, answer).await
    }

    async fn decode<A: serde::de::DeserializeOwned>(
        &self,
        request: String,
        answer: Response<Incoming>,
    ) -> Result<A, ClientError> {
        let body = self.collect(&request, answer).await?;
        serde_json::from_slice(&body).map_err(|error| ClientError::NotWindlass {
            socket: self.socket.clone(),
            request,
            why: unreadable(&body, &error),
        })
    }
}

/// Tells JSON of another shape from what is no JSON at all.
fn unreadable(body: &[u8], error: &serde_json::Error) -> String {
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(_) => format!("an answer of another shape ({error})"),
        Err(_) => "an answer that is not JSON".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
