//! Idempotency keys: whoever dies where, what is asked for under one is done once.

use crate::store::{ALL, Store, here, over_both, tenant, texts};
use platform::catalog::{CLAIMED, Catalog, CatalogError, Claim, Claimed, NewTarget};
use platform::replays::{NewReplay, Replays, Which};
use schemas::ids::{FilterId, TargetId, Tenant};
use schemas::time::Millis;
use sqlx::Row;
use std::time::Duration;

over_both!(
    of_many_who_ask_at_once_one_does_it,
    an_answer_is_given_again_to_the_same_request_only,
    a_key_is_as_new_after_a_while,
    who_dies_before_the_change_has_made_nothing_and_another_makes_it,
    who_dies_after_the_change_has_made_it_and_nobody_makes_it_again,
    who_was_only_slow_makes_nothing_any_more,
    a_refused_request_gives_its_key_back_unless_something_was_made,
    what_was_made_and_deleted_is_not_made_again,
    a_tenant_is_made_once_and_a_key_whose_value_is_lost_is_named,
    an_answer_lies_sealed,
);

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn claim(catalog: &Catalog, tenant: &Tenant, request: &str) -> Claimed {
    catalog.claim(tenant, "key 1", request, DAY).await.unwrap()
}

#[track_caller]
fn mine(claimed: Claimed) -> Claim {
    match claimed {
        Claimed::Mine(claim) => claim,
        Claimed::Answered(_) | Claimed::Running | Claimed::Other => panic!("{claimed:?}"),
    }
}

fn at() -> NewTarget {
    NewTarget::at("https://a.example/")
}

async fn of_many_who_ask_at_once_one_does_it(store: Store) {
    let (_, acme) = store.with_tenant().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, acme) = (store.clone(), acme.clone());
        tasks.spawn(async move {
            let catalog = store.open().await;
            match claim(&catalog, &acme, "a").await {
                Claimed::Mine(claim) => {
                    let under = catalog.under(Some(&claim));
                    under.create_target(&acme, at()).await.unwrap();
                    true
                }
                Claimed::Running => false,
                other @ (Claimed::Answered(_) | Claimed::Other) => panic!("{other:?}"),
            }
        });
    }
    let done = tasks.join_all().await;
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    let targets = store.open().await.list_targets(&acme, ALL).await.unwrap();
    assert_eq!(targets.len(), 1);
}

async fn an_answer_is_given_again_to_the_same_request_only(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let other = tenant("other");
    catalog.create_tenant(&other).await.unwrap();
    let mine = mine(claim(&catalog, &acme, "a").await);
    catalog.answered(&mine, b"answer").await.unwrap();
    let again = claim(&catalog, &acme, "a").await;
    assert!(
        matches!(&again, Claimed::Answered(answer) if **answer == b"answer"),
        "{again:?}"
    );
    assert!(matches!(claim(&catalog, &acme, "b").await, Claimed::Other));
    // A key is its tenant's.
    assert!(matches!(claim(&catalog, &other, "b").await, Claimed::Mine(_)));
}

async fn a_key_is_as_new_after_a_while(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let first = mine(claim(&catalog, &acme, "a").await);
    catalog.answered(&first, b"answer").await.unwrap();
    store.clock.advance(DAY - Duration::from_secs(1));
    assert!(matches!(claim(&catalog, &acme, "a").await, Claimed::Answered(_)));
    assert_eq!(catalog.prune_keys(DAY).await, Ok(0));
    store.tick();
    // Also before it is removed.
    let second = mine(claim(&catalog, &acme, "b").await);
    let made = catalog.under(Some(&second)).create_target(&acme, at()).await;
    made.unwrap();
    store.clock.advance(DAY);
    assert_eq!(catalog.prune_keys(DAY).await, Ok(1));
    assert!(matches!(claim(&catalog, &acme, "c").await, Claimed::Mine(_)));
}

async fn who_dies_before_the_change_has_made_nothing_and_another_makes_it(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    mine(claim(&catalog, &acme, "a").await);
    assert!(matches!(claim(&catalog, &acme, "a").await, Claimed::Running));
    store.clock.advance(CLAIMED);
    assert!(matches!(claim(&catalog, &acme, "b").await, Claimed::Other));
    let second = mine(claim(&catalog, &acme, "a").await);
    let (made, _) = catalog
        .under(Some(&second))
        .create_target(&acme, at())
        .await
        .unwrap();
    assert_eq!(catalog.list_targets(&acme, ALL).await, Ok(vec![made]));
}

async fn who_dies_after_the_change_has_made_it_and_nobody_makes_it_again(store: Store) {
    here(each_kind_is_made_once(&store));
}

async fn each_kind_is_made_once(store: &Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, first) = catalog.create_target(&acme, at()).await.unwrap();
    let filter = catalog.create_filter(&acme, "all".to_owned(), texts(&["*"]));
    let filter = filter.await.unwrap();
    let again = async |key: &str| {
        let claimed = catalog.claim(&acme, key, "a", DAY).await.unwrap();
        let under = catalog.under(Some(&mine(claimed)));
        // Its process dies: no answer is kept.
        store.clock.advance(CLAIMED);
        under
    };
    let under = again("t").await;
    let made = under.create_target(&acme, at()).await.unwrap();
    assert_eq!(again("t").await.create_target(&acme, at()).await, Ok(made));

    let under = again("e").await;
    let made = under.create_endpoint(&acme, at(), texts(&["a"])).await.unwrap();
    let second = again("e").await;
    let second = second.create_endpoint(&acme, at(), texts(&["a"])).await;
    assert_eq!(second, Ok(made));

    let under = again("f").await;
    let made = under.create_filter(&acme, "f".to_owned(), texts(&["a"])).await;
    let second = again("f").await;
    let second = second.create_filter(&acme, "f".to_owned(), texts(&["a"])).await;
    assert_eq!(second, made);

    let subscribe = async |under: Catalog, filter: FilterId| {
        under.create_subscription(&acme, target.id, filter, true).await
    };
    let made = subscribe(again("s").await, filter.id).await.unwrap();
    assert_eq!(subscribe(again("s").await, filter.id).await, Ok(made));

    let secret = again("r")
        .await
        .rotate_secret(&acme, target.id, DAY)
        .await
        .unwrap();
    assert_ne!(secret, first);
    let second = again("r").await.rotate_secret(&acme, target.id, DAY).await;
    assert_eq!(second, Ok(secret));

    let replay = |target: i64| NewReplay {
        target: TargetId(target),
        which: Which::Exhausted,
        delivery: None,
        from: Millis(0),
        to: Millis(1),
    };
    let replays = async || Replays::new(&again("p").await);
    let made = replays()
        .await
        .create(&acme, vec![replay(1), replay(2)])
        .await
        .unwrap();
    // What is to be sent again has changed since: it is begun already.
    assert_eq!(replays().await.create(&acme, vec![]).await, Ok(made.clone()));

    let count = async |table: &str| {
        let sql = format!("SELECT COUNT(*) FROM {table}");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(catalog.pool());
        row.await.unwrap().get::<i64, _>(0)
    };
    let mut counts = Vec::new();
    for table in ["targets", "filters", "subscriptions", "target_secrets", "replays"] {
        counts.push(count(table).await);
    }
    // Two targets beside the endpoint's, two filters beside the endpoint's, its subscription and one more.
    assert_eq!(counts, [3, 3, 2, 4, 2]);
}

async fn who_was_only_slow_makes_nothing_any_more(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let slow = mine(claim(&catalog, &acme, "a").await);
    store.clock.advance(CLAIMED);
    let quick = mine(claim(&catalog, &acme, "a").await);
    let late = catalog.under(Some(&slow)).create_target(&acme, at()).await;
    assert!(matches!(late, Err(CatalogError::Conflict(_))), "{late:?}");
    let filter = catalog
        .under(Some(&slow))
        .create_filter(&acme, "x".to_owned(), texts(&["*"]))
        .await;
    assert!(matches!(filter, Err(CatalogError::Conflict(_))), "{filter:?}");
    assert_eq!(catalog.list_targets(&acme, ALL).await, Ok(vec![]));
    assert_eq!(catalog.list_filters(&acme, ALL).await, Ok(vec![]));
    // It takes nothing away from who has it now, either.
    catalog.answered(&slow, b"late").await.unwrap();
    catalog.release(&slow).await.unwrap();
    assert!(matches!(claim(&catalog, &acme, "a").await, Claimed::Running));
    let made = catalog.under(Some(&quick)).create_target(&acme, at()).await;
    made.unwrap();
}

async fn a_refused_request_gives_its_key_back_unless_something_was_made(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let refused = mine(claim(&catalog, &acme, "wrong").await);
    catalog.release(&refused).await.unwrap();
    let corrected = mine(claim(&catalog, &acme, "right").await);
    let under = catalog.under(Some(&corrected));
    let made = under.create_target(&acme, at()).await.unwrap();
    // The commit's answer was lost: the request failed, and it is there.
    catalog.release(&corrected).await.unwrap();
    assert!(matches!(claim(&catalog, &acme, "wrong").await, Claimed::Other));
    let second = mine(claim(&catalog, &acme, "right").await);
    let again = catalog.under(Some(&second)).create_target(&acme, at()).await;
    assert_eq!(again, Ok(made));
}

async fn what_was_made_and_deleted_is_not_made_again(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let first = mine(claim(&catalog, &acme, "a").await);
    let under = catalog.under(Some(&first));
    let (target, _) = under.create_target(&acme, at()).await.unwrap();
    catalog.delete_target(&acme, target.id, false).await.unwrap();
    store.clock.advance(CLAIMED);
    let second = mine(claim(&catalog, &acme, "a").await);
    let again = catalog.under(Some(&second)).create_target(&acme, at()).await;
    assert!(matches!(again, Err(CatalogError::Conflict(_))), "{again:?}");
    assert_eq!(catalog.list_targets(&acme, ALL).await, Ok(vec![]));
}

async fn a_tenant_is_made_once_and_a_key_whose_value_is_lost_is_named(store: Store) {
    let (catalog, globex) = (store.catalog().await, tenant("globex"));
    let take = async |request: &str| {
        let taken = mine(claim(&catalog, &globex, request).await);
        store.clock.advance(CLAIMED);
        catalog.under(Some(&taken))
    };
    let made = take("tenant").await.create_tenant(&globex).await.unwrap();
    assert_eq!(take("tenant").await.create_tenant(&globex).await, Ok(made));
    let other = catalog.create_tenant(&globex).await;
    assert!(matches!(other, Err(CatalogError::Conflict(_))), "{other:?}");

    store.clock.advance(DAY);
    let (key, _) = take("key").await.create_key(&globex, "orders").await.unwrap();
    let again = take("key").await.create_key(&globex, "orders").await.unwrap_err();
    let CatalogError::Conflict(why) = &again else {
        panic!("{again:?}");
    };
    assert!(why.contains(&key.id.to_string()), "{why}");
    assert_eq!(catalog.list_keys(&globex, ALL).await.unwrap().len(), 1);
}

async fn an_answer_lies_sealed(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let mine = mine(claim(&catalog, &acme, "a").await);
    catalog.answered(&mine, b"whsec_shown_once").await.unwrap();
    let row = sqlx::query("SELECT answer FROM idempotency_keys").fetch_one(catalog.pool());
    let kept: Vec<u8> = row.await.unwrap().get(0);
    assert!(!kept.windows(5).any(|part| part == b"whsec"));
}
