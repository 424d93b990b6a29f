//! Telling a tenant: operational events, put into the event log like those of producers.

use crate::clock::Clock;
use crate::event_log::{EventLog, LogError, NewRecord};
use bytes::Bytes;
use schemas::avro::{self, WebhookEvent};
use schemas::ids::Tenant;
use schemas::notice::Notice;
use std::sync::Arc;

/// How records of a topic of our own schema are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// The datum alone.
    Raw,
    /// The datum behind its schema's fingerprint.
    SingleObject,
}

/// Puts operational events into the log. Cloned freely.
#[derive(Clone)]
pub struct Announcer {
    log: Arc<dyn EventLog>,
    topic: String,
    writing: Writing,
    clock: Clock,
}

impl Announcer {
    /// Announces in a topic of the event log.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, topic: String, writing: Writing, clock: Clock) -> Self {
        Self {
            log,
            topic,
            writing,
            clock,
        }
    }

    /// Publishes a notice as an event of this tenant; durable when it answers. The same notice has the
    /// same id each time.
    ///
    /// # Errors
    /// As [`EventLog::append`].
    pub async fn publish(&self, tenant: &Tenant, notice: &Notice) -> Result<(), LogError> {
        let id = Bytes::copy_from_slice(notice.event_id().as_str().as_bytes());
        let event = WebhookEvent {
            event_type: notice.event_type().into(),
            payload: notice.payload(self.clock.now()).into(),
            ..WebhookEvent::default()
        };
        let value = match self.writing {
            Writing::Raw => avro::encode_v2(&event),
            Writing::SingleObject => avro::encode_single_object(&event),
        };
        let record = NewRecord {
            key: Some(id.clone()),
            value: value.into(),
            headers: vec![
                ("event-id".to_owned(), id),
                (
                    "tenant".to_owned(),
                    Bytes::copy_from_slice(tenant.as_str().as_bytes()),
                ),
            ],
        };
        self.log.append(&self.topic, vec![record]).await.map(drop)
    }
}
