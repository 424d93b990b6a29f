//! Before the roles run: listeners bound, dependencies tried, what is embedded made ready.

use crate::failure::Failure;
use platform::catalog::Catalog;
use platform::config::{Config, LogKind, PayloadsKind, QueueKind, Topic};
use platform::delivery_queue::DeliveryQueue;
use platform::event_log::EventLog;
use platform::payload_store::PayloadStore;
use platform::telemetry;
use schemas::avro::Framing;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The topic that the API publishes to: the first whose records it can write.
pub fn publishable(config: &Config) -> Result<Topic, Failure> {
    let writable = config
        .events
        .topics
        .iter()
        .find(|topic| topic.framing != Framing::Confluent);
    writable.cloned().ok_or_else(|| {
        Failure::usage(
            "events.topics: the API publishes to the first topic with framing \"raw\" or \"single-object\"; there is none",
        )
    })
}

/// Binds a listener; `key` says which in errors.
pub async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "it is taken by another program".to_owned(),
            std::io::ErrorKind::PermissionDenied => {
                "not permitted (ports below 1024 need privileges)".to_owned()
            }
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            _ => platform::plain::io(&error),
        };
        Failure::away(key, &format!("cannot listen on {address}: {why}"))
    })
}

/// Makes what is embedded ready, and checks that what is not is reachable and provisioned.
pub async fn prepare(
    config: &Config,
    log: &dyn EventLog,
    queue: &dyn DeliveryQueue,
    payloads: &dyn PayloadStore,
    catalog: &Catalog,
) -> Result<(), Failure> {
    let topics = config.all_topics();
    let log_ready = match config.events.log {
        LogKind::Embedded => log.provision(&topics).await,
        LogKind::Kafka => log.check(&topics).await,
    };
    log_ready.map_err(|error| Failure::away(log_key(config), &error))?;
    let queue_ready = match config.queue.kind {
        QueueKind::Embedded => queue.provision().await,
        QueueKind::Sqs => queue.check().await,
    };
    queue_ready.map_err(|error| Failure::away("queue", &error))?;
    let payloads_ready = match config.payloads.kind {
        PayloadsKind::Embedded => payloads.provision().await,
        PayloadsKind::S3 => payloads.check().await,
    };
    payloads_ready.map_err(|error| Failure::away("payloads", &error))?;
    catalog
        .check()
        .await
        .map_err(|error| Failure::away("store.url", &error))
}

/// The key that says where the event log is.
pub fn log_key(config: &Config) -> &'static str {
    match config.events.log {
        LogKind::Embedded => "data",
        LogKind::Kafka => "kafka.brokers",
    }
}

/// How often queue depths are asked for: it costs four requests.
const DEPTHS_EVERY: Duration = Duration::from_secs(30);

/// Shows how many messages wait, until `shutdown`.
#[allow(clippy::cast_precision_loss, reason = "a gauge")]
pub async fn watch_depths(queue: Arc<dyn DeliveryQueue>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(DEPTHS_EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        for name in platform::delivery_queue::QueueName::ALL {
            if let Ok(depth) = queue.depth(name).await {
                let waiting = depth.visible + depth.delayed + depth.in_flight;
                metrics::gauge!(telemetry::names::QUEUE_DEPTH, "queue" => name.suffix()).set(waiting as f64);
            }
        }
    }
}
