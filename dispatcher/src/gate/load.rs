//! What runs of something that only so much may run of, and how long the rest has to wait. Pure.

use super::line::Line;
use std::time::{Duration, Instant};

/// A new duration's weight in the mean.
const WEIGHT: f64 = 0.1;

/// What runs and how long it takes.
#[derive(Clone, Debug)]
pub struct Load {
    running: usize,
    /// How long an attempt takes, the latest counting most; in seconds.
    mean: f64,
    /// When one last ended, or the first of those that run began.
    heard: Instant,
    line: Line,
}

impl Load {
    /// Nothing runs.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            running: 0,
            mean: 0.0,
            heard: now,
            line: Line::default(),
        }
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// When something last began or ended, and whether nothing has been put off beyond `now`.
    #[must_use]
    pub fn is_idle(&self, now: Instant, since: Duration) -> bool {
        self.running == 0 && now.saturating_duration_since(self.heard) >= since && !self.line.is_waiting(now)
    }

    /// One begins.
    pub fn begin(&mut self, now: Instant) {
        if self.running == 0 {
            self.heard = now;
        }
        self.running += 1;
    }

    /// One has ended; `took` unless there was no attempt after all.
    pub fn end(&mut self, now: Instant, took: Option<Duration>) {
        self.running = self.running.saturating_sub(1);
        if let Some(took) = took {
            self.heard = now;
            self.mean += WEIGHT * (took.as_secs_f64() - self.mean);
        }
    }

    /// How long until one more could begin, where `limit` may run and so many wait already. While nothing is
    /// heard of what runs, it takes at least as long as that silence.
    #[must_use]
    pub fn wait(&self, now: Instant, limit: usize, waiting: usize) -> Duration {
        self.pace(now, limit) * u32::try_from(waiting + 1).unwrap_or(u32::MAX)
    }

    fn pace(&self, now: Instant, limit: usize) -> Duration {
        let silence = if self.running == 0 {
            Duration::ZERO
        } else {
            now.saturating_duration_since(self.heard)
        };
        let takes = Duration::from_secs_f64(self.mean.max(0.0)).max(silence);
        takes / u32::try_from(limit.max(1)).unwrap_or(u32::MAX)
    }

    /// When to come back for what cannot begin now: in turn, as fast as others are seen to end; within `least` to
    /// `least` and `most`.
    pub fn put_off(
        &mut self,
        now: Instant,
        limit: usize,
        least: Duration,
        most: Duration,
        chance: f64,
    ) -> Duration {
        let pace = self.pace(now, limit);
        self.line.place(now, least, pace, most, chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_target_that_answers_soon_is_worth_waiting_for_and_a_silent_one_is_not() {
        let start = Instant::now();
        let mut load = Load::new(start);
        for round in 0..100 {
            load.begin(start + ms(round * 10));
            load.end(start + ms(round * 10 + 4), Some(ms(4)));
        }
        let now = start + ms(1_000);
        (0..4).for_each(|_| load.begin(now));
        assert!(
            load.wait(now + ms(1), 4, 0) < ms(2),
            "{:?}",
            load.wait(now + ms(1), 4, 0)
        );
        assert!(
            load.wait(now + ms(1), 4, 39) >= ms(39),
            "behind others it takes longer"
        );
        // It hangs: nothing was heard for two seconds.
        assert!(load.wait(now + ms(2_000), 4, 0) >= ms(500));
    }

    #[test]
    fn what_is_put_off_comes_back_as_fast_as_others_end() {
        let now = Instant::now();
        let mut load = Load::new(now);
        load.begin(now);
        let later = now + ms(4_000);
        let places: Vec<_> = (0..3)
            .map(|_| load.put_off(later, 2, ms(1_000), ms(60_000), 0.0))
            .collect();
        assert_eq!(places, [ms(1_000), ms(3_000), ms(5_000)]);
        assert!(!load.is_idle(later, ms(1)));
    }
}
