//! A moment as people name it: so long ago (`2h`), a date, a date with a time, in the calendar of whoever hears it or with a zone.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Span, Time};

/// What was written, understood as far as it can be without a clock and a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long before now.
    Ago(Span),
    /// What calendars and clocks show there; a date alone is its beginning.
    Local(DateTime),
    /// One that is the same everywhere.
    At(Time),
}

impl Moment {
    /// Reads `2h`, `1d12h`, `2026-11-20`, `2026-11-20T08:00`, `2026-11-20T08:00:30Z`, `2026-11-20T08:00+01:00` or
    /// `2026-11-20T08:00[Europe/Berlin]`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 100 || !text.is_ascii() {
            return None;
        }
        if let Ok(span) = Span::parse("from", text) {
            return Some(Self::Ago(span));
        }
        // Other forms of dates have no dashes, and could as well be names.
        if text.as_bytes().get(4) != Some(&b'-') {
            return None;
        }
        let at = |moment: Timestamp| Self::At(Time::from_second(moment.as_second()));
        if text.contains('[') {
            return text.parse::<Zoned>().ok().map(|zoned| at(zoned.timestamp()));
        }
        match text.parse::<Timestamp>() {
            Ok(moment) => Some(at(moment)),
            Err(_) => text.parse::<DateTime>().ok().map(Self::Local),
        }
    }

    /// The moment itself. An hour that a calendar has twice is the first of the two, one that it leaves out the one after; `None`
    /// beyond the end of all calendars.
    pub fn time(self, now: Time, zone: &TimeZone) -> Option<Time> {
        match self {
            Self::Ago(span) => {
                let seconds = i64::try_from(span.duration().as_secs()).ok()?;
                Some(Time::from_second(now.as_second().saturating_sub(seconds)))
            }
            Self::At(time) => Some(time),
            Self::Local(local) => {
                let moment = zone.to_ambiguous_timestamp(local).compatible().ok()?;
                Some(Time::from_second(moment.as_second()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str, zone: &str) -> Option<String> {
        let now = "2026-11-20T12:00:00Z".parse().expect("a moment");
        let zone = TimeZone::get(zone).expect("a zone");
        Some(Moment::parse(text)?.time(now, &zone)?.to_string())
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2h", "2026-11-20T10:00:00Z"),
            ("1d12h", "2026-11-19T00:00:00Z"),
            ("0s", "2026-11-20T12:00:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20T08:00", "2026-11-20T07:00:00Z"),
            ("2026-11-20 08:00:30", "2026-11-20T07:00:30Z"),
            ("2026-11-20T08:00Z", "2026-11-20T08:00:00Z"),
            ("2026-11-20T08:00:00-05:00", "2026-11-20T13:00:00Z"),
            ("2026-11-20T08:00[America/New_York]", "2026-11-20T13:00:00Z"),
            // Twice there, and never there.
            ("2026-10-25T02:30", "2026-10-25T00:30:00Z"),
            ("2026-03-29T02:30", "2026-03-29T01:30:00Z"),
        ] {
            assert_eq!(time(text, "Europe/Berlin").as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn names_are_no_moments() {
        for text in [
            "",
            "monday",
            "20261120",
            "before-2h",
            "2",
            "h2",
            "2026-13-01",
            "2026-11-20T25:00",
            "2026-11-20T08:00[Mars/Base]",
            "-2h",
            "scheduled-20261120T080000Z",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
        assert_eq!(time("2026-11-20", "UTC").as_deref(), Some("2026-11-20T00:00:00Z"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".{0,40}", digits in "[0-9TZ:+\\[\\]/-]{0,30}") {
            let now = Time::from_second(1_795_132_800);
            for text in [text, format!("2026-{digits}")] {
                if let Some(moment) = Moment::parse(&text) {
                    let _ = moment.time(now, &TimeZone::UTC);
                }
            }
        }
    }
}
