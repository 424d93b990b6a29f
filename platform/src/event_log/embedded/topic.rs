//! A topic: its newest records in memory, and whom to wake when more come.

use super::super::Record;
use super::rows::{Budget, weight};
use crate::sqlite::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// How many records, and bytes of them, a topic keeps in memory.
const TAIL_RECORDS: usize = 8_192;
const TAIL_BYTES: usize = 4 << 20;

/// A topic that is durably there.
#[derive(Debug)]
pub(super) struct Topic {
    /// Names its table.
    pub id: i64,
    /// Its name.
    pub name: Arc<str>,
    tail: Mutex<Tail>,
    readers: Mutex<Vec<Arc<Notify>>>,
}

/// The newest records: those before offset `end`, without a gap.
#[derive(Debug, Default)]
struct Tail {
    end: i64,
    records: VecDeque<Record>,
    bytes: usize,
}

/// What a reader finds at a place.
#[derive(Debug)]
pub(super) enum Found {
    /// Records from there on.
    Records(Vec<Record>),
    /// There are records, but no longer in memory.
    OnDisk,
    /// None yet.
    Nothing,
}

impl Topic {
    pub(super) fn new(id: i64, name: Arc<str>, end: i64) -> Self {
        Self {
            id,
            name,
            tail: Mutex::new(Tail {
                end,
                ..Tail::default()
            }),
            readers: Mutex::default(),
        }
    }

    /// The offset the next record gets.
    pub(super) fn end(&self) -> i64 {
        lock(&self.tail).end
    }

    /// Shows records that are durable; they follow each other from the end on.
    pub(super) fn push(&self, records: impl Iterator<Item = Record>) {
        let mut tail = lock(&self.tail);
        for record in records {
            tail.end = record.position.offset + 1;
            tail.bytes += weight(&record);
            tail.records.push_back(record);
        }
        while tail.bytes > TAIL_BYTES || tail.records.len() > TAIL_RECORDS {
            let Some(oldest) = tail.records.pop_front() else {
                break;
            };
            tail.bytes -= weight(&oldest);
        }
    }

    /// One record, if it is in memory.
    pub(super) fn get(&self, offset: i64) -> Option<Record> {
        let tail = lock(&self.tail);
        tail.index(offset)
            .and_then(|index| tail.records.get(index))
            .cloned()
    }

    /// What follows from `offset` on, as much as one batch takes.
    pub(super) fn from(&self, offset: i64) -> Found {
        let tail = lock(&self.tail);
        if offset >= tail.end {
            return Found::Nothing;
        }
        let Some(index) = tail.index(offset) else {
            return Found::OnDisk;
        };
        let mut budget = Budget::batch();
        Found::Records(
            tail.records
                .range(index..)
                .take_while(|record| budget.takes(record.value.len()))
                .cloned()
                .collect(),
        )
    }

    /// Wakes this reader whenever records come.
    pub(super) fn watch(&self, reader: &Arc<Notify>) {
        lock(&self.readers).push(reader.clone());
    }

    /// Wakes it no more.
    pub(super) fn unwatch(&self, reader: &Arc<Notify>) {
        lock(&self.readers).retain(|other| !Arc::ptr_eq(other, reader));
    }

    /// Wakes the readers.
    pub(super) fn wake(&self) {
        for reader in lock(&self.readers).iter() {
            reader.notify_one();
        }
    }
}

impl Tail {
    /// Where a record before the end stands in memory, if it does.
    fn index(&self, offset: i64) -> Option<usize> {
        let from_end = usize::try_from(self.end.checked_sub(offset)?).ok()?;
        self.records.len().checked_sub(from_end)
    }
}
