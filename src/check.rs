//! `hookwright check`: is the configuration right, and is everything it names there?

use crate::failure::Failure;
use crate::prepare::log_key;
use crate::secrets::Left;
use crate::settings;
use crate::terminal::{Colour, coloured, say};
use platform::catalog::CatalogError;
use platform::clock::Clock;
use platform::config::{Config, DEFAULT_FILE};
use platform::ports::Opener;
use platform::telemetry;
use std::path::Path;

/// Tries every dependency and reports each.
pub async fn run(file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let config = Config::load(file, "", flags)?;
    config.check_sealing()?;
    settings::check_topics(&config)?;
    telemetry::start_logs(&config.log)?;
    say(&row("config", Ok(())));
    for doubt in config.warnings() {
        let place = doubt.located(Some(file.unwrap_or(Path::new(DEFAULT_FILE))));
        say(&warning(&place.to_string()));
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
    let away = |error: CatalogError| format!("store.url: {error}");
    match opener.catalog().await {
        Err(error) => report("database", Err(Failure::from(error).into_message())),
        Ok(catalog) => match catalog.check().await.map_err(away) {
            Err(why) => report("database", Err(why)),
            Ok(()) => {
                report("database", Ok(()));
                let left = Left::look(&catalog).await.map_err(away);
                let old = left.as_ref().ok().and_then(Left::old);
                report("secrets", left.and_then(|left| left.lost().map_or(Ok(()), Err)));
                if let Some(old) = old {
                    say(&warning(&format!("{old}: run `hookwright secrets rotate`")));
                }
            }
        },
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::unavailable(format!("not usable: {}", failed.join(", "))))
    }
}

fn warning(what: &str) -> String {
    format!("{:<10} {}  {what}", "", coloured("warning", Colour::Yellow))
}

fn row(name: &str, result: Result<(), String>) -> String {
    match result {
        Ok(()) => format!("{name:<10} {}", coloured("ok", Colour::Green)),
        Err(why) => format!("{name:<10} {}  {why}", coloured("failed", Colour::Red)),
    }
}
