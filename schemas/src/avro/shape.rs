//! How much of a datum a value of some schema takes: all that is needed to step over it.

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, RecordSchema, UuidSchema};
use std::collections::HashMap;
use std::sync::Arc;

/// How deep values may be nested: they are stepped over on the stack.
const MAX_DEPTH: usize = 64;

/// What a value looks like in a datum.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// This many bytes, zero too. No other shape takes none, so that steps end with the bytes.
    Fixed(usize),
    /// A long, an int, or an enum's symbol.
    Long,
    /// A length and that many bytes.
    Sized,
    /// A branch's number and its value.
    Union(Arc<[Shape]>),
    /// One after the other. No two neighbours are fixed, and there are at least two.
    Record(Arc<[Shape]>),
    /// Blocks of items.
    Blocks(Arc<Shape>),
}

/// The shapes of a schema, with what it defines by name. A definition that is used many times is
/// shared, or a small schema could make a huge one of itself.
pub(super) struct Shapes<'a> {
    /// None while the definition is under way: a use within it would have no end.
    known: HashMap<String, Option<(Shape, usize)>>,
    definitions: HashMap<String, &'a Schema>,
}

impl<'a> Shapes<'a> {
    /// For the fields of a record.
    pub(super) fn within(record: &RecordSchema) -> Self {
        Self {
            known: HashMap::from([(record.name.fullname(None), None)]),
            definitions: HashMap::new(),
        }
    }

    /// The shape of a schema, whose definitions are known from then on.
    ///
    /// # Errors
    /// Says what is wrong with the schema.
    pub(super) fn shape(&mut self, schema: &'a Schema) -> Result<Shape, String> {
        self.nested(schema).map(|(shape, _)| shape)
    }

    /// The schema that a name stands for, or the schema itself.
    pub(super) fn resolve(&self, schema: &'a Schema) -> &'a Schema {
        match schema {
            Schema::Ref { name } => self
                .definitions
                .get(&name.fullname(None))
                .copied()
                .unwrap_or(schema),
            other => other,
        }
    }

    /// The shape, and how deep it is nested.
    fn nested(&mut self, schema: &'a Schema) -> Result<(Shape, usize), String> {
        let Some(name) = defined(schema).map(|name| name.fullname(None)) else {
            return self.unnamed(schema);
        };
        self.known.insert(name.clone(), None);
        let shape = self.unnamed(schema)?;
        self.definitions.insert(name.clone(), schema);
        self.known.insert(name, Some(shape.clone()));
        Ok(shape)
    }

    fn unnamed(&mut self, schema: &'a Schema) -> Result<(Shape, usize), String> {
        let plain = |shape| Ok((shape, 0));
        let (shape, depth) = match schema {
            Schema::Null => return plain(Shape::Fixed(0)),
            Schema::Boolean => return plain(Shape::Fixed(1)),
            Schema::Float => return plain(Shape::Fixed(4)),
            Schema::Double => return plain(Shape::Fixed(8)),
            Schema::Int
            | Schema::Long
            | Schema::Enum(_)
            | Schema::Date
            | Schema::TimeMillis
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => return plain(Shape::Long),
            Schema::Bytes
            | Schema::String
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::Bytes | UuidSchema::String) => return plain(Shape::Sized),
            Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                return plain(Shape::Fixed(fixed.size));
            }
            Schema::Decimal(decimal) => {
                return plain(match &decimal.inner {
                    InnerDecimalSchema::Bytes => Shape::Sized,
                    InnerDecimalSchema::Fixed(fixed) => Shape::Fixed(fixed.size),
                });
            }
            Schema::Ref { name } => {
                return match self.known.get(&name.fullname(None)) {
                    Some(Some(known)) => Ok(known.clone()),
                    Some(None) => Err("it contains itself".to_owned()),
                    None => Err(format!(
                        "it refers to {}, which it does not define",
                        name.fullname(None)
                    )),
                };
            }
            Schema::Array(array) => self.blocks(&array.items, |item| item)?,
            Schema::Map(map) => self.blocks(&map.types, |value| record(vec![Shape::Sized, value]))?,
            Schema::Union(union) => {
                let (branches, depth) = self.each(union.variants().iter())?;
                (Shape::Union(branches.into()), depth)
            }
            Schema::Record(of) => {
                let (fields, depth) = self.each(of.fields.iter().map(|field| &field.schema))?;
                (record(fields), depth)
            }
        };
        if depth >= MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        Ok((shape, depth + 1))
    }

    fn blocks(
        &mut self,
        of: &'a Schema,
        item: impl FnOnce(Shape) -> Shape,
    ) -> Result<(Shape, usize), String> {
        let (shape, depth) = self.nested(of)?;
        Ok((Shape::Blocks(Arc::new(item(shape))), depth))
    }

    fn each(&mut self, schemas: impl Iterator<Item = &'a Schema>) -> Result<(Vec<Shape>, usize), String> {
        let (mut shapes, mut deepest) = (Vec::new(), 0);
        for schema in schemas {
            let (shape, depth) = self.nested(schema)?;
            shapes.push(shape);
            deepest = deepest.max(depth);
        }
        Ok((shapes, deepest))
    }
}

/// Values one after the other, as few as possible.
fn record(fields: Vec<Shape>) -> Shape {
    let mut parts: Vec<Shape> = Vec::new();
    for field in fields {
        match (parts.last_mut(), field) {
            (_, Shape::Fixed(0)) => {}
            (Some(Shape::Fixed(length)), Shape::Fixed(more)) => *length = length.saturating_add(more),
            (_, field) => parts.push(field),
        }
    }
    match parts.len() {
        0 => Shape::Fixed(0),
        1 => parts.swap_remove(0),
        _ => Shape::Record(parts.into()),
    }
}

/// The name that a schema defines.
fn defined(schema: &Schema) -> Option<&Name> {
    match schema {
        Schema::Record(record) => Some(&record.name),
        Schema::Enum(of) => Some(&of.name),
        Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
            Some(&fixed.name)
        }
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Fixed(fixed) => Some(&fixed.name),
            InnerDecimalSchema::Bytes => None,
        },
        _ => None,
    }
}
