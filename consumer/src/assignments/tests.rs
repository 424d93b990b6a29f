//! Against a model: any order of records begun and finished, partitions taken and given back.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

fn partition(number: i32) -> Partition {
    (Arc::from("t"), number)
}

fn drained() -> (Drained, Receiver<()>) {
    let (sender, receiver) = sync_channel(0);
    (Drained(sender), receiver)
}

fn is_let_go(receiver: &Receiver<()>) -> bool {
    receiver.try_recv() == Err(TryRecvError::Disconnected)
}

#[test]
fn a_record_of_an_assignment_that_has_ended_says_nothing() {
    let mut ours = Assignments::default();
    assert_eq!(ours.begin(&partition(0), 1), None, "not ours");
    ours.assign(vec![partition(0)]);
    let late = ours.begin(&partition(0), 1).unwrap();
    let (token, gone) = drained();
    ours.revoke(vec![partition(0)], token);
    assert_eq!(ours.begin(&partition(0), 2), None, "it is leaving");
    assert!(!is_let_go(&gone));
    // Given back before the work on it was done.
    ours.assign(vec![partition(0)]);
    assert!(is_let_go(&gone));
    let again = ours.begin(&partition(0), 1).unwrap();
    assert_eq!(ours.finish(&late), None);
    assert_eq!(ours.finish(&again), Some(2));
}

#[test]
fn partitions_taken_together_are_let_go_together() {
    let mut ours = Assignments::default();
    ours.assign(vec![partition(0), partition(1), partition(2)]);
    let [first, second] = [0, 1].map(|number| ours.begin(&partition(number), 5).unwrap());
    let (token, gone) = drained();
    ours.revoke(vec![partition(0), partition(1)], token);
    assert_eq!(ours.finish(&first), Some(6), "stored while it is drained");
    ours.let_go();
    assert!(!is_let_go(&gone));
    assert_eq!(ours.finish(&second), Some(6));
    assert!(!is_let_go(&gone), "not before the offset is stored");
    ours.let_go();
    assert!(is_let_go(&gone));
    assert!(ours.begin(&partition(2), 1).is_some());
}

#[test]
fn offsets_that_go_back_begin_anew() {
    let mut ours = Assignments::default();
    ours.assign(vec![partition(0)]);
    let old = ours.begin(&partition(0), 500).unwrap();
    let new = ours.begin(&partition(0), 0).unwrap();
    assert_eq!(ours.finish(&old), None, "of a topic that is no more");
    assert_eq!(ours.finish(&new), Some(1));
}

/// What happens to the partitions, as numbers that pick among what there is.
#[derive(Clone, Debug)]
enum Step {
    Assign(i32),
    Revoke(Vec<i32>),
    /// The next record of a partition.
    Read(i32),
    /// Any record that runs, of whatever assignment.
    Finish(prop::sample::Index),
    /// The process that has the partition next is another one: what we know of it is gone.
    Lose(i32),
}

const PARTITIONS: i32 = 3;
const RECORDS: usize = 12;

fn step() -> impl Strategy<Value = Step> {
    let number = 0..PARTITIONS;
    prop_oneof![
        2 => number.clone().prop_map(Step::Assign),
        2 => prop::collection::vec(number.clone(), 1..3).prop_map(Step::Revoke),
        1 => number.clone().prop_map(Step::Lose),
        10 => number.prop_map(Step::Read),
        10 => any::<prop::sample::Index>().prop_map(Step::Finish),
    ]
}

/// Offsets have gaps, as after compaction.
fn offset(record: usize) -> i64 {
    i64::try_from(record).unwrap() * 3 + 1
}

/// One partition, by the plainest means.
#[derive(Debug, Default)]
struct Model {
    /// Of the assignment that lasts: its number, and whether it is being taken away.
    assigned: Option<(usize, bool)>,
    assignments: usize,
    /// The record to be read next.
    next: usize,
    /// Begun under this assignment, and not finished.
    unfinished: BTreeSet<usize>,
    /// The first record read under this assignment.
    first: usize,
    /// Finished at any time by anybody.
    finished: BTreeSet<usize>,
    /// The offset committed: where the next assignment begins.
    committed: i64,
}

impl Model {
    fn assign(&mut self) {
        self.assignments += 1;
        self.assigned = Some((self.assignments, false));
        self.unfinished.clear();
        self.next = (0..=RECORDS)
            .find(|record| offset(*record) >= self.committed)
            .unwrap();
        self.first = self.next;
    }

    /// What is to be stored once `record` is finished: the offset behind the last one before the first that
    /// is not, if that is news.
    fn finish(&mut self, record: usize) -> Option<i64> {
        self.unfinished.remove(&record);
        let head = self.unfinished.first().copied().unwrap_or(self.next);
        let reached = (head > self.first).then(|| offset(head - 1) + 1)?;
        (reached > self.committed).then(|| {
            self.committed = reached;
            reached
        })
    }
}

/// A record that runs: ours, the model's number of its assignment, and which it is.
struct Running {
    begun: Begun,
    number: i32,
    assignment: usize,
    record: usize,
}

/// The partitions of a revocation that waits, with the assignment of each.
type Taken = Vec<(i32, usize)>;

#[derive(Default)]
struct Both {
    ours: Assignments,
    models: [Model; PARTITIONS as usize],
    running: Vec<Running>,
    waiting: Vec<(Taken, Receiver<()>)>,
}

impl Both {
    fn model(&mut self, number: i32) -> &mut Model {
        &mut self.models[usize::try_from(number).unwrap()]
    }

    fn assign(&mut self, number: i32) {
        self.ours.assign(vec![partition(number)]);
        self.model(number).assign();
    }

    fn revoke(&mut self, numbers: &BTreeSet<i32>) {
        let mut taken = Vec::new();
        for number in numbers {
            if let Some((assignment, leaving @ false)) = &mut self.model(*number).assigned {
                *leaving = true;
                taken.push((*number, *assignment));
            }
        }
        if !taken.is_empty() {
            let (token, gone) = drained();
            let partitions = taken.iter().map(|(number, _)| partition(*number)).collect();
            self.ours.revoke(partitions, token);
            self.waiting.push((taken, gone));
        }
    }

    fn read(&mut self, number: i32) -> Result<(), TestCaseError> {
        let model = self.model(number);
        let record = model.next;
        let expected = model.assigned.filter(|(_, leaving)| !leaving);
        if record == RECORDS {
            return Ok(());
        }
        if expected.is_some() {
            model.next += 1;
            model.unfinished.insert(record);
        }
        let begun = self.ours.begin(&partition(number), offset(record));
        prop_assert_eq!(begun.is_some(), expected.is_some());
        if let (Some(begun), Some((assignment, _))) = (begun, expected) {
            self.running.push(Running {
                begun,
                number,
                assignment,
                record,
            });
        }
        Ok(())
    }

    fn finish(&mut self, place: usize) -> Result<(), TestCaseError> {
        let done = self.running.swap_remove(place);
        let stored = self.ours.finish(&done.begun);
        self.ours.let_go();
        let model = self.model(done.number);
        model.finished.insert(done.record);
        let lasts = model
            .assigned
            .is_some_and(|(assignment, _)| assignment == done.assignment);
        let expected = if lasts { model.finish(done.record) } else { None };
        prop_assert_eq!(stored, expected, "{}/{}", done.number, done.record);
        Ok(())
    }

    /// What holds after each step.
    fn holds(&mut self) -> Result<(), TestCaseError> {
        for model in &self.models {
            let before = (0..RECORDS).filter(|record| offset(*record) < model.committed);
            for record in before {
                prop_assert!(
                    model.finished.contains(&record),
                    "{record} is committed and never finished"
                );
            }
        }
        let models = &mut self.models;
        let mut wrong = None;
        self.waiting.retain(|(taken, gone)| {
            let busy = taken.iter().any(|(number, assignment)| {
                let model = &models[usize::try_from(*number).unwrap()];
                model.assigned.is_some_and(|(lasts, _)| lasts == *assignment) && !model.unfinished.is_empty()
            });
            if is_let_go(gone) == busy {
                wrong = Some(taken.clone());
            }
            if !busy {
                for (number, assignment) in taken {
                    let model = &mut models[usize::try_from(*number).unwrap()];
                    if model.assigned.is_some_and(|(lasts, _)| lasts == *assignment) {
                        model.assigned = None;
                    }
                }
            }
            busy
        });
        prop_assert_eq!(wrong, None, "let go too early, or not at all");
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Assign(number) => self.assign(number),
            Step::Revoke(numbers) => self.revoke(&BTreeSet::from_iter(numbers)),
            Step::Read(number) => self.read(number)?,
            Step::Finish(place) => {
                if !self.running.is_empty() {
                    self.finish(place.index(self.running.len()))?;
                }
            }
            // Taken and given back at once: nothing it began before is to be heard of again.
            Step::Lose(number) => {
                self.revoke(&BTreeSet::from([number]));
                self.assign(number);
            }
        }
        self.holds()
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_unfinished_is_passed_and_the_end_is_reached(
        steps in prop::collection::vec(step(), 1..150),
        order in prop::collection::vec(any::<prop::sample::Index>(), 150),
    ) {
        let mut both = Both::default();
        for step in steps {
            both.step(step)?;
        }
        // From here on in peace: each partition is ours, is read to its end, and all that runs finishes.
        for number in 0..PARTITIONS {
            both.step(Step::Assign(number))?;
            for _ in 0..RECORDS {
                both.step(Step::Read(number))?;
            }
        }
        for place in order.iter().cycle() {
            if both.running.is_empty() {
                break;
            }
            both.step(Step::Finish(*place))?;
        }
        for model in &both.models {
            prop_assert_eq!(model.committed, offset(RECORDS - 1) + 1);
            prop_assert_eq!(model.finished.len(), RECORDS);
        }
    }
}
