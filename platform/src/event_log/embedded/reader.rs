//! A member of a group, reading.

use super::super::{LogError, LogEvent, LogReader, Partition};
use super::Inner;
use super::groups::Progress;
use super::rows::{self, Budget};
use super::store::Command;
use super::topic::{Found, Topic};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::Notify;

/// Reads topics for a group. Of several members of one group only one has a topic at a time; the
/// others wait until it leaves.
pub(super) struct Member {
    log: Arc<Inner>,
    group: Arc<str>,
    id: u64,
    topics: Vec<Part>,
    /// Which topic is looked at first: each in turn.
    turn: usize,
    wake: Arc<Notify>,
}

struct Part {
    topic: Arc<Topic>,
    /// Set while the topic is this member's.
    progress: Option<Arc<Progress>>,
    /// The offset to read next.
    next: i64,
}

impl Part {
    fn partition(&self) -> Partition {
        (self.topic.name.clone(), 0)
    }
}

impl Member {
    pub(super) fn new(log: Arc<Inner>, group: &str, topics: Vec<Arc<Topic>>) -> Self {
        let wake = Arc::new(Notify::new());
        let id = log.shared.groups.member();
        let topics = topics
            .into_iter()
            .map(|topic| {
                topic.watch(&wake);
                Part {
                    topic,
                    progress: None,
                    next: 0,
                }
            })
            .collect();
        Self {
            log,
            group: Arc::from(group),
            id,
            topics,
            turn: 0,
            wake,
        }
    }

    /// Takes the topics that nobody has; they start where the group left off.
    fn take(&mut self) -> Vec<Partition> {
        let mut taken = Vec::new();
        for part in self.topics.iter_mut().filter(|part| part.progress.is_none()) {
            if let Some(progress) = self.log.shared.groups.take(&self.group, part.topic.id, self.id) {
                part.next = progress.next();
                part.progress = Some(progress);
                taken.push(part.partition());
            }
        }
        taken
    }

    /// Records of the first topic, in turn, that has any.
    async fn records(&mut self) -> Result<Option<LogEvent>, LogError> {
        for step in 0..self.topics.len() {
            let turn = (self.turn + step) % self.topics.len();
            let part = &mut self.topics[turn];
            if part.progress.is_none() {
                continue;
            }
            let records = match part.topic.from(part.next) {
                Found::Nothing => continue,
                Found::Records(records) => records,
                Found::OnDisk => {
                    let (topic, from) = (part.topic.clone(), part.next);
                    let read = {
                        let topic = topic.clone();
                        move |db: &_| rows::scan(db, &topic, from, Budget::batch())
                    };
                    let records = self.log.scans.read(read).await?;
                    self.log.chunks.scanned(&topic, &records);
                    records
                }
            };
            // Nothing is awaited from here on: a dropped call has moved nothing.
            if let Some(last) = records.last() {
                part.next = last.position.offset + 1;
                self.turn = turn + 1;
                return Ok(Some(LogEvent::Records(records)));
            }
        }
        Ok(None)
    }

    fn leave(&mut self) {
        for part in &mut self.topics {
            part.topic.unwatch(&self.wake);
            if let Some(progress) = part.progress.take() {
                self.log.shared.groups.release(&progress);
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

#[async_trait]
impl LogReader for Member {
    async fn next(&mut self) -> Result<LogEvent, LogError> {
        let log = self.log.clone();
        loop {
            let released = log.shared.groups.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            let taken = self.take();
            if !taken.is_empty() {
                return Ok(LogEvent::Assigned(taken));
            }
            if let Some(event) = self.records().await? {
                return Ok(event);
            }
            // A wake-up that comes between the look and the wait is kept.
            tokio::select! {
                () = self.wake.notified() => {}
                () = released => {}
            }
        }
    }

    fn store(&self, partition: &Partition, next_offset: i64) {
        let progress = self
            .topics
            .iter()
            .filter(|part| part.topic.name == partition.0 && partition.1 == 0)
            .find_map(|part| part.progress.as_ref());
        if let Some(progress) = progress
            && self.log.shared.groups.store(progress, next_offset)
        {
            self.log.writer.nudge(Command::Offsets);
        }
    }

    fn lag(&self) -> Vec<(Partition, i64)> {
        let held = |part: &Part| {
            let progress = part.progress.as_ref()?;
            Some((part.partition(), (part.topic.end() - progress.next()).max(0)))
        };
        self.topics.iter().filter_map(held).collect()
    }

    async fn close(mut self: Box<Self>) {
        if let Err(failure) = self.log.writer.ask(|answer| Command::Flush { answer }).await {
            tracing::warn!(group = %self.group, reason = %failure, "offsets not stored: some records will be read again");
        }
        self.leave();
    }
}
