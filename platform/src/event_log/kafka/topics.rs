//! Creating topics, and whether they are there.

use super::produce::Producer;
use super::weather::Quiet;
use super::{KafkaConfig, LogError, faults, settings};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the brokers may take to tell what topics there are.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a new topic may take to be known to the brokers.
const CREATION_TIMEOUT: Duration = Duration::from_secs(15);

/// How long to wait before asking again whether a new topic is known.
const CREATION_PAUSE: Duration = Duration::from_millis(50);

/// Creates the topics that do not exist, and waits until they can be used.
pub(super) async fn create(
    config: &KafkaConfig,
    producer: &Arc<Producer>,
    topics: &[String],
) -> Result<(), LogError> {
    if topics.is_empty() {
        return Ok(());
    }
    let admin: AdminClient<Quiet> =
        AdminClient::from_config_and_context(&settings::producer(config), Quiet(producer.weather.clone()))
            .map_err(|error| faults::sort("kafka admin client", &error))?;
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            NewTopic::new(
                topic,
                config.partitions,
                TopicReplication::Fixed(config.replication),
            )
            // The broker's default of 1 MiB would refuse the larger payloads we promise to take.
            .set("max.message.bytes", settings::MAX_RECORD_BYTES)
        })
        .collect();
    let options = AdminOptions::new()
        .request_timeout(Some(CREATION_TIMEOUT))
        .operation_timeout(Some(CREATION_TIMEOUT));
    let results = admin
        .create_topics(&new, &options)
        .await
        .map_err(|error| match faults::code(&error) {
            Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::BrokerTransportFailure) => {
                LogError::Unavailable(producer.unreachable(Some(CREATION_TIMEOUT)))
            }
            Some(_) | None => faults::sort("create topics", &error),
        })?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) if faults::is_refusal(code) => {
                return Err(LogError::Refused(format!("create topic {topic}: {code}")));
            }
            Err((topic, code)) => return Err(LogError::Unavailable(format!("create topic {topic}: {code}"))),
        }
    }
    until_known(producer, topics).await
}

/// A topic is created by one broker and known to the others a moment later.
async fn until_known(producer: &Arc<Producer>, topics: &[String]) -> Result<(), LogError> {
    let deadline = Instant::now() + CREATION_TIMEOUT;
    loop {
        let (asked, names) = (producer.clone(), topics.to_vec());
        match super::blocking(move || check(&asked, &names)).await {
            Err(LogError::Refused(_)) if Instant::now() < deadline => {
                tokio::time::sleep(CREATION_PAUSE).await
            }
            known => return known,
        }
    }
}

/// Whether the brokers answer and have these topics. Blocks.
pub(super) fn check(producer: &Producer, topics: &[String]) -> Result<(), LogError> {
    let client = producer.client()?;
    // All topics: asking for one by name makes librdkafka remember it, also when it is not there.
    let metadata = client
        .client()
        .fetch_metadata(None, METADATA_TIMEOUT)
        .map_err(|error| match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve,
            ) => LogError::Unavailable(producer.unreachable(Some(METADATA_TIMEOUT))),
            Some(_) | None => faults::sort("kafka metadata", &error),
        })?;
    producer.weather.back();
    for topic in topics {
        match metadata.topics().iter().find(|known| known.name() == topic) {
            None => {
                return Err(LogError::Refused(format!(
                    "topic {topic} does not exist; run hookwright provision"
                )));
            }
            Some(known) => {
                if let Some(code) = known.error() {
                    let code = RDKafkaErrorCode::from(code);
                    let text = format!("topic {topic}: {code}");
                    return Err(if faults::is_refusal(code) {
                        LogError::Refused(text)
                    } else {
                        LogError::Unavailable(text)
                    });
                }
            }
        }
    }
    Ok(())
}
