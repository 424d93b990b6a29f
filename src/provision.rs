//! `hookwright provision`: creates what the roles need. Safe to repeat.

use crate::failure::Failure;
use crate::prepare::log_key;
use crate::terminal::say;
use platform::clock::Clock;
use platform::config::Config;
use platform::ports::Opener;
use platform::telemetry;
use std::path::Path;

/// Creates topics, queues and bucket, and migrates the database.
pub async fn run(file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let config = Config::load(file, "", flags)?;
    config.check_sealing()?;
    telemetry::start_logs(&config.log)?;
    let mut opener = Opener::new(&config, Clock::system());
    let topics = config.all_topics();
    let log = opener.log().await?;
    log.provision(&topics)
        .await
        .map_err(|error| Failure::away(log_key(&config), &error))?;
    say(&format!("topics    {}", topics.join(", ")));
    opener
        .queue()
        .await?
        .provision()
        .await
        .map_err(|error| Failure::away("queue", &error))?;
    let prefix = &config.queue.prefix;
    say(&format!(
        "queues    {prefix}-dispatch, {prefix}-slow, {prefix}-retry, {prefix}-dead-letter"
    ));
    opener
        .payloads()
        .await?
        .provision()
        .await
        .map_err(|error| Failure::away("payloads", &error))?;
    say(&format!("payloads  {}", config.payloads.bucket));
    opener.provisioned_catalog().await?;
    say("database  migrated");
    Ok(())
}
