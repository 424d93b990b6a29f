//! The events that are posted: a JSON payload of a set size whose first bytes say which event it is.
//!
//! `{"seq":"0000000042","sent":"1767225599123456789","pad":"…"}`: the numbers have fixed places, so
//! that neither side has to parse JSON to know them, and the payload arrives byte for byte as sent.

use bytes::Bytes;

/// Size of a payload, in bytes, unless told otherwise.
pub const DEFAULT_SIZE: usize = 1024;

/// The event type of everything that is posted, unless told otherwise.
pub const EVENT_TYPE: &str = "bench.load.created.v1";

/// What a subscription to it says.
pub const EVENT_PATTERN: &str = "bench.load.*";

const SEQ_AT: usize = r#"{"seq":""#.len();
const SEQ_DIGITS: usize = 10;
const SENT_AT: usize = SEQ_AT + SEQ_DIGITS + r#"","sent":""#.len();
const SENT_DIGITS: usize = 19;

/// A payload to be stamped again and again.
#[derive(Clone)]
pub struct Template {
    event_type: &'static str,
    payload: Vec<u8>,
}

impl Template {
    /// A template of `size` bytes; never less than its fixed part.
    pub fn new(size: usize) -> Self {
        let head = format!(
            r#"{{"seq":"{:0SEQ_DIGITS$}","sent":"{:0SENT_DIGITS$}","pad":""#,
            0, 0
        );
        let room = size.saturating_sub(head.len() + 2);
        // Letters that do not repeat soon, so that a compressing hop has something to do.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let pad = (0..room).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b"abcdefghijklmnopqrstuvwxyzABCDEF"[(state >> 59) as usize]
        });
        let mut payload = head.into_bytes();
        payload.extend(pad);
        payload.extend_from_slice(b"\"}");
        Self {
            event_type: EVENT_TYPE,
            payload,
        }
    }

    /// The same as events of another type.
    pub fn of(self, event_type: &'static str) -> Self {
        Self { event_type, ..self }
    }

    /// The payload of event `seq`, sent at `now_ns` (nanoseconds since the epoch).
    pub fn payload(&self, seq: u64, now_ns: u64) -> Vec<u8> {
        let mut payload = self.payload.clone();
        stamp(&mut payload, seq, now_ns);
        payload
    }

    /// The same as the body of `POST /webhooks/events`.
    pub fn request(&self, seq: u64, now_ns: u64) -> Bytes {
        let mut body = Vec::with_capacity(self.payload.len() + 64);
        self.append_request(seq, now_ns, &mut body);
        body.into()
    }

    /// The same, added to `body`: a line of `application/x-ndjson` but for its end.
    pub fn append_request(&self, seq: u64, now_ns: u64, body: &mut Vec<u8>) {
        body.extend_from_slice(br#"{"type":""#);
        body.extend_from_slice(self.event_type.as_bytes());
        body.extend_from_slice(br#"","payload":"#);
        let at = body.len();
        body.extend_from_slice(&self.payload);
        stamp(&mut body[at..], seq, now_ns);
        body.push(b'}');
    }

    /// The same as a record of the log: Avro `WebhookEvent` v1, a datum without framing.
    pub fn avro_v1(&self, seq: u64, now_ns: u64) -> Vec<u8> {
        let mut datum = Vec::with_capacity(self.payload.len() + self.event_type.len() + 8);
        avro_string(&mut datum, self.event_type.as_bytes());
        avro_string(&mut datum, &self.payload(seq, now_ns));
        datum
    }
}

/// Which event a received payload is, if it is one of ours.
pub fn seq_of(payload: &[u8]) -> Option<u64> {
    number(payload, SEQ_AT, SEQ_DIGITS)
}

fn stamp(payload: &mut [u8], seq: u64, now_ns: u64) {
    write_number(&mut payload[SEQ_AT..SEQ_AT + SEQ_DIGITS], seq);
    write_number(&mut payload[SENT_AT..SENT_AT + SENT_DIGITS], now_ns);
}

fn write_number(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn number(payload: &[u8], at: usize, digits: usize) -> Option<u64> {
    let digits = payload.get(at..at + digits)?;
    digits.iter().try_fold(0_u64, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
    })
}

/// A string in Avro's binary form: its length as a zigzag varint, then its bytes.
fn avro_string(datum: &mut Vec<u8>, text: &[u8]) {
    let mut zigzag = (text.len() as u64) << 1;
    while zigzag > 0x7f {
        datum.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    datum.push(zigzag as u8);
    datum.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_the_size_asked_for_and_says_which_it_is() {
        for size in [200, 1024, 65_536] {
            let payload = Template::new(size).payload(4_200_000_001, 1_767_225_599_123_456_789);
            assert_eq!(payload.len(), size);
            assert_eq!(seq_of(&payload), Some(4_200_000_001));
            let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(value["seq"], "4200000001");
            assert_eq!(value["sent"], "1767225599123456789");
        }
    }

    #[test]
    fn a_request_carries_the_payload_as_it_is() {
        let template = Template::new(300);
        let request = template.request(7, 9);
        let payload = template.payload(7, 9);
        let value: serde_json::Value = serde_json::from_slice(&request).unwrap();
        assert_eq!(value["type"], EVENT_TYPE);
        assert!(request.ends_with(&[payload.as_slice(), b"}"].concat()));
    }

    #[test]
    fn an_avro_record_is_two_strings_with_their_lengths() {
        let datum = Template::new(300).avro_v1(7, 9);
        assert_eq!(datum[0] as usize, EVENT_TYPE.len() * 2);
        let rest = &datum[1 + EVENT_TYPE.len()..];
        // 300 as a zigzag varint.
        assert_eq!(&rest[..2], &[0xd8, 0x04]);
        assert_eq!(seq_of(&rest[2..]), Some(7));
        assert_eq!(rest.len(), 302);
    }

    #[test]
    fn what_is_not_ours_has_no_number() {
        assert_eq!(seq_of(b""), None);
        assert_eq!(seq_of(br#"{"seq":"00000x0001","#), None);
    }
}
