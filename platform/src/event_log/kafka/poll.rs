//! The thread that polls for a reader, and the callbacks that run in its polls.

use super::mailbox::{BATCH_RECORDS, Mailbox};
use super::progress::{Progress, partitions};
use super::reader::record;
use super::weather::Weather;
use super::{DRAIN, LogError, faults};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// How long one poll waits for a record: as long may a store or a close wait to be noticed.
const POLL: Duration = Duration::from_millis(100);

/// How often the thread waits for room, [`POLL`] each time, before it pauses the partitions. Pausing
/// throws away what is fetched already, so it is for a service that takes nothing at all.
const ROOM_WAITS: u32 = 5;

/// How long one poll waits while paused: as long may room go unnoticed.
const PAUSED_POLL: Duration = Duration::from_millis(20);

/// What the callbacks know.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) weather: Weather,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) progress: Arc<Progress>,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Weather::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.weather.error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.weather.back();
        }
        self.progress.learn(&statistics);
    }
}

impl ConsumerContext for Member {
    /// Waits, before partitions go, for their work to be done and its offsets stored: librdkafka
    /// commits these when this returns.
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else {
            return;
        };
        if list.count() == 0 {
            return;
        }
        let taken = partitions(list);
        let drained = self.mailbox.revoked(taken.clone());
        if consumer.assignment_lost() {
            // It has another owner already, and nothing can be committed for it any more.
            tracing::warn!(
                partitions = taken.len(),
                "partitions are lost: the group has given this member up; some records will be seen again"
            );
        } else if !self.mailbox.is_closing() && drained.recv_timeout(DRAIN) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!(
                partitions = taken.len(),
                "partitions leave before their work is done; some records will be seen again"
            );
        }
        self.progress.save(consumer);
        self.progress.revoked(&taken);
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) if list.count() > 0 => {
                // librdkafka keeps a partition paused that left while it was: it would never be read again.
                // Where there is no room now either, the thread pauses it anew.
                if let Err(error) = consumer.resume(list) {
                    tracing::debug!(%error, "partitions could not be resumed");
                }
                let given = partitions(list);
                self.progress.assigned(&given);
                self.mailbox.assigned(given);
            }
            Rebalance::Assign(_) | Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => {
                tracing::warn!(%error, "kafka rebalance failed; librdkafka tries again")
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result
            && error.rdkafka_error_code() != Some(RDKafkaErrorCode::NoOffset)
        {
            tracing::warn!(%error, "offsets were not committed; librdkafka tries again");
        }
    }
}

/// Polls until the reader closes, then commits and leaves the group. Whatever ends it, the reader
/// hears of it.
pub(super) fn run(consumer: BaseConsumer<Member>) {
    let member = consumer.context().clone();
    let _end = End(&member);
    let mut names = Names::default();
    let (mut paused, mut waits) = (false, 0);
    while !member.mailbox.is_closing() {
        member.progress.save(&consumer);
        let wait = if paused { Duration::ZERO } else { POLL };
        if member.mailbox.wait_for_room(wait) {
            waits = 0;
            if paused {
                change(&consumer, Consumer::resume);
                paused = false;
            }
            for poll in 0..BATCH_RECORDS {
                // Wait for the first record only.
                let wait = if poll == 0 { POLL } else { Duration::ZERO };
                if !poll_once(&consumer, &mut names, wait) {
                    break;
                }
            }
        } else if waits < ROOM_WAITS {
            // What is finished meanwhile is not to wait for room.
            waits += 1;
        } else if !member.mailbox.is_closing() {
            // Each time: what was assigned since the last poll is not paused.
            change(&consumer, Consumer::pause);
            paused = true;
            poll_once(&consumer, &mut names, PAUSED_POLL);
        }
        member.mailbox.flush();
    }
    member.progress.save(&consumer);
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => {
            tracing::warn!(%error, "last offsets were not committed; some records will be seen again")
        }
    }
    // Leaves the group, which calls back for a last revocation.
    drop(consumer);
}

/// Takes one record, event or fault; whether there was one.
fn poll_once(consumer: &BaseConsumer<Member>, names: &mut Names, wait: Duration) -> bool {
    let member = consumer.context();
    match consumer.poll(wait) {
        None => false,
        Some(Ok(message)) => {
            let record = record(&names.get(message.topic()), &message);
            member.weather.back();
            member.progress.seen(&record);
            member.mailbox.push(record);
            true
        }
        Some(Err(error)) => {
            if let Some(fault) = lasting(&error) {
                member.mailbox.fail(fault);
            } else {
                tracing::debug!(%error, "kafka consumer reports");
            }
            true
        }
    }
}

/// What of a poll's errors the service has to know; librdkafka gets over the others by itself.
fn lasting(error: &KafkaError) -> Option<LogError> {
    let code = error.rdkafka_error_code()?;
    match code {
        // A topic deleted under us, or not yet known to this broker: it may come back.
        RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition => Some(LogError::Unavailable(error.to_string())),
        // Only with an auto.offset.reset of the user's own.
        RDKafkaErrorCode::AutoOffsetReset => Some(LogError::Refused(error.to_string())),
        RDKafkaErrorCode::Authentication => None,
        RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::UnreleasedInstanceId => {
            Some(LogError::Refused(format!(
                "kafka.instance: another process has this name in the group, or had it and was killed: {error}"
            )))
        }
        code if matches!(error, KafkaError::MessageConsumptionFatal(_)) || faults::is_refusal(code) => {
            Some(LogError::Refused(error.to_string()))
        }
        _ => None,
    }
}

/// Pauses or resumes all that is assigned.
fn change(
    consumer: &BaseConsumer<Member>,
    call: fn(&BaseConsumer<Member>, &TopicPartitionList) -> KafkaResult<()>,
) {
    if let Err(error) = consumer
        .assignment()
        .and_then(|assigned| call(consumer, &assigned))
    {
        tracing::debug!(%error, "partitions could not be paused or resumed");
    }
}

/// Topic names shared by all records of the topic.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn get(&mut self, topic: &str) -> Arc<str> {
        if let Some(name) = self.0.get(topic) {
            return name.clone();
        }
        let name: Arc<str> = Arc::from(topic);
        self.0.insert(name.clone());
        name
    }
}

/// Tells the reader, at the thread's end, that nothing more will come.
struct End<'a>(&'a Member);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0
            .mailbox
            .fail(LogError::Refused("the reader is closed".to_owned()));
    }
}
