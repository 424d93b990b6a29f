//! Whether one target may be sent to now, and what has to wait, for how long. Pure: the time is an argument.
//!
//! | file | decides |
//! |---|---|
//! | [`limit`] | how many attempts may run at once |
//! | [`load`] | what runs, how long it takes, and when to come back for a place |
//! | [`breaker`] | whether the target works at all |
//! | [`quiet`] | whether it asked to be left alone |
//! | [`bucket`] | its own rate limit |
//! | [`mod@line`] | moments to come back at |

pub mod breaker;
pub mod bucket;
pub mod limit;
pub mod line;
pub mod load;
pub mod quiet;

use breaker::{Breaker, BreakerPolicy, Health, May};
use bucket::{Bucket, Rate};
use limit::{Bounds, Limit};
use line::Line;
use load::Load;
use quiet::Quiet;
use schemas::outcome::AttemptError;
use std::time::{Duration, Instant};

/// What holds for every target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Attempts at once.
    pub bounds: Bounds,
    /// Attempts at once of the slow lane.
    pub slow: usize,
    /// When its breaker opens.
    pub breaker: BreakerPolicy,
}

/// What comes back to a target that is left alone comes at this pace: 50 a second. Enough to find out soon that it
/// works again, and little to move while it does not, however much waits.
const RETURN: Duration = Duration::from_millis(20);
/// Where very much waits, it comes back within this all the same: one hop of the retry queue (SQS's longest delay).
const RETURN_WITHIN: Duration = Duration::from_secs(900);
/// What waits for a place in the slow lane comes back after this at the soonest: SQS counts in whole seconds.
const SLOW_LEAST: Duration = Duration::from_secs(1);
/// And so much later at most, so that a target that was slow for a moment has not lost much time.
const SLOW_WITHIN: Duration = Duration::from_secs(300);
/// How long a delivery may wait where it is: a target that answers within milliseconds has a place free by then
/// even when all permits of the lane wait for it. Where the place is seen not to come, it does not wait at all.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// A delivery that wants to be attempted.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The target's own rate limit.
    pub rate: Option<Rate>,
    /// Whether it comes from the slow lane.
    pub slow: bool,
    /// Whether it was told to come back, or is a retry that is due: it goes before those that come for the first time.
    pub returned: bool,
    /// How long until its retry window ends.
    pub left: Duration,
    /// 0 to 1, its own.
    pub chance: f64,
}

/// Why a delivery has to wait: words that never change, for the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The target's breaker is open.
    Breaker,
    /// The target asked to be left alone.
    RetryAfter,
    /// The target's rate limit.
    Rate,
    /// The target has as many attempts running as it bears.
    Target,
    /// Its tenant has its share of the attempts.
    Tenant,
    /// Retries have their share of the attempts.
    Retries,
    /// The target has yet to prove that it wants deliveries.
    Unverified,
    /// Something of ours is away.
    Ours,
}

impl Why {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::RetryAfter => "retry_after",
            Self::Rate => "rate",
            Self::Target => "target",
            Self::Tenant => "tenant",
            Self::Retries => "retries",
            Self::Unverified => "unverified",
            Self::Ours => "ours",
        }
    }
}

/// What a gate answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go: [`Gate::begin`] with these.
    Go(Probe),
    /// A place will be free in a moment.
    Wait,
    /// To the slow lane, for so long.
    Slow(Why, Duration),
    /// To the retry queue, for so long.
    Later(Why, Duration),
}

/// What a gate answers for deliveries that wait together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// They may come, each to ask for itself.
    Come,
    /// One of them may come, to see whether the target works again; the others ask again after so long.
    One(Why, Duration),
    /// None of them for so long.
    Later(Why, Duration),
}

/// What an attempt is a probe of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    breaker: bool,
    quiet: bool,
}

/// What an attempt said of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// 2xx.
    Good,
    /// 429.
    Busy,
    /// A timeout, or 503: it failed, and less may help.
    Overloaded,
    /// It failed otherwise.
    Failed,
    /// Nothing: there was no attempt, or what failed is ours.
    Nothing,
}

impl Sign {
    /// Of an answer's status, or of why there was none.
    #[must_use]
    pub fn of(seen: Result<u16, AttemptError>) -> Self {
        match seen {
            Ok(200..=299) => Self::Good,
            Ok(429) => Self::Busy,
            Ok(503) | Err(AttemptError::Timeout) => Self::Overloaded,
            Ok(_)
            | Err(
                AttemptError::Connect
                | AttemptError::Tls
                | AttemptError::Dns
                | AttemptError::Blocked
                | AttemptError::Protocol,
            ) => Self::Failed,
            Err(AttemptError::PayloadMissing | AttemptError::NotAsked) => Self::Nothing,
        }
    }

    fn health(self) -> Health {
        match self {
            Self::Good => Health::Good,
            Self::Busy => Health::Busy,
            Self::Overloaded | Self::Failed => Health::Bad,
            Self::Nothing => Health::Unknown,
        }
    }
}

/// The gate before one target.
#[derive(Clone, Debug)]
pub struct Gate {
    limit: Limit,
    load: Load,
    running_slow: usize,
    breaker: Breaker,
    quiet: Quiet,
    bucket: Bucket,
    rate: Option<Rate>,
    later: Line,
}

impl Gate {
    /// That of a target nothing is known of.
    #[must_use]
    pub fn new(rules: &Rules, now: Instant) -> Self {
        Self {
            limit: Limit::new(rules.bounds),
            load: Load::new(now),
            running_slow: 0,
            breaker: Breaker::new(now),
            quiet: Quiet::default(),
            bucket: Bucket::default(),
            rate: None,
            later: Line::default(),
        }
    }

    /// Whether a delivery may go, while `waiting` others wait for a place before it.
    pub fn ask(&mut self, rules: &Rules, now: Instant, ask: &Ask, waiting: usize) -> Verdict {
        let probe = match self.not_left_alone(rules, now, ask) {
            Ok(probe) => probe,
            Err((why, wait)) => return Verdict::Later(why, self.moment(now, why, wait, ask, 1)),
        };
        if let Some(rate) = ask.rate {
            let wait = self.bucket.wait(now, rate);
            let others = !ask.returned && self.later.is_waiting(now);
            if wait.is_some() || others {
                let wait = wait.unwrap_or(Duration::ZERO);
                return Verdict::Later(Why::Rate, self.moment(now, Why::Rate, wait, ask, 1));
            }
        }
        let limit = self.limit.get();
        let slow_full = ask.slow && self.running_slow >= rules.slow;
        if self.load.running() + waiting >= limit || slow_full {
            if !slow_full && self.load.wait(now, limit, waiting) <= PATIENCE {
                return Verdict::Wait;
            }
            return Verdict::Slow(Why::Target, self.slow(rules, now, ask));
        }
        Verdict::Go(probe)
    }

    /// When to come back for a place.
    pub fn slow(&mut self, rules: &Rules, now: Instant, ask: &Ask) -> Duration {
        let limit = if ask.slow {
            self.limit.get().min(rules.slow)
        } else {
            self.limit.get()
        };
        self.load.put_off(
            now,
            limit,
            SLOW_LEAST.mul_f64(1.0 + ask.chance),
            SLOW_WITHIN,
            ask.chance,
        )
    }

    /// Whether `count` deliveries that wait together may come. Nothing begins with that.
    pub fn ask_together(&mut self, rules: &Rules, now: Instant, ask: &Ask, count: u32) -> Together {
        let why = match self.not_left_alone(rules, now, ask) {
            Err((why, wait)) => return Together::Later(why, self.moment(now, why, wait, ask, count)),
            Ok(Probe { quiet: true, .. }) => Why::RetryAfter,
            Ok(Probe { breaker: true, .. }) => Why::Breaker,
            Ok(_) => return Together::Come,
        };
        Together::One(why, self.moment(now, why, rules.breaker.open, ask, count))
    }

    /// What an attempt would be a probe of; or why the target is left alone, and for how long.
    fn not_left_alone(&mut self, rules: &Rules, now: Instant, ask: &Ask) -> Result<Probe, (Why, Duration)> {
        if self.rate != ask.rate {
            // Nobody is told to wait by a limit that no longer is.
            self.rate = ask.rate;
            self.later = Line::default();
        }
        match (self.quiet.may(now), self.breaker.may(&rules.breaker, now)) {
            (May::No(wait), _) => Err((Why::RetryAfter, wait)),
            (_, May::No(wait)) => Err((Why::Breaker, wait)),
            (quiet, breaker) => Ok(Probe {
                breaker: breaker == May::Probe,
                quiet: quiet == May::Probe,
            }),
        }
    }

    /// When `count` deliveries come back that are told to wait for so long at least.
    fn moment(&mut self, now: Instant, why: Why, wait: Duration, ask: &Ask, count: u32) -> Duration {
        // By its own rate limit a target's deliveries come back as it allows, however long that takes.
        let (pace, most) = match (ask.rate, why) {
            (Some(rate), Why::Rate) => (rate.interval, ask.left),
            (Some(rate), _) => (rate.interval.max(RETURN), RETURN_WITHIN.max(ask.left)),
            (None, _) => (RETURN, RETURN_WITHIN),
        };
        self.later
            .place(now, wait, pace.saturating_mul(count), most, ask.chance)
    }

    /// A delivery that may go goes.
    pub fn begin(&mut self, now: Instant, ask: &Ask, probe: Probe) {
        if let Some(rate) = ask.rate {
            self.bucket.take(now, rate);
        }
        if probe.breaker {
            self.breaker.begin_probe();
        }
        if probe.quiet {
            self.quiet.begin_probe();
        }
        self.running_slow += usize::from(ask.slow);
        self.load.begin(now);
    }

    /// It has ended. `asks` is how long the target wants to be left alone, capped; it counts with a 429 or 503.
    pub fn end(&mut self, rules: &Rules, now: Instant, began: Began, sign: Sign, asks: Option<Duration>) {
        let asks = asks.filter(|_| matches!(sign, Sign::Busy | Sign::Overloaded));
        self.running_slow = self.running_slow.saturating_sub(usize::from(began.slow));
        let made = sign != Sign::Nothing;
        self.load.end(now, made.then(|| now - began.at));
        match sign {
            Sign::Good => self.limit.raise(rules.bounds),
            Sign::Busy | Sign::Overloaded => self.limit.halve(rules.bounds, began.at, now),
            Sign::Failed | Sign::Nothing => {}
        }
        self.quiet.ended(now, began.probe.quiet, made, asks);
        let opened = self
            .breaker
            .ended(&rules.breaker, now, began.at, began.probe.breaker, sign.health());
        if opened {
            // What comes after it begins gently.
            self.limit.lowest(rules.bounds);
        }
    }

    /// Whether its breaker is open or half-open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether attempts run.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.load.running() > 0
    }

    /// How many more may begin.
    #[must_use]
    pub fn free(&self) -> usize {
        self.limit.get().saturating_sub(self.load.running())
    }

    /// Whether it can be forgotten: nothing runs, nothing is told to come back, and all it has learned is older
    /// than what its breaker looks at.
    #[must_use]
    pub fn is_idle(&self, rules: &Rules, now: Instant) -> bool {
        let past = |until: Option<Instant>| until.is_none_or(|until| until + rules.breaker.window <= now);
        self.load.is_idle(now, rules.breaker.window)
            && !self.later.is_waiting(now)
            && past(self.breaker.open_until())
            && past(self.quiet.until())
    }
}

/// An attempt that runs.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    /// When it began.
    pub at: Instant,
    /// Whether in the slow lane.
    pub slow: bool,
    /// What it is a probe of.
    pub probe: Probe,
}

#[cfg(test)]
mod tests;
