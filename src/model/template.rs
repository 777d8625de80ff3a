//! URLs that are filled in when something has happened: `https://hooks.example/{volume}?why={error}`.
//!
//! Such a URL is often a secret itself: who knows it can ping. Nothing shows more of it than its host.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// What can stand in braces.
const PLACES: [&str; 6] = ["volume", "task", "event", "error", "health", "time"];
/// All that means nothing in a URL stays as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// So much of a value is filled in: services refuse long URLs.
const LONGEST_VALUE: usize = 500;

/// What is filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occasion {
    /// `{volume}`.
    pub volume: String,
    /// `{task}`: `snapshot` or `backup`.
    pub task: String,
    /// `{event}`: what happened, as events call it.
    pub event: String,
    /// `{error}`: why it failed; empty if it did not.
    pub error: String,
    /// `{health}`: how the task fares, in events about that.
    pub health: String,
    /// `{time}`: when it happened.
    pub time: String,
}

impl Occasion {
    fn value(&self, place: &str) -> &str {
        match place {
            "volume" => &self.volume,
            "task" => &self.task,
            "event" => &self.event,
            "error" => &self.error,
            "health" => &self.health,
            _ => &self.time,
        }
    }
}

/// A URL with places to be filled in. Shown, it is its scheme and host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UrlTemplate(String);

impl UrlTemplate {
    /// Reads one.
    ///
    /// # Errors
    /// What is no http or https URL, or has other words in braces than those that there are, or any before its path. The value is
    /// not in the error.
    pub fn parse(option: &str, text: &str) -> Result<Self, InvalidValue> {
        let refuse = |expected: &str| {
            Err(InvalidValue::Value {
                option: option.to_owned(),
                value: "…".to_owned(),
                expected: expected.to_owned(),
            })
        };
        let text = text.trim();
        if text.len() > 4_096 || text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return refuse("a URL of at most 4096 characters, without blanks");
        }
        for part in text.split('{').skip(1) {
            match part.split_once('}') {
                Some((place, _)) if PLACES.contains(&place) => {}
                _ => return refuse("a URL in which braces hold volume, task, event, error, health or time"),
            }
        }
        let template = Self(text.to_owned());
        let filled = url::Url::parse(&template.fill(&Occasion::default()));
        let authority = text.split_once("://").map_or("", |(_, rest)| {
            rest.split(['/', '?', '#']).next().unwrap_or_default()
        });
        match filled {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => {}
            _ => return refuse("an http or https URL"),
        }
        if authority.contains('{') {
            return refuse("a URL with braces in its path or its query alone");
        }
        Ok(template)
    }

    /// The URL for an occasion.
    pub fn fill(&self, occasion: &Occasion) -> String {
        let mut parts = self.0.split('{');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (place, rest) = part.split_once('}').unwrap_or((part, ""));
            let value: String = occasion.value(place).chars().take(LONGEST_VALUE).collect();
            filled.extend(utf8_percent_encode(&value, ENCODED));
            filled.push_str(rest);
        }
        filled
    }

    /// With `/fail` at the end of its path, as services of dead man's switches have it.
    pub fn fail(&self) -> Self {
        let (path, query) = match self.0.find(['?', '#']) {
            Some(at) => self.0.split_at(at),
            None => (self.0.as_str(), ""),
        };
        Self(format!("{}/fail{query}", path.trim_end_matches('/')))
    }

    /// Its scheme, host and port: all that may be shown.
    pub fn origin(&self) -> String {
        let url = url::Url::parse(&self.fill(&Occasion::default()));
        url.map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
    }
}

impl fmt::Display for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.origin())
    }
}

impl fmt::Debug for UrlTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which events somebody wants to hear of: `health.late`, `health.*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter(Vec<String>);

impl Default for EventFilter {
    fn default() -> Self {
        Self(vec!["*".to_owned()])
    }
}

impl EventFilter {
    /// Reads the kinds, one by one.
    ///
    /// # Errors
    /// What is no kind of event, nor the beginning of one with a star.
    pub fn parse(option: &str, kinds: &[String]) -> Result<Self, InvalidValue> {
        for kind in kinds {
            let name = kind.strip_suffix('*').unwrap_or(kind);
            let plain = name
                .chars()
                .all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '-'));
            if kind.is_empty() || !plain {
                return Err(InvalidValue::Value {
                    option: option.to_owned(),
                    value: kind.clone(),
                    expected: "kinds of events such as health.late, health.* or *".to_owned(),
                });
            }
        }
        Ok(Self(kinds.to_vec()))
    }

    /// Whether it wants events of this kind.
    pub fn wants(&self, kind: &str) -> bool {
        self.0.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => kind.starts_with(beginning),
            None => kind == wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> UrlTemplate {
        UrlTemplate::parse("ping.url", text).expect(text)
    }

    #[test]
    fn what_happened_is_filled_in_and_cannot_change_where_it_goes() {
        let occasion = Occasion {
            volume: "pgdata".to_owned(),
            task: "backup".to_owned(),
            error: "no/such?host&x=#1 é".to_owned(),
            ..Occasion::default()
        };
        let url = template("https://hc.example/k3y/{volume}-{task}?why={error}&health={health}");
        assert_eq!(
            url.fill(&occasion),
            "https://hc.example/k3y/pgdata-backup?why=no%2Fsuch%3Fhost%26x%3D%231%20%C3%A9&health="
        );
        assert_eq!(template("https://h/a").fill(&occasion), "https://h/a");
        assert_eq!(
            template("https://h/{volume}?x=1").fail(),
            template("https://h/{volume}/fail?x=1")
        );
        assert_eq!(template("https://h/a/").fail(), template("https://h/a/fail"));
    }

    #[test]
    fn nothing_shows_more_than_the_host() {
        let secret = "https://user:s3cret@hc.example:8443/s3cret/{volume}?key=s3cret";
        let url = template(secret);
        assert_eq!(url.to_string(), "https://hc.example:8443/…");
        assert!(!format!("{url:?}").contains("s3cret"));
        for bad in [
            "ftp://h/s3cret",
            "s3cret",
            "https://h/{s3cret}",
            "https://h/{volume",
            "https://{volume}.h/s3cret",
            "https://h /s3cret",
            "https:///s3cret",
        ] {
            let said = UrlTemplate::parse("ping.url", bad).expect_err(bad).to_string();
            assert!(said.contains("ping.url") && !said.contains("s3cret"), "{said}");
        }
    }

    #[test]
    fn kinds_of_events_are_chosen_by_name_or_beginning() {
        let filter = |kinds: &[&str]| {
            let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
            EventFilter::parse("webhook-events", &kinds)
        };
        let some = filter(&["health.*", "warning"]).expect("valid");
        assert!(some.wants("health.late") && some.wants("warning") && !some.wants("warnings"));
        assert!(!some.wants("volume.create") && EventFilter::default().wants("volume.create"));
        assert!(filter(&["Health"]).is_err() && filter(&[""]).is_err());
    }

    proptest! {
        #[test]
        fn no_text_whatever_makes_it_panic(text in "(https://h/)?.{0,30}", error in ".{0,20}") {
            if let Ok(url) = UrlTemplate::parse("x", &text) {
                let occasion = Occasion { error, ..Occasion::default() };
                prop_assert!(url::Url::parse(&url.fill(&occasion)).is_ok());
                let _ = url.fail().to_string();
            }
        }
    }
}
