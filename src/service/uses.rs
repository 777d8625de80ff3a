//! Long work on a volume that nobody waits for with the volume's lock: a copy into a repository, or out of one.
//!
//! Docker's mounts and unmounts need the lock, and must not wait for a copy (nor must anything else of the volume).
//! So whoever copies registers here, under the lock, and gives the lock back; what would pull the data away from under
//! the copy looks here, under the lock too.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Result, ServiceError};
use crate::engine::Progress;
use crate::model::Name;

/// What is under way without a lock.
#[derive(Default, Clone)]
pub(super) struct Uses {
    /// Held for look-ups only.
    all: Arc<Mutex<Vec<Arc<Use>>>>,
}

/// What is done to a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doing {
    /// A snapshot of this name is taken: the volume is read.
    Taking(Name),
    /// It is backed up as it is: the volume is read.
    BackingUp,
    /// Snapshots of these names are compared with each other, or with the volume: they are read.
    Comparing(Vec<Name>),
    /// It is put back to the snapshot of this name: the snapshot is read, and the volume is not to be used.
    Reverting(Name),
}

struct Use {
    volume: Name,
    doing: Doing,
    progress: Arc<Progress>,
    /// Whether the volume was mounted since.
    mounted: AtomicBool,
    over: watch::Sender<bool>,
}

/// Registered until it is dropped.
pub(super) struct Registered {
    uses: Uses,
    of: Arc<Use>,
}

impl Registered {
    /// Whether the volume was mounted since.
    pub fn was_mounted(&self) -> bool {
        self.of.mounted.load(SeqCst)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.uses.locked().retain(|other| !Arc::ptr_eq(other, &self.of));
        self.of.over.send_replace(true);
    }
}

/// Ends work when it is dropped: whoever asked for it has gone away.
pub(super) struct EndWhenDropped(pub Arc<Progress>);

impl Drop for EndWhenDropped {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Uses {
    fn locked(&self) -> MutexGuard<'_, Vec<Arc<Use>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers work. Under the volume's lock.
    pub fn begin(&self, volume: &Name, doing: Doing, progress: &Arc<Progress>) -> Registered {
        let of = Arc::new(Use {
            volume: volume.clone(),
            doing,
            progress: progress.clone(),
            mounted: AtomicBool::new(false),
            over: watch::channel(false).0,
        });
        self.locked().push(of.clone());
        Registered {
            uses: self.clone(),
            of,
        }
    }

    /// Whether a snapshot of that name is being taken.
    pub fn is_taking(&self, volume: &Name, snapshot: &Name) -> bool {
        let taking = Doing::Taking(snapshot.clone());
        let found = |of: &Arc<Use>| of.volume == *volume && of.doing == taking;
        self.locked().iter().any(found)
    }

    /// What reads `snapshot` of the volume or, without one, any of it.
    pub fn reader(&self, volume: &Name, snapshot: Option<&Name>) -> Option<String> {
        let all = self.locked();
        let mut of_volume = all.iter().filter(|of| of.volume == *volume);
        of_volume.find_map(|of| match (&of.doing, snapshot) {
            (Doing::Taking(name), None) => {
                Some(format!("the snapshot {volume}@{name}, which is being taken"))
            }
            (Doing::BackingUp, None) => Some("a backup of it, which is being made".to_owned()),
            (Doing::Comparing(names), snapshot)
                if snapshot.is_none_or(|snapshot| names.contains(snapshot)) =>
            {
                Some("a comparison, which is being made".to_owned())
            }
            (Doing::Reverting(name), None) => Some(format!("a revert to {volume}@{name}")),
            (Doing::Reverting(name), Some(snapshot)) if name == snapshot => {
                Some(format!("a revert to {volume}@{name}"))
            }
            _ => None,
        })
    }

    /// Says that the volume is about to be mounted. Under its lock.
    ///
    /// # Errors
    /// [`ServiceError::Restoring`] while it is put back to a snapshot.
    pub fn mounting(&self, volume: &Name) -> Result<()> {
        for of in self.locked().iter().filter(|of| of.volume == *volume) {
            of.mounted.store(true, SeqCst);
            of.refuse_reverting()?;
        }
        Ok(())
    }

    /// Says that the volume is about to be read. Under its lock.
    ///
    /// # Errors
    /// [`ServiceError::Restoring`] while it is put back to a snapshot: in the middle, other data take the place of these.
    pub fn reading(&self, volume: &Name) -> Result<()> {
        let all = self.locked();
        all.iter()
            .filter(|of| of.volume == *volume)
            .try_for_each(|of| of.refuse_reverting())
    }

    /// Waits until the volume is not being put back to a snapshot, as long as `patience` does.
    ///
    /// # Errors
    /// [`ServiceError::Restoring`] with how far it is.
    pub async fn await_revert(&self, volume: &Name, patience: impl Future<Output = ()>) -> Result<()> {
        let reverting = |of: &&Arc<Use>| of.volume == *volume && matches!(of.doing, Doing::Reverting(_));
        let Some(of) = self.locked().iter().find(reverting).cloned() else {
            return Ok(());
        };
        let mut over = of.over.subscribe();
        tokio::select! {
            // The sender lives as long as `of`.
            _ = over.wait_for(|over| *over) => Ok(()),
            () = patience => of.refuse_reverting(),
        }
    }

    /// Ends all of it.
    pub fn cancel_all(&self) {
        self.locked().iter().for_each(|of| of.progress.cancel());
    }
}

impl Use {
    fn refuse_reverting(&self) -> Result<()> {
        let Doing::Reverting(snapshot) = &self.doing else {
            return Ok(());
        };
        let figures = self.progress.figures();
        let percent = match figures.total_bytes {
            0 => String::new(),
            total => format!(
                ", {} %",
                (figures.done_bytes.min(total) as u128 * 100 / u128::from(total))
            ),
        };
        Err(ServiceError::Restoring {
            volume: self.volume.clone(),
            how: format!("it is being put back to its snapshot {snapshot}{percent}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::volume(text).expect("a name")
    }

    #[test]
    fn a_volume_that_is_copied_can_be_mounted_and_not_taken_away() {
        let uses = Uses::default();
        let (v, s) = (name("v"), name("s"));
        let work = uses.begin(&v, Doing::Taking(s.clone()), &Arc::default());
        assert!(uses.is_taking(&v, &s) && !uses.is_taking(&v, &name("other")));
        assert!(uses.reader(&v, None).expect("it is read").contains("v@s"));
        assert!(uses.reader(&v, Some(&name("older"))).is_none(), "others can go");
        assert!(!work.was_mounted());
        uses.mounting(&name("w")).expect("another volume's mount");
        assert!(!work.was_mounted());
        uses.mounting(&v).expect("its own mount");
        assert!(work.was_mounted());
        drop(work);
        assert!(uses.reader(&v, None).is_none());
        let _work = uses.begin(&v, Doing::BackingUp, &Arc::default());
        assert!(uses.reader(&v, None).expect("it is read").contains("backup"));
        assert!(uses.reader(&v, Some(&s)).is_none(), "no snapshot is");
        uses.reading(&v).expect("two may read");
    }

    #[tokio::test]
    async fn a_volume_that_is_put_back_is_not_mounted() {
        let uses = Uses::default();
        let (v, s) = (name("v"), name("s"));
        let progress = Arc::<Progress>::default();
        progress.expect(200, 1);
        progress.done(86, 0);
        let work = uses.begin(&v, Doing::Reverting(s.clone()), &progress);
        let said = uses.mounting(&v).expect_err("refused").to_string();
        assert!(said.contains("43 %"), "{said}");
        assert!(
            uses.reading(&v).is_err(),
            "what is read would change under the reader"
        );
        assert!(uses.reading(&s).is_ok());
        assert!(uses.reader(&v, Some(&s)).is_some());
        assert!(uses.await_revert(&v, async {}).await.is_err());
        let waits = uses.await_revert(&v, std::future::pending());
        let (waited, ()) = tokio::join!(waits, async { drop(work) });
        waited.expect("it is over");
    }

    #[test]
    fn all_of_it_ends_when_the_daemon_does() {
        let uses = Uses::default();
        let progress = Arc::<Progress>::default();
        let _work = uses.begin(&name("v"), Doing::Taking(name("s")), &progress);
        uses.cancel_all();
        assert!(progress.is_cancelled());
    }
}
