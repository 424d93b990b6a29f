//! What people ask of a large history, on Postgres. In this process, unlike most scenarios: the API's part is small
//! and the same for each question.

mod fill;

use super::{Context, random_key};
use crate::ledger::percentile_ms;
use crate::report::Row;
use crate::subscribers;
use anyhow::{Context as _, Result};
use platform::history::{Bucket, DeliveryQuery, EventQuery, GroupBy, History, StatsQuery};
use schemas::delivery::DeliveryStatus;
use schemas::ids::{DeliveryId, EventId, TargetId, Tenant};
use schemas::time::Millis;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use std::time::{Duration, Instant};

/// Questions of each kind.
const QUESTIONS: usize = 1_000;
/// Items of a page, and one more, as the API asks.
const PAGE: u32 = 51;

/// Fills a database of its own, asks, and removes it.
pub async fn run(_: &Context, attempts: u64) -> Result<Vec<Row>> {
    let server = std::env::var("WORLD_POSTGRES_URL").context("source target/world/env to have a Postgres")?;
    let name = format!("bench_history_{}", std::process::id());
    let mut admin = PgConnection::connect(&server).await?;
    let create = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await?;
    let (server_alone, _) = server.rsplit_once('/').context("a URL with a database")?;
    let measured = measure(&format!("{server_alone}/{name}"), attempts).await;
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await?;
    measured
}

async fn measure(url: &str, attempts: u64) -> Result<Vec<Row>> {
    let catalog = subscribers::open(url, &random_key()).await?;
    let begun = Instant::now();
    let history = History::new(&catalog);
    // As recorders would have, in the course of that month.
    for week in 0..5 {
        let then = Duration::from_secs(7 * 86_400 * week);
        history.make_days(fill::BEGIN.plus(then)).await?;
    }
    let mut on = PgConnection::connect(url).await?;
    fill::fill(&mut on, attempts).await?;
    let size: i64 = sqlx::query("SELECT pg_database_size(current_database())")
        .fetch_one(&mut on)
        .await?
        .try_get(0)?;
    let mut whole = Row::new("history, filled");
    whole.note(format!(
        "{attempts} attempts, {:.1} GB, written in {:.0} s",
        size as f64 / 1e9,
        begun.elapsed().as_secs_f64()
    ));
    let samples = samples(&mut on).await?;
    on.close().await?;
    let mut rows = vec![whole];
    for (kind, (name, _)) in questions(&samples[0]).iter().enumerate() {
        let mut times = Vec::new();
        let mut found = 0;
        for sample in &samples {
            let (_, question) = questions(sample).swap_remove(kind);
            let begun = Instant::now();
            found += ask(&history, &sample.tenant, &question).await?;
            times.push(u64::try_from(begun.elapsed().as_nanos())?);
        }
        times.sort_unstable();
        let mut row = Row::new(format!("history, {name}"));
        (row.p50_ms, row.p99_ms) = (percentile_ms(&times, 0.5), percentile_ms(&times, 0.99));
        row.note(format!("{:.1} rows each", found as f64 / samples.len() as f64));
        row.at_most("ms at the 99th percentile", row.p99_ms, 50.0);
        rows.push(row);
    }
    catalog.pool().close().await;
    Ok(rows)
}

/// A delivery that questions are made of.
struct Sample {
    tenant: Tenant,
    id: DeliveryId,
    event: EventId,
    target: TargetId,
    event_type: String,
    accepted_at: Millis,
}

/// Deliveries from all over history, in no order.
async fn samples(on: &mut PgConnection) -> Result<Vec<Sample>> {
    let rows = sqlx::query(
        "SELECT tenant, id, event_id, target, event_type, accepted_at FROM deliveries \
         TABLESAMPLE SYSTEM (2) REPEATABLE (7) ORDER BY md5(id) LIMIT $1",
    )
    .bind(i64::try_from(QUESTIONS)?)
    .fetch_all(on)
    .await?;
    let samples = rows.iter().map(|row| {
        Ok(Sample {
            tenant: Tenant::new(row.try_get(0)?).map_err(anyhow::Error::msg)?,
            id: DeliveryId::from_text(row.try_get(1)?),
            event: EventId::new(row.try_get(2)?).map_err(anyhow::Error::msg)?,
            target: TargetId(row.try_get(3)?),
            event_type: row.try_get(4)?,
            accepted_at: Millis(row.try_get(5)?),
        })
    });
    samples.collect()
}

enum Question {
    Event(EventId),
    Attempts(DeliveryId),
    Events(EventQuery),
    Deliveries(DeliveryQuery),
    Stats(StatsQuery),
}

/// One question of each kind.
fn questions(of: &Sample) -> Vec<(&'static str, Question)> {
    let all = DeliveryQuery {
        limit: PAGE,
        ..DeliveryQuery::default()
    };
    // A page somewhere in the middle.
    let deep = DeliveryQuery {
        after: Some((of.accepted_at, of.id.as_str().to_owned())),
        ..all.clone()
    };
    let target = DeliveryQuery {
        target: Some(of.target),
        ..deep.clone()
    };
    let with_status = |status| DeliveryQuery {
        status: Some(status),
        ..deep.clone()
    };
    let typed = DeliveryQuery {
        event_type: Some(of.event_type.clone()),
        ..deep.clone()
    };
    let events = EventQuery {
        limit: PAGE,
        after: Some((of.accepted_at, of.event.as_str().to_owned())),
        ..EventQuery::default()
    };
    let stats = StatsQuery {
        bucket: Bucket::Hour,
        from: fill::BEGIN,
        to: Millis(fill::BEGIN.0 + fill::SPAN),
        target: None,
        event_type: None,
        group_by: None,
        limit: 10_001,
    };
    let list = Question::Deliveries;
    vec![
        ("an event", Question::Event(of.event.clone())),
        ("a delivery's attempts", Question::Attempts(of.id.clone())),
        (
            "deliveries of an event",
            list(DeliveryQuery {
                event: Some(of.event.clone()),
                ..all.clone()
            }),
        ),
        ("newest deliveries", list(all)),
        ("deliveries, a page in the middle", list(deep.clone())),
        ("by target", list(target.clone())),
        (
            "by status delivered",
            list(with_status(DeliveryStatus::Delivered)),
        ),
        ("by status retrying", list(with_status(DeliveryStatus::Retrying))),
        (
            "by status exhausted",
            list(with_status(DeliveryStatus::Exhausted)),
        ),
        ("by type", list(typed.clone())),
        (
            "by target and exhausted",
            list(DeliveryQuery {
                target: Some(of.target),
                ..with_status(DeliveryStatus::Exhausted)
            }),
        ),
        (
            "by target and type",
            list(DeliveryQuery {
                event_type: Some(of.event_type.clone()),
                ..target.clone()
            }),
        ),
        (
            "by type and exhausted",
            list(DeliveryQuery {
                status: Some(DeliveryStatus::Exhausted),
                ..typed
            }),
        ),
        (
            "by target, type, exhausted and a day",
            list(DeliveryQuery {
                event_type: Some(of.event_type.clone()),
                status: Some(DeliveryStatus::Exhausted),
                from: Some(Millis(of.accepted_at.0 - 86_400_000)),
                to: Some(of.accepted_at),
                after: None,
                ..target
            }),
        ),
        ("events, a page in the middle", Question::Events(events.clone())),
        (
            "events by type",
            Question::Events(EventQuery {
                event_type: Some(of.event_type.clone()),
                ..events.clone()
            }),
        ),
        (
            "unmatched events",
            Question::Events(EventQuery {
                unmatched: true,
                ..events
            }),
        ),
        ("stats, 30 days by hour", Question::Stats(stats.clone())),
        (
            "stats, 30 days by day and target",
            Question::Stats(StatsQuery {
                bucket: Bucket::Day,
                group_by: Some(GroupBy::Target),
                ..stats.clone()
            }),
        ),
        (
            "stats, a day by hour and type of a target",
            Question::Stats(StatsQuery {
                to: Millis(fill::BEGIN.0 + 86_400_000),
                target: Some(of.target),
                group_by: Some(GroupBy::EventType),
                ..stats
            }),
        ),
    ]
}

/// Asks, and answers how many rows came.
async fn ask(history: &History, tenant: &Tenant, question: &Question) -> Result<usize> {
    Ok(match question {
        Question::Event(id) => history.event(tenant, id).await.map(|_| 1)?,
        Question::Attempts(id) => history.attempts(tenant, id).await?.len(),
        Question::Events(query) => history.events(tenant, query).await?.len(),
        Question::Deliveries(query) => history.deliveries(tenant, query).await?.len(),
        Question::Stats(query) => history.stats(tenant, query).await?.len(),
    })
}
