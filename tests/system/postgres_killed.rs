//! Postgres is killed, twice, under a load of changes, and comes back: nothing half made, nothing lost, and the
//! same process goes on.

use crate::load::all_arrive;
use crate::own::Own;
use crate::product::{Product, Setup};
use crate::sink::Sink;
use crate::{eventually, secs};
use hyper::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Who changes things at once, and who publishes.
const WRITERS: usize = 6;
/// How long a request may take while the database is away: `store.wait`, and what a busy machine adds.
const PATIENCE: Duration = secs(12);
/// base64 of 32 bytes.
const SEAL: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    /// Requests done and refused so far.
    done: AtomicUsize,
    refused: AtomicUsize,
}

/// What one writer knows at the end.
#[derive(Default)]
struct Known {
    /// Endpoints that were made, and not asked to be deleted.
    kept: BTreeSet<i64>,
    deleted: BTreeSet<i64>,
    /// Requests to make one that were refused: whether the commit came through before the answer did is not known.
    unsure: usize,
    events: Vec<String>,
}

impl Load {
    /// The answer to a request: done, or refused with a whole problem.
    async fn ask(&self, product: &Product, method: Method, path: &str, body: Value) -> Option<Value> {
        let (began, deleting) = (Instant::now(), method == Method::DELETE);
        let answer = product.call(method, path, body.to_string()).await;
        assert!(began.elapsed() < PATIENCE, "{path}: {:?}", began.elapsed());
        if answer.status == 503 {
            assert_eq!(answer.headers["retry-after"], "1");
            answer.problem(503);
            self.refused.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        self.done.fetch_add(1, Ordering::SeqCst);
        // Deleted by the request before, whose answer was lost.
        if deleting && answer.status == 404 {
            return Some(Value::Null);
        }
        assert!(
            answer.status.is_success(),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        let status = answer.status.as_u16();
        Some(answer.expect(status))
    }

    /// Makes, changes, reads and deletes endpoints, and publishes, until it is told to stop.
    async fn write(&self, product: &Product, sink: &Sink, writer: usize) -> Known {
        let mut known = Known::default();
        for number in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let event = format!("w{writer}-{number}");
            let publish = json!({"type": "load.test.v1", "id": event, "payload": number});
            // Neither log nor keys seen lately need the database.
            if self
                .ask(product, Method::POST, "/webhooks/events", publish)
                .await
                .is_some()
            {
                known.events.push(event);
            }
            let body = json!({"url": sink.url("/never"), "events": ["never.a", "never.b.*"]});
            let made = self.ask(product, Method::POST, "/webhooks/endpoints", body).await;
            let Some(made) = made else {
                known.unsure += 1;
                continue;
            };
            let id = made["id"].as_i64().expect("an id");
            let path = format!("/webhooks/endpoints/{id}");
            let patch = json!({"events": ["never.c"], "url": sink.url("/never/more")});
            self.ask(product, Method::PATCH, &path, patch).await;
            self.ask(product, Method::GET, &path, Value::Null).await;
            if number % 3 == 0 {
                let path = format!("/webhooks/targets/{id}?cascade=true");
                while self
                    .ask(product, Method::DELETE, &path, Value::Null)
                    .await
                    .is_none()
                {
                    if self.stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
                known.deleted.insert(id);
            } else {
                known.kept.insert(id);
            }
        }
        known
    }

    /// Waits until so many more requests have been done, or refused.
    async fn more(&self, of: &AtomicUsize, count: usize, what: &str) {
        let from = of.load(Ordering::SeqCst);
        eventually(secs(60), what, async || {
            (of.load(Ordering::SeqCst) >= from + count).then_some(())
        })
        .await;
    }
}

/// What the database says that must be nothing.
async fn halves(postgres: &mut PgConnection) -> Vec<(&'static str, i64)> {
    let mut found = Vec::new();
    for (what, sql) in [
        (
            "targets without a secret",
            "SELECT COUNT(*) FROM targets t WHERE NOT EXISTS (SELECT 1 FROM target_secrets s WHERE s.target = t.id)",
        ),
        (
            "targets without a subscription",
            "SELECT COUNT(*) FROM targets t WHERE NOT EXISTS (SELECT 1 FROM subscriptions s WHERE s.target = t.id)",
        ),
        (
            "filters without patterns",
            "SELECT COUNT(*) FROM filters f WHERE NOT EXISTS (SELECT 1 FROM filter_events e WHERE e.filter = f.id)",
        ),
        (
            "filters whose patterns are others",
            "SELECT COUNT(*) FROM filters f WHERE json_array_length(f.events::json) <> (SELECT COUNT(*) FROM filter_events e WHERE e.filter = f.id)",
        ),
        (
            "changes that are missing",
            "SELECT h.seq - COUNT(c.seq) FROM change_head h LEFT JOIN changes c ON true GROUP BY h.seq",
        ),
    ] {
        let count: i64 = sqlx::query(sql)
            .fetch_one(&mut *postgres)
            .await
            .expect("a count")
            .get(0);
        if count != 0 {
            found.push((what, count));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_a_load_of_changes_it_leaves_nothing_half_made_and_is_awaited() {
    let (postgres, sink) = (Own::start("postgres").await, Sink::start().await);
    let url = postgres.variable("WORLD_POSTGRES_URL");
    let setup = Setup::new()
        .set("store.url", &url)
        .set("secrets.key", SEAL)
        .set("delivery.allow_http", "true")
        .set("delivery.allow_networks", "[\"127.0.0.0/8\"]")
        .set("store.connections", "4")
        .set("store.wait", "2s");
    setup.run(&["provision"]).await.ok();
    setup.run(&["tenants", "create", "default"]).await.ok();
    let key = setup.run(&["keys", "create", "--tenant", "default"]).await.ok();
    let mut product = setup.start(&["all"]).await;
    product.key = key.trim().to_owned();
    let steady = product.endpoint(&sink, "/steady", &["load.*"]).await;
    let first = product.publish("load.test.v1", json!("known from now on")).await;
    sink.accepted(secs(20), &first).await;

    let load = Load::default();
    let writers = (0..WRITERS).map(|writer| load.write(&product, &sink, writer));
    let kills = async {
        for _ in 0..2 {
            load.more(&load.done, 60, "it is under load").await;
            postgres.kill().await;
            load.more(&load.refused, WRITERS, "it is missed").await;
            postgres.up().await;
            load.more(&load.done, 60, "it is found again").await;
        }
        load.stop.store(true, Ordering::SeqCst);
    };
    let (known, ()) = tokio::join!(futures_util::future::join_all(writers), kills);

    let mut postgres = PgConnection::connect(&url).await.expect("it is back");
    assert_eq!(halves(&mut postgres).await, []);
    let rows = sqlx::query("SELECT id FROM targets")
        .fetch_all(&mut postgres)
        .await;
    let there: BTreeSet<i64> = rows.expect("ids").iter().map(|row| row.get(0)).collect();
    let kept: BTreeSet<i64> = known.iter().flat_map(|one| one.kept.iter().copied()).collect();
    let lost: Vec<_> = kept.difference(&there).collect();
    assert!(lost.is_empty(), "made and gone: {lost:?}");
    let deleted: BTreeSet<i64> = known.iter().flat_map(|one| one.deleted.iter().copied()).collect();
    let unsure: usize = known.iter().map(|one| one.unsure).sum();
    let more = there
        .iter()
        .filter(|id| !kept.contains(id) && !deleted.contains(id) && **id != steady);
    assert!(more.count() <= unsure, "more are there than anybody asked for");
    let events: Vec<String> = known.into_iter().flat_map(|one| one.events).collect();
    eprintln!(
        "{} done, {} refused, {} events, {} endpoints",
        load.done.load(Ordering::SeqCst),
        load.refused.load(Ordering::SeqCst),
        events.len(),
        kept.len()
    );
    all_arrive(&sink, &events, &["/steady"]).await;
    // The same process takes changes and delivers by them.
    product.endpoint(&sink, "/new", &["load.*"]).await;
    let last = product.publish("load.test.v1", json!("last")).await;
    sink.wait(secs(20), "the new one is told", |one| {
        one.id == last && one.path == "/new"
    })
    .await;
    product.stop().await;
}
