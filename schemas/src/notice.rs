//! Operational events: what hookwright itself has to tell a tenant.
//!
//! They are events like all others, of types that begin with `hookwright.`, in the log for the tenant they
//! concern, and delivered to targets that subscribe to them. `*` does not match them
//! ([`pattern`](crate::pattern)). That a delivery of one is given up is told by none: one target that is
//! down would otherwise make events for ever.

use crate::delivery::Delivery;
use crate::ids::{EventId, TargetId};
use crate::time::Millis;
use serde_json::{Value, json};

/// What the types of operational events begin with.
pub const PREFIX: &str = "hookwright.";

/// Whether events of this type are operational.
#[must_use]
pub fn is_operational(event_type: &str) -> bool {
    event_type.starts_with(PREFIX)
}

/// Something to tell a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A delivery was given up: `hookwright.delivery.exhausted`.
    Exhausted {
        /// The delivery's id.
        delivery: String,
        /// Its event.
        event: EventId,
        /// That event's type.
        event_type: String,
        /// Its target.
        target: TargetId,
        /// Attempts made.
        attempts: u32,
        /// Why the last of them failed: a short word such as `http_503`.
        reason: String,
        /// When the event was accepted.
        accepted_at: Millis,
    },
    /// Every delivery to a target has failed for so long that it will be disabled if that goes on:
    /// `hookwright.target.failing`.
    Failing {
        /// The target.
        target: TargetId,
        /// The first failure.
        since: Millis,
        /// Why the latest attempt failed.
        reason: String,
    },
    /// A target was disabled, not by hand: `hookwright.target.disabled`.
    Disabled {
        /// The target.
        target: TargetId,
        /// When.
        at: Millis,
        /// Why, in words.
        reason: String,
    },
}

impl Notice {
    /// That a delivery was given up; `None` if it was of an operational event.
    #[must_use]
    pub fn exhausted(delivery: &Delivery) -> Option<Self> {
        (!is_operational(&delivery.event_type)).then(|| Self::Exhausted {
            delivery: delivery.id().as_str().to_owned(),
            event: delivery.event_id.clone(),
            event_type: delivery.event_type.as_ref().to_owned(),
            target: delivery.target,
            attempts: delivery.attempt,
            reason: delivery.reason.clone().unwrap_or_else(|| "unknown".to_owned()),
            accepted_at: delivery.accepted_at,
        })
    }

    /// The event's type.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Exhausted { .. } => "hookwright.delivery.exhausted",
            Self::Failing { .. } => "hookwright.target.failing",
            Self::Disabled { .. } => "hookwright.target.disabled",
        }
    }

    /// The event's id, derived from what it tells: told twice, it is one event to receivers.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        let told = self.event_type();
        let about = match self {
            Self::Exhausted { delivery, .. } => format!("{told}:{delivery}"),
            Self::Failing { target, since, .. } => format!("{told}:{target}:{}", since.0),
            Self::Disabled { target, at, .. } => format!("{told}:{target}:{}", at.0),
        };
        // A colon fits no id, so that a new one is derived.
        EventId::adopt(&about).0
    }

    /// The event's payload: `type`, `timestamp` and `data`, as Standard Webhooks has it.
    #[must_use]
    pub fn payload(&self, now: Millis) -> String {
        let data: Value = match self {
            Self::Exhausted {
                delivery,
                event,
                event_type,
                target,
                attempts,
                reason,
                accepted_at,
            } => json!({
                "deliveryId": delivery, "eventId": event, "eventType": event_type, "targetId": target.0,
                "attempts": attempts, "reason": reason, "acceptedAt": accepted_at.to_rfc3339(),
            }),
            Self::Failing {
                target,
                since,
                reason,
            } => json!({"targetId": target.0, "failingSince": since.to_rfc3339(), "reason": reason}),
            Self::Disabled { target, at, reason } => {
                json!({"targetId": target.0, "disabledAt": at.to_rfc3339(), "reason": reason})
            }
        };
        json!({"type": self.event_type(), "timestamp": now.to_rfc3339(), "data": data}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Payload;
    use crate::event::Position;
    use crate::ids::Tenant;
    use crate::pattern::check_event_type;

    fn delivery(event_type: &str) -> Delivery {
        Delivery {
            event_id: EventId::new("evt_1").unwrap(),
            original_id: None,
            tenant: Tenant::new("acme").unwrap(),
            target: TargetId(7),
            event_type: event_type.into(),
            content_type: "application/json".into(),
            accepted_at: Millis(1_767_225_599_123),
            traceparent: None,
            position: Position {
                topic: "t".into(),
                partition: 0,
                offset: 0,
            },
            attempt: 14,
            due_at: None,
            resend: None,
            reason: Some("http_503".to_owned()),
            payload: Payload::Logged { at: 0, len: 1 },
        }
    }

    #[test]
    fn a_delivery_given_up_is_told_unless_it_was_to_tell_something_itself() {
        let notice = Notice::exhausted(&delivery("orders.created")).unwrap();
        let told: Value = serde_json::from_str(&notice.payload(Millis(1_767_311_999_123))).unwrap();
        assert_eq!(
            told,
            json!({
                "type": "hookwright.delivery.exhausted", "timestamp": "2026-01-01T23:59:59.123Z",
                "data": {
                    "deliveryId": "dlv_0f2a163e1df6ac11a3fd38aee9c27cc6", "eventId": "evt_1",
                    "eventType": "orders.created", "targetId": 7, "attempts": 14, "reason": "http_503",
                    "acceptedAt": "2025-12-31T23:59:59.123Z",
                },
            })
        );
        for operational in ["hookwright.delivery.exhausted", "hookwright.target.disabled"] {
            assert_eq!(Notice::exhausted(&delivery(operational)), None);
        }
    }

    #[test]
    fn what_is_told_twice_has_one_id_and_what_is_told_anew_another() {
        let disabled = |target, at| Notice::Disabled {
            target: TargetId(target),
            at: Millis(at),
            reason: "gone".to_owned(),
        };
        assert_eq!(disabled(1, 5).event_id(), disabled(1, 5).event_id());
        let failing = Notice::Failing {
            target: TargetId(1),
            since: Millis(5),
            reason: "timeout".to_owned(),
        };
        let ids = [disabled(1, 5), disabled(1, 6), disabled(2, 5), failing.clone()].map(|one| one.event_id());
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 4);
        for notice in [disabled(1, 5), failing] {
            assert_eq!(check_event_type(notice.event_type()), Ok(()));
            assert!(is_operational(notice.event_type()));
        }
    }
}
