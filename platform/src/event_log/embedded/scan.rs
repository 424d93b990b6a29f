//! A topic as it stands, or stretches of it, read by no group; and where the records of a time lie.

use super::super::{DISORDER, LogError, LogScan, Record, Span};
use super::Inner;
use super::rows::{self, Budget};
use super::topic::Topic;
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _};
use schemas::time::Millis;
use std::sync::Arc;

/// Reads one topic up to where it ended when the scan began, or one stretch of it.
pub(super) struct EmbeddedScan {
    log: Arc<Inner>,
    topic: Option<Arc<Topic>>,
    next: i64,
    end: i64,
    gaps: Gaps,
}

/// What it means that retention has deleted the next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gaps {
    /// What is left is read.
    Passed,
    /// Somebody wants that record.
    Error,
}

impl EmbeddedScan {
    pub(super) fn new(log: Arc<Inner>, topic: Option<Arc<Topic>>) -> Self {
        let end = topic.as_ref().map_or(0, |topic| topic.end());
        Self {
            log,
            topic,
            next: 0,
            end,
            gaps: Gaps::Passed,
        }
    }

    /// Reads from `next` up to, and without, `end`: all of it.
    pub(super) fn over(log: Arc<Inner>, topic: Option<Arc<Topic>>, next: i64, end: i64) -> Self {
        Self {
            log,
            topic,
            next,
            end,
            gaps: Gaps::Error,
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
        let read = move |db: &_| {
            Ok((
                rows::scan(db, &topic, from, Budget::batch())?,
                first(db, &topic, 0)?,
            ))
        };
        let (mut records, oldest): (Vec<Record>, _) = self.log.scans.read(read).await?;
        records.retain(|record| record.position.offset < end);
        // What is deleted after it was read does no harm.
        let is_missing = records.first().is_none_or(|record| record.position.offset > from);
        if self.gaps == Gaps::Error && is_missing && oldest.is_none_or(|(offset, _)| offset > from) {
            return Err(LogError::Unavailable(
                "records were deleted before they were read".to_owned(),
            ));
        }
        self.next = records.last().map_or(end, |last| last.position.offset + 1);
        Ok(records)
    }
}

/// Offset and time of the first record at or after `offset`.
pub(super) fn first(db: &Connection, topic: &Topic, offset: i64) -> rusqlite::Result<Option<(i64, Millis)>> {
    let sql = format!(
        "SELECT offset, at FROM t{} WHERE offset >= ?1 ORDER BY offset LIMIT 1",
        topic.id
    );
    db.prepare_cached(&sql)?
        .query_row([offset], |row| Ok((row.get(0)?, Millis(row.get(1)?))))
        .optional()
}

/// See [`super::super::EventLog::find`]. Records are in the order of their times, but for a clock that was set
/// back: some thirty looks by offset find a time, where an index would cost each append.
pub(super) fn find(
    db: &Connection,
    topic: &Topic,
    from: Millis,
    to: Millis,
) -> rusqlite::Result<Option<Vec<Span>>> {
    let end = topic.end();
    let Some((oldest, at)) = first(db, topic, 0)? else {
        return Ok(Some(Vec::new()));
    };
    if oldest > 0 && at >= from {
        return Ok(None);
    }
    let early = Millis(from.0.saturating_sub(Millis(0).plus(DISORDER).0));
    let span = Span {
        partition: 0,
        next: search(db, topic, oldest, end, early)?,
        end: search(db, topic, oldest, end, to.plus(DISORDER))?,
    };
    Ok(Some(if span.next < span.end {
        vec![span]
    } else {
        Vec::new()
    }))
}

/// The least offset from `low` to `high` whose record is stamped at or after `at`.
fn search(db: &Connection, topic: &Topic, mut low: i64, mut high: i64, at: Millis) -> rusqlite::Result<i64> {
    while low < high {
        let middle = low + (high - low) / 2;
        match first(db, topic, middle)? {
            Some((offset, stamped)) if offset < high && stamped < at => low = offset + 1,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}
