//! What roles are given that takes more than reading it off the configuration.

use crate::failure::Failure;
use crate::prepare::publishable;
use platform::announce::{Announcer, Writing};
use platform::clock::Clock;
use platform::config::{Config, Payloads, PayloadsKind, Prices, QueueKind, SpillBy};
use platform::event_log::EventLog;
use recorder::mail::Mailer;
use schemas::avro::Framing;
use std::sync::Arc;

/// Where operational events go: the topic that the API publishes to, if there is one.
pub fn announcer(config: &Config, log: &Arc<dyn EventLog>, clock: &Clock) -> Option<Announcer> {
    let topic = publishable(config).ok()?;
    let writing = match topic.framing {
        Framing::SingleObject => Writing::SingleObject,
        Framing::Raw | Framing::Confluent | Framing::Header => Writing::Raw,
    };
    Some(Announcer::new(log.clone(), topic.name, writing, clock.clone()))
}

/// Who writes to targets' contacts, if the configuration names a mail server.
pub fn mailer(config: &Config) -> Result<Option<Mailer>, Failure> {
    let (Some(server), Some(from)) = (config.mail.server(), &config.mail.from) else {
        return Ok(None);
    };
    let mailer = Mailer::new(&server, from);
    mailer
        .map(Some)
        .map_err(|error| Failure::usage(format!("mail: {error}")))
}

/// What decides where a payload travels.
pub fn threshold(payloads: &Payloads) -> consumer::price::Threshold {
    let prices = payloads.prices;
    consumer::price::Threshold {
        limit: payloads.inline_limit.0,
        prices: match payloads.spill {
            SpillBy::Size => None,
            SpillBy::Cost => Some(consumer::price::Prices {
                queue: prices.queue,
                put: prices.put,
                get: prices.get,
                storage: prices.storage,
            }),
        },
    }
}

/// What packs are weighed by, where they may pay: a queue whose requests cost money, and a store that every
/// process reaches.
pub fn packs(config: &Config) -> Option<Prices> {
    let priced = config.queue.kind == QueueKind::Sqs && config.payloads.kind == PayloadsKind::S3;
    (priced && config.retry.packs).then_some(config.payloads.prices)
}
