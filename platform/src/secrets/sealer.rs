//! Sealing under one master key, and opening what any of several has sealed.

use super::random_bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The first byte of everything sealed: how the rest is laid out.
const VERSION: u8 = 1;
/// Bytes of a key's id: enough to tell two keys apart, too few to say anything about them.
const KEY_ID_LEN: usize = 4;
/// What everything sealed begins with, version byte and key id: authenticated with the secret, not encrypted.
pub const MARK_LEN: usize = 1 + KEY_ID_LEN;

/// A master key that cannot be used.
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
        "sealed with another key (id {sealed_with}) than is configured (id {configured}); set the key it was \
         sealed with as secrets.key, or add it to secrets.old_keys"
    )]
    OtherKey {
        /// The id of the key it was sealed with.
        sealed_with: KeyId,
        /// The ids of the keys at hand, a comma between.
        configured: String,
    },
    /// The right key, but the bytes are not what was sealed.
    #[error("damaged: not the bytes that were sealed")]
    Damaged,
    /// Not a layout this version knows.
    #[error("sealed by a version of hookwright that this one does not know")]
    UnknownVersion,
}

/// What tells a master key from others, and says nothing about it: the first bytes of its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId([u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl KeyId {
    /// The key of something sealed, by what it begins with; `None` where that is no layout this version knows.
    #[must_use]
    pub fn of(sealed: &[u8]) -> Option<Self> {
        match sealed.first_chunk::<MARK_LEN>()? {
            [VERSION, a, b, c, d] => Some(Self([*a, *b, *c, *d])),
            _ => None,
        }
    }
}

/// A master key. `Debug` shows its id only. The cipher's own copy of it cannot be overwritten, and stays until
/// the process ends; every other copy made here is overwritten.
pub struct MasterKey {
    key: LessSafeKey,
    id: KeyId,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

impl MasterKey {
    /// Takes a key as it stands in the configuration: base64 of 32 bytes.
    ///
    /// # Errors
    /// When it is not that; the error says what would be right and never shows the value.
    pub fn from_base64(key: &str) -> Result<Self, SecretKeyError> {
        let bytes = STANDARD
            .decode(key.trim())
            .map(Zeroizing::new)
            .map_err(|_| SecretKeyError::NotBase64)?;
        let whole = <&[u8; 32]>::try_from(bytes.as_slice());
        Ok(Self::from_bytes(
            whole.map_err(|_| SecretKeyError::WrongLength(bytes.len()))?,
        ))
    }

    /// Takes the key's bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        // Unwrap safety: the only error is a wrong length, and 32 is this algorithm's.
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("32 bytes");
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&digest.as_ref()[..KEY_ID_LEN]);
        Self {
            key: LessSafeKey::new(key),
            id: KeyId(id),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    fn mark(&self) -> [u8; MARK_LEN] {
        let [a, b, c, d] = self.id.0;
        [VERSION, a, b, c, d]
    }
}

/// Seals with one master key, and opens what that one and older ones have sealed. Cloned freely; `Debug` shows
/// nothing of a key.
#[derive(Clone)]
pub struct Sealer(Arc<Keys>);

struct Keys {
    seals: MasterKey,
    opens: Vec<MasterKey>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// Seals with `seals`; `opens` open too.
    #[must_use]
    pub fn new(seals: MasterKey, opens: Vec<MasterKey>) -> Self {
        Self(Arc::new(Keys { seals, opens }))
    }

    /// One key for both, as it stands in the configuration: base64 of 32 bytes.
    ///
    /// # Errors
    /// When it is not that; the error says what would be right and never shows the value.
    pub fn from_base64(key: &str) -> Result<Self, SecretKeyError> {
        Ok(Self::new(MasterKey::from_base64(key)?, Vec::new()))
    }

    /// Draws a new key, and returns it in base64 too, for keeping.
    #[must_use]
    pub fn random() -> (Self, String) {
        let bytes = Zeroizing::new(random_bytes::<32>());
        let key = MasterKey::from_bytes(&bytes);
        (Self::new(key, Vec::new()), STANDARD.encode(bytes.as_slice()))
    }

    /// The key that seals.
    #[must_use]
    pub fn seals_with(&self) -> KeyId {
        self.0.seals.id
    }

    /// What everything begins with that the key which seals now has sealed.
    #[must_use]
    pub fn mark(&self) -> [u8; MARK_LEN] {
        self.0.seals.mark()
    }

    /// Whether it has this key.
    #[must_use]
    pub fn has(&self, id: KeyId) -> bool {
        self.keys().any(|key| key.id == id)
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.0.seals).chain(&self.0.opens)
    }

    /// Seals: version byte, key id (4 bytes), nonce (12), then ciphertext and tag.
    #[must_use]
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let key = &self.0.seals;
        // A random nonce may be used for 2^32 secrets under one key before a repeat is likely.
        let nonce = random_bytes::<NONCE_LEN>();
        let mut secret = plain.to_vec();
        let tag = key
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(key.mark()),
                &mut secret,
            )
            // Unwrap safety: the only error is a plaintext of more than 256 GiB.
            .expect("a secret is short");
        let mut sealed = key.mark().to_vec();
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&secret);
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`seal`](Self::seal) made, with whichever of the keys it was made.
    ///
    /// # Errors
    /// When it was sealed with another key, or is damaged.
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (mark, rest) = sealed.split_at_checked(MARK_LEN).ok_or(OpenError::Damaged)?;
        let (nonce, secret) = rest.split_at_checked(NONCE_LEN).ok_or(OpenError::Damaged)?;
        let id = KeyId::of(mark).ok_or(OpenError::UnknownVersion)?;
        let Some(key) = self.keys().find(|key| key.id == id) else {
            let ids: Vec<String> = self.keys().map(|key| key.id.to_string()).collect();
            return Err(OpenError::OtherKey {
                sealed_with: id,
                configured: ids.join(", "),
            });
        };
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Damaged)?;
        let mut secret = Zeroizing::new(secret.to_vec());
        let length = key
            .key
            .open_in_place(nonce, Aad::from(key.mark()), &mut secret)
            .map_err(|_| OpenError::Damaged)?
            .len();
        secret.truncate(length);
        Ok(secret)
    }
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
        assert_eq!(*again.open(&sealed).unwrap(), b"attack at dawn");
        assert_eq!(*again.open(&again.seal(b"")).unwrap(), b"");
        let key = MasterKey::from_base64(&kept).unwrap();
        assert!(!format!("{sealer:?} {key:?}").contains(&kept));
    }

    #[test]
    fn another_key_is_named_and_any_changed_byte_is_noticed() {
        let (sealer, _) = Sealer::random();
        let (other, _) = Sealer::random();
        let sealed = sealer.seal(b"attack at dawn");
        let error = other.open(&sealed).unwrap_err();
        assert!(matches!(error, OpenError::OtherKey { .. }), "{error}");
        for named in [
            "secrets.key",
            &sealer.seals_with().to_string(),
            &other.seals_with().to_string(),
        ] {
            assert!(error.to_string().contains(named), "{error}");
        }
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(sealer.open(&bent).is_err(), "byte {at}");
            assert!(sealer.open(&sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn an_old_key_opens_and_seals_no_more() {
        let [old, new] = [(); 2].map(|()| Sealer::random().1);
        let key = |text: &str| MasterKey::from_base64(text).unwrap();
        let before = Sealer::from_base64(&old).unwrap();
        let after = Sealer::new(key(&new), vec![key(&old)]);
        let sealed = before.seal(b"attack at dawn");
        assert_eq!(KeyId::of(&sealed), Some(before.seals_with()));
        assert!(after.has(before.seals_with()) && !before.has(after.seals_with()));
        let opened = after.open(&sealed).unwrap();
        let again = after.seal(&opened);
        assert!(again.starts_with(&after.mark()) && !sealed.starts_with(&after.mark()));
        assert!(before.open(&again).is_err());
        // A key's id that was changed opens with neither: it is authenticated.
        let mut bent = sealed.clone();
        bent[..MARK_LEN].copy_from_slice(&after.mark());
        assert_eq!(after.open(&bent), Err(OpenError::Damaged));
    }

    #[test]
    fn what_the_first_version_sealed_opens() {
        // Made by another implementation of ChaCha20-Poly1305, as the layout says.
        const SEALED: &str = "AUuwb44AAQIDBAUGBwgJCgtNAYVCD/CPTWNWZavIdLixWlpeW97lU7K7yx3XmfU=";
        let sealer = Sealer::from_base64(&STANDARD.encode([7; 32])).unwrap();
        let sealed = STANDARD.decode(SEALED).unwrap();
        assert_eq!(*sealer.open(&sealed).unwrap(), b"attack at dawn");
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
}
