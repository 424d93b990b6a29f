//! Records of the two known schemas.

use crate::accepted::settles;
use crate::foreign::{FOREIGN, writers};
use crate::library;
use apache_avro::Schema;
use bytes::Bytes;
use schemas::avro::{
    DecodeError, FINGERPRINT_V1, FINGERPRINT_V2, FINGERPRINT_V2_OTHER, Fields, SCHEMA_V1, SCHEMA_V2,
    WebhookEvent, WriterSchema, decode_raw, decode_single_object, encode_single_object, encode_v2,
};
use std::sync::LazyLock;

/// A version's schema as apache-avro has it, and our plan for it.
struct Version {
    fingerprint: [u8; 8],
    schema: Schema,
    plan: WriterSchema,
}

// Unwrap safety: both schemas are compiled in, and every test parses them.
static VERSIONS: LazyLock<[Version; 2]> = LazyLock::new(|| {
    [(SCHEMA_V1, FINGERPRINT_V1), (SCHEMA_V2, FINGERPRINT_V2)].map(|(json, fingerprint)| Version {
        fingerprint,
        schema: Schema::parse_str(json).expect("a schema"),
        plan: WriterSchema::parse(json, &Fields::default()).expect("a plan"),
    })
});

/// The schemas of the table, as a topic's files are.
static OTHERS: LazyLock<Vec<WriterSchema>> = LazyLock::new(|| {
    let parse = |(json, fields): &(String, Fields)| WriterSchema::parse(json, fields).expect("a plan");
    FOREIGN.iter().map(parse).collect()
});

type Read = Result<WebhookEvent, DecodeError>;

/// Framing `raw`: the bytes are a datum.
pub fn raw(data: &[u8]) {
    let datum = Bytes::copy_from_slice(data);
    let [v1, v2] = VERSIONS.each_ref().map(|version| by_version(version, &datum));
    let read = decode_raw(&datum);
    assert!(
        v1.is_err() || v2.is_err(),
        "no bytes are a datum of both versions"
    );
    assert_eq!(read.as_ref().ok(), v2.or(v1).as_ref().ok());
    holds(&read, &datum);
}

/// Framing `single-object`: `C3 01`, fingerprint, datum.
pub fn single_object(data: &[u8]) {
    let record = Bytes::copy_from_slice(data);
    let read = decode_single_object(&record, &OTHERS);
    holds(&read, &record);
    let Some((&[0xC3, 0x01], rest)) = record.split_first_chunk() else {
        assert!(matches!(read, Err(DecodeError::NotFramed(_))));
        return;
    };
    let Some((fingerprint, datum)) = rest.split_first_chunk::<8>() else {
        assert_eq!(read, Err(DecodeError::Truncated));
        return;
    };
    let datum = Bytes::copy_from_slice(datum);
    if let Some(version) = VERSIONS
        .iter()
        .find(|version| version.fingerprint == *fingerprint)
    {
        assert_eq!(read, by_version(version, &datum));
    } else if *fingerprint == FINGERPRINT_V2_OTHER {
        assert_eq!(read, by_version(&VERSIONS[1], &datum));
    } else if let Some(own) = writers().iter().find(|own| own.plan.fingerprint() == fingerprint) {
        assert_eq!(own.read(&datum), read);
    }
}

/// What we read as this version; holds it against apache-avro and against our own plan.
fn by_version(version: &Version, datum: &Bytes) -> Read {
    let framed = [&[0xC3, 0x01], &version.fingerprint[..], datum].concat();
    let read = decode_single_object(&framed.into(), &[]);
    assert_eq!(read, version.plan.read(datum));
    let theirs = library::event(&version.schema, &Fields::default(), datum);
    match &read {
        // The one difference: the payload may be any bytes.
        Ok(event) if std::str::from_utf8(&event.payload).is_err() => assert_eq!(theirs, None),
        Ok(event) => assert_eq!(theirs.as_ref(), Some(event)),
        Err(_) => assert_eq!(theirs, None),
    }
    read
}

/// What must hold of whatever was read.
fn holds(read: &Read, record: &Bytes) {
    match read {
        Ok(event) => {
            assert_eq!(decode_raw(&encode_v2(event).into()).as_ref(), Ok(event));
            let framed = encode_single_object(event).into();
            assert_eq!(decode_single_object(&framed, &[]).as_ref(), Ok(event));
            if !event.payload.is_empty() {
                let within = record.as_ptr_range().contains(&event.payload.as_ptr());
                assert!(within, "the payload is a slice of the record");
            }
            settles(event);
        }
        Err(error) => assert!(!error.class().is_empty() && error.to_string().len() < 300),
    }
}
