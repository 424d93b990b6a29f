//! Where deliveries go: address, headers, secrets, policy.

use crate::ids::{TargetId, Tenant};
use crate::rate::RateLimit;
use crate::schedule::RetryPolicy;
use crate::signature::compatible::SignatureHeader;
use crate::signature::v1a::SigningPair;
use crate::time::Millis;
use crate::verification::Verification;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// Whether a target takes deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetState {
    /// It does.
    Active,
    /// Switched off, by hand or after too many failures: its deliveries are canceled.
    Disabled,
    /// Not yet proved to belong to the tenant: gets no deliveries.
    Unverified,
}

impl TargetState {
    /// The state's word in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Unverified => "unverified",
        }
    }

    /// The state of a word; `None` for any other word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "active" => Some(Self::Active),
            "disabled" => Some(Self::Disabled),
            "unverified" => Some(Self::Unverified),
            _ => None,
        }
    }
}

/// The key of a `whsec_` secret: 24 to 64 bytes. Never shown by `Debug`, and overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

impl SigningKey {
    /// Takes raw key bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The raw key bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// How a request is signed (Standard Webhooks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HMAC-SHA256, by the secret.
    V1,
    /// ed25519, by a key whose public half anybody may have.
    V1a,
}

/// How requests to a target are made, where it wants it otherwise. What is not there is as usual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestOptions {
    /// The signatures in `webhook-signature`, at least one.
    pub schemes: Vec<Scheme>,
    /// Signatures in headers of other senders' form.
    pub signature_headers: Vec<SignatureHeader>,
    /// Whom to trust, and who we are, in TLS.
    pub tls: Option<TlsOptions>,
    /// How it is to prove that it wants deliveries.
    pub verification: Verification,
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self {
            schemes: vec![Scheme::V1],
            signature_headers: Vec::new(),
            tls: None,
            verification: Verification::None,
        }
    }
}

/// TLS of a target's own, in PEM. The key of the certificate is a secret, and kept elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOptions {
    /// The authorities to trust, in place of the machine's.
    pub ca: Option<String>,
    /// The certificate to show, and those between it and its authority.
    pub client_certificate: Option<String>,
}

/// A secret text, such as a private key in PEM. Never shown by `Debug`, and overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// A key, and until when it signs: a rotated one goes on beside its successor for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveKey {
    /// The key.
    pub key: SigningKey,
    /// The pair of `v1a`, where the target has one.
    pub pair: Option<SigningPair>,
    /// The end of its overlap; `None` for a key that was not rotated.
    pub until: Option<Millis>,
}

/// All a dispatcher needs to know of a target to make one attempt.
#[derive(Clone, Debug)]
pub struct TargetDetails {
    /// Its id.
    pub id: TargetId,
    /// Its owner.
    pub tenant: Tenant,
    /// The normalised address.
    pub url: String,
    /// The target's own headers, names in lower case, checked when they were set.
    pub headers: Vec<(String, String)>,
    /// Whom to write to when deliveries are given up.
    pub contact: Option<String>,
    /// Whether it takes deliveries.
    pub state: TargetState,
    /// All secrets that signed when this was read, the newest first; see [`TargetDetails::keys_at`].
    pub keys: Vec<LiveKey>,
    /// How often it may be sent to; `None` for no limit of its own.
    pub rate_limit: Option<RateLimit>,
    /// Its own retry policy, where it differs from the configured one.
    pub retry: Option<RetryPolicy>,
    /// Its own time limit for one attempt, where it differs from the configured one.
    pub timeout: Option<Duration>,
    /// How requests are signed, and TLS.
    pub request: RequestOptions,
    /// The key of `request.tls.client_certificate`, in PEM.
    pub client_key: Option<SecretText>,
}

impl TargetDetails {
    /// The keys that sign at `now`, the newest first. What is remembered of a target may be older
    /// than the end of a rotated key.
    pub fn keys_at(&self, now: Millis) -> impl Iterator<Item = &SigningKey> {
        self.live_at(now).map(|live| &live.key)
    }

    /// The same, with what else signs beside each key.
    pub fn live_at(&self, now: Millis) -> impl Iterator<Item = &LiveKey> + Clone {
        self.keys
            .iter()
            .filter(move |live| live.until.is_none_or(|until| now < until))
    }
}
