//! What is kept of a growing row of snapshots or backups: `last=3,hourly=24,daily=7,weekly=4,monthly=12,within=2d`.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Zoned;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{InvalidValue, Span, Time};

/// The most that a rule may keep.
const MOST: u32 = 100_000;

/// Rules; whatever one of them keeps is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Keep {
    /// The newest so many.
    last: u32,
    /// The newest of each hour, day, … that has one, of the newest so many.
    each: [u32; PERIODS.len()],
    /// All that are younger than this, by the newest.
    within: Option<Span>,
}

/// A word for a rule, and what two moments have in common that it keeps one of.
type Period = (&'static str, fn(&Zoned) -> (i16, i16));

const PERIODS: [Period; 5] = [
    ("hourly", |at| {
        (at.year(), at.day_of_year() * 24 + i16::from(at.hour()))
    }),
    ("daily", |at| (at.year(), at.day_of_year())),
    ("weekly", |at| {
        let week = at.date().iso_week_date();
        (week.year(), i16::from(week.week()))
    }),
    ("monthly", |at| (at.year(), i16::from(at.month()))),
    ("yearly", |at| (at.year(), 0)),
];

impl Keep {
    /// Reads rules, separated by commas.
    ///
    /// # Errors
    /// [`InvalidValue::Value`], naming `option`: an unknown or repeated rule, a number that is none, or nothing to keep.
    pub fn parse(option: &str, text: &str) -> Result<Self, InvalidValue> {
        let refuse = || InvalidValue::Value {
            option: option.to_owned(),
            value: text.chars().take(200).collect(),
            expected: "rules such as last=3,hourly=24,daily=7,weekly=4,monthly=12,yearly=2,within=2d"
                .to_owned(),
        };
        let mut keep = Self::default();
        let mut seen = BTreeSet::new();
        for rule in text.split(',') {
            let (word, value) = rule.trim().split_once('=').ok_or_else(refuse)?;
            if !seen.insert(word) {
                return Err(refuse());
            }
            if word == "within" {
                let span = Span::parse(option, value)?;
                keep.within = Some(span).filter(|span| !span.is_zero());
                continue;
            }
            let plain = value.bytes().all(|byte| byte.is_ascii_digit());
            let count = value
                .parse()
                .ok()
                .filter(|count| plain && *count <= MOST)
                .ok_or_else(refuse)?;
            match PERIODS.iter().position(|(name, _)| *name == word) {
                Some(period) => keep.each[period] = count,
                None if word == "last" => keep.last = count,
                None => return Err(refuse()),
            }
        }
        // A rule that keeps nothing would delete everything at its first turn.
        match keep == Self::default() {
            true => Err(refuse()),
            false => Ok(keep),
        }
    }

    /// Why each of these moments is kept: one list of rules per moment, in the order given; an empty one is not kept. The
    /// newest is always kept.
    pub fn judge(&self, moments: &[Time], zone: &TimeZone) -> Vec<Vec<&'static str>> {
        let mut newest_first: Vec<usize> = (0..moments.len()).collect();
        newest_first.sort_by_key(|&index| std::cmp::Reverse((moments[index], index)));
        let mut reasons = vec![Vec::new(); moments.len()];
        let Some(&newest) = newest_first.first() else {
            return reasons;
        };
        reasons[newest].push("newest");
        for &index in newest_first.iter().take(self.last as usize) {
            reasons[index].push("last");
        }
        for ((word, period), count) in PERIODS.iter().zip(self.each) {
            let (mut left, mut last) = (count, None);
            for &index in &newest_first {
                let this = Some(period(&moments[index].timestamp().to_zoned(zone.clone())));
                if left > 0 && this != last {
                    reasons[index].push(*word);
                    left -= 1;
                }
                last = this;
            }
        }
        if let Some(span) = self.within {
            for (index, moment) in moments.iter().enumerate() {
                if moment.after(span) > moments[newest] {
                    reasons[index].push("within");
                }
            }
        }
        reasons
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules = Vec::new();
        let mut rule = |word: &str, count: u32| {
            if count > 0 {
                rules.push(format!("{word}={count}"));
            }
        };
        rule("last", self.last);
        for ((word, _), count) in PERIODS.iter().zip(self.each) {
            rule(word, count);
        }
        rules.extend(self.within.map(|span| format!("within={span}")));
        f.pad(&rules.join(","))
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}

impl TryFrom<String> for Keep {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        Self::parse("keep", &text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3600;
    /// 2026-11-20T00:00:00Z, a Friday.
    const DAY: i64 = 1_795_132_800;

    fn keep(text: &str) -> Keep {
        Keep::parse("k", text).expect(text)
    }

    /// Which of the moments, so many hours after the first, are kept.
    fn kept(rules: &str, hours: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let hours: Vec<i64> = hours.into_iter().collect();
        let moments: Vec<Time> = hours
            .iter()
            .map(|hour| Time::from_second(DAY + hour * HOUR))
            .collect();
        let reasons = keep(rules).judge(&moments, &TimeZone::UTC);
        let kept = hours.iter().zip(reasons).filter(|(_, why)| !why.is_empty());
        kept.map(|(hour, _)| *hour).collect()
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        assert_eq!(kept("last=2", 0..5), [3, 4]);
        assert_eq!(kept("daily=2", (0..72).step_by(6)), [42, 66]);
        assert_eq!(
            kept("hourly=3", [0, 1, 2, 2, 3]),
            [1, 2, 3],
            "of two in an hour, one"
        );
        assert_eq!(kept("weekly=2", (0..24 * 14).step_by(24)), [48 + 24 * 7, 24 * 13]);
        assert_eq!(kept("monthly=1", (0..24 * 14).step_by(24)), [24 * 13]);
        assert_eq!(kept("within=1d", (0..72).step_by(12)), [48, 60]);
        assert_eq!(kept("daily=9", [0]), [0]);
        assert_eq!(kept("last=1,daily=2", (0..48).step_by(6)), [18, 42]);
    }

    #[test]
    fn a_day_is_one_of_the_time_zone() {
        let moments = [DAY - 2 * HOUR, DAY + HOUR].map(Time::from_second);
        let days = |zone: &str| {
            let zone = TimeZone::get(zone).expect("a zone");
            keep("daily=5")
                .judge(&moments, &zone)
                .iter()
                .filter(|why| !why.is_empty())
                .count()
        };
        assert_eq!(days("UTC"), 2);
        assert_eq!(days("America/New_York"), 1);
    }

    #[test]
    fn what_is_no_rule_or_keeps_nothing_is_refused() {
        for text in [
            "",
            "last",
            "last=",
            "last=-1",
            "last=0",
            "daily=0,last=0",
            "sometimes=3",
            "last=1,last=2",
            "last=1;daily=2",
            "within=2",
            "within=0s",
            "last=99999999999",
            "last=+3",
        ] {
            let said = Keep::parse("snapshot.keep", text).expect_err(text).to_string();
            assert!(said.contains("snapshot.keep"), "{said}");
        }
        assert_eq!(
            keep("within=48h,daily=7, last=3").to_string(),
            "last=3,daily=7,within=2d"
        );
    }

    proptest! {
        /// Once more with what was kept and one moment more: what a rule once gave up does not matter later.
        #[test]
        fn what_is_kept_is_enough_to_keep_by_later(hours in prop::collection::btree_set(0_i64..2000, 1..60), later in 2001_i64..2200) {
            let rules = "last=2,hourly=3,daily=4,weekly=3,monthly=2,within=1d";
            let all: Vec<i64> = hours.iter().copied().chain([later]).collect();
            let survivors = kept(rules, hours.iter().copied());
            let then: Vec<i64> = survivors.iter().copied().chain([later]).collect();
            prop_assert_eq!(kept(rules, then), kept(rules, all));
        }

        #[test]
        fn nothing_that_is_written_makes_it_panic(text in ".{0,40}") {
            let _ = Keep::parse("k", &text);
        }
    }
}
