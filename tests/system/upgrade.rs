//! The database's tables are made and changed whole or not at all, whenever the process is killed.

use crate::load::moments;
use crate::product::Setup;
use sqlx::{Connection as _, Row as _, SqliteConnection};
use std::path::Path;
use std::time::Instant;

/// Times it is killed.
const KILLS: usize = 20;

/// How many migrations count as applied, and how many tables there are.
async fn tables(database: &Path) -> (i64, i64) {
    let url = format!("sqlite:{}", database.display());
    let mut connection = SqliteConnection::connect(&url)
        .await
        .expect("it opens after a kill");
    let count = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'";
    let tables: i64 = sqlx::query(count)
        .fetch_one(&mut connection)
        .await
        .expect("a count")
        .get(0);
    let applied = match tables {
        0 => 0,
        _ => {
            let count = "SELECT COUNT(*) FROM hookwright_migrations";
            let row = sqlx::query(count).fetch_one(&mut connection).await;
            row.expect("tables come with their record").get(0)
        }
    };
    connection.close().await.expect("closed");
    (applied, tables)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_of_its_first_start_the_next_one_completes() {
    // How long it takes, and what is there at its end.
    let whole = Setup::new();
    let mut product = whole.dev().await;
    let took = u64::try_from(product.ready_after.as_millis()).expect("fits");
    product.kill().await;
    let all = tables(&whole.data().join("hookwright.db")).await;
    assert!(all.0 >= 8, "{all:?}");

    let mut moments = moments();
    let mut between = 0;
    for _ in 0..KILLS {
        let setup = Setup::new();
        let mut product = setup.spawn(&["dev", "--data", "data", "--listen", "127.0.0.1:0"]);
        let database = setup.data().join("hookwright.db");
        // Most of a start is before that file is there.
        let started = Instant::now();
        while !database.exists() && started.elapsed() < crate::secs(20) {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(moments.between(0, took.max(2))).await;
        product.kill().await;
        let found = tables(&database).await;
        assert!(
            found == (0, 0) || found == all,
            "{found:?}, and not none or {all:?}"
        );
        between += usize::from(found == (0, 0));
        let mut product = setup.dev().await;
        product
            .publish("core.orders.created.v1", serde_json::json!(1))
            .await;
        product.kill().await;
        assert_eq!(tables(&database).await, all);
    }
    eprintln!("{between} of {KILLS} were killed before the tables were there");
}
