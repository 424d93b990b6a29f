//! Reads datums that other schemas wrote, by Avro's schema resolution.

use super::datum::Version;
use super::{DecodeError, FINGERPRINT_V1, FINGERPRINT_V2, FINGERPRINT_V2_OTHER, SCHEMA_V2, WebhookEvent};
use crate::time::Millis;
use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use bytes::Bytes;
use std::io;

/// A schema that records are written in, as a registry hands it out.
#[derive(Debug)]
pub struct WriterSchema {
    schema: Schema,
    known: Option<Version>,
}

impl WriterSchema {
    /// Parses a schema's JSON. Do so once for each schema, not for each record.
    ///
    /// # Errors
    /// When it is no Avro schema, refers to one that it does not hold, or contains itself (a datum
    /// could then be nested deeper than the stack). The message says what is wrong with it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let schema = Schema::parse_str(json).map_err(|error| format!("not a usable Avro schema: {error}"))?;
        if contains_itself(&schema, &mut Vec::new()) {
            return Err("not a usable Avro schema: it contains itself".to_owned());
        }
        let known = known_version(&schema);
        Ok(Self { schema, known })
    }

    /// Which of the two known schemas this is, if it is one.
    pub(super) fn known(&self) -> Option<Version> {
        self.known
    }
}

/// Version 2 with bytes for the payload: a writer's string and a writer's bytes both resolve to
/// that, and bytes need not be UTF-8.
pub(super) fn reader_schema() -> Schema {
    let json = SCHEMA_V2.replacen(
        r#""name": "payload", "type": "string""#,
        r#""name": "payload", "type": "bytes""#,
        1,
    );
    // Unwrap safety: the schema is compiled in, and every test of this module parses it.
    Schema::parse_str(&json).expect("the compiled-in schema parses")
}

/// Reads exactly one datum of `writer` and resolves it to `reader`.
pub(super) fn read(
    writer: &WriterSchema,
    reader: &Schema,
    datum: &Bytes,
) -> Result<WebhookEvent, DecodeError> {
    let mut source = Source {
        rest: datum,
        ended: false,
    };
    // The library's errors may show values: they are not passed on.
    let value = GenericDatumReader::builder(&writer.schema)
        .reader_schema(reader)
        .build()
        .and_then(|datum_reader| datum_reader.read_value(&mut source));
    if source.ended {
        return Err(DecodeError::Truncated);
    }
    let Ok(Value::Record(fields)) = value else {
        return Err(DecodeError::Unresolved);
    };
    if !source.rest.is_empty() {
        return Err(DecodeError::Trailing(source.rest.len()));
    }
    assemble(fields)
}

/// The event in a record that was resolved to [`reader_schema`].
fn assemble(fields: Vec<(String, Value)>) -> Result<WebhookEvent, DecodeError> {
    let mut event = WebhookEvent::default();
    for (name, value) in fields {
        match (name.as_str(), inner(value)) {
            ("event_type", Value::String(text)) => event.event_type = text,
            ("payload", Value::Bytes(bytes)) => event.payload = bytes.into(),
            ("event_id", Value::String(text)) => event.event_id = Some(text),
            ("tenant", Value::String(text)) => event.tenant = Some(text),
            ("content_type", Value::String(text)) => event.content_type = Some(text),
            ("occurred_at", Value::TimestampMillis(at)) => event.occurred_at = Some(Millis(at)),
            ("event_id" | "tenant" | "content_type" | "occurred_at", Value::Null) => {}
            _ => return Err(DecodeError::Unresolved),
        }
    }
    Ok(event)
}

fn inner(value: Value) -> Value {
    match value {
        Value::Union(_, value) => *value,
        other => other,
    }
}

/// The bytes of a datum, as the library reads them.
///
/// Where they end early this fails with an error that is not `UnexpectedEof`: the library takes
/// that one for a null, and would read a datum cut short as an event without its last fields.
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

/// Which known schema has the same binary form and meaning.
fn known_version(schema: &Schema) -> Option<Version> {
    let fingerprint = schema.fingerprint::<Rabin>();
    let is_v2 = fingerprint.bytes == FINGERPRINT_V2 || fingerprint.bytes == FINGERPRINT_V2_OTHER;
    if fingerprint.bytes == FINGERPRINT_V1 {
        Some(Version::V1)
    } else if is_v2 && times_are_millis(schema) {
        Some(Version::V2)
    } else {
        None
    }
}

/// A fingerprint does not cover logical types: microseconds would pass for milliseconds.
fn times_are_millis(schema: &Schema) -> bool {
    let Schema::Record(record) = schema else {
        return false;
    };
    let occurred_at = record.fields.iter().find(|field| field.name == "occurred_at");
    let Some(Schema::Union(union)) = occurred_at.map(|field| &field.schema) else {
        return false;
    };
    matches!(
        union.variants(),
        [Schema::Null, Schema::TimestampMillis | Schema::Long]
    )
}

/// Whether a record occurs within itself. `around` holds the names of the records around `schema`.
fn contains_itself(schema: &Schema, around: &mut Vec<String>) -> bool {
    match schema {
        // A name that is not around was defined, and looked at, earlier on.
        Schema::Ref { name } => around.contains(&name.fullname(None)),
        Schema::Array(array) => contains_itself(&array.items, around),
        Schema::Map(map) => contains_itself(&map.types, around),
        Schema::Union(union) => union
            .variants()
            .iter()
            .any(|variant| contains_itself(variant, around)),
        Schema::Record(record) => {
            around.push(record.name.fullname(None));
            let found = record
                .fields
                .iter()
                .any(|field| contains_itself(&field.schema, around));
            around.pop();
            found
        }
        Schema::Null
        | Schema::Boolean
        | Schema::Int
        | Schema::Long
        | Schema::Float
        | Schema::Double
        | Schema::Bytes
        | Schema::String
        | Schema::Enum(_)
        | Schema::Fixed(_)
        | Schema::Decimal(_)
        | Schema::BigDecimal
        | Schema::Uuid(_)
        | Schema::Date
        | Schema::TimeMillis
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos
        | Schema::Duration(_) => false,
    }
}
