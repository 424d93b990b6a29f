//! Before the roles run: listeners bound, dependencies tried, what is embedded made ready.

use crate::failure::Failure;
use platform::catalog::Catalog;
use platform::config::{Config, LogKind, PayloadsKind, QueueKind, Topic};
use platform::delivery_queue::DeliveryQueue;
use platform::event_log::EventLog;
use platform::payload_store::PayloadStore;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The topic that the API publishes to: the first whose records it can write.
pub fn publishable(config: &Config) -> Result<Topic, Failure> {
    let writable = config.events.topics.iter().find(|topic| topic.takes_our_own());
    writable.cloned().ok_or_else(|| {
        Failure::usage(
            "events.topics: the API publishes to the first topic with framing \"raw\" and our own schema, or \"single-object\"; there is none",
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
