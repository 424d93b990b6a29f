//! What is wrong with a configuration: the key, why, and where it was set.

use super::locate;
use std::fmt;
use std::path::Path;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key's path, such as `delivery.timeout`; empty when it is about the whole file.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Where it was set, such as `prod.toml line 31` or `HOOKWRIGHT_DELIVERY__TIMEOUT`.
    pub place: Option<String>,
}

impl ConfigError {
    /// A key whose value cannot be used.
    #[must_use]
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            message: message.into(),
            place: None,
        }
    }

    /// A file that cannot be read.
    #[must_use]
    pub fn unreadable(file: &Path, why: &str) -> Self {
        Self {
            key: String::new(),
            message: format!("{}: {why}", file.display()),
            place: None,
        }
    }

    /// Adds where the key was set: the environment wins over the file.
    #[must_use]
    pub fn located(mut self, file: Option<&Path>) -> Self {
        if self.place.is_none() && !self.key.is_empty() {
            self.place = locate::place(&self.key, file);
        }
        self
    }

    pub(super) fn from_figment(error: &figment::Error, file: Option<&Path>) -> Self {
        use figment::error::Kind;
        let mut key = error.path.join(".");
        let message = match &error.kind {
            Kind::UnknownField(field, known) => {
                key = if key.is_empty() || key.ends_with(field.as_str()) {
                    field.clone()
                } else {
                    format!("{key}.{field}")
                };
                let section = error.path.join(".");
                let full = if section.is_empty() || section.ends_with(field.as_str()) {
                    error.path.join(".")
                } else {
                    format!("{section}.{field}")
                };
                if !full.is_empty() {
                    key = full;
                }
                format!("there is no such key; here are {}", known.join(", "))
            }
            Kind::UnknownVariant(word, known) => {
                format!("\"{word}\" is not one of {}", known.join(", "))
            }
            Kind::InvalidType(found, expected) => {
                format!("found {found}, which is not {}", plain(&expected.to_string()))
            }
            Kind::InvalidValue(found, expected) => format!("{found} is not {expected}"),
            Kind::MissingField(field) => {
                key = if key.is_empty() {
                    field.to_string()
                } else {
                    format!("{key}.{field}")
                };
                "is missing".to_owned()
            }
            Kind::Message(message) => message.clone(),
            Kind::InvalidLength(..)
            | Kind::DuplicateField(_)
            | Kind::ISizeOutOfRange(_)
            | Kind::USizeOutOfRange(_)
            | Kind::Unsupported(_)
            | Kind::UnsupportedKey(..) => error.kind.to_string(),
        };
        if key.is_empty()
            && let Some(file) = file
        {
            // The text itself is broken: the message holds the line.
            return Self::unreadable(file, message.trim_end());
        }
        Self {
            key,
            message,
            place: None,
        }
        .located(file)
    }
}

/// What serde calls by the names of Rust's types, in words.
fn plain(expected: &str) -> &str {
    match expected {
        "usize" | "u64" | "u32" | "u16" | "i64" | "i32" => "a whole number",
        "f64" | "f32" => "a number",
        other => other,
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}", self.message)?;
        } else {
            write!(f, "{}: {}", self.key, self.message)?;
        }
        match &self.place {
            Some(place) => write!(f, "\n  {place}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}
