//! Records that cannot be read: kept as they are in the dead-letter topic, with the reason.
//!
//! If most of what comes is unreadable, the fault is ours or the schema's, not the records': the
//! consumer stops rather than empty the topic into the dead letters.

use platform::event_log::{EventLog, LogError, NewRecord, Record};
use platform::harness::backoff::Backoff;
use platform::telemetry::{Outage, names};
use schemas::dead_letter::DeadLetter;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a record is poison: a class to count by, and the details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// A short word, such as `truncated` or `unknown_schema`.
    pub class: &'static str,
    /// What is wrong, without any of the payload, in [`MAX_DETAIL`] bytes at most.
    pub detail: String,
}

/// The longest detail, in bytes. It may name what a schema holds, which may be nearly as large as the broker takes
/// records: it must leave the dead letter small enough to be written.
pub const MAX_DETAIL: usize = 1024;

impl Poison {
    /// A reason. What is beyond [`MAX_DETAIL`] is cut off.
    #[must_use]
    pub fn new(class: &'static str, mut detail: String) -> Self {
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL));
        detail.shrink_to_fit();
        Self { class, detail }
    }
}

/// The consumer stops: too much of what it reads is poison.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{poison} of the last {seen} records of {topic} could not be read (events.poison_share allows {allowed}%); \
     the last: {class}: {detail}. Check the topic's framing and schema; nothing was skipped: \
     the unread records stay in the topic"
)]
pub struct TooMuchPoison {
    topic: String,
    poison: usize,
    seen: usize,
    allowed: u32,
    class: &'static str,
    detail: String,
}

/// Records looked back on.
const WINDOW: usize = 1_000;
/// Fewer records than this say nothing about the topic.
const ENOUGH: usize = 100;

/// Takes records to the dead-letter topic and watches how many there are.
pub struct DeadLetters {
    log: Arc<dyn EventLog>,
    topic: String,
    share: f64,
    recent: Mutex<Recent>,
    outage: Outage,
}

#[derive(Default)]
struct Recent {
    poison: VecDeque<bool>,
    count: usize,
}

impl Recent {
    /// Notes one record; answers with (poison, seen).
    fn note(&mut self, poison: bool) -> (usize, usize) {
        if self.poison.len() == WINDOW && self.poison.pop_front() == Some(true) {
            self.count -= 1;
        }
        self.poison.push_back(poison);
        self.count += usize::from(poison);
        (self.count, self.poison.len())
    }
}

impl DeadLetters {
    /// Dead letters go to `topic`; more than `share` of poison stops the consumer.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, topic: String, share: f64) -> Self {
        Self {
            log,
            topic,
            share,
            recent: Mutex::default(),
            outage: Outage::new("dead-letter topic"),
        }
    }

    /// Notes a record that could be read.
    pub fn readable(&self) {
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(false);
    }

    /// Copies a record to the dead-letter topic; done when the copy is acknowledged.
    ///
    /// # Errors
    /// [`TooMuchPoison`]: the record was not copied, and the consumer should stop.
    pub async fn bury(&self, record: Record, poison: Poison) -> Result<(), TooMuchPoison> {
        let (count, seen) = self
            .recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(true);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small counts"
        )]
        if seen >= ENOUGH && count as f64 > seen as f64 * self.share {
            return Err(TooMuchPoison {
                topic: record.position.topic.to_string(),
                poison: count,
                seen,
                allowed: (self.share * 100.0) as u32,
                class: poison.class,
                detail: poison.detail,
            });
        }
        tracing::warn!(
            topic = %record.position.topic, partition = record.position.partition, offset = record.position.offset,
            class = poison.class, detail = %poison.detail, "record goes to the dead-letter topic"
        );
        let copy = copy_of(record, &poison);
        let mut backoff = Backoff::default();
        loop {
            match self.log.append(&self.topic, vec![copy.clone()]).await {
                Ok(_) => break,
                Err(error @ (LogError::Unavailable(_) | LogError::Refused(_))) => {
                    self.outage.failed(&error);
                    tokio::time::sleep(backoff.next_pause()).await;
                }
            }
        }
        self.outage.works();
        metrics::counter!(names::EVENTS_DEAD_LETTERED, "class" => poison.class).increment(1);
        Ok(())
    }
}

/// The record as it was, with its place and the reason in headers of our own.
fn copy_of(record: Record, poison: &Poison) -> NewRecord {
    let letter = DeadLetter {
        position: record.position,
        timestamp: record.timestamp,
        class: poison.class.to_owned(),
        detail: poison.detail.clone(),
    };
    let mut headers = record.headers.to_vec();
    headers.extend(letter.headers());
    NewRecord {
        key: record.key,
        value: record.value,
        headers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_where_a_character_ends() {
        let long = Poison::new("unresolved", "é".repeat(1 << 20));
        assert_eq!(long.detail, "é".repeat(512));
        let odd = Poison::new("unresolved", format!("x{}", "é".repeat(1 << 20)));
        assert_eq!(odd.detail.len(), MAX_DETAIL - 1);
        assert_eq!(Poison::new("truncated", "short".to_owned()).detail, "short");
    }

    #[test]
    fn the_share_is_of_the_last_thousand() {
        let mut recent = Recent::default();
        for n in 0..1_500 {
            recent.note(n < 700);
        }
        assert_eq!(recent.note(false), (199, 1_000));
    }
}
