//! The payload, wherever it is: in the message, in the payload store, or in the log.

use bytes::Bytes;
use platform::event_log::{EventLog, LogError};
use platform::payload_store::{PayloadError, PayloadStore};
use schemas::delivery::{Delivery, Payload, PayloadPointer};
use std::sync::Arc;

/// Why there is no payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPayload {
    /// Trying again later may succeed.
    #[error("{0}")]
    Away(String),
    /// It is lost: expired, or not what was stored.
    #[error("{0}")]
    Lost(String),
}

/// Fetches payloads.
pub struct Payloads {
    store: Arc<dyn PayloadStore>,
    log: Arc<dyn EventLog>,
    /// Stored payloads just fetched: one event's deliveries come together.
    fetched: moka::future::Cache<String, Bytes>,
}

/// Bytes of stored payloads kept for an event's other deliveries.
const KEPT: u64 = 32 << 20;

impl Payloads {
    /// Fetches from these.
    #[must_use]
    pub fn new(store: Arc<dyn PayloadStore>, log: Arc<dyn EventLog>) -> Self {
        let weigh = |_: &String, payload: &Bytes| u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let fetched = moka::future::Cache::builder()
            .max_capacity(KEPT)
            .weigher(weigh)
            .time_to_live(std::time::Duration::from_secs(60))
            .build();
        Self { store, log, fetched }
    }

    /// The bytes to send.
    ///
    /// # Errors
    /// [`NoPayload`].
    pub async fn fetch(&self, delivery: &Delivery) -> Result<Bytes, NoPayload> {
        match &delivery.payload {
            Payload::Inline(payload) => Ok(payload.clone()),
            // Boxed: the task of a delivery whose payload is in its message has no room for it.
            Payload::Stored(pointer) => Box::pin(self.stored(pointer)).await,
            Payload::Logged { at, len } => self.logged(delivery, *at as usize, *len as usize).await,
        }
    }

    async fn stored(&self, pointer: &PayloadPointer) -> Result<Bytes, NoPayload> {
        let loaded = self
            .fetched
            .try_get_with_by_ref(&pointer.key, self.store.get(pointer))
            .await;
        loaded.map_err(|error: Arc<PayloadError>| match &*error {
            PayloadError::Unavailable(why) => NoPayload::Away(why.clone()),
            PayloadError::Missing { .. } | PayloadError::Damaged { .. } => NoPayload::Lost(error.to_string()),
        })
    }

    async fn logged(&self, delivery: &Delivery, at: usize, len: usize) -> Result<Bytes, NoPayload> {
        match self.log.read_at(&delivery.position).await {
            Ok(Some(record)) if at.saturating_add(len) <= record.value.len() => {
                Ok(record.value.slice(at..at + len))
            }
            Ok(Some(_)) => Err(NoPayload::Lost("the log holds another record there".to_owned())),
            Ok(None) => Err(NoPayload::Lost("the log no longer holds the event".to_owned())),
            Err(LogError::Unavailable(why) | LogError::Refused(why)) => Err(NoPayload::Away(why)),
        }
    }
}
