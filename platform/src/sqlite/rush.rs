//! Whether work comes so fast that it is better done another way. Pure.

use std::time::{Duration, Instant};

/// Looks at so much of it together, a stretch, and at how long that took to come.
#[derive(Debug)]
pub(crate) struct Rush {
    stretch: usize,
    within: Duration,
    is_on: bool,
    come: usize,
    since: Instant,
}

impl Rush {
    /// There is a rush when `stretch` comes within this time. At first there is none.
    pub(crate) fn new(stretch: usize, within: Duration, now: Instant) -> Self {
        Self {
            stretch,
            within,
            is_on: false,
            come: 0,
            since: now,
        }
    }

    /// So much has come; whether it completes a stretch.
    pub(crate) fn note(&mut self, come: usize, now: impl FnOnce() -> Instant) -> bool {
        self.come = self.come.saturating_add(come);
        if self.come < self.stretch {
            return false;
        }
        let now = now();
        self.is_on = now - self.since <= self.within;
        (self.come, self.since) = (0, now);
        true
    }

    /// Whether the last stretch was a rush.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRETCH: usize = 64;

    #[test]
    fn commands_that_follow_closely_are_a_rush_until_they_no_longer_do() {
        let begun = Instant::now();
        let mut rush = Rush::new(STRETCH, Duration::from_micros(12_800), begun);
        let at = |micros| move || begun + Duration::from_micros(micros);
        rush.note(STRETCH - 1, at(1));
        assert!(!rush.is_on(), "too few to tell");
        rush.note(1, at(12_800));
        assert!(rush.is_on(), "64 within 12.8 ms");
        rush.note(STRETCH - 1, at(12_900));
        assert!(rush.is_on(), "too few to tell");
        rush.note(1, at(25_601));
        assert!(!rush.is_on(), "64 within a little more");
    }
}
