//! Secrets: sealing them at rest, and drawing new ones.
//!
//! A target's signing keys lie in the database sealed under a master key of the configuration
//! (`secrets.key`), so that a copy of the database alone signs nothing. Everything sealed names its key, so
//! that a new key can take over while the old one still opens (`secrets.old_keys`).

pub mod kms;
mod sealer;

pub use sealer::{KeyId, MARK_LEN, MasterKey, OpenError, Sealer, SecretKeyError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use schemas::target::SigningKey;

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
