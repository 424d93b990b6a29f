//! Whether a payload is cheaper in its deliveries' messages or in the payload store. No I/O.

use platform::payload_store::KEPT;

/// A message is billed as one request for each so many bytes that it has.
const BILLED: usize = 64 * 1024;
/// What a delivery's message has beside a payload: its attribute, and the pointer to a stored one.
const BESIDE: usize = 1024;
const MONTH: f64 = 30.0 * 24.0 * 3600.0;

/// What the services ask for, in any one currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// A million requests of the queue.
    pub queue: f64,
    /// A million payloads put into the store.
    pub put: f64,
    /// A million payloads got from it.
    pub get: f64,
    /// A GB (10^9 bytes) in the store for a month.
    pub storage: f64,
}

impl Prices {
    /// Of a million events with such a payload: in messages to so many targets. `size` is what the payload
    /// takes of a message. Each message is sent once and received once.
    fn in_messages(&self, size: usize, targets: usize) -> f64 {
        2.0 * number(targets) * number((size + BESIDE).div_ceil(BILLED)) * self.queue
    }

    /// The same in the store: put once, kept, got for each target, whose message is small.
    fn in_store(&self, size: usize, targets: usize) -> f64 {
        let kept = number(size) / 1e9 * 1e6 * self.storage * KEPT.as_secs_f64() / MONTH;
        self.put + kept + number(targets) * (self.get + 2.0 * self.queue)
    }
}

/// What decides where a payload travels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// A payload that takes more bytes of a message is spilled, whatever it costs.
    pub limit: usize,
    /// A smaller one is spilled if it is cheaper there; without prices never.
    pub prices: Option<Prices>,
}

impl Threshold {
    /// Whether a payload that takes `size` bytes of a message is spilled, for so many targets.
    #[must_use]
    pub fn spills(&self, size: usize, targets: usize) -> bool {
        let cheaper = |prices: &Prices| prices.in_store(size, targets) < prices.in_messages(size, targets);
        size > self.limit || self.prices.as_ref().is_some_and(cheaper)
    }
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;
    const PRICES: Prices = Prices {
        queue: 0.40,
        put: 5.00,
        get: 0.40,
        storage: 0.023,
    };

    #[test]
    fn by_size_alone_the_targets_do_not_matter() {
        let threshold = Threshold {
            limit: 256 * KIB,
            prices: None,
        };
        for targets in [1, 10, 50_000] {
            assert!(!threshold.spills(0, targets));
            assert!(!threshold.spills(256 * KIB, targets));
            assert!(threshold.spills(256 * KIB + 1, targets));
        }
    }

    /// For each size the least number of targets from which the store is cheaper.
    #[test]
    fn by_cost_the_store_wins_from_so_many_targets() {
        let threshold = Threshold {
            limit: 900 * KIB,
            prices: Some(PRICES),
        };
        for (size, from) in [
            // One request with payload or without: the store only adds to it.
            (10 * KIB, None),
            (63 * KIB, None),
            // 2 x 2 x 0.40 = 1.60 a target; 5.00 + 0.80 once and 1.20 a target.
            (64 * KIB, Some(15)),
            (100 * KIB, Some(16)),
            // 2.40 a target; 5.00 + 1.61 and 1.20.
            (128 * KIB, Some(6)),
            // 4.00 a target; 5.00 + 3.22 and 1.20.
            (256 * KIB, Some(3)),
            // 7.20 a target; 5.00 + 6.43 and 1.20.
            (512 * KIB, Some(2)),
            // 12.00 a target; 5.00 + 11.30 and 1.20.
            (900 * KIB, Some(2)),
            (900 * KIB + 1, Some(1)),
        ] {
            let first = (1..=100_000).find(|targets| threshold.spills(size, *targets));
            assert_eq!(first, from, "{size}");
        }
    }

    #[test]
    fn a_free_store_is_used_as_soon_as_it_saves_a_request() {
        let threshold = Threshold {
            limit: 900 * KIB,
            prices: Some(Prices {
                put: 0.0,
                get: 0.0,
                storage: 0.0,
                ..PRICES
            }),
        };
        assert!(!threshold.spills(63 * KIB, 1_000));
        assert!(threshold.spills(64 * KIB, 1));
    }
}
