//! What the consumer needs to know.

use crate::price::Threshold;
use platform::config::{SchemaRegistry, Topic};

/// Where a payload travels that fits a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadPlace {
    /// In the message.
    Message,
    /// In the log, where it is already: log and queue share one disk.
    Log,
}

/// What the consumer needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The consumer group.
    pub group: String,
    /// The event topics.
    pub topics: Vec<Topic>,
    /// Where unreadable records go.
    pub dead_letter_topic: String,
    /// Payloads above this many bytes are not accepted.
    pub max_payload: usize,
    /// Which payloads are spilled.
    pub spill: Threshold,
    /// Where payloads travel that are not spilled.
    pub payload_place: PayloadPlace,
    /// The schema registry, for framings `confluent` and `header`.
    pub registry: Option<SchemaRegistry>,
    /// The share of unreadable records, of the last 1,000, at which the consumer stops.
    pub poison_share: f64,
    /// Events in flight at once.
    pub in_flight: usize,
    /// Bytes of events in flight at once.
    pub in_flight_bytes: usize,
    /// Bytes of remembered matches.
    pub match_memory: u64,
}
