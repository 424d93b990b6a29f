//! A target's retry policy in the API.

use crate::Config;
use crate::json::Checks;
use crate::text::Span;
use schemas::schedule::{MAX_PAUSES, RetryPolicy};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// How long and how often to keep trying. What is left out is as the server's configuration says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = RetryPolicy)]
pub struct RetryPolicyBody {
    /// Tries end this long after the event was accepted: at most 7 days, and less than payloads are kept
    /// where the event log keeps them (`embedded.retention`).
    #[schema(example = "1day")]
    window: Option<Span>,
    /// The pause after the first failure.
    #[schema(example = "5s")]
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Span>,
    /// Each pause is this many times the one before: 1 to 100.
    #[schema(example = 3.0, minimum = 1, maximum = 100)]
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    /// No pause is longer than this.
    #[schema(example = "4h")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Span>,
    /// A pause is lengthened by up to this share of itself: 0 to 1.
    #[schema(example = 0.2, minimum = 0, maximum = 1)]
    jitter: Option<f64>,
    /// The pauses one by one, in place of `first`, `factor` and `max`: 1 to 100 of them. The attempt after
    /// the last is the one at the window's end.
    #[schema(example = json!(["5s", "5m", "30m", "2h"]), min_items = 1, max_items = 100)]
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<Vec<Span>>,
}

impl From<RetryPolicy> for RetryPolicyBody {
    fn from(policy: RetryPolicy) -> Self {
        let listed = !policy.schedule.is_empty();
        Self {
            window: Some(Span(policy.window)),
            first: (!listed).then_some(Span(policy.first)),
            factor: (!listed).then_some(policy.factor),
            max: (!listed).then_some(Span(policy.max)),
            jitter: Some(policy.jitter),
            schedule: listed.then(|| policy.schedule.into_iter().map(Span).collect()),
        }
    }
}

impl RetryPolicyBody {
    /// Checks the fields, and fills in what is left out.
    pub(crate) fn check(self, checks: &mut Checks, config: &Config) -> RetryPolicy {
        let defaults = &config.retry;
        let schedule = match self.schedule {
            None => Vec::new(),
            Some(_) if self.first.is_some() || self.factor.is_some() || self.max.is_some() => {
                checks.fail(
                    "retryPolicy.schedule",
                    "stands in place of first, factor and max: leave those out",
                );
                Vec::new()
            }
            Some(pauses) if !(1..=MAX_PAUSES).contains(&pauses.len()) => {
                checks.fail(
                    "retryPolicy.schedule",
                    format!("has {} pauses; 1 to {MAX_PAUSES} fit", pauses.len()),
                );
                Vec::new()
            }
            Some(pauses) => pauses
                .into_iter()
                .enumerate()
                .map(|(n, pause)| {
                    checks.take(
                        &format!("retryPolicy.schedule[{n}]"),
                        pause.within(Duration::from_millis(1), config.longest_window),
                    )
                })
                .collect(),
        };
        let mut span = |name: &str, given: Option<Span>, default: Duration, least: Duration| match given {
            None => default,
            Some(span) => checks.take(
                &format!("retryPolicy.{name}"),
                span.within(least, config.longest_window),
            ),
        };
        let policy = RetryPolicy {
            window: span("window", self.window, defaults.window, Duration::from_secs(1)),
            first: span("first", self.first, defaults.first, Duration::from_millis(1)),
            factor: self.factor.unwrap_or(defaults.factor),
            max: span("max", self.max, defaults.max, Duration::from_millis(1)),
            jitter: self.jitter.unwrap_or(defaults.jitter),
            schedule,
        };
        // Written so that a NaN fails too.
        if !(1.0..=100.0).contains(&policy.factor) {
            checks.fail(
                "retryPolicy.factor",
                format!("{} is not between 1 and 100", policy.factor),
            );
        }
        if !(0.0..=1.0).contains(&policy.jitter) {
            checks.fail(
                "retryPolicy.jitter",
                format!("{} is not between 0 and 1", policy.jitter),
            );
        }
        policy
    }
}
