//! Measures hookwright from outside, and what the same machine could do at best.
//!
//! A driver posts events ([`driver`]), the product runs as a process of its own ([`product`]), a sink
//! receives the deliveries ([`sink`]); both write one ledger ([`ledger`]), from which each scenario
//! ([`scenarios`]) makes a row of the report ([`report`]). `docs/performance.md` says what the rows mean.

#![allow(clippy::print_stdout, reason = "a command-line tool prints its results")]
#![allow(clippy::print_stderr, reason = "a command-line tool says what it is doing")]

mod cli;
mod driver;
mod http;
mod ledger;
mod null_aws;
mod payload;
mod proc;
mod product;
mod report;
mod scenarios;
mod signing;
mod sink;
mod subscribers;
mod world;

/// The product's allocator: in some scenarios the benchmark is the product's process, and in all of them
/// the bare loops are to have what the product has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use cli::{Cli, What, name, plan};
use report::{Report, Row, median};
use scenarios::{
    Context, api, backlog, crash, decode, distributed, drain, embedded, hanging, history, idle, intake,
    isolation, matching, null_queue, quiet, raw_http, raw_sqs, replay, restart, sending, waiting,
};
use sink::Sink;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

// One thread for the driver, one for the sink: their cost can be told apart, and they leave the rest of
// the machine to the product.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<bool> {
    if let What::Sink { listen } = cli.what {
        return run_sink(listen).await;
    }
    let binary = match cli.product {
        Some(binary) => binary
            .canonicalize()
            .with_context(|| binary.display().to_string())?,
        None => std::env::current_exe()?.with_file_name("hookwright"),
    };
    std::fs::create_dir_all(&cli.work).with_context(|| cli.work.display().to_string())?;
    let context = Context {
        binary,
        payload: cli.payload,
        settings: cli.settings,
        limit: None,
        work: cli.work.canonicalize()?,
    };
    let mut bench = Bench {
        report: Report {
            machine: proc::machine(&context.work),
            payload: context.payload,
            rows: Vec::new(),
            failures: Vec::new(),
        },
        context,
        repeat: cli.repeat.max(1),
    };
    bench.run(cli.what).await;
    print!("{}", bench.report.text());
    if let Some(path) = cli.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&bench.report)?)
            .with_context(|| path.display().to_string())?;
    }
    Ok(bench.report.sound())
}

async fn run_sink(listen: SocketAddr) -> Result<bool> {
    let sink = Sink::start(listen, std::sync::Arc::default()).await?;
    println!("{}", sink.url(0));
    tokio::signal::ctrl_c().await?;
    Ok(true)
}

/// Runs scenarios and gathers what they say.
struct Bench {
    context: Context,
    repeat: u32,
    report: Report,
}

impl Bench {
    async fn run(&mut self, what: What) {
        match what {
            What::All { quick } => {
                for part in plan(quick) {
                    Box::pin(self.run(part)).await;
                }
            }
            other => {
                let name = name(&other);
                eprintln!("{name} …");
                match self.measure(other).await {
                    Ok(rows) => self.report.rows.extend(rows),
                    Err(error) => {
                        eprintln!("{name}: {error:#}");
                        self.report.failures.push(format!("{name}: {error:#}"));
                    }
                }
            }
        }
    }

    async fn measure(&mut self, what: What) -> Result<Vec<Row>> {
        let context = self.context.clone();
        let context = &context;
        let one = match what {
            What::RawHttp { requests, tasks } => {
                let rows = raw_http::run(context, requests, tasks).await?;
                // The faster of the two is the limit.
                self.context.limit = rows
                    .iter()
                    .filter_map(|row| row.per_second)
                    .max_by(f64::total_cmp);
                return Ok(rows);
            }
            What::Sending { deliveries } => return sending::run(context, deliveries).await,
            What::Api {
                events,
                rate,
                seconds,
            } => return api::run(context, events, rate, seconds).await,
            What::Decode => return decode::run(),
            What::Matching { subscriptions } => return matching::run(context, subscriptions).await,
            What::History { attempts } => return history::run(context, attempts).await,
            What::Isolation {
                rate,
                seconds,
                waiting,
                distributed,
                only,
                rounds,
            } => {
                let load = isolation::Load {
                    rate,
                    seconds,
                    waiting,
                };
                let plan = isolation::Plan {
                    distributed,
                    only,
                    rounds,
                };
                return isolation::run(context, load, plan).await;
            }
            What::Replay {
                missed,
                limit,
                rate,
                seconds,
            } => {
                let sizes = replay::Sizes {
                    missed,
                    limit,
                    rate,
                    seconds,
                };
                return replay::run(context, sizes).await;
            }
            What::NullQueue { events, record } => return null_queue::run(context, events, record).await,
            What::Intake { deliveries } => return intake::run(context, deliveries).await,
            What::QuietLatency { rate, seconds } => return quiet::run(context, rate, seconds).await,
            What::Backlog { records } => return backlog::run(context, records).await,
            What::RawSqs { messages } => return Ok(raw_sqs::run(context, messages).await?.into()),
            What::Distributed {
                events,
                alone,
                rate,
                connections,
                rounds,
            } => {
                let sizes = distributed::Sizes {
                    whole: events,
                    alone,
                    rate,
                    rounds,
                };
                return distributed::run(context, sizes, connections).await;
            }
            What::EmbeddedThroughput {
                fanout,
                events,
                connections,
            } => {
                let events = events.unwrap_or(60_000 / fanout.max(1) as u64);
                let mut rows = Vec::new();
                for _ in 0..self.repeat {
                    rows.push(embedded::throughput(context, fanout, events, connections).await?);
                }
                median(rows).context("no run")?
            }
            What::EmbeddedDrain { events } => {
                let mut rows = Vec::new();
                for _ in 0..self.repeat {
                    rows.push(drain::run(context, events).await?);
                }
                median(rows).context("no run")?
            }
            What::EmbeddedLatency { rate, seconds } => embedded::latency(context, rate, seconds).await?,
            What::EmbeddedWaiting {
                events,
                hold,
                recover,
            } => waiting::run(context, events, Duration::from_secs(hold), recover).await?,
            What::Idle => idle::run(context).await?,
            What::Crash { rounds, fanout, seed } => {
                crash::run(context, rounds, fanout, seed.unwrap_or_else(ledger::now_ns)).await?
            }
            What::Restart { queued } => restart::run(context, queued).await?,
            What::Hanging { requests } => hanging::run(context, requests).await?,
            // Taken care of before.
            What::All { .. } | What::Sink { .. } => return Ok(Vec::new()),
        };
        Ok(vec![one])
    }
}
