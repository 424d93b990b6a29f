//! Reads datums of any writer's schema.
//!
//! The schema becomes a plan once: which fields to step over, and which to take as what. So a
//! record costs one walk over its bytes, and its payload is a slice of it. Types are taken as
//! Avro's schema resolution has it (a string where bytes are wanted and the other way round, an int
//! for a long), and beyond it: an enum's symbol is a text, microseconds and nanoseconds are times.

use super::cursor::Cursor;
use super::essence::essence;
use super::fields::{Fields, Slot};
use super::shape::{Shape, Shapes};
use super::{DecodeError, WebhookEvent};
use crate::time::Millis;
use apache_avro::Schema;
use apache_avro::schema::{RecordSchema, SchemaKind, UuidSchema};
use bytes::Bytes;

/// The most fields that an error names.
const NAMED_FIELDS: usize = 30;

/// A schema that records are written in, and how to read them.
#[derive(Debug)]
pub struct WriterSchema {
    steps: Vec<Step>,
    /// CRC-64-AVRO of the canonical form, little-endian, in the two forms that there are of it.
    fingerprints: [[u8; 8]; 2],
}

/// A schema whose records cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is no Avro schema that can be used; says why.
    #[error("not a usable Avro schema: {0}")]
    Unusable(String),
    /// Its records are no events; says which field is missing or of the wrong type.
    #[error("{0}")]
    Unresolved(String),
}

impl SchemaError {
    /// A short word that never changes, for headers and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unusable(_) => "unknown_schema",
            Self::Unresolved(_) => "unresolved",
        }
    }
}

/// One field of the writer's, or several that are stepped over at once.
#[derive(Debug)]
struct Step {
    field: String,
    act: Act,
}

#[derive(Debug)]
enum Act {
    Skip(Shape),
    Take(Slot, Take),
}

/// A value that is taken, by its type.
#[derive(Debug)]
enum Take {
    Null,
    Bytes,
    Text,
    Symbol(Vec<String>),
    /// A time in this fraction of a millisecond.
    Time(i64),
    Union(Vec<Take>),
    /// A branch that nothing can be made of.
    Unfit,
}

impl WriterSchema {
    /// Parses a schema's JSON. Do so once for each schema, not for each record.
    ///
    /// # Errors
    /// [`SchemaError::Unusable`] when it is no Avro schema, refers to one that it does not hold, or
    /// contains itself (a datum could then be nested deeper than the stack), and
    /// [`SchemaError::Unresolved`] when what it describes lacks what an event is made of.
    pub fn parse(json: &str, fields: &Fields) -> Result<Self, SchemaError> {
        let essence = essence(json).map_err(SchemaError::Unusable)?;
        let schema = Schema::parse(&essence).map_err(|error| SchemaError::Unusable(error.to_string()))?;
        let fingerprints = fingerprints(&schema);
        let Schema::Record(record) = &schema else {
            let found = kind(&schema);
            return Err(SchemaError::Unresolved(format!(
                "the writer's schema is of type {found}; an event is a record"
            )));
        };
        let steps = plan(record, fields)?;
        Ok(Self { steps, fingerprints })
    }

    /// CRC-64-AVRO of its canonical form, little-endian as it stands in a record.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8] {
        &self.fingerprints[0]
    }

    /// Whether this is its fingerprint.
    pub(super) fn has_fingerprint(&self, fingerprint: &[u8]) -> bool {
        self.fingerprints.iter().any(|own| own == fingerprint)
    }

    /// Reads exactly one datum.
    ///
    /// # Errors
    /// When the bytes are no datum of this schema, or what an event needs is null in it.
    pub fn read(&self, datum: &Bytes) -> Result<WebhookEvent, DecodeError> {
        let mut cursor = Cursor::new(datum);
        let mut event = WebhookEvent::default();
        for step in &self.steps {
            match &step.act {
                Act::Skip(shape) => cursor.skip(shape, &step.field)?,
                Act::Take(slot, take) => {
                    if !take.read(*slot, &mut cursor, &step.field, &mut event)? && slot.is_required() {
                        return Err(DecodeError::Unresolved(format!(
                            "\"{}\" is null: there is no event without its {}",
                            step.field,
                            slot.name()
                        )));
                    }
                }
            }
        }
        cursor.end()?;
        Ok(event)
    }
}

impl Take {
    /// Reads a value into its place in the event; answers with whether there was one.
    fn read(
        &self,
        slot: Slot,
        cursor: &mut Cursor<'_>,
        field: &str,
        event: &mut WebhookEvent,
    ) -> Result<bool, DecodeError> {
        let text = match self {
            Self::Null => return Ok(false),
            Self::Union(branches) => return cursor.branch(branches, field)?.read(slot, cursor, field, event),
            Self::Bytes => {
                event.payload = cursor.bytes(field)?;
                return Ok(true);
            }
            Self::Time(fraction) => {
                event.occurred_at = Some(Millis(cursor.long(field)?.div_euclid(*fraction)));
                return Ok(true);
            }
            Self::Unfit => {
                return Err(DecodeError::Unresolved(format!(
                    "\"{field}\" has a value of a type that cannot be the {}",
                    slot.name()
                )));
            }
            Self::Text => cursor.text(field)?,
            Self::Symbol(symbols) => cursor.branch(symbols, field)?.clone(),
        };
        match slot {
            Slot::EventType => event.event_type = text,
            Slot::EventId => event.event_id = Some(text),
            Slot::Tenant => event.tenant = Some(text),
            Slot::ContentType => event.content_type = Some(text),
            // `take` makes no texts for these.
            Slot::Payload | Slot::OccurredAt => {}
        }
        Ok(true)
    }
}

fn plan(record: &RecordSchema, fields: &Fields) -> Result<Vec<Step>, SchemaError> {
    for slot in Slot::ALL {
        let given = fields.named(slot);
        let wanted = given.or(slot.is_required().then(|| slot.name()));
        if let Some(wanted) = wanted
            && !record
                .fields
                .iter()
                .any(|field| fields.slot(&field.name) == Some(slot))
        {
            return Err(missing(record, slot, wanted));
        }
    }
    let mut shapes = Shapes::within(record);
    let mut steps: Vec<Step> = Vec::new();
    for field in &record.fields {
        let shape = shapes.shape(&field.schema).map_err(SchemaError::Unusable)?;
        let act = match fields.slot(&field.name) {
            None => Act::Skip(shape),
            Some(slot) => match take(slot, &field.schema, &shapes) {
                Take::Unfit => return Err(unfit(&field.name, slot, shapes.resolve(&field.schema))),
                Take::Union(branches) if branches.iter().all(Take::is_nothing) => {
                    return Err(unfit(&field.name, slot, &field.schema));
                }
                Take::Null if slot.is_required() => return Err(unfit(&field.name, slot, &field.schema)),
                take => Act::Take(slot, take),
            },
        };
        match (steps.last_mut().map(|step| &mut step.act), act) {
            (_, Act::Skip(Shape::Fixed(0))) => {}
            (Some(Act::Skip(Shape::Fixed(length))), Act::Skip(Shape::Fixed(more))) => {
                *length = length.saturating_add(more);
            }
            (_, act) => steps.push(Step {
                field: field.name.clone(),
                act,
            }),
        }
    }
    Ok(steps)
}

impl Take {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Null | Self::Unfit)
    }
}

/// What a value of this type is to an event.
fn take<'a>(slot: Slot, schema: &'a Schema, shapes: &Shapes<'a>) -> Take {
    match (slot, shapes.resolve(schema)) {
        (_, Schema::Null) => Take::Null,
        (_, Schema::Union(union)) => {
            let branches = union.variants().iter();
            Take::Union(branches.map(|branch| take(slot, branch, shapes)).collect())
        }
        (Slot::Payload, Schema::String | Schema::Bytes) => Take::Bytes,
        (Slot::OccurredAt, Schema::Int | Schema::Long | Schema::TimestampMillis) => Take::Time(1),
        (Slot::OccurredAt, Schema::TimestampMicros) => Take::Time(1_000),
        (Slot::OccurredAt, Schema::TimestampNanos) => Take::Time(1_000_000),
        (Slot::Payload | Slot::OccurredAt, _) => Take::Unfit,
        (_, Schema::String | Schema::Bytes | Schema::Uuid(UuidSchema::String)) => Take::Text,
        (_, Schema::Enum(of)) => Take::Symbol(of.symbols.clone()),
        _ => Take::Unfit,
    }
}

fn missing(record: &RecordSchema, slot: Slot, wanted: &str) -> SchemaError {
    let names: Vec<String> = record
        .fields
        .iter()
        .take(NAMED_FIELDS)
        .map(|field| format!("\"{}\"", field.name))
        .collect();
    let more = match record.fields.len().saturating_sub(NAMED_FIELDS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    SchemaError::Unresolved(format!(
        "the writer's schema has no field \"{wanted}\" for the {slot}; it has {}{more}. \
         The topic's fields.{slot} names the field to take it from",
        names.join(", "),
        slot = slot.name(),
    ))
}

fn unfit(field: &str, slot: Slot, schema: &Schema) -> SchemaError {
    let right = match slot {
        Slot::Payload => "string or bytes",
        Slot::OccurredAt => "long or a timestamp",
        Slot::EventType | Slot::EventId | Slot::Tenant | Slot::ContentType => "string or an enum",
    };
    SchemaError::Unresolved(format!(
        "the writer's field \"{field}\" is of type {}; the {} has to be {right}, or a union with null",
        kind(schema),
        slot.name()
    ))
}

fn kind(schema: &Schema) -> String {
    format!("{:?}", SchemaKind::from(schema)).to_lowercase()
}

/// A timestamp's canonical form is `{"type":"long"}` here, and `"long"` in Java: the specification
/// can be read either way, so both fingerprints count.
fn fingerprints(schema: &Schema) -> [[u8; 8]; 2] {
    let own = schema.canonical_form();
    let mut plain = own.clone();
    for primitive in ["boolean", "int", "long", "float", "double", "bytes", "string"] {
        plain = plain.replace(
            &format!(r#"{{"type":"{primitive}"}}"#),
            &format!("\"{primitive}\""),
        );
    }
    [own, plain].map(|form| crc_64_avro(form.as_bytes()).to_le_bytes())
}

/// CRC-64-AVRO (specification 1.12, "Schema Fingerprints").
fn crc_64_avro(bytes: &[u8]) -> u64 {
    /// The polynomial, and the fingerprint of nothing.
    const EMPTY: u64 = 0xC15D_213A_A4D7_A795;
    bytes.iter().fold(EMPTY, |crc, byte| {
        let mut low = (crc ^ u64::from(*byte)) & 0xFF;
        for _ in 0..8 {
            low = (low >> 1) ^ (EMPTY & (low & 1).wrapping_neg());
        }
        (crc >> 8) ^ low
    })
}
