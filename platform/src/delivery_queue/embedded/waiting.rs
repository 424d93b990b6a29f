//! What waits in one queue, is delayed, or is in flight: a pure data structure, time an argument.

use super::super::Depth;
use super::store::Message;
use schemas::time::Millis;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};

/// How many waiting messages, and bytes of them, stand in memory; of the others only 16 bytes each.
const RESIDENT: usize = 4_096;
const RESIDENT_BYTES: usize = 8 << 20;

/// A queue with so many visible messages is crowded: several times what is attempted at once, and half of
/// what stands in memory.
pub(super) const CROWDED: usize = RESIDENT / 2;

/// The messages of one queue. A message, by its number, is in exactly one of the first four.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Visible and never received.
    fresh: VecDeque<Slot>,
    /// Visible again, with the count of their receives.
    returned: BTreeMap<i64, u32>,
    /// Hidden by a delay: when each is due.
    delayed: BinaryHeap<Reverse<(Millis, i64)>>,
    /// Received: hidden from others.
    claims: HashMap<i64, Claim>,
    /// The claims by their end.
    ends: BTreeSet<(Millis, i64)>,
    resident: usize,
    resident_bytes: usize,
    /// No receiver sleeps longer than this without looking.
    asleep_until: Millis,
}

#[derive(Debug)]
struct Slot {
    seq: i64,
    message: Option<Box<Message>>,
}

#[derive(Debug)]
struct Claim {
    count: u32,
    until: Millis,
}

/// A message just received.
#[derive(Debug)]
pub(super) struct Taken {
    pub seq: i64,
    /// How often it has been received, this time included.
    pub count: u32,
    /// The message, if it was in memory.
    pub message: Option<Box<Message>>,
}

/// Whether a receipt still allows what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
}

impl Waiting {
    /// Adds a message; whether a receiver that sleeps must be told of its time.
    pub(super) fn add(&mut self, seq: i64, visible_at: Millis, message: Option<Box<Message>>) {
        if visible_at > Millis(0) {
            self.delayed.push(Reverse((visible_at, seq)));
            return;
        }
        let message = message.filter(|_| self.resident < RESIDENT && self.resident_bytes < RESIDENT_BYTES);
        if let Some(message) = &message {
            self.resident += 1;
            self.resident_bytes += message.size();
        }
        self.fresh.push_back(Slot { seq, message });
    }

    /// Makes visible what is due by now.
    pub(super) fn due(&mut self, now: Millis) {
        while let Some(Reverse((at, seq))) = self.delayed.peek().copied()
            && at <= now
        {
            self.delayed.pop();
            self.fresh.push_back(Slot { seq, message: None });
        }
        while let Some((until, seq)) = self.ends.first().copied()
            && until <= now
        {
            self.ends.pop_first();
            if let Some(claim) = self.claims.remove(&seq) {
                self.returned.insert(seq, claim.count);
            }
        }
    }

    /// Takes up to `max` visible messages; they are hidden until `until`.
    pub(super) fn take(&mut self, max: usize, until: Millis) -> Vec<Taken> {
        let count = max.min(self.ready());
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let next = match self.returned.pop_first() {
                Some((seq, count)) => Taken {
                    seq,
                    count: count.saturating_add(1),
                    message: None,
                },
                None => match self.fresh.pop_front() {
                    Some(Slot { seq, message }) => Taken {
                        seq,
                        count: 1,
                        message,
                    },
                    None => break,
                },
            };
            if let Some(message) = &next.message {
                self.resident -= 1;
                self.resident_bytes -= message.size();
            }
            let claim = Claim {
                count: next.count,
                until,
            };
            self.claims.insert(next.seq, claim);
            self.ends.insert((until, next.seq));
            taken.push(next);
        }
        if self.fresh.is_empty() && self.fresh.capacity() > RESIDENT {
            self.fresh.shrink_to(RESIDENT);
        }
        taken
    }

    /// Whether this receipt may delete its message: unless another has received it since. A message
    /// that is not known may be gone already, which is no error.
    pub(super) fn may_delete(&self, seq: i64, count: u32) -> Verdict {
        match self.claims.get(&seq) {
            Some(claim) if claim.count != count => Verdict::No,
            Some(_) | None => Verdict::Yes,
        }
    }

    /// Forgets a message that is deleted.
    pub(super) fn deleted(&mut self, seq: i64) {
        match self.claims.remove(&seq) {
            Some(claim) => {
                self.ends.remove(&(claim.until, seq));
            }
            None => {
                self.returned.remove(&seq);
            }
        }
    }

    /// Moves the end of a claim that still holds; an end that has come makes the message visible.
    pub(super) fn extend(&mut self, seq: i64, count: u32, until: Millis) -> Verdict {
        let Some(claim) = self.claims.get_mut(&seq).filter(|claim| claim.count == count) else {
            return Verdict::No;
        };
        self.ends.remove(&(claim.until, seq));
        claim.until = until;
        self.ends.insert((until, seq));
        Verdict::Yes
    }

    /// Gives up a claim as if its time had come.
    pub(super) fn give_back(&mut self, seq: i64, count: u32) {
        if self.extend(seq, count, Millis(0)) == Verdict::Yes {
            self.due(Millis(0));
        }
    }

    /// How many messages are visible.
    pub(super) fn ready(&self) -> usize {
        self.fresh.len() + self.returned.len()
    }

    /// Whether more had better wait elsewhere.
    pub(super) fn is_crowded(&self) -> bool {
        self.ready() >= CROWDED
    }

    /// When the next message becomes visible by itself.
    pub(super) fn next_due(&self) -> Option<Millis> {
        let delayed = self.delayed.peek().map(|Reverse((at, _))| *at);
        let ends = self.ends.first().map(|(until, _)| *until);
        [delayed, ends].into_iter().flatten().min()
    }

    /// Notes that a receiver sleeps until then.
    pub(super) fn sleeps_until(&mut self, until: Millis) {
        self.asleep_until = self.asleep_until.max(until);
    }

    /// Whether something that becomes visible then could be slept over.
    pub(super) fn must_tell(&self, due: Millis) -> bool {
        due < self.asleep_until
    }

    /// How many waiting messages stand in memory.
    pub(super) fn resident(&self) -> usize {
        self.resident
    }

    pub(super) fn depth(&self) -> Depth {
        Depth {
            visible: self.ready() as u64,
            delayed: self.delayed.len() as u64,
            in_flight: self.claims.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[derive(Clone, Debug)]
    enum Step {
        Add {
            delay: i64,
        },
        Pass(i64),
        Take {
            max: usize,
            visibility: i64,
        },
        /// These three use one of the receipts given so far.
        Delete(usize),
        Extend(usize, i64),
        GiveBack(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_i64).prop_map(|delay| Step::Add { delay: delay - 10 }),
            (0..10_i64).prop_map(Step::Pass),
            (1..4_usize, 1..15_i64).prop_map(|(max, visibility)| Step::Take { max, visibility }),
            any::<usize>().prop_map(Step::Delete),
            (any::<usize>(), 0..15_i64).prop_map(|(receipt, by)| Step::Extend(receipt, by)),
            any::<usize>().prop_map(Step::GiveBack),
        ]
    }

    fn message() -> Option<Box<Message>> {
        Some(Box::new(Message {
            body: bytes::Bytes::from_static(b"body"),
            attribute: "attribute".to_owned(),
        }))
    }

    proptest! {
        #[test]
        fn no_message_is_lost_or_seen_by_two_whatever_happens(steps in prop::collection::vec(step(), 0..200)) {
            let (mut waiting, mut now, mut next) = (Waiting::default(), 1_000_i64, 1_i64);
            let mut there: HashSet<i64> = HashSet::new();
            // Who holds what until when, as a receiver knows it.
            let mut holds: HashMap<i64, (u32, i64)> = HashMap::new();
            let mut receipts: Vec<(i64, u32)> = Vec::new();
            for step in steps {
                waiting.due(Millis(now));
                holds.retain(|_, (_, until)| *until > now);
                let pick = |index: usize| receipts.get(index % receipts.len().max(1)).copied();
                match step {
                    Step::Add { delay } => {
                        let at = if delay > 0 { now + delay } else { 0 };
                        waiting.add(next, Millis(at), message());
                        there.insert(next);
                        next += 1;
                    }
                    Step::Pass(by) => now += by,
                    Step::Take { max, visibility } => {
                        for taken in waiting.take(max, Millis(now + visibility)) {
                            prop_assert!(there.contains(&taken.seq));
                            prop_assert!(!holds.contains_key(&taken.seq), "{} has two receivers", taken.seq);
                            holds.insert(taken.seq, (taken.count, now + visibility));
                            receipts.push((taken.seq, taken.count));
                        }
                    }
                    Step::Delete(index) => if let Some((seq, count)) = pick(index) {
                        let other_holds = holds.get(&seq).is_some_and(|(held, _)| *held != count);
                        let verdict = waiting.may_delete(seq, count);
                        prop_assert_eq!(verdict == Verdict::No, other_holds);
                        if verdict == Verdict::Yes {
                            waiting.deleted(seq);
                            there.remove(&seq);
                            holds.remove(&seq);
                        }
                    },
                    Step::Extend(index, by) => if let Some((seq, count)) = pick(index) {
                        let mine = holds.get(&seq).is_some_and(|(held, _)| *held == count);
                        let verdict = waiting.extend(seq, count, Millis(now + by));
                        prop_assert_eq!(verdict == Verdict::Yes, mine);
                        if mine {
                            holds.insert(seq, (count, now + by));
                        }
                    },
                    Step::GiveBack(index) => if let Some((seq, count)) = pick(index) {
                        let mine = holds.get(&seq).is_some_and(|(held, _)| *held == count);
                        waiting.give_back(seq, count);
                        if mine {
                            holds.remove(&seq);
                        }
                    },
                }
                let depth = waiting.depth();
                prop_assert_eq!(depth.visible + depth.delayed + depth.in_flight, there.len() as u64);
            }
            // In the end everything that was not deleted is visible, once.
            waiting.due(Millis(i64::MAX));
            prop_assert_eq!(waiting.next_due(), None);
            let seen: Vec<i64> = waiting.take(usize::MAX, Millis(i64::MAX)).iter().map(|taken| taken.seq).collect();
            prop_assert_eq!(seen.len(), there.len());
            prop_assert_eq!(seen.into_iter().collect::<HashSet<_>>(), there);
            prop_assert_eq!((waiting.resident, waiting.resident_bytes), (0, 0));
        }
    }

    #[test]
    fn only_the_first_messages_stand_in_memory() {
        let mut waiting = Waiting::default();
        for seq in 0..10_000 {
            waiting.add(seq, Millis(0), message());
        }
        assert_eq!(waiting.resident(), RESIDENT);
        let taken = waiting.take(5_000, Millis(1));
        assert!(taken[..RESIDENT].iter().all(|taken| taken.message.is_some()));
        assert!(taken[RESIDENT..].iter().all(|taken| taken.message.is_none()));
        assert_eq!(waiting.resident(), 0);

        let large = || {
            Some(Box::new(Message {
                body: bytes::Bytes::from(vec![0; 1 << 20]),
                attribute: String::new(),
            }))
        };
        for seq in 0..20 {
            waiting.add(10_000 + seq, Millis(0), large());
        }
        assert_eq!(waiting.resident(), 8);
    }
}
