//! What remembered matches take of the process's memory. In a process of its own, with the product's
//! allocator.

use consumer::matcher::{Key, weight};
use platform::follow::Remembered;
use schemas::ids::{TargetId, Tenant};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MEMORY: u64 = 8 << 20;

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.unwrap().trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kib * 1024
}

/// The entries of many matches with so many targets each, twice as many as are to be remembered.
async fn filled(targets: i64, event_type: &str) -> Remembered<Key, Arc<[TargetId]>> {
    let remembered = Remembered::new(MEMORY, weight);
    let mut weighed = 0;
    for n in 0.. {
        let key: Key = (
            Tenant::new(&format!("tenant-{}", n % 10_000)).unwrap(),
            format!("{event_type}.{n}").into(),
        );
        let found: Arc<[TargetId]> = (0..targets).map(TargetId).collect();
        weighed += u64::from(weight(&key, &found));
        remembered
            .get(&key, || 1, async { Ok::<_, ()>(found) })
            .await
            .unwrap();
        if weighed > 2 * MEMORY {
            break;
        }
    }
    remembered
}

#[tokio::test]
async fn matches_take_the_memory_they_are_given() {
    // A little of each first, so that what the process takes once is not counted. All are kept to the
    // end: freed memory would hide what the next ones take.
    let mut kept = vec![filled(1, "warm").await];
    let mut shares = Vec::new();
    for (targets, event_type) in [
        (0, "a"),
        (1, "orders.created"),
        (5, "core.orders.created.v1"),
        (100, "core.orders.created.v1"),
        (10_000, "core.orders.created.v1"),
    ] {
        let before = resident();
        kept.push(filled(targets, event_type).await);
        shares.push((targets, (resident() - before) as f64 / MEMORY as f64));
    }
    assert!(
        shares.iter().all(|(_, share)| (0.75..1.3).contains(share)),
        "targets and share of what is allowed: {shares:.2?}"
    );
}
