//! What apache-avro makes of a datum: what ours is held against.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use schemas::avro::{DecodeError, Fields, WebhookEvent, WriterSchema, essence};
use schemas::time::Millis;
use std::io;

/// The most that apache-avro may allocate for a length that a datum declares, in bytes.
const MOST: usize = 64 << 10;

/// The event in a datum, by the writer's schema; `None` where there is none.
pub fn event(writer: &Schema, fields: &Fields, datum: &[u8]) -> Option<WebhookEvent> {
    picked(value(writer, datum)?, fields).ok().flatten()
}

/// A writer's schema, as ours and as apache-avro's.
pub struct Writer {
    /// Ours.
    pub plan: WriterSchema,
    schema: Schema,
    fields: Fields,
    /// Whether apache-avro reads any datum as we do. Blocks may declare a length that is not theirs: we go by it,
    /// and apache-avro by the number of items. It writes none itself.
    blocks: bool,
    /// Whether apache-avro may read: it allocates what a fixed declares.
    small: bool,
}

impl Writer {
    /// `None` where the schema cannot be used.
    pub fn of(json: &str, fields: &Fields) -> Option<Self> {
        let plan = match WriterSchema::parse(json, fields) {
            Ok(plan) => plan,
            Err(error) => {
                assert!(!error.class().is_empty() && !error.to_string().is_empty());
                return None;
            }
        };
        // Unwrap safety: there is a plan, so both took it.
        let essence = essence(json).expect("a schema");
        let text = essence.to_string();
        let again = WriterSchema::parse(&text, fields).map(|again| again.fingerprint().to_vec());
        assert_eq!(again.as_deref(), Ok(plan.fingerprint()));
        Some(Self {
            plan,
            schema: Schema::parse(&essence).expect("a schema"),
            fields: fields.clone(),
            blocks: text.contains(r#""array""#) || text.contains(r#""map""#),
            small: largest(&essence) <= MOST as u64,
        })
    }

    /// Reads a datum, and holds what comes out against apache-avro.
    pub fn read(&self, datum: &Bytes) -> Result<WebhookEvent, DecodeError> {
        let read = self.plan.read(datum);
        if let Ok(event) = &read {
            crate::accepted::settles(event);
        }
        if self.small
            && let Some(value) = value(&self.schema, datum)
            && let Ok(theirs) = picked(value.clone(), &self.fields)
        {
            if !self.blocks {
                assert_eq!(read.as_ref().ok(), theirs.as_ref());
            }
            let writer = GenericDatumWriter::builder(&self.schema).build();
            // Unwrap safety: the schema has been read by.
            if let Ok(written) = writer.expect("a writer").write_value_to_vec(value) {
                assert_eq!(self.plan.read(&written.into()).ok(), theirs);
            }
        }
        read
    }
}

/// The largest number in a schema.
fn largest(of: &serde_json::Value) -> u64 {
    use serde_json::Value::{Array, Number, Object};
    match of {
        Number(number) => number.as_u64().unwrap_or(0),
        Array(items) => items.iter().map(largest).max().unwrap_or(0),
        Object(of) => of.values().map(largest).max().unwrap_or(0),
        _ => 0,
    }
}

/// The whole datum as a value.
fn value(writer: &Schema, datum: &[u8]) -> Option<Value> {
    apache_avro::util::max_allocation_bytes(MOST);
    let mut source = Source {
        rest: datum,
        ended: false,
    };
    let reader = GenericDatumReader::builder(writer).build().ok()?;
    let value = reader.read_value(&mut source).ok()?;
    (!source.ended && source.rest.is_empty()).then_some(value)
}

/// A value of a text is not the text in the datum.
struct NotAsWritten;

/// The event in a record's value, `None` where what it needs is not there or not of its type.
fn picked(value: Value, fields: &Fields) -> Result<Option<WebhookEvent>, NotAsWritten> {
    let Value::Record(values) = value else {
        return Ok(None);
    };
    let mut event = WebhookEvent::default();
    let find = |given: &Option<String>, own: &str| {
        let wanted = given.as_deref().unwrap_or(own);
        let found = values.iter().find(|(name, _)| name == wanted);
        found.map_or(Value::Null, |(_, value)| inner(value.clone()))
    };
    for (given, own) in [(&fields.event_type, "event_type"), (&fields.payload, "payload")] {
        if matches!(find(given, own), Value::Null) {
            return Ok(None);
        }
    }
    for (given, own, to) in [
        (&fields.event_id, "event_id", &mut event.event_id),
        (&fields.tenant, "tenant", &mut event.tenant),
        (&fields.content_type, "content_type", &mut event.content_type),
    ] {
        match text(find(given, own))? {
            Some(text) => *to = text,
            None => return Ok(None),
        }
    }
    match text(find(&fields.event_type, "event_type"))? {
        Some(Some(text)) => event.event_type = text,
        _ => return Ok(None),
    }
    event.payload = match find(&fields.payload, "payload") {
        Value::String(text) => text.into(),
        Value::Bytes(bytes) => bytes.into(),
        _ => return Ok(None),
    };
    event.occurred_at = match find(&fields.occurred_at, "occurred_at") {
        Value::Null => None,
        Value::Int(at) => Some(Millis(at.into())),
        Value::Long(at) | Value::TimestampMillis(at) => Some(Millis(at)),
        Value::TimestampMicros(at) => Some(Millis(at.div_euclid(1_000))),
        Value::TimestampNanos(at) => Some(Millis(at.div_euclid(1_000_000))),
        _ => return Ok(None),
    };
    Ok(Some(event))
}

/// A text, `Some(None)` for null, `None` for another type.
fn text(value: Value) -> Result<Option<Option<String>>, NotAsWritten> {
    Ok(match value {
        Value::Null => Some(None),
        Value::String(text) | Value::Enum(_, text) => Some(Some(text)),
        Value::Bytes(bytes) => String::from_utf8(bytes).ok().map(Some),
        Value::Uuid(_) => return Err(NotAsWritten),
        _ => None,
    })
}

fn inner(value: Value) -> Value {
    match value {
        Value::Union(_, value) => *value,
        other => other,
    }
}

/// The bytes of a datum, as the library reads them.
///
/// Where they end early this fails with an error that is not `UnexpectedEof`: the library takes that one for a null.
struct Source<'a> {
    rest: &'a [u8],
    ended: bool,
}

impl io::Read for Source<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.read_exact(to).map(|()| to.len())
    }

    fn read_exact(&mut self, to: &mut [u8]) -> io::Result<()> {
        match self.rest.split_at_checked(to.len()) {
            Some((head, rest)) => {
                to.copy_from_slice(head);
                self.rest = rest;
                Ok(())
            }
            None => {
                self.ended = true;
                Err(io::Error::other("the datum ends early"))
            }
        }
    }
}
