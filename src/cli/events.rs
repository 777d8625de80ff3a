//! `windlass events`.

use clap::Args;

use super::screen::one_line;
use super::{Error, Screen};
use crate::api::types::Event;
use crate::client::Client;

/// Show what happens to volumes, as it happens; end with Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass events
  windlass events --no-follow | jq -c 'select(.Action == \"volume.remove\")'
  windlass events --since 1042

The daemon remembers the latest events of its present run. Sequence numbers begin anew when it starts.")]
pub struct Events {
    /// Only events after this sequence number
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// End after the events that the daemon remembers
    #[arg(long)]
    no_follow: bool,
}

impl Events {
    /// Ctrl-C is how one leaves: no error, and no half line.
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let interrupted = tokio::signal::ctrl_c();
        tokio::select! {
            _ = interrupted => Ok(()),
            ended = self.follow(client, screen) => ended,
        }
    }

    async fn follow(&self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let mut events = client.events(self.since, !self.no_follow).await?;
        while let Some(event) = events.next().await? {
            match screen.json() {
                true => screen.json_line(&event)?,
                false => screen.line(&line(&event))?,
            }
        }
        if !self.no_follow {
            screen.notes(&["the daemon has ended the feed; it may be stopping".to_owned()]);
        }
        Ok(())
    }
}

/// `2026-11-23T09:30:00Z  volume.create    pgdata  driver=vfs size=20G`.
fn line(event: &Event) -> String {
    let mut text = format!("{}  {:<16} {}", event.time, event.action, event.object);
    for (at, (key, value)) in event.attributes.iter().enumerate() {
        text.push_str(if at == 0 { "  " } else { " " });
        match value.contains(char::is_whitespace) || value.is_empty() {
            true => text.push_str(&format!("{key}={value:?}")),
            false => text.push_str(&format!("{key}={value}")),
        }
    }
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_readable_line() {
        let event = Event {
            sequence: 7,
            time: "2026-11-23T09:30:00Z".to_owned(),
            action: "volume.create".to_owned(),
            object: "pgdata".to_owned(),
            attributes: [("driver", "vfs"), ("why", "it was\nasked")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
        };
        assert_eq!(
            line(&event),
            "2026-11-23T09:30:00Z  volume.create    pgdata  driver=vfs why=\"it was\\nasked\""
        );
    }
}
