//! What librdkafka is told: what hookwright needs, and over it what the user says.

use super::KafkaConfig;
use crate::config::GroupProtocol;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// The largest record, in bytes: a payload of the greatest size, with room for its envelope.
pub(super) const MAX_RECORD_BYTES: &str = "16777216";

/// What every client is told.
fn common(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.brokers)
        .set("client.id", "hookwright")
        // A misspelt topic is to be an error, not a topic of its own.
        .set("allow.auto.create.topics", "false")
        .set("socket.keepalive.enable", "true")
        // Ten seconds by default: too long to be away after a broker is back.
        .set("reconnect.backoff.max.ms", "2000")
        .set_log_level(RDKafkaLogLevel::Warning);
    client
}

/// Adds the user's properties: they win.
fn with_properties(mut client: ClientConfig, config: &KafkaConfig) -> ClientConfig {
    for (name, value) in &config.properties {
        client.set(name, value);
    }
    client
}

/// For appending: acknowledged by all replicas in sync, in order, without duplicates.
pub(super) fn producer(config: &KafkaConfig) -> ClientConfig {
    let mut client = common(config);
    client
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("message.max.bytes", MAX_RECORD_BYTES)
        .set("message.timeout.ms", "30000")
        // How long a topic may be unknown before records for it fail.
        .set("topic.metadata.propagation.max.ms", "5000")
        .set("queue.buffering.max.kbytes", "65536");
    with_properties(client, config)
}

/// For a member of a group.
pub(super) fn member(config: &KafkaConfig, group: &str) -> ClientConfig {
    let mut client = common(config);
    client
        .set("group.id", group)
        // The service says what is finished; librdkafka commits that on its own, also when a
        // partition is revoked. Commits of our own during a cooperative rebalance make another.
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        // What is repeated after a kill. It costs five small requests a second while records come, to
        // the group's coordinator alone, and none while nothing changes.
        .set("auto.commit.interval.ms", "200")
        // The default, `largest`, loses what was appended before a group's first start.
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("message.max.bytes", MAX_RECORD_BYTES)
        .set("fetch.max.bytes", MAX_RECORD_BYTES)
        .set("queued.max.messages.kbytes", "16384")
        // How long a fetch waits when that is full: a second by default, which would stall us.
        .set("fetch.queue.backoff.ms", "20")
        // For the lag, and to see the brokers come back.
        .set("statistics.interval.ms", "5000");
    match config.protocol {
        GroupProtocol::Classic => client.set("partition.assignment.strategy", "cooperative-sticky"),
        GroupProtocol::Consumer => client.set("group.protocol", "consumer"),
    };
    if let Some(instance) = &config.instance {
        client.set("group.instance.id", instance);
    }
    with_properties(client, config)
}

/// For reading a topic from beginning to end: no member of any group, though librdkafka wants a name.
pub(super) fn scan(config: &KafkaConfig) -> ClientConfig {
    let mut client = common(config);
    client
        .set("group.id", "hookwright-scan")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Records may expire while we read: what follows them is still to come.
        .set("auto.offset.reset", "earliest")
        // Says where a topic ends whose last records are of a transaction that was broken off.
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("message.max.bytes", MAX_RECORD_BYTES)
        .set("fetch.max.bytes", MAX_RECORD_BYTES)
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "20");
    with_properties(client, config)
}

/// For reading a stretch of a topic beside everything else, no faster than it is used: the same, with little
/// read ahead.
pub(super) fn scan_slowly(config: &KafkaConfig) -> ClientConfig {
    let mut client = scan(config);
    client
        // Whoever wants a stretch wants all of it: records that expire while we read are an error.
        .set("auto.offset.reset", "error")
        .set("queued.max.messages.kbytes", "1024")
        .set("fetch.message.max.bytes", "262144");
    with_properties(client, config)
}

/// For reading single records back: no member of any group, though librdkafka wants a name.
pub(super) fn lookup(config: &KafkaConfig) -> ClientConfig {
    let mut client = common(config);
    client
        .set("group.id", "hookwright-lookup")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Both say that a record is not there; otherwise one would wait for it, or read another.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("message.max.bytes", MAX_RECORD_BYTES)
        .set("fetch.max.bytes", MAX_RECORD_BYTES)
        // One record is wanted, not what follows it. A larger one comes whole all the same.
        .set("fetch.message.max.bytes", "65536")
        .set("queued.min.messages", "1")
        // What follows it stays queued until the next seek, which has to wait for the end of this.
        .set("fetch.queue.backoff.ms", "2")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.wait.max.ms", "10");
    with_properties(client, config)
}
