//! Waiting messages, gathered until it is time to pack them. A pure data structure, time an argument.
//!
//! Those of one target that are due within the same quarter of an hour make a group: when the first is due,
//! the last is no more than one hop away. A group closes when it is full, or has been open for a while.

use platform::delivery_queue::{MAX_DELAY, Receipt};
use schemas::ids::{TargetId, Tenant};
use schemas::pack;
use schemas::time::Millis;
use schemas::wire::WireMessage;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Messages of one group at most.
pub const MEMBERS: usize = 1_000;
/// Bytes of one group at most.
pub const GROUP_BYTES: usize = 8 << 20;
/// How long a group is open: what failed together comes back spread by its jitter. Far below the visibility of
/// what is in it, and below the shortest wait of it (`pack::WORTH`).
pub const LINGER: Duration = Duration::from_secs(60);
/// Messages held at most, of all groups.
const HELD: usize = 20_000;
/// Bytes of them at most.
const HELD_BYTES: usize = 64 << 20;

/// A message that waits, as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What deletes it.
    pub receipt: Receipt,
    /// The message.
    pub message: WireMessage,
    /// Whose it is.
    pub tenant: Tenant,
    /// Where it goes.
    pub target: TargetId,
    /// When.
    pub due_at: Millis,
    /// When its retry window began.
    pub since: Millis,
}

/// Messages that may wait together.
#[derive(Debug)]
pub struct Group {
    /// Whose they are.
    pub tenant: Tenant,
    /// Where they go.
    pub target: TargetId,
    /// The messages: at least one.
    pub members: Vec<Held>,
    /// Their bytes in a pack.
    pub bytes: usize,
    /// When the first came.
    pub opened: Instant,
}

impl Group {
    /// When the first is due.
    #[must_use]
    pub fn due_at(&self) -> Millis {
        let due = self.members.iter().map(|held| held.due_at).min();
        due.unwrap_or(Millis(0))
    }
}

/// Tenant, target, and the quarter of an hour.
type Key = (Tenant, TargetId, i64);

/// What is held.
#[derive(Debug, Default)]
pub struct Gathering {
    groups: HashMap<Key, Group>,
    /// Groups as they were opened. Some are closed since, and maybe opened again.
    order: VecDeque<(Instant, Key)>,
    held: usize,
    bytes: usize,
}

impl Gathering {
    /// Adds a message; answers with the groups that this closes.
    pub fn add(&mut self, held: Held, now: Instant) -> Vec<Group> {
        let slot = held
            .due_at
            .0
            .div_euclid(i64::try_from(MAX_DELAY.as_millis()).unwrap_or(i64::MAX));
        let key = (held.tenant.clone(), held.target, slot);
        let size = pack::size(&held.message);
        let mut closed = Vec::new();
        if self
            .groups
            .get(&key)
            .is_some_and(|group| group.bytes + size > GROUP_BYTES)
        {
            closed.extend(self.close(&key));
        }
        let group = self.groups.entry(key.clone()).or_insert_with(|| {
            self.order.push_back((now, key.clone()));
            Group {
                tenant: held.tenant.clone(),
                target: held.target,
                members: Vec::new(),
                bytes: 0,
                opened: now,
            }
        });
        group.members.push(held);
        group.bytes += size;
        self.held += 1;
        self.bytes += size;
        if self
            .groups
            .get(&key)
            .is_some_and(|group| group.members.len() >= MEMBERS)
        {
            closed.extend(self.close(&key));
        }
        while self.held > HELD || self.bytes > HELD_BYTES {
            match self.close_oldest() {
                Some(group) => closed.push(group),
                None => break,
            }
        }
        closed
    }

    /// When the next group closes by itself.
    pub fn next_close(&mut self) -> Option<Instant> {
        self.skip_closed();
        self.order.front().map(|(opened, _)| *opened + LINGER)
    }

    /// Closes the groups that have been open long enough.
    pub fn close_due(&mut self, now: Instant) -> Vec<Group> {
        let mut closed = Vec::new();
        while self.next_close().is_some_and(|at| at <= now) {
            closed.extend(self.close_oldest());
        }
        closed
    }

    /// Closes the group that has been open the longest.
    pub fn close_oldest(&mut self) -> Option<Group> {
        self.skip_closed();
        let (_, key) = self.order.pop_front()?;
        self.close(&key)
    }

    fn skip_closed(&mut self) {
        while let Some((opened, key)) = self.order.front()
            && self.groups.get(key).is_none_or(|group| group.opened != *opened)
        {
            self.order.pop_front();
        }
    }

    fn close(&mut self, key: &Key) -> Option<Group> {
        let group = self.groups.remove(key)?;
        self.held -= group.members.len();
        self.bytes -= group.bytes;
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn held(id: i64, target: i64, due_at: i64, size: usize) -> Held {
        Held {
            receipt: Receipt::Claim(id, 1),
            message: WireMessage {
                body: Bytes::from(vec![b'x'; size]),
                attribute: "{}".to_owned(),
            },
            tenant: Tenant::new("acme").unwrap(),
            target: TargetId(target),
            due_at: Millis(due_at),
            since: Millis(0),
        }
    }

    #[test]
    fn a_group_closes_when_it_is_full_by_count_or_bytes() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        for id in 1..1_000 {
            assert!(gathering.add(held(id, 1, 0, 10), now).is_empty());
        }
        let full = gathering.add(held(1_000, 1, 0, 10), now);
        assert_eq!(full[0].members.len(), 1_000);
        let mib = 1 << 20;
        let closed: Vec<Group> = (0..9)
            .flat_map(|id| gathering.add(held(id, 1, 0, mib - 100), now))
            .collect();
        assert_eq!(closed.len(), 1);
        assert!(closed[0].members.len() == 8 && closed[0].bytes <= GROUP_BYTES);
    }

    #[test]
    fn a_group_closes_in_time_also_if_its_key_was_full_before() {
        let (mut gathering, start) = (Gathering::default(), Instant::now());
        assert_eq!(gathering.next_close(), None);
        for id in 0..1_000 {
            gathering.add(held(id, 1, 0, 10), start);
        }
        let later = start + Duration::from_secs(5);
        gathering.add(held(1_001, 1, 0, 10), later);
        assert_eq!(gathering.next_close(), Some(later + LINGER));
        assert!(gathering.close_due(start + LINGER).is_empty());
        assert_eq!(gathering.close_due(later + LINGER).len(), 1);
        assert_eq!(
            (gathering.held, gathering.bytes, gathering.next_close()),
            (0, 0, None)
        );
    }

    #[test]
    fn what_is_held_is_bounded_whatever_there_are_of_targets() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        let mut closed = 0;
        for id in 0..21_000 {
            closed += gathering.add(held(id, id, 0, 10), now).len();
        }
        assert_eq!((closed, gathering.held), (1_000, HELD));
        let large: usize = (0..100)
            .map(|id| gathering.add(held(id, -id, 0, 1 << 20), now).len())
            .sum();
        assert!(large > 30 && gathering.bytes <= HELD_BYTES);
    }

    proptest! {
        #[test]
        fn each_message_is_in_one_group_of_its_target_and_time(
            added in prop::collection::vec((0_i64..4, 0_i64..20_000_000, 0_usize..3_000_000, 0_u64..9), 0..80),
        ) {
            let (mut gathering, mut now) = (Gathering::default(), Instant::now());
            let mut groups = Vec::new();
            let count = added.len();
            for (id, (target, due, size, pause)) in (0..).zip(added) {
                now += Duration::from_secs(pause);
                groups.extend(gathering.close_due(now));
                groups.extend(gathering.add(held(id, target, due, size), now));
            }
            while let Some(group) = gathering.close_oldest() {
                groups.push(group);
            }
            prop_assert_eq!((gathering.held, gathering.bytes), (0, 0));
            let mut seen = HashSet::new();
            for group in &groups {
                prop_assert!(!group.members.is_empty() && group.members.len() <= MEMBERS);
                prop_assert!(group.bytes <= GROUP_BYTES);
                let latest = group.members.iter().map(|one| one.due_at).max().unwrap();
                prop_assert!(latest.since(group.due_at()) < MAX_DELAY);
                for one in &group.members {
                    prop_assert_eq!(one.target, group.target);
                    prop_assert!(seen.insert(one.receipt.clone()));
                }
            }
            prop_assert_eq!(seen.len(), count);
        }
    }
}
