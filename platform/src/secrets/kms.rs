//! Port: whoever keeps the key that our master keys are encrypted under. AWS KMS is the one adapter.
//!
//! A master key made there (a data key) lies in the database encrypted, is decrypted once at the start of each
//! process, and seals from then on without another call. So the key of KMS never leaves KMS, and whoever may
//! no longer use it opens nothing at their next start.

use crate::aws::{explain, place};
use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use zeroize::Zeroizing;

/// Bound to each data key, and needed to decrypt it: what it is for shows in the audit log, and another program's
/// permissions can be kept from it.
const CONTEXT: (&str, &str) = ("hookwright", "data-key");

/// Why a data key could not be made or decrypted: in words, without anything of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyServiceError(pub String);

/// Makes and decrypts data keys, of 32 bytes each.
#[async_trait]
pub trait KeyService: Send + Sync {
    /// Makes a data key under the service's key of this name; the key, and the same encrypted.
    ///
    /// # Errors
    /// When the service does not answer, or may not be asked.
    async fn make(&self, key: &str) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>), KeyServiceError>;

    /// Decrypts what [`make`](Self::make) gave for this key.
    ///
    /// # Errors
    /// When the service does not answer, may not be asked, or did not make it.
    async fn decrypt(&self, key: &str, encrypted: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyServiceError>;
}

/// AWS KMS.
#[derive(Clone, Debug)]
pub struct Kms {
    client: Client,
    place: String,
}

impl Kms {
    /// Makes nothing and calls nothing yet.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            client: Client::new(config),
            place: place(config, "KMS", "AWS_ENDPOINT_URL_KMS"),
        }
    }

    fn whole(&self, plain: Option<Blob>) -> Result<Zeroizing<[u8; 32]>, KeyServiceError> {
        let bytes = Zeroizing::new(plain.map(Blob::into_inner).unwrap_or_default());
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new);
        key.map_err(|_| {
            KeyServiceError(format!(
                "{} gave a key of {} bytes, not 32",
                self.place,
                bytes.len()
            ))
        })
    }
}

#[async_trait]
impl KeyService for Kms {
    async fn make(&self, key: &str) -> Result<(Zeroizing<[u8; 32]>, Vec<u8>), KeyServiceError> {
        let made = self
            .client
            .generate_data_key()
            .key_id(key)
            .key_spec(DataKeySpec::Aes256)
            .encryption_context(CONTEXT.0, CONTEXT.1)
            .send()
            .await
            .map_err(|error| KeyServiceError(explain(&error, &self.place)))?;
        let encrypted = made.ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
        Ok((self.whole(made.plaintext)?, encrypted))
    }

    async fn decrypt(&self, key: &str, encrypted: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyServiceError> {
        let decrypted = self
            .client
            .decrypt()
            .key_id(key)
            .ciphertext_blob(Blob::new(encrypted))
            .encryption_context(CONTEXT.0, CONTEXT.1)
            .send()
            .await
            .map_err(|error| KeyServiceError(explain(&error, &self.place)))?;
        self.whole(decrypted.plaintext)
    }
}
