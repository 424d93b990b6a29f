//! A turn: one replay, worked on until it is done, or others wait.

use super::walk::{Again, Stop, Walk};
use super::{Work, pace};
use platform::catalog::CatalogError;
use platform::delivery_queue::sender::SendError;
use platform::delivery_queue::{OutMessage, QueueName};
use platform::replays::{Replay, ReplayState};
use platform::telemetry::names;
use schemas::delivery::{Delivery, DeliveryStatus, Resend};
use schemas::history::{EventRecord, HistoryRecord};
use schemas::ids::TargetId;
use schemas::rate::RateLimit;
use schemas::target::TargetState;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a turn is when others wait.
const TURN: Duration = Duration::from_secs(5);
/// How often a place is stored while nothing is sent.
const STORE: Duration = Duration::from_secs(1);
/// How long a step may go on when the process is to stop.
const LAST_STEP: Duration = Duration::from_secs(3);
/// How often the lease is renewed, and with it seen whether the replay was stopped: a step may last a minute.
const RENEW: Duration = Duration::from_secs(1);
/// How long a replay rests while something is away.
const REST: Duration = Duration::from_secs(1);

/// How a turn ends.
enum End {
    /// The replay is at its end.
    Replay(ReplayState, Option<String>),
    /// Others are next, or the process stops.
    Turn,
    /// Something is away.
    Away(String),
    /// It was stopped, or another process works on it.
    Lost,
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Away(why) => Self::Away(why),
            Stop::Failed(why) => Self::Replay(ReplayState::Failed, Some(why)),
        }
    }
}

impl From<CatalogError> for End {
    fn from(error: CatalogError) -> Self {
        Self::Away(error.to_string())
    }
}

impl Work {
    /// Works on a replay for a turn, and gives it back.
    pub(super) async fn turn(&self, mut replay: Replay) {
        let (target, id) = (replay.target, replay.id);
        let end = tokio::select! {
            end = self.steps(&mut replay) => end,
            () = self.lost(target, id) => End::Lost,
            () = self.stopped() => End::Turn,
        };
        match end {
            End::Replay(state, why) => {
                tracing::info!(
                    replay = replay.id, target = %target, state = state.as_str(), sent = replay.counts.sent,
                    lost = replay.counts.lost, reason = why.as_deref().unwrap_or(""), "replay ended"
                );
                let ended = self.replays.finish(&self.owner, &replay, state, why.as_deref());
                if let Err(error) = ended.await {
                    // It is done once more, from the last place that was stored.
                    self.stalled.failed(&error);
                }
            }
            End::Away(why) => {
                self.stalled.failed(&why);
                tokio::select! {
                    () = self.shutdown.cancelled() => {}
                    () = tokio::time::sleep(REST) => {}
                }
            }
            End::Turn | End::Lost => {}
        }
        if let Err(error) = self.replays.release(&self.owner, &replay).await {
            tracing::debug!(%error, "a lease on a target is left to run out");
        }
    }

    async fn steps(&self, replay: &mut Replay) -> End {
        match self.try_steps(replay).await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn try_steps(&self, replay: &mut Replay) -> Result<End, End> {
        let begun = Instant::now();
        let mut stored = begun;
        let mut limit = self.rate_limit(replay).await?;
        let mut walk = Walk::open(self, replay).await?;
        while !self.shutdown.is_cancelled() {
            let each = pace::each(self.rate, limit);
            self.queue.room(QueueName::Dispatch).await;
            let reading = self.readers.acquire().await;
            let step_begun = Instant::now();
            let step = walk.next(self, pace::step(each)).await?;
            // As long as it has read, it lets others do.
            let rest = step_begun.elapsed();
            drop(reading);
            // Asked after the step: of a target disabled meanwhile nothing matches, and what did not match for
            // that is not behind us.
            limit = self.rate_limit(replay).await?;
            let count = step.again.len();
            let refused = self.send(replay.target, step.again).await?;
            replay.place = step.place;
            replay.percent = step.percent;
            replay.counts.examined += step.examined;
            replay.counts.sent += count as u64 - refused;
            replay.counts.lost += step.lost + refused;
            if step.done {
                self.pause(step_begun + pace::time_for(count, each)).await;
                return Ok(End::Replay(ReplayState::Done, None));
            }
            if count > 0 || stored.elapsed() > STORE {
                if !self.replays.store(&self.owner, replay).await? {
                    return Ok(End::Lost);
                }
                self.stalled.works();
                stored = Instant::now();
            }
            let paced = step_begun + pace::time_for(count, each);
            self.pause(paced.max(Instant::now() + rest)).await;
            if begun.elapsed() > TURN && self.replays.others_wait(replay).await? {
                break;
            }
        }
        self.replays.store(&self.owner, replay).await?;
        Ok(End::Turn)
    }

    /// The target's limit, if it has one and takes deliveries at all.
    async fn rate_limit(&self, replay: &Replay) -> Result<Option<RateLimit>, End> {
        let failed = |why: String| End::Replay(ReplayState::Failed, Some(why));
        match self
            .catalog
            .catalog()
            .get_target(&replay.tenant, replay.target)
            .await
        {
            Ok(target) if target.state == TargetState::Active => Ok(target.rate_limit),
            Ok(target) => Err(failed(format!(
                "the target is {}: enable it, and ask again",
                target.state.as_str()
            ))),
            Err(CatalogError::NotFound) => Err(failed("the target was deleted".to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends deliveries; how many the queue, or the payload store, will never take. All others are in the
    /// queue when this returns.
    async fn send(&self, target: TargetId, again: Vec<Again>) -> Result<u64, End> {
        let mut refused = 0;
        let mut sending = JoinSet::new();
        for one in again {
            let Ok(payload) = self.spill.place(&one.event, &one.record, 1).await else {
                refused += 1;
                continue;
            };
            let resend = Resend {
                since: self.clock.now(),
                after: one.delivery.map_or(0, |(_, attempts)| attempts),
                buried: one
                    .delivery
                    .is_some_and(|(status, _)| status == DeliveryStatus::Exhausted),
            };
            let delivery = Delivery::again(&one.event, target, payload, resend);
            if one.delivery.is_none() {
                let record = EventRecord::new(&one.event, vec![target]);
                self.reporter.report(HistoryRecord::Event(record));
            }
            let sender = self.sender.clone();
            sending.spawn(async move { sender.send(OutMessage::of(&delivery, Duration::ZERO)).await });
        }
        while let Some(sent) = sending.join_next().await {
            match sent {
                Ok(Ok(())) => {
                    metrics::counter!(names::DELIVERIES_ENQUEUED).increment(1);
                    metrics::counter!(names::DELIVERIES_RESENT).increment(1);
                }
                Ok(Err(SendError::Refused(why))) => {
                    tracing::error!(%why, "the queue refuses a delivery that is sent again");
                    refused += 1;
                }
                // The process is ending: whoever is next begins from the last place that was stored.
                Ok(Err(SendError::Stopped(_))) | Err(_) => return Err(End::Turn),
            }
        }
        Ok(refused)
    }

    async fn pause(&self, until: Instant) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// Keeps the lease; answers when it is another's, or the replay was stopped. While the database is away neither can
    /// happen.
    async fn lost(&self, target: TargetId, replay: i64) {
        loop {
            tokio::time::sleep(RENEW).await;
            if let Ok(false) = self.replays.renew(&self.owner, target, replay).await {
                return;
            }
        }
    }

    /// Answers when the process is to stop, and a step has had time to end.
    async fn stopped(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(LAST_STEP).await;
    }
}
