//! What the consumer works on: how much, and since when.

use schemas::time::Millis;
use std::collections::BTreeMap;

/// A record's part of it.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Its bytes.
    pub bytes: usize,
    /// When the log took it.
    pub at: Millis,
}

/// The records that have begun and not finished.
#[derive(Debug, Default)]
pub struct UnderWay {
    bytes: usize,
    events: usize,
    /// How many there are of each moment.
    moments: BTreeMap<Millis, usize>,
}

impl UnderWay {
    /// Notes that a record begins.
    pub fn begin(&mut self, share: Share) {
        self.events += 1;
        self.bytes += share.bytes;
        *self.moments.entry(share.at).or_default() += 1;
    }

    /// Notes that one that had begun has finished.
    pub fn finish(&mut self, share: Share) {
        self.events -= 1;
        self.bytes -= share.bytes;
        if let Some(left) = self.moments.get_mut(&share.at) {
            *left -= 1;
            if *left == 0 {
                self.moments.remove(&share.at);
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }

    /// Their bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the log took the oldest.
    #[must_use]
    pub fn oldest(&self) -> Option<Millis> {
        self.moments.first_key_value().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_one_that_has_not_finished() {
        let share = |bytes, at| Share {
            bytes,
            at: Millis(at),
        };
        let mut under_way = UnderWay::default();
        assert_eq!(under_way.oldest(), None);
        let shares = [share(10, 7), share(20, 5), share(30, 5), share(40, 9)];
        for share in shares {
            under_way.begin(share);
        }
        let seen = |under_way: &UnderWay| (under_way.events(), under_way.bytes(), under_way.oldest());
        assert_eq!(seen(&under_way), (4, 100, Some(Millis(5))));
        under_way.finish(shares[1]);
        assert_eq!(seen(&under_way), (3, 80, Some(Millis(5))));
        under_way.finish(shares[2]);
        assert_eq!(seen(&under_way), (2, 50, Some(Millis(7))));
        under_way.finish(shares[0]);
        under_way.finish(shares[3]);
        assert_eq!(seen(&under_way), (0, 0, None));
    }
}
