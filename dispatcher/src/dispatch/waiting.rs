//! A delivery asks for its permit, or waits: which is not an attempt.

use super::{Dispatch, Step, next_try};
use crate::gate::bucket::Rate;
use crate::gate::{Ask, Why};
use crate::permits::{Entrant, Entry, Permit, put_off};
use crate::targets::ReadyTarget;
use platform::delivery_queue::{MAX_DELAY, OutMessage};
use schemas::delivery::Delivery;
use schemas::pack;
use schemas::schedule::{chance_of, hop};
use schemas::time::Millis;
use std::time::Duration;

/// Within this of its end a retry window is over, as in `schemas::schedule`.
const END_MARGIN: Duration = Duration::from_secs(1);
/// When a delivery comes back whose target has yet to prove itself.
pub(super) const UNVERIFIED: Duration = Duration::from_secs(300);
/// The soonest that a delivery comes back which has to wait.
const LEAST_WAIT: Duration = Duration::from_millis(1);

impl Dispatch {
    /// A permit for an attempt, or the step that the delivery takes without one: it waits, at most until its retry
    /// window ends, and is then given up.
    pub(super) async fn permit(
        &self,
        delivery: &Delivery,
        target: &ReadyTarget,
        slow: bool,
    ) -> Result<Permit, Step> {
        let now = self.clock.now();
        let end = self.end(delivery, target);
        let ask = Ask {
            rate: self.rate(target),
            slow,
            returned: delivery.due_at.is_some(),
            left: end.since(now),
            chance: chance_of(&delivery.id(), delivery.attempt),
        };
        let entrant = Entrant {
            target: delivery.target,
            tenant: &delivery.tenant,
            first: delivery.attempt == 1,
            ask,
        };
        let is_over = now.plus(END_MARGIN) >= end;
        Err(match self.permits.enter(entrant).await {
            Entry::In(permit) => return Ok(permit),
            // A last attempt is due at the very end: what finds no place for it then has one more chance.
            Entry::Slow(why, wait) if !(is_over && slow) => {
                put_off(why, 1);
                Step::Slow(OutMessage::of(
                    delivery,
                    wait.min(ask.left).clamp(LEAST_WAIT, MAX_DELAY),
                ))
            }
            Entry::Later(why, wait) if !is_over => {
                put_off(why, 1);
                let due_at = now.plus(wait.max(LEAST_WAIT)).min(end);
                Step::Retry(self.postponed(delivery.clone(), now, due_at))
            }
            Entry::Slow(why, _) | Entry::Later(why, _) => {
                Step::Retry(given_up(delivery.clone(), why.word(), now))
            }
        })
    }

    /// This dispatcher's part of a target's own rate limit.
    pub(super) fn rate(&self, target: &ReadyTarget) -> Option<Rate> {
        let limit = target.details.rate_limit?;
        Some(Rate::share(limit, self.dispatchers))
    }

    /// When a delivery's retry window ends.
    fn end(&self, delivery: &Delivery, target: &ReadyTarget) -> Millis {
        delivery.window_start().plus(self.policy(target).window)
    }

    /// Back for a while: the target has to prove itself first, be it anew at another address.
    pub(super) fn is_unverified(&self, delivery: Delivery, target: &ReadyTarget) -> Step {
        let (now, end) = (self.clock.now(), self.end(&delivery, target));
        if now.plus(END_MARGIN) >= end {
            return Step::Retry(given_up(delivery, "unverified", now));
        }
        put_off(Why::Unverified, 1);
        let due_at = now.plus(UNVERIFIED).min(end);
        Step::Retry(self.postponed(delivery, now, due_at))
    }

    /// Back for a while: what is missing is ours, and no affair of the target's.
    pub(super) fn ours_is_away(&self, delivery: &Delivery) -> Step {
        let chance = chance_of(&delivery.id(), delivery.attempt);
        Step::Slow(OutMessage::of(delivery, self.permits.ours_is_away(chance)))
    }

    /// The message of the same attempt at a later time, for the retry queue. What has so long to wait that it may be
    /// packed is seen there at once: others of its target wait too.
    fn postponed(&self, mut delivery: Delivery, now: Millis, due_at: Millis) -> OutMessage {
        delivery.due_at = Some(due_at);
        let delay = match self.packs && due_at.since(now) > pack::WORTH {
            true => Duration::ZERO,
            false => hop(now, due_at, MAX_DELAY),
        };
        OutMessage::of(&delivery, delay)
    }
}

/// The message of a delivery whose window ended while it waited, for the retry queue: what it tells is the attempts
/// that were made, and why the last of them failed, or `why` there was none.
fn given_up(mut delivery: Delivery, why: &str, now: Millis) -> OutMessage {
    delivery.attempt = delivery.attempt.saturating_sub(1);
    let why = delivery.reason.take().unwrap_or_else(|| why.to_owned());
    next_try(delivery, None, why, now)
}
