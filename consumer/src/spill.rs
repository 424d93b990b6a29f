//! Where a payload travels: in the message, in the log, or in the payload store.

use crate::config::PayloadPlace;
use crate::poison::Poison;
use crate::price::Threshold;
use platform::event_log::Record;
use platform::harness::backoff::Backoff;
use platform::payload_store::{PayloadError, PayloadStore};
use platform::telemetry::{Outage, names};
use schemas::delivery::Payload;
use schemas::event::Event;
use schemas::ids::sha256_hex;
use std::sync::Arc;

/// Puts payloads where their deliveries find them.
pub struct Spill {
    store: Arc<dyn PayloadStore>,
    place: PayloadPlace,
    threshold: Threshold,
    outage: Outage,
}

impl Spill {
    /// Spills what is beyond the threshold.
    #[must_use]
    pub fn new(store: Arc<dyn PayloadStore>, place: PayloadPlace, threshold: Threshold) -> Self {
        Self {
            store,
            place,
            threshold,
            outage: Outage::new("payload store"),
        }
    }

    /// The payload as the deliveries to so many targets carry it, unless it goes to the store.
    #[must_use]
    pub fn place_now(&self, event: &Event, record: &Record, targets: usize) -> Option<Payload> {
        if self.place == PayloadPlace::Log
            && let Some((at, len)) = range(&event.payload, &record.value)
        {
            return Some(Payload::Logged { at, len });
        }
        // In a message it takes no less; what is larger need not be looked through.
        let size = match event.payload.len() {
            large if large > self.threshold.limit => large,
            _ => schemas::wire::inline_size(&event.payload),
        };
        let spills = self.threshold.spills(size, targets);
        (!spills).then(|| Payload::Inline(event.payload.clone()))
    }

    /// The payload as the deliveries to so many targets carry it. A spilled one is durable in the store when this
    /// returns, once for all targets. While the store is away, it waits.
    ///
    /// # Errors
    /// When the event's key holds another payload: two events with one id and different bodies.
    pub async fn place(&self, event: &Event, record: &Record, targets: usize) -> Result<Payload, Poison> {
        if let Some(payload) = self.place_now(event, record, targets) {
            return Ok(payload);
        }
        let key = key(event);
        let mut backoff = Backoff::default();
        loop {
            match self.store.put(&key, event.payload.clone()).await {
                Ok(pointer) => {
                    self.outage.works();
                    metrics::counter!(names::PAYLOADS_SPILLED).increment(1);
                    metrics::counter!(names::SPILLED_BYTES).increment(event.payload.len() as u64);
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

/// Where a payload lies within its record's value: first byte and length. `None` when it does not, since
/// its schema made another copy of it.
fn range(payload: &[u8], value: &[u8]) -> Option<(u32, u32)> {
    let at = payload.as_ptr().addr().checked_sub(value.as_ptr().addr())?;
    let within = at.checked_add(payload.len())? <= value.len();
    within.then_some((u32::try_from(at).ok()?, u32::try_from(payload.len()).ok()?))
}

/// `<2 hex digits of the hash>/<tenant>/<event id>-<16 hex digits>`: spread over prefixes by hash, and
/// the same at each re-read. The digits of the payload's own hash keep two payloads under one event id
/// apart, so that neither is delivered in the other's place.
fn key(event: &Event) -> String {
    let hash = sha256_hex(&event.payload);
    format!("{}/{}/{}-{}", &hash[..2], event.tenant, event.id, &hash[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_payload_is_found_in_its_record_and_a_copy_is_not() {
        let value = Bytes::from(vec![b'x'; 100]);
        assert_eq!(range(&value.slice(10..30), &value), Some((10, 20)));
        assert_eq!(range(&value, &value), Some((0, 100)));
        let other = Bytes::from(vec![b'x'; 100]);
        assert_eq!(range(&other, &value), None);
        assert_eq!(range(&value, &value.slice(1..)), None);
        assert_eq!(range(&value, &value.slice(..99)), None);
    }
}
