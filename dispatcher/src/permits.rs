//! Attempts at once per target.

use schemas::ids::TargetId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a message waits for its target's permit before it goes to the slow lane. A target that
/// answers within a few milliseconds frees a permit in time even when all permits of the process
/// wait for it; one that takes longer must not hold them.
const PATIENCE: Duration = Duration::from_millis(100);

/// Idle targets are forgotten when there are more entries than this.
const REMEMBERED: usize = 10_000;

/// The permits of all targets.
pub struct TargetPermits {
    per_target: usize,
    targets: Mutex<HashMap<TargetId, Arc<Semaphore>>>,
}

impl TargetPermits {
    /// Gives each target `per_target` permits.
    #[must_use]
    pub fn new(per_target: usize) -> Self {
        Self {
            per_target,
            targets: Mutex::default(),
        }
    }

    /// A permit for one attempt, or `None` when none becomes free within a moment.
    pub async fn acquire(&self, target: TargetId) -> Option<OwnedSemaphorePermit> {
        let permits = self.of(target);
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            return Some(permit);
        }
        tokio::time::timeout(PATIENCE, permits.acquire_owned())
            .await
            .ok()?
            .ok()
    }

    fn of(&self, target: TargetId) -> Arc<Semaphore> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if targets.len() > REMEMBERED {
            // Nobody holds or waits for a permit of these.
            targets.retain(|_, permits| Arc::strong_count(permits) > 1);
        }
        targets
            .entry(target)
            .or_insert_with(|| Arc::new(Semaphore::new(self.per_target)))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_target_refuses_after_a_moment_and_others_are_free() {
        let permits = TargetPermits::new(2);
        let _first = permits.acquire(TargetId(1)).await.unwrap();
        let second = permits.acquire(TargetId(1)).await.unwrap();
        assert!(permits.acquire(TargetId(1)).await.is_none());
        assert!(permits.acquire(TargetId(2)).await.is_some());
        drop(second);
        assert!(permits.acquire(TargetId(1)).await.is_some());
    }
}
