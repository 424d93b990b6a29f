//! From a request's body to records of the event log: the hot path.
//!
//! A payload is never copied on its way in: it stays a slice of the request's body until it is
//! written into its record.

use crate::auth::Caller;
use crate::config::Encoding;
use crate::json::{is_object, parse_or_explain};
use crate::problem::{FieldError, Problem};
use crate::publish_once::NewIds;
use crate::{Config, Server};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use platform::clock::Clock;
use platform::event_log::NewRecord;
use platform::secrets::random_bytes;
use schemas::avro::{self, WebhookEvent};
use schemas::ids::EventId;
use schemas::pattern::check_event_type;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use utoipa::ToSchema;

/// The most events of one request.
pub const MAX_LINES: usize = 10_000;
/// The largest body of a request with many events: 32 MiB, or one event of the largest size.
pub const MAX_BULK_BODY: usize = 32 << 20;

/// Text that is a slice of the body wherever it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An event to publish.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = EventToPublish,
    example = json!({"type": "core.orders.created.v1", "payload": {"orderId": 42, "total": "19.90"}}))]
pub struct NewEvent<'a> {
    /// What happened: segments of A-Z, a-z, 0-9, _ and - with a dot between them.
    #[serde(borrow, default, rename = "type")]
    #[schema(value_type = String, required = true, example = "core.orders.created.v1",
        max_length = 256, pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
    event_type: Option<Text<'a>>,
    /// The body to deliver: any JSON value, delivered byte for byte as it stands in the request.
    /// White space before and after the value is not part of it. Either this or `rawPayload`.
    #[serde(borrow, default, deserialize_with = "raw")]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<&'a RawValue>,
    /// The body to deliver, as text: what the string holds is delivered as it is, in UTF-8. For
    /// bodies that are not JSON; give `contentType` too.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, example = json!(null))]
    raw_payload: Option<Text<'a>>,
    /// The event's id, sent as `webhook-id`: what receivers recognise a repeated event by. 1 to 64
    /// characters of A-Z, a-z, 0-9, _ and -. One is drawn when it is left out, or derived from the request's
    /// `idempotency-key`.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$", example = "order-42-created")]
    id: Option<Text<'a>>,
    /// The payload's media type; `application/json` when left out.
    #[serde(borrow, default)]
    #[schema(value_type = Option<String>, example = "application/json")]
    content_type: Option<Text<'a>>,
}

/// Takes a value as it stands. `null` is a value: without this it would count as left out.
fn raw<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Why an event is not taken: the status of the answer, and the fields.
struct Refusal {
    status: StatusCode,
    errors: Vec<FieldError>,
}

/// An event, checked.
struct Checked {
    id: String,
    event: WebhookEvent,
}

/// Reads one event.
///
/// # Errors
/// 400, 413 or 422 with the fields that are wrong.
pub fn one(
    server: &Server,
    caller: &Caller,
    headers: &HeaderMap,
    body: &Bytes,
    ids: &NewIds<'_>,
) -> Result<(String, NewRecord), Problem> {
    let checked = check(&server.config, caller, body, || ids.id(0)).map_err(|mut refusal| {
        match (refusal.status, refusal.errors.pop()) {
            (StatusCode::BAD_REQUEST, Some(error)) => Problem::malformed(error),
            (status, last) => {
                refusal.errors.extend(last);
                Problem::with_errors(status, "the event is not valid", refusal.errors)
            }
        }
    })?;
    let record = record(server.config.encoding, caller, traceparent(headers), &checked);
    Ok((checked.id, record))
}

/// Reads many events, one a line. Empty lines are skipped, and count as lines.
///
/// # Errors
/// 400, 413 or 422 when any line is wrong: the status of the first that is, the lines by number.
pub fn many(
    server: &Server,
    caller: &Caller,
    headers: &HeaderMap,
    body: &Bytes,
    new_ids: &NewIds<'_>,
) -> Result<(Vec<String>, Vec<NewRecord>), Problem> {
    let trace = traceparent(headers);
    let mut ids = Vec::new();
    let mut records = Vec::new();
    let mut status = None;
    let mut errors = Vec::new();
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if ids.len() == MAX_LINES {
            return Err(Problem::too_large(format!(
                "there are more than {MAX_LINES} events: send them in several requests"
            )));
        }
        match check(&server.config, caller, &body.slice_ref(line), || {
            new_ids.id(ids.len())
        }) {
            Ok(checked) => {
                records.push(record(server.config.encoding, caller, trace.clone(), &checked));
                ids.push(checked.id);
            }
            Err(refusal) => {
                status.get_or_insert(refusal.status);
                let number = index + 1;
                errors.extend(
                    refusal.errors.into_iter().map(|error| {
                        FieldError::new(format!("line {number}: {}", error.field), error.message)
                    }),
                );
            }
        }
    }
    if let Some(status) = status {
        let detail = "some lines are not valid events; no event of this request is accepted";
        return Err(Problem::with_errors(status, detail, errors));
    }
    if ids.is_empty() {
        let error = FieldError::new("body", "holds no event: give one JSON object a line");
        return Err(Problem::invalid(vec![error]));
    }
    Ok((ids, records))
}

/// Reads and checks one event, naming all fields that are wrong.
fn check(
    config: &Config,
    caller: &Caller,
    json: &Bytes,
    new_id: impl FnOnce() -> String,
) -> Result<Checked, Refusal> {
    // The plain reader first: naming the place of an error costs an allocation for each field.
    let new: NewEvent<'_> = match serde_json::from_slice(json) {
        Ok(new) if is_object(json) => new,
        Ok(_) | Err(_) => parse_or_explain(json).map_err(|(status, error)| Refusal {
            status,
            errors: vec![error],
        })?,
    };
    let mut errors = Vec::new();
    let mut fail = |field: &str, message: String| errors.push(FieldError::new(field, message));

    match &new.event_type {
        Some(Text(text)) => {
            if let Err(message) = check_event_type(text) {
                fail("type", message);
            }
        }
        None => fail("type", "is missing".to_owned()),
    }
    let payload = match (new.payload, new.raw_payload) {
        (Some(value), None) => json.slice_ref(value.get().as_bytes()),
        (None, Some(Text(Cow::Borrowed(text)))) => json.slice_ref(text.as_bytes()),
        (None, Some(Text(Cow::Owned(text)))) => Bytes::from(text),
        (None, None) => {
            fail("payload", "is missing: give payload or rawPayload".to_owned());
            Bytes::new()
        }
        (Some(_), Some(_)) => {
            fail(
                "rawPayload",
                "is given beside payload: give one of the two".to_owned(),
            );
            Bytes::new()
        }
    };
    if let Some(Text(id)) = &new.id
        && let Err(error) = EventId::new(id)
    {
        fail("id", error.to_string());
    }
    if let Some(Text(content_type)) = &new.content_type
        && !is_media_type(content_type)
    {
        let shown: String = content_type.chars().take(80).collect();
        fail(
            "contentType",
            format!("{shown:?} is not a media type such as application/json"),
        );
    }
    if payload.len() > config.max_payload {
        errors.push(FieldError::new(
            "payload",
            format!("has {} bytes; at most {} fit", payload.len(), config.max_payload),
        ));
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(Refusal { status, errors });
    }
    if !errors.is_empty() {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Refusal { status, errors });
    }
    let id = match new.id {
        Some(Text(id)) => id.into_owned(),
        None => new_id(),
    };
    let event = WebhookEvent {
        event_type: new
            .event_type
            .map(|Text(text)| text.into_owned())
            .unwrap_or_default(),
        payload,
        event_id: Some(id.clone()),
        tenant: Some(caller.tenant.as_str().to_owned()),
        content_type: new.content_type.map(|Text(text)| text.into_owned()),
        occurred_at: None,
    };
    Ok(Checked { id, event })
}

/// The event as a record. What routes it stands in headers too, which win over fields: a reader
/// need not decode the datum to know whose it is.
fn record(encoding: Encoding, caller: &Caller, trace: Option<Bytes>, checked: &Checked) -> NewRecord {
    let id = Bytes::copy_from_slice(checked.id.as_bytes());
    let mut headers = Vec::with_capacity(3);
    headers.push(("event-id".to_owned(), id.clone()));
    headers.push(("tenant".to_owned(), caller.name.clone()));
    if let Some(trace) = trace {
        headers.push(("traceparent".to_owned(), trace));
    }
    let value = match encoding {
        Encoding::Raw => avro::encode_v2(&checked.event),
        Encoding::SingleObject => avro::encode_single_object(&checked.event),
    };
    NewRecord {
        key: Some(id),
        value: Bytes::from(value),
        headers,
    }
}

/// A new event id: `evt_` and a ULID, so that ids sort by time.
pub(crate) fn new_event_id(clock: &Clock) -> String {
    let mut random = [0; 16];
    random[6..].copy_from_slice(&random_bytes::<10>());
    let millis = u64::try_from(clock.now().0).unwrap_or(0);
    let ulid = ulid::Ulid::from_parts(millis, u128::from_be_bytes(random));
    let mut text = [0; ulid::ULID_LEN];
    let ulid = ulid.array_to_str(&mut text);
    let mut id = String::with_capacity(4 + ulid.len());
    id.push_str("evt_");
    id.push_str(ulid);
    id
}

fn is_media_type(text: &str) -> bool {
    text.len() <= 255
        && text.split_once('/').is_some_and(|(kind, rest)| {
            !kind.is_empty()
                && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !rest.is_empty()
        })
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// The request's W3C trace context, if it is a valid one (<https://www.w3.org/TR/trace-context/>).
fn traceparent(headers: &HeaderMap) -> Option<Bytes> {
    let text = headers.get("traceparent")?.as_bytes();
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let set = |part: &[u8]| part.iter().any(|b| *b != b'0');
    let valid = text.len() == 55
        && [text[2], text[35], text[52]] == [b'-'; 3]
        && [&text[..2], &text[3..35], &text[36..52], &text[53..]]
            .into_iter()
            .all(hex)
        && &text[..2] != b"ff"
        && set(&text[3..35])
        && set(&text[36..52]);
    valid.then(|| Bytes::copy_from_slice(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::time::Millis;

    #[test]
    fn drawn_ids_are_valid_and_sort_by_time() {
        let clock = Clock::driven(Millis(1_767_225_599_123));
        let first = new_event_id(&clock);
        let same_moment = new_event_id(&clock);
        clock.advance(std::time::Duration::from_millis(1));
        let later = new_event_id(&clock);
        assert_eq!(first.len(), 30);
        assert!(EventId::new(&first).is_ok());
        assert_ne!(first, same_moment);
        assert!(later > first.max(same_moment));
    }

    #[test]
    fn only_a_valid_traceparent_is_passed_on() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let table = [
            (good, true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false),
            ("", false),
        ];
        for (text, valid) in table {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().unwrap());
            assert_eq!(traceparent(&headers).is_some(), valid, "{text}");
        }
        assert_eq!(traceparent(&HeaderMap::new()), None);
    }

    #[test]
    fn media_types_have_two_parts() {
        for good in [
            "application/json",
            "text/plain; charset=utf-8",
            "application/vnd.a+json",
        ] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in [
            "",
            "json",
            "/json",
            "text/",
            "text/plain\r\nx: y",
            "té/x",
            &format!("a/{}", "x".repeat(254)),
        ] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }
}
