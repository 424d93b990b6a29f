//! The keys themselves, and what must hold between them.

use super::mail::Mail;
use super::topic::Topic;
use super::units::{MaybeSpan, Size, Span};
use ipnet::IpNet;
use schemas::egress::hosts::HostPattern;
use schemas::schedule::RetryPolicy;
use schemas::verification::Verification;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The whole configuration. Each field is a section of `hookwright.default.toml`, which documents
/// the keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Config {
    pub data: PathBuf,
    pub api: Api,
    pub ops: Ops,
    pub events: Events,
    pub kafka: Kafka,
    pub queue: Queue,
    pub payloads: Payloads,
    pub aws: Aws,
    pub store: Store,
    pub delivery: Delivery,
    pub breaker: Breaker,
    pub retry: Retry,
    pub replay: Replay,
    pub secrets: Secrets,
    pub mail: Mail,
    pub embedded: Embedded,
    pub shutdown: Shutdown,
    pub log: Log,
}

/// `[api]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Api {
    pub listen: SocketAddr,
    pub base_path: String,
    pub admin_key: Option<String>,
    pub verification: Verification,
    pub idempotency_kept: Span,
    pub rate_limit: u32,
    pub rate_burst: u32,
    pub cors_origins: Vec<String>,
}

/// `[ops]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Ops {
    pub listen: SocketAddr,
}

/// Which event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub enum LogKind {
    Embedded,
    Kafka,
}

/// `[events]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Events {
    pub log: LogKind,
    pub topics: Vec<Topic>,
    pub dead_letter_topic: String,
    pub attempts_topic: String,
    pub max_payload: Size,
    pub poison_share: f64,
    pub match_memory: Size,
}

/// Who shares a group's partitions out: its members by the classic protocol, or the brokers (KIP-848).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub enum GroupProtocol {
    #[default]
    Classic,
    Consumer,
}

/// `[kafka]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Kafka {
    pub brokers: String,
    pub group: String,
    pub instance: Option<String>,
    pub protocol: GroupProtocol,
    pub schema_registry: Option<String>,
    pub schema_registry_user: Option<String>,
    pub schema_registry_password: Option<String>,
    pub schema_registry_ca: Option<PathBuf>,
    pub partitions: i32,
    pub properties: BTreeMap<String, String>,
}

/// Where the schema registry is, of `[kafka]`.
#[derive(Clone)]
pub struct SchemaRegistry {
    /// Its address, such as `http://127.0.0.1:8081`.
    pub address: String,
    /// User and password of basic authentication.
    pub credentials: Option<(String, String)>,
    /// PEM file with the certificates to trust in place of the system's.
    pub ca: Option<PathBuf>,
}

/// Which delivery queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub enum QueueKind {
    Embedded,
    Sqs,
}

/// `[queue]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Queue {
    pub kind: QueueKind,
    pub prefix: String,
}

/// Which payload store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub enum PayloadsKind {
    Embedded,
    S3,
}

/// `[payloads]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Payloads {
    pub kind: PayloadsKind,
    pub bucket: String,
    pub inline_limit: Size,
    pub spill: SpillBy,
    pub prices: Prices,
}

/// What decides whether a payload goes to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub enum SpillBy {
    Size,
    Cost,
}

/// `[payloads.prices]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Prices {
    pub queue: f64,
    pub put: f64,
    pub get: f64,
    pub storage: f64,
}

/// `[aws]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Aws {
    pub endpoint: Option<String>,
    pub region: Option<String>,
}

/// `[store]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Store {
    pub url: Option<String>,
    pub connections: u32,
    pub wait: Span,
    pub row_level_security: bool,
    pub history: Span,
    pub audit: Span,
}

/// `[delivery]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Delivery {
    pub timeout: Span,
    pub connect_timeout: Span,
    pub concurrency: usize,
    pub per_target: usize,
    pub per_target_start: usize,
    pub per_target_min: usize,
    pub tenant_share: f64,
    pub dispatchers: u32,
    pub response_limit: Size,
    pub retry_after_cap: Span,
    pub disable_after: MaybeSpan,
    pub allow_http: bool,
    pub allow_networks: Vec<IpNet>,
    pub allow_hosts: Vec<HostPattern>,
    pub deny_networks: Vec<IpNet>,
    pub proxy: Option<String>,
    pub origin: Option<String>,
}

/// `[breaker]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Breaker {
    pub min_attempts: u32,
    pub share: f64,
    pub window: Span,
    pub open: Span,
    pub open_max: Span,
}

/// `[retry]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Retry {
    pub window: Span,
    pub first: Span,
    pub factor: f64,
    pub max: Span,
    pub jitter: f64,
    pub packs: bool,
}

/// `[replay]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Replay {
    pub rate: u32,
}

/// `[secrets]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Secrets {
    pub key: Option<String>,
    pub old_keys: Vec<String>,
    pub kms_key: Option<String>,
}

/// What survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub enum SyncKind {
    Normal,
    Full,
}

/// `[embedded]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Embedded {
    pub sync: SyncKind,
    pub retention: Span,
}

/// `[shutdown]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Shutdown {
    pub grace: Span,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub enum LogFormat {
    Text,
    Json,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "hookwright.default.toml documents each key")]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

impl Config {
    /// The policy of targets that have none of their own.
    #[must_use]
    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            window: self.retry.window.0,
            first: self.retry.first.0,
            factor: self.retry.factor,
            max: self.retry.max.0,
            jitter: self.retry.jitter,
            schedule: Vec::new(),
        }
    }

    /// Where the schema registry is, if there is one.
    #[must_use]
    pub fn schema_registry(&self) -> Option<SchemaRegistry> {
        let kafka = &self.kafka;
        kafka.schema_registry.clone().map(|address| SchemaRegistry {
            address,
            credentials: kafka
                .schema_registry_user
                .clone()
                .zip(kafka.schema_registry_password.clone()),
            ca: kafka.schema_registry_ca.clone(),
        })
    }

    /// The database's address.
    #[must_use]
    pub fn store_url(&self) -> String {
        match &self.store.url {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", self.data.join("hookwright.db").display()),
        }
    }

    /// All topics that hookwright reads or writes.
    #[must_use]
    pub fn all_topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self
            .events
            .topics
            .iter()
            .map(|topic| topic.name.clone())
            .collect();
        topics.push(self.events.dead_letter_topic.clone());
        topics.push(self.events.attempts_topic.clone());
        topics
    }
}

// Sections that hold a secret show nothing of it.

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchemaRegistry")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}
