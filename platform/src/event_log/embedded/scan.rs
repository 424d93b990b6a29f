//! A topic as it stands, read by no group.

use super::super::{LogError, LogScan, Record};
use super::Inner;
use super::rows::{self, Budget};
use super::topic::Topic;
use async_trait::async_trait;
use std::sync::Arc;

/// Reads one topic up to where it ended when the scan began.
pub(super) struct EmbeddedScan {
    log: Arc<Inner>,
    topic: Option<Arc<Topic>>,
    next: i64,
    end: i64,
}

impl EmbeddedScan {
    pub(super) fn new(log: Arc<Inner>, topic: Option<Arc<Topic>>) -> Self {
        let end = topic.as_ref().map_or(0, |topic| topic.end());
        Self {
            log,
            topic,
            next: 0,
            end,
        }
    }
}

#[async_trait]
impl LogScan for EmbeddedScan {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        let Some(topic) = self.topic.clone().filter(|_| self.next < self.end) else {
            return Ok(Vec::new());
        };
        let (from, end) = (self.next, self.end);
        let read = move |db: &_| rows::scan(db, &topic, from, Budget::batch());
        let mut records = self.log.scans.read(read).await?;
        records.retain(|record| record.position.offset < end);
        self.next = records.last().map_or(end, |last| last.position.offset + 1);
        Ok(records)
    }
}
