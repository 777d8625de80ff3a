//! One lock per name, so that no operation waits for another volume's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Map = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

/// The locks that are held or waited for. A lock guards everything about the volume of its name: the driver's calls,
/// its record, its holds.
#[derive(Default, Clone)]
pub(super) struct Locks {
    /// Guards the map alone, for a few instructions.
    map: Map,
}

/// A held lock; free again when dropped.
pub(super) struct Held {
    map: Map,
    keys: Vec<String>,
    guards: Vec<OwnedMutexGuard<()>>,
}

impl Locks {
    /// Waits for the lock of one name.
    pub async fn lock(&self, name: &str) -> Held {
        self.lock_all([name]).await
    }

    /// Waits for several locks, in the order of their names, so that two callers never wait for each other.
    pub async fn lock_all<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Held {
        let mut keys: Vec<String> = names.into_iter().map(str::to_owned).collect();
        keys.sort();
        keys.dedup();
        let mut held = Held {
            map: self.map.clone(),
            keys: Vec::new(),
            guards: Vec::new(),
        };
        for key in keys {
            let lock = {
                let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
                map.entry(key.clone()).or_default().clone()
            };
            held.keys.push(key);
            held.guards.push(lock.lock_owned().await);
        }
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guards.clear();
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            // Only the map itself knows the lock any more: nobody waits for it, and nobody can begin to meanwhile.
            if map.get(key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
                map.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_name_waits_and_another_does_not() {
        let locks = Locks::default();
        let held = locks.lock("a").await;
        let other = tokio::time::timeout(Duration::from_secs(5), locks.lock("b")).await;
        assert!(other.is_ok(), "b must not wait for a");
        let same = tokio::time::timeout(Duration::from_millis(50), locks.lock("a")).await;
        assert!(same.is_err(), "a must wait for a");
        drop((held, other));
        assert!(
            tokio::time::timeout(Duration::from_secs(5), locks.lock("a"))
                .await
                .is_ok()
        );
        assert!(
            locks.map.lock().expect("not poisoned").is_empty(),
            "free locks are forgotten"
        );
    }

    #[tokio::test]
    async fn opposite_orders_do_not_block_each_other() {
        let locks = Locks::default();
        let both = |order: [&'static str; 2]| {
            let locks = locks.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    let _held = locks.lock_all(order).await;
                    tokio::task::yield_now().await;
                }
            })
        };
        let (first, second) = (both(["a", "b"]), both(["b", "a"]));
        let ended =
            tokio::time::timeout(Duration::from_secs(20), async { (first.await, second.await) }).await;
        assert!(ended.is_ok(), "deadlock");
    }
}
