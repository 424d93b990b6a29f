//! Targets that are to prove themselves, kept in either database.

use crate::store::{Store, over_both, tenant};
use platform::catalog::{Catalog, CatalogError, Change, NewTarget, Target, TargetPatch};
use schemas::ids::TargetId;
use schemas::target::{RequestOptions, TargetState};
use schemas::verification::Verification;
use std::time::Duration;

over_both!(
    a_proof_lasts_through_an_outage_and_not_through_a_wrong_answer,
    who_is_to_be_asked_is_given_to_one_and_again_later,
    an_answer_about_an_address_that_is_no_more_counts_for_nothing,
);

const URL: &str = "https://example.com/";
const HOUR: Duration = Duration::from_secs(3600);

async fn target(store: &Store) -> (Catalog, TargetId) {
    let (catalog, tenant) = store.with_tenant().await;
    let new = NewTarget {
        request: RequestOptions {
            verification: Verification::Crc,
            ..RequestOptions::default()
        },
        ..NewTarget::at(URL)
    };
    let (made, _) = catalog.create_target(&tenant, new).await.unwrap();
    assert_eq!(made.state, TargetState::Unverified);
    (catalog, made.id)
}

async fn read(catalog: &Catalog, id: TargetId) -> Target {
    catalog.get_target(&tenant("acme"), id).await.unwrap()
}

async fn a_proof_lasts_through_an_outage_and_not_through_a_wrong_answer(store: Store) {
    let (catalog, id) = target(&store).await;
    assert!(catalog.not_proved(id, URL, "no answer", true).await.unwrap());
    assert_eq!(read(&catalog, id).await.not_proved.as_deref(), Some("no answer"));
    catalog.proved(id, URL).await.unwrap();
    let proved = read(&catalog, id).await;
    assert_eq!(proved.state, TargetState::Active);
    assert_eq!(
        (proved.verified_at, proved.not_proved),
        (Some(store.clock.now()), None)
    );

    store.clock.advance(27 * HOUR);
    assert!(!catalog.not_proved(id, URL, "503", true).await.unwrap());
    assert_eq!(read(&catalog, id).await.state, TargetState::Active);
    store.clock.advance(HOUR);
    assert!(catalog.not_proved(id, URL, "503", true).await.unwrap());
    assert_eq!(read(&catalog, id).await.state, TargetState::Unverified);

    catalog.proved(id, URL).await.unwrap();
    assert!(catalog.not_proved(id, URL, "wrong", false).await.unwrap());
    let wrong = read(&catalog, id).await;
    assert_eq!((wrong.state, wrong.verified_at), (TargetState::Unverified, None));

    // A disabled one stays so, whatever it proves.
    catalog.proved(id, URL).await.unwrap();
    assert!(catalog.disable_target(id, "410").await.unwrap());
    catalog.proved(id, URL).await.unwrap();
    assert_eq!(read(&catalog, id).await.state, TargetState::Disabled);
    catalog.not_proved(id, URL, "wrong", false).await.unwrap();
    assert_eq!(read(&catalog, id).await.state, TargetState::Disabled);
    let enabled = catalog.enable_target(&tenant("acme"), id).await.unwrap();
    assert_eq!(enabled.state, TargetState::Unverified, "its proof is gone");
}

async fn who_is_to_be_asked_is_given_to_one_and_again_later(store: Store) {
    let (catalog, id) = target(&store).await;
    let free = catalog
        .create_target(&tenant("acme"), NewTarget::at(URL))
        .await
        .unwrap()
        .0
        .id;
    let due = async || catalog.to_ask(10).await.unwrap();
    assert_eq!(due().await, [], "it was just asked by whoever made it");
    store.clock.advance(HOUR);
    assert_eq!(due().await, [id]);
    assert_eq!(due().await, [], "claimed");
    // Whoever claimed it died.
    store.clock.advance(HOUR);
    assert_eq!(due().await, [id]);
    catalog.not_proved(id, URL, "404", true).await.unwrap();
    assert_eq!(due().await, []);
    store.clock.advance(HOUR);
    assert_eq!(due().await, [id]);
    // It never has proved itself, and nobody has cared for a day: it is left alone.
    store.clock.advance(24 * HOUR);
    catalog.not_proved(id, URL, "404", true).await.unwrap();
    store.clock.advance(1_000 * HOUR);
    assert_eq!(due().await, []);
    // One that has is asked each day.
    catalog.proved(id, URL).await.unwrap();
    store.clock.advance(23 * HOUR);
    assert_eq!(due().await, []);
    store.clock.advance(HOUR);
    assert_eq!(due().await, [id]);
    // One that needs no proof is never asked, and one that needs none any more neither.
    let none = TargetPatch {
        verification: Change::Set(Verification::None),
        ..TargetPatch::default()
    };
    let patched = catalog.patch_target(&tenant("acme"), id, none).await.unwrap();
    assert_eq!((patched.state, patched.verified_at), (TargetState::Active, None));
    store.clock.advance(1_000 * HOUR);
    assert_eq!(due().await, []);
    assert_eq!(read(&catalog, free).await.state, TargetState::Active);
}

async fn an_answer_about_an_address_that_is_no_more_counts_for_nothing(store: Store) {
    let (catalog, id) = target(&store).await;
    catalog.proved(id, URL).await.unwrap();
    let moved = TargetPatch {
        url: Change::Set("https://example.com/other".to_owned()),
        ..TargetPatch::default()
    };
    let moved = catalog.patch_target(&tenant("acme"), id, moved).await.unwrap();
    assert_eq!((moved.state, moved.verified_at), (TargetState::Unverified, None));
    assert_eq!(catalog.proved(id, URL).await, Err(CatalogError::NotFound));
    let not = catalog.not_proved(id, URL, "wrong", false).await;
    assert_eq!(not, Err(CatalogError::NotFound));
    assert_eq!(read(&catalog, id).await.not_proved, None);
    catalog.proved(id, "https://example.com/other").await.unwrap();
    assert_eq!(read(&catalog, id).await.state, TargetState::Active);
}
