//! Matching against a large catalog: what is remembered, what is asked for, and what remembering takes.
//! In this process, unlike the other scenarios: a match that is remembered takes less than a request.

pub mod fill;

use super::{Context, megabytes, random_key};
use crate::ledger::percentile_ms;
use crate::proc::Proc;
use crate::report::Row;
use crate::subscribers;
use anyhow::{Context as _, Result, bail};
use consumer::matcher::Matcher;
use fill::{MATCHED, PER_TENANT, TYPES};
use platform::clock::Clock;
use platform::follow::Follower;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Matches that are asked for one after the other.
const COLD: u64 = 5_000;
/// Matches that are asked for by many at once.
const AT_ONCE: u64 = 20_000;
/// How many they are.
const TASKS: u64 = 64;
/// Matches that are remembered while they are timed.
const WARM: u64 = 10_000;
/// How often each of them is asked for.
const ROUNDS: u64 = 100;
/// What a process remembers by default, in bytes.
const MEMORY: u64 = 32 << 20;

/// Measures on SQLite, and on Postgres where there is one.
pub async fn run(context: &Context, subscriptions: u64) -> Result<Vec<Row>> {
    let tenants = (subscriptions / PER_TENANT).max(1);
    let folder = context.folder()?;
    let url = format!("sqlite:{}", folder.path().join("catalog.db").display());
    let mut rows = vec![measure("SQLite", &url, tenants, true).await?];
    match std::env::var("WORLD_POSTGRES_URL") {
        Err(_) => eprintln!("Postgres is left out: source target/world/env to have it"),
        Ok(server) => {
            let name = format!("bench_matching_{}", std::process::id());
            statement(&server, &format!("CREATE DATABASE {name}")).await?;
            let (server_alone, _) = server.rsplit_once('/').context("a URL with a database")?;
            let measured = measure("Postgres", &format!("{server_alone}/{name}"), tenants, false).await;
            statement(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await?;
            rows.push(measured?);
        }
    }
    Ok(rows)
}

async fn measure(database: &str, url: &str, tenants: u64, memory: bool) -> Result<Row> {
    let mut row = Row::new(format!("matching, {database}"));
    let catalog = subscribers::open(url, &random_key()).await?;
    let begun = Instant::now();
    fill::fill(catalog.pool(), tenants).await?;
    row.note(format!(
        "{} subscriptions of {tenants} tenants, written in {:.0} s",
        tenants * PER_TENANT,
        begun.elapsed().as_secs_f64()
    ));

    let one = fill::event(0, tenants)?;
    let plan = catalog.explain_match(&one.tenant, &one.event_type).await?;
    if plan
        .iter()
        .any(|step| step.contains("Seq Scan") || step.starts_with("SCAN"))
    {
        bail!("{database} reads a whole table to match: {plan:#?}");
    }
    let follower = Follower::start(catalog.clone(), Clock::system()).await?;
    cold(&mut row, &Matcher::new(follower.clone(), MEMORY), tenants).await?;
    at_once(
        &mut row,
        Arc::new(Matcher::new(follower.clone(), MEMORY)),
        tenants,
    )
    .await?;
    warm(&mut row, &Matcher::new(follower.clone(), MEMORY), tenants).await?;
    // Once: what is freed after it would hide what the next one takes.
    if memory {
        remembered(&mut row, &Matcher::new(follower, MEMORY), tenants).await?;
    }
    catalog.pool().close().await;
    Ok(row)
}

/// The `n`-th match that nobody has asked for, tenants and types in no order.
fn scattered(n: u64, tenants: u64) -> u64 {
    // An odd factor larger than any count of matches, prime: every match once.
    n.wrapping_mul(2_147_483_647) % (tenants * TYPES)
}

async fn asked(matcher: &Matcher, n: u64, tenants: u64) -> Result<Duration> {
    let event = fill::event(scattered(n, tenants), tenants)?;
    let begun = Instant::now();
    let targets = matcher.targets(&event).await;
    let took = begun.elapsed();
    if targets.len() != MATCHED {
        bail!("{} targets match, not {MATCHED}", targets.len());
    }
    Ok(took)
}

async fn cold(row: &mut Row, matcher: &Matcher, tenants: u64) -> Result<()> {
    let mut times = Vec::new();
    for n in 0..COLD {
        times.push(u64::try_from(asked(matcher, n, tenants).await?.as_nanos())?);
    }
    times.sort_unstable();
    (row.p50_ms, row.p99_ms) = (percentile_ms(&times, 0.5), percentile_ms(&times, 0.99));
    Ok(())
}

async fn at_once(row: &mut Row, matcher: Arc<Matcher>, tenants: u64) -> Result<()> {
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for task in 0..TASKS {
        let matcher = matcher.clone();
        tasks.spawn(async move {
            for n in (task..AT_ONCE).step_by(TASKS as usize) {
                asked(&matcher, COLD + n, tenants).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    row.per_second = Some(AT_ONCE as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}

async fn warm(row: &mut Row, matcher: &Matcher, tenants: u64) -> Result<()> {
    let events: Vec<_> = (0..WARM)
        .map(|n| fill::event(scattered(n, tenants), tenants))
        .collect::<Result<_>>()?;
    for event in &events {
        matcher.targets(event).await;
    }
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for event in &events {
            std::hint::black_box(matcher.targets(event).await);
        }
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6 / (WARM * ROUNDS) as f64;
    row.at_most("µs of a remembered match", Some(micros), 2.0);
    Ok(())
}

/// Asks for many more matches than are to be remembered, and looks at the process's memory.
async fn remembered(row: &mut Row, matcher: &Matcher, tenants: u64) -> Result<()> {
    let process = Proc::own();
    let before = process.resident()?;
    for n in 0..(tenants * TYPES).min(150_000) {
        asked(matcher, n, tenants).await?;
    }
    let grown = process.resident()?.saturating_sub(before);
    row.note(format!(
        "{:.1} MB more resident with a memory of {:.1} MB in full use",
        megabytes(grown),
        megabytes(MEMORY)
    ));
    Ok(())
}

async fn statement(server: &str, sql: &str) -> Result<()> {
    let mut connection = PgConnection::connect(server)
        .await
        .context("the Postgres of WORLD_POSTGRES_URL")?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}
