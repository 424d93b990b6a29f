//! Attempts topic → history, and which targets fail → news to their owners.
//!
//! Reads the attempts topic in batches and writes each in few transactions; the offset is stored after
//! them. Killed between the two, the batch is written again, which changes nothing: history's rows only
//! move forward. While the database is away the topic holds what is to be written, and deliveries go on.
//!
//! A partition that is taken away is let go at once, also in the middle of a batch: whoever has it next
//! writes its records again. Waiting for a database that is away would hold up the whole group.
//!
//! Every attempt of every target comes by here, with the database at hand and no delivery waiting, so
//! this is where it is seen which targets fail ([`health`]), and from where their owners are told
//! ([`tell`], [`mail`]).

pub mod health;
pub mod mail;
pub mod tell;

use mail::Mailer;
use platform::announce::Announcer;

use platform::catalog::{Catalog, CatalogError};
use platform::clock::Clock;
use platform::event_log::{EventLog, LogError, LogEvent, LogReader, Partition, Record};
use platform::harness::backoff::Backoff;
use platform::history::History;
use platform::telemetry::{Outage, names};
use schemas::history::{HistoryRecord, read_lines};
use schemas::time::Millis;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tell::Teller;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What the recorder needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its consumer group.
    pub group: String,
    /// The attempts topic.
    pub topic: String,
    /// How long history is kept.
    pub keep: Duration,
    /// How long every attempt at a target fails before it is disabled; `None` for never.
    pub disable_after: Option<Duration>,
}

/// What the recorder works with.
pub struct Parts {
    /// Where records come from.
    pub log: Arc<dyn EventLog>,
    /// Where they go.
    pub history: History,
    /// Where it is kept which targets fail.
    pub catalog: Catalog,
    /// Where operational events go, if there is a topic that takes them.
    pub announcer: Option<Announcer>,
    /// Who writes to targets' contacts, if anybody.
    pub mailer: Option<Mailer>,
    /// The time.
    pub clock: Clock,
}

/// How often rows past their time are removed, and places made for those to come.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);
/// Records written in one transaction: the more, the fewer pages are written twice, and the longer other
/// writers of the database wait.
const TRANSACTION: usize = 2_048;

/// A batch of fewer records costs more by its transaction than by its records: after it others are waited for.
const FEW: usize = 256;
/// How long after the beginning of such a batch the next one is read. What comes alone is written at once; history is
/// no more than this behind for being written in fewer transactions.
const GATHER: Duration = Duration::from_millis(100);

static HISTORY: Outage = Outage::new("history database");
static HEALTH: Outage = Outage::new("catalog (targets that fail)");
static READING: Outage = Outage::new("attempts topic");

/// Records until `shutdown`. `ready` is called once it reads.
///
/// # Errors
/// When the log refuses to be read.
pub async fn run(
    config: Config,
    parts: Parts,
    ready: impl FnOnce() + Send,
    shutdown: CancellationToken,
) -> Result<(), LogError> {
    // Before anything is written: a day whose rows came before it gets no place of its own any more.
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = make_days(&parts.history, &parts.clock) => {}
    }
    let mut reader = parts.log.subscribe(&config.group, &[config.topic]).await?;
    let wake = Arc::new(Notify::new());
    let teller = Teller {
        catalog: parts.catalog.clone(),
        announcer: parts.announcer,
        mailer: parts.mailer,
        clock: parts.clock.clone(),
    };
    let telling = tokio::spawn(teller.run(wake.clone(), shutdown.clone()));
    let expiring = tokio::spawn(expire(
        parts.history.clone(),
        config.keep,
        parts.clock,
        shutdown.clone(),
    ));
    let books = Books {
        history: parts.history,
        catalog: parts.catalog,
        disable_after: config.disable_after,
        wake,
    };
    ready();
    let mut backoff = Backoff::default();
    let result = loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            event = reader.next() => match event {
                Ok(LogEvent::Records(records)) => {
                    READING.works();
                    backoff = Backoff::default();
                    let begun = Instant::now();
                    let (written, lost) =
                        beside(reader.as_mut(), books.write(&records, &shutdown)).await;
                    let Some(written) = written else {
                        break Ok(());
                    };
                    store(reader.as_ref(), &records, &lost);
                    drop(records);
                    if written < FEW {
                        let gathered = shutdown.run_until_cancelled(sleep_until(begun + GATHER));
                        beside(reader.as_mut(), gathered).await;
                    }
                }
                // Nothing is under way here, so what is taken is let go by being dropped.
                Ok(LogEvent::Assigned(_) | LogEvent::Revoked { .. }) => {}
                Err(error @ LogError::Refused(_)) => break Err(error),
                Err(error @ LogError::Unavailable(_)) => {
                    READING.failed(&error);
                    if beside(reader.as_mut(), backoff.wait(&shutdown)).await.0 {
                        break Ok(());
                    }
                }
            },
        }
    };
    reader.close().await;
    // Both end by the shutdown; where the log refused to be read, the process ends.
    if result.is_err() {
        telling.abort();
        expiring.abort();
    }
    drop(tokio::join!(telling, expiring));
    result
}

/// Does `work`, which may last as long as the database is away, and lets go meanwhile what is taken from
/// us: its result, and the partitions that were taken, whether or not they came back.
async fn beside<T>(reader: &mut dyn LogReader, work: impl Future<Output = T>) -> (T, HashSet<Partition>) {
    let mut lost = HashSet::new();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return (result, lost),
            change = reader.change() => match change {
                LogEvent::Revoked { partitions, drained } => {
                    lost.extend(partitions);
                    drop(drained);
                }
                LogEvent::Assigned(_) | LogEvent::Records(_) => {}
            },
        }
    }
}

/// What records are written into.
struct Books {
    history: History,
    catalog: Catalog,
    disable_after: Option<Duration>,
    /// Told when there is something to be told to owners.
    wake: Arc<Notify>,
}

impl Books {
    /// Writes a batch: how many records it held. `None` when stopped before its end.
    async fn write(&self, batch: &[Record], shutdown: &CancellationToken) -> Option<usize> {
        let mut records = batch.iter().flat_map(read);
        let mut written = 0;
        loop {
            let some: Vec<HistoryRecord> = records.by_ref().take(TRANSACTION).collect();
            if some.is_empty() {
                return Some(written);
            }
            if !write_some(&self.history, &some, shutdown).await || !self.note(&some, shutdown).await {
                return None;
            }
            written += some.len();
        }
    }

    /// Notes which targets fail, trying until the database takes it. Answers `false` when stopped before.
    async fn note(&self, records: &[HistoryRecord], shutdown: &CancellationToken) -> bool {
        let mut backoff = Backoff::default();
        loop {
            match health::note(&self.catalog, records, self.disable_after).await {
                Ok(urgent) => {
                    HEALTH.works();
                    if urgent {
                        self.wake.notify_one();
                    }
                    return true;
                }
                Err(error @ CatalogError::Unavailable(_)) => {
                    HEALTH.failed(&error);
                    if backoff.wait(shutdown).await {
                        return false;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "what attempts say of their targets is left out");
                    return true;
                }
            }
        }
    }
}

/// Stores the offsets of a batch that is written. Of a partition that was taken meanwhile nothing is
/// stored, also if it is ours again: another may have gone on from where we were, and further.
fn store(reader: &dyn LogReader, batch: &[Record], lost: &HashSet<Partition>) {
    let mut next = HashMap::new();
    for record in batch {
        let partition = (record.position.topic.clone(), record.position.partition);
        next.insert(partition, record.position.offset + 1);
    }
    for (partition, offset) in next {
        if !lost.contains(&partition) {
            reader.store(&partition, offset);
        }
    }
}

/// Writes records in one transaction, trying until the database takes it. Answers `false` when stopped
/// before that.
async fn write_some(history: &History, records: &[HistoryRecord], shutdown: &CancellationToken) -> bool {
    let mut backoff = Backoff::default();
    loop {
        match history.write(records).await {
            Ok(()) => {
                HISTORY.works();
                return true;
            }
            Err(error @ CatalogError::Unavailable(_)) => {
                HISTORY.failed(&error);
                if backoff.wait(shutdown).await {
                    return false;
                }
            }
            Err(error) => {
                // Not the database's absence: these will never be taken.
                tracing::error!(%error, records = records.len(), "history refuses records; they are left out");
                metrics::counter!(names::HISTORY_DROPPED).increment(records.len() as u64);
                return true;
            }
        }
    }
}

/// The history records of a record of the topic; what is not one of ours is counted.
fn read(record: &Record) -> impl Iterator<Item = HistoryRecord> {
    read_lines(&record.value).filter_map(|read| {
        if read.is_err() {
            metrics::counter!(names::HISTORY_DROPPED).increment(1);
            tracing::warn!(
                topic = %record.position.topic, partition = record.position.partition, offset = record.position.offset,
                "unreadable line in the attempts topic; left out"
            );
        }
        read.ok()
    })
}

/// Makes places for the attempts of days to come. What has none is written all the same.
async fn make_days(history: &History, clock: &Clock) {
    match history.make_days(clock.now()).await {
        Ok(0) => {}
        Ok(made) => tracing::info!(made, "days of history made"),
        Err(error) => HISTORY.failed(&error),
    }
}

/// Removes rows past their time, beside the writing: in steps of their own, so that a month's worth holds nobody up.
async fn expire(history: History, keep: Duration, clock: Clock, shutdown: CancellationToken) {
    let mut every = tokio::time::interval(EXPIRE_EVERY);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = every.tick() => {}
        }
        let before = Millis(
            clock
                .now()
                .0
                .saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)),
        );
        let work = async {
            make_days(&history, &clock).await;
            if let Err(error) = history.expire(before, u32::MAX).await {
                HISTORY.failed(&error);
            }
        };
        tokio::select! {
            biased;
            // A step cut short changes nothing.
            () = shutdown.cancelled() => return,
            () = work => {}
        }
    }
}

#[cfg(test)]
mod tests;
