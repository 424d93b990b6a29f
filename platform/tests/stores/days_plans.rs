//! Each row of attempts is looked up in the one partition that its time is in.

use crate::days::{DAY, FIRST, lie, story, texts};
use crate::history::{delivery_of, everything};
use crate::store::{START, Store, on_postgres, tenant};
use platform::catalog::{Catalog, PostgresOptions};
use platform::history::History;
use schemas::time::Millis;
use sqlx::AssertSqlSafe;

/// Opens it with one connection, so that what it has done can be asked of it.
pub async fn one_connection(store: &Store) -> Catalog {
    let limits = PostgresOptions {
        connections: 1,
        ..PostgresOptions::default()
    };
    Catalog::open_with(&store.url, store.sealer.clone(), store.clock.clone(), limits)
        .await
        .unwrap()
}

/// How many rows of the tables that are called so were read one after the other, and not by an index.
pub async fn seq_read(catalog: &Catalog, like: &str) -> i64 {
    texts(catalog, "SELECT CAST(pg_stat_force_next_flush() AS TEXT)").await;
    let sql = format!(
        "SELECT CAST(SUM(seq_tup_read) AS TEXT) FROM pg_stat_user_tables \
         WHERE schemaname = current_schema() AND relname LIKE '{like}'"
    );
    texts(catalog, &sql).await[0].parse().unwrap()
}

/// Of many small partitions Postgres would join all of them, unless the question leaves it no choice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_is_looked_up_in_its_own_day() {
    on_postgres(async |store: Store| {
        let catalog = one_connection(&store).await;
        catalog.migrate().await.unwrap();
        let acme = tenant("acme");
        let history = History::new(&catalog);
        history.make_days(START).await.unwrap();
        let mut records = Vec::new();
        for number in 0..64 {
            records.extend(story(&acme, &format!("evt-{number}"), FIRST + 2 * DAY + number));
        }
        history.write(&records).await.unwrap();
        let fill = format!(
            "INSERT INTO attempts (tenant, accepted_at, delivery_id, number, started_at, duration_ms) \
             SELECT 'acme', {FIRST} + n * 40000, 'dlv_' || n, 1, 0, 5 FROM generate_series(-2000, 12959) n; ANALYZE"
        );
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(catalog.pool()).await.unwrap();
        assert_eq!(lie(&catalog).await.len(), 7);
        let (before, before_in_days) = (
            seq_read(&catalog, "attempts%").await,
            seq_read(&catalog, "attempts_2026%").await,
        );
        let read = async |what: &str| {
            assert_eq!(seq_read(&catalog, "attempts%").await, before, "{what}");
        };
        history.write(&records).await.unwrap();
        history.write(&records[..3]).await.unwrap();
        read("what is known of attempts that come again").await;
        assert_eq!(everything(&history, &acme).await.1.len(), 64);
        history.delivery(&acme, &delivery_of("evt-1", 7)).await.unwrap();
        read("the API's questions").await;
        assert!(history.expire(Millis(FIRST - DAY / 4), 10_000).await.unwrap() > 1000);
        // Of what is left of a small table half is removed at once: Postgres reads that one.
        assert_eq!(
            seq_read(&catalog, "attempts_2026%").await,
            before_in_days,
            "what is not too old"
        );
    })
    .await;
}
