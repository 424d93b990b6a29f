//! What roles are given that takes more than reading it off the configuration.

use crate::failure::Failure;
use crate::prepare::publishable;
use dispatcher::gate::breaker::BreakerPolicy;
use dispatcher::gate::limit::Bounds;
use platform::announce::{Announcer, Writing};
use platform::clock::Clock;
use platform::config::{Config, Payloads, PayloadsKind, Prices, QueueKind, SpillBy, Topic};
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
fn threshold(payloads: &Payloads) -> consumer::price::Threshold {
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

/// What the API takes and allows, and that it publishes to this topic.
pub fn api(config: &Config, topic: &Topic) -> api::Config {
    let encoding = match topic.framing {
        Framing::SingleObject => api::Encoding::SingleObject,
        Framing::Raw | Framing::Confluent | Framing::Header => api::Encoding::Raw,
    };
    api::Config {
        base_path: config.api.base_path.clone(),
        admin_key: config.api.admin_key.clone(),
        topic: topic.name.clone(),
        encoding,
        max_payload: config.events.max_payload.0,
        rules: config.egress_rules(),
        retry: config.retry_policy(),
        longest_window: config.longest_window(),
        has_origin: config.delivery.origin.is_some(),
        verification: config.api.verification,
        idempotency_kept: config.api.idempotency_kept.0,
        pace: pace(config),
        patience: api::Patience::default(),
        cors_origins: config.api.cors_origins.clone(),
    }
}

/// How the consumer reads, and what it may have under way.
pub fn consumer(config: &Config) -> consumer::Config {
    // Log and queue on one disk: the payload is there already.
    let place = if config.payloads_in_log() {
        consumer::config::PayloadPlace::Log
    } else {
        consumer::config::PayloadPlace::Message
    };
    consumer::Config {
        group: config.kafka.group.clone(),
        topics: config.events.topics.clone(),
        dead_letter_topic: config.events.dead_letter_topic.clone(),
        max_payload: config.events.max_payload.0,
        spill: threshold(&config.payloads),
        payload_place: place,
        registry: config.schema_registry(),
        poison_share: config.events.poison_share,
        // A queue over the network needs many batches on their way, one on this disk a group commit.
        in_flight: match config.queue.kind {
            QueueKind::Sqs => 1_024,
            QueueKind::Embedded => 256,
        },
        in_flight_bytes: 32 << 20,
        match_memory: config.events.match_memory.0 as u64,
    }
}

/// Whether what the consumer reads can be decoded: the files that topics and registry name are there and of use.
///
/// # Errors
/// Names the key, the file and what is wrong with it.
pub fn check_topics(config: &Config) -> Result<(), Failure> {
    let registry = config.schema_registry();
    match consumer::decode::TopicDecoders::new(&config.events.topics, registry.as_ref()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::usage(error.to_string())),
    }
}

/// How targets are sent to.
pub fn dispatcher(config: &Config) -> dispatcher::Config {
    let (delivery, breaker) = (&config.delivery, &config.breaker);
    dispatcher::Config {
        timeout: delivery.timeout.0,
        packs: packs(config).is_some(),
        connect_timeout: delivery.connect_timeout.0,
        concurrency: delivery.concurrency,
        per_target: Bounds::new(
            delivery.per_target_min,
            delivery.per_target_start,
            delivery.per_target,
        ),
        tenant_share: delivery.tenant_share,
        breaker: BreakerPolicy {
            min_attempts: breaker.min_attempts,
            share: breaker.share,
            window: breaker.window.0,
            open: breaker.open.0,
            open_max: breaker.open_max.0,
        },
        dispatchers: delivery.dispatchers,
        origin: delivery.origin.clone(),
        response_limit: delivery.response_limit.0,
        retry_after_cap: delivery.retry_after_cap.0,
        retry: config.retry_policy(),
        rules: config.egress_rules(),
        // Checked when the configuration was loaded.
        proxy: config
            .proxy()
            .ok()
            .flatten()
            .map(|(host, port)| dispatcher::proxy::Proxy { host, port }),
    }
}

/// How often one API key may ask.
pub fn pace(config: &Config) -> Option<api::Pace> {
    (config.api.rate_limit > 0).then_some(api::Pace {
        rate: config.api.rate_limit,
        burst: config.api.rate_burst,
    })
}
