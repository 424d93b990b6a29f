//! Which targets fail, and what their owners are told, kept in either database.

use crate::store::{Store, over_both, tenant};
use platform::catalog::{Change, Health, HealthChange, NewTarget, NoticeKind, TargetPatch};
use schemas::ids::TargetId;
use schemas::target::TargetState;
use schemas::time::Millis;
use std::time::Duration;

over_both!(
    failing_begins_once_and_a_success_ends_it,
    what_is_done_twice_or_late_changes_nothing_more,
    a_warning_is_told_once_and_goes_with_a_success,
    a_disabled_target_keeps_its_reason_and_begins_anew,
    news_are_counted_together_claimed_by_one_and_taken_away,
    what_is_deleted_has_no_health_and_no_news,
);

const LEASE: Duration = Duration::from_secs(120);

async fn target(store: &Store) -> (platform::catalog::Catalog, TargetId) {
    let (catalog, tenant) = store.with_tenant().await;
    let made = catalog
        .create_target(&tenant, NewTarget::at("https://example.com/"))
        .await
        .unwrap();
    (catalog, made.0.id)
}

fn health(good_at: i64, failing_since: Option<i64>, warned_at: Option<i64>) -> Option<Health> {
    Some(Health {
        good_at: Millis(good_at),
        failing_since: failing_since.map(Millis),
        warned_at: warned_at.map(Millis),
    })
}

fn warn(at: i64) -> HealthChange {
    HealthChange::Warn(Millis(at), "http_503".to_owned())
}

async fn failing_begins_once_and_a_success_ends_it(store: Store) {
    let (catalog, id) = target(&store).await;
    let known = async || catalog.health(&[TargetId(1), id]).await.unwrap().remove(&id);
    let change = async |change| catalog.change_health(&[(id, change)]).await.unwrap();
    assert_eq!(known().await, None);
    change(HealthChange::Good(Millis(5))).await;
    assert_eq!(
        known().await,
        None,
        "a success of a target that does not fail writes nothing"
    );
    change(HealthChange::Failing(Millis(10))).await;
    change(HealthChange::Failing(Millis(20))).await;
    assert_eq!(known().await, health(0, Some(10), None));
    change(HealthChange::Good(Millis(30))).await;
    assert_eq!(known().await, health(30, None, None));
    change(HealthChange::Failing(Millis(40))).await;
    assert_eq!(known().await, health(30, Some(40), None));
    // Another process sees the same.
    let other = store.open().await;
    assert_eq!(
        other.health(&[id]).await.unwrap().remove(&id),
        health(30, Some(40), None)
    );
}

async fn what_is_done_twice_or_late_changes_nothing_more(store: Store) {
    let (catalog, id) = target(&store).await;
    let known = async || catalog.health(&[id]).await.unwrap().remove(&id);
    let changes = [
        (id, HealthChange::Failing(Millis(10))),
        (id, HealthChange::Good(Millis(20))),
        (id, HealthChange::Failing(Millis(30))),
    ];
    for _ in 0..2 {
        catalog.change_health(&changes).await.unwrap();
    }
    assert_eq!(known().await, health(20, Some(30), None));
    // A success from before it failed, and a failure from before a success.
    let late = [
        (id, HealthChange::Good(Millis(25))),
        (id, HealthChange::Good(Millis(40))),
        (id, HealthChange::Failing(Millis(35))),
    ];
    catalog.change_health(&late).await.unwrap();
    assert_eq!(known().await, health(40, None, None));
}

async fn a_warning_is_told_once_and_goes_with_a_success(store: Store) {
    let (catalog, id) = target(&store).await;
    let change = async |change| catalog.change_health(&[(id, change)]).await.unwrap();
    change(warn(5)).await;
    assert!(catalog.due_news(10).await.unwrap().is_empty(), "it does not fail");
    change(HealthChange::Failing(Millis(10))).await;
    change(warn(50)).await;
    change(warn(60)).await;
    assert_eq!(
        catalog.health(&[id]).await.unwrap().remove(&id),
        health(0, Some(10), Some(50))
    );
    assert_eq!(catalog.due_news(10).await.unwrap(), [id]);
    let news = catalog.claim_news(id, LEASE).await.unwrap().unwrap();
    assert_eq!((news.news.len(), news.news[0].first_at), (1, Millis(10)));
    store.clock.advance(LEASE);
    change(HealthChange::Good(Millis(70))).await;
    assert!(catalog.due_news(10).await.unwrap().is_empty(), "it is over");
}

async fn a_disabled_target_keeps_its_reason_and_begins_anew(store: Store) {
    let (catalog, id) = target(&store).await;
    let (acme, now) = (tenant("acme"), store.clock.now());
    let changes = [
        (id, HealthChange::Failing(Millis(10))),
        (id, HealthChange::Disable("failed for days".to_owned())),
    ];
    for _ in 0..2 {
        catalog.change_health(&changes).await.unwrap();
    }
    let read = catalog.get_target(&acme, id).await.unwrap();
    assert_eq!(read.state, TargetState::Disabled);
    assert_eq!(read.disabled_reason.as_deref(), Some("failed for days"));
    let news = catalog.claim_news(id, LEASE).await.unwrap().unwrap();
    assert_eq!(news.news.len(), 1);
    assert_eq!(
        (news.news[0].kind, news.news[0].times, news.news[0].first_at),
        (NoticeKind::Disabled, 1, now)
    );
    // A disabled target has no attempts; one that was under way says nothing.
    catalog.enable_target(&acme, id).await.unwrap();
    let late = [(id, HealthChange::Failing(Millis(now.0 - 1)))];
    catalog.change_health(&late).await.unwrap();
    assert_eq!(
        catalog.health(&[id]).await.unwrap().remove(&id),
        health(now.0, None, None)
    );
    // By hand there is no reason, and nobody to be told.
    let by_hand = TargetPatch {
        state: Change::Set(TargetState::Disabled),
        ..TargetPatch::default()
    };
    let read = catalog.patch_target(&acme, id, by_hand).await.unwrap();
    assert_eq!(read.disabled_reason, None);
    catalog.news_done(&news, None).await.unwrap();
    store.clock.advance(LEASE * 2);
    assert!(catalog.due_news(10).await.unwrap().is_empty());
}

async fn news_are_counted_together_claimed_by_one_and_taken_away(store: Store) {
    let (catalog, id) = target(&store).await;
    let given_up = |times, at| {
        let (first, last) = (Millis(at), Millis(at + 1));
        HealthChange::GivenUp(times, first, last, format!("http_50{times}"))
    };
    let change = async |change| catalog.change_health(&[(id, change)]).await.unwrap();
    change(given_up(2, 10)).await;
    change(given_up(3, 20)).await;
    assert!(
        catalog.due_news(10).await.unwrap().is_empty(),
        "they are gathered first"
    );
    store.clock.advance(Duration::from_secs(60));
    let other = store.open().await;
    let (one, two) = tokio::join!(catalog.claim_news(id, LEASE), other.claim_news(id, LEASE));
    let claims = [one.unwrap(), two.unwrap()];
    assert_eq!(claims.iter().flatten().count(), 1, "one has it");
    let claimed = claims.into_iter().flatten().next().unwrap();
    let found = &claimed.news[0];
    assert_eq!(
        (found.times, found.first_at, found.last_at, found.reason.as_str()),
        (5, Millis(10), Millis(21), "http_503")
    );
    change(given_up(1, 30)).await;
    let now = store.clock.now();
    catalog.news_done(&claimed, Some(now)).await.unwrap();
    store.clock.advance(LEASE);
    let rest = catalog.claim_news(id, LEASE).await.unwrap().unwrap();
    assert_eq!((rest.news[0].times, rest.mailed_at), (1, Some(now)));
    catalog
        .postpone_news(id, store.clock.now().plus(LEASE * 2))
        .await
        .unwrap();
    store.clock.advance(LEASE);
    assert!(catalog.due_news(10).await.unwrap().is_empty());
    catalog.news_done(&rest, None).await.unwrap();
    store.clock.advance(LEASE * 2);
    assert!(catalog.due_news(10).await.unwrap().is_empty());
}

async fn what_is_deleted_has_no_health_and_no_news(store: Store) {
    let (catalog, id) = target(&store).await;
    let changes = [
        (id, HealthChange::Failing(Millis(10))),
        (
            id,
            HealthChange::GivenUp(1, Millis(1), Millis(1), "dns".to_owned()),
        ),
    ];
    catalog.change_health(&changes).await.unwrap();
    catalog.delete_target(&tenant("acme"), id, false).await.unwrap();
    store.clock.advance(Duration::from_secs(60));
    assert!(catalog.due_news(10).await.unwrap().is_empty());
    catalog.change_health(&changes).await.unwrap();
    assert!(catalog.health(&[id]).await.unwrap().is_empty());
    assert_eq!(catalog.claim_news(id, LEASE).await.unwrap(), None);
}
