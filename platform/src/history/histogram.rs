//! How long things took, counted by size: pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Each power of two is cut into so many classes of equal width: 2^4. A class is then at most a sixteenth of
/// its lower end wide, and its middle no further than a thirty-second from any of its numbers.
const CUT_BITS: u32 = 4;

/// Counts of whole numbers (milliseconds) by classes that widen with the number, so that a quantile is off by at
/// most 1/32 (3.2%) of itself, whatever was counted; below 32 it is exact. At most 464 classes; what attempts
/// take falls into few of them. All in integers: every machine puts a number into the same class.
///
/// Histograms add up, in any order. Counts are signed: a histogram may also say how another changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(BTreeMap<u16, i64>);

impl Histogram {
    /// Counts a number `times` more, or less.
    pub fn count(&mut self, number: u32, times: i64) {
        *self.0.entry(class(number)).or_default() += times;
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        for (class, times) in &other.0 {
            *self.0.entry(*class).or_default() += times;
        }
    }

    /// Drops classes that nothing is in, or less than nothing.
    pub fn settle(&mut self) {
        self.0.retain(|_, times| *times > 0);
    }

    /// How many numbers were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0
            .values()
            .map(|times| u64::try_from(*times).unwrap_or(0))
            .sum()
    }

    /// The number that `share` (0 to 1) of all are not above: the one at place `share` × total, rounded up.
    /// `None` if nothing was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u32> {
        let total = self.total();
        let place = ((share * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (class, times) in &self.0 {
            seen += u64::try_from(*times).unwrap_or(0);
            if seen >= place {
                return Some(middle(*class));
            }
        }
        None
    }
}

/// The class of a number: its highest five bits, and how many lie below them.
fn class(number: u32) -> u16 {
    let below = number.checked_ilog2().unwrap_or(0).saturating_sub(CUT_BITS);
    // Unwrap safety: at most 27 << 4 and 31.
    u16::try_from((below << CUT_BITS) + (number >> below)).expect("fewer than 464 classes")
}

/// The middle of a class, rounded down.
fn middle(class: u16) -> u32 {
    let class = u32::from(class);
    let below = (class >> CUT_BITS)
        .saturating_sub(1)
        .min(u32::BITS - 1 - CUT_BITS);
    let low = class.saturating_sub(below << CUT_BITS) << below;
    low + ((1 << below) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all sizes, the same each time: xorshift, cut to a size that is drawn too.
    fn numbers(seed: u32, count: usize) -> Vec<u32> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        (0..count).map(|_| next() >> (next() % 32)).collect()
    }

    fn of(numbers: &[u32]) -> Histogram {
        let mut histogram = Histogram::default();
        for number in numbers {
            histogram.count(*number, 1);
        }
        histogram
    }

    #[test]
    fn a_class_is_left_for_the_next_only_and_its_middle_is_near_all_of_it() {
        let edges = (0..32).flat_map(|bit| [1_u32 << bit, (1 << bit) - 1, (1 << bit) + 1]);
        let all = (0..100_000)
            .chain(edges)
            .chain([u32::MAX])
            .chain(numbers(7, 100_000));
        for number in all {
            let off = middle(class(number)).abs_diff(number);
            assert!(u64::from(off) * 32 <= u64::from(number), "{number}: off by {off}");
            if number < 32 {
                assert_eq!(off, 0, "{number}");
            }
            if let Some(next) = number.checked_add(1) {
                let step = class(next) - class(number);
                assert!(step <= 1, "{number}: {step}");
            }
        }
        assert_eq!((class(0), class(u32::MAX)), (0, 463));
    }

    #[test]
    fn a_quantile_is_off_by_a_thirty_second_at_most() {
        for (seed, count) in [(1, 1), (2, 2), (3, 99), (4, 100), (5, 10_000)] {
            let mut sorted = numbers(seed, count);
            let histogram = of(&sorted);
            sorted.sort_unstable();
            assert_eq!(histogram.total(), count as u64);
            for share in [0.0, 0.01, 0.5, 0.95, 0.99, 1.0] {
                let place = ((share * count as f64).ceil() as usize).max(1);
                let exact = sorted[place - 1];
                let found = histogram.quantile(share).unwrap();
                let off = u64::from(found.abs_diff(exact));
                assert!(
                    off * 32 <= u64::from(exact),
                    "{share} of {count}: {found}, not {exact}"
                );
            }
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn parts_add_up_to_the_whole_and_what_is_taken_away_is_gone() {
        let all = numbers(9, 1_000);
        let mut sum = Histogram::default();
        for part in all.chunks(77).rev() {
            sum.add(&of(part));
        }
        assert_eq!(sum, of(&all));
        for number in &all[400..] {
            sum.count(*number, -1);
        }
        sum.settle();
        assert_eq!(sum, of(&all[..400]));
        let text = serde_json::to_string(&sum).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), sum);
    }
}
