//! Bytes to event, by the framing of the record's topic.

use crate::config::Config;
use crate::poison::Poison;
use crate::registry::{Registry, RegistryError};
use bytes::Bytes;
use platform::config::Topic;
use platform::event_log::Record;
use platform::harness::backoff::Backoff;
use platform::telemetry::Outage;
use schemas::accept::{HeaderFields, accept};
use schemas::avro::{self, DecodeError, Framing, WebhookEvent};
use schemas::event::Event;
use schemas::time::Millis;
use std::collections::HashMap;
use std::sync::Arc;

/// What a record turned out to be.
pub enum Decoded {
    /// An event.
    Event(Event),
    /// Unreadable.
    Poison(Poison),
}

/// A topic that cannot be decoded at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecoderError {
    /// The registry's address is missing or not usable.
    #[error("kafka.schema_registry: {0}")]
    Registry(String),
}

/// The decoders of all event topics.
pub struct TopicDecoders {
    topics: HashMap<Arc<str>, Topic>,
    registry: Option<Registry>,
    outage: Outage,
}

impl TopicDecoders {
    /// Decoders for the configured topics.
    ///
    /// # Errors
    /// When the registry's address is not usable.
    pub fn new(config: &Config) -> Result<Self, DecoderError> {
        let registry = match &config.schema_registry {
            Some(address) => Some(Registry::new(address).map_err(DecoderError::Registry)?),
            None => None,
        };
        let confluent = config
            .topics
            .iter()
            .find(|topic| topic.framing == Framing::Confluent);
        if let (Some(topic), None) = (confluent, &registry) {
            return Err(DecoderError::Registry(format!(
                "is needed: topic {} has framing \"confluent\"; write for example \"http://127.0.0.1:8081\"",
                topic.name
            )));
        }
        let topics = config
            .topics
            .iter()
            .map(|topic| (Arc::from(topic.name.as_str()), topic.clone()))
            .collect();
        Ok(Self {
            topics,
            registry,
            outage: Outage::new("schema registry"),
        })
    }

    /// The topics' names.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.topics.values().map(|topic| topic.name.clone()).collect()
    }

    /// Decodes a record and settles its id, tenant and content type. A registry that is away is
    /// waited for.
    pub async fn decode(&self, record: &Record, now: Millis) -> Decoded {
        let Some(topic) = self.topics.get(&record.position.topic) else {
            return Decoded::Poison(Poison::new(
                "unknown_topic",
                "this topic is not configured".to_owned(),
            ));
        };
        let decoded = match topic.framing {
            Framing::Raw => avro::decode_raw(&record.value).map_err(|error| poison(&error)),
            Framing::SingleObject => {
                avro::decode_single_object(&record.value, &[]).map_err(|error| poison(&error))
            }
            Framing::Confluent => self.decode_confluent(&record.value).await,
        };
        let event = decoded.and_then(|event| {
            let headers = header_fields(record)?;
            accept(
                event,
                &headers,
                &topic.tenant,
                record.position.clone(),
                record.timestamp,
                now,
            )
            .map_err(|error| Poison::new(error.class(), error.to_string()))
        });
        match event {
            Ok(event) => Decoded::Event(event),
            Err(poison) => Decoded::Poison(poison),
        }
    }

    async fn decode_confluent(&self, value: &Bytes) -> Result<WebhookEvent, Poison> {
        let (id, datum) = avro::confluent_schema_id(value).map_err(|error| poison(&error))?;
        let Some(registry) = &self.registry else {
            return Err(Poison::new(
                "unknown_schema",
                format!("schema id {id}: there is no registry"),
            ));
        };
        let mut backoff = Backoff::default();
        let schema = loop {
            match registry.schema(id).await {
                Ok(schema) => break schema,
                Err(RegistryError::Unknown(why)) => return Err(Poison::new("unknown_schema", why)),
                Err(error @ RegistryError::Unavailable(_)) => {
                    self.outage.failed(&error);
                    tokio::time::sleep(backoff.next_pause()).await;
                }
            }
        };
        self.outage.works();
        schema.read(&datum).map_err(|error| poison(&error))
    }
}

fn poison(error: &DecodeError) -> Poison {
    Poison::new(error.class(), error.to_string())
}

fn header_fields(record: &Record) -> Result<HeaderFields<'_>, Poison> {
    let text = |name: &'static str| match record.header(name) {
        None => Ok(None),
        Some(value) => std::str::from_utf8(value)
            .map(Some)
            .map_err(|_| Poison::new("bad_header", format!("header {name} is not UTF-8"))),
    };
    Ok(HeaderFields {
        event_id: text("event-id")?,
        tenant: text("tenant")?,
        content_type: text("content-type")?,
        traceparent: text("traceparent").unwrap_or(None),
    })
}
