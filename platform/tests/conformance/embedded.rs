//! The embedded adapters, held to the suites.

use crate::delivery_queue::QueueWorld;
use crate::event_log::LogWorld;
use crate::payload_store::PayloadWorld;
use crate::support::{World, unique};
use async_trait::async_trait;
use platform::clock::Clock;
use platform::delivery_queue::DeliveryQueue;
use platform::delivery_queue::embedded::EmbeddedQueue;
use platform::event_log::EventLog;
use platform::event_log::embedded::EmbeddedLog;
use platform::payload_store::PayloadStore;
use platform::payload_store::embedded::DirectoryStore;
use platform::sqlite::Sync;
use std::sync::Arc;
use std::time::Duration;

/// A folder of its own, removed when dropped.
struct Folder {
    dir: tempfile::TempDir,
    sync: Sync,
}

impl Folder {
    fn new(sync: Sync) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            sync,
        }
    }
}

#[async_trait]
impl World for Folder {
    async fn remove(&self) {}
}

#[async_trait]
impl LogWorld for Folder {
    async fn open(&self) -> Arc<dyn EventLog> {
        let retention = Duration::from_secs(3_600);
        Arc::new(EmbeddedLog::open(self.dir.path(), self.sync, Clock::system(), retention).unwrap())
    }

    fn topic(&self) -> String {
        unique("topic")
    }
}

#[async_trait]
impl QueueWorld for Folder {
    async fn open(&self) -> Arc<dyn DeliveryQueue> {
        Arc::new(EmbeddedQueue::open(self.dir.path(), self.sync, Clock::system()).unwrap())
    }
}

#[async_trait]
impl PayloadWorld for Folder {
    async fn open(&self) -> Arc<dyn PayloadStore> {
        Arc::new(DirectoryStore::open(self.dir.path(), self.sync).unwrap())
    }
}

mod log {
    event_log_suite!(super::Folder::new(super::Sync::Normal));
}

mod log_that_waits_for_the_disk {
    event_log_suite!(super::Folder::new(super::Sync::Full));
}

mod queue {
    delivery_queue_suite!(super::Folder::new(super::Sync::Normal));
}

mod queue_that_waits_for_the_disk {
    delivery_queue_suite!(super::Folder::new(super::Sync::Full));
}

mod payloads {
    payload_store_suite!(super::Folder::new(super::Sync::Normal));
}

mod payloads_that_wait_for_the_disk {
    payload_store_suite!(super::Folder::new(super::Sync::Full));
}
