//! Messages of the queues.

use crate::divided;
use schemas::delivery::Payload;
use schemas::wire::{decode, encode, inline_size};

/// An attribute, and a body.
pub fn wire(data: &[u8]) {
    let (attribute, body) = divided(data);
    let Ok(attribute) = std::str::from_utf8(&attribute) else {
        return;
    };
    let delivery = match decode(body, attribute) {
        Ok(delivery) => delivery,
        Err(error) => return assert!(error.to_string().len() < 200),
    };
    let message = encode(&delivery);
    // Unwrap safety of the check: a queue takes nothing but UTF-8.
    let text = std::str::from_utf8(&message.body).expect("UTF-8");
    assert!(!text.is_empty() && text.chars().all(is_taken));
    assert!(message.attribute.chars().all(is_taken));
    if let Payload::Inline(payload) = &delivery.payload {
        assert_eq!(inline_size(payload), message.body.len());
    }
    assert!(!delivery.id().as_str().is_empty() && !delivery.group().is_empty());
    assert_eq!(decode(message.body, &message.attribute), Ok(delivery));
}

/// Whether SQS takes a character (SendMessage in the SQS API reference).
fn is_taken(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}
