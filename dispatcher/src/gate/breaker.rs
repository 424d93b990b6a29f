//! The circuit breaker of one target: closed, open, half-open. Pure.
//!
//! Closed, it counts. Where most attempts of the window failed, it opens, and nothing is attempted for a while.
//! Then it is half-open: one attempt is let through as a probe, and its result closes or opens it again, for
//! longer each time.

use std::time::{Duration, Instant};

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Fewer attempts than this in the window say nothing.
    pub min_attempts: u32,
    /// It opens when at least this share of them failed: above 0, up to 1.
    pub share: f64,
    /// How far back attempts count. Kept in ten parts, so that up to a tenth more may count.
    pub window: Duration,
    /// How long it is open at first; twice as long after each probe that fails.
    pub open: Duration,
    /// At most so long.
    pub open_max: Duration,
}

/// What an attempt said of its target's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Good,
    /// It failed.
    Bad,
    /// It answered that it is busy: it lives, but nothing else is known.
    Busy,
    /// There was no attempt.
    Unknown,
}

/// Whether there may be an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// Yes.
    Yes,
    /// Yes, one: as a probe.
    Probe,
    /// Not for so long.
    No(Duration),
}

/// Parts of the window.
const PARTS: u64 = 10;

/// The breaker of one target.
#[derive(Clone, Debug)]
pub struct Breaker {
    epoch: Instant,
    parts: [Part; PARTS as usize],
    state: State,
    /// When it came into this state: what began before tells of another time.
    since: Instant,
    /// Times in a row that it opened.
    trips: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    number: u64,
    attempts: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Open until then; half-open after it, while nothing but a probe may run.
    Open {
        until: Instant,
        probing: bool,
    },
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            parts: [Part::default(); PARTS as usize],
            state: State::Closed,
            since: now,
            trips: 0,
        }
    }

    /// Whether there may be an attempt now.
    #[must_use]
    pub fn may(&self, policy: &BreakerPolicy, now: Instant) -> May {
        match self.state {
            State::Closed => May::Yes,
            State::Open { until, .. } if now < until => May::No(until - now),
            // The probe will tell; if it fails, the breaker is open for at least this long.
            State::Open { probing: true, .. } => May::No(policy.open),
            State::Open { probing: false, .. } => May::Probe,
        }
    }

    /// Whether it is open or half-open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// The end of the time that it is open for.
    #[must_use]
    pub fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Open { until, .. } => Some(until),
        }
    }

    /// The probe that [`Self::may`] allowed has begun.
    pub fn begin_probe(&mut self) {
        if let State::Open { probing, .. } = &mut self.state {
            *probing = true;
        }
    }

    /// An attempt that began at `began` has ended, `probe` or not. True if the breaker opened because of it.
    pub fn ended(
        &mut self,
        policy: &BreakerPolicy,
        now: Instant,
        began: Instant,
        probe: bool,
        health: Health,
    ) -> bool {
        match &mut self.state {
            State::Closed => {
                if began < self.since || !self.count(policy, now, health) {
                    return false;
                }
                self.open(policy, now);
                true
            }
            State::Open { probing, .. } if probe => match health {
                Health::Good | Health::Busy => {
                    *self = Self {
                        epoch: self.epoch,
                        ..Self::new(now)
                    };
                    false
                }
                Health::Bad => {
                    self.open(policy, now);
                    true
                }
                Health::Unknown => {
                    *probing = false;
                    false
                }
            },
            // Begun before it opened.
            State::Open { .. } => false,
        }
    }

    fn open(&mut self, policy: &BreakerPolicy, now: Instant) {
        let longer = policy
            .open
            .saturating_mul(1_u32.checked_shl(self.trips).unwrap_or(u32::MAX));
        let until = now + longer.min(policy.open_max.max(policy.open));
        self.state = State::Open {
            until,
            probing: false,
        };
        self.since = now;
        self.trips = (self.trips + 1).min(16);
    }

    /// Counts an attempt; whether too many of the window's failed.
    fn count(&mut self, policy: &BreakerPolicy, now: Instant, health: Health) -> bool {
        let failed = match health {
            Health::Good => false,
            Health::Bad => true,
            Health::Busy | Health::Unknown => return false,
        };
        let length = (policy.window / PARTS as u32).max(Duration::from_millis(1));
        let number = u64::try_from((now - self.epoch).as_nanos() / length.as_nanos()).unwrap_or(u64::MAX);
        let part = &mut self.parts[(number % PARTS) as usize];
        if part.number != number {
            *part = Part {
                number,
                ..Part::default()
            };
        }
        part.attempts += 1;
        part.failures += u32::from(failed);
        let recent = self.parts.iter().filter(|part| part.number + PARTS > number);
        let (attempts, failures) = recent.fold((0, 0), |(attempts, failures), part| {
            (attempts + part.attempts, failures + part.failures)
        });
        failed && attempts >= policy.min_attempts && f64::from(failures) >= policy.share * f64::from(attempts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const POLICY: BreakerPolicy = BreakerPolicy {
        min_attempts: 10,
        share: 0.7,
        window: secs(300),
        open: secs(30),
        open_max: secs(300),
    };

    fn end(breaker: &mut Breaker, now: Instant, health: Health) -> bool {
        breaker.ended(&POLICY, now, now, false, health)
    }

    #[test]
    fn it_opens_when_seven_of_ten_failed_and_not_before() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for health in [Health::Good, Health::Bad, Health::Good, Health::Bad, Health::Bad] {
            assert!(!end(&mut breaker, now, health));
        }
        // Neither says anything of its health.
        for health in [Health::Busy, Health::Unknown].repeat(20) {
            assert!(!end(&mut breaker, now, health));
        }
        for _ in 0..3 {
            assert!(!end(&mut breaker, now, Health::Bad));
        }
        assert!(!end(&mut breaker, now, Health::Good), "6 of 9");
        assert!(end(&mut breaker, now, Health::Bad), "7 of 10 is what it takes");
        assert_eq!(breaker.may(&POLICY, now), May::No(secs(30)));
    }

    #[test]
    fn while_open_nothing_goes_then_one_probe_decides() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        let opened = (0..10)
            .map(|_| end(&mut breaker, now, Health::Bad))
            .collect::<Vec<_>>();
        assert_eq!(opened.iter().filter(|opened| **opened).count(), 1);
        assert!(opened[9] && breaker.is_open());
        assert_eq!(breaker.may(&POLICY, now + secs(10)), May::No(secs(20)));
        // What began before says nothing new.
        assert!(!breaker.ended(&POLICY, now + secs(10), now, false, Health::Bad));
        assert_eq!(breaker.may(&POLICY, now + secs(30)), May::Probe);
        breaker.begin_probe();
        assert_eq!(breaker.may(&POLICY, now + secs(31)), May::No(secs(30)));
        // A probe that could not be made is made by another.
        breaker.ended(&POLICY, now + secs(31), now + secs(30), true, Health::Unknown);
        assert_eq!(breaker.may(&POLICY, now + secs(31)), May::Probe);
        breaker.begin_probe();
        assert!(breaker.ended(&POLICY, now + secs(40), now + secs(31), true, Health::Bad));
        assert_eq!(
            breaker.may(&POLICY, now + secs(40)),
            May::No(secs(60)),
            "twice as long"
        );
        breaker.begin_probe();
        assert!(!breaker.ended(&POLICY, now + secs(101), now + secs(100), true, Health::Busy));
        assert_eq!(breaker.may(&POLICY, now + secs(101)), May::Yes, "busy is alive");
        // It begins anew: one failure is not enough, nor is one of before.
        assert!(!end(&mut breaker, now + secs(102), Health::Bad));
        for _ in 0..20 {
            assert!(!breaker.ended(&POLICY, now + secs(103), now, false, Health::Bad));
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn it_is_open_for_longer_each_time_up_to_the_most() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(now);
        for _ in 0..10 {
            end(&mut breaker, now, Health::Bad);
        }
        for seconds in [30, 60, 120, 240, 300, 300].into_iter().chain([300; 40]) {
            assert_eq!(breaker.may(&POLICY, now), May::No(secs(seconds)));
            now += secs(seconds);
            breaker.begin_probe();
            assert!(breaker.ended(&POLICY, now, now, true, Health::Bad));
        }
    }

    #[test]
    fn failures_of_long_ago_are_forgotten() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for _ in 0..9 {
            end(&mut breaker, now, Health::Bad);
        }
        assert!(!end(&mut breaker, now + secs(301), Health::Bad));
        assert!(!breaker.is_open());
    }

    fn health() -> impl Strategy<Value = Health> {
        prop_oneof![
            Just(Health::Good),
            Just(Health::Bad),
            Just(Health::Bad),
            Just(Health::Busy),
            Just(Health::Unknown)
        ]
    }

    proptest! {
        // The model: a list of all that was counted since it closed.
        #[test]
        fn it_is_open_exactly_when_the_list_says_so(
            steps in prop::collection::vec((0..40_u64, health()), 0..200),
        ) {
            let start = Instant::now();
            let (mut breaker, mut now) = (Breaker::new(start), start);
            let mut counted: Vec<(Duration, bool)> = Vec::new();
            let mut open_until: Option<Instant> = None;
            let mut trips = 0_u32;
            for (passes, health) in steps {
                now += secs(passes);
                let part = |at: Duration| at.as_secs() / 30;
                let long = |trips: u32| secs(30 * (1 << trips.min(10))).min(secs(300));
                match breaker.may(&POLICY, now) {
                    May::No(left) => {
                        prop_assert_eq!(open_until, Some(now + left));
                        continue;
                    }
                    May::Probe => {
                        prop_assert!(open_until.is_some_and(|until| until <= now));
                        breaker.begin_probe();
                        let opened = breaker.ended(&POLICY, now, now, true, health);
                        prop_assert_eq!(opened, health == Health::Bad);
                        match health {
                            Health::Bad => {
                                open_until = Some(now + long(trips));
                                trips += 1;
                            }
                            Health::Good | Health::Busy => {
                                (open_until, trips) = (None, 0);
                                counted.clear();
                            }
                            Health::Unknown => {}
                        }
                    }
                    May::Yes => {
                        prop_assert_eq!(open_until, None);
                        let opened = breaker.ended(&POLICY, now, now, false, health);
                        match health {
                            Health::Good => counted.push((now - start, false)),
                            Health::Bad => counted.push((now - start, true)),
                            Health::Busy | Health::Unknown => {}
                        }
                        counted.retain(|(at, _)| part(*at) + 10 > part(now - start));
                        let failures = counted.iter().filter(|(_, failed)| *failed).count();
                        let trips_now = health == Health::Bad
                            && counted.len() >= 10
                            && failures as f64 >= 0.7 * counted.len() as f64;
                        prop_assert_eq!(opened, trips_now);
                        if opened {
                            open_until = Some(now + long(trips));
                            trips += 1;
                        }
                    }
                }
            }
        }
    }
}
