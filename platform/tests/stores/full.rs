//! An SQLite file that may not grow: what does not fit is not there in part, and all goes on when there is room.

use crate::store::{on_sqlite, texts};
use platform::catalog::{Catalog, CatalogError, NewTarget};
use sqlx::{AssertSqlSafe, Row};

/// Lets the file have so many pages more than it has, on every connection.
async fn room(catalog: &Catalog, more: i64) {
    let mut all = Vec::new();
    for pool in [catalog.pool(), catalog.writer()] {
        for _ in 0..pool.options().get_max_connections() {
            all.push(pool.acquire().await.unwrap());
        }
    }
    for connection in &mut all {
        let pages = sqlx::query("PRAGMA page_count")
            .fetch_one(&mut **connection)
            .await
            .unwrap();
        let most = pages.get::<i64, _>(0) + more;
        sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA max_page_count = {most}")))
            .execute(&mut **connection)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_not_there_in_part() {
    on_sqlite(|store| async move {
        let (catalog, acme) = store.with_tenant().await;
        let make =
            || catalog.create_endpoint(&acme, NewTarget::at("https://a.example/"), texts(&["a", "b.*"]));
        make().await.unwrap();
        for more in 0..6 {
            room(&catalog, more).await;
            let error = loop {
                if let Err(error) = make().await {
                    break error;
                }
            };
            let CatalogError::Unavailable(why) = &error else {
                panic!("{error:?}");
            };
            assert!(why.contains("full"), "{why}");
            let there = catalog.whole(&acme).await.unwrap();
            assert_eq!(there.targets.len(), there.filters.len());
            assert_eq!(there.targets.len(), there.subscriptions.len());
            for target in &there.targets {
                let details = catalog.target_details(target.id).await.unwrap().unwrap();
                assert_eq!(details.keys.len(), 1);
            }
            let wanted = catalog.match_targets(&acme, "b.c").await.unwrap();
            assert_eq!(wanted.len(), there.targets.len());
        }
        room(&catalog, 1_000).await;
        let (made, _) = make().await.unwrap();
        assert!(
            catalog
                .match_targets(&acme, "a")
                .await
                .unwrap()
                .contains(&made.id)
        );
    })
    .await;
}
