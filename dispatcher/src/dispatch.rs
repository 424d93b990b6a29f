//! One message from receipt to its next step.

mod packs;
mod waiting;

use crate::client::{Answer, HttpClient};
use crate::gate::Sign;
use crate::payload::{NoPayload, Payloads};
use crate::permits::{Permit, Permits};
use crate::request;
use crate::targets::{ReadyTarget, Targets};
use bytes::Bytes;
use platform::clock::Clock;
use platform::delivery_queue::{InMessage, MAX_DELAY, OutMessage};
use platform::report::Reporter;
use platform::telemetry::{Outage, names};
use schemas::delivery::{Delivery, DeliveryStatus};
use schemas::history::{Attempt, AttemptRecord, HistoryRecord};
use schemas::outcome::{AttemptError, Outcome, judge, reason};
use schemas::pack::{self, Pack};
use schemas::schedule::{Next, RetryPolicy, chance_of, hop, next_attempt};
use schemas::target::TargetState;
use schemas::time::Millis;
use schemas::wire::{self, WireError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a connection and a lookup take.
static MEANS: Outage = Outage::new("files and threads");

/// What happens to a message next. All but `Done` are sent before it is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it was delivered, or its target takes no deliveries.
    Done,
    /// To the retry queue: it failed, or its target is left alone for now; it is due again or given up.
    Retry(OutMessage),
    /// To the slow lane, for a while: there is no permit for it, or something of ours is away. Sent
    /// as a new message: one that is only hidden again counts a receive each time, and ends in the
    /// dead-letter queue of its queue's redrive policy. Not an attempt.
    Slow(OutMessage),
    /// To the dead-letter queue as it is: it cannot be read.
    DeadLetter(OutMessage),
}

/// The stages of an attempt.
pub struct Dispatch {
    /// Where to.
    pub targets: Targets,
    /// What.
    pub payloads: Payloads,
    /// How.
    pub client: Arc<HttpClient>,
    /// When: how much may be attempted at once, and what is left alone.
    pub permits: Arc<Permits>,
    /// History.
    pub reporter: Reporter,
    /// The time.
    pub clock: Clock,
    /// The policy of targets that have none of their own.
    pub retry: RetryPolicy,
    /// A target's `Retry-After` is honoured up to this.
    pub retry_after_cap: Duration,
    /// The time limit of targets that have none of their own.
    pub timeout: Duration,
    /// Whether what waits long is packed in the retry queue.
    pub packs: bool,
    /// How many dispatchers share the targets' rate limits.
    pub dispatchers: u32,
    /// The name that we go by with targets.
    pub origin: Option<String>,
}

impl Dispatch {
    /// Takes one message, of the slow lane or not, to its next step. Waiting is not an attempt: only a request
    /// that was begun, or could not be begun because of the target, counts.
    pub async fn message(&self, message: &InMessage, slow: bool) -> Step {
        let delivery = match wire::decode(message.body.clone(), &message.attribute) {
            Ok(delivery) => delivery,
            Err(WireError::UnknownVersion(pack::VERSION))
                if let Ok(pack) = Pack::from_attribute(&message.attribute) =>
            {
                return self.pack(pack).await;
            }
            Err(error) => {
                tracing::error!(%error, "unreadable message goes to the dead-letter queue");
                return Step::DeadLetter(OutMessage::unreadable(
                    message.body.clone(),
                    message.attribute.clone(),
                ));
            }
        };
        let target = match self.targets.get(delivery.target).await {
            Ok(Some(target)) if target.details.state == TargetState::Active => target,
            Ok(Some(target)) if target.details.state == TargetState::Unverified => {
                return self.is_unverified(delivery, &target);
            }
            Ok(Some(_) | None) => {
                self.ended(&delivery, DeliveryStatus::Canceled);
                return Step::Done;
            }
            Err(error) => {
                tracing::debug!(%error, "target not known and catalog away; postponed");
                return self.ours_is_away(&delivery);
            }
        };
        // Belt and braces: a delivery never reaches another tenant's target.
        if target.details.tenant != delivery.tenant {
            tracing::error!(delivery = %delivery.id(), "the target belongs to another tenant; canceled");
            self.ended(&delivery, DeliveryStatus::Canceled);
            return Step::Done;
        }
        let permit = match self.permit(&delivery, &target, slow).await {
            Ok(permit) => permit,
            Err(step) => return step,
        };
        match self.payloads.fetch(&delivery).await {
            Ok(payload) => self.attempt(delivery, &target, payload, permit).await,
            Err(NoPayload::Away(why)) => {
                tracing::debug!(%why, "payload not to be had now; postponed");
                self.ours_is_away(&delivery)
            }
            Err(NoPayload::Lost(why)) => {
                tracing::error!(delivery = %delivery.id(), %why, "the payload is lost; the delivery is given up");
                self.after(
                    delivery,
                    &target,
                    Err(AttemptError::PayloadMissing),
                    self.clock.now(),
                    Duration::ZERO,
                    permit,
                )
                .await
            }
        }
    }

    fn policy<'t>(&'t self, target: &'t ReadyTarget) -> &'t RetryPolicy {
        target.details.retry.as_ref().unwrap_or(&self.retry)
    }

    async fn attempt(
        &self,
        delivery: Delivery,
        target: &ReadyTarget,
        payload: Bytes,
        permit: Permit,
    ) -> Step {
        let started_at = self.clock.now();
        let started = Instant::now();
        let answer = match request::build(target, &delivery, payload, started_at, self.origin.as_deref()) {
            Some(request) => {
                metrics::gauge!(names::INFLIGHT_DELIVERIES).increment(1.0);
                let timeout = target.details.timeout.unwrap_or(self.timeout);
                let answer = self.client.post(request, target.tls.as_ref(), timeout).await;
                metrics::gauge!(names::INFLIGHT_DELIVERIES).decrement(1.0);
                answer
            }
            None => Err(AttemptError::Blocked),
        };
        self.after(delivery, target, answer, started_at, started.elapsed(), permit)
            .await
    }

    /// Judges an answer, reports it, and says what comes next.
    async fn after(
        &self,
        delivery: Delivery,
        target: &ReadyTarget,
        answer: Result<Answer, AttemptError>,
        started_at: Millis,
        took: Duration,
        permit: Permit,
    ) -> Step {
        let now = self.clock.now();
        let seen = answer
            .as_ref()
            .map(|answer| (answer.status, answer.retry_after.as_deref()))
            .map_err(|error| *error);
        let outcome = judge(seen, now, self.retry_after_cap);
        let asks = match outcome {
            Outcome::Retry { after } => after,
            Outcome::Delivered | Outcome::Gone | Outcome::Rejected | Outcome::NotAsked => None,
        };
        permit.end(Sign::of(seen.map(|(status, _)| status)), asks);
        let number = delivery.attempt;
        let mut record = AttemptRecord::new(&delivery, DeliveryStatus::Delivered, number, now);
        let why = reason(seen.map(|(status, _)| status));
        let (word, step) = match outcome {
            Outcome::Delivered => {
                metrics::histogram!(names::DELIVERY_LATENCY)
                    .record(now.since(delivery.window_start()).as_secs_f64());
                ("delivered", Step::Done)
            }
            Outcome::Retry { after } => {
                let policy = self.policy(target);
                let chance = chance_of(&delivery.id(), number);
                let (tried, start) = (delivery.attempt_in_window(), delivery.window_start());
                let next = next_attempt(policy, tried, start, now, after, chance);
                let due_at = match next {
                    Next::At(due_at) => Some(due_at),
                    Next::Exhausted => None,
                };
                // Given up: the retry manager, which buries it, writes that end to history.
                record.status = DeliveryStatus::Retrying;
                record.next_at = due_at;
                ("retry", Step::Retry(next_try(delivery, due_at, why, now)))
            }
            Outcome::Gone => {
                record.status = DeliveryStatus::Canceled;
                Box::pin(self.disable(target)).await;
                ("gone", Step::Done)
            }
            Outcome::NotAsked => {
                MEANS.failed(
                    &"none is left for a connection or a lookup: raise the number of open files (`ulimit -n`, \
                      LimitNOFILE), or see to the name servers",
                );
                return self.ours_is_away(&delivery);
            }
            Outcome::Rejected => {
                record.status = DeliveryStatus::Retrying;
                ("rejected", Step::Retry(next_try(delivery, None, why, now)))
            }
        };
        MEANS.works();
        metrics::histogram!(names::ATTEMPT_DURATION).record(took.as_secs_f64());
        metrics::counter!(names::ATTEMPTS, "outcome" => word).increment(1);
        record.attempt = Some(told(answer, started_at, took));
        self.reporter.report(HistoryRecord::Attempt(record));
        step
    }

    /// The target says it is gone for good (410): it gets nothing more.
    async fn disable(&self, target: &ReadyTarget) {
        match self
            .targets
            .catalog()
            .catalog()
            .disable_target(target.details.id, "the target answered 410 Gone")
            .await
        {
            Ok(true) => tracing::info!(target = %target.details.id, "target answered 410 and is disabled"),
            Ok(false) => {}
            // It will answer 410 to the next delivery too.
            Err(error) => {
                tracing::warn!(target = %target.details.id, %error, "target answered 410 and could not be disabled")
            }
        }
    }

    /// Reports a delivery that ends without an attempt.
    fn ended(&self, delivery: &Delivery, status: DeliveryStatus) {
        let made = delivery.attempt.saturating_sub(1);
        let record = AttemptRecord::new(delivery, status, made, self.clock.now());
        self.reporter.report(HistoryRecord::Attempt(record));
    }
}

/// The message of the next attempt, for the retry queue; without `due_at` there is none, and the
/// retry manager gives the delivery up.
fn next_try(mut delivery: Delivery, due_at: Option<Millis>, why: String, now: Millis) -> OutMessage {
    if due_at.is_some() {
        delivery.attempt += 1;
    }
    delivery.due_at = due_at;
    delivery.reason = Some(why);
    let delay = due_at.map_or(Duration::ZERO, |due_at| hop(now, due_at, MAX_DELAY));
    OutMessage::of(&delivery, delay)
}

/// An attempt as history keeps it.
fn told(answer: Result<Answer, AttemptError>, started_at: Millis, took: Duration) -> Attempt {
    let duration_ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
    match answer {
        Ok(answer) => Attempt {
            started_at,
            duration_ms,
            status_code: Some(answer.status),
            error: None,
            response: answer.excerpt,
            headers: answer.headers,
        },
        Err(error) => Attempt {
            started_at,
            duration_ms,
            status_code: None,
            error: Some(error.word().to_owned()),
            response: None,
            headers: Vec::new(),
        },
    }
}
