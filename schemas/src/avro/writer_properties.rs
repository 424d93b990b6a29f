//! Any schema, written by `apache-avro`.

use super::library;
use super::tests::write;
use super::writer_tests::{named, record};
use super::*;
use apache_avro::types::Value;
use proptest::prelude::*;
use serde_json::json;

/// A type, with what is needed to write a value of it.
#[derive(Clone, Debug)]
enum Kind {
    Null,
    Boolean,
    Int(i32),
    Long(i64),
    Double(f64),
    Bytes(Vec<u8>),
    Text(String),
    Fixed(Vec<u8>),
    Symbol,
    Array(Box<Kind>, usize),
    Map(Box<Kind>, usize),
    Optional(Box<Kind>, bool),
    Record(Vec<Kind>),
}

impl Kind {
    fn schema(&self, names: &mut usize) -> serde_json::Value {
        *names += 1;
        let name = format!("N{names}");
        match self {
            Self::Null => "null".into(),
            Self::Boolean => "boolean".into(),
            Self::Int(_) => "int".into(),
            Self::Long(_) => "long".into(),
            Self::Double(_) => "double".into(),
            Self::Bytes(_) => "bytes".into(),
            Self::Text(_) => "string".into(),
            Self::Fixed(bytes) => json!({"type": "fixed", "name": name, "size": bytes.len()}),
            Self::Symbol => json!({"type": "enum", "name": name, "symbols": ["x", "y"]}),
            Self::Array(of, _) => json!({"type": "array", "items": of.schema(names)}),
            Self::Map(of, _) => json!({"type": "map", "values": of.schema(names)}),
            Self::Optional(of, _) => json!(["null", of.schema(names)]),
            Self::Record(of) => {
                let field =
                    |(n, kind): (usize, &Self)| json!({"name": format!("f{n}"), "type": kind.schema(names)});
                let fields: Vec<_> = of.iter().enumerate().map(field).collect();
                json!({"type": "record", "name": name, "fields": fields})
            }
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean => Value::Boolean(true),
            Self::Int(int) => Value::Int(*int),
            Self::Long(long) => Value::Long(*long),
            Self::Double(double) => Value::Double(*double),
            Self::Bytes(bytes) => Value::Bytes(bytes.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::Fixed(bytes) => Value::Fixed(bytes.len(), bytes.clone()),
            Self::Symbol => Value::Enum(1, "y".to_owned()),
            Self::Array(of, length) => Value::Array(vec![of.value(); *length]),
            Self::Map(of, length) => {
                Value::Map((0..*length).map(|n| (format!("k{n}"), of.value())).collect())
            }
            Self::Optional(_, false) => Value::Union(0, Box::new(Value::Null)),
            Self::Optional(of, true) => Value::Union(1, Box::new(of.value())),
            Self::Record(of) => Value::Record(
                of.iter()
                    .enumerate()
                    .map(|(n, kind)| (format!("f{n}"), kind.value()))
                    .collect(),
            ),
        }
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..6);
    let leaf = prop_oneof![
        Just(Kind::Null),
        Just(Kind::Boolean),
        Just(Kind::Symbol),
        any::<i32>().prop_map(Kind::Int),
        any::<i64>().prop_map(Kind::Long),
        any::<f64>().prop_map(Kind::Double),
        bytes().prop_map(Kind::Bytes),
        any::<String>().prop_map(Kind::Text),
        bytes().prop_map(Kind::Fixed),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let inner = inner.boxed();
        let plain = inner.clone().prop_filter("no union in a union", |kind| {
            !matches!(kind, Kind::Null | Kind::Optional(..))
        });
        prop_oneof![
            (inner.clone(), 0..3_usize).prop_map(|(of, length)| Kind::Array(Box::new(of), length)),
            (inner.clone(), 0..3_usize).prop_map(|(of, length)| Kind::Map(Box::new(of), length)),
            (plain, any::<bool>()).prop_map(|(of, there)| Kind::Optional(Box::new(of), there)),
            prop::collection::vec(inner, 0..4).prop_map(Kind::Record),
        ]
    })
}

proptest! {
    #[test]
    fn what_the_library_writes_by_any_schema_is_read(
        fields in prop::collection::vec(any_kind(), 2..8),
        event_type in prop_oneof![
            any::<String>().prop_map(Kind::Text),
            Just(Kind::Symbol),
            any::<String>().prop_map(|text| Kind::Optional(Box::new(Kind::Text(text)), true)),
        ],
        payload in prop_oneof![
            any::<String>().prop_map(Kind::Text),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Kind::Bytes),
            any::<String>().prop_map(|text| Kind::Optional(Box::new(Kind::Text(text)), true)),
        ],
        places in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let mut fields: Vec<(String, Kind)> =
            fields.into_iter().enumerate().map(|(n, kind)| (format!("f{n}"), kind)).collect();
        fields.insert(places.0.index(fields.len() + 1), ("type".to_owned(), event_type.clone()));
        fields.insert(places.1.index(fields.len() + 1), ("body".to_owned(), payload.clone()));
        let mut names = 0;
        let described: Vec<String> = fields
            .iter()
            .map(|(name, kind)| json!({"name": name, "type": kind.schema(&mut names)}).to_string())
            .collect();
        let schema = record(&described.join(","));
        let values = fields.iter().map(|(name, kind)| (name.as_str(), kind.value())).collect();
        let datum = Bytes::from(write(&schema, values));
        let text = |kind: &Kind| match library::inner(kind.value()) {
            Value::String(text) | Value::Enum(_, text) => text.into_bytes(),
            Value::Bytes(bytes) => bytes,
            other => panic!("not a text: {other:?}"),
        };
        let writer = WriterSchema::parse(&schema, &named("type", "body")).unwrap();
        let event = writer.read(&datum).unwrap();
        prop_assert_eq!(event.event_type.as_bytes(), text(&event_type));
        prop_assert_eq!(&event.payload[..], text(&payload));
        for length in 0..datum.len() {
            prop_assert_eq!(writer.read(&datum.slice(..length)), Err(DecodeError::Truncated));
        }
        let longer = Bytes::from([&datum[..], &[0]].concat());
        prop_assert_eq!(writer.read(&longer), Err(DecodeError::Trailing(1)));
    }
}
