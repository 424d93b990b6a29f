//! How fast deliveries are sent again. Pure.
//!
//! A few at a time, and after them the pause that they are worth: so their rate is kept over any time longer
//! than a step, and a step that was cut short by a crash is repeated, which is half a second's worth at most.

use schemas::rate::RateLimit;
use std::time::Duration;

/// The most deliveries of one step.
const MOST: u32 = 64;

/// How long a step is to take, unless one delivery takes longer.
const STEP: Duration = Duration::from_millis(500);

/// The time of each delivery: by the configured rate a second, or by the target's own limit where that is
/// slower.
#[must_use]
pub fn each(configured: u32, limit: Option<RateLimit>) -> Duration {
    let configured = Duration::from_secs(1) / configured.max(1);
    limit.map_or(configured, |limit| configured.max(limit.interval()))
}

/// How many deliveries a step has at most, where each takes so long.
#[must_use]
pub fn step(each: Duration) -> usize {
    let fit = STEP.as_nanos().div_ceil(each.as_nanos().max(1));
    fit.clamp(1, u128::from(MOST)) as usize
}

/// How long a step that sent so many deliveries is to take.
#[must_use]
pub fn time_for(sent: usize, each: Duration) -> Duration {
    each.saturating_mul(u32::try_from(sent).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::rate::Period;

    #[test]
    fn the_slower_of_both_rates_counts() {
        let millis = Duration::from_millis;
        for (configured, limit, expected) in [
            (50, None, millis(20)),
            (50, Some((5, Period::Second)), millis(200)),
            (50, Some((500, Period::Second)), millis(20)),
            (50, Some((30, Period::Minute)), millis(2_000)),
            (50, Some((6_000, Period::Minute)), millis(20)),
            (0, None, millis(1_000)),
        ] {
            let own = limit.and_then(|(count, period)| RateLimit::new(count, period));
            assert_eq!(each(configured, own), expected, "{configured} {limit:?}");
        }
    }

    #[test]
    fn steps_and_their_times_keep_the_rate() {
        for (each, expected) in [
            (Duration::from_secs(2), 1),
            (Duration::from_millis(500), 1),
            (Duration::from_millis(333), 2),
            (Duration::from_millis(20), 25),
            (Duration::from_micros(10), 64),
            (Duration::ZERO, 64),
        ] {
            assert_eq!(step(each), expected, "{each:?}");
        }
        assert_eq!(time_for(25, Duration::from_millis(20)), STEP);
        assert_eq!(time_for(0, Duration::from_secs(1)), Duration::ZERO);
    }
}
