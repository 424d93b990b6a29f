//! Standard Webhooks `v1`: HMAC-SHA256 over `id.timestamp.body`.

use crate::target::SigningKey;
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
mod tests {
    use super::*;

    /// The specification's examples: secret, id, timestamp, body, signature.
    const VECTORS: [(&str, &str, i64, &[u8], &str); 2] = [
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            br#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ];
    const TOLERANCE: Duration = Duration::from_secs(300);

    fn verify_second(header: &str, now_secs: i64) -> Result<(), VerifyError> {
        let (secret, id, timestamp, body, _) = VECTORS[1];
        let keys = [parse_secret(secret).unwrap()];
        verify(&keys, id, timestamp, body, header, now_secs, TOLERANCE)
    }

    #[test]
    fn the_specifications_examples_come_out() {
        for (secret, id, timestamp, body, signature) in VECTORS {
            let keys = [parse_secret(secret).unwrap()];
            assert_eq!(sign(&keys, id, timestamp, body), signature);
            assert_eq!(
                verify(&keys, id, timestamp, body, signature, timestamp, TOLERANCE),
                Ok(())
            );
        }
    }

    #[test]
    fn every_key_signs_in_order_and_any_of_them_verifies() {
        let keys: Vec<_> = VECTORS.iter().map(|v| parse_secret(v.0).unwrap()).collect();
        let (_, id, timestamp, body, signature) = VECTORS[1];
        let header = sign(&keys, id, timestamp, body);
        let list: Vec<&str> = header.split(' ').collect();
        assert_eq!(list.len(), 2);
        assert_eq!(list[1], signature);
        for key in keys {
            assert_eq!(
                verify(&[key], id, timestamp, body, &header, timestamp, TOLERANCE),
                Ok(())
            );
        }
        assert_eq!(sign(&[], id, timestamp, body), "");
    }

    #[test]
    fn what_is_not_the_signature_is_refused() {
        let (_, _, now, _, good) = VECTORS[1];
        let truncated = &good[..good.len() - 1];
        let table = [
            (good.to_owned(), Ok(())),
            (String::new(), Err(VerifyError::MissingSignature)),
            ("  ".to_owned(), Err(VerifyError::MissingSignature)),
            ("v1,".to_owned(), Err(VerifyError::NoMatch)),
            ("v1".to_owned(), Err(VerifyError::NoMatch)),
            (truncated.to_owned(), Err(VerifyError::NoMatch)),
            (format!("v1,{}", &good[7..]), Err(VerifyError::NoMatch)),
            (good.replace("v1,", "v2,"), Err(VerifyError::NoMatch)),
            (good.replace("v1,", ""), Err(VerifyError::NoMatch)),
            (format!("v1,AAAA v2,BBBB {good}"), Ok(())),
            (format!("{} {good}", good.replace("v1,", "v1a,")), Ok(())),
            ("v1,AAAA v2,BBBB v1,CCCC".to_owned(), Err(VerifyError::NoMatch)),
        ];
        for (header, expected) in table {
            assert_eq!(verify_second(&header, now), expected, "{header}");
        }
    }

    #[test]
    fn a_timestamp_may_be_five_minutes_off_either_way() {
        let (_, _, signed_at, _, good) = VECTORS[1];
        assert_eq!(verify_second(good, signed_at + 300), Ok(()));
        assert_eq!(verify_second(good, signed_at - 300), Ok(()));
        assert_eq!(verify_second(good, signed_at + 301), Err(VerifyError::TooOld));
        assert_eq!(verify_second(good, signed_at - 301), Err(VerifyError::TooNew));
        assert_eq!(verify_second(good, i64::MAX), Err(VerifyError::TooOld));
        assert_eq!(verify_second(good, i64::MIN), Err(VerifyError::TooNew));
    }

    #[test]
    fn id_timestamp_body_and_key_are_all_signed() {
        let (secret, id, timestamp, body, good) = VECTORS[1];
        let keys = [parse_secret(secret).unwrap()];
        let other = [parse_secret(VECTORS[0].0).unwrap()];
        let refused = Err(VerifyError::NoMatch);
        let check = |keys: &[SigningKey], id, at, body| verify(keys, id, at, body, good, at, TOLERANCE);
        assert_eq!(check(&keys, id, timestamp, body), Ok(()));
        assert_eq!(check(&keys, "msg_other", timestamp, body), refused);
        assert_eq!(check(&keys, id, timestamp + 1, body), refused);
        assert_eq!(check(&keys, id, timestamp, b"{}"), refused);
        assert_eq!(check(&other, id, timestamp, body), refused);
        assert_eq!(check(&[], id, timestamp, body), refused);
    }

    #[test]
    fn bodies_need_not_be_text() {
        let keys = [parse_secret(VECTORS[0].0).unwrap()];
        let body = [0xff, 0, 0x80];
        let header = sign(&keys, "id", 1, &body);
        assert_eq!(verify(&keys, "id", 1, &body, &header, 1, TOLERANCE), Ok(()));
    }

    #[test]
    fn secrets_round_trip() {
        for length in [24, 25, 26, 32, 64] {
            let key = SigningKey::from_bytes((0..length).collect());
            assert_eq!(parse_secret(&encode_secret(&key)), Ok(key));
        }
    }

    #[test]
    fn a_wrong_secret_is_refused_and_not_shown() {
        let encoded = |length: usize| format!("whsec_{}", STANDARD.encode(vec![7; length]));
        let table = [
            (String::new(), SecretError::Prefix),
            ("C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned(), SecretError::Prefix),
            (
                "whsk_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned(),
                SecretError::Prefix,
            ),
            ("whsec_".to_owned(), SecretError::Length(0)),
            (encoded(23), SecretError::Length(23)),
            (encoded(65), SecretError::Length(65)),
            ("whsec_not base64 at all!".to_owned(), SecretError::Base64),
            (
                "whsec_C2FVsBQIhrscChlQIMV-b5sSYspob7oD".to_owned(),
                SecretError::Base64,
            ),
            (encoded(25).trim_end_matches('=').to_owned(), SecretError::Base64),
        ];
        for (text, expected) in table {
            let error = parse_secret(&text).unwrap_err();
            assert_eq!(error, expected);
            let shown = text.strip_prefix(SECRET_PREFIX).unwrap_or(&text);
            assert!(shown.is_empty() || !format!("{error} {error:?}").contains(shown));
        }
    }
}
