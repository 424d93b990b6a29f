//! The partitions that are this consumer's, the records begun under each assignment, and what may be
//! stored and let go: decisions alone, no I/O.
//!
//! Each assignment of a partition has an epoch. A record that finishes under one that has ended says
//! nothing: whoever has the partition now reads it again.

use crate::ledger::Ledger;
use platform::event_log::{Drained, Partition};
use std::collections::HashMap;

/// A record that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    partition: Partition,
    /// Which assignment of the partition it was read under.
    epoch: u64,
    offset: i64,
}

impl Begun {
    /// The partition it is of.
    #[must_use]
    pub fn partition(&self) -> &Partition {
        &self.partition
    }
}

/// All partitions assigned, and those being taken away.
#[derive(Debug, Default)]
pub struct Assignments {
    assigned: HashMap<Partition, Assigned>,
    /// Partitions that are being taken away, each list with what is dropped when all are idle.
    leaving: Vec<(Vec<Partition>, Drained)>,
    epoch: u64,
}

#[derive(Debug)]
struct Assigned {
    epoch: u64,
    ledger: Ledger,
    /// Nothing begins any more: it is being taken away.
    leaving: bool,
}

impl Assignments {
    /// Takes partitions over. One that was not yet let go begins anew.
    pub fn assign(&mut self, partitions: Vec<Partition>) {
        for partition in partitions {
            // Taken and given back before its old work was done: that has nothing to say any more.
            for (leaving, _) in &mut self.leaving {
                leaving.retain(|left| *left != partition);
            }
            let fresh = self.fresh();
            self.assigned.insert(partition, fresh);
        }
        self.let_go();
    }

    /// Begins to give partitions up. `drained` is dropped once all that has begun of them is finished.
    pub fn revoke(&mut self, partitions: Vec<Partition>, drained: Drained) {
        for partition in &partitions {
            if let Some(assigned) = self.assigned.get_mut(partition) {
                assigned.leaving = true;
            }
        }
        self.leaving.push((partitions, drained));
        self.let_go();
    }

    /// Begins a record; `None` if its partition is not ours, or not for long: whoever gets it reads it.
    pub fn begin(&mut self, partition: &Partition, offset: i64) -> Option<Begun> {
        let known = self.assigned.get_mut(partition)?;
        if known.leaving {
            return None;
        }
        if !known.ledger.may_begin(offset) {
            // A topic that was deleted and made anew, under us. What runs is of the old one.
            let fresh = self.fresh();
            self.assigned.insert(partition.clone(), fresh);
        }
        let assigned = self.assigned.get_mut(partition)?;
        assigned.ledger.begin(offset);
        Some(Begun {
            partition: partition.clone(),
            epoch: assigned.epoch,
            offset,
        })
    }

    /// Finishes a record; answers with the offset to store for its partition, if it moved. Partitions that
    /// wait for this to be let go are so by [`Assignments::let_go`], after the offset is stored.
    pub fn finish(&mut self, begun: &Begun) -> Option<i64> {
        let assigned = self.assigned.get_mut(&begun.partition)?;
        if assigned.epoch != begun.epoch {
            return None;
        }
        assigned.ledger.finish(begun.offset)
    }

    /// Lets partitions go whose records have all finished.
    pub fn let_go(&mut self) {
        let assigned = &mut self.assigned;
        self.leaving.retain(|(partitions, _)| {
            let busy = partitions.iter().any(|partition| {
                assigned
                    .get(partition)
                    .is_some_and(|assigned| !assigned.ledger.is_idle())
            });
            if !busy {
                for partition in partitions {
                    assigned.remove(partition);
                }
            }
            busy
        });
    }

    fn fresh(&mut self) -> Assigned {
        self.epoch += 1;
        Assigned {
            epoch: self.epoch,
            ledger: Ledger::default(),
            leaving: false,
        }
    }
}

#[cfg(test)]
mod tests;
