//! `[api]`: what its keys may be.

use super::error::ConfigError;
use super::keys::Api;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long idempotency keys may be kept.
const KEPT: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 3600);

impl Api {
    /// What must hold beyond each key's own form.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, message: String| Err(ConfigError::new(key, message));
        if !self.base_path.starts_with('/') || self.base_path.ends_with('/') {
            return fail(
                "api.base_path",
                format!("\"{}\" must begin with / and not end with it", self.base_path),
            );
        }
        if self.admin_key.as_ref().is_some_and(|key| key.len() < 16) {
            return fail("api.admin_key", "must have at least 16 characters".into());
        }
        let kept = self.idempotency_kept.0;
        if !KEPT.contains(&kept) {
            let kept = humantime::format_duration(kept);
            return fail(
                "api.idempotency_kept",
                format!("{kept} is not between 1m and 30d"),
            );
        }
        if self.rate_burst == 0 {
            return fail("api.rate_burst", "must be at least 1".into());
        }
        Ok(())
    }
}

// It holds a secret, and shows nothing of it.

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("listen", &self.listen)
            .field("base_path", &self.base_path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn keys_that_cannot_be_say_what_they_may_be() {
        for (flags, message) in [
            (
                "api.idempotency_kept = \"59s\"",
                "api.idempotency_kept: 59s is not between 1m and 30d",
            ),
            ("api.idempotency_kept = \"31d\"", "api.idempotency_kept: 1month"),
            ("api.rate_burst = 0", "api.rate_burst: must be at least 1"),
            ("api.rate_limit = -1", "api.rate_limit: "),
        ] {
            let error = Config::load(None, "", flags).map(drop).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
        }
    }
}
