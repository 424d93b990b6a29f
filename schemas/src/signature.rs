//! Standard Webhooks `v1`: HMAC-SHA256 over `id.timestamp.body`. Beside it, [`v1a`] and the headers of other
//! senders ([`compatible`]).

pub mod compatible;
pub mod v1a;

use crate::target::{LiveKey, Scheme, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use std::time::Duration;

/// What every secret of scheme `v1` begins with.
pub const SECRET_PREFIX: &str = "whsec_";

/// The fewest and the most bytes of a key, by the specification.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Text that is not a `whsec_` secret. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It begins otherwise.
    #[error("a secret begins with {SECRET_PREFIX}")]
    Prefix,
    /// What follows the prefix is not base64.
    #[error("a secret is {SECRET_PREFIX} and standard base64, with its padding")]
    Base64,
    /// The key is too short or too long.
    #[error("a secret's key is 24 to 64 bytes, this one is {0}")]
    Length(usize),
}

/// Why a request's signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The header holds no signature at all.
    #[error("no signature")]
    MissingSignature,
    /// The timestamp is further back than the tolerance.
    #[error("the timestamp is too old")]
    TooOld,
    /// The timestamp is further ahead than the tolerance.
    #[error("the timestamp is too far ahead")]
    TooNew,
    /// No signature in the list was made with one of the keys.
    #[error("no signature matches")]
    NoMatch,
}

/// Reads a secret: `whsec_` and the key in standard base64, padded.
///
/// # Errors
/// Says what is wrong with it without showing it.
pub fn parse_secret(text: &str) -> Result<SigningKey, SecretError> {
    let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretError::Prefix)?;
    let key = STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
    if KEY_BYTES.contains(&key.len()) {
        Ok(SigningKey::from_bytes(key))
    } else {
        Err(SecretError::Length(key.len()))
    }
}

/// A key as its owner is shown it, once.
#[must_use]
pub fn encode_secret(key: &SigningKey) -> String {
    let mut text = SECRET_PREFIX.to_owned();
    STANDARD.encode_string(key.as_bytes(), &mut text);
    text
}

/// The value of `webhook-signature`: one `v1,<base64>` per key in their order, a space between.
///
/// `timestamp` is this attempt's, in whole seconds since the epoch. `body` is read once per key
/// and not copied.
#[must_use]
pub fn sign<'a>(
    keys: impl IntoIterator<Item = &'a SigningKey>,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> String {
    // "v1," and 44 characters of base64: one key is the usual case.
    let mut header = String::with_capacity(48);
    for key in keys {
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str("v1,");
        STANDARD.encode_string(tag(key, id, timestamp, body), &mut header);
    }
    header
}

/// The value of `webhook-signature` with these schemes: all signatures of one scheme, then those of the next.
#[must_use]
pub fn sign_by<'a>(
    schemes: &[Scheme],
    keys: impl Iterator<Item = &'a LiveKey> + Clone,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> String {
    let mut header = String::new();
    for scheme in schemes {
        let part = match scheme {
            Scheme::V1 => sign(keys.clone().map(|live| &live.key), id, timestamp, body),
            Scheme::V1a => {
                let pairs = keys.clone().filter_map(|live| live.pair.as_ref());
                let all: Vec<String> = pairs.map(|pair| pair.sign(id, timestamp, body)).collect();
                all.join(" ")
            }
        };
        if !header.is_empty() && !part.is_empty() {
            header.push(' ');
        }
        header.push_str(&part);
    }
    header
}

/// What is signed: `id.timestamp.body`.
fn content(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{id}.{timestamp}.").into_bytes();
    content.extend_from_slice(body);
    content
}

/// Checks the value of `webhook-signature`, as a receiver does: one signature of the list made with
/// one of the keys is enough, those of other versions are skipped, and `timestamp` may be
/// `tolerance` away from `now_secs` (seconds since the epoch) either way.
///
/// # Errors
/// Says which of the checks failed.
pub fn verify(
    keys: &[SigningKey],
    id: &str,
    timestamp: i64,
    body: &[u8],
    header: &str,
    now_secs: i64,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    if header.split_ascii_whitespace().next().is_none() {
        return Err(VerifyError::MissingSignature);
    }
    let tolerance = i64::try_from(tolerance.as_secs()).unwrap_or(i64::MAX);
    if now_secs.saturating_sub(timestamp) > tolerance {
        return Err(VerifyError::TooOld);
    }
    if timestamp.saturating_sub(now_secs) > tolerance {
        return Err(VerifyError::TooNew);
    }
    let expected: Vec<hmac::Tag> = keys.iter().map(|key| tag(key, id, timestamp, body)).collect();
    let matched = header
        .split_ascii_whitespace()
        .filter_map(|entry| entry.strip_prefix("v1,"))
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .any(|given| expected.iter().any(|tag| same(tag.as_ref(), &given)));
    if matched {
        Ok(())
    } else {
        Err(VerifyError::NoMatch)
    }
}

fn tag(key: &SigningKey, id: &str, timestamp: i64, body: &[u8]) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(id.as_bytes());
    context.update(b".");
    context.update(timestamp.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    context.sign()
}

/// Compares in a time that depends on the lengths only: how far a guess was right must not show.
fn same(one: &[u8], other: &[u8]) -> bool {
    let difference = one
        .iter()
        .zip(other)
        .fold(0_u8, |difference, (a, b)| difference | (a ^ b));
    one.len() == other.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests;
