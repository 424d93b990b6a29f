//! Bytes to event, by the framing of the record's topic.

use crate::poison::Poison;
use crate::registry::Registry;
use crate::writers::{WriterError, Writers};
use bytes::Bytes;
use platform::config::{SchemaRegistry, Topic};
use platform::event_log::Record;
use platform::harness::backoff::Backoff;
use platform::telemetry::Outage;
use schemas::accept::{HeaderFields, accept};
use schemas::avro::{self, DecodeError, Framing, SCHEMA_HEADER, SchemaKey, WebhookEvent, WriterSchema};
use schemas::dead_letter::ORIGIN;
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

/// A topic that cannot be decoded at all: the key, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecoderError(String);

/// How one topic is read.
struct TopicDecoder {
    /// Tells it from the others.
    number: usize,
    topic: Topic,
    /// The schemas of files.
    schemas: Vec<WriterSchema>,
}

/// The decoders of all event topics.
pub struct TopicDecoders {
    topics: HashMap<Arc<str>, TopicDecoder>,
    writers: Writers,
    outage: Outage,
}

impl TopicDecoders {
    /// Decoders for the configured topics. Reads the files that they name.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn new(topics: &[Topic], registry: Option<&SchemaRegistry>) -> Result<Self, DecoderError> {
        let registry = match registry {
            Some(settings) => Some(Registry::new(settings).map_err(DecoderError)?),
            None => None,
        };
        let mut decoders = HashMap::new();
        for (number, topic) in topics.iter().enumerate() {
            let decoder = TopicDecoder {
                number,
                topic: topic.clone(),
                schemas: schemas_of(topic)?,
            };
            decoders.insert(Arc::from(topic.name.as_str()), decoder);
        }
        Ok(Self {
            topics: decoders,
            writers: Writers::new(registry),
            outage: Outage::new("schema registry"),
        })
    }

    /// The topics' names.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.topics.keys().map(|name| name.to_string()).collect()
    }

    /// Decodes a record and settles its id, tenant and content type; `None` where its schema has to be
    /// asked for.
    pub fn decode_now(&self, record: &Record, now: Millis) -> Option<Decoded> {
        let Some(decoder) = self.topics.get(&record.position.topic) else {
            return Some(unknown_topic());
        };
        let topic = &decoder.topic;
        let value = &record.value;
        let read = match topic.framing {
            Framing::Raw => match decoder.schemas.first() {
                Some(writer) => writer.read(value),
                None => avro::decode_raw(value),
            }
            .map_err(|error| poison(&error)),
            Framing::SingleObject => {
                avro::decode_single_object(value, &decoder.schemas).map_err(|error| poison(&error))
            }
            Framing::Confluent | Framing::Header => match named_schema(topic, record) {
                Ok((key, datum)) => {
                    let schema = self.writers.known(decoder.number, key)?;
                    schema.read(&datum).map_err(|error| poison(&error))
                }
                Err(poison) => Err(poison),
            },
        };
        Some(settled(read, topic, record, now))
    }

    /// The same, where a registry that is away is waited for.
    pub async fn decode(&self, record: &Record, now: Millis) -> Decoded {
        if let Some(decoded) = self.decode_now(record, now) {
            return decoded;
        }
        let Some(decoder) = self.topics.get(&record.position.topic) else {
            return unknown_topic();
        };
        let read = match named_schema(&decoder.topic, record) {
            Ok((key, datum)) => self.by_writer(decoder, key, &datum).await,
            Err(poison) => Err(poison),
        };
        settled(read, &decoder.topic, record, now)
    }

    async fn by_writer(
        &self,
        decoder: &TopicDecoder,
        key: SchemaKey,
        datum: &Bytes,
    ) -> Result<WebhookEvent, Poison> {
        let in_registry = !matches!(key, SchemaKey::Text(_));
        let mut backoff = Backoff::default();
        let schema = loop {
            match self
                .writers
                .schema(decoder.number, &decoder.topic.fields, key.clone())
                .await
            {
                Ok(schema) => break schema,
                Err(WriterError::Unusable(class, why)) => return Err(Poison::new(class, why)),
                Err(error @ WriterError::Unavailable(_)) => {
                    self.outage.failed(&error);
                    tokio::time::sleep(backoff.next_pause()).await;
                }
            }
        };
        if in_registry {
            self.outage.works();
        }
        schema.read(datum).map_err(|error| poison(&error))
    }
}

/// The schemas of the files that a topic names.
fn schemas_of(topic: &Topic) -> Result<Vec<WriterSchema>, DecoderError> {
    let mut schemas = Vec::new();
    for file in &topic.schemas {
        let wrong = |why: &str| {
            DecoderError(format!(
                "events.topics.schemas: topic {}: {}: {why}",
                topic.name,
                file.display()
            ))
        };
        let json = std::fs::read_to_string(file).map_err(|error| wrong(&platform::plain::io(&error)))?;
        let schema = WriterSchema::parse(&json, &topic.fields).map_err(|error| wrong(&error.to_string()))?;
        schemas.push(schema);
    }
    Ok(schemas)
}

fn unknown_topic() -> Decoded {
    Decoded::Poison(Poison::new(
        "unknown_topic",
        "this topic is not configured".to_owned(),
    ))
}

/// The schema that a record names, and its datum.
fn named_schema(topic: &Topic, record: &Record) -> Result<(SchemaKey, Bytes), Poison> {
    if topic.framing == Framing::Header {
        return Ok((key_in_header(topic, record)?, record.value.clone()));
    }
    let (id, datum) = avro::confluent_schema_id(&record.value).map_err(|error| poison(&error))?;
    Ok((SchemaKey::Id(id), datum))
}

/// What was read as an event, with what its headers and its place say.
fn settled(read: Result<WebhookEvent, Poison>, topic: &Topic, record: &Record, now: Millis) -> Decoded {
    let event = read.and_then(|event| {
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

fn key_in_header(topic: &Topic, record: &Record) -> Result<SchemaKey, Poison> {
    let name = topic.schema_header.as_deref().unwrap_or(SCHEMA_HEADER);
    match record.header(name) {
        Some(header) => avro::schema_in_header(header).map_err(|error| poison(&error)),
        None => Err(Poison::new(
            "not_framed",
            format!("there is no header {name}, which names the writer's schema"),
        )),
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
        origin: text(ORIGIN).unwrap_or(None),
    })
}
