//! A target that asked to be left alone (`Retry-After` with a 429 or 503). Pure.
//!
//! Until the time it asked for nothing is sent to it. Then one attempt goes as a probe: another 429 or 503 with
//! `Retry-After` begins the next period, anything else ends it.

use super::breaker::May;
use std::time::{Duration, Instant};

/// Whether a target is to be left alone.
#[derive(Clone, Debug, Default)]
pub struct Quiet(Option<Asked>);

#[derive(Clone, Debug)]
struct Asked {
    until: Instant,
    period: Duration,
    probing: bool,
}

impl Quiet {
    /// Whether there may be an attempt now.
    #[must_use]
    pub fn may(&self, now: Instant) -> May {
        match &self.0 {
            None => May::Yes,
            Some(asked) if now < asked.until => May::No(asked.until - now),
            Some(asked) if asked.probing => May::No(asked.period),
            Some(_) => May::Probe,
        }
    }

    /// Until when it is to be left alone.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.0.as_ref().map(|asked| asked.until)
    }

    /// The probe that [`Self::may`] allowed has begun.
    pub fn begin_probe(&mut self) {
        if let Some(asked) = &mut self.0 {
            asked.probing = true;
        }
    }

    /// An attempt has ended, `probe` or not; `made` unless there was none after all. `asks` is what the target
    /// asks for, capped.
    pub fn ended(&mut self, now: Instant, probe: bool, made: bool, asks: Option<Duration>) {
        if let Some(period) = asks {
            let until = self.until().map_or(now + period, |at| at.max(now + period));
            let probing = !probe && self.0.as_ref().is_some_and(|asked| asked.probing);
            self.0 = Some(Asked {
                until,
                period,
                probing,
            });
        } else if probe {
            match &mut self.0 {
                // Another that began before it may have asked for more meanwhile.
                Some(asked) if !made || now < asked.until => asked.probing = false,
                Some(_) | None => self.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const ASKS: Option<Duration> = Some(secs(60));

    #[test]
    fn a_period_of_silence_then_one_probe() {
        let (mut quiet, now) = (Quiet::default(), Instant::now());
        assert_eq!(quiet.may(now), May::Yes);
        quiet.ended(now, false, true, ASKS);
        assert_eq!(quiet.may(now + secs(1)), May::No(secs(59)));
        // A late answer of one that ran beside it: the longer one counts, and a success ends nothing.
        quiet.ended(now + secs(2), false, true, Some(secs(5)));
        quiet.ended(now + secs(3), false, true, None);
        assert_eq!(quiet.may(now + secs(4)), May::No(secs(56)));

        assert_eq!(quiet.may(now + secs(60)), May::Probe);
        quiet.begin_probe();
        assert_eq!(quiet.may(now + secs(60)), May::No(secs(5)));
        quiet.ended(now + secs(61), true, false, None);
        assert_eq!(quiet.may(now + secs(61)), May::Probe, "a probe that was none");
        quiet.begin_probe();
        quiet.ended(now + secs(62), true, true, ASKS);
        assert_eq!(quiet.may(now + secs(62)), May::No(secs(60)));
        quiet.begin_probe();
        quiet.ended(now + secs(122), true, true, None);
        assert_eq!(quiet.may(now + secs(122)), May::Yes);
    }

    proptest! {
        // A target that always asks for the same, and attempts whenever they may be made: after the first answer
        // there is at most one begun per period.
        #[test]
        fn a_target_that_asks_each_time_sees_one_attempt_a_period(
            steps in prop::collection::vec((0..30_u64, 0..3_u64), 1..200),
        ) {
            let (mut quiet, mut now) = (Quiet::default(), Instant::now());
            quiet.ended(now, false, true, ASKS);
            let mut began = vec![now];
            for (passes, took) in steps {
                now += secs(passes);
                if quiet.may(now) == May::Probe {
                    quiet.begin_probe();
                    prop_assert!(matches!(quiet.may(now), May::No(_)), "one at a time");
                    began.push(now);
                    now += secs(took);
                    quiet.ended(now, true, true, ASKS);
                }
            }
            prop_assert!(began.windows(2).all(|two| two[1] - two[0] >= secs(60)));
        }
    }
}
