//! Records as rows, and their batches read back.

use super::super::{NewRecord, Record};
use super::topic::Topic;
use crate::sqlite::lock;
use bytes::Bytes;
use rusqlite::{Connection, Row};
use schemas::event::Position;
use schemas::time::Millis;
use std::collections::VecDeque;
use std::sync::Mutex;

/// How much one batch takes: it ends after the record that uses it up.
#[derive(Debug)]
pub(super) struct Budget {
    records: usize,
    bytes: usize,
}

impl Budget {
    /// A reader's batch: 512 records or 4 MiB.
    pub(super) fn batch() -> Self {
        Self {
            records: 512,
            bytes: 4 << 20,
        }
    }

    /// A single record.
    fn one() -> Self {
        Self { records: 1, bytes: 1 }
    }

    /// A record and those after it, which will soon be asked for.
    fn chunk() -> Self {
        Self {
            records: 128,
            bytes: 512 << 10,
        }
    }

    /// Whether one more of this size is taken.
    pub(super) fn takes(&mut self, size: usize) -> bool {
        let room = self.records > 0 && self.bytes > 0;
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        room
    }
}

/// The bytes of a record.
pub(super) fn size(record: &NewRecord) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    record.value.len() + record.key.as_ref().map_or(0, Bytes::len) + headers
}

/// What a record takes in memory, about.
pub(super) fn weight(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 64)
        .sum();
    record.value.len() + record.key.as_ref().map_or(0, Bytes::len) + headers + size_of::<Record>()
}

/// Headers as one value: for each the length of name and value as little-endian `u32`, then both.
/// None are `NULL`.
pub(super) fn encode(headers: &[(String, Bytes)]) -> Option<Vec<u8>> {
    if headers.is_empty() {
        return None;
    }
    // Unwrap safety (the saturation): a record is at most 64 MiB.
    let length = |of: usize| u32::try_from(of).unwrap_or(u32::MAX).to_le_bytes();
    let size = headers
        .iter()
        .map(|(name, value)| 8 + name.len() + value.len())
        .sum();
    let mut encoded = Vec::with_capacity(size);
    for (name, value) in headers {
        encoded.extend_from_slice(&length(name.len()));
        encoded.extend_from_slice(&length(value.len()));
        encoded.extend_from_slice(name.as_bytes());
        encoded.extend_from_slice(value);
    }
    Some(encoded)
}

/// The headers of [`encode`]; `None` for bytes it never made.
pub(super) fn decode(mut encoded: &[u8]) -> Option<Vec<(String, Bytes)>> {
    let mut headers = Vec::new();
    while !encoded.is_empty() {
        let (name_length, rest) = encoded.split_first_chunk::<4>()?;
        let (value_length, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
        headers.push((
            String::from_utf8(name.to_vec()).ok()?,
            Bytes::copy_from_slice(value),
        ));
        encoded = rest;
    }
    Some(headers)
}

/// Reads records from `offset` on.
pub(super) fn scan(
    db: &Connection,
    topic: &Topic,
    offset: i64,
    mut budget: Budget,
) -> rusqlite::Result<Vec<Record>> {
    let sql = format!(
        "SELECT offset, at, key, headers, value FROM t{} WHERE offset >= ?1 ORDER BY offset",
        topic.id
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([offset])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let record = record(topic, row)?;
        let size = record.value.len();
        if !budget.takes(size) {
            break;
        }
        records.push(record);
    }
    Ok(records)
}

fn record(topic: &Topic, row: &Row<'_>) -> rusqlite::Result<Record> {
    let headers = match row.get_ref(3)?.as_blob_or_null()? {
        None => Vec::new(),
        Some(encoded) => decode(encoded).ok_or(rusqlite::Error::InvalidColumnType(
            3,
            "headers".to_owned(),
            rusqlite::types::Type::Blob,
        ))?,
    };
    Ok(Record {
        position: Position {
            topic: topic.name.clone(),
            partition: 0,
            offset: row.get(0)?,
        },
        timestamp: Millis(row.get(1)?),
        key: row.get_ref(2)?.as_blob_or_null()?.map(Bytes::copy_from_slice),
        value: Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?),
        headers: headers.into(),
    })
}

/// Records read back one by one are often neighbours: deliveries that wait long refer to records that
/// follow each other. Where that shows, a read takes the records after it along, and a few such
/// chunks are kept.
#[derive(Debug, Default)]
pub(super) struct Chunks(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The newest first.
    chunks: VecDeque<Chunk>,
    /// What was read from the file lately: topic id and offset, the newest first.
    asked: VecDeque<(i64, i64)>,
}

/// How many chunks are kept, and bytes of them: the newest one in any case.
const CHUNKS: usize = 16;
const CHUNKS_BYTES: usize = 6 << 20;
/// How many reads are remembered, and how near one must be to be a neighbour.
const ASKED: usize = 16;
const NEAR: u64 = 256;

#[derive(Debug)]
struct Chunk {
    topic: i64,
    bytes: usize,
    records: Vec<Record>,
}

impl Chunks {
    /// The record, if a chunk has it; `Some(None)` when the chunk shows that it is gone.
    pub(super) fn get(&self, topic: &Topic, offset: i64) -> Option<Option<Record>> {
        lock(&self.0)
            .chunks
            .iter()
            .filter(|chunk| chunk.topic == topic.id)
            .find_map(|chunk| chunk.get(offset))
    }

    /// Reads the record, and those after it if its neighbours were read before.
    pub(super) fn load(
        &self,
        db: &Connection,
        topic: &Topic,
        offset: i64,
    ) -> rusqlite::Result<Option<Record>> {
        // Several that wait for one chunk have come here one after the other.
        if let Some(found) = self.get(topic, offset) {
            return Ok(found);
        }
        let near = {
            let asked = &mut lock(&self.0).asked;
            let near = asked
                .iter()
                .any(|(other, at)| *other == topic.id && at.abs_diff(offset) <= NEAR);
            asked.truncate(ASKED - 1);
            asked.push_front((topic.id, offset));
            near
        };
        let budget = if near { Budget::chunk() } else { Budget::one() };
        let records = scan(db, topic, offset, budget)?;
        let found = records
            .first()
            .filter(|first| first.position.offset == offset)
            .cloned();
        if found.is_some() && near {
            self.keep(topic, records);
        }
        Ok(found)
    }

    /// Keeps records of a batch that a reader got from the file, if single records of that topic are asked
    /// for: those of the batch will be next.
    pub(super) fn scanned(&self, topic: &Topic, records: &[Record]) {
        let wanted = lock(&self.0).asked.iter().any(|(asked, _)| *asked == topic.id);
        if wanted {
            self.keep(topic, records.to_vec());
        }
    }

    fn keep(&self, topic: &Topic, records: Vec<Record>) {
        let bytes = records.iter().map(weight).sum();
        let chunks = &mut lock(&self.0).chunks;
        chunks.push_front(Chunk {
            topic: topic.id,
            bytes,
            records,
        });
        let mut room = CHUNKS_BYTES;
        let fitting = chunks
            .iter()
            .take(CHUNKS)
            .take_while(|chunk| {
                let fits = room > 0;
                room = room.saturating_sub(chunk.bytes);
                fits
            })
            .count();
        chunks.truncate(fitting);
    }
}

impl Chunk {
    fn get(&self, offset: i64) -> Option<Option<Record>> {
        let first = self.records.first()?.position.offset;
        let last = self.records.last()?.position.offset;
        (first..=last).contains(&offset).then(|| {
            let at = self
                .records
                .binary_search_by_key(&offset, |record| record.position.offset);
            at.ok().and_then(|index| self.records.get(index)).cloned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_come_back_as_they_were(headers: Vec<(String, Vec<u8>)>) {
            let headers: Vec<(String, Bytes)> = headers.into_iter().map(|(n, v)| (n, v.into())).collect();
            match encode(&headers) {
                None => prop_assert!(headers.is_empty()),
                Some(encoded) => prop_assert_eq!(decode(&encoded), Some(headers)),
            }
        }

        #[test]
        fn bytes_that_are_no_headers_are_told_apart_and_never_panic(encoded: Vec<u8>) {
            if let Some(headers) = decode(&encoded) {
                prop_assert_eq!(encode(&headers).unwrap_or_default(), encoded);
            }
        }
    }

    #[test]
    fn a_batch_ends_with_the_record_that_uses_it_up_and_takes_at_least_one() {
        let mut budget = Budget::batch();
        assert!(budget.takes(usize::MAX));
        assert!(!budget.takes(0));
        let mut budget = Budget::batch();
        assert_eq!((0..1_000).filter(|_| budget.takes(1)).count(), 512);
    }

    #[test]
    fn of_what_readers_scan_only_a_bounded_part_of_wanted_topics_is_kept() {
        let topic = Topic::new(1, "t".into(), 0);
        let batch = |first: i64| -> Vec<Record> {
            let at = |offset| Record {
                position: Position {
                    topic: topic.name.clone(),
                    partition: 0,
                    offset,
                },
                timestamp: Millis(0),
                key: None,
                value: Bytes::from(vec![b'x'; 1 << 20]),
                headers: Vec::new().into(),
            };
            (first..first + 4).map(at).collect()
        };
        let chunks = Chunks::default();
        chunks.scanned(&topic, &batch(0));
        assert_eq!(
            chunks.get(&topic, 0),
            None,
            "nobody has asked for a single record"
        );
        lock(&chunks.0).asked.push_front((topic.id, 0));
        for first in [0, 4, 8, 12] {
            chunks.scanned(&topic, &batch(first));
        }
        let has = |offset| chunks.get(&topic, offset).flatten().is_some();
        assert!(has(15) && has(8), "the newest are kept");
        assert!(!has(7) && !has(0), "and no more than fit");
    }
}
