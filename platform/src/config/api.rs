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
        self.check_origins()
    }

    /// Each is an origin as browsers send it, since it is compared as text.
    fn check_origins(&self) -> Result<(), ConfigError> {
        for origin in &self.cors_origins {
            if origin == "*" && self.cors_origins.len() > 1 {
                let message = "\"*\" stands for all: leave the others out";
                return Err(ConfigError::new("api.cors_origins", message));
            }
            if origin != "*" && !is_origin(origin) {
                let message = format!(
                    "\"{origin}\" is not an origin; write scheme, host in lower case, and port unless it is the usual one, \
                     such as \"https://console.example.com\" or \"http://localhost:3000\", or \"*\" for all"
                );
                return Err(ConfigError::new("api.cors_origins", message));
            }
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

/// Whether a browser would write an origin so.
fn is_origin(text: &str) -> bool {
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    // What a browser writes is what a URL's origin is written as: without the usual port, in lower case.
    is_web
        && !text.contains('*')
        && url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for good in [
            "https://console.example.com",
            "http://localhost:3000",
            "http://[::1]:8080",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "console.example.com",
            "https://console.example.com/",
            "https://Console.example.com",
            "https://console.example.com:443",
            "https://*.example.com",
            "ftp://example.com",
            "null",
        ] {
            assert!(!is_origin(bad), "{bad}");
            let flags = format!("api.cors_origins = [\"{bad}\"]");
            let error = Config::load(None, "", &flags).map(drop).unwrap_err();
            assert!(error.to_string().starts_with("api.cors_origins: "), "{error}");
        }
        for (flags, fits) in [
            ("api.cors_origins = [\"*\"]", true),
            ("api.cors_origins = [\"*\", \"http://localhost:3000\"]", false),
        ] {
            assert_eq!(Config::load(None, "", flags).is_ok(), fits, "{flags}");
        }
    }
}
