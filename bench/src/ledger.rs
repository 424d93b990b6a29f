//! What was sent, accepted and received: the account from which rates, latencies, losses and
//! duplicates are read.
//!
//! The driver writes one side, the sink the other; both run in this process and use one clock.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Events beyond this number are not ours: it bounds what a stray request can make the ledger hold.
const MAX_SEQ: u64 = 20_000_000;

/// Targets beyond this number are not ours.
pub const MAX_TARGETS: usize = 64;

/// Nanoseconds since the epoch.
pub fn now_ns() -> u64 {
    // A clock before 1970 or after 2554 reads as 0, which counts as "never".
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

/// The account of one run.
#[derive(Default)]
pub struct Ledger {
    posted: Mutex<Posted>,
    received: Mutex<Received>,
    /// [`Ledger::wait`] sleeps until this many different deliveries have come.
    awaited: AtomicU64,
    reached: Notify,
}

/// The driver's side: a time for each event, 0 for never.
#[derive(Default)]
struct Posted {
    sent: Vec<u64>,
    accepted: Vec<u64>,
    accepted_count: u64,
}

/// The sink's side: for each target a time for each event, 0 for never.
#[derive(Default)]
struct Received {
    at: Vec<Vec<u64>>,
    /// When deliveries came that had come before.
    again: Vec<u64>,
    totals: Totals,
}

/// Counts of the sink's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Different deliveries (event and target).
    pub unique: u64,
    /// Deliveries that had come before.
    pub duplicated: u64,
    /// Requests that carried no event of ours.
    pub strangers: u64,
}

impl Ledger {
    /// Event `seq` is about to be sent.
    pub fn sent(&self, seq: u64, now: u64) {
        set(&mut lock(&self.posted).sent, seq, now);
    }

    /// Event `seq` was answered with 202.
    pub fn accepted(&self, seq: u64, now: u64) {
        let mut posted = lock(&self.posted);
        if set(&mut posted.accepted, seq, now) == Some(0) {
            posted.accepted_count += 1;
        }
    }

    /// Event `seq` has arrived at target `target`, if it is one of ours.
    pub fn received(&self, target: usize, seq: Option<u64>, now: u64) {
        let mut received = lock(&self.received);
        let place = seq.filter(|_| target < MAX_TARGETS).and_then(|seq| {
            if received.at.len() <= target {
                received.at.resize_with(target + 1, Vec::new);
            }
            set_once(&mut received.at[target], seq, now)
        });
        match place {
            None => received.totals.strangers += 1,
            Some(false) => {
                received.totals.duplicated += 1;
                received.again.push(now);
            }
            Some(true) => {
                received.totals.unique += 1;
                if received.totals.unique == self.awaited.load(Ordering::Relaxed) {
                    self.reached.notify_one();
                }
            }
        }
    }

    /// The sink's counts.
    pub fn totals(&self) -> Totals {
        lock(&self.received).totals
    }

    /// How many events were accepted.
    pub fn accepted_count(&self) -> u64 {
        lock(&self.posted).accepted_count
    }

    /// Forgets everything.
    pub fn reset(&self) {
        *lock(&self.posted) = Posted::default();
        *lock(&self.received) = Received::default();
    }

    /// How many accepted events of `seqs` have not reached how many of the first `targets` targets.
    pub fn missing(&self, seqs: Range<u64>, targets: usize) -> u64 {
        let posted = lock(&self.posted);
        let received = lock(&self.received);
        let mut missing = 0;
        for seq in seqs {
            if get(&posted.accepted, seq) != 0 {
                let came = received.at.iter().take(targets).filter(|at| get(at, seq) != 0);
                missing += (targets - came.count()) as u64;
            }
        }
        missing
    }

    /// Waits until every accepted event of `seqs` has reached the first `targets` targets, or nothing
    /// new has come for `patience`. How many deliveries are still missing.
    pub async fn wait(&self, seqs: Range<u64>, targets: usize, patience: Duration) -> u64 {
        loop {
            let before = self.totals().unique;
            let missing = self.missing(seqs.clone(), targets);
            if missing == 0 {
                return 0;
            }
            // Events sent but not accepted may come too, so this many more may not be enough.
            self.wait_for(before + missing, patience).await;
            if self.totals().unique == before {
                return self.missing(seqs, targets);
            }
        }
    }

    /// Waits until `unique` different deliveries have come in all, or until `limit` has passed.
    pub async fn wait_for(&self, unique: u64, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        self.awaited.store(unique, Ordering::Relaxed);
        // A loop, for a notice may be left over from an earlier wait that gave up.
        while self.totals().unique < unique {
            if tokio::time::timeout_at(deadline, self.reached.notified())
                .await
                .is_err()
            {
                break;
            }
        }
        self.awaited.store(0, Ordering::Relaxed);
    }

    /// When the first and the last delivery of `seqs` came; `None` if none did.
    pub fn received_between(&self, seqs: Range<u64>) -> Option<(u64, u64)> {
        let received = lock(&self.received);
        let times = || received.at.iter().flat_map(|at| slice(at, &seqs)).copied();
        let first = times().filter(|at| *at != 0).min()?;
        Some((first, times().max()?))
    }

    /// The most deliveries that came within so short a time, those that had come before included.
    pub fn most_within(&self, time: Duration) -> u64 {
        let received = lock(&self.received);
        let first = received.at.iter().flatten().copied();
        let mut times: Vec<u64> = first.chain(received.again.iter().copied()).collect();
        drop(received);
        times.retain(|at| *at != 0);
        times.sort_unstable();
        let (mut most, mut from) = (0, 0);
        for (place, at) in times.iter().enumerate() {
            while u128::from(at - times[from]) >= time.as_nanos() {
                from += 1;
            }
            most = most.max(place + 1 - from);
        }
        most as u64
    }

    /// When the first event of `seqs` was sent; `None` if none was.
    pub fn first_sent(&self, seqs: Range<u64>) -> Option<u64> {
        let posted = lock(&self.posted);
        slice(&posted.sent, &seqs)
            .iter()
            .copied()
            .filter(|at| *at != 0)
            .min()
    }

    /// For each accepted event of `seqs` and each delivery of it, the time from its acceptance (the
    /// 202 read here) and from its sending, in nanoseconds. A delivery that overtakes the 202 counts
    /// as 0 in the first.
    pub fn latencies(&self, seqs: Range<u64>) -> Latencies {
        self.latencies_of(seqs, MAX_TARGETS)
    }

    /// The same of the first `targets` targets alone.
    pub fn latencies_of(&self, seqs: Range<u64>, targets: usize) -> Latencies {
        let posted = lock(&self.posted);
        let received = lock(&self.received);
        let mut latencies = Latencies::default();
        for seq in seqs {
            let (sent, accepted) = (get(&posted.sent, seq), get(&posted.accepted, seq));
            if accepted == 0 {
                continue;
            }
            for came in received
                .at
                .iter()
                .take(targets)
                .map(|at| get(at, seq))
                .filter(|at| *at != 0)
            {
                latencies.from_accepted.push(came.saturating_sub(accepted));
                latencies.from_sent.push(came.saturating_sub(sent));
            }
        }
        latencies.from_accepted.sort_unstable();
        latencies.from_sent.sort_unstable();
        latencies
    }
}

/// Times of deliveries in nanoseconds, ascending.
#[derive(Default)]
pub struct Latencies {
    /// From the 202 as the driver read it.
    pub from_accepted: Vec<u64>,
    /// From the moment the driver began to send.
    pub from_sent: Vec<u64>,
}

/// The `share` (0 to 1) percentile of ascending nanoseconds, in milliseconds.
pub fn percentile_ms(ascending: &[u64], share: f64) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let place = (last as f64 * share).round() as usize;
    Some(ascending[place.min(last)] as f64 / 1e6)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere ends the run anyway; the numbers are still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn get(times: &[u64], seq: u64) -> u64 {
    usize::try_from(seq)
        .ok()
        .and_then(|seq| times.get(seq))
        .copied()
        .unwrap_or(0)
}

fn slice<'a>(times: &'a [u64], seqs: &Range<u64>) -> &'a [u64] {
    let end = (seqs.end as usize).min(times.len());
    &times[(seqs.start as usize).min(end)..end]
}

/// Sets the time of `seq` and gives the one it had; `None` if there is no such event.
fn set(times: &mut Vec<u64>, seq: u64, now: u64) -> Option<u64> {
    if seq >= MAX_SEQ {
        return None;
    }
    let place = seq as usize;
    if times.len() <= place {
        times.resize(place + 1, 0);
    }
    Some(std::mem::replace(&mut times[place], now))
}

/// Sets the time of `seq` if it has none, and says whether it had none; `None` if there is no such event.
fn set_once(times: &mut Vec<u64>, seq: u64, now: u64) -> Option<bool> {
    let had = set(times, seq, now)?;
    if had != 0 {
        times[seq as usize] = had;
    }
    Some(had == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_event_is_missing_until_each_target_has_it() {
        let ledger = Ledger::default();
        ledger.sent(0, 10);
        ledger.sent(1, 10);
        ledger.accepted(0, 20);
        assert_eq!(ledger.missing(0..2, 2), 2, "only the accepted one counts");
        ledger.received(0, Some(0), 30);
        assert_eq!(ledger.missing(0..2, 2), 1);
        ledger.received(1, Some(0), 40);
        assert_eq!(ledger.missing(0..2, 2), 0);
        assert_eq!(ledger.received_between(0..2), Some((30, 40)));
        assert_eq!(ledger.received_between(1..2), None);
    }

    #[test]
    fn a_second_delivery_is_a_duplicate_and_does_not_move_the_first() {
        let ledger = Ledger::default();
        ledger.sent(0, 1);
        ledger.accepted(0, 2);
        ledger.received(0, Some(0), 5);
        ledger.received(0, Some(0), 9);
        ledger.received(0, None, 9);
        ledger.received(MAX_TARGETS, Some(0), 9);
        ledger.received(0, Some(MAX_SEQ), 9);
        let totals = Totals {
            unique: 1,
            duplicated: 1,
            strangers: 3,
        };
        assert_eq!(ledger.totals(), totals);
        assert_eq!(ledger.latencies(0..1).from_accepted, [3]);
        assert_eq!(ledger.latencies(0..1).from_sent, [4]);
    }

    #[test]
    fn the_busiest_time_counts_what_comes_again() {
        let ledger = Ledger::default();
        assert_eq!(ledger.most_within(Duration::from_nanos(10)), 0);
        for (seq, at) in [(0, 5), (1, 12), (0, 14), (2, 15), (3, 24), (4, 100)] {
            ledger.received(0, Some(seq), at);
        }
        // 5, 12 and 14; then 12, 14 and 15 too; 15 and 24, but not 25.
        assert_eq!(ledger.most_within(Duration::from_nanos(10)), 3);
        assert_eq!(ledger.most_within(Duration::from_nanos(11)), 4);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_last_accepted_event_not_with_others() {
        let ledger = std::sync::Arc::new(Ledger::default());
        ledger.accepted(0, 1);
        ledger.accepted(2, 1);
        let waits = tokio::spawn({
            let ledger = ledger.clone();
            async move { ledger.wait(0..3, 1, Duration::from_secs(60)).await }
        });
        // 1 was never accepted: it makes the count but not the set.
        for seq in [0, 1, 2] {
            tokio::task::yield_now().await;
            ledger.received(0, Some(seq), 2);
        }
        assert_eq!(waits.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_never_comes_is_counted_as_missing() {
        let ledger = Ledger::default();
        ledger.accepted(0, 1);
        ledger.accepted(1, 1);
        ledger.received(0, Some(1), 2);
        assert_eq!(ledger.wait(0..2, 1, Duration::from_millis(1)).await, 1);
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let ascending: Vec<u64> = (1..=101).map(|ms| ms * 1_000_000).collect();
        assert_eq!(percentile_ms(&ascending, 0.5), Some(51.0));
        assert_eq!(percentile_ms(&ascending, 0.99), Some(100.0));
        assert_eq!(percentile_ms(&[], 0.5), None);
    }
}
