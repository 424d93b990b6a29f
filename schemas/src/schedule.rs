//! When to try again.
//!
//! With the default policy, attempts that fail at once and no jitter, a delivery is tried when its
//! event is accepted and then after
//!
//! | retry | after | pause | | retry | after | pause |
//! |---|---|---|---|---|---|---|
//! | 1 | 5 s | 5 s | | 8 | 4 h 33 min 20 s | 3 h 2 min 15 s |
//! | 2 | 20 s | 15 s | | 9 | 8 h 33 min 20 s | 4 h |
//! | 3 | 1 min 5 s | 45 s | | 10 | 12 h 33 min 20 s | 4 h |
//! | 4 | 3 min 20 s | 2 min 15 s | | 11 | 16 h 33 min 20 s | 4 h |
//! | 5 | 10 min 5 s | 6 min 45 s | | 12 | 20 h 33 min 20 s | 4 h |
//! | 6 | 30 min 20 s | 20 min 15 s | | 13 | 24 h | 3 h 26 min 40 s, to the end of the window |
//! | 7 | 1 h 31 min 5 s | 1 h 0 min 45 s | | | | |
//!
//! A policy may name its pauses one by one instead ([`RetryPolicy::schedule`]). Either way age counts from
//! the acceptance, and the last attempt falls on the window's end.

use crate::ids::DeliveryId;
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest window a policy may have: the dead-letter queue and the log keep longer than that.
pub const MAX_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// Within this of its end a window is over: an attempt there was the last one.
const END_MARGIN: Duration = Duration::from_secs(1);

/// The most pauses of an explicit list.
pub const MAX_PAUSES: usize = 100;

/// How long and how often to keep trying one delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Tries end this long after the event was accepted.
    pub window: Duration,
    /// The pause after the first failure.
    pub first: Duration,
    /// Each pause is this many times the one before.
    pub factor: f64,
    /// No pause is longer than this.
    pub max: Duration,
    /// A pause is lengthened by up to this share of itself, so that many deliveries that failed
    /// together do not come back together.
    pub jitter: f64,
    /// The pauses one by one, in place of `first`, `factor` and `max`. What follows the last of them is
    /// the attempt at the window's end. Empty for none. A release that does not know it goes by the
    /// other three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Duration>,
}

// `factor` and `jitter` are finite: checked where policies are read.
impl Eq for RetryPolicy {}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(24 * 3600),
            first: Duration::from_secs(5),
            factor: 3.0,
            max: Duration::from_secs(4 * 3600),
            jitter: 0.2,
            schedule: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// Checks what was configured, or what a target asks for.
    ///
    /// # Errors
    /// Names the field, its value and what it may be.
    pub fn check(&self) -> Result<(), String> {
        if self.window.is_zero() || self.window > MAX_WINDOW {
            return Err(format!(
                "window: {:?} is not more than 0 and at most 7 days",
                self.window
            ));
        }
        if self.first.is_zero() {
            return Err("first: must be more than 0, such as 5s".to_owned());
        }
        if self.max < self.first {
            return Err(format!(
                "max: {:?} is less than first, {:?}",
                self.max, self.first
            ));
        }
        // Not a number is in no range.
        if !(1.0..=100.0).contains(&self.factor) {
            return Err(format!("factor: {} is not a number from 1 to 100", self.factor));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(format!("jitter: {} is not a number from 0 to 1", self.jitter));
        }
        if self.schedule.len() > MAX_PAUSES {
            return Err(format!(
                "schedule: {} pauses are more than {MAX_PAUSES}",
                self.schedule.len()
            ));
        }
        let fits = |pause: &Duration| !pause.is_zero() && *pause <= MAX_WINDOW;
        if let Some(pause) = self.schedule.iter().find(|pause| !fits(pause)) {
            return Err(format!(
                "schedule: {pause:?} is not more than 0 and at most 7 days"
            ));
        }
        Ok(())
    }

    /// The pause after the failed attempt of this number, from 1; `None` when there is no other attempt
    /// before the window's end.
    fn pause(&self, failed_attempt: u32, chance: f64) -> Option<Duration> {
        let failed_before = failed_attempt.saturating_sub(1);
        let (pause, most) = if self.schedule.is_empty() {
            let growth = self.factor.powf(f64::from(failed_before));
            let pause = (self.first.as_secs_f64() * growth).min(self.max.as_secs_f64());
            (pause, self.max)
        } else {
            let pause = *self.schedule.get(usize::try_from(failed_before).ok()?)?;
            (pause.as_secs_f64(), pause)
        };
        let jittered = pause * (1.0 + self.jitter * chance.clamp(0.0, 1.0));
        // Never shorter than it was, whatever the arithmetic of floats makes of it.
        let jittered = Duration::try_from_secs_f64(jittered).unwrap_or(most);
        Some(jittered.max(Duration::try_from_secs_f64(pause).unwrap_or(most)))
    }
}

/// What comes after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one, at this moment.
    At(Millis),
    /// None: the window is over.
    Exhausted,
}

/// When to try again after the attempt of number `failed_attempt`, from 1, which failed `now`.
///
/// `retry_after` is what the target asked for and is never undercut: where it reaches beyond the
/// window there is no further attempt. Otherwise an attempt that would fall beyond the window falls
/// exactly at its end, and is the last. `chance`, from 0 to 1, is this attempt's share of the
/// jitter (see [`chance_of`]).
#[must_use]
pub fn next_attempt(
    policy: &RetryPolicy,
    failed_attempt: u32,
    accepted_at: Millis,
    now: Millis,
    retry_after: Option<Duration>,
    chance: f64,
) -> Next {
    let end = accepted_at.plus(policy.window);
    let asked_for = retry_after.map_or(now, |after| now.plus(after));
    if now.plus(END_MARGIN) >= end || asked_for > end {
        return Next::Exhausted;
    }
    let Some(pause) = policy.pause(failed_attempt, chance) else {
        return Next::At(end);
    };
    // At least a millisecond, so that times increase whatever the policy.
    let pause = pause.max(Duration::from_millis(1));
    Next::At(now.plus(pause).max(asked_for).min(end))
}

/// A number from 0 to 1, without 1, that looks random and is the same each time it is asked for:
/// a step that runs twice schedules the same moment.
#[must_use]
pub fn chance_of(delivery_id: &DeliveryId, attempt: u32) -> f64 {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(delivery_id.as_str().as_bytes());
    context.update(&attempt.to_be_bytes());
    // 53 bits are what a double holds exactly.
    let bits = context.finish().as_ref()[..7]
        .iter()
        .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte))
        >> 3;
    bits as f64 / (1_u64 << 53) as f64
}

/// How long the next delayed message hides a delivery that is due at `due_at`: until then, or as
/// long as a message can be hidden. Whole seconds, rounded up, so that it does not come out early;
/// zero when it is due.
#[must_use]
pub fn hop(now: Millis, due_at: Millis, max_delay: Duration) -> Duration {
    let left = due_at.since(now);
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    Duration::from_secs(seconds).min(max_delay)
}

#[cfg(test)]
mod tests;
