//! Whoever tries keys out, on a Postgres whose look-ups of keys stand still.

use crate::world::{World, config};
use http::Method;
use platform::catalog::PostgresOptions;
use platform::secrets::random_bytes;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::time::{Duration, Instant};

/// Of the database's connections; made-up keys may take two.
const CONNECTIONS: u32 = 6;
/// Requests with made-up keys at once.
const FLOOD: usize = 60;

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .unwrap();
}

/// How many look-ups of keys stand still.
async fn standing(connection: &mut PgConnection, schema: &str) -> i64 {
    let sql = format!(
        "SELECT COUNT(*) FROM pg_locks WHERE relation = '{schema}.api_keys'::regclass AND NOT granted \
         AND mode = 'AccessShareLock'"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .unwrap();
    row.get(0)
}

#[tokio::test]
async fn a_flood_of_made_up_keys_takes_two_connections_and_nothing_from_known_ones() {
    let server = std::env::var("WORLD_POSTGRES_URL")
        .expect("WORLD_POSTGRES_URL is not set: run `make test`, which brings the world up");
    let schema = format!("strangers_{:x}", u64::from_be_bytes(random_bytes()));
    let mut admin = PgConnection::connect(&server).await.unwrap();
    run(&mut admin, format!("CREATE SCHEMA {schema}")).await;
    let url = format!("{server}?options=-c%20search_path%3D{schema}");
    let done = tokio::spawn(flood(url, server, schema.clone())).await;
    run(&mut admin, format!("DROP SCHEMA {schema} CASCADE")).await;
    if let Err(failed) = done {
        std::panic::resume_unwind(failed.into_panic());
    }
}

async fn flood(url: String, server: String, schema: String) {
    let limits = PostgresOptions {
        connections: CONNECTIONS,
        ..PostgresOptions::default()
    };
    let world = World::start_on(&url, limits, config()).await;
    world.get("/webhooks/targets").await.expect(200);
    // Whoever asks for a key waits from here on.
    let mut lock = PgConnection::connect(&server).await.unwrap();
    run(
        &mut lock,
        format!("BEGIN; LOCK TABLE {schema}.api_keys IN ACCESS EXCLUSIVE MODE"),
    )
    .await;

    let keys: Vec<String> = (0..FLOOD).map(|n| format!("hk_live_made_up_{n}")).collect();
    let strangers = keys
        .iter()
        .map(|key| world.call(key, Method::GET, "/webhooks/targets", ""));
    let known = async {
        let mut watch = PgConnection::connect(&server).await.unwrap();
        while standing(&mut watch, &schema).await < 2 {}
        let until = Instant::now() + Duration::from_secs(2);
        let mut asked = 0;
        while Instant::now() < until {
            let began = Instant::now();
            world.get("/webhooks/targets").await.expect(200);
            // Once in that time its own key is looked up too, for half a second, in vain.
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
            let standing = standing(&mut watch, &schema).await;
            assert!(standing <= 2 + 1, "{standing} look-ups at once");
            asked += 1;
        }
        assert!(asked > 2, "{asked}");
        run(&mut lock, "COMMIT".to_owned()).await;
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(strangers), known);
    let mut refused = 0;
    for answer in answers {
        match answer.status.as_u16() {
            503 => drop(answer.problem(503)),
            _ => {
                answer.problem(401);
                refused += 1;
            }
        }
    }
    assert!(refused <= 2, "those that were asked for: {refused}");
    // And that was all.
    world
        .call("hk_live_made_up_0", Method::GET, "/webhooks/targets", "")
        .await
        .problem(401);
    world.stop().await;
}
