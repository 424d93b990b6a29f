//! Due, not due, or given up. Pure.

use platform::delivery_queue::MAX_DELAY;
use schemas::delivery::Delivery;
use schemas::pack;
use schemas::schedule::hop;
use schemas::time::Millis;
use std::time::Duration;

/// What a message of the retry queue needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its attempt is due.
    Dispatch,
    /// Not yet: hidden again for this long.
    Hop(Duration),
    /// There is no next attempt.
    GiveUp,
}

/// What to do with `delivery` at `now`.
#[must_use]
pub fn next_step(delivery: &Delivery, now: Millis) -> Step {
    match delivery.due_at {
        None => Step::GiveUp,
        Some(due_at) if due_at <= now => Step::Dispatch,
        Some(due_at) => Step::Hop(hop(now, due_at, MAX_DELAY)),
    }
}

/// Whether what is due at `due_at` waits so long that it may be packed with others.
#[must_use]
pub fn waits_long(due_at: Millis, now: Millis) -> bool {
    due_at.since(now) > pack::WORTH
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::delivery::Payload;
    use schemas::event::Position;
    use schemas::ids::{EventId, TargetId, Tenant};

    fn waiting(due_at: Option<i64>) -> Delivery {
        Delivery {
            event_id: EventId::new("evt_1").unwrap(),
            original_id: None,
            tenant: Tenant::new("acme").unwrap(),
            target: TargetId(1),
            event_type: "a".into(),
            content_type: "application/json".into(),
            accepted_at: Millis(0),
            traceparent: None,
            position: Position {
                topic: "t".into(),
                partition: 0,
                offset: 0,
            },
            attempt: 2,
            due_at: due_at.map(Millis),
            reason: None,
            resend: None,
            payload: Payload::Logged { at: 0, len: 11 },
        }
    }

    #[test]
    fn due_goes_out_not_due_hops_and_no_time_is_given_up() {
        let now = Millis(1_000_000);
        assert_eq!(next_step(&waiting(Some(1_000_000)), now), Step::Dispatch);
        assert_eq!(next_step(&waiting(Some(999_000)), now), Step::Dispatch);
        assert_eq!(
            next_step(&waiting(Some(1_030_000)), now),
            Step::Hop(Duration::from_secs(30))
        );
        assert_eq!(next_step(&waiting(Some(9_000_000)), now), Step::Hop(MAX_DELAY));
        assert_eq!(next_step(&waiting(None), now), Step::GiveUp);
        assert!(!waits_long(Millis(1_120_000), now) && waits_long(Millis(1_120_001), now));
    }
}
