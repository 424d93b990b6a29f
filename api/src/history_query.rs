//! The questions asked of history: what lists of events and of deliveries may be narrowed by.

use crate::json::Checks;
use crate::page::{Limit, Scope, Scoped, limit, moment, numeric_id};
use crate::problem::Problem;
use platform::history::{DeliveryQuery, EventQuery};
use schemas::delivery::DeliveryStatus;
use schemas::ids::{EventId, TargetId};
use schemas::pattern::check_event_type;
use schemas::time::Millis;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which events to list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// Only events of this type, exactly.
    #[param(example = "core.orders.created.v1")]
    event_type: Option<String>,
    /// `true` for only those that went to nobody; each says why in `unmatched`.
    #[param(value_type = Option<bool>, default = false, example = true)]
    unmatched: Option<String>,
    /// Only events accepted at or after this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T00:00:00Z")]
    from: Option<String>,
    /// Only events accepted before this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250, default = 50, example = 50)]
    limit: Option<String>,
    /// `nextCursor` of the page before.
    #[param(example = "q22w0dPYnxIxNzY3MjI1NTk5MTIzLmV2dF8x")]
    cursor: Option<String>,
    #[serde(skip)]
    scope: Scope,
}

impl Scoped for EventParams {
    fn scoped(&mut self, scope: Scope) {
        self.scope = scope;
    }
}

impl EventParams {
    /// The limit, and the question: for one more than the limit.
    ///
    /// # Errors
    /// 422 with all that are wrong.
    pub fn check(self) -> Result<(Limit, EventQuery), Problem> {
        let mut checks = Checks::default();
        let limit = limit(&mut checks, self.scope, self.limit.as_deref());
        let (from, to) = range(&mut checks, self.from.as_deref(), self.to.as_deref());
        let query = EventQuery {
            event_type: event_type(&mut checks, self.event_type),
            unmatched: match self.unmatched.as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(other) => {
                    checks.fail("unmatched", format!("{other:?} is neither true nor false"));
                    false
                }
            },
            from,
            to,
            limit: limit.rows(),
            after: moment(&mut checks, self.scope, self.cursor.as_deref()),
        };
        checks.finish()?;
        Ok((limit, query))
    }
}

/// Which deliveries to list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryParams {
    /// Only deliveries to this target.
    #[param(value_type = Option<i64>, example = 186_243_735_552_001_i64)]
    target_id: Option<String>,
    /// Only deliveries of this event.
    #[param(example = "evt_01KDJ0W4KZ5QJ6V3T8Y2N7R1MB")]
    event_id: Option<String>,
    /// Only deliveries with this status: `pending`, `retrying`, `delivered`, `exhausted` or `canceled`.
    #[param(example = "exhausted")]
    status: Option<String>,
    /// Only deliveries of events of this type, exactly.
    #[param(example = "core.orders.created.v1")]
    event_type: Option<String>,
    /// Only deliveries of events accepted at or after this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T00:00:00Z")]
    from: Option<String>,
    /// Only deliveries of events accepted before this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250, default = 50, example = 50)]
    limit: Option<String>,
    /// `nextCursor` of the page before.
    #[param(example = "q22w0dPYnxIxNzY3MjI1NTk5MTIzLmRsdl8x")]
    cursor: Option<String>,
    #[serde(skip)]
    scope: Scope,
}

impl Scoped for DeliveryParams {
    fn scoped(&mut self, scope: Scope) {
        self.scope = scope;
    }
}

impl DeliveryParams {
    /// The limit, and the question: for one more than the limit.
    ///
    /// # Errors
    /// 422 with all that are wrong.
    pub fn check(self) -> Result<(Limit, DeliveryQuery), Problem> {
        let mut checks = Checks::default();
        let limit = limit(&mut checks, self.scope, self.limit.as_deref());
        let (from, to) = range(&mut checks, self.from.as_deref(), self.to.as_deref());
        let target = target(&mut checks, self.target_id);
        let event = self
            .event_id
            .map(|text| checks.take("eventId", EventId::new(&text).map(Some)));
        let status = self.status.map(|text| {
            let status = DeliveryStatus::from_word(&text).map(Some);
            checks.take(
                "status",
                status.ok_or_else(|| {
                    format!("{text:?} is none of pending, retrying, delivered, exhausted and canceled")
                }),
            )
        });
        let query = DeliveryQuery {
            target,
            event: event.flatten(),
            status: status.flatten(),
            event_type: event_type(&mut checks, self.event_type),
            from,
            to,
            limit: limit.rows(),
            after: moment(&mut checks, self.scope, self.cursor.as_deref()),
        };
        checks.finish()?;
        Ok((limit, query))
    }
}

/// Which dead letters to list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeadLetterParams {
    /// Only deliveries to this target.
    #[param(value_type = Option<i64>, example = 186_243_735_552_001_i64)]
    target_id: Option<String>,
    /// Only deliveries of events of this type, exactly.
    #[param(example = "core.orders.created.v1")]
    event_type: Option<String>,
    /// Only deliveries of events accepted at or after this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-31T00:00:00Z")]
    from: Option<String>,
    /// Only deliveries of events accepted before this.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// How many items at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250, default = 50, example = 50)]
    limit: Option<String>,
    /// `nextCursor` of the page before.
    #[param(example = "q22w0dPYnxIxNzY3MjI1NTk5MTIzLmRsdl8x")]
    cursor: Option<String>,
    #[serde(skip)]
    scope: Scope,
}

impl Scoped for DeadLetterParams {
    fn scoped(&mut self, scope: Scope) {
        self.scope = scope;
    }
}

impl DeadLetterParams {
    /// The limit, and the question: for one more than the limit.
    ///
    /// # Errors
    /// 422 with all that are wrong.
    pub fn check(self) -> Result<(Limit, DeliveryQuery), Problem> {
        DeliveryParams {
            target_id: self.target_id,
            event_id: None,
            status: Some(DeliveryStatus::Exhausted.as_str().to_owned()),
            event_type: self.event_type,
            from: self.from,
            to: self.to,
            limit: self.limit,
            cursor: self.cursor,
            scope: self.scope,
        }
        .check()
    }
}

/// Checks `targetId`.
pub(crate) fn target(checks: &mut Checks, text: Option<String>) -> Option<TargetId> {
    let id = text.map(|text| {
        let id = numeric_id(&text).map(Some);
        checks.take(
            "targetId",
            id.ok_or_else(|| format!("{text:?} is not a target's id")),
        )
    });
    id.flatten().map(TargetId)
}

/// Checks `eventType`.
pub(crate) fn event_type(checks: &mut Checks, text: Option<String>) -> Option<String> {
    text.map(|text| checks.take("eventType", check_event_type(&text).map(|()| text)))
}

/// Checks `from` and `to`.
pub(crate) fn range(
    checks: &mut Checks,
    from: Option<&str>,
    to: Option<&str>,
) -> (Option<Millis>, Option<Millis>) {
    let mut time = |field: &str, text: Option<&str>| {
        text.and_then(|text| checks.take(field, Millis::parse_rfc3339(text).map(Some)))
    };
    let (from, to) = (time("from", from), time("to", to));
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        checks.fail("to", "is not after from");
    }
    (from, to)
}
