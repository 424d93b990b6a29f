//! Where fuzzing begins: a few good inputs of each target, and those that once did harm or are made to.

use crate::foreign::{FOREIGN, writers};
use bytes::Bytes;
use schemas::avro::{
    FINGERPRINT_V1, FINGERPRINT_V2, FINGERPRINT_V2_OTHER, SCHEMA_V1, SCHEMA_V2, WebhookEvent,
    encode_single_object, encode_v2,
};
use schemas::time::Millis;
use serde_json::json;

/// The seeds of a target.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "raw" => raw(),
        "single_object" => single_object(),
        "confluent" => confluent(),
        "header" => header(),
        "mapped" => mapped(),
        "accept" => accept(),
        "wire" => wire(),
        "url" => url(),
        _ => Vec::new(),
    }
}

fn full() -> WebhookEvent {
    WebhookEvent {
        event_type: "orders.created".to_owned(),
        payload: Bytes::from_static(br#"{"a": 1}"#),
        event_id: Some("order-42".to_owned()),
        tenant: Some("acme".to_owned()),
        content_type: Some("text/plain".to_owned()),
        occurred_at: Some(Millis(1_767_225_599_123)),
    }
}

/// A datum of version 1: one of version 2 without its four nulls.
fn v1() -> Vec<u8> {
    let event = WebhookEvent {
        event_type: "a.b".to_owned(),
        payload: Bytes::from_static(b"{}"),
        ..WebhookEvent::default()
    };
    let mut datum = encode_v2(&event);
    datum.truncate(datum.len() - 4);
    datum
}

/// Lengths, counts and branches that no datum has: 2^30, 2^62, eleven groups, -1, -2^63.
const LONGS: [&[u8]; 6] = [
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0x80; 11],
    &[0x01],
    &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
    // The tenth group has more than there is room for.
    &[0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7E],
];

fn raw() -> Vec<Vec<u8>> {
    let not_utf8 = WebhookEvent {
        payload: Bytes::from_static(&[0xFF, 0, 0x80]),
        ..full()
    };
    let mut seeds = vec![v1(), encode_v2(&full()), encode_v2(&not_utf8)];
    // For the type, for the payload, for a branch, for a text.
    for before in [&b""[..], &[2, b'a'], &[2, b'a', 0], &[2, b'a', 0, 2]] {
        seeds.extend(LONGS.map(|long| [before, long].concat()));
    }
    seeds.push(vec![2, b'a', 0, 4, 0, 0, 0]);
    seeds.push(vec![2, b'a', 0, 0, 0, 0, 0, 7]);
    seeds
}

fn single_object() -> Vec<Vec<u8>> {
    let framed = |fingerprint: &[u8], datum: &[u8]| [&[0xC3, 0x01], fingerprint, datum].concat();
    let v2 = encode_v2(&full());
    let mut seeds = vec![
        encode_single_object(&full()),
        framed(&FINGERPRINT_V1, &v1()),
        framed(&FINGERPRINT_V1, &v2),
        framed(&FINGERPRINT_V2, &v1()),
        framed(&FINGERPRINT_V2_OTHER, &v2),
        framed(&[8, 7, 6, 5, 4, 3, 2, 1], &v2),
    ];
    for (own, datum) in writers().iter().zip(data()) {
        seeds.push(framed(own.plan.fingerprint(), &datum));
    }
    seeds
}

/// A datum of each schema of the table.
fn data() -> [Vec<u8>; 5] {
    let everything = [
        &[1, 7, 9][..],
        &[0; 4],
        &[1; 8],
        &[2; 12],
        &[2, 4, 1, 2, 4, 4, 0xFF, b'x', 0, 2, 0],
        &[3; 12],
    ];
    let blocks: &[u8] = &[
        // An array of two, a map of one as a block with its length, nulls without end, two fixed.
        4, 0, 2, 2, b'a', 0, 1, 10, 2, b'k', 2, 8, 0, 0, 0x80, 0x02, 0, 4, 1, 2, 3, 4, 5, 6, 0, 2, b't', 2,
        b'b',
    ];
    let times = [
        &[2, 0xA0, 0x1F, 72][..],
        b"67e55044-10b1-426f-9247-bb680e5fe0c8",
        &[2, 8, b'a', b'c', b'm', b'e', 6, b'a', b'.', b'b', 2, b'x', 2],
    ];
    let nanos: &[u8] = &[2, 2, b'x', 2, b't', 0x81, 0x80, 1, 2, 6, b'a', b'.', b'b'];
    [
        everything.concat(),
        blocks.to_vec(),
        times.concat(),
        nanos.to_vec(),
        encode_v2(&full()),
    ]
}

fn mapped() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = (0..)
        .zip(data())
        .map(|(at, datum)| [&[at], &datum[..]].concat())
        .collect();
    for at in 0..5 {
        seeds.extend(LONGS.map(|long| [&[at], long].concat()));
    }
    // Nulls without end, and blocks that declare another length than they have.
    seeds.push([&[1, 0, 0], LONGS[1], &[0, 0, 0, 0]].concat());
    seeds.push(vec![1, 1, 2, 0, 0, 0, 0, 0, 0]);
    seeds.push([&[1, 1], LONGS[0], &[0, 0]].concat());
    seeds
}

/// Schemas, the good ones first.
fn schemas() -> Vec<String> {
    let event = r#"{"name":"event_type","type":"string"},{"name":"payload","type":"bytes"}"#;
    let with = |more: &str| format!(r#"{{"type":"record","name":"x.R","fields":[{event},{more}]}}"#);
    let field = |of: &str| with(&format!(r#"{{"name":"f","type":{of}}}"#));
    let deep = |open: &str, depth: usize| {
        let close = open.replace('{', "}").replace('[', "]");
        let close: String = close.chars().rev().filter(|char| "]}".contains(*char)).collect();
        field(&format!("{}\"int\"{}", open.repeat(depth), close.repeat(depth)))
    };
    let mut schemas = vec![
        SCHEMA_V1.to_owned(),
        SCHEMA_V2.to_owned(),
        format!(r#"["null",{}]"#, field("\"int\"")),
    ];
    schemas.extend(FOREIGN.iter().map(|(json, _)| json.clone()));
    for of in [
        r#"["null","x.R"]"#,
        r#"{"type":"array","items":{"type":"map","values":"R"}}"#,
        r#"{"type":"enum","name":"E","symbols":["a","b"],"default":"a","aliases":["x.F"]}"#,
        r#"{"type":"fixed","name":"F","size":18446744073709551615}"#,
        r#"{"type":"fixed","name":"F","size":9223372036854775807}"#,
        r#"{"type":"fixed","name":"F","size":4,"logicalType":"decimal","precision":-0.5}"#,
        r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#,
        r#"{"type":{"type":{"type":"long"}},"logicalType":"timestamp-micros"}"#,
        r#"{"type":"string","items":7}"#,
        r#"[["null"],["null"]]"#,
        r#"{"type":"record","name":"E","fields":[]}"#,
    ] {
        schemas.push(field(of));
    }
    schemas.push(with(r#"{"name":"f","type":"int","size":"x"}"#));
    schemas.push(with(r#"{"name":"f","type":"int","default":"x","symbols":null}"#));
    schemas.push(with(
        r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["a"]}},{"name":"b","type":"E"}"#,
    ));
    schemas.push(SCHEMA_V1.replacen('{', r#"{"size":"x","#, 1));
    schemas.push(SCHEMA_V1.replacen('{', r#"{"aliases":["a","b"],"items":7,"#, 1));
    schemas.push(deep(r#"{"type":"array","items":"#, 60));
    schemas.push(deep(r#"{"type":"map","values":"#, 120));
    schemas.push(deep(r#"{"type":"#, 120));
    schemas.push(deep(r#"{"logicalType":"date","type":"#, 40));
    schemas.push(deep("[", 100));
    schemas.push("[".repeat(100_000));
    schemas
}

fn header() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        vec![0, 0, 0, 1, 2, 0xFF],
        vec![1; 17],
        vec![1; 16],
        vec![0],
        Vec::new(),
    ];
    for json in schemas() {
        for datum in [v1(), [&v1()[..], &[0]].concat()] {
            seeds.push([json.as_bytes(), &[0xFF], &datum].concat());
        }
    }
    for ((json, _), datum) in FOREIGN.iter().zip(data()) {
        seeds.push([json.as_bytes(), &[0xFF], &datum].concat());
    }
    seeds
}

fn confluent() -> Vec<Vec<u8>> {
    let record = [&[0xFF, 0, 0, 0, 0, 5], &v1()[..]].concat();
    let mut answers: Vec<String> = schemas()
        .into_iter()
        .filter(|json| json.len() < 10_000)
        .map(|json| json!({ "schema": json }).to_string())
        .collect();
    answers.push(json!({"schema": SCHEMA_V1, "schemaType": "AVRO", "references": []}).to_string());
    answers.push(json!({"schema": SCHEMA_V1, "schemaType": "PROTOBUF"}).to_string());
    answers.push(json!({"schema": SCHEMA_V1, "references": [{"name": "other"}]}).to_string());
    answers.push(json!({"error_code": 40403, "message": "Schema not found"}).to_string());
    answers.push("<html>".to_owned());
    let mut seeds: Vec<_> = answers
        .iter()
        .map(|answer| [answer.as_bytes(), &record].concat())
        .collect();
    for short in [&[][..], &[0, 0, 0, 1], &[3, 0, 0, 0, 0]] {
        seeds.push([&br#"{"schema":"1"}"#[..], &[0xFF], short].concat());
    }
    seeds
}

fn accept() -> Vec<Vec<u8>> {
    let long = "x".repeat(300);
    let rows: [[&str; 10]; 6] = [
        [
            "orders.created",
            "{}",
            "order-42",
            "acme",
            "text/plain",
            "-",
            "-",
            "-",
            "-",
            "-",
        ],
        [
            "orders.created",
            "{}",
            "-",
            "-",
            "-",
            "order 42",
            "acme",
            "application/json",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "events/3/99",
        ],
        ["a..b", "", "", "", "", "", "", "", "", ""],
        [
            "a",
            "",
            "é",
            "Acme",
            "text/plain\r\nx: y",
            "\0",
            "-",
            " ",
            "ff-00-00-00",
            "a/b/c",
        ],
        [
            &long,
            "x",
            &long,
            &long[..63],
            &long,
            &long,
            "a_b",
            "x y",
            "00-0-0-0",
            "t/-1/-9223372036854775808",
        ],
        ["a", "x", "\u{FFFE}", "-", "-", " a", "-", "-", "-", "0/5\n1/6\n"],
    ];
    rows.map(|row| {
        row.map(|part| if part == "-" { vec![0xFE] } else { part.into() })
            .join(&0xFF)
    })
    .to_vec()
}

fn wire() -> Vec<Vec<u8>> {
    let attribute = |more: &str| {
        format!(
            r#"{{"v":1,"id":"order-42","tn":"acme","tg":7,"ty":"orders.created","at":1767225599123,"ps":{{"t":"events","p":0,"o":5}},"n":1{more}}}"#
        )
    };
    let pointer = r#","enc":"stored","ptr":{"bucket":"b","key":"k","size":9,"sha256":"00"}"#;
    let rows = [
        (attribute(""), "{}"),
        (attribute(""), ""),
        (
            attribute(r#","enc":"base64","ct":"text/plain","oid":"é","tp":"x""#),
            "/wAB",
        ),
        (attribute(r#","enc":"base64""#), "*"),
        (
            attribute(r#","enc":"empty","due":-9223372036854775808,"why":"http_503""#),
            "-",
        ),
        (attribute(pointer), "-"),
        (attribute(r#","enc":"stored""#), "-"),
        (attribute(r#","enc":"log","rg":[4294967295,4294967295]"#), "-"),
        (attribute(r#","enc":"gzip","more":[]"#), "-"),
        (attribute(r#","oid":"\uffff\u0000\ud83d\ude00""#), "\u{FFFE}\u{1}"),
        (attribute("").replace("\"v\":1", "\"v\":2"), "{}"),
        (attribute("").replace("\"tg\":7", "\"tg\":[]"), "{}"),
        (attribute("").replace("acme", "Acme"), "{}"),
        ("[".repeat(10_000), ""),
    ];
    rows.map(|(attribute, body)| [attribute.as_bytes(), &[0xFF], body.as_bytes()].concat())
        .to_vec()
}

fn url() -> Vec<Vec<u8>> {
    let urls = [
        "https://example.com/webhooks?a=b",
        "https://EXAMPLE.com:443/é?ü#f",
        "http://example.com:8443/",
        "https://user:password@example.com/",
        "https://127.0.0.1/",
        "https://0x7f.1:1025/",
        "https://2130706433/",
        "https://[::ffff:10.0.0.1]/",
        "https://[2606:4700::1111]:8443/",
        "https://1.1.1.1./",
        "https://a.localhost/",
        "https://\u{FF11}\u{FF12}\u{FF17}.0.0.1/",
        "https://xn--/",
        "https://a.{b/",
        "https://a.com/{|}^`?{|}^`",
        "https://a%2eb.com/\\..\\x",
        "https://[example.com]/",
        "https:example.com",
        "https://exa\u{AD}mple.c\u{AD}om/\u{0}",
    ];
    let headers = [
        ("authorization", "Bearer x"),
        ("Webhook-Id", "x"),
        ("x-a", " x"),
        ("", "é"),
        ("host", ""),
    ];
    let mut seeds: Vec<Vec<u8>> = urls.map(|url| url.as_bytes().to_vec()).to_vec();
    for (name, value) in headers {
        seeds.push([b"x", &[0xFF], name.as_bytes(), &[0xFF], value.as_bytes()].concat());
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library;
    use apache_avro::Schema;

    #[test]
    fn the_good_ones_are_good_and_apache_avro_reads_the_same() {
        for (((json, fields), datum), writer) in FOREIGN.iter().zip(data()).zip(writers()) {
            let read = writer.read(&datum.clone().into());
            let theirs = library::event(&Schema::parse_str(json).unwrap(), fields, &datum);
            // Its payload is a string that is not UTF-8, and its id a UUID.
            if !json.contains("Times") && !json.contains("Everything") {
                assert_eq!(theirs.as_ref(), read.as_ref().ok());
            }
            assert!(read.is_ok(), "{json}: {read:?}");
        }
    }
}
