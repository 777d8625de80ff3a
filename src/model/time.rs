//! Moments, to the second, in UTC.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Span;

/// A moment. RFC 3339 in records and in Docker's `CreatedAt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// This moment, cut to the second.
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
    }

    /// So many seconds after 1970; what no calendar has becomes the nearest moment that one has.
    pub fn from_second(seconds: i64) -> Self {
        let (first, last) = (jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
        let nearest = jiff::Timestamp::from_second(seconds.clamp(first, last));
        Self(nearest.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }

    /// Seconds since 1970.
    pub fn as_second(self) -> i64 {
        self.0.as_second()
    }

    /// The moment for calendars.
    pub fn timestamp(self) -> jiff::Timestamp {
        self.0
    }

    /// The moment that lies `span` after this one.
    pub fn after(self, span: Span) -> Self {
        Self(
            self.0
                .saturating_add(span.duration())
                .unwrap_or(jiff::Timestamp::MAX),
        )
    }

    /// Convoy's way of writing a moment, which its users' scripts read: `Fri Nov 20 08:00:00 +0000 2026`.
    pub fn convoy(self) -> String {
        self.0
            .to_zoned(jiff::tz::TimeZone::UTC)
            .strftime("%a %b %d %H:%M:%S %z %Y")
            .to_string()
    }

    /// What [`Time::convoy`] wrote, or Convoy itself; `None` for anything else.
    pub fn parse_convoy(text: &str) -> Option<Self> {
        let zoned = jiff::fmt::strtime::parse("%a %b %d %H:%M:%S %z %Y", text).ok()?;
        zoned.to_timestamp().ok().map(Self)
    }

    /// How long ago this was at `now`, in the largest whole unit: `3d`, `5h`, `12m`, `40s`.
    pub fn age(self, now: Time) -> String {
        let seconds = now.0.as_second().saturating_sub(self.0.as_second()).max(0);
        match seconds {
            0..60 => format!("{seconds}s"),
            60..3_600 => format!("{}m", seconds / 60),
            3_600..86_400 => format!("{}h", seconds / 3_600),
            _ => format!("{}d", seconds / 86_400),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::str::FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_both_ways() {
        let time: Time = "2026-11-20T08:00:00Z".parse().expect("a time");
        assert_eq!(time.to_string(), "2026-11-20T08:00:00Z");
        assert_eq!(time.convoy(), "Fri Nov 20 08:00:00 +0000 2026");
        assert_eq!(Time::parse_convoy(&time.convoy()), Some(time));
        let local = Time::parse_convoy("Fri Nov 20 10:00:00 +0200 2026");
        assert_eq!((local, Time::parse_convoy("yesterday")), (Some(time), None));
        assert_eq!(time.age(time.after(Span::seconds(7_300))), "2h");
    }
}
