//! What happened, for whoever listens: the last thousand events in memory, and a stream of the new ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::model::Time;

/// How many events are kept, and how far a slow listener may fall behind.
const KEPT: usize = 1_024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Rises by one, from 1, in one run of the daemon.
    pub sequence: u64,
    /// When.
    pub time: Time,
    /// What, e.g. `volume.create`.
    pub action: &'static str,
    /// To which object.
    pub object: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
}

/// The feed.
pub struct Events {
    /// Guards the order: sequence numbers, the kept events and what is sent stay in step.
    kept: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            sender: broadcast::channel(KEPT).0,
        }
    }
}

impl Events {
    /// Tells everybody, and the log.
    pub fn emit(&self, action: &'static str, object: impl ToString, attributes: &[(&str, String)]) {
        let object = object.to_string();
        let attributes: BTreeMap<String, String> = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        let detail: Vec<String> = attributes
            .iter()
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        let level = if action == "warning" {
            log::Level::Warn
        } else {
            log::Level::Info
        };
        log::log!(level, "{action} {object} {}", detail.join(" "));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = kept.back().map_or(1, |last| last.sequence + 1);
        let event = Event {
            sequence,
            time: Time::now(),
            action,
            object,
            attributes,
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Fails only when nobody listens.
        let _ = self.sender.send(event);
    }

    /// How many there were in this run of the daemon.
    pub fn count(&self) -> u64 {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.back().map_or(0, |last| last.sequence)
    }

    /// The kept events after `since`, and the feed of those that follow, with none lost or doubled in between.
    pub fn since(&self, since: u64) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        (
            kept.iter()
                .filter(|event| event.sequence > since)
                .cloned()
                .collect(),
            receiver,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_are_kept_and_numbers_never_repeat() {
        let events = Events::default();
        for _ in 0..KEPT + 10 {
            events.emit("volume.create", "v", &[]);
        }
        let (kept, mut feed) = events.since(0);
        assert_eq!((kept.len(), kept[0].sequence), (KEPT, 11));
        events.emit("volume.remove", "v", &[("how", "trash".to_owned())]);
        let next = feed.try_recv().expect("the new one");
        assert_eq!((next.sequence, next.action), (KEPT as u64 + 11, "volume.remove"));
        assert_eq!(events.since(next.sequence).0, vec![]);
    }
}
