//! Decoding of records: ours beside `apache-avro`, in turns, in this process.

use crate::report::Row;
use anyhow::{Result, ensure};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use bytes::Bytes;
use schemas::avro::{Fields, SCHEMA_V1, SCHEMA_V2, WebhookEvent, WriterSchema, decode_raw, encode_v2};
use schemas::time::Millis;
use std::hint::black_box;
use std::time::Instant;

/// Records that each decodes in a turn.
const TURN: u32 = 50_000;
/// Turns of each; the median of them counts.
const TURNS: usize = 15;
/// The bytes of the payloads.
const SIZES: [usize; 2] = [300, 1_000];

/// Measures both versions in both sizes.
pub fn run() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for size in SIZES {
        for (version, schema) in [("v1", SCHEMA_V1), ("v2", SCHEMA_V2)] {
            rows.push(measure(version, schema, size)?);
        }
    }
    Ok(rows)
}

fn measure(version: &str, schema: &str, size: usize) -> Result<Row> {
    let (event, record) = example(version, size);
    // A payload of type string is held to be UTF-8 by the library; ours passes it on as it is. The bytes are the
    // same, so it is told that they are of type bytes.
    let as_bytes = schema.replacen(
        r#""name": "payload", "type": "string""#,
        r#""name": "payload", "type": "bytes""#,
        1,
    );
    ensure!(as_bytes != schema, "the payload's type is not where it was");
    let plan = WriterSchema::parse(schema, &Fields::default())?;
    let library = Schema::parse_str(&as_bytes)?;
    let library = GenericDatumReader::builder(&library).build()?;

    ensure!(decode_raw(&record)? == event && plan.read(&record)? == event);

    let mut ours = || drop(black_box(decode_raw(black_box(&record))));
    let mut planned = || drop(black_box(plan.read(black_box(&record))));
    let mut by_library = || drop(black_box(library.read_value(&mut &black_box(&record)[..])));
    let [ours, planned, library] = nanoseconds([&mut ours, &mut planned, &mut by_library]);

    let mut row = Row::new(format!("decode {version}, {size} B"));
    row.per_second = Some(1e9 / ours);
    let beside = |name: &str, took: f64| format!("{name} {took:.0} ns ({:.2})", took / ours);
    row.note(format!(
        "{}, {}, {}; in brackets: as a multiple of ours",
        beside("ours", ours),
        beside("ours by a plan", planned),
        beside("apache-avro", library),
    ));
    row.at_least("times as fast as apache-avro", Some(library / ours), 3.0);
    Ok(row)
}

/// The median time of each for one record, in ns. They take turns, so that what slows the machine down slows all.
fn nanoseconds<const N: usize>(mut contenders: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..TURNS {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            for _ in 0..TURN {
                contender();
            }
            times.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(TURN));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[TURNS / 2]
    })
}

/// An event, and its datum of this version.
fn example(version: &str, size: usize) -> (WebhookEvent, Bytes) {
    let text = r#"{"order":{"id":42,"state":"paid","total":"19.90","currency":"EUR"}}"#;
    let payload: String = text.chars().cycle().take(size).collect();
    let mut event = WebhookEvent {
        event_type: "core.orders.created.v1".to_owned(),
        payload: payload.into(),
        ..WebhookEvent::default()
    };
    if version == "v1" {
        // Version 1 is version 2 without its four nulls.
        let datum = encode_v2(&event);
        let record = Bytes::copy_from_slice(&datum[..datum.len() - 4]);
        return (event, record);
    }
    event.event_id = Some("01J9ZC3K5V8QW2R4T6Y8A0B1C2".to_owned());
    event.tenant = Some("acme".to_owned());
    event.content_type = Some("application/json".to_owned());
    event.occurred_at = Some(Millis(1_767_225_599_123));
    let record = encode_v2(&event).into();
    (event, record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_a_datum_of_its_version_with_a_payload_of_its_size() {
        for size in SIZES {
            for version in ["v1", "v2"] {
                let (event, record) = example(version, size);
                assert_eq!(event.payload.len(), size);
                assert_eq!(decode_raw(&record), Ok(event));
            }
        }
    }
}
