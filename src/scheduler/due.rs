//! What is due: from a volume's policy, what has happened, and the time. Nothing here looks at a clock or does anything.

use jiff::tz::TimeZone;

use crate::model::{Past, Policy, Schedule, Span, Task, Time};

/// When a task is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule<'a> {
    /// At the turns of a schedule, each so long after it.
    At(&'a Schedule, Span),
    /// Often enough that the last one is never older than this.
    Within(Span),
    /// After each success of another task, the last of which was then.
    After(Option<Time>),
}

/// What else a rule depends on than the policy.
#[derive(Debug, Clone, Copy, Default)]
pub struct About {
    /// When the last backup by schedule succeeded.
    pub backed_up: Option<Time>,
    /// The longest that work which can wait does wait, so that not all of a host's, and all hosts', begins in one moment.
    pub spread: Span,
    /// A number that differs from volume to volume.
    pub seed: u64,
}

/// The rule that a policy has for a task.
pub fn rule<'a>(policy: &'a Policy, task: Task, about: &About) -> Option<Rule<'a>> {
    let at = |schedule: &'a Schedule| {
        let most = about.spread.min(part(schedule.gap(), 1, 10)).duration().as_secs();
        let delay = about.seed.wrapping_add(task as u64 * 7_919) % (most + 1);
        Rule::At(schedule, Span::seconds(delay))
    };
    let verify = policy.backup_verify.as_ref();
    match task {
        // A snapshot costs nothing, and people look for it at the hour.
        Task::Snapshot => {
            let schedule = policy.snapshot_schedule.as_ref();
            schedule.map(|schedule| Rule::At(schedule, Span::seconds(0)))
        }
        Task::Backup => {
            let schedule = policy.backup_schedule.as_ref().map(at);
            schedule.or(policy.backup_rpo.map(Rule::Within))
        }
        Task::Verify => verify
            .filter(|verify| verify.sample)
            .map(|_| Rule::After(about.backed_up)),
        Task::VerifyFull => {
            let by_schedule = policy.backup_schedule.is_some() || policy.backup_rpo.is_some();
            // Before the first backup there is nothing to look at.
            let nothing_yet = by_schedule && about.backed_up.is_none();
            let full = verify.and_then(|verify| verify.full.as_ref());
            full.filter(|_| !nothing_yet).map(at)
        }
        Task::Trim => policy.trim_schedule.as_ref().map(at),
        Task::Drill => policy.backup_drill.as_ref().map(at),
    }
}

/// What is done first of what is due: the lower, the sooner.
pub fn priority(task: Task) -> u8 {
    match task {
        Task::Snapshot => 0,
        Task::Backup => 1,
        Task::Verify => 2,
        Task::Trim => 3,
        Task::VerifyFull => 4,
        Task::Drill => 5,
    }
}

/// The waiting time after the first failure; it doubles with each, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Span = Span::seconds(60);
const LONGEST_WAIT: Span = Span::seconds(3600);

/// When the task is due next; a moment that is past means now. `since` is when the policy began to hold.
///
/// A turn that was missed (the machine was off, the last one took longer) is made up for, once. A last one that lies in the
/// future, since somebody has set the clock, counts as one of now.
pub fn next(rule: Rule<'_>, since: Time, past: &Past, now: Time, zone: &TimeZone) -> Option<Time> {
    let last = past.succeeded.map(|last| last.min(now));
    let wanted = match (rule, last) {
        (Rule::At(schedule, delay), last) => {
            let turn = schedule.after(last.unwrap_or(since.min(now)), zone)?;
            turn.after(delay)
        }
        // What was never done is overdue; what is to be never older than an hour is begun anew after three quarters of it.
        (Rule::Within(_), None) => since.min(now),
        (Rule::Within(span), Some(last)) => last.after(part(span, 3, 4)),
        (Rule::After(other), last) => {
            other.filter(|other| last.is_none_or(|last| last < (*other).min(now)))?
        }
    };
    let retry = match (past.failures, past.tried) {
        (0, _) | (_, None) => return Some(wanted),
        (failures, Some(tried)) => tried.min(now).after(wait(failures)),
    };
    Some(wanted.max(retry))
}

fn wait(failures: u32) -> Span {
    let doubled = FIRST_WAIT.duration().as_secs() << failures.saturating_sub(1).min(20);
    Span::seconds(doubled).min(LONGEST_WAIT)
}

fn part(span: Span, of: u64, in_all: u64) -> Span {
    Span::seconds(span.duration().as_secs() * of / in_all)
}

/// How a volume's policy fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// All that was to be done was done.
    Ok,
    /// The first one is not due yet, or at work.
    Waiting,
    /// What was to be done is not, although nothing has failed.
    Late,
    /// The last one failed.
    Failing,
    /// None has ever succeeded, and one should have.
    Never,
}

impl Health {
    /// As answers write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Waiting => "waiting",
            Self::Late => "late",
            Self::Failing => "failing",
            Self::Never => "never",
        }
    }

    /// Whether nobody need look.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Ok | Self::Waiting)
    }
}

/// How late a turn of a schedule may be: its jobs wait for each other, and take their time.
const LATEST_GRACE: Span = Span::seconds(3600);

/// How one task of a volume fares.
pub fn health(rule: Rule<'_>, since: Time, past: &Past, now: Time, zone: &TimeZone) -> Health {
    let too_late = match (rule, past.succeeded) {
        (Rule::Within(span), last) => Some(last.unwrap_or(since).after(span)),
        (Rule::At(schedule, delay), last) => {
            let grace = schedule.gap().min(LATEST_GRACE);
            let due = schedule.after(last.unwrap_or(since), zone);
            due.map(|due| due.after(delay).after(grace))
        }
        (Rule::After(other), last) => other
            .filter(|other| last.is_none_or(|last| last < *other))
            .map(|other| other.after(LATEST_GRACE)),
    };
    let late = too_late.is_some_and(|moment| now > moment);
    match (past.succeeded, past.failures) {
        (None, _) if late => Health::Never,
        (_, 1..) => Health::Failing,
        (Some(_), 0) if late => Health::Late,
        (Some(_), 0) => Health::Ok,
        (None, 0) => Health::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    /// 2026-01-01T00:00:00Z.
    const START: i64 = 1_767_225_600;

    fn at(seconds: i64) -> Time {
        Time::from_second(START + seconds)
    }

    fn schedule(text: &str) -> Schedule {
        Schedule::parse("s", text).expect(text)
    }

    fn at_turns(schedule: &Schedule) -> Rule<'_> {
        Rule::At(schedule, Span::seconds(0))
    }

    fn due(rule: Rule<'_>, past: &Past, now: i64) -> bool {
        next(rule, at(0), past, at(now), &TimeZone::UTC).is_some_and(|due| due <= at(now))
    }

    /// Lives through a time in steps of a minute; a task takes `takes`, and `works` says whether it succeeds. When they began.
    fn live(
        rule: Rule<'_>,
        until: i64,
        takes: i64,
        asleep: impl Fn(i64) -> bool,
        works: impl Fn(i64) -> bool,
    ) -> (Vec<i64>, Past) {
        let (mut begun, mut past, mut busy_until) = (Vec::new(), Past::default(), 0);
        for now in (0..until).step_by(usize::try_from(MINUTE).expect("small")) {
            if asleep(now) || now < busy_until || !due(rule, &past, now) {
                continue;
            }
            begun.push(now);
            busy_until = now + takes;
            past.tried = Some(at(now));
            match works(now) {
                true => (past.succeeded, past.failures) = (Some(at(now)), 0),
                false => past.failures += 1,
            }
        }
        (begun, past)
    }

    #[test]
    fn a_year_of_days_has_as_many_turns() {
        let daily = schedule("30 3 * * *");
        let (begun, past) = live(at_turns(&daily), 365 * DAY, 20 * MINUTE, |_| false, |_| true);
        assert_eq!(begun.len(), 365);
        assert!(
            begun
                .iter()
                .enumerate()
                .all(|(day, at)| *at == day as i64 * DAY + 3 * HOUR + 30 * MINUTE)
        );
        assert_eq!(
            health(at_turns(&daily), at(0), &past, at(365 * DAY), &TimeZone::UTC),
            Health::Ok
        );
    }

    #[test]
    fn a_missed_turn_is_made_up_for_once() {
        let hourly = schedule("@hourly");
        let off = |now| (10 * HOUR - 5 * MINUTE..30 * HOUR + 10 * MINUTE).contains(&now);
        let (begun, _) = live(at_turns(&hourly), 33 * HOUR, 0, off, |_| true);
        let after: Vec<i64> = begun.into_iter().filter(|at| *at >= 10 * HOUR).collect();
        assert_eq!(after, [30 * HOUR + 10 * MINUTE, 31 * HOUR, 32 * HOUR]);
    }

    #[test]
    fn a_schedule_faster_than_the_task_never_piles_up() {
        let often = schedule("every 5m");
        let (begun, _) = live(at_turns(&often), DAY, 12 * MINUTE, |_| false, |_| true);
        assert!(
            begun.windows(2).all(|two| two[1] - two[0] == 12 * MINUTE),
            "one after the other"
        );
    }

    #[test]
    fn what_fails_is_tried_again_ever_more_seldom() {
        let daily = schedule("@daily");
        let (begun, past) = live(
            at_turns(&daily),
            2 * DAY,
            0,
            |_| false,
            |now| now > DAY + 10 * HOUR,
        );
        let waits: Vec<i64> = begun.windows(2).map(|two| (two[1] - two[0]) / MINUTE).collect();
        assert_eq!(begun[0], DAY);
        assert_eq!(waits[..7], [1, 2, 4, 8, 16, 32, 60]);
        assert!(waits[7..].iter().all(|wait| *wait == 60));
        assert_eq!((past.failures, past.succeeded.is_some()), (0, true));
        assert!(
            begun.last().is_some_and(|last| *last < DAY + 12 * HOUR),
            "and after the success no more"
        );
    }

    #[test]
    fn a_last_one_is_never_older_than_asked_for_where_tasks_are_quick() {
        let rule = Rule::Within(Span::seconds(4 * 3600));
        let (begun, _) = live(rule, 10 * DAY, 10 * MINUTE, |_| false, |_| true);
        assert_eq!(begun[0], 0, "the first at once");
        assert!(begun.windows(2).all(|two| two[1] - two[0] == 3 * HOUR));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_it() {
        let hourly = schedule("@hourly");
        let past = Past {
            succeeded: Some(at(100 * DAY)),
            ..Past::default()
        };
        let due = next(at_turns(&hourly), at(0), &past, at(5 * MINUTE), &TimeZone::UTC);
        assert_eq!(due, Some(at(HOUR)));
    }

    #[test]
    fn health_tells_when_somebody_should_look() {
        let daily = schedule("@daily");
        let (rule, zone) = (at_turns(&daily), TimeZone::UTC);
        let mut past = Past::default();
        let look = |past: &Past, now: i64| health(rule, at(HOUR), past, at(now), &zone);
        assert_eq!(look(&past, 5 * HOUR), Health::Waiting);
        assert_eq!(
            look(&past, DAY + 30 * MINUTE),
            Health::Waiting,
            "it may be at work"
        );
        assert_eq!(look(&past, DAY + 2 * HOUR), Health::Never);
        past.succeeded = Some(at(DAY));
        assert_eq!(look(&past, DAY + 2 * HOUR), Health::Ok);
        assert_eq!(look(&past, 2 * DAY + 30 * MINUTE), Health::Ok);
        assert_eq!(look(&past, 2 * DAY + 2 * HOUR), Health::Late);
        past.failures = 1;
        assert_eq!(look(&past, 2 * DAY + MINUTE), Health::Failing);
        let rpo = Rule::Within(Span::seconds(3600));
        past.failures = 0;
        assert_eq!(health(rpo, at(0), &past, at(DAY + HOUR), &zone), Health::Ok);
        assert_eq!(health(rpo, at(0), &past, at(DAY + HOUR + 1), &zone), Health::Late);
    }

    #[test]
    fn a_look_follows_each_backup() {
        let zone = TimeZone::UTC;
        let rule = Rule::After(Some(at(HOUR)));
        let mut past = Past::default();
        assert_eq!(next(Rule::After(None), at(0), &past, at(DAY), &zone), None);
        assert_eq!(
            health(Rule::After(None), at(0), &past, at(DAY), &zone),
            Health::Waiting
        );
        assert_eq!(next(rule, at(0), &past, at(HOUR + 1), &zone), Some(at(HOUR)));
        assert_eq!(
            health(rule, at(0), &past, at(HOUR + MINUTE), &zone),
            Health::Waiting
        );
        assert_eq!(health(rule, at(0), &past, at(3 * HOUR), &zone), Health::Never);
        past.succeeded = Some(at(HOUR + 5));
        assert_eq!(next(rule, at(0), &past, at(DAY), &zone), None);
        assert_eq!(health(rule, at(0), &past, at(DAY), &zone), Health::Ok);
        let later = Rule::After(Some(at(2 * HOUR)));
        assert_eq!(next(later, at(0), &past, at(DAY), &zone), Some(at(2 * HOUR)));
        assert_eq!(health(later, at(0), &past, at(DAY), &zone), Health::Late);
    }

    #[test]
    fn work_that_can_wait_is_spread_over_a_part_of_the_time_between_turns() {
        let mut policy = Policy::default();
        for (name, value) in [
            ("snapshot.schedule", "@hourly"),
            ("backup.schedule", "@hourly"),
            ("trim.schedule", "*/2 * * * *"),
        ] {
            policy.set(name, value).expect(name);
        }
        let zone = TimeZone::UTC;
        let mut begun = std::collections::BTreeSet::new();
        for seed in 0..1_000 {
            let about = About {
                spread: Span::seconds(600),
                seed,
                ..About::default()
            };
            let first = |task, now| {
                let rule = rule(&policy, task, &about).expect("a rule");
                let due = next(rule, at(0), &Past::default(), at(now), &zone).expect("due");
                due.as_second() - START
            };
            assert_eq!(first(Task::Snapshot, 1), HOUR);
            let backup = first(Task::Backup, 1);
            assert!(
                (HOUR..=HOUR + 360).contains(&backup),
                "a tenth of the hour at most"
            );
            begun.insert(backup);
            assert!((2 * MINUTE..=2 * MINUTE + 12).contains(&first(Task::Trim, 1)));
        }
        assert!(begun.len() > 300, "and they differ: {}", begun.len());
    }

    /// The clocks of Berlin go an hour forward on 2026-03-29 and back on 2026-10-25.
    #[test]
    fn a_night_that_lacks_the_hour_or_has_it_twice_has_one_turn() {
        let zone = TimeZone::get("Europe/Berlin").expect("known");
        let nightly = schedule("30 2 * * *");
        let turns = |from: &str, days: i64| {
            let from: jiff::Timestamp = from.parse().expect("a time");
            let (mut past, mut count) = (Past::default(), 0);
            let since = Time::from_second(from.as_second());
            for minute in 0..days * 24 * 60 {
                let now = Time::from_second(from.as_second() + minute * MINUTE);
                if next(at_turns(&nightly), since, &past, now, &zone).is_some_and(|due| due <= now) {
                    past = past.and(now, Ok(()));
                    count += 1;
                }
            }
            count
        };
        assert_eq!(turns("2026-03-27T12:00:00Z", 4), 4);
        assert_eq!(turns("2026-10-23T12:00:00Z", 4), 4);
        // A whole year, in steps of a minute.
        assert_eq!(turns("2026-01-01T12:00:00Z", 365), 365);
    }

    proptest! {
        /// Whatever has happened: a task that has just succeeded is not due, and one that is due now was due at some moment.
        #[test]
        fn it_never_runs_away(last in 0_i64..1_000_000, failures in 0_u32..50, tried in 0_i64..1_000_000, now in 0_i64..1_000_000) {
            let every = schedule("every 10m");
            let past = Past { succeeded: Some(at(last)), tried: Some(at(tried)), failures, ..Past::default() };
            let due = next(at_turns(&every), at(0), &past, at(now), &TimeZone::UTC).expect("there is always a next");
            prop_assert!(due >= at(last.min(now) + 10 * MINUTE));
            prop_assert!(due <= at(now + 2 * HOUR), "and it is never given up");
        }
    }
}
