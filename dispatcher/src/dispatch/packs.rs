//! A pack whose first delivery is due asks once for all that are in it. While its target is left alone it waits on as
//! it is; what may leave it is sent to the dispatch queue by the retry manager, which has its object.

use super::waiting::UNVERIFIED;
use super::{Dispatch, Step};
use crate::gate::{Ask, Together, Why};
use crate::permits::put_off;
use crate::targets::ReadyTarget;
use platform::delivery_queue::{MAX_DELAY, OutMessage};
use platform::secrets::random_bytes;
use schemas::pack::{Out, Pack};
use schemas::schedule::hop;
use schemas::target::TargetState;
use schemas::time::Millis;
use std::time::Duration;

impl Dispatch {
    /// What of a pack may leave it, and when the rest asks again. Not an attempt of any of them.
    pub(super) async fn pack(&self, pack: Pack) -> Step {
        let now = self.clock.now();
        let chance = f64::from(u32::from_be_bytes(random_bytes())) / f64::from(u32::MAX);
        let answer = match self.targets.get(pack.target).await {
            Ok(Some(target)) if target.details.tenant == pack.tenant => {
                self.answer(&pack, &target, now, chance)
            }
            // Each of them is ended by itself.
            Ok(_) => Answer::all(now),
            Err(error) => {
                tracing::debug!(%error, "target not known and catalog away; postponed");
                Answer {
                    out: None,
                    again: now.plus(self.permits.ours_is_away(chance)),
                }
            }
        };
        Step::Retry(told(pack, answer, now))
    }

    fn answer(&self, pack: &Pack, target: &ReadyTarget, now: Millis, chance: f64) -> Answer {
        let may = |left| match target.details.state {
            TargetState::Active => {
                let ask = Ask {
                    rate: self.rate(target),
                    slow: false,
                    returned: true,
                    left,
                    chance,
                };
                self.permits.together(pack.target, &ask, pack.waiting())
            }
            TargetState::Unverified => Together::Later(Why::Unverified, UNVERIFIED),
            // Each of them is ended by itself.
            TargetState::Disabled => Together::Come,
        };
        let (answer, why) = decide(pack, self.policy(target).window, now, may);
        if let Some(why) = why {
            let leave = answer.out.map_or(0, |out| out.most);
            put_off(why, pack.waiting().saturating_sub(leave));
        }
        answer
    }
}

/// What a pack is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    /// Which may leave it.
    out: Option<Out>,
    /// When the rest asks again.
    again: Millis,
}

impl Answer {
    fn all(now: Millis) -> Self {
        Self {
            out: Some(Out::ALL),
            again: now,
        }
    }
}

/// What a pack is told whose target has this retry window, and why some have to wait; `may` says whether its target is
/// left alone, and is told how long the oldest has left. Pure but for that.
fn decide(
    pack: &Pack,
    window: Duration,
    now: Millis,
    may: impl FnOnce(Duration) -> Together,
) -> (Answer, Option<Why>) {
    let (end, soon) = (pack.since.plus(window), now.plus(MAX_DELAY));
    // Where a window ends is each one's own matter: those that come to it soon wait for it by themselves.
    if end <= soon {
        let out = Some(Out::those(soon.minus(window)));
        return (Answer { out, again: now }, None);
    }
    let (out, why, wait) = match may(end.since(now)) {
        Together::Come => return (Answer::all(now), None),
        Together::One(why, wait) => (Some(Out::ONE), why, wait),
        Together::Later(why, wait) => (None, why, wait),
    };
    let again = now.plus(wait).min(end.minus(MAX_DELAY));
    (Answer { out, again }, Some(why))
}

/// The message of a pack that was answered, for the retry queue: seen there at once if any may leave.
fn told(mut pack: Pack, answer: Answer, now: Millis) -> OutMessage {
    (pack.out, pack.due_at) = (answer.out, answer.again);
    let delay = match pack.out {
        Some(_) => Duration::ZERO,
        None => hop(now, pack.due_at, MAX_DELAY),
    };
    OutMessage::of_pack(&pack, delay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::delivery::PayloadPointer;
    use schemas::ids::{TargetId, Tenant, sha256_hex};

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Millis = Millis(1_767_225_599_123);

    /// A pack of a thousand, the oldest of which is so old.
    fn pack(age: Duration) -> Pack {
        Pack {
            tenant: Tenant::new("acme").unwrap(),
            target: TargetId(7),
            due_at: NOW,
            count: 1_000,
            object: PayloadPointer {
                bucket: "b".to_owned(),
                key: "k".to_owned(),
                size: 0,
                sha256: sha256_hex(b""),
            },
            since: NOW.minus(age),
            left: 0,
            out: None,
        }
    }

    #[test]
    fn a_pack_waits_as_its_target_is_left_alone_and_one_of_it_goes_as_a_probe() {
        let asked = |may| decide(&pack(HOUR), HOUR * 24, NOW, |_| may);
        assert_eq!(asked(Together::Come), (Answer::all(NOW), None));
        let again = NOW.plus(HOUR / 2);
        for (may, out) in [
            (Together::Later(Why::Breaker, HOUR / 2), None),
            (Together::One(Why::Breaker, HOUR / 2), Some(Out::ONE)),
        ] {
            assert_eq!(asked(may), (Answer { out, again }, Some(Why::Breaker)));
        }
    }

    #[test]
    fn who_is_near_the_end_of_its_window_leaves_in_time_whatever_its_target_does() {
        let quarter = HOUR / 4;
        let window = HOUR * 24;
        let asked = |age| {
            decide(&pack(age), window, NOW, |left| {
                assert_eq!(left, window - age);
                Together::Later(Why::RetryAfter, HOUR * 9)
            })
        };
        let (answer, why) = asked(HOUR * 23);
        assert_eq!(
            (answer.out, answer.again, why),
            (None, NOW.plus(HOUR - quarter), Some(Why::RetryAfter)),
            "back when the oldest has a quarter of an hour left"
        );
        let near = |age: Duration| {
            let never = |_| -> Together { panic!("nobody is asked") };
            decide(&pack(age), window, NOW, never).0
        };
        for age in [window - quarter, window, HOUR * 100] {
            let out = Out::those(NOW.minus(window - quarter));
            assert_eq!(
                near(age),
                Answer {
                    out: Some(out),
                    again: NOW
                }
            );
            assert!(pack(age).since <= out.until, "the oldest leaves");
        }
    }

    #[test]
    fn what_may_leave_is_seen_to_at_once_and_the_rest_hops() {
        let told = |out| {
            let again = NOW.plus(HOUR);
            let message = told(pack(HOUR), Answer { out, again }, NOW);
            let read = Pack::from_attribute(&message.attribute).unwrap();
            assert_eq!((read.out, read.due_at), (out, again));
            message.delay
        };
        assert_eq!(told(Some(Out::ONE)), Duration::ZERO);
        assert_eq!(told(None), MAX_DELAY);
    }
}
