//! The request of one attempt: headers and signature. Pure.

use crate::targets::ReadyTarget;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use schemas::delivery::Delivery;
use schemas::signature::sign_by;
use schemas::time::Millis;
use schemas::verification::{REQUEST_ORIGIN, Verification};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const WEBHOOK_EVENT_TYPE: HeaderName = HeaderName::from_static("webhook-event-type");
const WEBHOOK_DELIVERY_ID: HeaderName = HeaderName::from_static("webhook-delivery-id");
const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
const WEBHOOK_ORIGINAL_ID: HeaderName = HeaderName::from_static("webhook-original-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const WEBHOOK_REQUEST_ORIGIN: HeaderName = HeaderName::from_static(REQUEST_ORIGIN);

/// `hookwright/<version>`.
pub(crate) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("hookwright/", env!("CARGO_PKG_VERSION")));

/// The signed request of one attempt at `now`, or `None` if the target's address is not a URI. `origin` is the name
/// that targets verified by the handshake of CloudEvents are told with each delivery.
#[must_use]
pub fn build(
    target: &ReadyTarget,
    delivery: &Delivery,
    payload: Bytes,
    now: Millis,
    origin: Option<&str>,
) -> Option<Request<Full<Bytes>>> {
    let id = delivery.event_id.as_str();
    let timestamp = now.unix_seconds();
    let options = &target.details.request;
    let live = target.details.live_at(now);
    let signature = sign_by(&options.schemes, live.clone(), id, timestamp, &payload);
    let mut headers = HeaderMap::with_capacity(12 + target.headers.len());
    headers.insert(CONTENT_TYPE, value(&delivery.content_type));
    headers.insert(USER_AGENT, AGENT);
    headers.insert(WEBHOOK_ID, value(id));
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    headers.insert(WEBHOOK_SIGNATURE, value(&signature));
    headers.insert(WEBHOOK_EVENT_TYPE, value(&delivery.event_type));
    headers.insert(WEBHOOK_DELIVERY_ID, value(delivery.id().as_str()));
    headers.insert(WEBHOOK_ATTEMPT, HeaderValue::from(delivery.attempt));
    if let Some(original) = &delivery.original_id {
        headers.insert(WEBHOOK_ORIGINAL_ID, value(original));
    }
    if let Some(traceparent) = &delivery.traceparent {
        headers.insert(TRACEPARENT, value(traceparent));
    }
    if let (Verification::CloudEvents, Some(origin)) = (options.verification, origin) {
        headers.insert(WEBHOOK_REQUEST_ORIGIN, value(origin));
    }
    headers.extend(
        target
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    for header in &options.signature_headers {
        // Checked when it was set. One of the target's own of that name gives way.
        let Ok(name) = HeaderName::from_bytes(header.name.as_bytes()) else {
            continue;
        };
        headers.remove(&name);
        for live in live.clone() {
            headers.append(&name, value(&header.value(&live.key, &payload)));
        }
    }
    let mut request = Request::new(Full::new(payload));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.uri.clone()?;
    *request.headers_mut() = headers;
    Some(request)
}

/// A header value; a character that may not stand in one becomes `?`, so that an odd original id
/// or event type never keeps an event from its target.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let safe: String = text
            .chars()
            .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
            .collect();
        HeaderValue::from_str(&safe).unwrap_or(HeaderValue::from_static("?"))
    })
}

/// A target's own headers. They were checked when they were set; one that is not valid is left out.
#[must_use]
pub fn own_headers(headers: &[(String, String)]) -> HeaderMap {
    headers
        .iter()
        .filter_map(|(name, value)| {
            Some((
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_str(value).ok()?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::delivery::Payload;
    use schemas::event::Position;
    use schemas::ids::{EventId, TargetId, Tenant};
    use schemas::signature::compatible::{Algorithm, Encoding, SignatureHeader};
    use schemas::signature::sign;
    use schemas::target::{LiveKey, RequestOptions, SigningKey, TargetDetails, TargetState};

    fn delivery() -> Delivery {
        Delivery {
            event_id: EventId::new("evt_1").unwrap(),
            original_id: Some("order.42\n".into()),
            tenant: Tenant::new("acme").unwrap(),
            target: TargetId(7),
            event_type: "orders.created".into(),
            content_type: "application/json".into(),
            accepted_at: Millis(0),
            traceparent: None,
            position: Position {
                topic: "t".into(),
                partition: 0,
                offset: 1,
            },
            attempt: 3,
            due_at: None,
            reason: None,
            resend: None,
            payload: Payload::Logged { at: 0, len: 11 },
        }
    }

    fn key(byte: u8, until: Option<i64>) -> LiveKey {
        LiveKey {
            key: SigningKey::from_bytes(vec![byte; 32]),
            pair: None,
            until: until.map(Millis),
        }
    }

    #[test]
    fn a_request_has_the_contracts_headers_and_the_bytes_as_they_are() {
        let details = TargetDetails {
            id: TargetId(7),
            tenant: Tenant::new("acme").unwrap(),
            url: "https://example.com/hook?x=1".into(),
            headers: vec![
                ("x-team".into(), "blue".into()),
                ("x-hub-signature-256".into(), "mine".into()),
            ],
            contact: None,
            state: TargetState::Active,
            keys: vec![
                key(1, None),
                key(2, Some(1_700_000_001_000)),
                key(3, Some(1_700_000_000_000)),
            ],
            rate_limit: None,
            retry: None,
            timeout: None,
            request: RequestOptions {
                signature_headers: vec![SignatureHeader {
                    name: "x-hub-signature-256".into(),
                    algorithm: Algorithm::Sha256,
                    encoding: Encoding::Hex,
                    prefix: "sha256=".into(),
                }],
                ..RequestOptions::default()
            },
            client_key: None,
        };
        let headers = own_headers(&details.headers);
        let target = ReadyTarget {
            uri: details.url.parse().ok(),
            tls: None,
            headers,
            details,
        };
        let payload = Bytes::from_static(b"{ \"a\" : 1 }");
        let request = build(
            &target,
            &delivery(),
            payload.clone(),
            Millis(1_700_000_000_999),
            None,
        )
        .unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "https://example.com/hook?x=1");
        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("webhook-id"), "evt_1");
        assert_eq!(header("webhook-timestamp"), "1700000000");
        assert_eq!(header("webhook-event-type"), "orders.created");
        assert_eq!(header("webhook-delivery-id"), delivery().id().as_str());
        assert_eq!(header("webhook-attempt"), "3");
        assert_eq!(header("webhook-original-id"), "order.42?");
        assert_eq!(header("x-team"), "blue");
        assert!(header("user-agent").starts_with("hookwright/"));
        let expected = sign(
            [1, 2].map(|byte| key(byte, None).key).iter(),
            "evt_1",
            1_700_000_000,
            &payload,
        );
        assert_eq!(header("webhook-signature"), expected);
        assert_eq!(expected.split(' ').count(), 2, "one signature per live secret");
        let compatible = request.headers().get_all("x-hub-signature-256");
        let expected: Vec<String> = target
            .details
            .live_at(Millis(1_700_000_000_999))
            .map(|live| target.details.request.signature_headers[0].value(&live.key, &payload))
            .collect();
        assert!(expected.len() == 2 && expected[0].starts_with("sha256="));
        assert!(compatible.iter().eq(expected.iter().map(String::as_str)));
    }
}
