//! What must hold of a configuration beyond each key's own form.

use super::error::ConfigError;
use super::keys::{Breaker, Config, Kafka, LogKind, Payloads, PayloadsKind, QueueKind, SpillBy};
use crate::secrets::MasterKey;
use crate::telemetry;
use schemas::avro::Framing;
use schemas::schedule::MAX_WINDOW;
use std::time::Duration;

/// The largest `payloads.inline_limit`: SQS takes 1 MiB with everything that belongs to a message.
const MAX_INLINE: usize = 900 * 1024;

impl Config {
    /// What must hold beyond each key's own form.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, message: String| Err(ConfigError::new(key, message));
        self.api.check()?;
        if self.events.topics.is_empty() {
            return fail("events.topics", "must name at least one topic".into());
        }
        for topic in &self.events.topics {
            if let Err((key, message)) = topic.check() {
                return fail(&key, message);
            }
            if self.events.log == LogKind::Embedded
                && !(topic.framing == Framing::Raw && topic.takes_our_own())
            {
                return fail(
                    "events.topics",
                    format!(
                        "topic {}: the embedded log holds raw records of our own schema only",
                        topic.name
                    ),
                );
            }
            if topic.framing == Framing::Confluent && self.kafka.schema_registry.is_none() {
                return fail(
                    "kafka.schema_registry",
                    format!(
                        "is needed: topic {} has framing \"confluent\"; write for example \"http://127.0.0.1:8081\"",
                        topic.name
                    ),
                );
            }
        }
        self.kafka.check_registry()?;
        self.kafka.check_group()?;
        if !(0.0..=1.0).contains(&self.events.poison_share) {
            return fail(
                "events.poison_share",
                format!("{} is not between 0 and 1", self.events.poison_share),
            );
        }
        if self.payloads.inline_limit.0 > MAX_INLINE {
            return fail(
                "payloads.inline_limit",
                format!("must be at most {}KiB", MAX_INLINE / 1024),
            );
        }
        self.payloads.check_spill(self.queue.kind)?;
        let at_least_one = [
            ("delivery.concurrency", self.delivery.concurrency),
            ("delivery.per_target", self.delivery.per_target),
            ("delivery.per_target_start", self.delivery.per_target_start),
            ("delivery.per_target_min", self.delivery.per_target_min),
            ("delivery.dispatchers", self.delivery.dispatchers as usize),
            ("breaker.min_attempts", self.breaker.min_attempts as usize),
            ("delivery.response_limit", self.delivery.response_limit.0),
            ("events.max_payload", self.events.max_payload.0),
            ("events.match_memory", self.events.match_memory.0),
            ("replay.rate", self.replay.rate as usize),
            ("store.connections", self.store.connections as usize),
            (
                "kafka.partitions",
                usize::try_from(self.kafka.partitions).unwrap_or(0),
            ),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return fail(key, "must be at least 1".into());
            }
        }
        self.breaker.check(self.delivery.tenant_share)?;
        if self.delivery.timeout.0.is_zero() || self.delivery.timeout.0 > Duration::from_secs(60) {
            return fail(
                "delivery.timeout",
                "must be between 1ms and 60s, so that an attempt ends before its message is seen again"
                    .into(),
            );
        }
        self.check_egress()?;
        if let Err(message) = self.retry_policy().check() {
            return fail("retry", message);
        }
        if self.events.log == LogKind::Embedded && self.embedded.retention.0 <= self.retry.window.0 {
            return fail(
                "embedded.retention",
                "must be longer than retry.window: waiting deliveries read their payload from the log".into(),
            );
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&self.store.wait.0) {
            return fail("store.wait", "must be between 100ms and 60s".into());
        }
        if let Some(url) = &self.store.url
            && let Err(message) = crate::catalog::db::check_url(url)
        {
            return fail("store.url", message);
        }
        if self.store.row_level_security && self.store_url().starts_with("sqlite:") {
            return fail(
                "store.row_level_security",
                "true needs Postgres: set store.url = \"postgres://…\", or leave it false".into(),
            );
        }
        if self.store.audit.0 < Duration::from_secs(24 * 3600) {
            return fail("store.audit", "must be at least 1d, such as \"400d\"".into());
        }
        self.master_keys()?;
        if self
            .secrets
            .kms_key
            .as_deref()
            .is_some_and(|key| key.trim().is_empty())
        {
            return fail(
                "secrets.kms_key",
                "is empty; write the ARN, the id or an alias of a key of KMS".into(),
            );
        }
        if let Err(message) = telemetry::filter(&self.log.level) {
            return fail("log.level", message);
        }
        self.mail.check()?;
        // Half of it is the time to a warning.
        if let Some(after) = self.delivery.disable_after.0
            && after < Duration::from_secs(60)
        {
            return fail(
                "delivery.disable_after",
                "must be at least 1m, such as \"5d\", or \"off\"".into(),
            );
        }
        Ok(())
    }

    /// Whether payloads stay in the log, and deliveries refer to their place there: log and queue are
    /// on one disk.
    #[must_use]
    pub fn payloads_in_log(&self) -> bool {
        self.events.log == LogKind::Embedded && self.queue.kind == QueueKind::Embedded
    }

    /// The longest retry window that a target may ask for: its payloads must be there to the end.
    #[must_use]
    pub fn longest_window(&self) -> Duration {
        if !self.payloads_in_log() {
            return MAX_WINDOW;
        }
        // A window begins with the record's timestamp, or up to an hour after it.
        let kept = self
            .embedded
            .retention
            .0
            .saturating_sub(Duration::from_secs(3600));
        kept.clamp(self.retry.window.0, MAX_WINDOW)
    }

    /// Whether there is something that seals the targets' secrets: whatever opens the catalog asks first.
    ///
    /// # Errors
    /// When neither `secrets.key` nor `secrets.kms_key` is set.
    pub fn check_sealing(&self) -> Result<(), ConfigError> {
        if self.secrets.key.is_some() || self.secrets.kms_key.is_some() {
            return Ok(());
        }
        let message = "is needed to seal the targets' secrets: base64 of 32 bytes; make one with: head -c 32 /dev/urandom | base64";
        Err(ConfigError::new("secrets.key", message))
    }

    /// The master keys of the configuration itself: the one that seals, if it is one of these, and those that open.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn master_keys(&self) -> Result<(Option<MasterKey>, Vec<MasterKey>), ConfigError> {
        let key = self
            .secrets
            .key
            .as_deref()
            .map(MasterKey::from_base64)
            .transpose();
        let key = key.map_err(|error| ConfigError::new("secrets.key", error.to_string()))?;
        let old = self.secrets.old_keys.iter().enumerate().map(|(n, old)| {
            MasterKey::from_base64(old)
                .map_err(|error| ConfigError::new("secrets.old_keys", format!("number {}: {error}", n + 1)))
        });
        Ok((key, old.collect::<Result<_, _>>()?))
    }
}

impl Kafka {
    fn check_registry(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, message: String| Err(ConfigError::new(key, message));
        let address = self.schema_registry.as_deref().unwrap_or("http://none");
        if address.contains('@') {
            // Not shown: it may hold a password.
            return fail(
                "kafka.schema_registry",
                "must not hold a user: set kafka.schema_registry_user and kafka.schema_registry_password"
                    .into(),
            );
        }
        let is_address = address.parse::<axum::http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some()
                && uri.query().is_none()
        });
        if !is_address {
            return fail(
                "kafka.schema_registry",
                format!("\"{address}\" is not an address such as \"http://127.0.0.1:8081\""),
            );
        }
        if self.schema_registry_user.is_some() != self.schema_registry_password.is_some() {
            return fail(
                "kafka.schema_registry_user",
                "needs both kafka.schema_registry_user and kafka.schema_registry_password, or neither".into(),
            );
        }
        if self
            .schema_registry_user
            .as_ref()
            .is_some_and(|user| user.contains(':'))
        {
            return fail(
                "kafka.schema_registry_user",
                "must not hold a colon: basic authentication ends the user with one".into(),
            );
        }
        Ok(())
    }
}

/// The longest that a circuit breaker may look back or stay open.
const MAX_BREAKER: Duration = Duration::from_secs(24 * 3600);

impl Breaker {
    fn check(&self, tenant_share: f64) -> Result<(), ConfigError> {
        for (key, share) in [
            ("breaker.share", self.share),
            ("delivery.tenant_share", tenant_share),
        ] {
            // Written so that a NaN fails too.
            if !(share > 0.0 && share <= 1.0) {
                let message = format!("{share} is not a share; write a number above 0, up to 1");
                return Err(ConfigError::new(key, message));
            }
        }
        let least = [
            ("breaker.window", self.window.0, Duration::from_secs(1)),
            ("breaker.open", self.open.0, Duration::from_secs(1)),
            ("breaker.open_max", self.open_max.0, self.open.0),
        ];
        for (key, span, least) in least {
            if span < least || span > MAX_BREAKER {
                let least = humantime::format_duration(least);
                let message = format!("must be between {least} and 1d");
                return Err(ConfigError::new(key, message));
            }
        }
        Ok(())
    }
}

impl Payloads {
    fn check_spill(&self, queue: QueueKind) -> Result<(), ConfigError> {
        let prices = self.prices;
        let prices = [
            ("queue", prices.queue),
            ("put", prices.put),
            ("get", prices.get),
            ("storage", prices.storage),
        ];
        for (key, price) in prices {
            if !(price.is_finite() && price >= 0.0) {
                let key = format!("payloads.prices.{key}");
                return Err(ConfigError::new(
                    &key,
                    format!("{price} is not a price; write a number from 0"),
                ));
            }
        }
        if self.spill == SpillBy::Cost && (queue != QueueKind::Sqs || self.kind != PayloadsKind::S3) {
            return Err(ConfigError::new(
                "payloads.spill",
                "\"cost\" needs queue.kind = \"sqs\" and payloads.kind = \"s3\", whose requests it counts; \
                 write \"size\"",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
