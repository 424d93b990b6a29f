//! The in-order ledger of one partition: which offset may be stored.
//!
//! Records finish in any order. The offset that may be stored is the one after the longest run of
//! finished records from the beginning: storing any later one would lose an unfinished record when
//! the process is killed.

use std::collections::VecDeque;

/// The records of one partition that have begun and not all finished.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Offsets in the order read (with gaps, after compaction or transactions), and whether each is
    /// finished. The front is never finished: it is taken out when it is.
    open: VecDeque<(i64, bool)>,
}

impl Ledger {
    /// Whether this offset is behind all that has not finished.
    #[must_use]
    pub fn may_begin(&self, offset: i64) -> bool {
        self.open.back().is_none_or(|(last, _)| *last < offset)
    }

    /// Notes that the record at `offset` has begun. Offsets rise.
    pub fn begin(&mut self, offset: i64) {
        debug_assert!(self.may_begin(offset), "offsets rise");
        self.open.push_back((offset, false));
    }

    /// Notes that the record at `offset` has finished; answers with the offset to store, if it moved:
    /// the one after the last record of the finished run.
    pub fn finish(&mut self, offset: i64) -> Option<i64> {
        let place = self.open.binary_search_by_key(&offset, |(open, _)| *open).ok()?;
        self.open[place].1 = true;
        let mut next = None;
        while let Some((offset, true)) = self.open.front() {
            next = Some(offset + 1);
            self.open.pop_front();
        }
        next
    }

    /// Whether everything begun has finished.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_the_finished_head_moves_the_offset() {
        let mut ledger = Ledger::default();
        for offset in [3, 4, 7] {
            ledger.begin(offset);
        }
        assert_eq!(ledger.finish(4), None);
        assert_eq!(ledger.finish(7), None);
        assert!(!ledger.is_idle());
        assert_eq!(ledger.finish(3), Some(8));
        assert!(ledger.is_idle());
        assert_eq!(
            ledger.finish(3),
            None,
            "a record that is not open changes nothing"
        );
    }

    proptest! {
        /// Against the plainest model: the set of unfinished offsets. Any order of finishing never
        /// stores past an unfinished record, and the last one stores the end.
        #[test]
        fn any_order_stores_exactly_up_to_the_first_unfinished(
            gaps in prop::collection::vec(1i64..5, 1..200),
            order in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let mut ledger = Ledger::default();
            let mut offset = 0;
            let mut unfinished = BTreeSet::new();
            let mut all = Vec::new();
            for gap in gaps {
                offset += gap;
                ledger.begin(offset);
                unfinished.insert(offset);
                all.push(offset);
            }
            let mut stored = None;
            for pick in order {
                let left: Vec<i64> = unfinished.iter().copied().collect();
                let Some(picked) = (!left.is_empty()).then(|| *pick.get(&left)) else { break };
                unfinished.remove(&picked);
                if let Some(next) = ledger.finish(picked) {
                    stored = Some(next);
                }
                let expected = match unfinished.first() {
                    Some(first) => all.iter().rev().find(|o| *o < first).map(|o| o + 1),
                    None => Some(offset + 1),
                };
                prop_assert_eq!(stored, expected);
            }
        }
    }
}
