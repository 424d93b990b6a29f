//! The `WebhookEvent` schemas, framings, encoding and decoding.
//!
//! Producers write events in Avro, version 1 or 2 of [the schema](SCHEMA_V2), or any schema of
//! their own that Avro resolves to it. How a record says which schema wrote it is its topic's
//! [`Framing`]: a setting, never guessed, since a raw datum may begin with any byte.
//!
//! Versions 1 and 2 have a decoder of their own (`datum`); any other writer's schema becomes a plan
//! once (`writer`). Either slices the payload out of the record: it keeps the whole record in memory.

mod answer;
mod cursor;
mod datum;
mod essence;
mod fields;
mod shape;
mod writer;

pub use answer::schema_in_answer;
pub use essence::essence;
pub use fields::Fields;
pub use writer::{SchemaError, WriterSchema};

use crate::time::Millis;
use bytes::{Buf as _, Bytes};
use serde::{Deserialize, Serialize};

/// Version 1: event type and payload.
pub const SCHEMA_V1: &str = include_str!("../avro/webhook_event_v1.avsc");

/// Version 2, the reader's: all that a record may say.
pub const SCHEMA_V2: &str = include_str!("../avro/webhook_event_v2.avsc");

/// CRC-64-AVRO of version 1's canonical form, little-endian as it stands in a record.
pub const FINGERPRINT_V1: [u8; 8] = [0xE2, 0xDA, 0x5F, 0xF2, 0xA2, 0xA2, 0x0E, 0x9B];

/// CRC-64-AVRO of version 2's canonical form, little-endian as it stands in a record, as Java 1.12 and
/// fastavro compute it: a timestamp in the canonical form is `"long"`.
pub const FINGERPRINT_V2: [u8; 8] = [0x98, 0x6C, 0xFD, 0xAC, 0xEF, 0x2A, 0xA8, 0x30];

/// The same as Rust's and Python's `avro` compute it: there a timestamp is `{"type":"long"}`. The
/// specification can be read either way, so records with either fingerprint are read.
pub const FINGERPRINT_V2_OTHER: [u8; 8] = [0xFA, 0xF6, 0x90, 0xBC, 0xD4, 0xA9, 0x2F, 0x56];

/// What begins a record in single-object encoding, before the fingerprint.
const SINGLE_OBJECT: [u8; 2] = [0xC3, 0x01];

/// What begins a record in Confluent framing, or its header, before the schema id.
const CONFLUENT: u8 = 0;

/// What begins Confluent's header before a schema's GUID.
const CONFLUENT_GUID: u8 = 1;

/// The header that Confluent's clients put a schema's id or GUID in.
pub const SCHEMA_HEADER: &str = "__value_schema_id";

/// An event as a producer wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookEvent {
    /// What happened.
    pub event_type: String,
    /// The body to deliver, byte for byte: whatever the string in the record holds, even where it
    /// is not UTF-8.
    pub payload: Bytes,
    /// The producer's id.
    pub event_id: Option<String>,
    /// Whose event it is.
    pub tenant: Option<String>,
    /// The payload's media type.
    pub content_type: Option<String>,
    /// When it happened.
    pub occurred_at: Option<Millis>,
}

/// How a topic's records say which schema wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// They do not: the bytes are a datum of version 1 or 2.
    Raw,
    /// By fingerprint: `C3 01`, CRC-64-AVRO in 8 bytes little-endian, datum.
    SingleObject,
    /// By a schema registry's id: `00`, id in 4 bytes big-endian, datum.
    Confluent,
    /// By a header: see [`schema_in_header`]. The value is the datum.
    Header,
}

/// How a record names its writer's schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SchemaKey {
    /// Its id in the registry.
    Id(u32),
    /// Its GUID in the registry.
    Guid([u8; 16]),
    /// Its JSON.
    Text(Bytes),
}

impl std::fmt::Display for SchemaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "schema id {id}"),
            Self::Guid(guid) => write!(f, "schema GUID {}", guid_text(guid)),
            Self::Text(_) => f.write_str("the schema in the header"),
        }
    }
}

/// A GUID as registries write it.
#[must_use]
pub fn guid_text(guid: &[u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(*guid));
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

/// A record that is not a `WebhookEvent`. Reading it again will not help. Never shows its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record ends before its datum does, or declares a length beyond its end.
    #[error("the record ends before its datum does")]
    Truncated,
    /// Bytes follow the datum.
    #[error("{0} bytes follow the datum")]
    Trailing(usize),
    /// A text field is not UTF-8.
    #[error("\"{0}\" is not UTF-8")]
    NotUtf8(String),
    /// A length, a number or a union's branch is not valid.
    #[error("\"{0}\" is not valid Avro")]
    Malformed(String),
    /// The record is not framed as its topic's framing says.
    #[error("the record does not {0}, as its topic's framing says")]
    NotFramed(&'static str),
    /// No known schema has this fingerprint.
    #[error("no known schema has the fingerprint {0:016x}")]
    UnknownFingerprint(u64),
    /// The datum lacks what an event is made of; says which field.
    #[error("{0}")]
    Unresolved(String),
}

impl DecodeError {
    /// A short word that never changes, for headers and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Trailing(_) => "trailing_bytes",
            Self::NotUtf8(_) => "not_utf8",
            Self::Malformed(_) => "malformed",
            Self::NotFramed(_) => "not_framed",
            Self::UnknownFingerprint(_) => "unknown_fingerprint",
            Self::Unresolved(_) => "unresolved",
        }
    }
}

/// Writes an event as a raw datum of version 2.
#[must_use]
pub fn encode_v2(event: &WebhookEvent) -> Vec<u8> {
    let mut to = Vec::with_capacity(datum::size_hint(event));
    datum::write_v2(event, &mut to);
    to
}

/// Writes an event of version 2 in single-object encoding.
#[must_use]
pub fn encode_single_object(event: &WebhookEvent) -> Vec<u8> {
    let mut to = Vec::with_capacity(10 + datum::size_hint(event));
    to.extend_from_slice(&SINGLE_OBJECT);
    to.extend_from_slice(&FINGERPRINT_V2);
    datum::write_v2(event, &mut to);
    to
}

/// Takes Confluent framing apart: the writer schema's id in the registry, and the datum.
///
/// # Errors
/// [`DecodeError::NotFramed`] when the record does not begin with a zero byte, and
/// [`DecodeError::Truncated`] when it ends within the id.
pub fn confluent_schema_id(value: &Bytes) -> Result<(u32, Bytes), DecodeError> {
    if value.first().is_some_and(|first| *first != CONFLUENT) {
        return Err(DecodeError::NotFramed("begin with a zero byte and a schema id"));
    }
    if value.len() < 5 {
        return Err(DecodeError::Truncated);
    }
    let id = value.slice(1..).get_u32();
    Ok((id, value.slice(5..)))
}

/// What a header says of a record's schema: `00` and an id in 4 bytes big-endian, `01` and a GUID in 16
/// bytes (as Confluent's clients write them), or else the schema's JSON, which begins with neither.
///
/// # Errors
/// [`DecodeError::NotFramed`] when it is empty, or an id or GUID of another length.
pub fn schema_in_header(header: &Bytes) -> Result<SchemaKey, DecodeError> {
    let wrong = DecodeError::NotFramed(
        "name its writer's schema in a header: 00 and an id of 4 bytes, 01 and a GUID of 16, or the schema's JSON",
    );
    match header.split_first() {
        Some((&CONFLUENT, id)) => id
            .try_into()
            .map(|id| SchemaKey::Id(u32::from_be_bytes(id)))
            .map_err(|_| wrong),
        Some((&CONFLUENT_GUID, guid)) => guid.try_into().map(SchemaKey::Guid).map_err(|_| wrong),
        Some(_) => Ok(SchemaKey::Text(header.clone())),
        None => Err(wrong),
    }
}

/// Reads a datum of version 1 or 2, whichever it is.
///
/// No bytes are a datum of both: version 2 begins with the two fields that are the whole of
/// version 1 and goes on with four unions of at least one byte each. So where the bytes end
/// after the payload it is version 1, and otherwise it must be version 2 to its end.
///
/// # Errors
/// When the bytes are not exactly one datum.
pub fn decode_raw(value: &Bytes) -> Result<WebhookEvent, DecodeError> {
    datum::read(value, datum::Version::Either)
}

/// Reads a record in single-object encoding, of version 1 or 2 or one of `others`.
///
/// # Errors
/// When it is framed otherwise, has an unknown fingerprint, or does not hold exactly one datum.
pub fn decode_single_object(value: &Bytes, others: &[WriterSchema]) -> Result<WebhookEvent, DecodeError> {
    if !value.starts_with(&SINGLE_OBJECT) {
        return Err(DecodeError::NotFramed("begin with C3 01"));
    }
    let fingerprint: [u8; 8] = value
        .get(2..10)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(DecodeError::Truncated)?;
    let datum = value.slice(10..);
    match fingerprint {
        FINGERPRINT_V1 => datum::read(&datum, datum::Version::V1),
        FINGERPRINT_V2 | FINGERPRINT_V2_OTHER => datum::read(&datum, datum::Version::V2),
        other => match others.iter().find(|writer| writer.has_fingerprint(&other)) {
            Some(writer) => writer.read(&datum),
            None => Err(DecodeError::UnknownFingerprint(u64::from_le_bytes(other))),
        },
    }
}

#[cfg(test)]
mod essence_tests;
#[cfg(test)]
mod library;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod writer_properties;
#[cfg(test)]
mod writer_tests;
