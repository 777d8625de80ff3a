//! Whether entries of a tree changed between two looks at it, in sixteen bytes per entry.

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::sys::handle::{FileTime, Stat};

/// The coarse clock that ctime is taken from stands still for a tick, 10 ms at most.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// The change and the look can each be a tick off.
const SAFE_NANOS: i128 = 2 * TICK.as_nanos() as i128;
const SECOND_NANOS: i128 = 1_000_000_000;

/// Makes keys and stamps; its secret keeps anyone from choosing names that collide.
#[derive(Default)]
pub(super) struct Stamper(RandomState);

/// An entry's place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

/// An entry's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    hash: u64,
    /// It could change again without its ctime showing it, for so long from the look on.
    pub(super) settles_in: Option<Duration>,
}

impl Stamp {
    pub(super) fn is_racy(self) -> bool {
        self.settles_in.is_some()
    }

    /// Whether nothing tells the two states apart.
    pub(super) fn same_state(self, other: Self) -> bool {
        self.hash == other.hash
    }

    /// This state, trusted no more than the other.
    pub(super) fn as_racy_as(self, other: Self) -> Self {
        Self {
            settles_in: self.settles_in.max(other.settles_in),
            ..self
        }
    }
}

impl Stamper {
    pub(super) const ROOT: Key = Key(0);

    pub(super) fn key(&self, parent: Key, name: &OsStr) -> Key {
        Key(self.0.hash_one((parent.0, name.as_bytes())))
    }

    /// `looked_at` is the time just before `stat` was taken.
    pub(super) fn stamp(&self, stat: &Stat, looked_at: FileTime) -> Stamp {
        let state = (
            stat.id(),
            stat.mode,
            stat.uid,
            stat.gid,
            stat.size,
            stat.rdev,
            stat.mtime,
            stat.ctime,
        );
        Stamp {
            hash: self.0.hash_one(state),
            settles_in: settles_in(stat.ctime, looked_at),
        }
    }
}

/// How long after the look a change could still carry the same ctime; None if none could.
///
/// A ctime in the future (a clock that was set back) is not such a case: the next change would carry another.
pub(super) fn settles_in(ctime: FileTime, looked_at: FileTime) -> Option<Duration> {
    let nanos = |time: FileTime| i128::from(time.secs) * SECOND_NANOS + i128::from(time.nanos);
    // A filesystem that keeps whole seconds gives itself away.
    let resolution = if ctime.nanos == 0 {
        SECOND_NANOS + SAFE_NANOS
    } else {
        SAFE_NANOS
    };
    let age = nanos(looked_at) - nanos(ctime);
    let left = u64::try_from(resolution - age).ok()?;
    (age >= -SAFE_NANOS).then(|| Duration::from_nanos(left))
}

/// The stamps of all entries at one look.
#[derive(Default)]
pub(super) struct Fingerprint {
    entries: Vec<(Key, u64)>,
    /// When all of them will have settled, counted from the look at each.
    pub(super) settles_in: Option<Duration>,
}

/// Takes the place of a stamp that proves nothing.
const NEVER: u64 = 0;

impl Fingerprint {
    pub(super) fn record(&mut self, key: Key, stamp: Stamp) {
        self.entries
            .push((key, if stamp.is_racy() { NEVER } else { stamp.hash }));
        self.settles_in = self.settles_in.max(stamp.settles_in);
    }

    /// To be called once, before any question. A directory that is changed while it is read can name an entry twice;
    /// then neither state counts.
    pub(super) fn seal(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup_by(|next, kept| {
            let same_key = next.0 == kept.0;
            if same_key && next.1 != kept.1 {
                kept.1 = NEVER;
            }
            same_key
        });
        self.entries.shrink_to_fit();
    }

    /// Whether the entry is provably as it was.
    pub(super) fn matches(&self, key: Key, stamp: Stamp) -> bool {
        let found = self.entries.binary_search_by_key(&key, |(key, _)| *key);
        found.is_ok_and(|index| self.entries[index].1 == stamp.hash && stamp.hash != NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn stat_of(path: &std::path::Path) -> Stat {
        Stat::of(fs::File::open(path).expect("opened")).expect("statx")
    }

    #[test]
    fn ctime_too_close_to_the_look_proves_nothing() {
        let at = |secs, nanos| FileTime { secs, nanos };
        let racy = |ctime, look| settles_in(ctime, look).is_some();
        assert_eq!(
            settles_in(at(100, 5_000_000), at(100, 10_000_000)),
            Some(Duration::from_millis(15))
        );
        assert!(racy(at(100, 5_000_000), at(100, 5_000_000)));
        assert!(racy(at(100, 5_000_000), at(100, 24_000_000)));
        assert!(!racy(at(100, 5_000_000), at(100, 26_000_000)));
        assert!(racy(at(100, 0), at(101, 0)), "whole seconds");
        assert!(!racy(at(100, 0), at(101, 30_000_000)));
        assert!(
            racy(at(100, 10_000_000), at(100, 0)),
            "the clock is read before the status"
        );
        assert!(
            !racy(at(500, 10_000_000), at(100, 0)),
            "a clock that was set back"
        );
        assert!(racy(at(99, 999_000_000), at(100, 4_000_000)));
    }

    #[test]
    fn settled_entry_matches_until_it_changes_and_a_fresh_one_never() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("f");
        fs::write(&path, "one").expect("written");
        let stamper = Stamper::default();
        let key = stamper.key(Stamper::ROOT, OsStr::new("f"));
        let look = || stamper.stamp(&stat_of(&path), FileTime::now());
        let fresh = look();
        assert!(fresh.is_racy());
        std::thread::sleep(std::time::Duration::from_millis(60));
        let settled = look();
        assert!(!settled.is_racy());
        let mut print = Fingerprint::default();
        print.record(stamper.key(Stamper::ROOT, OsStr::new("other")), settled);
        print.record(key, settled);
        print.seal();
        assert!(print.matches(key, look()));
        assert!(
            !print.matches(stamper.key(key, OsStr::new("f")), look()),
            "another place"
        );
        fs::write(&path, "two").expect("same size, other content");
        assert!(!print.matches(key, look()));
        // A name linked to a copy that may be stale is no better than that.
        assert!(settled.as_racy_as(fresh).is_racy() && !settled.as_racy_as(settled).is_racy());
        assert!(settled.as_racy_as(fresh).same_state(settled));
        let mut racy = Fingerprint::default();
        racy.record(key, fresh);
        racy.seal();
        assert!(!racy.matches(key, look()) && !racy.matches(key, fresh));
    }

    #[test]
    fn entry_seen_twice_in_two_states_matches_neither() {
        let (a, b) = (
            Stamp {
                hash: 7,
                settles_in: None,
            },
            Stamp {
                hash: 8,
                settles_in: None,
            },
        );
        let mut print = Fingerprint::default();
        for (key, stamp) in [(1, a), (2, a), (1, b), (2, a)] {
            print.record(Key(key), stamp);
        }
        print.seal();
        assert!(!print.matches(Key(1), a) && !print.matches(Key(1), b) && print.matches(Key(2), a));
    }
}
