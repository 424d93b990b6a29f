//! How soon a follower sees what another process has changed.

use crate::store::{Store, on_postgres, on_sqlite};
use platform::catalog::{Catalog, NewTarget};
use platform::follow::Follower;
use schemas::ids::Tenant;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is promised where nobody tells.
const POLLED: Duration = Duration::from_secs(2);
/// What is promised where Postgres does.
const TOLD: Duration = Duration::from_millis(100);

/// The looks of a follower that has just begun may find the first change; not all of these.
const SOME: i64 = 3;

/// A process that follows.
struct Following {
    seen: watch::Receiver<i64>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Following {
    async fn start(store: &Store) -> Self {
        let catalog = store.open().await;
        let seen = catalog.watch();
        let follower = Follower::start(catalog, store.clock.clone()).await.unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { follower.run(shutdown).await }
        });
        Self { seen, shutdown, task }
    }

    /// How long until it has seen change `seq`.
    async fn sees(&mut self, seq: i64) -> Duration {
        let since = Instant::now();
        let seen = self.seen.wait_for(|seen| *seen >= seq);
        let in_time = tokio::time::timeout(Duration::from_secs(30), seen).await;
        in_time.expect("never seen").unwrap();
        since.elapsed()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

async fn change(catalog: &Catalog, tenant: &Tenant) -> i64 {
    let new = NewTarget::at("https://a.example/");
    catalog.create_target(tenant, new).await.unwrap();
    catalog.version()
}

/// The median of some changes, one after the other: by looking each second it would be one.
async fn usually(following: &mut Following, catalog: &Catalog, tenant: &Tenant) -> Duration {
    let mut times = Vec::new();
    for _ in 0..7 {
        let seq = change(catalog, tenant).await;
        times.push(following.sees(seq).await);
    }
    times.sort();
    times[times.len() / 2]
}

/// The backends that listen for this test's follower. Their connections have the name of its schema.
async fn listening(admin: &mut PgConnection, name: &str) -> Vec<i32> {
    sqlx::query("SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN%'")
        .bind(name)
        .fetch_all(admin)
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Waits until one backend listens. Postgres tells nobody of that: it is looked for now and then.
async fn listens(admin: &mut PgConnection, name: &str) -> i32 {
    let waiting = async {
        let mut now_and_then = tokio::time::interval(Duration::from_millis(10));
        loop {
            now_and_then.tick().await;
            if let [one] = listening(admin, name).await[..] {
                return one;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("it listens")
}

/// The store under a name of its own to Postgres, and a connection to look from.
async fn named(store: &Store) -> (Store, String, PgConnection) {
    let (server, schema) = store.url.split_once("?options=").unwrap();
    let name = schema.rsplit_once("%3D").unwrap().1.to_owned();
    let mut named = store.clone();
    named.url = format!("{}&application_name={name}", store.url);
    (named, name, PgConnection::connect(server).await.unwrap())
}

async fn is_seen_within_2_s(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let mut following = Following::start(&store).await;
    for _ in 0..SOME {
        let seq = change(&catalog, &acme).await;
        let polled = following.sees(seq).await;
        assert!(polled < POLLED, "{polled:?}");
    }
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_in_another_process_is_seen_within_2_s_where_nobody_tells() {
    on_sqlite(is_seen_within_2_s).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_tells_of_a_change_at_once() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let (named, name, mut admin) = named(&store).await;
        let mut following = Following::start(&named).await;
        listens(&mut admin, &name).await;
        let usually = usually(&mut following, &catalog, &acme).await;
        assert!(usually < TOLD, "{usually:?}");
        following.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_notice_is_lost_is_seen_within_2_s() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let (named, name, mut admin) = named(&store).await;
        let mut following = Following::start(&named).await;
        listens(&mut admin, &name).await;
        let seq = change(&catalog, &acme).await;
        following.sees(seq).await;
        // As a pooler does that lets a client listen and passes nothing on: the change, and no notice.
        for silent in 1..=SOME {
            for statement in [
                format!("UPDATE {name}.change_head SET seq = seq + 1"),
                format!(
                    "INSERT INTO {name}.changes (seq, tenant) SELECT seq, 'acme' FROM {name}.change_head"
                ),
            ] {
                sqlx::query(AssertSqlSafe(statement))
                    .execute(&mut admin)
                    .await
                    .unwrap();
            }
            let polled = following.sees(seq + silent).await;
            assert!(polled < POLLED, "{polled:?}");
        }
        following.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_is_killed_misses_nothing_and_listens_again() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let (named, name, mut admin) = named(&store).await;
        let mut following = Following::start(&named).await;
        let first = listens(&mut admin, &name).await;
        let killed: bool = sqlx::query("SELECT pg_terminate_backend($1, 5000)")
            .bind(first)
            .fetch_one(&mut admin)
            .await
            .unwrap()
            .get(0);
        assert!(killed);
        let seq = change(&catalog, &acme).await;
        let meanwhile = following.sees(seq).await;
        assert!(meanwhile < POLLED, "{meanwhile:?}");
        assert_ne!(listens(&mut admin, &name).await, first);
        let usually = usually(&mut following, &catalog, &acme).await;
        assert!(usually < TOLD, "{usually:?}");
        following.stop().await;
    })
    .await;
}
