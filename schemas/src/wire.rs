//! A delivery as a queue message: a body and one attribute.
//!
//! The body is the payload as it is wherever a queue takes it so, because most payloads are JSON
//! and base64 would cost a third more. Everything else is compact JSON in the attribute, whose
//! `enc` says what the body is:
//!
//! | `enc` | body | payload |
//! |---|---|---|
//! | absent | the payload | [`Payload::Inline`], text a queue takes |
//! | `base64` | the payload in base64 | [`Payload::Inline`], anything else |
//! | `empty` | `-` | [`Payload::Inline`] of no bytes: a queue takes no empty body |
//! | `stored` | `-` | [`Payload::Stored`], the pointer in `ptr` |
//! | `log` | `-` | [`Payload::Logged`], in the record at the position in `ps`, first byte and length in `rg` |
//!
//! SQS takes `#x9 #xA #xD #x20-#xD7FF #xE000-#xFFFD #x10000-#x10FFFF` and answers
//! `InvalidMessageContents` to anything else, in a body as in an attribute (SendMessage in the SQS
//! API reference).

use crate::delivery::{Delivery, Payload, PayloadPointer, Resend};
use crate::event::{DEFAULT_CONTENT_TYPE, Position};
use crate::ids::{EventId, TargetId, Tenant};
use crate::time::Millis;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The version of this format. A reader refuses others, so that a message from a newer release
/// waits for a reader that knows it instead of being misread.
pub const VERSION: u32 = 1;

/// The body of a message whose payload is not in it: the least a queue takes.
pub(crate) const NO_BODY: &[u8] = b"-";

/// A delivery in the form a queue carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireMessage {
    /// UTF-8 of the characters SQS allows, at least one byte.
    pub body: Bytes,
    /// Compact JSON of the characters SQS allows.
    pub attribute: String,
}

/// A message that is not a delivery this release can read. Reading it again will not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The attribute is not the JSON of a delivery.
    #[error("the message's attribute is not the JSON of a delivery")]
    NotJson,
    /// The message was written in another version of the format.
    #[error("the message has version {0}, this release reads version {VERSION}")]
    UnknownVersion(u32),
    /// A field is not there.
    #[error("the message's attribute lacks \"{0}\"")]
    MissingField(&'static str),
    /// A field holds what it may not.
    #[error("the message's attribute has an invalid \"{0}\"")]
    InvalidField(&'static str),
    /// The body is not in the encoding the attribute names, or that encoding is unknown.
    #[error("the message's body is not in the encoding its attribute names")]
    BadEncoding,
}

/// The attribute as written. Field names are short: each message carries them.
#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    oid: Option<&'a str>,
    tn: &'a str,
    tg: TargetId,
    ty: &'a str,
    #[serde(skip_serializing_if = "is_default_content_type")]
    ct: &'a str,
    at: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    tp: Option<&'a str>,
    ps: &'a Position,
    n: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    re: Option<Resend>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enc: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ptr: Option<&'a PayloadPointer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rg: Option<(u32, u32)>,
}

// By reference: serde's signature.
fn is_default_content_type(text: &&str) -> bool {
    *text == DEFAULT_CONTENT_TYPE
}

/// The attribute as read: what is not escaped is borrowed. Every field may be missing, so that the
/// version is seen first and a missing field is told by name; unknown fields are ignored.
#[derive(Deserialize)]
struct Read<'a> {
    v: Option<u32>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    oid: Option<String>,
    #[serde(borrow)]
    tn: Option<Text<'a>>,
    tg: Option<TargetId>,
    #[serde(borrow)]
    ty: Option<Text<'a>>,
    #[serde(borrow)]
    ct: Option<Text<'a>>,
    at: Option<Millis>,
    tp: Option<String>,
    ps: Option<Position>,
    n: Option<u32>,
    due: Option<Millis>,
    why: Option<String>,
    re: Option<Resend>,
    #[serde(borrow)]
    enc: Option<Text<'a>>,
    ptr: Option<PayloadPointer>,
    rg: Option<(u32, u32)>,
}

/// Text borrowed where it has no escapes. serde borrows into a `Cow` only where a field says so,
/// which it cannot say inside an `Option`.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The version alone, whatever else a message of another version may hold.
#[derive(Deserialize)]
struct OnlyVersion {
    v: u32,
}

/// Puts a delivery in the form a queue carries. An inline payload that is text a queue takes is
/// not copied.
#[must_use]
pub fn encode(delivery: &Delivery) -> WireMessage {
    let (body, enc, ptr) = match &delivery.payload {
        Payload::Inline(payload) if payload.is_empty() => (Bytes::from_static(NO_BODY), Some("empty"), None),
        Payload::Inline(payload) if is_queue_text(payload) => (payload.clone(), None, None),
        Payload::Inline(payload) => (Bytes::from(STANDARD.encode(payload)), Some("base64"), None),
        Payload::Stored(pointer) => (Bytes::from_static(NO_BODY), Some("stored"), Some(pointer)),
        Payload::Logged { .. } => (Bytes::from_static(NO_BODY), Some("log"), None),
    };
    let rg = match delivery.payload {
        Payload::Logged { at, len } => Some((at, len)),
        Payload::Inline(_) | Payload::Stored(_) => None,
    };
    let written = Written {
        v: VERSION,
        id: delivery.event_id.as_str(),
        oid: delivery.original_id.as_deref(),
        tn: delivery.tenant.as_str(),
        tg: delivery.target,
        ty: &delivery.event_type,
        ct: &delivery.content_type,
        at: delivery.accepted_at,
        tp: delivery.traceparent.as_deref(),
        ps: &delivery.position,
        n: delivery.attempt,
        due: delivery.due_at,
        why: delivery.reason.as_deref(),
        re: delivery.resend,
        enc,
        ptr,
        rg,
    };
    // Unwrap safety: text and numbers under fixed names, written to memory, cannot fail.
    let attribute = serde_json::to_string(&written).expect("plain fields serialise");
    WireMessage {
        body,
        attribute: escape_noncharacters(attribute),
    }
}

/// Reads a delivery back. An inline payload that is not in base64 is `body` itself, not a copy.
///
/// # Errors
/// When it is no delivery, or of another version. Never shows body or attribute.
pub fn decode(body: Bytes, attribute: &str) -> Result<Delivery, WireError> {
    let read: Read<'_> = match serde_json::from_str(attribute) {
        Ok(read) => read,
        // Another version may give a field another type.
        Err(_) => {
            return Err(match serde_json::from_str(attribute) {
                Ok(OnlyVersion { v }) if v != VERSION => WireError::UnknownVersion(v),
                Ok(_) | Err(_) => WireError::NotJson,
            });
        }
    };
    match read.v {
        Some(VERSION) => {}
        Some(other) => return Err(WireError::UnknownVersion(other)),
        None => return Err(WireError::MissingField("v")),
    }
    let event_id = read.id.ok_or(WireError::MissingField("id"))?;
    let tenant = read.tn.ok_or(WireError::MissingField("tn"))?;
    let event_type = read.ty.ok_or(WireError::MissingField("ty"))?;
    let content_type = read.ct.map_or(Cow::Borrowed(DEFAULT_CONTENT_TYPE), |ct| ct.0);
    Ok(Delivery {
        event_id: EventId::new(&event_id.0).map_err(|_| WireError::InvalidField("id"))?,
        original_id: read.oid,
        tenant: Tenant::new(&tenant.0).map_err(|_| WireError::InvalidField("tn"))?,
        target: read.tg.ok_or(WireError::MissingField("tg"))?,
        event_type: event_type.0.into(),
        content_type: content_type.into(),
        accepted_at: read.at.ok_or(WireError::MissingField("at"))?,
        traceparent: read.tp,
        position: read.ps.ok_or(WireError::MissingField("ps"))?,
        attempt: read.n.ok_or(WireError::MissingField("n"))?,
        due_at: read.due,
        reason: read.why,
        resend: read.re,
        payload: match read.enc.as_ref().map(|enc| enc.0.as_ref()) {
            None => Payload::Inline(body),
            Some("base64") => {
                Payload::Inline(STANDARD.decode(&body).map_err(|_| WireError::BadEncoding)?.into())
            }
            Some("empty") => Payload::Inline(Bytes::new()),
            Some("stored") => Payload::Stored(read.ptr.ok_or(WireError::MissingField("ptr"))?),
            Some("log") => {
                let (at, len) = read.rg.ok_or(WireError::MissingField("rg"))?;
                Payload::Logged { at, len }
            }
            Some(_) => return Err(WireError::BadEncoding),
        },
    })
}

/// How long the body of a message carrying `payload` inline is, in bytes. Looks at the whole
/// payload, so ask only about one that is no longer than a message may be.
#[must_use]
pub fn inline_size(payload: &[u8]) -> usize {
    if payload.is_empty() {
        NO_BODY.len()
    } else if is_queue_text(payload) {
        payload.len()
    } else {
        payload.len().div_ceil(3).saturating_mul(4)
    }
}

/// Whether these bytes are UTF-8 of the characters SQS allows.
fn is_queue_text(bytes: &[u8]) -> bool {
    // Folded rather than searched: without an early end the compiler uses vector instructions, and
    // almost every payload has to be looked at to its end anyway.
    let controls = bytes.iter().fold(false, |found, &b| {
        found | (b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r'))
    });
    // U+FFFE and U+FFFF are EF BF BE and EF BF BF.
    let noncharacters = || {
        bytes.contains(&0xEF)
            && bytes
                .windows(3)
                .any(|three| matches!(three, [0xEF, 0xBF, 0xBE | 0xBF]))
    };
    !controls && std::str::from_utf8(bytes).is_ok() && !noncharacters()
}

/// `serde_json` escapes control characters, but not the two other characters SQS does not allow.
/// They stand only inside strings, where an escape means the same.
fn escape_noncharacters(json: String) -> String {
    if json.contains(['\u{FFFE}', '\u{FFFF}']) {
        json.replace('\u{FFFE}', "\\ufffe").replace('\u{FFFF}', "\\uffff")
    } else {
        json
    }
}

#[cfg(test)]
mod tests;
