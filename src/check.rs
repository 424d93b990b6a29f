//! `hookwright check`: is the configuration right, and is everything it names there?

use crate::failure::Failure;
use crate::prepare::log_key;
use crate::settings;
use crate::terminal::{Colour, coloured, say};
use platform::clock::Clock;
use platform::config::{Config, DEFAULT_FILE};
use platform::ports::Opener;
use platform::telemetry;
use std::path::Path;

/// Tries every dependency and reports each.
pub async fn run(file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let config = Config::load(file, "", flags)?;
    config.sealer()?;
    settings::check_topics(&config)?;
    telemetry::start_logs(&config.log)?;
    say(&row("config", Ok(())));
    for warning in config.warnings() {
        let place = warning.located(Some(file.unwrap_or(Path::new(DEFAULT_FILE))));
        say(&format!(
            "{:<10} {}  {place}",
            "",
            coloured("warning", Colour::Yellow)
        ));
    }
    let mut opener = Opener::new(&config, Clock::system());
    let mut failed = Vec::new();
    let mut report = |name: &'static str, result: Result<(), String>| {
        if result.is_err() {
            failed.push(name);
        }
        say(&row(name, result));
    };
    let log = match opener.log().await {
        Ok(log) => log
            .check(&config.all_topics())
            .await
            .map_err(|error| format!("{}: {error}", log_key(&config))),
        Err(error) => Err(Failure::from(error).into_message()),
    };
    report("event log", log);
    let queue = match opener.queue().await {
        Ok(queue) => queue.check().await.map_err(|error| format!("queue: {error}")),
        Err(error) => Err(Failure::from(error).into_message()),
    };
    report("queue", queue);
    let payloads = match opener.payloads().await {
        Ok(payloads) => payloads
            .check()
            .await
            .map_err(|error| format!("payloads: {error}")),
        Err(error) => Err(Failure::from(error).into_message()),
    };
    report("payloads", payloads);
    let catalog = match opener.catalog().await {
        Ok(catalog) => catalog
            .check()
            .await
            .map_err(|error| format!("store.url: {error}")),
        Err(error) => Err(Failure::from(error).into_message()),
    };
    report("database", catalog);
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::unavailable(format!("not usable: {}", failed.join(", "))))
    }
}

fn row(name: &str, result: Result<(), String>) -> String {
    match result {
        Ok(()) => format!("{name:<10} {}", coloured("ok", Colour::Green)),
        Err(why) => format!("{name:<10} {}  {why}", coloured("failed", Colour::Red)),
    }
}
