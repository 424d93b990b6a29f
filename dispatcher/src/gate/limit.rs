//! How many attempts may run at once at one target: as many as it has shown to bear. Pure.
//!
//! Additive increase, multiplicative decrease: a window of successes, as many as may run at once, adds one; a
//! timeout, a 429 or a 503 halves.

use std::time::Instant;

/// The bounds of a [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Never fewer than this.
    pub min: usize,
    /// So many at first.
    pub start: usize,
    /// Never more than this.
    pub max: usize,
}

impl Bounds {
    /// The bounds with 1 ≤ `min` ≤ `start` ≤ `max`: the upper bound wins.
    #[must_use]
    pub fn new(min: usize, start: usize, max: usize) -> Self {
        let max = max.max(1);
        let min = min.clamp(1, max);
        let start = start.clamp(min, max);
        Self { min, start, max }
    }
}

/// The limit of one target.
#[derive(Clone, Debug)]
pub struct Limit {
    now: usize,
    successes: usize,
    cut_at: Option<Instant>,
}

impl Limit {
    /// A target that nothing is known of.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            now: bounds.start,
            successes: 0,
            cut_at: None,
        }
    }

    /// Attempts at once.
    #[must_use]
    pub fn get(&self) -> usize {
        self.now
    }

    /// An attempt was delivered.
    pub fn raise(&mut self, bounds: Bounds) {
        self.successes += 1;
        if self.successes >= self.now {
            self.successes = 0;
            self.now = (self.now + 1).min(bounds.max);
        }
    }

    /// An attempt that began at `began` showed that it was too much. Those that ran together with it say the
    /// same once more: only one of them counts.
    pub fn halve(&mut self, bounds: Bounds, began: Instant, now: Instant) {
        if self.cut_at.is_none_or(|at| began >= at) {
            self.now = (self.now / 2).max(bounds.min);
            self.successes = 0;
            self.cut_at = Some(now);
        }
    }

    /// Begins again with the least.
    pub fn lowest(&mut self, bounds: Bounds) {
        self.now = bounds.min;
        self.successes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const BOUNDS: Bounds = Bounds {
        min: 1,
        start: 4,
        max: 16,
    };

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_of_successes_adds_one() {
        let mut limit = Limit::new(BOUNDS);
        for (successes, expected) in [(3, 4), (1, 5), (4, 5), (1, 6)] {
            (0..successes).for_each(|_| limit.raise(BOUNDS));
            assert_eq!(limit.get(), expected);
        }
        (0..1_000).for_each(|_| limit.raise(BOUNDS));
        assert_eq!(limit.get(), 16);
    }

    #[test]
    fn what_ran_together_halves_once() {
        let start = Instant::now();
        let mut limit = Limit::new(BOUNDS);
        (0..1_000).for_each(|_| limit.raise(BOUNDS));
        for _ in 0..16 {
            limit.halve(BOUNDS, start, start + secs(15));
        }
        assert_eq!(limit.get(), 8);
        limit.halve(BOUNDS, start + secs(15), start + secs(30));
        assert_eq!(limit.get(), 4);
    }

    #[test]
    fn bounds_that_contradict_each_other_yield_to_the_upper_one() {
        assert_eq!(
            Bounds::new(1, 4, 2),
            Bounds {
                min: 1,
                start: 2,
                max: 2
            }
        );
        assert_eq!(
            Bounds::new(0, 0, 0),
            Bounds {
                min: 1,
                start: 1,
                max: 1
            }
        );
        assert_eq!(
            Bounds::new(8, 2, 16),
            Bounds {
                min: 8,
                start: 8,
                max: 16
            }
        );
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_and_a_cut_never_more_than_halves(
            steps in prop::collection::vec((any::<bool>(), 0..20_u64, 0..20_u64), 0..300),
            (min, start, max) in (1..8_usize, 1..20_usize, 1..32_usize),
        ) {
            let bounds = Bounds::new(min, start, max);
            let (mut limit, mut now) = (Limit::new(bounds), Instant::now() + secs(100));
            for (good, passes, took) in steps {
                now += secs(passes);
                let before = limit.get();
                if good {
                    limit.raise(bounds);
                    prop_assert!(limit.get() == before || limit.get() == before + 1);
                } else {
                    limit.halve(bounds, now - secs(took), now);
                    prop_assert!(limit.get() == before || limit.get() == (before / 2).max(bounds.min));
                }
                prop_assert!((bounds.min..=bounds.max).contains(&limit.get()));
            }
        }
    }
}
