//! Signatures in a header of another sender's form, over the body alone, for receivers that already check
//! those.

use super::encode_secret;
use crate::egress::check_header;
use crate::target::SigningKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// A target has at most so many such headers.
pub const MOST_HEADERS: usize = 5;
/// The longest prefix, in characters.
pub const LONGEST_PREFIX: usize = 32;

/// Which HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the algorithms' names")]
pub enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

/// How its bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Digits and lower-case letters.
    Hex,
    /// Standard, padded.
    Base64,
}

/// A header with a signature of the body. Its key is the text of the secret as its owner was shown it, `whsec_`
/// included, as receivers of such headers take a secret to be text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureHeader {
    /// Its name, in lower case.
    pub name: String,
    /// Which HMAC.
    pub algorithm: Algorithm,
    /// How it is written.
    pub encoding: Encoding,
    /// What stands before it, such as `sha256=`; may be empty.
    pub prefix: String,
}

impl SignatureHeader {
    /// The header's value, by one secret.
    #[must_use]
    pub fn value(&self, key: &SigningKey, body: &[u8]) -> String {
        let algorithm = match self.algorithm {
            Algorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha256 => hmac::HMAC_SHA256,
            Algorithm::Sha512 => hmac::HMAC_SHA512,
        };
        let key = hmac::Key::new(algorithm, encode_secret(key).as_bytes());
        let tag = hmac::sign(&key, body);
        let mut value = self.prefix.clone();
        match self.encoding {
            Encoding::Hex => {
                for byte in tag.as_ref() {
                    for digit in [byte >> 4, byte & 15] {
                        value.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
                    }
                }
            }
            Encoding::Base64 => STANDARD.encode_string(tag, &mut value),
        }
        value
    }

    /// Checks name and prefix.
    ///
    /// # Errors
    /// Says what would be right.
    pub fn check(&self) -> Result<(), String> {
        check_header(&self.name, "")?;
        let is_visible = self.prefix.bytes().all(|byte| matches!(byte, 0x21..=0x7E));
        if self.prefix.len() > LONGEST_PREFIX || !is_visible {
            return Err(format!(
                "the prefix of {} must be at most {LONGEST_PREFIX} visible ASCII characters, such as sha256=",
                self.name
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(algorithm: Algorithm, encoding: Encoding, prefix: &str) -> SignatureHeader {
        SignatureHeader {
            name: "x-signature".to_owned(),
            algorithm,
            encoding,
            prefix: prefix.to_owned(),
        }
    }

    /// Made with Python's `hmac`: key `whsec_` and base64 of 32 times 7, body `Hello, World!`.
    #[test]
    fn other_senders_signatures_come_out() {
        let key = SigningKey::from_bytes(vec![7; 32]);
        for (algorithm, encoding, prefix, expected) in [
            (
                Algorithm::Sha256,
                Encoding::Hex,
                "sha256=",
                "sha256=de4ee4421f8ca97a3bfba800922de22a50a42b94a750020f458df34d6416240a",
            ),
            (
                Algorithm::Sha256,
                Encoding::Base64,
                "",
                "3k7kQh+MqXo7+6gAki3iKlCkK5SnUAIPRY3zTWQWJAo=",
            ),
            (
                Algorithm::Sha1,
                Encoding::Hex,
                "sha1=",
                "sha1=a48d8a8c86470f61a06f9ec2c42343cf00491bf5",
            ),
            (
                Algorithm::Sha512,
                Encoding::Base64,
                "",
                "5fXw35TYrkUBnh/QVQolaZWf/pVnQi2c+1GQ/0/PamruVihstTrTBvLkfahmhd+FFmcT4xATt1V7LwBzPgEfOQ==",
            ),
        ] {
            let value = header(algorithm, encoding, prefix).value(&key, b"Hello, World!");
            assert_eq!(value, expected);
        }
    }

    #[test]
    fn a_header_may_not_be_one_of_ours_nor_of_the_connections() {
        for (name, prefix, fine) in [
            ("x-hub-signature-256", "sha256=", true),
            ("x-shopify-hmac-sha256", "", true),
            ("webhook-signature", "", false),
            ("webhook-anything", "", false),
            ("content-length", "", false),
            ("x-a\r\nb", "", false),
            ("", "", false),
            ("x-a", "a b", false),
            ("x-a", "a\r\n", false),
            ("x-a", &"p".repeat(LONGEST_PREFIX + 1), false),
        ] {
            let header = SignatureHeader {
                name: name.to_owned(),
                ..header(Algorithm::Sha256, Encoding::Hex, prefix)
            };
            assert_eq!(header.check().is_ok(), fine, "{name:?} {prefix:?}");
        }
    }
}
