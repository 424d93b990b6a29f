//! How a command fails: a message a person can act on, and the contract's exit code.

use platform::config::ConfigError;
use platform::harness::Died;
use platform::ports::OpenError;
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
}

impl Failure {
    /// Bad usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: message.into(),
        }
    }

    /// A dependency is unavailable.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            code: UNAVAILABLE,
            message: message.into(),
        }
    }

    /// A role died.
    pub fn died(error: &dyn std::fmt::Display) -> Self {
        Self {
            code: DIED,
            message: error.to_string(),
        }
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

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Config(error) => error.into(),
            error @ OpenError::Unavailable { .. } => Self::unavailable(error.to_string()),
        }
    }
}

impl From<Died> for Failure {
    fn from(error: Died) -> Self {
        Self::died(&error)
    }
}
