//! How often a target may be sent to.

use std::fmt;
use std::time::Duration;

/// The most attempts of one period that a target may ask for.
pub const MAX_RATE: u32 = 100_000;

/// What a rate limit counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
}

impl Period {
    /// How long it is.
    #[must_use]
    pub fn duration(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_secs(60),
        }
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
        }
    }
}

/// At most so many attempts per period: 1 to [`MAX_RATE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    count: u32,
    period: Period,
}

impl RateLimit {
    /// So many attempts per period; `None` unless it is 1 to [`MAX_RATE`].
    #[must_use]
    pub fn new(count: u32, period: Period) -> Option<Self> {
        (1..=MAX_RATE).contains(&count).then_some(Self { count, period })
    }

    /// Reads `5/second` or `30/minute`.
    ///
    /// # Errors
    /// Says how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a rate such as \"5/second\" or \"30/minute\", of 1 to {MAX_RATE} attempts"
            )
        };
        let (count, period) = text.split_once('/').ok_or_else(wrong)?;
        let period = match period.trim() {
            "second" => Period::Second,
            "minute" => Period::Minute,
            _ => return Err(wrong()),
        };
        let count = count.trim();
        // `parse` would take a sign too.
        if !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let count = count.parse().ok();
        count.and_then(|count| Self::new(count, period)).ok_or_else(wrong)
    }

    /// Attempts of one period.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// What it counts by.
    #[must_use]
    pub fn period(self) -> Period {
        self.period
    }

    /// The time between two attempts, where they are evenly spread.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.period.duration() / self.count
    }

    /// How many attempts may be made at once: a second's worth, at least one.
    #[must_use]
    pub fn burst(self) -> u32 {
        match self.period {
            Period::Second => self.count,
            Period::Minute => (self.count / 60).max(1),
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.period.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_and_writes_alike() {
        for (text, count, period) in [
            ("5/second", 5, Period::Second),
            ("30/minute", 30, Period::Minute),
            ("1/minute", 1, Period::Minute),
            ("100000/second", MAX_RATE, Period::Second),
        ] {
            let rate = RateLimit::parse(text).unwrap();
            assert_eq!((rate.count(), rate.period()), (count, period));
            assert_eq!(rate.to_string(), text);
        }
        assert_eq!(RateLimit::parse(" 5 / second ").unwrap().to_string(), "5/second");
        for wrong in [
            "",
            "5",
            "/second",
            "0/second",
            "100001/second",
            "-5/second",
            "+5/second",
            "5/hour",
            "5/seconds",
            "1.5/second",
            "5/second/second",
            "99999999999/second",
            "٥/second",
        ] {
            let error = RateLimit::parse(wrong).unwrap_err();
            assert!(error.contains("such as \"5/second\""), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_burst_is_a_seconds_worth_and_at_least_one() {
        let table = [
            ("5/second", 5, 200_000),
            ("1/second", 1, 1_000_000),
            ("30/minute", 1, 2_000_000),
            ("600/minute", 10, 100_000),
        ];
        for (text, burst, interval) in table {
            let rate = RateLimit::parse(text).unwrap();
            assert_eq!(rate.burst(), burst, "{text}");
            assert_eq!(rate.interval(), Duration::from_micros(interval), "{text}");
        }
    }
}
