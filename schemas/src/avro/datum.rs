//! Reads and writes datums of the two known schemas, without copying the payload.

use super::cursor::Cursor;
use super::{DecodeError, WebhookEvent};
use crate::time::Millis;
use bytes::Bytes;

/// Which schema wrote a datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
    /// Version 1 if the datum ends after the payload, version 2 otherwise.
    Either,
}

/// Reads exactly one datum.
pub(super) fn read(value: &Bytes, version: Version) -> Result<WebhookEvent, DecodeError> {
    let mut cursor = Cursor::new(value);
    let mut event = WebhookEvent {
        event_type: cursor.text("event_type")?,
        payload: cursor.bytes("payload")?,
        ..WebhookEvent::default()
    };
    let ends_here = match version {
        Version::V1 => true,
        Version::V2 => false,
        Version::Either => cursor.remaining() == 0,
    };
    if !ends_here {
        event.event_id = cursor.optional("event_id", Cursor::text)?;
        event.tenant = cursor.optional("tenant", Cursor::text)?;
        event.content_type = cursor.optional("content_type", Cursor::text)?;
        event.occurred_at = cursor.optional("occurred_at", Cursor::long)?.map(Millis);
    }
    cursor.end()?;
    Ok(event)
}

/// How many bytes [`write_v2`] will write, or a few more.
pub(super) fn size_hint(event: &WebhookEvent) -> usize {
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    // Two lengths, four branches with a length each, a timestamp: at most 10 bytes apiece.
    80 + event.event_type.len()
        + event.payload.len()
        + optional(&event.event_id)
        + optional(&event.tenant)
        + optional(&event.content_type)
}

/// Appends a datum of version 2.
pub(super) fn write_v2(event: &WebhookEvent, to: &mut Vec<u8>) {
    write_bytes(event.event_type.as_bytes(), to);
    write_bytes(&event.payload, to);
    for text in [&event.event_id, &event.tenant, &event.content_type] {
        match text {
            None => write_long(0, to),
            Some(text) => {
                write_long(1, to);
                write_bytes(text.as_bytes(), to);
            }
        }
    }
    match event.occurred_at {
        None => write_long(0, to),
        Some(Millis(at)) => {
            write_long(1, to);
            write_long(at, to);
        }
    }
}

fn write_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    // A slice is never longer than i64::MAX.
    write_long(bytes.len() as i64, to);
    to.extend_from_slice(bytes);
}

fn write_long(long: i64, to: &mut Vec<u8>) {
    let mut zigzag = ((long << 1) ^ (long >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        to.push((zigzag & 0x7F) as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}
