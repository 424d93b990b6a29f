//! Secrets: sealing them at rest, and drawing new ones.
//!
//! A target's signing keys lie in the database sealed under one key of the configuration
//! (`secrets.key`), so that a copy of the database alone signs nothing.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use schemas::target::SigningKey;
use std::fmt;
use std::sync::Arc;

/// The first byte of everything sealed: how the rest is laid out.
const VERSION: u8 = 1;
/// Bytes of the key's id: enough to tell two keys apart, too few to say anything about them.
const KEY_ID_LEN: usize = 4;
/// Version byte and key id: authenticated with the secret, not encrypted.
const HEADER_LEN: usize = 1 + KEY_ID_LEN;

/// A sealing key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// It is not base64.
    #[error("not base64; give 32 random bytes in base64, such as `openssl rand -base64 32` prints")]
    NotBase64,
    /// It is base64 of too few or too many bytes.
    #[error("{0} bytes; give 32 random bytes in base64, such as `openssl rand -base64 32` prints")]
    WrongLength(usize),
}

/// Why something sealed could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed with another key.
    #[error(
        "sealed with another key (id {sealed_with}) than the configured secrets.key (id {configured}); \
         configure the key it was sealed with"
    )]
    OtherKey {
        /// The id of the key it was sealed with.
        sealed_with: String,
        /// The id of the key at hand.
        configured: String,
    },
    /// The right key, but the bytes are not what was sealed.
    #[error("damaged: not the bytes that were sealed")]
    Damaged,
    /// Not a layout this version knows.
    #[error("sealed by a version of hookwright that this one does not know")]
    UnknownVersion,
}

/// Seals and opens secrets with one key. Cloned freely; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Sealer(Arc<Inner>);

struct Inner {
    key: LessSafeKey,
    id: [u8; KEY_ID_LEN],
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// Takes a key as it stands in the configuration: base64 of 32 bytes.
    ///
    /// # Errors
    /// When it is not that; the error says what would be right and never shows the value.
    pub fn from_base64(key: &str) -> Result<Self, SecretKeyError> {
        let bytes = STANDARD
            .decode(key.trim())
            .map_err(|_| SecretKeyError::NotBase64)?;
        let length = bytes.len();
        let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| SecretKeyError::WrongLength(length))?;
        Ok(Self::from_bytes(&bytes))
    }

    /// Draws a new key, and returns it in base64 too, for keeping.
    #[must_use]
    pub fn random() -> (Self, String) {
        let bytes = random_bytes::<32>();
        (Self::from_bytes(&bytes), STANDARD.encode(bytes))
    }

    fn from_bytes(bytes: &[u8; 32]) -> Self {
        // Unwrap safety: the only error is a wrong length, and 32 is this algorithm's.
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("32 bytes");
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&digest.as_ref()[..KEY_ID_LEN]);
        Self(Arc::new(Inner {
            key: LessSafeKey::new(key),
            id,
        }))
    }

    /// Seals: version byte, key id (4 bytes), nonce (12), then ciphertext and tag.
    #[must_use]
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        // A random nonce may be used for 2^32 secrets under one key before a repeat is likely.
        let nonce = random_bytes::<NONCE_LEN>();
        let mut secret = plain.to_vec();
        let tag = self
            .0
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(self.header()),
                &mut secret,
            )
            // Unwrap safety: the only error is a plaintext of more than 256 GiB.
            .expect("a secret is short");
        let mut sealed = self.header().to_vec();
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&secret);
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`seal`](Self::seal) made.
    ///
    /// # Errors
    /// When it was sealed with another key, or is damaged.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (header, rest) = sealed.split_at_checked(HEADER_LEN).ok_or(OpenError::Damaged)?;
        let (nonce, secret) = rest.split_at_checked(NONCE_LEN).ok_or(OpenError::Damaged)?;
        if header[0] != VERSION {
            return Err(OpenError::UnknownVersion);
        }
        if header != self.header() {
            return Err(OpenError::OtherKey {
                sealed_with: hex(&header[1..]),
                configured: hex(&self.0.id),
            });
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Damaged)?;
        let mut secret = secret.to_vec();
        let length = self
            .0
            .key
            .open_in_place(nonce, Aad::from(self.header()), &mut secret)
            .map_err(|_| OpenError::Damaged)?
            .len();
        secret.truncate(length);
        Ok(secret)
    }

    fn header(&self) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = self.0.id;
        [VERSION, a, b, c, d]
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Draws `N` bytes from the operating system's generator.
///
/// # Panics
/// When the operating system has no randomness to give: nothing could be kept secret then.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        // Unwrap safety: fails only where the system call for randomness is forbidden.
        .expect("the operating system gives random bytes");
    bytes
}

/// Draws a target's secret: `whsec_` and the base64 of 32 bytes, and the key it stands for.
#[must_use]
pub fn new_whsec() -> (String, SigningKey) {
    let key = SigningKey::from_bytes(random_bytes::<32>().to_vec());
    (schemas::signature::encode_secret(&key), key)
}

/// Draws an API key: `hk_live_` and 43 URL-safe characters.
#[must_use]
pub fn new_api_key() -> String {
    format!("hk_live_{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_again_and_shows_nothing() {
        let (sealer, kept) = Sealer::random();
        let sealed = sealer.seal(b"attack at dawn");
        assert!(!sealed.windows(6).any(|part| part == b"attack"));
        assert_ne!(
            sealed,
            sealer.seal(b"attack at dawn"),
            "each sealing has its own nonce"
        );
        let again = Sealer::from_base64(&kept).unwrap();
        assert_eq!(again.open(&sealed).unwrap(), b"attack at dawn");
        assert_eq!(again.open(&again.seal(b"")).unwrap(), b"");
        assert!(!format!("{sealer:?}").contains(&kept));
    }

    #[test]
    fn another_key_is_named_and_any_changed_byte_is_noticed() {
        let (sealer, _) = Sealer::random();
        let (other, _) = Sealer::random();
        let sealed = sealer.seal(b"attack at dawn");
        let error = other.open(&sealed).unwrap_err();
        assert!(matches!(error, OpenError::OtherKey { .. }), "{error}");
        assert!(error.to_string().contains("secrets.key"), "{error}");
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(sealer.open(&bent).is_err(), "byte {at}");
            assert!(sealer.open(&sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_says_what_would_be_right_and_not_the_value() {
        let short = STANDARD.encode([7; 16]);
        for (given, expected) in [
            ("not base64!", SecretKeyError::NotBase64),
            (short.as_str(), SecretKeyError::WrongLength(16)),
            ("", SecretKeyError::WrongLength(0)),
        ] {
            let error = Sealer::from_base64(given).unwrap_err();
            assert_eq!(error, expected);
            assert!(error.to_string().contains("32 random bytes in base64"));
            assert!(given.is_empty() || !error.to_string().contains(given));
        }
        let kept = Sealer::random().1;
        assert!(
            Sealer::from_base64(&format!(" {kept}\n")).is_ok(),
            "white space around it"
        );
    }

    #[test]
    fn drawn_secrets_have_their_form_and_do_not_repeat() {
        let (text, key) = new_whsec();
        assert_eq!(schemas::signature::parse_secret(&text).unwrap(), key);
        assert_eq!(key.as_bytes().len(), 32);
        assert_ne!(new_whsec().0, text);
        let api_key = new_api_key();
        let rest = api_key.strip_prefix("hk_live_").unwrap();
        assert_eq!(rest.len(), 43);
        assert!(
            rest.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert_ne!(new_api_key(), api_key);
    }
}
