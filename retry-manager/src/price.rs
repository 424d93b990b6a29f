//! Whether a pack is cheaper than the hops it saves. No I/O.

use platform::config::Prices;
use platform::delivery_queue::MAX_DELAY;
use std::time::Duration;

/// A request of the queue is billed once for each so many bytes (Amazon SQS pricing).
const BILLED: usize = 64 * 1024;
/// Entries of a request that carries many.
const BATCH: f64 = 10.0;
const MONTH: f64 = 30.0 * 24.0 * 3600.0;

/// What waiting costs: a million times as many messages of so many bytes together, for so long.
///
/// Each hop is a receive, a send and a delete. Messages that hop together share requests, ten to one; a
/// pack's message has requests of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Each message for itself.
    pub apart: f64,
    /// As one pack.
    pub packed: f64,
}

impl Cost {
    /// Of `count` messages with `bytes` altogether.
    #[must_use]
    pub fn of(prices: &Prices, count: usize, bytes: usize, wait: Duration) -> Self {
        let hops =
            number(usize::try_from(wait.as_secs().div_ceil(MAX_DELAY.as_secs())).unwrap_or(usize::MAX));
        let full = (number(count) / BATCH).max(number(bytes) / number(BILLED));
        let apart = hops * (2.0 * full + number(count) / BATCH) * prices.queue;
        let kept = number(bytes) / 1e9 * 1e6 * prices.storage * wait.as_secs_f64() / MONTH;
        // More than it hops: it asks whether it may be unpacked, is told, and is.
        let packed = prices.put + prices.get + kept + (hops + 3.0) * 3.0 * prices.queue;
        Self { apart, packed }
    }

    /// Whether the pack is cheaper.
    #[must_use]
    pub fn favours_packing(&self) -> bool {
        self.packed < self.apart
    }
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices {
        queue: 0.40,
        put: 5.00,
        get: 0.40,
        storage: 0.023,
    };
    const HOUR: Duration = Duration::from_secs(3600);

    /// From how many small deliveries on a pack is cheaper, by how long they wait.
    #[test]
    fn a_pack_pays_from_so_many_deliveries_on() {
        for (wait, from) in [
            (HOUR / 4, 86),
            (HOUR / 2, 48),
            (HOUR, 29),
            (HOUR * 4, 15),
            (HOUR * 24, 11),
        ] {
            let pays = |count: &usize| Cost::of(&PRICES, *count, count * 1500, wait).favours_packing();
            assert_eq!((1..1000).find(pays), Some(from), "{wait:?}");
        }
    }

    #[test]
    fn large_messages_hop_at_a_higher_price() {
        let four = |bytes| Cost::of(&PRICES, 4, bytes, HOUR * 4).favours_packing();
        assert!(!four(4 * 1500));
        assert!(four(4 * 256 * 1024));
    }

    #[test]
    fn nothing_pays_where_requests_are_free() {
        let free = Prices { queue: 0.0, ..PRICES };
        assert!(!Cost::of(&free, 1000, 1 << 20, HOUR * 24).favours_packing());
    }

    /// What `docs/operations.md` says of a million deliveries that wait a day.
    #[test]
    fn a_million_deliveries_of_a_day_cost_cents() {
        let day = HOUR * 24;
        let Cost { apart, packed } = Cost::of(&PRICES, 1000, 1000 * 1500, day);
        // A thousand packs; the figures are for a million of them.
        let dollars = |cost: f64| cost / 1000.0;
        assert!((11.5..11.6).contains(&dollars(apart)), "{}", dollars(apart));
        assert!((0.125..0.126).contains(&dollars(packed)), "{}", dollars(packed));
    }
}
