//! Standard Webhooks `v1a`: ed25519 over `id.timestamp.body`. Who holds the public key can check a signature and
//! make none.

use super::content;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;
use std::sync::Arc;

/// What every public key begins with.
pub const PUBLIC_PREFIX: &str = "whpk_";

/// Bytes of the seed that a key pair comes from.
pub const SEED_BYTES: usize = 32;

/// A key pair, made from a seed of 32 random bytes. `Debug` shows the public key only.
#[derive(Clone)]
pub struct SigningPair(Arc<Ed25519KeyPair>);

impl SigningPair {
    /// The pair of a seed; `None` if it is not [`SEED_BYTES`] long.
    #[must_use]
    pub fn from_seed(seed: &[u8]) -> Option<Self> {
        // Checked against no public key: there is none beside it that could have been mixed up.
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(Self(Arc::new(pair)))
    }

    /// The public key as its owner is shown it: `whpk_` and base64 of its 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> String {
        let mut text = PUBLIC_PREFIX.to_owned();
        STANDARD.encode_string(self.0.public_key().as_ref(), &mut text);
        text
    }

    /// `v1a,<base64>` of a delivery.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut text = "v1a,".to_owned();
        STANDARD.encode_string(self.0.sign(&content(id, timestamp, body)), &mut text);
        text
    }
}

impl PartialEq for SigningPair {
    fn eq(&self, other: &Self) -> bool {
        self.0.public_key().as_ref() == other.0.public_key().as_ref()
    }
}

impl Eq for SigningPair {}

impl fmt::Debug for SigningPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningPair({})", self.public_key())
    }
}

/// Whether one `v1a` signature of the value of `webhook-signature` is by this public key (`whpk_…`).
#[must_use]
pub fn verify(public_key: &str, id: &str, timestamp: i64, body: &[u8], header: &str) -> bool {
    let Some(Ok(key)) = public_key
        .strip_prefix(PUBLIC_PREFIX)
        .map(|text| STANDARD.decode(text))
    else {
        return false;
    };
    let key = UnparsedPublicKey::new(&ED25519, key);
    let content = content(id, timestamp, body);
    header
        .split_ascii_whitespace()
        .filter_map(|entry| entry.strip_prefix("v1a,"))
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .any(|given| key.verify(&content, &given).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's example. Its secret key is seed and public key, one behind the other.
    const SECRET: &str =
        "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str =
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

    fn pair() -> SigningPair {
        SigningPair::from_seed(&STANDARD.decode(SECRET).unwrap()[..SEED_BYTES]).unwrap()
    }

    #[test]
    fn the_specifications_example_comes_out() {
        assert_eq!(pair().public_key(), PUBLIC);
        assert_eq!(pair().sign(ID, AT, BODY), SIGNATURE);
        assert!(verify(PUBLIC, ID, AT, BODY, SIGNATURE));
        assert!(verify(
            PUBLIC,
            ID,
            AT,
            BODY,
            &format!("v1,AAAA v1a,BBBB {SIGNATURE}")
        ));
    }

    #[test]
    fn what_is_not_the_signature_is_refused() {
        let other = SigningPair::from_seed(&[7; 32]).unwrap();
        for header in [
            "",
            "v1a,",
            &SIGNATURE.replace("v1a,", "v1,"),
            &SIGNATURE[..SIGNATURE.len() - 4],
            &other.sign(ID, AT, BODY),
        ] {
            assert!(!verify(PUBLIC, ID, AT, BODY, header), "{header}");
        }
        assert!(!verify(&other.public_key(), ID, AT, BODY, SIGNATURE));
        assert!(!verify(PUBLIC, "msg_other", AT, BODY, SIGNATURE));
        assert!(!verify(PUBLIC, ID, AT + 1, BODY, SIGNATURE));
        assert!(!verify(PUBLIC, ID, AT, b"{}", SIGNATURE));
        assert!(!verify("whpk_", ID, AT, BODY, SIGNATURE));
        assert!(!verify(
            "1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
            ID,
            AT,
            BODY,
            SIGNATURE
        ));
    }

    #[test]
    fn a_pair_shows_its_public_half_only_and_needs_a_whole_seed() {
        let shown = format!("{:?}", pair());
        assert_eq!(shown, format!("SigningPair({PUBLIC})"));
        assert!(SigningPair::from_seed(&[1; 31]).is_none());
        assert!(SigningPair::from_seed(&[1; 64]).is_none());
    }
}
