//! A target's own rate limit: a token bucket, kept as the moment when it will be full (GCRA). Pure.

use schemas::rate::RateLimit;
use std::time::{Duration, Instant};

/// What a rate limit means for one of several dispatchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// One token comes so often.
    pub interval: Duration,
    /// So many tokens are kept: a second's worth, at least one.
    pub burst: u32,
}

impl Rate {
    /// The share of one of `dispatchers`.
    #[must_use]
    pub fn share(limit: RateLimit, dispatchers: u32) -> Self {
        let dispatchers = dispatchers.max(1);
        Self {
            interval: limit.interval() * dispatchers,
            burst: (limit.burst() / dispatchers).max(1),
        }
    }
}

/// The tokens of one target.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    /// When all tokens are back.
    full_at: Option<Instant>,
}

impl Bucket {
    /// How long until there is a token; `None` when there is one now.
    #[must_use]
    pub fn wait(&self, now: Instant, rate: Rate) -> Option<Duration> {
        let spare = rate.interval * (rate.burst - 1);
        let wait = self.missing(now, rate).saturating_sub(spare);
        (!wait.is_zero()).then_some(wait)
    }

    /// Takes a token that is there.
    pub fn take(&mut self, now: Instant, rate: Rate) {
        self.full_at = Some(now + self.missing(now, rate) + rate.interval);
    }

    /// How long until all tokens are back: no longer than it takes from none at all, so that a rate that was
    /// raised holds at once.
    fn missing(&self, now: Instant, rate: Rate) -> Duration {
        let left = self
            .full_at
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        left.min(rate.interval * rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use schemas::rate::Period;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let rate = Rate::share(RateLimit::new(5, Period::Second).unwrap(), 1);
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(bucket.wait(now, rate), None);
            bucket.take(now, rate);
        }
        assert_eq!(bucket.wait(now, rate), Some(ms(200)));
        assert_eq!(bucket.wait(now + ms(150), rate), Some(ms(50)));
        assert_eq!(bucket.wait(now + ms(200), rate), None);
        bucket.take(now + ms(200), rate);
        assert_eq!(bucket.wait(now + ms(200), rate), Some(ms(200)));
    }

    #[test]
    fn dispatchers_share_a_limit() {
        let limit = |count, period| RateLimit::new(count, period).unwrap();
        let table = [
            (limit(10, Period::Second), 2, 200, 5),
            (limit(1, Period::Second), 4, 4_000, 1),
            (limit(30, Period::Minute), 3, 6_000, 1),
            (limit(10, Period::Second), 0, 100, 10),
        ];
        for (limit, dispatchers, interval, burst) in table {
            let expected = Rate {
                interval: ms(interval),
                burst,
            };
            assert_eq!(Rate::share(limit, dispatchers), expected, "{limit}");
        }
    }

    #[test]
    fn a_raised_rate_holds_at_once() {
        let slow = Rate::share(RateLimit::new(1, Period::Minute).unwrap(), 1);
        let fast = Rate::share(RateLimit::new(10, Period::Second).unwrap(), 1);
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        bucket.take(now, slow);
        assert_eq!(bucket.wait(now, slow), Some(ms(60_000)));
        assert_eq!(bucket.wait(now, fast), Some(ms(100)));
    }

    proptest! {
        // The model: in any stretch of time no more than a burst, and the rate's worth of the stretch.
        #[test]
        fn no_stretch_of_time_has_more_than_a_burst_and_the_rates_worth(
            arrivals in prop::collection::vec(0..300_u64, 1..300),
            count in 1..50_u32,
            by_minute in any::<bool>(),
        ) {
            let period = if by_minute { Period::Minute } else { Period::Second };
            let rate = Rate::share(RateLimit::new(count, period).unwrap(), 1);
            let (mut bucket, start) = (Bucket::default(), Instant::now());
            let (mut now, mut sent) = (start, Vec::new());
            for passes in arrivals {
                now += ms(passes);
                match bucket.wait(now, rate) {
                    None => {
                        bucket.take(now, rate);
                        sent.push(now);
                    }
                    Some(wait) => {
                        // What it says is right: neither sooner nor later.
                        prop_assert!(wait <= rate.interval);
                        prop_assert!(bucket.wait(now + wait, rate).is_none());
                        prop_assert!(bucket.wait(now + wait - Duration::from_nanos(1), rate).is_some());
                    }
                }
            }
            for (index, from) in sent.iter().enumerate() {
                for (more, to) in sent[index..].iter().enumerate() {
                    let worth = (*to - *from).as_secs_f64() / rate.interval.as_secs_f64();
                    prop_assert!(more as f64 <= f64::from(rate.burst) - 1.0 + worth + 1e-6);
                }
            }
        }
    }
}
