//! Records of schemas that others have written.

use crate::divided;
use crate::library::Writer;
use bytes::Bytes;
use schemas::avro::{
    DecodeError, Fields, SCHEMA_V2, SchemaKey, confluent_schema_id, schema_in_answer, schema_in_header,
};
use std::sync::LazyLock;

/// Schemas with the names of their fields.
pub static FOREIGN: LazyLock<Vec<(String, Fields)>> = LazyLock::new(|| {
    let record =
        |name: &str, fields: &str| format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#);
    let named = |event_type: &str, payload: &str| Fields {
        event_type: Some(event_type.to_owned()),
        payload: Some(payload.to_owned()),
        ..Fields::default()
    };
    vec![
        (
            record(
                "Everything",
                r#"{"name":"n","type":"null"},{"name":"b","type":"boolean"},{"name":"i","type":"int"},
                {"name":"l","type":"long"},{"name":"f","type":"float"},{"name":"d","type":"double"},
                {"name":"x","type":{"type":"fixed","name":"X","size":12,"logicalType":"duration"}},
                {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["a","b","c"]}},
                {"name":"c","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
                {"name":"body","type":["null","string","bytes"]},{"name":"was","type":"Kind"},
                {"name":"r","type":{"type":"record","name":"R","fields":[
                    {"name":"k","type":"Kind"},{"name":"u","type":["X","int","null"]}]}}"#,
            ),
            named("kind", "body"),
        ),
        (
            record(
                "Blocks",
                r#"{"name":"a","type":{"type":"array","items":["null","string"]}},
                {"name":"m","type":{"type":"map","values":{"type":"array","items":"long"}}},
                {"name":"z","type":{"type":"array","items":"null"}},
                {"name":"x","type":{"type":"array","items":{"type":"fixed","name":"X","size":3}}},
                {"name":"type","type":"string"},{"name":"body","type":"bytes"}"#,
            ),
            named("type", "body"),
        ),
        (
            record(
                "Times",
                r#"{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"},"int",
                    {"type":"fixed","name":"D","size":12,"logicalType":"duration"}]},
                {"name":"id","type":{"type":"string","logicalType":"uuid"}},
                {"name":"shop","type":["null","bytes"]},{"name":"event_type","type":"string"},
                {"name":"payload","type":"string"},{"name":"content_type","type":["string","null"]}"#,
            ),
            Fields {
                event_id: Some("id".to_owned()),
                tenant: Some("shop".to_owned()),
                occurred_at: Some("at".to_owned()),
                ..Fields::default()
            },
        ),
        (
            record(
                "Nanos",
                r#"{"name":"payload","type":["null","string"]},{"name":"tenant","type":"string"},
                {"name":"occurred_at","type":{"type":"long","logicalType":"timestamp-nanos"}},
                {"name":"event_type","type":["null","string","long"]}"#,
            ),
            Fields::default(),
        ),
        (SCHEMA_V2.replace("WebhookEvent", "Other"), Fields::default()),
    ]
});

/// The same, parsed.
pub fn writers() -> &'static [Writer] {
    static WRITERS: LazyLock<Vec<Writer>> = LazyLock::new(|| {
        // Unwrap safety: a schema of the table is usable, or every test of this crate fails.
        let parse = |(json, fields): &(String, Fields)| Writer::of(json, fields).expect("a schema");
        FOREIGN.iter().map(parse).collect()
    });
    &WRITERS
}

/// Schemas of files: the first byte chooses one, the rest is a datum of it.
pub fn mapped(data: &[u8]) {
    let Some((choice, datum)) = data.split_first() else {
        return;
    };
    let writer = &writers()[usize::from(*choice) % FOREIGN.len()];
    if let Err(error) = writer.read(&Bytes::copy_from_slice(datum)) {
        assert!(!error.class().is_empty() && error.to_string().len() < 300);
    }
}

/// Framing `header`: the schema, or its id or GUID, and the datum.
pub fn header(data: &[u8]) {
    let (header, datum) = divided(data);
    match schema_in_header(&header) {
        Ok(SchemaKey::Id(id)) => assert_eq!(header[..], [&[0], &id.to_be_bytes()[..]].concat()),
        Ok(SchemaKey::Guid(guid)) => assert_eq!(header[..], [&[1], &guid[..]].concat()),
        Ok(SchemaKey::Text(text)) => {
            assert_eq!(text, header);
            if let Ok(json) = std::str::from_utf8(&text) {
                reads(json, &datum);
            }
        }
        Err(error) => assert_eq!(error.class(), "not_framed"),
    }
}

/// Framing `confluent`: what the registry answers, and a record.
pub fn confluent(data: &[u8]) {
    let (answer, record) = divided(data);
    let datum = match confluent_schema_id(&record) {
        Ok((id, datum)) => {
            assert_eq!(record[..], [&[0], &id.to_be_bytes()[..], &datum].concat());
            datum
        }
        Err(error) => {
            let short = record.is_empty() || (record.starts_with(&[0]) && record.len() < 5);
            assert_eq!(short, error == DecodeError::Truncated);
            return;
        }
    };
    match schema_in_answer(&answer) {
        Ok(json) => reads(&json, &datum),
        Err(why) => assert!(!why.is_empty()),
    }
}

fn reads(json: &str, datum: &Bytes) {
    if let Some(writer) = Writer::of(json, &Fields::default()) {
        // What comes of it is checked there.
        let _ = writer.read(datum);
    }
}
