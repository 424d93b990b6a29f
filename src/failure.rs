//! How a command fails: a message a person can act on, and the contract's exit code.

use crate::cli::Cli;
use platform::config::{self, ConfigError, DEFAULT_FILE};
use platform::harness::Died;
use platform::ports::OpenError;
use std::path::Path;
use std::process::ExitCode;

/// Bad usage or configuration.
pub const USAGE: u8 = 64;
/// A dependency is unavailable at start.
pub const UNAVAILABLE: u8 = 69;
/// A role died.
pub const DIED: u8 = 70;

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    /// The key that names what is unavailable.
    key: Option<&'static str>,
}

impl Failure {
    /// Bad usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: message.into(),
            key: None,
        }
    }

    /// A dependency is unavailable.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            code: UNAVAILABLE,
            message: message.into(),
            key: None,
        }
    }

    /// What `key` names is unavailable.
    pub fn away(key: &'static str, why: &dyn std::fmt::Display) -> Self {
        Self {
            code: UNAVAILABLE,
            message: format!("{key}: {why}"),
            key: Some(key),
        }
    }

    /// A role died.
    pub fn died(error: &dyn std::fmt::Display) -> Self {
        Self {
            code: DIED,
            message: error.to_string(),
            key: None,
        }
    }

    /// Adds where the key was set, and what tests all of them.
    pub fn located(mut self, cli: &Cli) -> Self {
        let Some(key) = self.key else { return self };
        let named = cli.config.as_deref();
        let file = named.or(Some(Path::new(DEFAULT_FILE)));
        let place = cli
            .sets(key)
            .or_else(|| settings(key).iter().find_map(|key| config::place(key, file)));
        let place = place.map_or_else(|| "the default".to_owned(), |place| format!("set in {place}"));
        let hint = match key {
            // Of this machine, and told as it is: nothing else to test.
            "data" | "api.listen" | "ops.listen" => String::new(),
            _ => {
                let config = named.map_or_else(String::new, |file| format!(" --config {}", file.display()));
                format!("; `hookwright check{config}` tests every dependency")
            }
        };
        self.message = format!("{}\n  {place}{hint}", self.message);
        self
    }

    /// The message alone.
    pub fn into_message(self) -> String {
        self.message
    }

    /// Tells the message on stderr and answers with the code.
    pub fn exit(self) -> ExitCode {
        crate::terminal::complain(&format!("error: {}", self.message));
        ExitCode::from(self.code)
    }
}

/// The keys that may have set it: a section is named where several of its keys count.
fn settings(key: &str) -> &'static [&'static str] {
    match key {
        "queue" => &["aws.endpoint", "queue.kind"],
        "payloads" => &["payloads.bucket", "aws.endpoint", "payloads.kind"],
        "store.url" => &["store.url", "data"],
        "kafka.brokers" => &["kafka.brokers"],
        "secrets.kms_key" => &["secrets.kms_key"],
        "data" => &["data"],
        "api.listen" => &["api.listen"],
        "ops.listen" => &["ops.listen"],
        _ => &[],
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Config(error) => error.into(),
            OpenError::Unavailable { key, why } => Self::away(key, &why),
        }
    }
}

impl From<Died> for Failure {
    fn from(error: Died) -> Self {
        Self::died(&error)
    }
}
