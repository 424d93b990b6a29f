//! The contract of `PayloadStore`.

use crate::support::{World, soon, unique};
use async_trait::async_trait;
use bytes::Bytes;
use platform::payload_store::{PayloadError, PayloadStore};
use schemas::delivery::PayloadPointer;
use schemas::ids::sha256_hex;
use std::sync::Arc;

/// A world with a payload store, provisioned.
#[async_trait]
pub trait PayloadWorld: World {
    /// Opens the store.
    async fn open(&self) -> Arc<dyn PayloadStore>;
}

/// One test for each case, over the world of `$world`.
macro_rules! payload_store_suite {
    ($world:expr) => {
        suite!(
            $world,
            $crate::payload_store,
            a_payload_comes_back_as_it_was,
            an_empty_payload_and_one_of_3_mib_come_back,
            a_payload_is_there_when_the_store_is_opened_again,
            putting_the_same_twice_answers_the_same,
            another_payload_under_the_same_key_is_refused,
            many_putting_the_same_at_once_all_succeed,
            a_payload_that_is_not_there_is_missing,
            a_payload_that_is_not_what_the_pointer_says_is_damaged,
            a_key_that_leads_elsewhere_is_refused,
            a_deleted_payload_is_missing_and_its_key_is_free,
            provisioning_twice_is_no_error_and_then_the_check_passes,
        );
    };
}

type TheWorld = Arc<dyn PayloadWorld>;

fn bytes(size: usize) -> Bytes {
    (0..size).map(|index| (index % 251) as u8).collect()
}

pub async fn a_payload_comes_back_as_it_was(world: TheWorld) {
    let store = world.open().await;
    for key in [unique("plain"), format!("a/b.c/{}", unique("D_e"))] {
        let payload = Bytes::from_static(b"\x00\xff not text \x80");
        let pointer = soon("put", store.put(&key, payload.clone())).await.unwrap();
        assert_eq!(pointer.key, key);
        assert_eq!(pointer.size, 13);
        assert_eq!(pointer.sha256, sha256_hex(&payload));
        assert_eq!(soon("get", store.get(&pointer)).await.unwrap(), payload);
    }
}

pub async fn an_empty_payload_and_one_of_3_mib_come_back(world: TheWorld) {
    let store = world.open().await;
    for payload in [Bytes::new(), bytes(3 << 20)] {
        let pointer = soon("put", store.put(&unique("sized"), payload.clone()))
            .await
            .unwrap();
        assert_eq!(pointer.size, payload.len() as u64);
        assert!(soon("get", store.get(&pointer)).await.unwrap() == payload);
    }
}

pub async fn a_payload_is_there_when_the_store_is_opened_again(world: TheWorld) {
    let store = world.open().await;
    let pointer = soon("put", store.put(&unique("kept"), bytes(100))).await.unwrap();
    drop(store);
    let store = world.open().await;
    assert_eq!(soon("get", store.get(&pointer)).await.unwrap(), bytes(100));
}

pub async fn putting_the_same_twice_answers_the_same(world: TheWorld) {
    let store = world.open().await;
    let key = unique("twice");
    let first = soon("put", store.put(&key, bytes(1_000))).await.unwrap();
    let second = soon("put", store.put(&key, bytes(1_000))).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(soon("get", store.get(&second)).await.unwrap(), bytes(1_000));
}

pub async fn another_payload_under_the_same_key_is_refused(world: TheWorld) {
    let store = world.open().await;
    let key = unique("taken");
    let pointer = soon("put", store.put(&key, bytes(10))).await.unwrap();
    for other in [bytes(11), Bytes::from_static(b"0123456789")] {
        let refused = soon("put", store.put(&key, other)).await;
        assert_eq!(refused, Err(PayloadError::Damaged { key: key.clone() }));
    }
    assert_eq!(soon("get", store.get(&pointer)).await.unwrap(), bytes(10));
}

pub async fn many_putting_the_same_at_once_all_succeed(world: TheWorld) {
    let store = world.open().await;
    let key = unique("at-once");
    let putting: Vec<_> = (0..8)
        .map(|_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { soon("put", store.put(&key, bytes(50_000))).await.unwrap() })
        })
        .collect();
    for one in putting {
        let pointer = one.await.unwrap();
        assert!(soon("get", store.get(&pointer)).await.unwrap() == bytes(50_000));
    }
}

pub async fn a_payload_that_is_not_there_is_missing(world: TheWorld) {
    let store = world.open().await;
    let mut pointer = soon("put", store.put(&unique("there"), bytes(10))).await.unwrap();
    pointer.key = unique("elsewhere");
    let missing = soon("get", store.get(&pointer)).await;
    assert_eq!(missing, Err(PayloadError::Missing { key: pointer.key }));
}

pub async fn a_payload_that_is_not_what_the_pointer_says_is_damaged(world: TheWorld) {
    let store = world.open().await;
    let pointer = soon("put", store.put(&unique("damaged"), bytes(10)))
        .await
        .unwrap();
    let damaged = Err(PayloadError::Damaged {
        key: pointer.key.clone(),
    });
    let mut shorter = pointer.clone();
    shorter.size = 9;
    assert_eq!(soon("get", store.get(&shorter)).await, damaged);
    let mut other = pointer.clone();
    other.sha256 = sha256_hex(b"other");
    assert_eq!(soon("get", store.get(&other)).await, damaged);
}

pub async fn a_key_that_leads_elsewhere_is_refused(world: TheWorld) {
    let store = world.open().await;
    for key in [
        "",
        "/absolute",
        "../above",
        "a/../../above",
        "a b",
        "caf\u{e9}",
        &"x".repeat(513),
    ] {
        assert!(soon("put", store.put(key, bytes(1))).await.is_err(), "{key:?}");
    }
}

pub async fn a_deleted_payload_is_missing_and_its_key_is_free(world: TheWorld) {
    let store = world.open().await;
    let key = format!("packs/a/{}", unique("deleted"));
    let pointer = soon("put", store.put(&key, bytes(10))).await.unwrap();
    let beside = soon("put", store.put(&format!("{key}.b"), bytes(10)))
        .await
        .unwrap();
    for _ in 0..2 {
        soon("delete", store.delete(&pointer)).await.unwrap();
    }
    let missing = Err(PayloadError::Missing { key: key.clone() });
    assert_eq!(soon("get", store.get(&pointer)).await, missing);
    assert_eq!(soon("get", store.get(&beside)).await.unwrap(), bytes(10));
    let other = soon("put", store.put(&key, bytes(11))).await.unwrap();
    assert_eq!(soon("get", store.get(&other)).await.unwrap(), bytes(11));
    let nowhere = PayloadPointer {
        key: "../above".to_owned(),
        ..pointer
    };
    assert!(soon("delete", store.delete(&nowhere)).await.is_err());
}

pub async fn provisioning_twice_is_no_error_and_then_the_check_passes(world: TheWorld) {
    let store = world.open().await;
    store.provision().await.unwrap();
    store.provision().await.unwrap();
    store.check().await.unwrap();
}
