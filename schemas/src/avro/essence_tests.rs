//! Schemas that are made to do harm.

use super::tests::v1_event;
use super::writer_tests::record;
use super::*;
use std::time::{Duration, Instant};

const EVENT: &str = r#"{"name":"event_type","type":"string"},{"name":"payload","type":"string"}"#;

/// Version 1's fields and one more that takes no bytes, so that version 1's datums are of it.
fn with(field_type: &str) -> String {
    record(&format!(r#"{EVENT},{{"name":"more","type":{field_type}}}"#))
}

fn parse(schema: &str) -> Result<WriterSchema, SchemaError> {
    WriterSchema::parse(schema, &Fields::default())
}

fn is_read(schema: &str) {
    let datum = Bytes::from([&encode_v2(&v1_event())[..]].concat());
    let datum = datum.slice(..datum.len() - 4);
    assert_eq!(parse(schema).unwrap().read(&datum), Ok(v1_event()), "{schema}");
}

#[test]
fn what_is_beside_a_type_is_left_aside() {
    let own = EVENT.replace("}", r#","size":"x","items":7,"symbols":null}"#);
    is_read(&record(&own));
    for attributes in [
        r#""size":"x""#,
        r#""items":7"#,
        r#""values":true"#,
        r#""symbols":{"a":1}"#,
        r#""precision":-0.5"#,
        r#""aliases":7,"doc":7,"order":7,"default":7"#,
    ] {
        is_read(&record(EVENT).replacen('{', &format!("{{{attributes},"), 1));
        is_read(&with(&format!(r#"{{"type":"null",{attributes}}}"#)));
        is_read(&with(&format!(
            r#"{{"type":"fixed","name":"F","size":0,{}}}"#,
            attributes.replace("size", "fields")
        )));
    }
    // The library would refuse the default, and say so with all that the schema holds.
    is_read(&record(
        &EVENT.replace(r#""type":"string""#, r#""type":"string","default":5"#),
    ));
    for decimal in [
        r#""precision":-0.5"#,
        r#""precision":18446744073709551615"#,
        r#""scale":"x""#,
    ] {
        is_read(&with(&format!(
            r#"{{"type":"fixed","name":"F","size":0,"logicalType":"decimal",{decimal}}}"#
        )));
    }
}

#[test]
fn what_is_no_schema_says_why() {
    let why = |of: &str| parse(&with(of)).unwrap_err().to_string();
    for (of, says) in [
        ("5", "a number is not a type"),
        ("{}", "a type without \"type\""),
        (
            r#"{"type":"record","name":"R","fields":[5]}"#,
            "a number is not a field",
        ),
        (r#"{"type":"record","name":"R"}"#, "\"fields\" is not an array"),
        (
            r#"{"type":"enum","name":"E","symbols":7}"#,
            "\"symbols\" is not an array",
        ),
        (
            r#"{"type":"fixed","name":"F","size":-1}"#,
            "a \"size\" is a whole number",
        ),
        (
            r#"{"type":"fixed","name":"F","size":18446744073709551615}"#,
            "a \"size\" is a whole number",
        ),
        (r#"{"type":"array"}"#, "there is no \"items\""),
        (r#"{"type":"map"}"#, "there is no \"values\""),
    ] {
        assert_eq!(why(of), format!("not a usable Avro schema: {says}"), "{of}");
    }
}

#[test]
fn sizes_that_add_up_to_more_than_there_is_are_truncated_datums() {
    let schema = record(&format!(
        r#"{{"name":"a","type":{{"type":"fixed","name":"F","size":9223372036854775807}}}},
        {{"name":"b","type":"F"}},{{"name":"c","type":"F"}},{{"name":"d","type":{{"type":"array","items":"F"}}}},{EVENT}"#
    ));
    let datum = Bytes::from_static(&[0x80, 0x80, 0x01, 0]);
    assert_eq!(parse(&schema).unwrap().read(&datum), Err(DecodeError::Truncated));
}

#[test]
fn a_schema_as_deep_as_json_may_be_is_parsed_on_a_small_stack() {
    let deep = |open: &str, close: &str, depth: usize| {
        with(&format!("{}\"int\"{}", open.repeat(depth), close.repeat(depth)))
    };
    // The stack of a thread of the runtime.
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let parsed = small.spawn(move || {
        for depth in [50, 60, 100, 120, 124, 130, 100_000] {
            for (open, close) in [
                (r#"{"type":"array","items":"#, "}"),
                (r#"{"type":"map","values":"#, "}"),
                (r#"{"type":"#, "}"),
                (r#"{"logicalType":"date","type":"#, "}"),
                ("[", "]"),
                (
                    r#"{"type":"record","name":"R","fields":[{"name":"f","type":"#,
                    "}]}",
                ),
            ] {
                let parsed = parse(&deep(open, close, depth));
                assert!(
                    depth < 64 || !open.contains("items") || parsed.is_err(),
                    "{depth} {open}"
                );
            }
        }
    });
    parsed.unwrap().join().unwrap();
}

/// 1 MiB of schema that would make gigabytes of itself: an answer comes at once, and it is no.
#[test]
fn a_schema_that_multiplies_itself_is_refused() {
    let begun = Instant::now();
    let fields = |count: usize| -> String {
        let fields: Vec<_> = (0..count)
            .map(|n| format!(r#"{{"name":"f{n}","type":"int"}}"#))
            .collect();
        fields.join(",")
    };
    // In itself: each of the definitions around is a copy.
    let mut nested = format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields(35_000));
    assert!(
        parse(&with(&nested)).is_ok(),
        "it is large, and no more than that"
    );
    for n in 0..30 {
        nested = format!(r#"{{"type":"record","name":"R{n}","fields":[{{"name":"f","type":{nested}}}]}}"#);
    }
    let refused = parse(&with(&nested)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "not a usable Avro schema: it is too large, or too much of it is nested"
    );
    // By a long namespace, which all names within have.
    let names: Vec<_> = (0..5_000)
        .map(|n| format!(r#"{{"name":"f{n}","type":{{"type":"enum","name":"E{n}","symbols":["a"]}}}}"#))
        .collect();
    let spaced = format!(
        r#"{{"type":"record","name":"R","namespace":"{}","fields":[{}]}}"#,
        "n".repeat(500_000),
        names.join(",")
    );
    assert_eq!(parse(&with(&spaced)).unwrap_err(), refused);
    // By aliases, which are left aside.
    let aliases: Vec<_> = (0..20_000).map(|n| format!("\"a{n}\"")).collect();
    let aliased = record(&format!("{EVENT},{}", fields(10_000))).replacen(
        '{',
        &format!(r#"{{"aliases":[{}],"#, aliases.join(",")),
        1,
    );
    assert!(parse(&aliased).is_ok());
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}
