//! What the consumer matches while the catalog is away: the real Postgres, cut off.

#[path = "../../tests/system/tcp_front.rs"]
#[allow(dead_code, reason = "not all who share this file need all of it")]
mod tcp_front;

use consumer::matcher::Matcher;
use platform::catalog::{Catalog, NewTarget};
use platform::clock::Clock;
use platform::follow::Follower;
use platform::secrets::{Sealer, random_bytes};
use schemas::event::{Event, Position};
use schemas::ids::{EventId, FilterId, TargetId, Tenant};
use schemas::time::Millis;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::sync::Arc;
use std::time::Duration;
use tcp_front::TcpFront;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Long enough for a catalog that is away to be noticed once, and far too short for it to be noticed by each
/// event anew.
const NOTICED: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(30);
const EVENTS: usize = 50;

/// A consumer's matcher, whose catalog can be cut off, and the catalog as another process has it.
struct World {
    front: TcpFront,
    near: Catalog,
    elsewhere: Catalog,
    acme: Tenant,
    filter: FilterId,
    follower: Arc<Follower>,
    matcher: Arc<Matcher>,
}

impl World {
    async fn start(server: &str, schema: &str) -> Self {
        let host_at = server.find('@').or(server.find("//").map(|at| at + 1)).unwrap() + 1;
        let (before, rest) = server.split_at(host_at);
        let (host, database) = rest.split_once('/').unwrap();
        let front = TcpFront::start(host).await;
        let (sealer, clock) = (Sealer::random().0, Clock::system());
        let open = async |host: &str| {
            let url = format!("{before}{host}/{database}?options=-c%20search_path%3D{schema}");
            Catalog::open(&url, sealer.clone(), clock.clone()).await.unwrap()
        };
        let elsewhere = open(host).await;
        elsewhere.migrate().await.unwrap();
        let acme = Tenant::new("acme").unwrap();
        elsewhere.create_tenant(&acme).await.unwrap();
        let filter = elsewhere
            .create_filter(&acme, "f".to_owned(), vec!["*".to_owned()])
            .await
            .unwrap()
            .id;
        let near = open(&front.address()).await;
        let follower = Follower::start(near.clone(), clock.clone()).await.unwrap();
        Self {
            matcher: Arc::new(Matcher::new(follower.clone(), 1 << 20)),
            front,
            near,
            elsewhere,
            acme,
            filter,
            follower,
        }
    }

    /// Another target of all events, made by `process`.
    async fn subscribed(&self, process: &Catalog) -> TargetId {
        let target = NewTarget::at("https://a.example/");
        let (target, _) = process.create_target(&self.acme, target).await.unwrap();
        process
            .create_subscription(&self.acme, target.id, self.filter, true)
            .await
            .unwrap();
        target.id
    }

    async fn targets(&self, event_type: &str) -> Vec<TargetId> {
        self.matcher
            .targets(&event(&self.acme, event_type))
            .await
            .to_vec()
    }

    /// Many events of one type at once are each matched with `target`, without a wait.
    async fn many_match(&self, event_type: &str, target: TargetId) {
        let mut events = JoinSet::new();
        for _ in 0..EVENTS {
            let (matcher, event) = (self.matcher.clone(), event(&self.acme, event_type));
            events.spawn(async move { matcher.targets(&event).await.to_vec() });
        }
        let matches = tokio::time::timeout(NOTICED, events.join_all())
            .await
            .expect("what is remembered is not waited for");
        assert!(matches.iter().all(|targets| *targets == [target]));
    }
}

fn event(tenant: &Tenant, event_type: &str) -> Event {
    Event {
        id: EventId::new("evt").unwrap(),
        original_id: None,
        tenant: tenant.clone(),
        event_type: event_type.into(),
        payload: bytes::Bytes::new(),
        content_type: "text/plain".into(),
        occurred_at: None,
        accepted_at: Millis(0),
        traceparent: None,
        position: Position {
            topic: "t".into(),
            partition: 0,
            offset: 0,
        },
    }
}

/// Runs a test in a schema of its own, and removes it, come what may.
async fn on_postgres<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(World) -> F) {
    let server = std::env::var("WORLD_POSTGRES_URL")
        .expect("WORLD_POSTGRES_URL is not set: run `make test`, which brings the world up");
    let schema = format!("consumer_{:x}", u64::from_be_bytes(random_bytes()));
    let mut admin = PgConnection::connect(&server).await.unwrap();
    let mut run = async |statement: String| {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut admin)
            .await
            .unwrap()
    };
    run(format!("CREATE SCHEMA {schema}")).await;
    let world = World::start(&server, &schema).await;
    let result = tokio::spawn(test(world)).await;
    run(format!("DROP SCHEMA {schema} CASCADE")).await;
    if let Err(failed) = result {
        std::panic::resume_unwind(failed.into_panic());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_matches_stay_in_use_and_unknown_ones_wait_until_it_is_back() {
    on_postgres(async |world: World| {
        let (stop, mut seen) = (CancellationToken::new(), world.near.watch());
        let following = tokio::spawn({
            let (follower, stop) = (world.follower.clone(), stop.clone());
            async move { follower.run(stop).await }
        });
        let first = world.subscribed(&world.elsewhere).await;
        let change = world.elsewhere.version();
        seen.wait_for(|seen| *seen >= change).await.unwrap();
        assert_eq!(world.targets("known").await, [first]);

        // It hears of another target, and cannot ask any more who wants what.
        let second = world.subscribed(&world.elsewhere).await;
        let change = world.elsewhere.version();
        seen.wait_for(|seen| *seen >= change).await.unwrap();
        world.front.silence();
        let (matcher, unknown) = (world.matcher.clone(), event(&world.acme, "unknown"));
        let waiting = tokio::spawn(async move { matcher.targets(&unknown).await });
        for _ in 0..2 {
            world.many_match("known", first).await;
        }
        assert!(!waiting.is_finished(), "nobody knows who wants it");

        world.front.mend();
        let found = tokio::time::timeout(PATIENCE, waiting).await.expect("it goes on");
        assert_eq!(*found.unwrap(), [first, second]);
        let mut now_and_then = tokio::time::interval(Duration::from_millis(10));
        let known = async {
            while world.targets("known").await != [first, second] {
                now_and_then.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, known)
            .await
            .expect("it is asked again");
        stop.cancel();
        following.await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_cannot_be_applied_is_waited_for_once() {
    on_postgres(async |world: World| {
        let first = world.subscribed(&world.near).await;
        assert_eq!(world.targets("known").await, [first]);
        // Made here, so that each event would catch up with it first.
        world.subscribed(&world.near).await;
        world.front.silence();
        world.many_match("known", first).await;
    })
    .await;
}
