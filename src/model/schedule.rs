//! When something is due again and again: a cron expression, a name such as `@daily`, or `every 15m`.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use croner::Cron;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{InvalidValue, Span, Time};

/// The least time between two turns: a snapshot a second would do nothing else.
const SHORTEST: Span = Span::seconds(60);

/// A schedule, as it was written and as it is understood. All that were written the same are one in memory: a host has few
/// schedules and may have many volumes, and to understand one costs some kilobytes and a look at its turns of a year.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Schedule(Arc<Understood>);

#[derive(Debug)]
struct Understood {
    text: String,
    turns: Turns,
    /// The shortest time between turns.
    gap: Span,
    /// The time between two turns that was looked at last: many volumes ask about the same. Held for look-ups only.
    lately: Mutex<Option<Between>>,
}

/// The turn that comes after any moment from `from` on, and before `to`, is `to`.
#[derive(Debug)]
struct Between {
    zone: TimeZone,
    from: Time,
    to: Time,
}

/// Those that are in use, by their text. Held for look-ups only.
static IN_USE: LazyLock<Mutex<HashMap<String, Weak<Understood>>>> = LazyLock::new(Mutex::default);

#[derive(Debug, Clone)]
enum Turns {
    /// By the calendar of the daemon's time zone.
    Cron(Box<Cron>),
    /// So long after the last one.
    Every(Span),
}

fn in_use() -> MutexGuard<'static, HashMap<String, Weak<Understood>>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Schedule {
    /// Reads `every 15m`, `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, the same without the `@`, or a cron expression of five fields, or of six
    /// with the seconds first.
    ///
    /// # Errors
    /// [`InvalidValue::Value`], naming `option`: what is no schedule, has its next turn never, or two within a minute.
    pub fn parse(option: &str, text: &str) -> Result<Self, InvalidValue> {
        let refuse = |expected: &str| InvalidValue::Value {
            option: option.to_owned(),
            value: text.chars().take(200).collect(),
            expected: expected.to_owned(),
        };
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(known) = in_use().get(&plain).and_then(Weak::upgrade) {
            return Ok(Self(known));
        }
        let turns = match plain.strip_prefix("every ") {
            Some(span) => Turns::Every(Span::parse(option, span)?),
            None if plain.len() > 200 => return Err(refuse("a schedule")),
            None => Turns::Cron(Box::new(Cron::from_str(&in_full(&plain)).map_err(|_| {
                refuse("a schedule such as 'every 15m', '@daily' or '30 3 * * 1-5' (minute, hour, day, month, weekday)")
            })?)),
        };
        let gap = turns
            .gap()
            .ok_or_else(|| refuse("a schedule whose turn ever comes"))?;
        match gap < SHORTEST {
            true => Err(refuse("a schedule whose turns are a minute or more apart")),
            false => {
                let understood = Arc::new(Understood {
                    text: plain.clone(),
                    turns,
                    gap,
                    lately: Mutex::default(),
                });
                let mut known = in_use();
                if known.len() == known.capacity() {
                    known.retain(|_, schedule| schedule.strong_count() > 0);
                }
                known.insert(plain, Arc::downgrade(&understood));
                Ok(Self(understood))
            }
        }
    }

    /// The first turn after `last`, in the calendar of `zone`; `None` where none comes any more.
    pub fn after(&self, last: Time, zone: &TimeZone) -> Option<Time> {
        if let Turns::Every(_) = self.0.turns {
            return self.0.turns.after(last, zone);
        }
        let mut lately = self.0.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(between) = &mut *lately
            && between.zone == *zone
            && last < between.to
            && between.from <= last
        {
            return Some(between.to);
        }
        let to = self.0.turns.after(last, zone)?;
        match &mut *lately {
            // What is asked for is an earlier moment before the same turn.
            Some(between) if between.zone == *zone && between.to == to => {
                between.from = between.from.min(last);
            }
            lately => {
                *lately = Some(Between {
                    zone: zone.clone(),
                    from: last,
                    to,
                });
            }
        }
        Some(to)
    }

    /// The shortest time between two turns, as far as some of them tell.
    pub fn gap(&self) -> Span {
        self.0.gap
    }
}

/// The names of turns have an `@` in cron's language, and need none here.
fn in_full(text: &str) -> String {
    match text {
        "hourly" | "daily" | "weekly" | "monthly" | "yearly" => format!("@{text}"),
        _ => text.to_owned(),
    }
}

impl Turns {
    fn after(&self, last: Time, zone: &TimeZone) -> Option<Time> {
        match self {
            Self::Every(span) => Some(last.after(*span)),
            Self::Cron(cron) => {
                let next = cron.find_next_occurrence(&last.timestamp().to_zoned(zone.clone()), false);
                next.ok()
                    .map(|next| Time::from_second(next.timestamp().as_second()))
            }
        }
    }

    /// `None` where no turn comes.
    fn gap(&self) -> Option<Span> {
        if let Self::Every(span) = self {
            return Some(*span);
        }
        // The beginning of a year: any would do.
        let mut last = self.after(Time::from_second(1_767_225_600), &TimeZone::UTC)?;
        let mut shortest = Span::days(366);
        for _ in 0..12 {
            let Some(next) = self.after(last, &TimeZone::UTC) else {
                break;
            };
            let apart = u64::try_from(next.as_second() - last.as_second()).unwrap_or(0);
            shortest = shortest.min(Span::seconds(apart));
            last = next;
        }
        Some(shortest)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Schedule {}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.text)
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.0.text.clone()
    }
}

impl TryFrom<String> for Schedule {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        Self::parse("schedule", &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is remembered is what would be worked out, whatever was asked before, also where clocks are put forward or back.
    #[test]
    fn a_turn_that_is_remembered_is_the_one_that_comes() {
        let zones = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];
        let zones = zones.map(|zone| TimeZone::get(zone).expect("known"));
        let start = 1_767_225_600_i64;
        for text in [
            "30 2 * * *",
            "@hourly",
            "*/20 1-3 * * *",
            "15 2 29 * 0",
            "@monthly",
        ] {
            let schedule = Schedule::parse("s", text).expect(text);
            let mut state = 0x9E37_79B9_u64;
            for round in 0..2_000_i64 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Now near the last one, now anywhere in two years; often around the changes of March and October.
                let around = [0, 86 * 86_400, 297 * 86_400, 66 * 86_400][(state >> 40) as usize % 4];
                let span = if round % 3 == 0 { 63_072_000 } else { 3 * 86_400 };
                let last = Time::from_second(start + around + (state % span) as i64);
                let zone = &zones[(state >> 50) as usize % zones.len()];
                let plain = schedule.0.turns.after(last, zone);
                assert_eq!(
                    schedule.after(last, zone),
                    plain,
                    "{text} after {last} in {zone:?}"
                );
            }
        }
    }

    #[test]
    fn schedules_that_were_written_the_same_are_one() {
        let one = Schedule::parse("s", "17 4 * * *").expect("valid");
        let other = Schedule::parse("t", " 17  4 * * * ").expect("valid");
        assert!(Arc::ptr_eq(&one.0, &other.0));
        drop((one, other));
        for minute in 0..60 {
            Schedule::parse("s", &format!("{minute} 5 * * *")).expect("valid");
        }
        assert!(in_use().len() < 100, "those that nobody uses are forgotten");
    }

    fn at(text: &str) -> Time {
        text.parse().expect("a moment")
    }

    fn next(schedule: &str, last: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).expect("a zone");
        let schedule = Schedule::parse("s", schedule).expect("a schedule");
        schedule.after(at(last), &zone).expect("a turn").to_string()
    }

    #[test]
    fn turns_come_by_the_calendar_or_after_a_span() {
        let last = "2026-11-20T08:07:30Z";
        for (schedule, expected) in [
            ("every 15m", "2026-11-20T08:22:30Z"),
            ("@hourly", "2026-11-20T09:00:00Z"),
            ("@daily", "2026-11-21T00:00:00Z"),
            ("hourly", "2026-11-20T09:00:00Z"),
            ("daily", "2026-11-21T00:00:00Z"),
            ("weekly", "2026-11-22T00:00:00Z"),
            ("monthly", "2026-12-01T00:00:00Z"),
            ("yearly", "2027-01-01T00:00:00Z"),
            ("30 3 * * 1-5", "2026-11-23T03:30:00Z"),
            ("15 30 3 1 * *", "2026-12-01T03:30:15Z"),
        ] {
            assert_eq!(next(schedule, last, "UTC"), expected, "{schedule}");
        }
    }

    /// 2026: the clocks of Berlin go forward on March 29th at 2:00, and back on October 25th at 3:00.
    #[test]
    fn a_day_that_misses_the_hour_has_its_turn_and_one_that_has_it_twice_has_one() {
        let zone = "Europe/Berlin";
        assert_eq!(
            next("30 2 * * *", "2026-03-28T12:00:00Z", zone),
            "2026-03-29T01:00:00Z"
        );
        let first = next("30 2 * * *", "2026-10-24T12:00:00Z", zone);
        assert_eq!(first, "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", &first, zone), "2026-10-26T01:30:00Z");
        assert_eq!(
            next("@hourly", "2026-10-25T00:00:00Z", zone),
            "2026-10-25T01:00:00Z"
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "fortnightly",
            "@never",
            "every",
            "every 15",
            "every 0s",
            "every 10s",
            "* * *",
            "61 * * * *",
            "0 0 30 2 *",
            "* * * * * *",
            "*/10 * * * * *",
            "0 0 0 0 0 0 0 0",
        ] {
            let refused = Schedule::parse("backup.schedule", text);
            assert!(
                refused.expect_err(text).to_string().contains("backup.schedule"),
                "{text}"
            );
        }
        assert!(Schedule::parse("s", "* * * * *").is_ok());
        assert!(Schedule::parse("s", &"*".repeat(10_000)).is_err());
    }

    #[test]
    fn it_is_kept_as_it_was_written() {
        let schedule = Schedule::parse("s", " every  1h30m ").expect("a schedule");
        let written = serde_json::to_string(&schedule).expect("written");
        assert_eq!(written, r#""every 1h30m""#);
        assert_eq!(
            Schedule::parse("s", "daily").expect("a schedule").to_string(),
            "daily"
        );
        assert_eq!(
            serde_json::from_str::<Schedule>(&written).expect("read"),
            schedule
        );
        assert!(serde_json::from_str::<Schedule>(r#""soon""#).is_err());
    }
}
