//! Numbers for what is made.

use crate::secrets::random_bytes;
use schemas::time::Millis;
use std::sync::atomic::{AtomicI64, Ordering};

/// Draws ids: time-ordered positive numbers below 2^53, so that "newest first" is "by id".
#[derive(Debug, Default)]
pub(crate) struct Ids(AtomicI64);

/// 2024-01-01: 42 bits of milliseconds from here last until 2163.
const EPOCH: i64 = 1_704_067_200_000;
/// The bits below the milliseconds, drawn so that two processes seldom take the same id; where
/// they do, the insert notices and draws again.
const RANDOM_BITS: u32 = 11;

impl Ids {
    /// The next id: larger than every earlier one of this process.
    pub(crate) fn next(&self, now: Millis) -> i64 {
        let time = now.0.saturating_sub(EPOCH).clamp(0, (1 << 42) - 1);
        let random = i64::from(u16::from_be_bytes(random_bytes())) & ((1 << RANDOM_BITS) - 1);
        let fresh = (time << RANDOM_BITS | random).max(1);
        let last = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(fresh.max(last + 1))
            })
            .unwrap_or_else(|last| last);
        fresh.max(last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::ids::MAX_NUMERIC_ID;

    #[test]
    fn ids_grow_and_stay_exact_in_json() {
        let ids = Ids::default();
        let mut last = 0;
        for now in [0, EPOCH, EPOCH + 5, EPOCH + 5, EPOCH, EPOCH + 100_000] {
            let id = ids.next(Millis(now));
            assert!(id > last, "{id} after {last}");
            last = id;
        }
        let end = Ids::default().next(Millis(i64::MAX));
        assert!(end <= MAX_NUMERIC_ID, "{end}");
    }
}
