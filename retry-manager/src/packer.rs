//! Holds messages that wait long until there are enough for a pack.

use crate::exits::Exits;
use crate::gather::{Gathering, Held};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Messages on their way to be held. When there are more, they hop: what is due never waits for a pack.
pub(crate) const QUEUE: usize = 1_024;
/// Groups closed at once: each may have 8 MiB, twice while it is written.
const AT_ONCE: usize = 4;

/// Holds until its channel closes, and then finishes what it has begun. What it still holds is visible
/// again in time.
pub(crate) async fn run(exits: Exits, mut held: mpsc::Receiver<Held>) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut gathering = Gathering::default();
    let mut closing = JoinSet::new();
    loop {
        while closing.try_join_next().is_some() {}
        let next = gathering.next_close();
        let closed = tokio::select! {
            one = held.recv() => match one {
                Some(one) => gathering.add(one, Instant::now()),
                None => break,
            },
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                gathering.close_due(Instant::now())
            }
        };
        for group in closed {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let exits = exits.clone();
            closing.spawn(async move {
                exits.close(group).await;
                drop(slot);
            });
        }
    }
    while closing.join_next().await.is_some() {}
}
