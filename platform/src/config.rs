//! The keys of `hookwright.toml`, their defaults and their errors.
//!
//! The documented defaults are `hookwright.default.toml`, compiled in: they are the reference, and
//! what the code starts from. Over them lie the presets of `dev`, the file, and the environment.

mod api;
mod check;
mod egress;
pub mod error;
mod group;
mod keys;
mod locate;
mod mail;
mod topic;
pub mod units;

pub use error::ConfigError;
pub use keys::*;
pub use locate::place;
pub use mail::{Mail, MailServer, MailTls};
pub use topic::*;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use std::path::Path;

/// The default configuration, with its documentation.
pub const DEFAULT: &str = include_str!("../hookwright.default.toml");

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "hookwright.toml";

impl Config {
    /// Reads the configuration: defaults, then `presets` (TOML), then the file, then the environment,
    /// then `flags` (TOML), what the command line says.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, what it was and what it may be, and where it was set.
    pub fn load(file: Option<&Path>, presets: &str, flags: &str) -> Result<Self, ConfigError> {
        let file = match file {
            Some(file) if !file.is_file() => {
                return Err(ConfigError::unreadable(file, "there is no such file"));
            }
            Some(file) => Some(file),
            None => Some(Path::new(DEFAULT_FILE)).filter(|file| file.is_file()),
        };
        let mut figment = Figment::from(Toml::string(DEFAULT)).merge(Toml::string(presets));
        if let Some(file) = file {
            // Figment takes a file it may not read for one that is not there.
            std::fs::read(file).map_err(|error| ConfigError::unreadable(file, &crate::plain::io(&error)))?;
            figment = figment.merge(Toml::file_exact(file));
        }
        figment = figment
            .merge(Env::prefixed("HOOKWRIGHT_").split("__"))
            .merge(Toml::string(flags));
        let config: Self = figment
            .extract()
            .map_err(|error| ConfigError::from_figment(&error, file))?;
        config.check().map_err(|error| error.located(file))?;
        Ok(config)
    }
}
