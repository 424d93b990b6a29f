//! The names of things, and the ids that are derived rather than drawn.
//!
//! A derived id is the same however often a step runs, so every step may run twice.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Text that is not a valid id or name; says which kind, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: \"{value}\" is not {expected}")]
pub struct InvalidId {
    what: &'static str,
    value: String,
    expected: &'static str,
}

/// A customer of the platform. Data of one tenant is never shown or sent to another.
///
/// 1 to 63 characters of `a-z`, `0-9`, `-` and `_`, beginning with a letter or digit: fits a
/// message group id, a file name and a URL path as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Checks a name.
    ///
    /// # Errors
    /// When the name is not of the form above.
    pub fn new(name: &str) -> Result<Self, InvalidId> {
        let mut bytes = name.bytes();
        let first = bytes
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if first && rest && name.len() <= 63 {
            Ok(Self(Arc::from(name)))
        } else {
            Err(InvalidId {
                what: "tenant",
                value: name.chars().take(80).collect(),
                expected: "1 to 63 characters of a-z, 0-9, - and _, beginning with a letter or digit",
            })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Tenant {
    type Error = InvalidId;
    fn try_from(name: String) -> Result<Self, InvalidId> {
        Self::new(&name)
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0.as_ref().to_owned()
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tenant({})", self.0)
    }
}

/// The largest catalog id: JSON numbers are exact only below 2^53.
pub const MAX_NUMERIC_ID: i64 = (1 << 53) - 1;

/// Names a target. A positive number below 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TargetId(pub i64);

/// Names a filter. A positive number below 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilterId(pub i64);

/// Names a subscription. A positive number below 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubscriptionId(pub i64);

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for FilterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names an event: `webhook-id`, the same at each retry and for each target.
///
/// 1 to 64 characters of `A-Z`, `a-z`, `0-9`, `_` and `-`: no dot, which would make the signed
/// content `id.timestamp.body` ambiguous.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(Arc<str>);

impl EventId {
    /// Checks an id.
    ///
    /// # Errors
    /// When it is not of the form above.
    pub fn new(id: &str) -> Result<Self, InvalidId> {
        let fits = (1..=64).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits {
            Ok(Self(Arc::from(id)))
        } else {
            Err(InvalidId {
                what: "event id",
                value: id.chars().take(80).collect(),
                expected: "1 to 64 characters of A-Z, a-z, 0-9, _ and -",
            })
        }
    }

    /// Keeps an id that fits; otherwise derives one from it and returns the original beside it.
    #[must_use]
    pub fn adopt(given: &str) -> (Self, Option<String>) {
        match Self::new(given) {
            Ok(id) => (id, None),
            Err(_) => (
                Self(Arc::from(derived("evt_", &[given.as_bytes()]))),
                Some(given.to_owned()),
            ),
        }
    }

    /// The id of a record that brought none: the same each time that record is read.
    #[must_use]
    pub fn from_position(topic: &str, partition: i32, offset: i64) -> Self {
        let id = derived(
            "evt_",
            &[topic.as_bytes(), &partition.to_be_bytes(), &offset.to_be_bytes()],
        );
        Self(Arc::from(id))
    }

    /// The id of the n-th event, from 0, of a request with an idempotency key: the same each time it comes.
    #[must_use]
    pub fn from_key(tenant: &Tenant, key: &str, number: u64) -> Self {
        let id = derived(
            "evt_",
            &[
                b"idempotency-key",
                tenant.as_str().as_bytes(),
                key.as_bytes(),
                &number.to_be_bytes(),
            ],
        );
        Self(Arc::from(id))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EventId {
    type Error = InvalidId;
    fn try_from(id: String) -> Result<Self, InvalidId> {
        Self::new(&id)
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one event's way to one target: `hash(event id, target id)`, so that several
/// subscriptions matching one target, a re-read record and a replay all give the same delivery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(String);

impl DeliveryId {
    /// Derives the id.
    #[must_use]
    pub fn derive(event: &EventId, target: TargetId) -> Self {
        Self(derived(
            "dlv_",
            &[event.as_str().as_bytes(), &target.0.to_be_bytes()],
        ))
    }

    /// Takes an id from outside as it is, to look it up.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `prefix` and 32 hex digits of the SHA-256 over the parts, each with its length before it so
/// that no two lists of parts run together.
fn derived(prefix: &str, parts: &[&[u8]]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut id = String::with_capacity(prefix.len() + 32);
    id.push_str(prefix);
    push_hex(&mut id, &context.finish().as_ref()[..16]);
    id
}

/// Appends lower-case hex digits.
pub(crate) fn push_hex(to: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        to.push(char::from(DIGITS[usize::from(byte >> 4)]));
        to.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// The SHA-256 of some bytes as 64 lower-case hex digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    push_hex(
        &mut hex,
        ring::digest::digest(&ring::digest::SHA256, bytes).as_ref(),
    );
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_are_safe_everywhere() {
        for good in ["default", "a", "0", "acme-corp_2", &"x".repeat(63)] {
            assert!(Tenant::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "Acme", "a.b", "a:b", "a/b", "é", &"x".repeat(64)] {
            assert!(Tenant::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_id_that_fits_is_kept_and_another_is_replaced_the_same_way_each_time() {
        assert_eq!(
            EventId::adopt("order-42"),
            (EventId::new("order-42").unwrap(), None)
        );
        let (first, original) = EventId::adopt("order.42");
        assert_eq!(original.as_deref(), Some("order.42"));
        assert!(EventId::new(first.as_str()).is_ok());
        assert_eq!(EventId::adopt("order.42").0, first);
        assert_ne!(EventId::adopt("order.43").0, first);
        assert_eq!(EventId::adopt("").1.as_deref(), Some(""));
    }

    #[test]
    fn derived_ids_never_change() {
        // Golden: receivers deduplicate by these across releases.
        let event = EventId::new("evt_1").unwrap();
        assert_eq!(
            DeliveryId::derive(&event, TargetId(7)).as_str(),
            "dlv_0f2a163e1df6ac11a3fd38aee9c27cc6"
        );
        assert_eq!(
            EventId::from_position("t", 0, 5).as_str(),
            "evt_07f8f4498374baf0db213217a28edb72"
        );
        let acme = Tenant::new("acme").unwrap();
        assert_eq!(
            EventId::from_key(&acme, "k", 0).as_str(),
            "evt_97e61468146cfee05b398ebd565859b2"
        );
        assert_ne!(EventId::from_key(&acme, "k", 1), EventId::from_key(&acme, "k", 0));
        assert_ne!(
            DeliveryId::derive(&event, TargetId(8)),
            DeliveryId::derive(&event, TargetId(7))
        );
    }
}
