//! How far each group has come, and which of its members reads which topic.

use crate::sqlite::lock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// No offset is stored.
const NONE: i64 = -1;

/// What one group knows about one topic.
#[derive(Debug)]
pub(super) struct Progress {
    pub group: Arc<str>,
    /// The topic's id.
    pub topic: i64,
    next: AtomicI64,
    saved: AtomicI64,
    /// The member that reads it; 0 for none.
    holder: AtomicU64,
}

impl Progress {
    /// The offset to go on from: the last one stored, durable or not yet; 0 where none is.
    pub(super) fn next(&self) -> i64 {
        self.next.load(Ordering::Acquire).max(0)
    }

    /// An offset that is to be made durable, if there is one.
    pub(super) fn unsaved(&self) -> Option<i64> {
        let next = self.next.load(Ordering::Acquire);
        (next > self.saved.load(Ordering::Acquire)).then_some(next)
    }

    /// Notes that this offset is durable.
    pub(super) fn saved(&self, next: i64) {
        self.saved.fetch_max(next, Ordering::AcqRel);
    }

    /// Before this offset everything is finished, durably.
    pub(super) fn finished(&self) -> i64 {
        self.saved.load(Ordering::Acquire).max(0)
    }
}

/// All groups of a log: a handful, so a list is searched faster than anything else.
#[derive(Debug, Default)]
pub(super) struct Groups {
    list: Mutex<Vec<Arc<Progress>>>,
    members: AtomicU64,
    nudged: AtomicBool,
    /// Told when a member gives a topic up.
    pub released: Notify,
}

impl Groups {
    /// Groups as they were stored: group, topic id, offset.
    pub(super) fn stored(stored: Vec<(String, i64, i64)>) -> Self {
        let list = stored.into_iter().map(|(group, topic, next)| {
            Arc::new(Progress {
                group: Arc::from(group),
                topic,
                next: AtomicI64::new(next),
                saved: AtomicI64::new(next),
                holder: AtomicU64::new(0),
            })
        });
        Self {
            list: Mutex::new(list.collect()),
            ..Self::default()
        }
    }

    /// A number for a new member.
    pub(super) fn member(&self) -> u64 {
        self.members.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Gives the topic to this member, unless another of its group has it.
    pub(super) fn take(&self, group: &Arc<str>, topic: i64, member: u64) -> Option<Arc<Progress>> {
        let mut list = lock(&self.list);
        let known = list
            .iter()
            .find(|progress| progress.topic == topic && progress.group == *group);
        let progress = match known {
            Some(progress) => progress.clone(),
            None => {
                let progress = Arc::new(Progress {
                    group: group.clone(),
                    topic,
                    next: AtomicI64::new(NONE),
                    saved: AtomicI64::new(NONE),
                    holder: AtomicU64::new(0),
                });
                list.push(progress.clone());
                progress
            }
        };
        progress
            .holder
            .compare_exchange(0, member, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            .then_some(progress)
    }

    /// Takes the topic from the member that had it. A group that never stored an offset is forgotten.
    pub(super) fn release(&self, progress: &Arc<Progress>) {
        {
            let mut list = lock(&self.list);
            progress.holder.store(0, Ordering::Release);
            if progress.next.load(Ordering::Acquire) == NONE {
                list.retain(|other| !Arc::ptr_eq(other, progress));
            }
        }
        self.released.notify_waiters();
    }

    /// Notes an offset; whether the writer must be told that there is one.
    pub(super) fn store(&self, progress: &Progress, next: i64) -> bool {
        let before = progress.next.fetch_max(next, Ordering::AcqRel);
        before < next && !self.nudged.swap(true, Ordering::AcqRel)
    }

    /// What is to be made durable now. From here on the writer must be told again.
    pub(super) fn unsaved(&self) -> Vec<(Arc<Progress>, i64)> {
        self.nudged.store(false, Ordering::Release);
        lock(&self.list)
            .iter()
            .filter_map(|progress| Some((progress.clone(), progress.unsaved()?)))
            .collect()
    }

    /// The group that has finished least of a topic, and how much; `None` when no group reads it.
    pub(super) fn slowest(&self, topic: i64) -> Option<(Arc<str>, i64)> {
        lock(&self.list)
            .iter()
            .filter(|progress| progress.topic == topic)
            .map(|progress| (progress.group.clone(), progress.finished()))
            .min_by_key(|(_, finished)| *finished)
    }
}
