//! Reading one record back by its place.

use super::weather::Quiet;
use super::{KafkaConfig, LogError, Position, Record, faults, reader, settings};
use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long one record may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many records are read at once. Each has a consumer, made when it is first needed.
const AT_ONCE: usize = 4;

/// Reads records, each with one of a few consumers, kept for the next and thrown away after a fault.
///
/// A partition once read from stays assigned, paused, and the next read of it seeks: librdkafka
/// forgets a partition that is unassigned, and asks where it is, 100 ms later, when it is assigned again.
pub(super) struct Lookup {
    config: KafkaConfig,
    consumers: [Mutex<Option<BaseConsumer<Quiet>>>; AT_ONCE],
    /// Whom to wait for when all are reading.
    turn: AtomicUsize,
}

impl Lookup {
    pub(super) fn new(config: KafkaConfig) -> Self {
        Self {
            config,
            consumers: [const { Mutex::new(None) }; AT_ONCE],
            turn: AtomicUsize::new(0),
        }
    }

    /// A consumer that is not reading: the first such, so that one is made only when it is needed.
    fn seat(&self) -> MutexGuard<'_, Option<BaseConsumer<Quiet>>> {
        for seat in &self.consumers {
            match seat.try_lock() {
                Ok(seat) => return seat,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % AT_ONCE;
        self.consumers[turn]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a record; `None` when the log does not hold it, or not any more. Blocks.
    pub(super) fn read(&self, position: &Position) -> Result<Option<Record>, LogError> {
        let mut slot = self.seat();
        let consumer = match slot.take() {
            Some(consumer) => consumer,
            None => BaseConsumer::from_config_and_context(&settings::lookup(&self.config), Quiet::default())
                .map_err(|error| faults::sort("kafka lookup", &error))?,
        };
        let fault =
            |error: KafkaError| faults::sort(&format!("read back from topic {}", position.topic), &error);
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(
                &position.topic,
                position.partition,
                Offset::Offset(position.offset),
            )
            .map_err(fault)?;
        let deadline = Instant::now() + TIMEOUT;
        go_to(&consumer, &place, deadline).map_err(fault)?;
        let record = read(&consumer, position, deadline)?;
        // Stops librdkafka from fetching on. Where nothing was found it has given the partition up,
        // or may go on looking for an end.
        let stopped = if record.is_some() {
            consumer.pause(&place)
        } else {
            consumer.incremental_unassign(&place)
        };
        if stopped.is_ok() {
            *slot = Some(consumer);
        }
        Ok(record)
    }
}

/// Has the consumer fetch from this place.
fn go_to(consumer: &BaseConsumer<Quiet>, place: &TopicPartitionList, deadline: Instant) -> KafkaResult<()> {
    let assigned = consumer.assignment()?;
    let known = place.elements().iter().all(|wanted| {
        assigned
            .find_partition(wanted.topic(), wanted.partition())
            .is_some()
    });
    if !known {
        return consumer.incremental_assign(place);
    }
    // In this order: librdkafka's broker thread is woken by a seek, but by a resume a second late.
    consumer.resume(place)?;
    let sought =
        consumer.seek_partitions(place.clone(), deadline.saturating_duration_since(Instant::now()))?;
    for partition in sought.elements() {
        partition.error()?;
    }
    Ok(())
}

fn read(
    consumer: &BaseConsumer<Quiet>,
    position: &Position,
    deadline: Instant,
) -> Result<Option<Record>, LogError> {
    let fault = |error: KafkaError| faults::sort(&format!("read back from topic {}", position.topic), &error);
    while Instant::now() < deadline {
        let message = match consumer.poll(deadline.saturating_duration_since(Instant::now())) {
            None => continue,
            Some(Ok(message)) => message,
            // Nothing there yet.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Err(error)) => match error.rdkafka_error_code() {
                // Nothing there any more, or never.
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    return Ok(None);
                }
                Some(code) if faults::is_refusal(code) => return Err(fault(error)),
                // A connection failed: librdkafka makes another.
                Some(_) | None => continue,
            },
        };
        if message.topic() != &*position.topic || message.partition() != position.partition {
            continue;
        }
        // A later one: ours was compacted away.
        return Ok((message.offset() == position.offset).then(|| reader::record(&position.topic, &message)));
    }
    let seconds = TIMEOUT.as_secs();
    let cause = consumer.context().0.cause().unwrap_or_default();
    Err(LogError::Unavailable(format!(
        "no answer within {seconds} s from {} {cause}",
        position.topic
    )))
}
