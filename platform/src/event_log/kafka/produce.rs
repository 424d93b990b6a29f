//! Appending: every record is handed to librdkafka, then every acknowledgement awaited.

use super::weather::{Quiet, Weather};
use super::{KafkaConfig, LogError, NewRecord, Position, faults, settings};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::{Delivery, DeliveryFuture};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A client that appends.
pub(super) type Client = FutureProducer<Quiet>;

/// How long an append waits before it asks again for room in a buffer that others have filled.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// Appends records. Makes its client at the first use, and a new one when the old has failed for
/// good: an idempotent producer refuses everything after an error that might break its order.
pub(super) struct Producer {
    pub(super) config: KafkaConfig,
    pub(super) weather: Arc<Weather>,
    client: Mutex<Option<Client>>,
}

impl Producer {
    pub(super) fn new(config: KafkaConfig) -> Self {
        Self {
            config,
            weather: Arc::new(Weather::default()),
            client: Mutex::new(None),
        }
    }

    /// The client, made if need be.
    pub(super) fn client(&self) -> Result<Client, LogError> {
        let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = slot.as_ref() {
            return Ok(client.clone());
        }
        let made =
            Client::from_config_and_context(&settings::producer(&self.config), Quiet(self.weather.clone()))
                .map_err(|error| faults::sort("kafka producer", &error))?;
        *slot = Some(made.clone());
        Ok(made)
    }

    /// Appends records to one topic; the places are in the order given.
    pub(super) async fn append(&self, topic: &str, records: &[NewRecord]) -> Result<Vec<Position>, LogError> {
        let client = self.client()?;
        let name: Arc<str> = Arc::from(topic);
        let mut positions = Vec::with_capacity(records.len());
        let mut waiting: VecDeque<DeliveryFuture> = VecDeque::with_capacity(records.len());
        for record in records {
            let delivery = loop {
                match client
                    .send_result(outgoing(topic, record))
                    .map_err(|(error, _)| error)
                {
                    Ok(delivery) => break delivery,
                    Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {
                        match waiting.pop_front() {
                            Some(oldest) => positions.push(self.acknowledged(&name, oldest).await?),
                            // Full of records of other appends, which leave or expire: librdkafka
                            // has no call that waits for room.
                            None => tokio::time::sleep(ROOM_PAUSE).await,
                        }
                    }
                    Err(error) => return Err(self.fault(topic, &error)),
                }
            };
            waiting.push_back(delivery);
        }
        for delivery in waiting {
            positions.push(self.acknowledged(&name, delivery).await?);
        }
        self.weather.back();
        Ok(positions)
    }

    /// Where a record came to stand, once its replicas have it.
    async fn acknowledged(&self, topic: &Arc<str>, delivery: DeliveryFuture) -> Result<Position, LogError> {
        match delivery.await {
            Ok(Ok(Delivery {
                partition, offset, ..
            })) => Ok(Position {
                topic: topic.clone(),
                partition,
                offset,
            }),
            Ok(Err((error, _record))) => Err(self.fault(topic, &error)),
            Err(_dropped) => Err(LogError::Unavailable(
                "the kafka producer is shutting down".to_owned(),
            )),
        }
    }

    /// The error of a record, and the end of a client that has failed for good.
    fn fault(&self, topic: &str, error: &KafkaError) -> LogError {
        if let KafkaError::MessageProduction(RDKafkaErrorCode::Fatal) = error {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::error!(%error, "kafka producer failed for good; the next append makes a new one");
        }
        if let KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut) = error {
            return LogError::Unavailable(self.unreachable(None));
        }
        faults::sort(&format!("append to topic {topic}"), error)
    }

    /// That no broker answered, and why and in what time, where known.
    pub(super) fn unreachable(&self, tried: Option<Duration>) -> String {
        let cause = self.weather.cause().unwrap_or_else(|| "no answer".to_owned());
        let tried = tried.map_or_else(String::new, |tried| format!(" after {} s", tried.as_secs()));
        format!("cannot reach {} ({cause}{tried})", self.config.brokers)
    }
}

/// A record as librdkafka takes it.
fn outgoing<'a>(topic: &'a str, record: &'a NewRecord) -> FutureRecord<'a, [u8], [u8]> {
    let mut outgoing = FutureRecord::to(topic).payload(record.value.as_ref());
    if let Some(key) = &record.key {
        outgoing = outgoing.key(key.as_ref());
    }
    if record.headers.is_empty() {
        return outgoing;
    }
    let headers = record.headers.iter().fold(
        OwnedHeaders::new_with_capacity(record.headers.len()),
        |headers, (name, value)| {
            headers.insert(Header {
                key: name,
                value: Some(value.as_ref()),
            })
        },
    );
    outgoing.headers(headers)
}
