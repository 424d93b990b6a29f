//! Where a payload travels: in the message, in the log, or in the payload store.

use crate::config::PayloadPlace;
use crate::poison::Poison;
use platform::harness::backoff::Backoff;
use platform::payload_store::{PayloadError, PayloadStore};
use platform::telemetry::Outage;
use schemas::delivery::Payload;
use schemas::event::Event;
use schemas::ids::sha256_hex;
use std::sync::Arc;

/// Puts payloads where their deliveries find them.
pub struct Spill {
    store: Arc<dyn PayloadStore>,
    place: PayloadPlace,
    inline_limit: usize,
    outage: Outage,
}

impl Spill {
    /// Spills payloads whose message body would have more than `inline_limit` bytes.
    #[must_use]
    pub fn new(store: Arc<dyn PayloadStore>, place: PayloadPlace, inline_limit: usize) -> Self {
        Self {
            store,
            place,
            inline_limit,
            outage: Outage::new("payload store"),
        }
    }

    /// The payload as the deliveries carry it. A spilled one is durable in the store when this
    /// returns, once for all targets. While the store is away, it waits.
    ///
    /// # Errors
    /// When the event's key holds another payload: two events with one id and different bodies.
    pub async fn place(&self, event: &Event) -> Result<Payload, Poison> {
        match self.place {
            PayloadPlace::Log => return Ok(Payload::Logged),
            PayloadPlace::Message if schemas::wire::inline_size(&event.payload) <= self.inline_limit => {
                return Ok(Payload::Inline(event.payload.clone()));
            }
            PayloadPlace::Message => {}
        }
        let key = key(event);
        let mut backoff = Backoff::default();
        loop {
            match self.store.put(&key, event.payload.clone()).await {
                Ok(pointer) => {
                    self.outage.works();
                    return Ok(Payload::Stored(pointer));
                }
                Err(error @ PayloadError::Unavailable(_)) => {
                    self.outage.failed(&error);
                    tokio::time::sleep(backoff.next_pause()).await;
                }
                Err(error @ (PayloadError::Damaged { .. } | PayloadError::Missing { .. })) => {
                    return Err(Poison::new("payload_conflict", error.to_string()));
                }
            }
        }
    }
}

/// `<2 hex digits of the hash>/<tenant>/<event id>-<16 hex digits>`: spread over prefixes by hash, and
/// the same at each re-read. The digits of the payload's own hash keep two payloads under one event id
/// apart, so that neither is delivered in the other's place.
fn key(event: &Event) -> String {
    let hash = sha256_hex(&event.payload);
    format!("{}/{}/{}-{}", &hash[..2], event.tenant, event.id, &hash[..16])
}
