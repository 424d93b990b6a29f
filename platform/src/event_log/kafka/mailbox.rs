//! What passes from the polling thread to the service: records in bounded number, and what happens
//! to partitions. One queue under one lock, so that their order is what the thread saw; a channel
//! each would lose it, and a full channel could not take the news that empties it.

use super::{LogError, Record};
use crate::event_log::{Drained, LogEvent, Partition};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The most records handed over at once.
pub(super) const BATCH_RECORDS: usize = 256;

/// The most bytes handed over at once; a larger record comes alone.
const BATCH_BYTES: usize = 1 << 20;

/// How many records may lie here before the thread stops polling for more.
const LIMIT_RECORDS: usize = 2048;

/// How many bytes may lie here before the thread stops polling for more.
const LIMIT_BYTES: usize = 8 << 20;

/// Between one polling thread and one reader.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    /// Something came, for the reader.
    arrived: Notify,
    /// Something was taken, for the thread.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<LogEvent>,
    /// Records on their way into `events`.
    batch: Vec<Record>,
    batch_bytes: usize,
    /// Records and bytes in `events` and `batch`.
    records: usize,
    bytes: usize,
    /// What went wrong and is to be told: once if it may pass, every time if not.
    fault: Option<LogError>,
    closing: bool,
}

impl State {
    fn has_room(&self) -> bool {
        self.records < LIMIT_RECORDS && self.bytes < LIMIT_BYTES
    }

    fn forget(&mut self, records: &[Record]) {
        self.records -= records.len();
        self.bytes -= records.iter().map(size).sum::<usize>();
    }

    fn finish_batch(&mut self) {
        if !self.batch.is_empty() {
            self.batch_bytes = 0;
            self.events
                .push_back(LogEvent::Records(std::mem::take(&mut self.batch)));
        }
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record to the batch under way. Takes it even where there is no room: the thread has
    /// it already.
    pub(super) fn push(&self, record: Record) {
        let mut state = self.lock();
        let size = size(&record);
        if state.batch.len() >= BATCH_RECORDS || state.batch_bytes + size > BATCH_BYTES {
            state.finish_batch();
        }
        state.records += 1;
        state.bytes += size;
        state.batch_bytes += size;
        state.batch.push(record);
    }

    /// Hands the batch under way to the reader.
    pub(super) fn flush(&self) {
        let mut state = self.lock();
        if !state.batch.is_empty() {
            state.finish_batch();
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Tells of partitions that are the reader's now.
    pub(super) fn assigned(&self, partitions: Vec<Partition>) {
        self.lock().events.push_back(LogEvent::Assigned(partitions));
        self.arrived.notify_one();
    }

    /// Tells of partitions that are being taken, ahead of the records that wait, and drops what
    /// waits of these partitions: they will be read again, here or elsewhere, from what is stored.
    /// Given to a later assignment they would seem to be in order and would hide the records
    /// between. The receiver hears of the drain by its sender's end.
    pub(super) fn revoked(&self, partitions: Vec<Partition>) -> Receiver<()> {
        let (sender, receiver) = sync_channel(0);
        let mut state = self.lock();
        state.finish_batch();
        let mut dropped = Vec::new();
        for event in &mut state.events {
            match event {
                LogEvent::Records(records) => dropped.extend(records.extract_if(.., |record| {
                    let place = &record.position;
                    partitions
                        .iter()
                        .any(|(topic, number)| *topic == place.topic && *number == place.partition)
                })),
                LogEvent::Assigned(_) | LogEvent::Revoked { .. } => {}
            }
        }
        state.forget(&dropped);
        state
            .events
            .retain(|event| !matches!(event, LogEvent::Records(records) if records.is_empty()));
        // Behind what was told before of partitions, so that the order of these stays.
        let at = state
            .events
            .iter()
            .rposition(|event| !matches!(event, LogEvent::Records(_)))
            .map_or(0, |last| last + 1);
        state.events.insert(
            at,
            LogEvent::Revoked {
                partitions,
                drained: Drained(sender),
            },
        );
        drop(state);
        self.arrived.notify_one();
        receiver
    }

    /// Tells of a fault: one that may pass is told once, another at each call from now on.
    pub(super) fn fail(&self, fault: LogError) {
        let mut state = self.lock();
        if !matches!(state.fault, Some(LogError::Refused(_))) {
            state.fault = Some(fault);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits for the next event. Cancel safe: nothing is taken before the answer is there.
    pub(super) async fn next(&self) -> Result<LogEvent, LogError> {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.arrived.notified().await;
        }
    }

    /// Waits for the next change of assignment, past records. These are of other partitions: what
    /// waited of a revoked one is dropped with its revocation, which is told before it is given again.
    pub(super) async fn change(&self) -> LogEvent {
        loop {
            if let Some(change) = self.take_change() {
                return change;
            }
            self.arrived.notified().await;
        }
    }

    fn take_change(&self) -> Option<LogEvent> {
        let mut state = self.lock();
        let at = state
            .events
            .iter()
            .position(|event| !matches!(event, LogEvent::Records(_)))?;
        state.events.remove(at)
    }

    fn take(&self) -> Option<Result<LogEvent, LogError>> {
        let mut state = self.lock();
        let Some(event) = state.events.pop_front() else {
            return match state.fault.take()? {
                passing @ LogError::Unavailable(_) => Some(Err(passing)),
                lasting @ LogError::Refused(_) => {
                    state.fault = Some(lasting.clone());
                    Some(Err(lasting))
                }
            };
        };
        if let LogEvent::Records(records) = &event {
            state.forget(records);
            if state.has_room() {
                self.room.notify_one();
            }
        }
        Some(Ok(event))
    }

    /// Waits until there is room for records, or the reader closes; whether there is room.
    pub(super) fn wait_for_room(&self, timeout: Duration) -> bool {
        let waited = self
            .room
            .wait_timeout_while(self.lock(), timeout, |state| !state.has_room() && !state.closing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.has_room()
    }

    /// Asks the thread to end, and drops what waits.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.events.clear();
        state.batch.clear();
        (state.records, state.bytes, state.batch_bytes) = (0, 0, 0);
        drop(state);
        self.room.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }
}

/// What a record counts.
fn size(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    record.value.len() + record.key.as_ref().map_or(0, bytes::Bytes::len) + headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use schemas::event::Position;
    use schemas::time::Millis;
    use std::sync::Arc;

    fn record(partition: i32, offset: i64) -> Record {
        Record {
            position: Position {
                topic: Arc::from("t"),
                partition,
                offset,
            },
            timestamp: Millis(0),
            key: None,
            value: Bytes::from_static(b"value"),
            headers: Vec::new().into(),
        }
    }

    fn partition(number: i32) -> Partition {
        (Arc::from("t"), number)
    }

    #[tokio::test]
    async fn what_waits_of_a_revoked_partition_is_dropped_and_the_news_comes_first() {
        let mailbox = Mailbox::default();
        mailbox.assigned(vec![partition(0), partition(1)]);
        mailbox.push(record(0, 1));
        mailbox.push(record(1, 7));
        mailbox.flush();
        mailbox.push(record(1, 8));
        let drained = mailbox.revoked(vec![partition(1)]);

        assert!(matches!(mailbox.next().await, Ok(LogEvent::Assigned(_))));
        let Ok(LogEvent::Revoked {
            partitions,
            drained: token,
        }) = mailbox.next().await
        else {
            panic!("not the revocation");
        };
        assert_eq!(partitions, [partition(1)]);
        let Ok(LogEvent::Records(records)) = mailbox.next().await else {
            panic!("not the records");
        };
        assert_eq!(records, [record(0, 1)]);
        assert!(mailbox.take().is_none());
        assert!(drained.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty));
        drop(token);
        assert!(drained.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected));
        let held = mailbox.lock();
        assert_eq!((held.records, held.bytes), (0, 0));
    }

    #[tokio::test]
    async fn changes_are_told_past_the_records_and_in_their_order() {
        let mailbox = Mailbox::default();
        mailbox.assigned(vec![partition(0)]);
        mailbox.push(record(0, 1));
        mailbox.flush();
        mailbox.assigned(vec![partition(1)]);
        let _drained = mailbox.revoked(vec![partition(1)]);
        assert!(matches!(mailbox.change().await, LogEvent::Assigned(given) if given == [partition(0)]));
        assert!(matches!(mailbox.change().await, LogEvent::Assigned(given) if given == [partition(1)]));
        assert!(matches!(mailbox.change().await, LogEvent::Revoked { .. }));
        assert!(mailbox.take_change().is_none());
        let Ok(LogEvent::Records(records)) = mailbox.next().await else {
            panic!("not the records");
        };
        assert_eq!(records, [record(0, 1)]);
    }

    #[tokio::test]
    async fn it_is_full_at_its_limit_and_has_room_once_a_batch_is_taken() {
        let mailbox = Mailbox::default();
        for offset in 0..LIMIT_RECORDS {
            mailbox.push(record(0, offset as i64));
        }
        mailbox.flush();
        assert!(!mailbox.wait_for_room(Duration::ZERO));
        let Ok(LogEvent::Records(records)) = mailbox.next().await else {
            panic!("not records");
        };
        assert_eq!(records.len(), BATCH_RECORDS);
        assert!(mailbox.wait_for_room(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_passing_fault_is_told_once_and_a_lasting_one_every_time() {
        let mailbox = Mailbox::default();
        mailbox.fail(LogError::Unavailable("away".to_owned()));
        assert!(matches!(mailbox.next().await, Err(LogError::Unavailable(_))));
        assert!(mailbox.take().is_none());
        mailbox.fail(LogError::Refused("no".to_owned()));
        mailbox.fail(LogError::Unavailable("away".to_owned()));
        assert!(matches!(mailbox.next().await, Err(LogError::Refused(_))));
        assert!(matches!(mailbox.next().await, Err(LogError::Refused(_))));
    }
}
