//! What `apache-avro` makes of a datum, by Avro's schema resolution: what ours is held against.

use super::{DecodeError, SCHEMA_V2, WebhookEvent};
use crate::time::Millis;
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use bytes::Bytes;
use std::io;

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

/// Reads exactly one datum of `writer` and resolves it to version 2.
pub(super) fn read(writer: &Schema, datum: &Bytes) -> Result<WebhookEvent, DecodeError> {
    let mut source = Source {
        rest: datum,
        ended: false,
    };
    // The library's errors may show values: they are not passed on.
    let value = GenericDatumReader::builder(writer)
        .reader_schema(&reader_schema())
        .build()
        .and_then(|datum_reader| datum_reader.read_value(&mut source));
    if source.ended {
        return Err(DecodeError::Truncated);
    }
    let Ok(Value::Record(fields)) = value else {
        return Err(unresolved());
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
            _ => return Err(unresolved()),
        }
    }
    Ok(event)
}

pub(super) fn inner(value: Value) -> Value {
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

/// The library does not say which field it was.
pub(super) fn unresolved() -> DecodeError {
    DecodeError::Unresolved("by the library".to_owned())
}
