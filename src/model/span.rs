//! Spans of time as people write them: `90s`, `15m`, `12h`, `7d`, `2w`, `1h30m`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// A span of whole seconds. A day is 24 hours: no calendar is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String")]
#[serde(try_from = "String")]
pub struct Span {
    seconds: u64,
}

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self { seconds }
    }

    /// So many days of 24 hours.
    pub const fn days(days: u64) -> Self {
        Self {
            seconds: days * 86_400,
        }
    }

    /// Reads a span; a bare number is not one, for nobody knows its unit. `0s` is allowed.
    ///
    /// # Errors
    /// [`InvalidValue::Value`], naming `option`.
    pub fn parse(option: &str, text: &str) -> Result<Self, InvalidValue> {
        let refuse = || InvalidValue::Value {
            option: option.to_owned(),
            value: text.to_owned(),
            expected: "a span of time such as 90s, 15m, 12h, 7d or 1h30m".to_owned(),
        };
        let span: jiff::SignedDuration = match text.parse::<jiff::Span>() {
            Ok(span) => span
                .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
                .map_err(|_| refuse())?,
            Err(_) => return Err(refuse()),
        };
        let seconds = u64::try_from(span.as_secs()).map_err(|_| refuse())?;
        // A hundred years: beyond it, adding to a timestamp could overflow.
        if span.subsec_nanos() != 0 || seconds > 3_155_760_000 {
            return Err(refuse());
        }
        Ok(Self { seconds })
    }

    /// The span for timers.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Whether it is no time at all.
    pub fn is_zero(self) -> bool {
        self.seconds == 0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seconds == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.seconds;
        for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        Self::parse("span", &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("12h", 43_200),
            ("7d", 604_800),
            ("1h30m", 5_400),
            ("0s", 0),
            ("2w", 1_209_600),
        ] {
            assert_eq!(
                Span::parse("trash-ttl", text),
                Ok(Span::seconds(seconds)),
                "{text}"
            );
        }
        assert_eq!(Span::seconds(93_784).to_string(), "1d2h3m4s");
        assert_eq!(
            Span::parse("x", &Span::seconds(93_784).to_string()),
            Ok(Span::seconds(93_784))
        );
    }

    #[test]
    fn refuses_the_rest() {
        for bad in ["", "7", "-1h", "1y200000d", "500ms", "soon", "999999999h"] {
            assert!(Span::parse("trash-ttl", bad).is_err(), "{bad}");
        }
    }
}
