//! `hookwright dead-letters`: the records that the consumer could not read, listed and injected again.
//!
//! The dead-letter topic is read twice. The first time finds out which dead letters there are and which of
//! them are marked as injected (`choice`): a mark may stand in another partition than what it marks. The
//! second time takes the chosen ones (`list`, `inject`), so that no payload waits in memory.

mod choice;
mod inject;
mod list;

use crate::cli::DeadLettersCommand;
use crate::failure::Failure;
use crate::prepare::log_key;
use platform::clock::Clock;
use platform::config::{Config, LogKind};
use platform::event_log::{EventLog, LogError};
use platform::ports::Opener;
use platform::telemetry;
use std::path::Path;

/// Runs one of the commands.
pub async fn run(command: DeadLettersCommand, file: Option<&Path>, flags: &str) -> Result<(), Failure> {
    let config = Config::load(file, "", flags)?;
    telemetry::start_logs(&config.log)?;
    let topic = config.events.dead_letter_topic.clone();
    match command {
        DeadLettersCommand::List(args) => {
            let log = open(&config, &[]).await?;
            list::run(args, log.as_ref(), &topic).await
        }
        DeadLettersCommand::Inject(args) => {
            let targets = inject::targets(&config, args.topic.as_deref())?;
            let log = open(&config, &targets).await?;
            inject::run(args, log.as_ref(), &topic, &targets).await
        }
    }
    .map_err(|stop| match stop {
        Stop::Usage(failure) => failure,
        Stop::Log(error) => Failure::away(log_key(&config), &error),
    })
}

/// Why a command stops.
enum Stop {
    /// Its arguments do not fit what there is.
    Usage(Failure),
    /// The log does not do what is asked.
    Log(LogError),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Opens the log, which must have the dead-letter topic and these.
async fn open(config: &Config, topics: &[String]) -> Result<std::sync::Arc<dyn EventLog>, Failure> {
    let log = Opener::new(config, Clock::system()).log().await?;
    let topics = [topics, std::slice::from_ref(&config.events.dead_letter_topic)].concat();
    let checked = match config.events.log {
        LogKind::Embedded => log.provision(&topics).await,
        LogKind::Kafka => log.check(&topics).await,
    };
    checked.map_err(|error| Failure::away(log_key(config), &error))?;
    Ok(log)
}
