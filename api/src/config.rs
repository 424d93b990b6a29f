//! What the API needs to know.

use crate::connections::Patience;
use crate::pace::Pace;
use schemas::egress::EgressRules;
use schemas::schedule::RetryPolicy;
use schemas::verification::Verification;
use std::time::Duration;

/// The API's configuration, checked before it comes here. No `Debug`: it holds the admin key.
#[derive(Clone)]
pub struct Config {
    /// What all paths begin with: `/v1`. Begins with `/` and does not end with one.
    pub base_path: String,
    /// The bearer key of the admin routes; without one they answer 403.
    pub admin_key: Option<String>,
    /// The topic that published events are appended to.
    pub topic: String,
    /// How that topic's records say which schema wrote them.
    pub encoding: Encoding,
    /// The largest payload of one event, in bytes.
    pub max_payload: usize,
    /// Which addresses targets may have.
    pub rules: EgressRules,
    /// What a target's retry policy takes where it leaves something out.
    pub retry: RetryPolicy,
    /// The longest retry window a target may ask for: its payloads are kept longer than that.
    pub longest_window: Duration,
    /// Whether targets may be verified by the handshake of CloudEvents: it needs a name for us.
    pub has_origin: bool,
    /// How targets prove that they want deliveries which name no way. Unless it is `None`, all have to.
    pub verification: Verification,
    /// How long an idempotency key stands for what was asked for under it.
    pub idempotency_kept: Duration,
    /// How often one API key may ask; `None` for always.
    pub pace: Option<Pace>,
    /// How long clients may take, and how many they may be.
    pub patience: Patience,
    /// The origins whose pages may ask, as browsers write them, or `*` for all.
    pub cors_origins: Vec<String>,
}

/// How published events are written: as the topic's readers expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// A bare Avro datum.
    #[default]
    Raw,
    /// Single-object encoding: the schema's fingerprint before the datum.
    SingleObject,
}
