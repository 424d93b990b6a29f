//! Where deliveries go: address, headers, secrets, policy.

use crate::ids::{TargetId, Tenant};
use crate::rate::RateLimit;
use crate::schedule::RetryPolicy;
use crate::time::Millis;
use std::fmt;
use std::time::Duration;

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

/// The key of a `whsec_` secret: 24 to 64 bytes. Never shown by `Debug`, wiped is not promised.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(Vec<u8>);

impl SigningKey {
    /// Takes raw key bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
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

/// A key, and until when it signs: a rotated one goes on beside its successor for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveKey {
    /// The key.
    pub key: SigningKey,
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
}

impl TargetDetails {
    /// The keys that sign at `now`, the newest first. What is remembered of a target may be older
    /// than the end of a rotated key.
    pub fn keys_at(&self, now: Millis) -> impl Iterator<Item = &SigningKey> {
        self.keys
            .iter()
            .filter(move |live| live.until.is_none_or(|until| now < until))
            .map(|live| &live.key)
    }
}
